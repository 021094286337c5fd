//! URLs through the guard, against the client's own reading of them.

use std::net::IpAddr;

use posthaste_shared::egress::EgressPolicy;
use url::{Host, Url};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "urls",
    about: "a URL: what passes the guard is what the client calls, and is public",
    run,
    tokens: &[
        "https://",
        "http://",
        "example.com",
        "127.0.0.1",
        "[::1]",
        "[fe80::1%25eth0]",
        "0x7f.1",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "localhost.",
        "user:pass@",
        ":0",
        ":443",
        "\\",
        "//",
        "/..",
        "?",
        "#",
        "%40",
        "\u{3002}",
        "\u{ff0f}",
        "\u{2488}",
        "\u{df}",
    ],
};

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let guard = EgressPolicy::new("none", false).unwrap();
    let Ok(url) = guard.parse_url(text) else {
        return;
    };
    // Read again, as from the store, it is the same and passes again.
    let again = Url::parse(url.as_str()).unwrap();
    assert_eq!(again, url, "written and read again");
    guard.check_url(&again).unwrap();
    assert_eq!(url.scheme(), "https");
    assert!(
        url.username().is_empty() && url.password().is_none(),
        "{url} has credentials"
    );
    // What the HTTP client makes of it.
    let uri: http::Uri = match url.as_str().parse() {
        Ok(uri) => uri,
        Err(_) => return,
    };
    let host = uri.host().unwrap_or_default();
    assert_eq!(
        host,
        url.host_str().unwrap_or_default(),
        "{url} leads to two hosts"
    );
    assert_eq!(uri.port_u16(), url.port(), "{url} leads to two ports");
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => {
            // A name that the system's resolver would take for an address.
            assert!(host.parse::<IpAddr>().is_err(), "{host} is an address");
            return;
        }
    };
    let private = match address {
        IpAddr::V4(address) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some()
        }
    };
    assert!(!private, "{url} is not public");
}
