//! Which addresses may be called: the rules that keep a webhook's URL from reaching into the
//! network that Posthaste runs in (SSRF). Default: https, public addresses. Used twice: when an
//! endpoint is saved, and for every address that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The policy. The default allows nothing but https to public addresses.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    allow: Vec<Allowed>,
    http: bool,
}

/// One exception of the operator's allow list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    /// A network or address, such as `10.1.0.0/16` or `127.0.0.1`.
    Network(IpNet),
    /// A host's name, such as `hooks.internal`.
    Host(String),
    /// Every host below a name: of `*.internal`, `.internal` is kept.
    Suffix(String),
}

/// Why a URL or an address may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a URL, or one without a host.
    #[error("the URL cannot be read: {0}")]
    InvalidUrl(String),
    /// Neither https nor http.
    #[error("the URL's scheme {0:?} is not https")]
    UnsupportedScheme(String),
    /// Plain http where only https is allowed.
    #[error("plain http is not allowed: use https, or set POSTHASTE_EGRESS_HTTP=allow")]
    PlainHttp,
    /// User or password in the URL.
    #[error("the URL has a user or password in it: put credentials into a header")]
    Credentials,
    /// A name that stands for the machine itself or for the cloud's metadata.
    #[error("the host name {0:?} is not allowed: if it is meant, add it to POSTHASTE_EGRESS_ALLOW")]
    BlockedHost(String),
    /// An address that is not public.
    #[error("{address} is not a public address: if it is meant, add it to POSTHASTE_EGRESS_ALLOW")]
    PrivateAddress {
        /// The address that is refused.
        address: IpAddr,
    },
    /// The name has no address.
    #[error("the host name {host:?} cannot be resolved: {problem}")]
    Unresolvable {
        /// The name that is refused.
        host: String,
        /// What the resolver said.
        problem: String,
        /// The name servers say that it has none. Else they could not be asked or failed: it may
        /// have one.
        missing: bool,
    },
}

impl Refusal {
    /// A stable word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "invalid_url",
            Self::UnsupportedScheme(_) => "unsupported_scheme",
            Self::PlainHttp => "plain_http",
            Self::Credentials => "credentials_in_url",
            Self::BlockedHost(_) => "blocked_host",
            Self::PrivateAddress { .. } => "private_address",
            Self::Unresolvable { .. } => "dns",
        }
    }
}

/// The allow list that allows nothing.
const NONE: &str = "none";

/// Why an allow list cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is neither an address, a network (10.1.0.0/16), a host name nor *.suffix; `none` must \
     stand alone"
)]
pub struct InvalidAllow(String);

impl EgressPolicy {
    /// From a comma-separated allow list, or `none`, and whether plain http is allowed.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    pub fn new(allow: &str, http: bool) -> Result<Self, InvalidAllow> {
        if allow.trim() == NONE {
            return Ok(Self {
                allow: Vec::new(),
                http,
            });
        }
        let entries = allow
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        Ok(Self {
            allow: entries.map(Allowed::parse).collect::<Result<_, _>>()?,
            http,
        })
    }

    /// Reads an endpoint's URL (without a scheme it becomes https) and checks all that can be said
    /// without resolving its name.
    ///
    /// # Errors
    /// Why it may not be called.
    pub fn parse_url(&self, text: &str) -> Result<Url, Refusal> {
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url =
            Url::parse(&with_scheme).map_err(|error| Refusal::InvalidUrl(error.to_string()))?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// Checks all of a URL that can be said without resolving its name: scheme, credentials, names
    /// that are refused as such, and addresses that stand for themselves.
    ///
    /// # Errors
    /// Why it may not be called.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            "http" => return Err(Refusal::PlainHttp),
            other => return Err(Refusal::UnsupportedScheme(other.to_owned())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        match url.host() {
            None => Err(Refusal::InvalidUrl("it has no host".to_owned())),
            Some(Host::Ipv4(address)) => self.check_address(None, IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.check_address(None, IpAddr::V6(address)),
            Some(Host::Domain(name)) => self.check_name(name),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let name = canonical(name);
        let itself = name == "localhost"
            || name.ends_with(".localhost")
            || name == "metadata.google.internal";
        if itself && !self.names(&name) && !(name.ends_with("localhost") && self.allows_loopback())
        {
            return Err(Refusal::BlockedHost(name));
        }
        Ok(())
    }

    /// Checks an address that `host` resolved to (or that stands for itself).
    ///
    /// # Errors
    /// [`Refusal::PrivateAddress`] when it is not public and nothing allows it.
    pub fn check_address(&self, host: Option<&str>, address: IpAddr) -> Result<(), Refusal> {
        let plain = unmapped(address);
        let allowed = host.is_some_and(|host| self.names(&canonical(host)))
            || self
                .allow
                .iter()
                .any(|entry| entry.contains(address) || entry.contains(plain));
        // What an operator allows as IPv4 is not thereby allowed in the guise of an IPv6 transition
        // form.
        let disguised = plain != address;
        if (allowed && !disguised) || is_public(address) {
            Ok(())
        } else {
            Err(Refusal::PrivateAddress { address })
        }
    }

    /// Whether the operator named this host.
    fn names(&self, host: &str) -> bool {
        self.allow.iter().any(|entry| match entry {
            Allowed::Host(name) => name == host,
            Allowed::Suffix(suffix) => host.ends_with(suffix.as_str()),
            Allowed::Network(_) => false,
        })
    }

    fn allows_loopback(&self) -> bool {
        self.check_address(None, IpAddr::V4(Ipv4Addr::LOCALHOST))
            .is_ok()
    }
}

impl Allowed {
    /// Whether the address is in the network. An entry with a host is about names.
    fn contains(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(net) if net.contains(&address))
    }

    fn parse(entry: &str) -> Result<Self, InvalidAllow> {
        if let Ok(net) = entry.parse::<IpNet>() {
            return Ok(Self::Network(net.trunc()));
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let invalid = || InvalidAllow(entry.to_owned());
        if entry == NONE {
            return Err(invalid());
        }
        let (suffix, name) = match entry.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, entry),
        };
        match Host::parse(name).map_err(|_| invalid())? {
            Host::Domain(name) if suffix => Ok(Self::Suffix(format!(".{name}"))),
            Host::Domain(name) => Ok(Self::Host(name)),
            Host::Ipv4(_) | Host::Ipv6(_) => Err(invalid()),
        }
    }
}

/// Lower case, without the root's dot.
fn canonical(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// An IPv4-mapped address as the IPv4 address that it is.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

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

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(policy: &EgressPolicy, url: &str) -> &'static str {
        policy
            .parse_url(url)
            .err()
            .map_or("allowed", |refusal| refusal.code())
    }

    #[test]
    fn the_default_is_https_to_public_addresses() {
        let policy = EgressPolicy::default();
        for (url, code) in [
            ("https://example.com/hook", "allowed"),
            ("example.com/hook", "allowed"),
            ("https://93.184.216.34/", "allowed"),
            ("https://[2606:2800:220:1:248:1893:25c8:1946]/", "allowed"),
            ("http://example.com/", "plain_http"),
            ("ftp://example.com/", "unsupported_scheme"),
            ("https://user:pass@example.com/", "credentials_in_url"),
            ("https://localhost/", "blocked_host"),
            ("https://LOCALHOST./", "blocked_host"),
            ("https://metadata.google.internal/", "blocked_host"),
            ("https://169.254.169.254/", "private_address"),
            ("https://2130706433/", "private_address"),
            ("https://0x7f.1/", "private_address"),
            ("https://10.0.0.1/", "private_address"),
            ("https://100.64.0.1/", "private_address"),
            ("https://[::1]/", "private_address"),
            ("https://[::]/", "private_address"),
            ("https://[::ffff:127.0.0.1]/", "private_address"),
            ("https://[::127.0.0.1]/", "private_address"),
            ("https://[64:ff9b::10.0.0.1]/", "private_address"),
            ("https://[64:ff9b:2::8.8.8.8]/", "private_address"),
            ("https://[2002:7f00:1::]/", "private_address"),
            ("https://[fe80::1]/", "private_address"),
            ("https://[fd00::1]/", "private_address"),
            ("https://224.0.0.1/", "private_address"),
            ("https://", "invalid_url"),
        ] {
            assert_eq!(refusal(&policy, url), code, "{url}");
        }
    }

    #[test]
    fn an_allow_list_opens_networks_hosts_and_suffixes() {
        let policy = EgressPolicy::new(
            "127.0.0.0/8, 10.1.0.0/16, hooks.internal, *.svc.local",
            true,
        )
        .unwrap();
        for (url, code) in [
            ("http://127.0.0.1:9000/", "allowed"),
            ("http://localhost:9000/", "allowed"),
            ("http://10.1.2.3/", "allowed"),
            ("http://10.2.0.1/", "private_address"),
            ("http://[::ffff:127.0.0.1]/", "private_address"),
        ] {
            assert_eq!(refusal(&policy, url), code, "{url}");
        }
        let private = "10.9.9.9".parse().unwrap();
        assert!(
            policy
                .check_address(Some("hooks.internal"), private)
                .is_ok()
        );
        assert!(
            policy
                .check_address(Some("Hooks.Internal."), private)
                .is_ok()
        );
        assert!(policy.check_address(Some("a.svc.local"), private).is_ok());
        assert!(policy.check_address(Some("svc.local"), private).is_err());
        assert!(
            policy
                .check_address(Some("evil-hooks.internal"), private)
                .is_err()
        );
        assert!(EgressPolicy::new("10.0.0.0/33", false).is_err());
    }

    /// An address of every row of IANA's registries of special-purpose addresses (as of 2025), with
    /// what is reserved beside them.
    #[test]
    fn every_special_purpose_address_is_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.8",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.0.170",
            "192.0.0.171",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.1.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:1::1",
            "2001:1::2",
            "2001:1::3",
            "2001:2::1",
            "2001:3::1",
            "2001:4:112::1",
            "2001:10::1",
            "2001:20::1",
            "2001:30::1",
            "2001:db8::1",
            "2002:808:808::1",
            "2620:4f:8000::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "8000::1",
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert!(
                EgressPolicy::default().check_address(None, parsed).is_err(),
                "{address}"
            );
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "64:ff9b::8.8.8.8",
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert!(
                EgressPolicy::default().check_address(None, parsed).is_ok(),
                "{address}"
            );
        }
    }

    #[test]
    fn none_and_nothing_allow_nothing() {
        for list in ["", " ", "none", " none "] {
            let policy = EgressPolicy::new(list, true).unwrap();
            assert_eq!(
                refusal(&policy, "http://127.0.0.1/"),
                "private_address",
                "{list:?}"
            );
            assert!(
                policy
                    .check_address(Some("none"), IpAddr::V4(Ipv4Addr::LOCALHOST))
                    .is_err(),
                "{list:?}"
            );
        }
        assert!(EgressPolicy::new("none,10.0.0.0/8", true).is_err());
    }

    proptest! {
        #[test]
        fn a_private_address_is_private_in_every_guise(
            a in 0_u8..=255, b in 0_u8..=255, c in 0_u8..=255, d in 0_u8..=255,
        ) {
            let v4 = Ipv4Addr::new(a, b, c, d);
            if is_public_v4(v4) {
                return Ok(());
            }
            let high = u16::from_be_bytes([a, b]);
            let low = u16::from_be_bytes([c, d]);
            for disguise in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert!(!is_public(IpAddr::V6(disguise)), "{disguise}");
            }
        }
    }
}
