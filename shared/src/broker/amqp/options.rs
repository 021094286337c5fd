//! How to reach RabbitMQ: what the configuration says, checked once into a [`Target`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;
use url::Host;

use super::origin::OriginKeys;
use super::tls;
use super::topology::Names;
use crate::broker::BrokerError;
use crate::config::value::amqp_urls;
use crate::domain::secret::Secret;

/// How often each side shows that it lives when there is nothing else to say, in seconds; a peer
/// silent for twice as long is taken for dead. The URL's `heartbeat` goes before.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where RabbitMQ is and how Posthaste's objects there are called.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`; the query may set `heartbeat`
    /// (seconds), `frame_max`, `channel_max` and `auth_mechanism` (`plain`, or `external` with a
    /// client certificate).
    ///
    /// For the nodes of a cluster: several such URLs with commas between them, all with the same
    /// scheme and vhost. A connection begins at any of them and goes on to the next one when a node
    /// cannot be reached or is lost.
    pub url: Secret,
    /// What the names of exchanges and queues begin with: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub name_prefix: String,
    /// PEM file with the certificates of the authorities that may sign the server's certificate,
    /// instead of the operating system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and those that link it to its authority.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the client certificate's private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub client_key_file: Option<PathBuf>,
    /// How long to wait for a publisher confirm. Default 5 s.
    pub confirm_timeout: Duration,
    /// The installation's master keys: with one of them a message proves to be of one of
    /// Posthaste's own events. A program that only enqueues needs none. Default none.
    pub master_keys: Vec<Secret>,
}

impl AmqpOptions {
    /// The defaults for this URL.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            name_prefix: "posthaste".to_owned(),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            confirm_timeout: Duration::from_secs(5),
            master_keys: Vec::new(),
        }
    }
}

/// Checked options. Has no `Debug`: the URIs hold the password.
pub(super) struct Target {
    /// At least one; several are nodes of one cluster.
    pub(super) nodes: Vec<AMQPUri>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) names: Names,
    pub(super) confirm_timeout: Duration,
    pub(super) origin: OriginKeys,
}

impl Target {
    pub(super) fn check(options: &AmqpOptions) -> Result<Self, BrokerError> {
        let nodes = parse_urls(&options.url)?;
        let tls = match nodes[0].scheme {
            AMQPScheme::AMQPS => {
                let cert = options.client_cert_file.as_deref();
                let key = options.client_key_file.as_deref();
                Some(Arc::new(tls::client_config(
                    options.ca_file.as_deref(),
                    cert,
                    key,
                )?))
            }
            AMQPScheme::AMQP => {
                let files = [
                    &options.ca_file,
                    &options.client_cert_file,
                    &options.client_key_file,
                ];
                // Somebody who sets a CA file believes the connection to be encrypted. Going on in
                // plain text would send the password to whoever listens.
                if files.into_iter().any(Option::is_some) {
                    return Err(BrokerError::configuration(
                        "TLS files are set, but the URL begins with amqp://, not amqps://",
                    ));
                }
                None
            }
        };
        if options.confirm_timeout.is_zero() {
            return Err(BrokerError::configuration(
                "the confirm timeout must be longer than zero",
            ));
        }
        let names = Names::new(&options.name_prefix)?;
        let origin = OriginKeys::of(&options.master_keys);
        Ok(Self {
            nodes,
            tls,
            names,
            confirm_timeout: options.confirm_timeout,
            origin,
        })
    }

    /// All addresses as one text.
    pub(super) fn addresses(&self) -> String {
        self.nodes
            .iter()
            .map(address)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Host and port as one text; no user and no password.
pub(super) fn address(node: &AMQPUri) -> String {
    let (host, port) = (&node.authority.host, node.authority.port);
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// One URL or several; never none.
fn parse_urls(list: &Secret) -> Result<Vec<AMQPUri>, BrokerError> {
    let urls = amqp_urls(list.expose());
    let nodes = urls
        .iter()
        .map(|url| parse_url(url))
        .collect::<Result<Vec<_>, _>>()?;
    if nodes.iter().any(|node| node.scheme != nodes[0].scheme) {
        return Err(BrokerError::configuration(
            "the URLs must all begin with amqp://, or all with amqps://",
        ));
    }
    if nodes.iter().any(|node| node.vhost != nodes[0].vhost) {
        return Err(BrokerError::configuration(
            "the URLs must all name the same vhost: they are nodes of one cluster",
        ));
    }
    Ok(nodes)
}

/// The parser's own messages are not passed on: some repeat the URL, password and all.
fn parse_url(url: &str) -> Result<AMQPUri, BrokerError> {
    let parsed = url::Url::parse(url)
        .map_err(|error| BrokerError::configuration(&format!("the URL: {error}")))?;
    if !matches!(parsed.scheme(), "amqp" | "amqps") {
        return Err(BrokerError::configuration(
            "the URL must begin with amqp:// or amqps://",
        ));
    }
    // lapin would call localhost.
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(BrokerError::configuration("the URL names no host"));
    }
    if parsed.host_str().is_some_and(|host| host.contains(',')) {
        return Err(BrokerError::configuration(
            "the URL names several hosts: give each node a whole URL of its own",
        ));
    }
    let mut uri: AMQPUri = url.parse().map_err(|_: String| {
        BrokerError::configuration(
            "the URL must read amqp://user:password@host:5672/vhost (percent-encode what is \
             special)",
        )
    })?;
    // Its parser takes names alone from a URL, and has localhost in the place of an address.
    if let Some(Host::Ipv6(address)) = parsed.host() {
        uri.authority.host = address.to_string();
    }
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    if uri.vhost.len() > 255 {
        return Err(BrokerError::configuration(
            "the URL's vhost is longer than 255 bytes",
        ));
    }
    // RabbitMQ proposes 60 s by default: a node that vanishes without closing its sockets would be
    // noticed after two minutes.
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECONDS));
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Result<Target, BrokerError> {
        Target::check(&AmqpOptions::new(Secret::new(url)))
    }

    #[test]
    fn fills_in_what_the_url_leaves_out() {
        let target = check("amqp://broker.internal").ok().unwrap();
        assert_eq!(target.addresses(), "broker.internal:5672");
        assert_eq!(target.nodes[0].vhost, "/");
        assert_eq!(target.nodes[0].query.heartbeat, Some(10));
        assert_eq!(
            check("amqp://h/?heartbeat=60").ok().unwrap().nodes[0]
                .query
                .heartbeat,
            Some(60)
        );
    }

    #[test]
    fn takes_the_nodes_of_one_cluster() {
        let target = check("amqp://u:p@a/v, amqp://u:p,q@b:5673/v,amqp://c/v")
            .ok()
            .unwrap();
        assert_eq!(target.addresses(), "a:5672, b:5673, c:5672");
        for (urls, said) in [
            ("amqp://u:hunter2@a,amqps://b", "all with amqps://"),
            ("amqp://u:hunter2@a/one,amqp://b/other", "the same vhost"),
            ("amqp://u:hunter2@a,b", "a whole URL of its own"),
            ("amqp://u:hunter2@a,amqp://", "no host"),
        ] {
            let error = check(urls).err().unwrap().to_string();
            assert!(
                error.contains(said) && !error.contains("hunter2"),
                "{urls}: {error}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong_without_the_password() {
        for url in [
            "amqp://user:hunter2@host:99999",
            "http://user:hunter2@host",
            "amqp:user:hunter2@host",
            "amqp://user:hunter2@host/?heartbeat=often",
            "amqp://user:hunter2@host/%ff",
        ] {
            let error = check(url).err().unwrap();
            assert!(matches!(error, BrokerError::Configuration(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_of_ipv6_is_called_and_not_localhost() {
        let target = check("amqp://u:p@[2001:db8::1]:5673/v").unwrap();
        assert_eq!(target.nodes[0].authority.host, "2001:db8::1");
        assert_eq!(target.addresses(), "[2001:db8::1]:5673");
        let four = check("amqp://192.0.2.1").unwrap();
        assert_eq!(four.addresses(), "192.0.2.1:5672");
    }

    #[test]
    fn refuses_tls_files_without_tls_and_bad_prefixes() {
        let mut options = AmqpOptions::new(Secret::new("amqp://host"));
        options.ca_file = Some("ca.pem".into());
        assert!(Target::check(&options).is_err());
        let mut options = AmqpOptions::new(Secret::new("amqp://host"));
        for prefix in ["", "with space", &"x".repeat(101)] {
            options.name_prefix = prefix.to_owned();
            assert!(Target::check(&options).is_err(), "{prefix}");
        }
    }

    #[test]
    fn names_the_tls_file_that_cannot_be_used() {
        let mut options = AmqpOptions::new(Secret::new("amqps://host"));
        options.ca_file = Some("/nowhere/ca.pem".into());
        let error = Target::check(&options).err().unwrap().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
        let mut options = AmqpOptions::new(Secret::new("amqps://host"));
        options.client_cert_file = Some("client.pem".into());
        let error = Target::check(&options).err().unwrap().to_string();
        assert!(error.contains("key"), "{error}");
    }
}
