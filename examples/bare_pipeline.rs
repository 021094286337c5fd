//! The ceiling: what a webhook worker does at the very least, with the libraries that Posthaste
//! uses. Take a message from a queue, make a request, insert the result, acknowledge. No policy, no
//! retry, no signature, no metrics. `posthaste bench backlog --against` runs it in turn with
//! Posthaste:
//!
//! ```sh
//! cargo build --release --example bare_pipeline
//! posthaste bench backlog --runs 5 --against target/release/examples/bare_pipeline
//! posthaste bench backlog --runs 5 --against target/release/examples/bare_pipeline \
//!     --against-arg=--multiple
//! ```
//!
//! With `POSTHASTE_BROKER_URL` and `POSTHASTE_DATABASE_URL` (Postgres): a quorum queue, results in
//! batches of 200 by `UNNEST`, an acknowledgement for each message or, with `--multiple`, for each
//! contiguous run of them. Otherwise SQLite, and a queue in memory.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use futures::StreamExt as _;
use futures::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, PgConnection, QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

/// Results in a statement, at the most.
const BATCH: usize = 200;
/// Requests that are under way at once.
const CONCURRENT: usize = 128;
/// Messages that are taken and not acknowledged.
const PREFETCH: u16 = 2_048;
/// Messages whose confirms are awaited together.
const PUBLISHED: u32 = 500;

type Fault = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "The least that a webhook worker does, for comparison")]
struct Arguments {
    /// `fill`: put messages on the queue; `drain`: deliver them
    phase: String,
    /// How many messages there are
    #[arg(long)]
    count: u32,
    /// Size of each payload in bytes
    #[arg(long)]
    payload: usize,
    /// Where they go
    #[arg(long)]
    url: String,
    /// Acknowledge contiguous runs of messages at once
    #[arg(long)]
    multiple: bool,
}

/// A request that was answered.
struct Done {
    tag: u64,
    id: Uuid,
    status: i32,
    took_us: i64,
    at_us: i64,
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = std::env::var("POSTHASTE_DATABASE_URL")?;
    let begun = Instant::now();
    if database.starts_with("postgres") {
        let broker = std::env::var("POSTHASTE_BROKER_URL")?;
        let queue = format!("{}.bare", std::env::var("POSTHASTE_NAME_PREFIX")?);
        let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare(&channel, &queue).await?;
        match arguments.phase.as_str() {
            "fill" => fill(&channel, &queue, &arguments).await?,
            _ => drain_rabbitmq(&channel, &queue, &database, &arguments).await?,
        }
        // The answer to this comes after all acknowledgements are with the queue.
        channel.close(200, "done".into()).await?;
        connection.close(200, "done".into()).await?;
    } else if arguments.phase == "drain" {
        drain_memory(&database, &arguments).await?;
    }
    println!(
        "{}: {:.2} s",
        arguments.phase,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn declare(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let mut kind = FieldTable::default();
    kind.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, kind)
        .await
        .map(drop)
}

/// A payload as the bench writes it: its number, and text that cannot be compressed to nothing.
fn payload(number: u32, size: usize, text: &str) -> Vec<u8> {
    let head = format!(r#"{{"n":"{number:08}","x":""#);
    let rest = size.saturating_sub(head.len() + 2);
    let from = (number as usize).wrapping_mul(7_919) % (text.len() - size);
    format!(r#"{head}{}"}}"#, &text[from..from + rest]).into_bytes()
}

fn text(size: usize) -> String {
    let mut text = String::new();
    while text.len() < 64 * 1024 + 2 * size {
        text.push_str(&Uuid::new_v4().simple().to_string());
    }
    text
}

async fn fill(channel: &Channel, queue: &str, arguments: &Arguments) -> Result<(), Fault> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let text = text(arguments.payload);
    let mut number = 0;
    while number < arguments.count {
        let last = arguments.count.min(number + PUBLISHED);
        let mut confirms = Vec::new();
        for number in number..last {
            let body = payload(number, arguments.payload, &text);
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            confirms.push(
                channel
                    .basic_publish("".into(), queue.into(), options, &body, properties)
                    .await?,
            );
        }
        for confirm in try_join_all(confirms).await? {
            if !matches!(confirm, Confirmation::Ack(_)) {
                return Err(format!("not confirmed: {confirm:?}").into());
            }
        }
        number = last;
    }
    Ok(())
}

/// Makes the requests of all messages and sends what came of them to the recorder.
struct Sender {
    http: reqwest::Client,
    url: String,
    room: Arc<Semaphore>,
    done: mpsc::Sender<Done>,
}

impl Sender {
    fn new(url: &str) -> Result<(Self, mpsc::Receiver<Done>), Fault> {
        let (done, results) = mpsc::channel(4_096);
        let sender = Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(CONCURRENT)
                .build()?,
            url: url.to_owned(),
            room: Arc::new(Semaphore::new(CONCURRENT)),
            done,
        };
        Ok((sender, results))
    }

    async fn send(&self, tag: u64, body: Vec<u8>) -> Result<(), Fault> {
        let permit = Arc::clone(&self.room).acquire_owned().await?;
        let id = Uuid::new_v4();
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", id.to_string())
            .body(body);
        let done = self.done.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let answer = request.send().await;
            let status = match answer {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    // Read to its end, so that the connection is used again.
                    let _ = answer.bytes().await;
                    i32::from(status)
                }
                Err(_) => 0,
            };
            drop(permit);
            let took_us = i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX);
            let result = Done {
                tag,
                id,
                status,
                took_us,
                at_us: now_us(),
            };
            let _ = done.send(result).await;
        });
        Ok(())
    }
}

fn now_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

async fn drain_rabbitmq(
    channel: &Channel,
    queue: &str,
    database: &str,
    arguments: &Arguments,
) -> Result<(), Fault> {
    let mut store = PgConnection::connect(database).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS results (id uuid PRIMARY KEY, status int, took_us bigint, \
         at_us bigint)",
    )
    .execute(&mut store)
    .await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut messages = channel
        .basic_consume(
            queue.into(),
            "bare".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let (sender, mut results) = Sender::new(&arguments.url)?;
    let count = u64::from(arguments.count);
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            let message = messages.next().await.ok_or("the queue is gone")??;
            sender.send(message.delivery_tag, message.data).await?;
        }
        Ok::<(), Fault>(())
    });
    let (mut recorded, mut acknowledged, mut beyond) = (0, 0, BTreeSet::new());
    while recorded < count {
        let mut batch = Vec::with_capacity(BATCH);
        if results.recv_many(&mut batch, BATCH).await == 0 {
            break;
        }
        insert(&mut store, &batch).await?;
        recorded += batch.len() as u64;
        if !arguments.multiple {
            for done in &batch {
                channel
                    .basic_ack(done.tag, BasicAckOptions::default())
                    .await?;
            }
            continue;
        }
        beyond.extend(batch.iter().map(|done| done.tag));
        let before = acknowledged;
        while beyond.remove(&(acknowledged + 1)) {
            acknowledged += 1;
        }
        if acknowledged > before {
            channel
                .basic_ack(acknowledged, BasicAckOptions { multiple: true })
                .await?;
        }
    }
    sending.await??;
    Ok(store.close().await?)
}

async fn insert(store: &mut PgConnection, batch: &[Done]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = batch.iter().map(|done| done.id).collect();
    let statuses: Vec<i32> = batch.iter().map(|done| done.status).collect();
    let took: Vec<i64> = batch.iter().map(|done| done.took_us).collect();
    let at: Vec<i64> = batch.iter().map(|done| done.at_us).collect();
    sqlx::query(
        "INSERT INTO results SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::bigint[], \
         $4::bigint[])",
    )
    .bind(ids)
    .bind(statuses)
    .bind(took)
    .bind(at)
    .execute(store)
    .await?;
    Ok(())
}

async fn drain_memory(database: &str, arguments: &Arguments) -> Result<(), Fault> {
    let options: SqliteConnectOptions = database.parse()?;
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut store = SqliteConnection::connect_with(&options).await?;
    sqlx::query(
        "CREATE TABLE results (id blob PRIMARY KEY, status int, took_us int, at_us int) \
         WITHOUT ROWID",
    )
    .execute(&mut store)
    .await?;
    let text = text(arguments.payload);
    let (size, count) = (arguments.payload, arguments.count);
    let (sender, mut results) = Sender::new(&arguments.url)?;
    let sending = tokio::spawn(async move {
        for number in 0..count {
            let body = payload(number, size, &text);
            sender.send(number.into(), body).await?;
        }
        Ok::<(), Fault>(())
    });
    let mut recorded = 0;
    while recorded < count as usize {
        let mut batch = Vec::with_capacity(BATCH);
        if results.recv_many(&mut batch, BATCH).await == 0 {
            break;
        }
        recorded += batch.len();
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO results ");
        insert.push_values(&batch, |mut row, done| {
            row.push_bind(done.id)
                .push_bind(done.status)
                .push_bind(done.took_us)
                .push_bind(done.at_us);
        });
        insert.build().execute(&mut store).await?;
    }
    sending.await??;
    Ok(store.close().await?)
}
