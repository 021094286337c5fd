//! From raw texts to the checked [`Config`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use url::Url;

use super::settings::Profile;
use super::source::Raw;
use super::tracing::{self, TracingConfig};
use super::value::{InvalidValue, amqp_urls, parse_bool, tenant_weights};
use super::values::{Values, choice};
use super::{
    API_KEY_FILE, ApiConfig, BrokerConfig, BrokerKind, ClientCertificate, ClientConfig, Config,
    ConfigError, ConsoleMode, DatabaseConfig, LogConfig, LogFormat, MASTER_KEY_FILE, WorkerConfig,
};
use crate::domain::secret::Secret;
use crate::egress::EgressPolicy;
use crate::resolver::Resolver;

/// The port of name servers, where none is given.
const NAME_SERVER_PORT: u16 = 53;

pub(super) fn check(
    profile: Profile,
    raw: BTreeMap<&'static str, Raw>,
) -> Result<Config, ConfigError> {
    let mut values = Values(raw);
    let data_dir = values.path("data_dir").unwrap_or_default();
    // Before anything is read: what is filled in here is checked, shown and reported like any other
    // value.
    values.fill_in_database(&data_dir);
    values.fill_in_file("master_key", &data_dir.join(MASTER_KEY_FILE))?;
    values.fill_in_file("api_key", &data_dir.join(API_KEY_FILE))?;
    Ok(Config {
        profile,
        database: values.database()?,
        broker: values.broker()?,
        master_key: values.key("master_key")?,
        previous_master_key: values.key("master_key_previous")?,
        egress: values.egress()?,
        resolver: values.resolver()?,
        listen: values.require("listen", address)?,
        metrics_listen: values.optional("metrics_listen", address)?,
        shutdown_grace: values.duration("shutdown_grace")?,
        max_recipients: values.require_integer("max_recipients")?,
        api: values.api()?,
        worker: values.worker()?,
        client: values.client()?,
        log: values.log()?,
        tracing: values.tracing()?,
        effective: values.effective(),
        data_dir,
    })
}

impl Values {
    fn database(&self) -> Result<DatabaseConfig, ConfigError> {
        let url = self.require("database_url", |text| {
            let known = ["sqlite:", "postgres://", "postgresql://"]
                .iter()
                .any(|scheme| text.starts_with(scheme));
            let wrong = "must be sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE";
            if known {
                Ok(Secret::new(text))
            } else {
                Err(InvalidValue(wrong.to_owned()))
            }
        })?;
        Ok(DatabaseConfig {
            url,
            max_connections: self.require_integer("database_max_connections")?,
        })
    }

    fn broker(&self) -> Result<BrokerConfig, ConfigError> {
        let kind = self.require("broker_url", |text| {
            let wrong = "must be amqp://…, amqps://… or embedded; for the nodes of a cluster a \
                         whole URL each, with \
                         commas between them";
            let is_amqp = |url: &String| {
                Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "amqp" | "amqps"))
            };
            match text {
                "embedded" => Ok(BrokerKind::Embedded),
                // All of them, and not only the first: the others count once a node is down, which
                // is no time to learn of a wrong one.
                urls if amqp_urls(urls).iter().all(is_amqp) => {
                    Ok(BrokerKind::Amqp(Secret::new(urls)))
                }
                _ => Err(InvalidValue(wrong.to_owned())),
            }
        })?;
        let certificate = (
            self.path("broker_client_cert_file"),
            self.path("broker_client_key_file"),
        );
        let client_certificate = match certificate {
            (Some(certificate_file), Some(key_file)) => Some(ClientCertificate {
                certificate_file,
                key_file,
            }),
            (None, None) => None,
            // Half a certificate would be ignored in silence, and the broker would refuse the
            // connection with a text about TLS.
            (Some(_), None) => {
                return Err(self.invalid(
                    "broker_client_cert_file",
                    "needs broker_client_key_file, too",
                ));
            }
            (None, Some(_)) => {
                return Err(self.invalid(
                    "broker_client_key_file",
                    "needs broker_client_cert_file, too",
                ));
            }
        };
        let name_prefix = self.require("name_prefix", |text| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            // RabbitMQ keeps `amq.` for itself and refuses to declare such names. 64 leaves room
            // for what is put behind the prefix, in names of up to 255 bytes.
            let fits = text.len() <= 64 && text.chars().all(allowed) && !text.starts_with("amq.");
            let wrong = "must be 1 to 64 letters, digits, '_', '-' or '.', not beginning with amq.";
            if fits {
                Ok(text.to_owned())
            } else {
                Err(InvalidValue(wrong.to_owned()))
            }
        })?;
        Ok(BrokerConfig {
            kind,
            ca_file: self.path("broker_ca_file"),
            client_certificate,
            name_prefix,
        })
    }

    fn egress(&self) -> Result<EgressPolicy, ConfigError> {
        // Set and empty closes, as it does for `egress_allow`.
        let http = self.optional("egress_http", choice("egress_http"))? == Some("allow");
        let allow = self.text("egress_allow").unwrap_or_default();
        EgressPolicy::new(allow, http)
            .map_err(|error| self.invalid("egress_allow", format!("is wrong: {error}")))
    }

    fn resolver(&self) -> Result<Resolver, ConfigError> {
        let listed = self.text("egress_name_servers").unwrap_or_default();
        let address = |text: &str| {
            let alone = || {
                text.parse::<IpAddr>()
                    .map(|address| SocketAddr::new(address, NAME_SERVER_PORT))
            };
            // The form with a port first: it cannot be taken for a bare address, as IPv6 has to
            // stand in brackets there.
            text.parse::<SocketAddr>()
                .or_else(|_| alone())
                .map_err(|_| {
                    let problem = format!(
                        "has {text:?}, which is not an address such as 10.0.0.2 or 10.0.0.2:5353"
                    );
                    self.invalid("egress_name_servers", problem)
                })
        };
        let servers: Vec<SocketAddr> = listed
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(address)
            .collect::<Result<_, _>>()?;
        Ok(Resolver::new(&servers))
    }

    fn api(&self) -> Result<ApiConfig, ConfigError> {
        let max_connections: usize = self.require_integer("max_connections")?;
        // Three quarters: a client that takes all that it may leaves the rest to the others, and to
        // health checks.
        let share = (max_connections - max_connections / 4).max(1);
        let api = ApiConfig {
            admin_key: self.key("admin_key")?,
            max_body_bytes: self.bytes("max_body_bytes")?,
            max_batch_bytes: self.bytes("max_batch_bytes")?,
            header_timeout: self.duration("header_timeout")?,
            body_timeout: self.duration("body_timeout")?,
            idle_timeout: self.duration("idle_timeout")?,
            max_connections,
            max_connections_per_client: self
                .integer("max_connections_per_client")?
                .unwrap_or(share),
            tenant_max_endpoints: self.limit("tenant_max_endpoints")?,
            tenant_max_pending: self.limit("tenant_max_pending")?,
            tenant_max_streams: self.limit("tenant_max_streams")?,
            console: match self.require("console", choice("console"))? {
                "read-only" => ConsoleMode::ReadOnly,
                "off" => ConsoleMode::Off,
                _ => ConsoleMode::On,
            },
            console_url: self.optional("console_url", browser_url)?,
        };
        if api.max_connections_per_client > api.max_connections {
            return Err(self.invalid(
                "max_connections_per_client",
                "must not be more than max_connections",
            ));
        }
        // An item that may be enqueued alone could otherwise be refused in a batch of one.
        if api.max_batch_bytes < api.max_body_bytes {
            return Err(self.invalid("max_batch_bytes", "must not be less than max_body_bytes"));
        }
        Ok(api)
    }

    fn worker(&self) -> Result<WorkerConfig, ConfigError> {
        let slots: usize = self.require_integer("worker_slots")?;
        // While one half is being sent, the other is there: a slot that comes free does not wait
        // for the broker. AMQP counts in 16 bits.
        let twice = u16::try_from(slots.saturating_mul(2)).unwrap_or(u16::MAX);
        Ok(WorkerConfig {
            slots,
            prefetch: self.integer("worker_prefetch")?.unwrap_or(twice),
            tenant_max_in_flight: self.limit("tenant_max_in_flight")?,
            tenant_weights: self
                .optional("tenant_weights", tenant_weights)?
                .unwrap_or_default(),
            breaker_failures: self.require_integer("breaker_failures")?,
            breaker_open_max: self.duration("breaker_open_max")?,
            max_payload_bytes: self.bytes("max_payload_bytes")?,
            poison_after: self.require_integer("poison_after")?,
            disable_after: self.duration("disable_after")?,
            disabled_max_age: self.optional_duration("disabled_max_age")?,
            events_succeeded: self.require("events_succeeded", parse_bool)?,
            retention: self.duration("retention")?,
            idempotency_retention: self.duration("idempotency_retention")?,
        })
    }

    fn client(&self) -> Result<ClientConfig, ConfigError> {
        let api_url = self.require("api_url", |text| {
            let parsed = Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            parsed.ok_or_else(|| {
                InvalidValue("must be a URL such as http://127.0.0.1:8080".to_owned())
            })
        })?;
        Ok(ClientConfig {
            api_url,
            api_key: self.text("api_key").map(Secret::new),
        })
    }

    fn log(&self) -> Result<LogConfig, ConfigError> {
        let format = match self.require("log_format", choice("log_format"))? {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        };
        let filter = self.require("log", |text| {
            let problem = super::log_filter::problem_of(text);
            problem.map_or_else(|| Ok(text.to_owned()), |problem| Err(InvalidValue(problem)))
        })?;
        Ok(LogConfig { filter, format })
    }

    fn tracing(&self) -> Result<Option<TracingConfig>, ConfigError> {
        // Checked even where tracing is off, so that a mistake shows before somebody turns it on.
        let sample_ratio = self.require("tracing_sample_ratio", tracing::ratio)?;
        let Some(endpoint) = self
            .optional("tracing_otlp_endpoint", tracing::endpoint)?
            .flatten()
        else {
            // The others may be there for another program: OpenTelemetry's own variables count,
            // too.
            return Ok(None);
        };
        let mut resource = self
            .optional("tracing_resource_attributes", tracing::pairs)?
            .unwrap_or_default();
        if let Some(name) = self.text("tracing_service_name") {
            // OpenTelemetry's specification: OTEL_SERVICE_NAME takes precedence over `service.name`
            // in the list of attributes.
            resource.retain(|(key, _)| key != tracing::SERVICE_NAME);
            resource.push((tracing::SERVICE_NAME.to_owned(), name.to_owned()));
        }
        let headers = self
            .optional("tracing_headers", tracing::headers)?
            .unwrap_or_default();
        Ok(Some(TracingConfig {
            endpoint,
            headers,
            sample_ratio,
            resource,
        }))
    }
}

/// An address of which the browser may have a session's cookie: nobody else reads on the way.
fn browser_url(text: &str) -> Result<Url, InvalidValue> {
    let is_loopback = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.path(), "" | "/") && url.query().is_none())
        .filter(|url| match url.scheme() {
            "https" => url.has_host(),
            "http" => is_loopback(url),
            _ => false,
        })
        .ok_or_else(|| {
            InvalidValue(
                "must be https://HOST without a path, or http on a loopback address".to_owned(),
            )
        })
}

fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| {
        InvalidValue("must be an address with a port, such as 127.0.0.1:8080".to_owned())
    })
}
