//! How to reach RabbitMQ: what the configuration says, checked once into a [`Target`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;

use super::tls;
use super::topology::Names;
use crate::broker::BrokerError;
use crate::domain::secret::Secret;

/// How often each side shows that it lives when there is nothing else to say, in seconds; a peer silent for
/// twice as long is taken for dead. The URL's `heartbeat` goes before.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where RabbitMQ is and how Posthaste's objects there are called.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`; the query may set `heartbeat` (seconds),
    /// `frame_max`, `channel_max` and `auth_mechanism` (`plain`, or `external` with a client certificate).
    pub url: Secret,
    /// What the names of exchanges and queues begin with: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub name_prefix: String,
    /// PEM file with the certificates of the authorities that may sign the server's certificate, instead
    /// of the operating system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and those that link it to its authority.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the client certificate's private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub client_key_file: Option<PathBuf>,
    /// How long to wait for a publisher confirm. Default 5 s.
    pub confirm_timeout: Duration,
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
        }
    }
}

/// Checked options. Has no `Debug`: the URI holds the password.
pub(super) struct Target {
    pub(super) uri: AMQPUri,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) names: Names,
    pub(super) confirm_timeout: Duration,
}

impl Target {
    pub(super) fn check(options: &AmqpOptions) -> Result<Self, BrokerError> {
        let uri = parse_url(&options.url)?;
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => {
                let (cert, key) = (options.client_cert_file.as_deref(), options.client_key_file.as_deref());
                Some(Arc::new(tls::client_config(options.ca_file.as_deref(), cert, key)?))
            }
            AMQPScheme::AMQP => {
                let files = [&options.ca_file, &options.client_cert_file, &options.client_key_file];
                if files.into_iter().any(Option::is_some) {
                    return Err(BrokerError::configuration(
                        "TLS files are set, but the URL begins with amqp://, not amqps://",
                    ));
                }
                None
            }
        };
        if options.confirm_timeout.is_zero() {
            return Err(BrokerError::configuration("the confirm timeout must be longer than zero"));
        }
        Ok(Self { uri, tls, names: Names::new(&options.name_prefix)?, confirm_timeout: options.confirm_timeout })
    }

    /// Host and port as one text; no user and no password.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// The parser's own messages are not passed on: some repeat the URL, password and all.
fn parse_url(url: &Secret) -> Result<AMQPUri, BrokerError> {
    let parsed =
        url::Url::parse(url.expose()).map_err(|error| BrokerError::configuration(&format!("the URL: {error}")))?;
    if !matches!(parsed.scheme(), "amqp" | "amqps") {
        return Err(BrokerError::configuration("the URL must begin with amqp:// or amqps://"));
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(BrokerError::configuration("the URL names no host"));
    }
    let mut uri: AMQPUri = url.expose().parse().map_err(|_: String| {
        BrokerError::configuration(
            "the URL must read amqp://user:password@host:5672/vhost (percent-encode what is special)",
        )
    })?;
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    if uri.vhost.len() > 255 {
        return Err(BrokerError::configuration("the URL's vhost is longer than 255 bytes"));
    }
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
        assert_eq!(target.address(), "broker.internal:5672");
        assert_eq!(target.uri.vhost, "/");
        assert_eq!(target.uri.query.heartbeat, Some(10));
        assert_eq!(check("amqp://h/?heartbeat=60").ok().unwrap().uri.query.heartbeat, Some(60));
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
