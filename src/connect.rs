//! Opens the store and the broker that the configuration names.

use std::sync::Arc;

use posthaste_shared::broker::Broker;
use posthaste_shared::broker::amqp::{AmqpBroker, AmqpOptions};
use posthaste_shared::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use posthaste_shared::clock::{Clock, SystemClock};
use posthaste_shared::config::{BrokerKind, Config};
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::store::{Store, StoreError, StoreOptions};
use posthaste_shared::telemetry::metrics::Metrics;

use crate::failure::{Failure, is_missing_database};

/// Opens the store; does not look at its schema.
///
/// # Errors
/// The store cannot be opened.
pub(crate) async fn store(config: &Config) -> Result<Store, Failure> {
    let mut options = StoreOptions::new(config.database.url.clone());
    options.master_key.clone_from(&config.master_key);
    options
        .previous_master_key
        .clone_from(&config.previous_master_key);
    options.max_connections = config.database.max_connections;
    Store::connect(&options).await.map_err(explained)
}

/// Why the store did not do what was asked, with what to do about it.
pub(crate) fn explained(error: StoreError) -> Failure {
    let says_what_to_do = matches!(
        error,
        StoreError::Schema { .. } | StoreError::Unfit { .. } | StoreError::Cipher(_)
    );
    let is_missing = is_missing_database(&error);
    let failure = Failure::from(error);
    if says_what_to_do {
        return failure;
    }
    if is_missing {
        return failure.hint(
            "create it, with `createdb` or CREATE DATABASE, or correct POSTHASTE_DATABASE_URL",
        );
    }
    failure.hint("the store is set by POSTHASTE_DATABASE_URL; `posthaste doctor` shows its value")
}

/// Opens the store and makes sure that its schema fits.
///
/// # Errors
/// The store cannot be opened, or needs `posthaste migrate`.
pub(crate) async fn migrated_store(config: &Config) -> Result<Store, Failure> {
    let store = store(config).await?;
    store.check().await.map_err(explained)?;
    Ok(store)
}

/// Connects to the broker. The embedded one is a table of `store`. That RabbitMQ cannot be reached
/// now is not an error here: its `ping` reports that.
///
/// # Errors
/// The broker's configuration cannot be used.
pub(crate) async fn broker(
    config: &Config,
    store: &Store,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Broker>, Failure> {
    match &config.broker.kind {
        BrokerKind::Embedded => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            Ok(Arc::new(EmbeddedBroker::new(
                store.clone(),
                clock,
                EmbeddedOptions::default(),
            )))
        }
        BrokerKind::Amqp(url) => amqp(config, url, metrics).await,
    }
}

/// Connects to the broker for publishing alone: the store is opened only where it is the broker.
///
/// # Errors
/// As [`broker`], and those of the store.
pub(crate) async fn publisher(
    config: &Config,
) -> Result<(Arc<dyn Broker>, Option<Store>), Failure> {
    let metrics = Arc::new(Metrics::new());
    match &config.broker.kind {
        BrokerKind::Embedded => {
            let store = migrated_store(config).await?;
            Ok((broker(config, &store, &metrics).await?, Some(store)))
        }
        BrokerKind::Amqp(url) => Ok((amqp(config, url, &metrics).await?, None)),
    }
}

async fn amqp(
    config: &Config,
    url: &Secret,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Broker>, Failure> {
    let certificate = config.broker.client_certificate.as_ref();
    let options = AmqpOptions {
        name_prefix: config.broker.name_prefix.clone(),
        ca_file: config.broker.ca_file.clone(),
        client_cert_file: certificate.map(|certificate| certificate.certificate_file.clone()),
        client_key_file: certificate.map(|certificate| certificate.key_file.clone()),
        master_keys: [&config.master_key, &config.previous_master_key]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        ..AmqpOptions::new(url.clone())
    };
    Ok(Arc::new(
        AmqpBroker::connect(options, Arc::clone(metrics), Arc::new(SystemClock)).await?,
    ))
}
