//! From raw texts to the checked [`Config`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::settings::{self, Kind, Profile, SETTINGS};
use super::source::{Raw, Source, read_value};
use super::tracing::{self, TracingConfig};
use super::value::{
    InvalidValue, amqp_urls, parse_bool, parse_bytes, parse_duration, show_bytes, show_seconds,
};
use super::{
    API_KEY_FILE, ApiConfig, BrokerConfig, BrokerKind, ClientCertificate, ClientConfig, Config,
    ConfigError, DATABASE_FILE, DatabaseConfig, Effective, LogConfig, LogFormat, MASTER_KEY_FILE,
    WorkerConfig,
};
use crate::domain::secret::Secret;
use crate::domain::view::REDACTED;
use crate::egress::EgressPolicy;
use crate::resolver::Resolver;

/// Fewest characters of a key that people choose.
const MIN_KEY_CHARS: usize = 32;
/// The port of name servers, where none is given.
const NAME_SERVER_PORT: u16 = 53;

pub(super) fn check(
    profile: Profile,
    raw: BTreeMap<&'static str, Raw>,
) -> Result<Config, ConfigError> {
    let mut values = Values(raw);
    let data_dir = values.path("data_dir").unwrap_or_default();
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

struct Values(BTreeMap<&'static str, Raw>);

impl Values {
    /// Without a URL the store is SQLite in the data directory.
    fn fill_in_database(&mut self, data_dir: &Path) {
        let text = || format!("sqlite://{}", data_dir.join(DATABASE_FILE).display());
        self.0.entry("database_url").or_insert_with(|| Raw {
            text: text(),
            source: Source::Default,
        });
    }

    /// What `up` left in the data directory counts when nothing else was said.
    fn fill_in_file(&mut self, key: &'static str, path: &Path) -> Result<(), ConfigError> {
        if self.0.contains_key(key) || !path.exists() {
            return Ok(());
        }
        let source = Source::DataDirectory(path.to_owned());
        match read_value(path) {
            Ok(text) => drop(self.0.insert(key, Raw { text, source })),
            // Belongs to another user: whoever needs the value hears that it is missing.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => {
                let problem = format!("cannot be read: {error}");
                return Err(ConfigError::Invalid {
                    key,
                    from: source,
                    shown: None,
                    problem,
                });
            }
        }
        Ok(())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(|raw| raw.text.trim())
            .filter(|text| !text.is_empty())
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The error for a value of this setting.
    fn invalid(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        let raw = self.0.get(key);
        let secret = settings::find(key).is_some_and(|setting| setting.secret);
        let shown = raw.filter(|_| !secret).map(|raw| raw.text.clone());
        let source = raw.map_or(Source::Default, |raw| raw.source.clone());
        ConfigError::Invalid {
            key,
            from: source,
            shown,
            problem: problem.into(),
        }
    }

    fn optional<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key)
            .map(|text| parse(text).map_err(|error| self.invalid(key, error.0)))
            .transpose()
    }

    fn require<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?
            .ok_or_else(|| self.invalid(key, "must be set"))
    }

    fn duration(&self, key: &'static str) -> Result<Duration, ConfigError> {
        let bounds = match settings::find(key).map(|setting| setting.kind) {
            Some(Kind::Duration {
                min_seconds,
                max_seconds,
            }) => min_seconds..=max_seconds,
            _ => 0..=u64::MAX,
        };
        self.require(key, |text| {
            let duration = parse_duration(text)?;
            let fits = duration >= Duration::from_secs(*bounds.start())
                && duration <= Duration::from_secs(*bounds.end());
            let least = show_seconds(*bounds.start());
            let most = show_seconds(*bounds.end());
            if fits {
                Ok(duration)
            } else {
                Err(InvalidValue(format!("must be {least} to {most}")))
            }
        })
    }

    fn bytes(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.require(key, |text| {
            let bounds = bounds_of(key);
            let bytes = parse_bytes(text)?;
            let least = show_bytes(*bounds.start());
            let most = show_bytes(*bounds.end());
            let fitting = usize::try_from(bytes)
                .ok()
                .filter(|_| bounds.contains(&bytes));
            fitting.ok_or_else(|| InvalidValue(format!("must be {least} to {most}")))
        })
    }

    fn integer<T: TryFrom<u64>>(&self, key: &'static str) -> Result<Option<T>, ConfigError> {
        self.optional(key, |text| {
            let bounds = bounds_of(key);
            let number = text
                .parse::<u64>()
                .ok()
                .filter(|number| bounds.contains(number));
            let wrong = || {
                InvalidValue(format!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ))
            };
            number
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(wrong)
        })
    }

    fn require_integer<T: TryFrom<u64>>(&self, key: &'static str) -> Result<T, ConfigError> {
        self.integer(key)?
            .ok_or_else(|| self.invalid(key, "must be set"))
    }

    /// A limit, of which 0 says that there is none.
    fn limit<T: TryFrom<u64> + PartialEq>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let limit: u64 = self.require_integer(key)?;
        if limit == 0 {
            Ok(None)
        } else {
            self.integer(key)
        }
    }

    fn key(&self, key: &'static str) -> Result<Option<Secret>, ConfigError> {
        self.optional(key, |text| {
            let long = text.chars().count() >= MIN_KEY_CHARS;
            let wrong =
                "must have at least 32 characters; generate one with `openssl rand -base64 32`";
            if long {
                Ok(Secret::new(text))
            } else {
                Err(InvalidValue(wrong.to_owned()))
            }
        })
    }

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
        };
        if api.max_connections_per_client > api.max_connections {
            return Err(self.invalid(
                "max_connections_per_client",
                "must not be more than max_connections",
            ));
        }
        if api.max_batch_bytes < api.max_body_bytes {
            return Err(self.invalid("max_batch_bytes", "must not be less than max_body_bytes"));
        }
        Ok(api)
    }

    fn worker(&self) -> Result<WorkerConfig, ConfigError> {
        let slots: usize = self.require_integer("worker_slots")?;
        let twice = u16::try_from(slots.saturating_mul(2)).unwrap_or(u16::MAX);
        Ok(WorkerConfig {
            slots,
            prefetch: self.integer("worker_prefetch")?.unwrap_or(twice),
            tenant_max_in_flight: self.limit("tenant_max_in_flight")?,
            max_payload_bytes: self.bytes("max_payload_bytes")?,
            poison_after: self.require_integer("poison_after")?,
            disable_after: self.duration("disable_after")?,
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

    fn effective(&self) -> Vec<Effective> {
        let of = |setting: &settings::Setting| {
            let raw = self.0.get(setting.key);
            let shown = match raw {
                None => String::new(),
                Some(raw) if setting.kind == Kind::Url => {
                    let urls = amqp_urls(&raw.text);
                    urls.iter()
                        .map(|url| without_password(url))
                        .collect::<Vec<_>>()
                        .join(",")
                }
                Some(_) if setting.secret => REDACTED.to_owned(),
                Some(raw) => raw.text.clone(),
            };
            let source = raw.map_or(Source::Default, |raw| raw.source.clone());
            Effective {
                key: setting.key,
                shown,
                source,
            }
        };
        SETTINGS.iter().map(of).collect()
    }
}

fn bounds_of(key: &str) -> RangeInclusive<u64> {
    match settings::find(key).map(|setting| setting.kind) {
        Some(Kind::Bytes { min, max } | Kind::Integer { min, max }) => min..=max,
        _ => 0..=u64::MAX,
    }
}

fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    text.parse().map_err(|_| {
        InvalidValue("must be an address with a port, such as 127.0.0.1:8080".to_owned())
    })
}

/// The word of a [`Kind::Choice`] that the text is.
fn choice(key: &'static str) -> impl Fn(&str) -> Result<&'static str, InvalidValue> {
    move |text| {
        let words = match settings::find(key).map(|setting| setting.kind) {
            Some(Kind::Choice(words)) => words,
            _ => &[],
        };
        let wrong = || InvalidValue(format!("must be {}", words.join(" or ")));
        words
            .iter()
            .copied()
            .find(|word| *word == text)
            .ok_or_else(wrong)
    }
}

/// A URL that may be shown: without its password, and without query values, which may hold one,
/// too.
fn without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        // `embedded`; anything else that is not a URL was refused before.
        return if text == "embedded" {
            text.to_owned()
        } else {
            REDACTED.to_owned()
        };
    };
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return REDACTED.to_owned();
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs
        .iter()
        .any(|(name, _)| crate::domain::view::looks_secret(name))
    {
        url.query_pairs_mut()
            .clear()
            .extend_pairs(pairs.iter().map(|(name, value)| {
                (
                    name,
                    if crate::domain::view::looks_secret(name) {
                        "redacted"
                    } else {
                        value
                    },
                )
            }));
    }
    url.to_string()
}
