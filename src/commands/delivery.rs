//! `posthaste delivery`: looking at deliveries, sending one again, cancelling one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use posthaste_shared::domain::delivery::{FailureReason, Hold, Status};
use posthaste_shared::domain::id::{
    DeliveryId, EndpointId, NotificationId, NotificationType, TenantId,
};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::several::StatusCode;
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{Done, Failure};
use crate::flags::word;
use crate::global::{ClientFlags, Global};
use crate::output::{Output, age, fixed, items, text, time, wrapped};
use crate::when;

/// The most items of a page of the API.
const PAGE: u32 = 500;

/// Look at deliveries; send one again or cancel it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste delivery list --status failed --since 1h\n  posthaste \
                  delivery show 6b1f…\n  posthaste delivery retry 6b1f…"
)]
pub(crate) struct DeliveryArgs {
    #[command(subcommand)]
    command: DeliveryCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum DeliveryCommand {
    /// List deliveries, the newest first
    List(ListArgs),
    /// Show a delivery with its attempts
    Show {
        /// The id of the delivery, a UUID
        id: DeliveryId,
    },
    /// Send a delivery now: a waiting one at once, a finished one in a new round of attempts
    Retry {
        /// The id of the delivery, a UUID
        id: DeliveryId,
    },
    /// Cancel a pending delivery: it is never sent
    Cancel {
        /// The id of the delivery, a UUID
        id: DeliveryId,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// The most deliveries to list
    #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..))]
    limit: u32,
}

/// Which deliveries a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// Only with this status. Like most filters it takes several values: repeat it, or separate
    /// them by commas
    #[arg(
        long,
        value_parser = word(Status::ALL.map(Status::as_str), Status::parse),
        value_delimiter = ','
    )]
    pub(crate) status: Vec<Status>,
    /// Only those that failed for this reason
    #[arg(
        long,
        value_parser = word(FailureReason::ALL.map(FailureReason::as_str), FailureReason::parse),
        value_delimiter = ','
    )]
    reason: Vec<FailureReason>,
    /// Only those whose last attempt was answered with this HTTP status, such as 503
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    status_code: Vec<StatusCode>,
    /// Only those that are parked and that this holds back
    #[arg(
        long,
        value_parser = word(Hold::ALL.map(Hold::as_str), Hold::parse),
        value_delimiter = ','
    )]
    hold: Vec<Hold>,
    /// Only those to the endpoint with this id
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    endpoint: Vec<EndpointId>,
    /// Only those of the notification with this id
    #[arg(long, value_name = "ID")]
    notification: Option<NotificationId>,
    /// Only those of this tenant [default: the key's, else all]
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only those of notifications of this type
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    kind: Vec<NotificationType>,
    /// Only those accepted at this time or later: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    /// Only those accepted before this time: RFC 3339, or how long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    until: Option<Timestamp>,
}

/// Values of a filter as the API takes them: with commas between them.
pub(crate) fn joined<T>(values: &[T], name: impl Fn(&T) -> String) -> Option<String> {
    (!values.is_empty()).then(|| values.iter().map(name).collect::<Vec<_>>().join(","))
}

impl Filter {
    /// As members of the API's queries and bodies.
    pub(crate) fn members(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            (
                "status",
                joined(&self.status, |status| status.as_str().to_owned()),
            ),
            (
                "reason",
                joined(&self.reason, |reason| reason.as_str().to_owned()),
            ),
            (
                "status_code",
                joined(&self.status_code, |code| code.number().to_string()),
            ),
            ("hold", joined(&self.hold, |hold| hold.as_str().to_owned())),
            ("endpoint_id", joined(&self.endpoint, ToString::to_string)),
            (
                "notification_id",
                self.notification.as_ref().map(ToString::to_string),
            ),
            ("tenant", self.tenant.as_ref().map(ToString::to_string)),
            ("type", joined(&self.kind, ToString::to_string)),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ]
    }
}

/// Runs `posthaste delivery` with its subcommand.
pub(crate) async fn run(global: &Global, args: DeliveryArgs) -> Done {
    let client = global.client(&args.client)?;
    let output = global.output();
    match args.command {
        DeliveryCommand::List(args) => list(output, &client, &args).await?,
        DeliveryCommand::Show { id } => {
            let delivery: Value = client
                .get(&["v1", "deliveries", &id.to_string()], &[])
                .await?;
            if output.json {
                output.document(&delivery)?
            } else {
                print_delivery(output, &delivery)?
            }
        }
        DeliveryCommand::Retry { id } => act(output, &client, id, "retry").await?,
        DeliveryCommand::Cancel { id } => act(output, &client, id, "cancel").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn act(output: Output, client: &Client, id: DeliveryId, what: &str) -> Result<(), Failure> {
    let delivery: Value = client
        .post(&["v1", "deliveries", &id.to_string(), what], &json!({}))
        .await?;
    if output.json {
        return Ok(output.document(&delivery)?);
    }
    let done = if what == "retry" {
        "is due now"
    } else {
        "is cancelled"
    };
    Ok(output.line(format_args!("{id} {done}."))?)
}

async fn list(output: Output, client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let found = pages(
        client,
        &["v1", "deliveries"],
        args.filter.members(),
        args.limit,
    )
    .await?;
    if output.json {
        return Ok(output.document(&json!({ "items": found }))?);
    }
    table(output, &found)
}

/// The items of a list of the API, page by page, up to `limit`.
pub(crate) async fn pages(
    client: &Client,
    path: &[&str],
    mut query: Vec<(&str, Option<String>)>,
    limit: u32,
) -> Result<Vec<Value>, Failure> {
    let mut found: Vec<Value> = Vec::new();
    loop {
        let wanted = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let mut page_query = query.clone();
        page_query.push(("limit", Some(wanted.clamp(1, PAGE).to_string())));
        let page: Value = client.get(path, &page_query).await?;
        found.extend(items(&page).iter().cloned());
        let cursor = text(&page, "next_cursor");
        if cursor.is_empty() || found.len() >= limit as usize {
            return Ok(found);
        }
        // Else the second page would be asked for with two cursors.
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", Some(cursor)));
    }
}

/// Deliveries, one a row.
pub(crate) fn table(output: Output, deliveries: &[Value]) -> Result<(), Failure> {
    Ok(output.table(
        &[
            fixed("id"),
            fixed("status"),
            fixed("age"),
            fixed("tries"),
            fixed("next"),
            wrapped("why"),
            wrapped("type"),
            fixed("endpoint"),
        ],
        deliveries.iter().map(row).collect(),
    )?)
}

fn row(delivery: &Value) -> Vec<String> {
    vec![
        text(delivery, "id"),
        text(delivery, "status"),
        age(delivery, "created_at"),
        text(delivery, "attempt_count"),
        age(delivery, "next_attempt_at"),
        why(delivery),
        text(delivery, "type"),
        text(delivery, "endpoint_id"),
    ]
}

/// Why a delivery is where it is, in a word or two.
fn why(delivery: &Value) -> String {
    let first = ["reason", "held_by", "waiting_for"].map(|name| text(delivery, name));
    first
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn print_delivery(output: Output, delivery: &Value) -> Result<(), Failure> {
    output.facts(&[
        ("delivery", text(delivery, "id")),
        ("notification", text(delivery, "notification_id")),
        ("type", text(delivery, "type")),
        ("tenant", text(delivery, "tenant")),
        (
            "endpoint",
            format!(
                "{} ({})",
                text(delivery, "endpoint_id"),
                text(delivery, "wire_format")
            ),
        ),
        ("recipient", text(delivery, "recipient")),
        ("status", text(delivery, "status")),
        ("why", why(delivery)),
        ("last error", text(delivery, "last_error")),
        ("created", time(delivery, "created_at")),
        ("next attempt", time(delivery, "next_attempt_at")),
        ("expires", time(delivery, "expires_at")),
        ("finished", time(delivery, "finished_at")),
        ("provider's id", text(delivery, "provider_message_id")),
        ("provider's date", text(delivery, "provider_message_date")),
        ("provider's code", text(delivery, "provider_error_code")),
    ])?;
    print_attempts(output, delivery)
}

/// The attempts of a delivery, one a row.
pub(crate) fn print_attempts(output: Output, delivery: &Value) -> Result<(), Failure> {
    let attempts = delivery
        .get("attempts")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if attempts.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let row = |attempt: &Value| {
        vec![
            text(attempt, "number"),
            time(attempt, "started_at"),
            text(attempt, "result"),
            text(attempt, "status_code"),
            milliseconds(attempt, "duration_ms"),
            text(attempt, "error.text"),
            phases(attempt),
            text(attempt, "resolved_address"),
        ]
    };
    output.table(
        &[
            fixed("#"),
            fixed("started"),
            fixed("result"),
            fixed("status"),
            fixed("took"),
            wrapped("error"),
            wrapped("phases"),
            wrapped("address"),
        ],
        attempts.iter().map(row).collect(),
    )?;
    for attempt in attempts {
        for line in text(attempt, "console").lines() {
            output.line(format_args!(
                "console of {}: {line}",
                text(attempt, "number")
            ))?;
        }
    }
    Ok(())
}

fn milliseconds(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_f64)
        .map(|ms| format!("{ms:.1} ms"))
        .unwrap_or_default()
}

/// `dns 0.2, connect 0.1, wait 3.4`
fn phases(attempt: &Value) -> String {
    let phase = |name: &&str| {
        let ms = attempt.get("phases_ms")?.get(*name)?.as_f64()?;
        Some(format!("{name} {ms:.1}"))
    };
    ["dns", "connect", "tls", "wait", "body"]
        .iter()
        .filter_map(phase)
        .collect::<Vec<_>>()
        .join(", ")
}
