//! The single checks.

use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::broker::Broker;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::config::{BrokerKind, Config};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::store::endpoints::EndpointFilter;
use posthaste_shared::store::fitness::{Finding, Severity};
use posthaste_shared::store::page::PageRequest;
use posthaste_shared::store::{DatabaseKind, Store, StoreError};
use posthaste_shared::telemetry::metrics::Metrics;
use posthaste_worker::wire;
use serde_json::Value;

use super::Check;
use crate::client::{ApiError, Client};
use crate::connect;
use crate::failure::{Failure, chain};

/// A clock that is further off makes deliveries early or late by as much, and signatures old.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// How long a broker that was just connected to may need to answer.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at a broker that is not there yet.
const BROKER_POLL: Duration = Duration::from_millis(100);

/// All that needs the store, and the broker, which may be in it.
pub(super) async fn store_and_broker(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let store = match open(config).await {
        Ok(store) => store,
        Err(check) => {
            checks.push(check);
            if config.broker.kind != BrokerKind::Embedded {
                checks.extend(amqp_alone(config).await);
            }
            return checks;
        }
    };
    checks.push(Check::ok(
        "store",
        format!("{} answers", database(store.kind())),
    ));
    checks.extend(fitness(&store).await);
    let schema = store.check_schema().await;
    let migrated = schema.is_ok();
    checks.push(match schema {
        Ok(()) => Check::ok("schema", "it is the one that this program needs"),
        Err(error @ StoreError::Schema { .. }) => Check::fail(
            "schema",
            "it is not the one that this program needs",
            error.to_string(),
        ),
        Err(error @ StoreError::Unfit { .. }) => {
            Check::fail("schema", chain(&error), "see the database")
        }
        Err(error) => Check::fail("schema", chain(&error), "see the store"),
    });
    checks.push(clocks(&store).await);
    if migrated {
        checks.push(secrets(config, &store).await);
    }
    if migrated || config.broker.kind != BrokerKind::Embedded {
        match connect::broker(config, &store, &Arc::new(Metrics::new())).await {
            Ok(broker) => checks.extend(broker_checks(broker.as_ref()).await),
            Err(failure) => checks.push(Check::fail(
                "broker",
                failure.message(),
                "see POSTHASTE_BROKER_URL",
            )),
        }
    }
    store.close().await;
    checks
}

async fn open(config: &Config) -> Result<Store, Check> {
    let remedy = "is POSTHASTE_DATABASE_URL right, does the server run, and does the database \
                  exist on it (`createdb`)? With SQLite, `posthaste up` or `posthaste migrate` \
                  creates the file";
    let store = connect::store(config)
        .await
        .map_err(|failure| Check::fail("store", failure.message(), remedy))?;
    match store.ping().await {
        Ok(()) => Ok(store),
        Err(error) => Err(Check::fail("store", chain(&error), remedy)),
    }
}

const fn database(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Sqlite => "SQLite",
        DatabaseKind::Postgres => "Postgres",
    }
}

/// What of the database itself a promise depends on.
async fn fitness(store: &Store) -> Vec<Check> {
    let findings = match store.findings().await {
        Ok(findings) => findings,
        Err(error) => return vec![Check::warn("database", chain(&error), "see the store")],
    };
    if findings.is_empty() {
        return vec![Check::ok(
            "database",
            "it holds every text, can be written to, and keeps what it confirmed",
        )];
    }
    let check = |Finding {
                     severity,
                     problem,
                     remedy,
                 }| match severity {
        Severity::Refused => Check::fail("database", problem, remedy),
        Severity::Doubtful => Check::warn("database", problem, remedy),
    };
    findings.into_iter().map(check).collect()
}

async fn clocks(store: &Store) -> Check {
    let before = SystemClock.now();
    let server = match store.server_time().await {
        Ok(server) => server,
        Err(error) => return Check::warn("clocks", chain(&error), "see the store"),
    };
    let after = SystemClock.now();
    let off = difference(server, before, after);
    let detail = format!(
        "the store's clock is {} ms off this machine's",
        off.as_millis()
    );
    if off <= CLOCK_TOLERANCE {
        return Check::ok("clocks", detail);
    }
    Check::warn(
        "clocks",
        detail,
        "keep all machines' clocks in step (NTP): due times and signatures count on them",
    )
}

/// How far `server` lies outside of the time that asking took.
fn difference(server: Timestamp, before: Timestamp, after: Timestamp) -> Duration {
    server.since(after).max(before.since(server))
}

/// Reads endpoints, which decrypts their secrets.
async fn secrets(config: &Config, store: &Store) -> Check {
    let remedy = "set POSTHASTE_MASTER_KEY to the key that the secrets were stored with (`up` \
                  keeps its key in the data directory)";
    if let Err(error) = store.check_master_key().await {
        return Check::fail("secrets", chain(&error), remedy);
    }
    let found = match all_endpoints(store).await {
        Ok(found) => found,
        Err(error) => return Check::fail("secrets", chain(&error), remedy),
    };
    if config.master_key.is_none() {
        return if has_secrets(store).await {
            let problem =
                "there is no master key, and the store has secrets that are encrypted with one";
            Check::fail("secrets", problem, remedy)
        } else {
            Check::warn(
                "secrets",
                "there is no master key, and no endpoint's secret is stored yet",
                "set POSTHASTE_MASTER_KEY (`openssl rand -base64 32`), the same for every process",
            )
        };
    }
    let detail = match found.readable.len() {
        1 => "1 endpoint can be read".to_owned(),
        count => format!("{count} endpoints can be read"),
    };
    if found.unreadable > 0 {
        let detail = format!("{detail}; {} cannot", found.unreadable);
        let remedy = "see the log for their ids. A row that another master key wrote is read again \
                      with POSTHASTE_MASTER_KEY_PREVIOUS; one of a newer version, after the \
                      upgrade; any other, delete it and create the endpoint again";
        return Check::fail("secrets", detail, remedy);
    }
    let may_be_called = |endpoint: &&Endpoint| {
        let called = wire::of(endpoint.wire_format).called_urls(endpoint);
        let own = endpoint.wire_format.has_url().then_some(&endpoint.url);
        own.into_iter()
            .chain(called.iter().map(|(_, url)| url))
            .all(|url| config.egress.check_url(url).is_ok())
    };
    let refused = found.readable.len() - found.readable.iter().filter(may_be_called).count();
    if refused == 0 {
        return Check::ok("secrets", detail);
    }
    let remedy = format!(
        "{}; `up` allows more by default than `api` and `worker`",
        opened(&config.egress)
    );
    Check::warn(
        "egress",
        format!("{detail}; {refused} of them may not be called under this policy"),
        remedy,
    )
}

struct AllEndpoints {
    readable: Vec<Endpoint>,
    unreadable: u64,
}

async fn all_endpoints(store: &Store) -> Result<AllEndpoints, StoreError> {
    let (enabled, disabled) = store.endpoint_counts().await?;
    let mut readable = Vec::new();
    let mut page = PageRequest {
        limit: 500,
        cursor: None,
    };
    loop {
        let found = store.endpoints(&EndpointFilter::default(), &page).await?;
        readable.extend(found.items);
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    let unreadable = (enabled + disabled).saturating_sub(readable.len() as u64);
    Ok(AllEndpoints {
        readable,
        unreadable,
    })
}

/// Whether something is encrypted in the store; an error of the store shows in the other checks.
async fn has_secrets(store: &Store) -> bool {
    store.needs_master_key().await.unwrap_or(false)
}

fn opened(egress: &EgressPolicy) -> &'static str {
    if egress.parse_url("http://example.com/").is_ok() {
        "see POSTHASTE_EGRESS_ALLOW"
    } else {
        "see POSTHASTE_EGRESS_ALLOW and POSTHASTE_EGRESS_HTTP"
    }
}

async fn amqp_alone(config: &Config) -> Vec<Check> {
    match connect::publisher(config).await {
        Ok((broker, _)) => broker_checks(broker.as_ref()).await,
        Err(failure) => vec![Check::fail(
            "broker",
            failure.message(),
            "see POSTHASTE_BROKER_URL",
        )],
    }
}

async fn broker_checks(broker: &dyn Broker) -> Vec<Check> {
    let deadline = tokio::time::Instant::now() + BROKER_PATIENCE;
    let mut answer = broker.ping().await;
    while answer.is_err() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(BROKER_POLL).await;
        answer = broker.ping().await;
    }
    let mut checks = Vec::new();
    match answer {
        Err(error) => {
            let remedy = "is POSTHASTE_BROKER_URL right (host, user, password, vhost), and does \
                          RabbitMQ run?";
            checks.push(Check::fail("broker", chain(&error), remedy));
        }
        Ok(()) => {
            let described = broker.describe().await;
            let facts: Vec<String> = described
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            checks.push(Check::ok("broker", facts.join("; ")));
            checks.push(queues(broker).await);
        }
    }
    broker.close().await;
    checks
}

async fn queues(broker: &dyn Broker) -> Check {
    match broker.depths().await {
        Err(error) => Check::fail(
            "queues",
            chain(&error),
            "the topology is declared when `posthaste worker` or `api` starts; does the user have \
             the rights to?",
        ),
        Ok(depths) => {
            let dead = depths.get("dead").copied().unwrap_or(0);
            let each = depths
                .iter()
                .map(|(queue, depth)| format!("{queue}: {depth}"));
            let detail = each.collect::<Vec<_>>().join(", ");
            if dead == 0 {
                return Check::ok("queues", detail);
            }
            Check::warn(
                "queues",
                detail,
                "look at the dead letters with `posthaste dead list`",
            )
        }
    }
}

/// Whether the API answers, and knows the key.
pub(super) async fn api(client: Result<Client, Failure>) -> Check {
    let client = match client {
        Ok(client) => client,
        Err(failure) => return Check::warn("api", failure.message(), "see POSTHASTE_API_URL"),
    };
    let ready: Result<Value, ApiError> = client.get(&["readyz"], &[]).await;
    match ready {
        Err(ApiError::Unreachable(failure)) => {
            let remedy = "the client commands need it: start `posthaste up` or `posthaste api`, \
                          or set POSTHASTE_API_URL";
            return Check::warn("api", failure.message(), remedy);
        }
        Err(ApiError::Busy { failure, .. }) => {
            return Check::fail(
                "api",
                format!("it is not ready: {}", failure.message()),
                "see the API's log",
            );
        }
        // Health may be served at an address of its own, and what answers here may not be JSON.
        Ok(_) | Err(ApiError::Refused { .. }) => {}
    }
    let known: Result<Value, ApiError> = client.get(&["v1", "wire-formats"], &[]).await;
    match known.map_err(Failure::from) {
        Ok(formats) => {
            let count = formats
                .get("items")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            Check::ok(
                "api",
                format!(
                    "{} answers, knows the key and {count} wire formats",
                    client.url()
                ),
            )
        }
        Err(failure) => Check::warn(
            "api",
            failure.message(),
            "the client commands need a key: POSTHASTE_API_KEY",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_within_the_time_of_asking_is_not_off() {
        let at = Timestamp::from_micros;
        assert_eq!(difference(at(5), at(3), at(9)), Duration::ZERO);
        assert_eq!(difference(at(15), at(3), at(9)), Duration::from_micros(6));
        assert_eq!(difference(at(1), at(3), at(9)), Duration::from_micros(2));
    }
}
