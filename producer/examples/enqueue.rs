//! Enqueues three notifications from another service.
//!
//! ```text
//! POSTHASTE_BROKER_URL=amqp://guest:guest@127.0.0.1:5672 \
//!   cargo run -p posthaste-producer --example enqueue
//! POSTHASTE_DATABASE_URL=sqlite://posthaste-data/posthaste.db \
//!   cargo run -p posthaste-producer --example enqueue
//! ```

use std::env;
use std::time::Duration;

use anyhow::Context;
use posthaste_producer::{Draft, Producer, ProducerOptions};
use posthaste_shared::broker::amqp::AmqpOptions;
use posthaste_shared::domain::secret::Secret;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let producer = Producer::connect(options()?).await?;

    // One. Its own id makes it safe to enqueue again after an error.
    let draft = Draft::new(
        "order.paid",
        &serde_json::json!({ "order": 1042, "total": "19.90" }),
    )
    .id("order-1042-paid")
    .expires_in(Duration::from_secs(3600))
    .build()?;
    let accepted = loop {
        match producer.enqueue(draft.clone()).await {
            Ok(accepted) => break accepted,
            Err(error) if error.is_transient() => {
                eprintln!("{error}; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    println!("{} accepted at {}", accepted.id, accepted.accepted_at);

    // Many at once: all are published before the first confirm is waited for.
    let drafts =
        (1..=2).map(|n| Draft::new("order.shipped", &serde_json::json!({ "order": n })).build());
    for result in producer
        .enqueue_batch(drafts.collect::<Result<_, _>>()?)
        .await
    {
        match result {
            Ok(accepted) => println!("{} accepted at {}", accepted.id, accepted.accepted_at),
            Err(error) => println!("not accepted: {error}"),
        }
    }

    producer.close().await;
    Ok(())
}

/// The broker that Posthaste uses; without one, the embedded queue in its database.
fn options() -> anyhow::Result<ProducerOptions> {
    match env::var("POSTHASTE_BROKER_URL") {
        Ok(url) if url != "embedded" => {
            let mut options = AmqpOptions::new(Secret::new(url));
            if let Ok(prefix) = env::var("POSTHASTE_NAME_PREFIX") {
                options.name_prefix = prefix;
            }
            Ok(ProducerOptions::Amqp(options))
        }
        _ => {
            let url = env::var("POSTHASTE_DATABASE_URL").context(
                "set POSTHASTE_BROKER_URL (amqp://…), or POSTHASTE_DATABASE_URL for the \
                          embedded queue",
            )?;
            Ok(ProducerOptions::embedded(Secret::new(url)))
        }
    }
}
