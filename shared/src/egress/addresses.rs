//! Which addresses are public, by the registries of those that are not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 networks that are not called: the rows of IANA's IPv4 Special-Purpose Address Registry (RFC
/// 6890 and its updates), multicast, and addresses that clouds give to services of the machine
/// itself.
const SPECIAL_V4: [(Ipv4Addr, u8); 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // AS112, twice, and AMT: they are reachable, but nobody's webhook.
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    // Relays of 6to4, given up by RFC 7526.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // Azure's host: metadata, DNS and the agent's endpoint.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// Global unicast: of the other IPv6 addresses only NAT64 leads to a public host.
const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv6 networks within global unicast that are not called: rows of IANA's IPv6 Special-Purpose
/// Address Registry.
const SPECIAL_V6: [(Ipv6Addr, u8); 5] = [
    // IETF protocol assignments, with Teredo, benchmarking and ORCHID in it.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4 (RFC 3056): leads to whatever IPv4 address is in it, and is given up by RFC 7526.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

pub(super) fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4
        .iter()
        .any(|(net, length)| Ipv4Net::new_assert(*net, *length).contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // NAT64, 64:ff9b::/96 (RFC 6052): the IPv4 address in it counts. Networks of IPv6 alone reach
    // IPv4 by it.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let within =
        |(net, length): &(Ipv6Addr, u8)| Ipv6Net::new_assert(*net, *length).contains(&address);
    within(&GLOBAL_UNICAST) && !SPECIAL_V6.iter().any(within)
}
