//! Looking up the name in an endpoint's URL when it is saved: a name that leads to an address that
//! may not be called is refused at once. The worker checks again at every connection, as names
//! change.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_shared::egress::{EgressPolicy, Refusal};
use posthaste_shared::resolver::Resolver;
use url::{Host, Url};

/// How long a look-up may take while somebody waits for the answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Looks host names up.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// Every address of `host`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where it has none; any other kind when that could not be found
    /// out.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>>;
}

#[async_trait]
impl Resolve for Resolver {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
        self.look_up(host).await.map_err(|refusal| match refusal {
            Refusal::Unresolvable {
                problem,
                missing: true,
                ..
            } => io::Error::new(io::ErrorKind::NotFound, problem),
            Refusal::Unresolvable { problem, .. } => io::Error::other(problem),
            other => io::Error::other(other),
        })
    }
}

/// A URL that was written without a scheme (`localhost:9000`, as curl takes it) with the one that
/// was meant: `http` for this machine, where hardly anything speaks TLS, else `https`.
pub(super) fn with_scheme(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if text.contains("://") {
        return Cow::Borrowed(text);
    }
    let plain = format!("http://{text}");
    let is_here = Url::parse(&plain).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    });
    Cow::Owned(if is_here {
        plain
    } else {
        format!("https://{text}")
    })
}

/// Reads an endpoint's URL and checks it, every address of its name included.
///
/// # Errors
/// Why it may not be called.
pub(super) async fn check_url(
    policy: &EgressPolicy,
    resolver: &dyn Resolve,
    text: &str,
) -> Result<Url, Refusal> {
    let url = policy.parse_url(&with_scheme(text))?;
    let Some(Host::Domain(host)) = url.host() else {
        return Ok(url);
    };
    let unresolvable = |problem: String, missing| Refusal::Unresolvable {
        host: host.to_owned(),
        problem,
        missing,
    };
    let look_up = resolver.resolve(host, url.port_or_known_default().unwrap_or(443));
    let addresses = match tokio::time::timeout(DEADLINE, look_up).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return Err(unresolvable(
                error.to_string(),
                error.kind() == io::ErrorKind::NotFound,
            ));
        }
        Err(_) => return Err(unresolvable("no answer within 2 s".to_owned(), false)),
    };
    if addresses.is_empty() {
        return Err(unresolvable("it has no address".to_owned(), true));
    }
    for address in addresses {
        policy.check_address(Some(host), address)?;
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_scheme_gets_the_one_that_was_meant() {
        for (written, meant) in [
            ("localhost:9000", "http://localhost:9000"),
            ("localhost", "http://localhost"),
            ("LOCALHOST.:9000/a", "http://LOCALHOST.:9000/a"),
            ("hooks.localhost/a", "http://hooks.localhost/a"),
            (" 127.0.0.1:9000/a?b ", "http://127.0.0.1:9000/a?b"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("example.com/hook", "https://example.com/hook"),
            ("localhost.example.com", "https://localhost.example.com"),
            ("10.0.0.1:9000", "https://10.0.0.1:9000"),
            ("https://localhost:9000", "https://localhost:9000"),
            ("http://example.com", "http://example.com"),
        ] {
            assert_eq!(with_scheme(written), meant, "{written}");
        }
    }
}
