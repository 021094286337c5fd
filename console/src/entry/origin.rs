//! Where the console is for the browser, and whether a request comes from one of its own pages.

use http::{HeaderMap, Uri, header};

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

/// Whether a form was sent by a page of the console. Browsers say so in `Sec-Fetch-Site`; those
/// that do not, name the page's origin.
pub(crate) fn is_own(console: &Console, uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let own = match &console.settings.url {
        Some(url) => Some(url.origin().ascii_serialization()),
        None => host(uri, headers).map(|host| format!("http://{host}")),
    };
    let origin = headers
        .get(header::ORIGIN)
        .and_then(|value| value.to_str().ok());
    origin.is_some() && origin.map(str::to_ascii_lowercase) == own
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
