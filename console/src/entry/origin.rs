//! Where the console is for the browser, and whether a request comes from one of its own pages.

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::state::Console;

/// How the browser reaches the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Over TLS, which ends at a proxy: `console_url` says so.
    Https,
    /// Without, on the machine itself: nobody else can listen.
    Loopback,
}

/// How the browser reaches the console; `None`: over plain HTTP from elsewhere, where everybody on
/// the way could read the key and the cookie.
pub(crate) fn scheme(console: &Console, uri: &Uri, headers: &HeaderMap) -> Option<Scheme> {
    match &console.settings.url {
        Some(url) if url.scheme() == "https" => Some(Scheme::Https),
        _ => is_loopback(&host(uri, headers)?).then_some(Scheme::Loopback),
    }
}

/// Whether a form was sent by a page of the console: `Sec-Fetch-Site` and `Origin` say so, or the
/// one of them that the browser sends.
///
/// Both, where there are both: a proxy that nobody told us of, and that passes on a loopback
/// address as the host, shows in the origin. Without that, a key would come over plain HTTP from
/// elsewhere.
pub(crate) fn is_own(console: &Console, uri: &Uri, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    let origin = headers.get(header::ORIGIN);
    let own = match &console.settings.url {
        Some(url) => Some(url.origin().ascii_serialization()),
        None => host(uri, headers).map(|host| format!("http://{host}")),
    };
    let is_own_origin = |origin: &HeaderValue| {
        let named = origin.to_str().ok().map(str::to_ascii_lowercase);
        named.is_some() && named == own
    };
    (site.is_some() || origin.is_some())
        && site.is_none_or(|site| site == "same-origin")
        && origin.is_none_or(is_own_origin)
}

/// Whether a page of another site led here.
pub(crate) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
}

/// The host and port that the browser asked for, in lower case.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    // HTTP/2 has it in the URI.
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    Some(host.to_ascii_lowercase())
}

/// By the name in the request and not by the peer's address, which in a container is that of a
/// bridge. A page of another site that points a name of its own at this machine has its name here.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_names_and_no_others() {
        for host in [
            "localhost:8080",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]:8080",
            "a.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "10.0.0.1:8080",
            "localhost.example",
            "127.0.0.1.example",
            "[fe80::1]",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
