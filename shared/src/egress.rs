//! Which addresses may be called: the rules that keep a webhook's URL from reaching into the
//! network that Posthaste runs in (SSRF). Default: https, public addresses. Used twice: when an
//! endpoint is saved, and for every address that is connected to.

mod addresses;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use url::{Host, Url};

use addresses::is_public;

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
        if url.port() == Some(0) {
            return Err(Refusal::InvalidUrl(
                "nothing can listen on port 0".to_owned(),
            ));
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

#[cfg(test)]
mod tests;
