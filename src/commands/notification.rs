//! `posthaste notification`: what was enqueued, and what had no subscriber.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use posthaste_shared::domain::id::{EndpointId, NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::NotificationView;
use serde_json::Value;

use crate::client::Client;
use crate::commands::delivery;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::output::{Output, age, fixed, text, time, wrapped};
use crate::when;

/// Look at notifications that a worker has taken up.
#[derive(Debug, Args)]
pub(crate) struct NotificationArgs {
    #[command(subcommand)]
    command: NotificationCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum NotificationCommand {
    /// List notifications, the newest first
    List(ListArgs),
    /// Show a notification with its deliveries
    Show {
        /// The id of the notification
        id: NotificationId,
        /// The tenant of the notification, if the id alone is ambiguous
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this type; repeatable, or several separated by commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    kinds: Vec<NotificationType>,
    /// Only those enqueued for this one endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<EndpointId>,
    /// Only those of this tenant [default: the key's, else all]
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only those that no endpoint subscribed to (with =false: only the others)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    unmatched: Option<bool>,
    /// Only those accepted at this time or later: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    /// Only those accepted before this time: RFC 3339, or how long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    until: Option<Timestamp>,
    /// The most notifications to list
    #[arg(long, default_value_t = 50, value_parser = crate::flags::whole::<u32>(1..))]
    limit: u32,
}

/// Runs `posthaste notification` with its subcommand.
pub(crate) async fn run(global: &Global, args: NotificationArgs) -> Done {
    let client = global.client(&args.client)?;
    let output = global.output();
    match args.command {
        NotificationCommand::List(args) => list(output, &client, &args).await?,
        NotificationCommand::Show { id, tenant } => {
            let tenant = [("tenant", tenant.map(|tenant| tenant.to_string()))];
            let path = ["v1", "notifications", id.as_str()];
            show(output, client.get(&path, &tenant).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(output: Output, client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let query = vec![
        ("type", delivery::joined(&args.kinds, ToString::to_string)),
        (
            "endpoint_id",
            args.endpoint.as_ref().map(ToString::to_string),
        ),
        ("tenant", args.tenant.as_ref().map(ToString::to_string)),
        (
            "unmatched",
            args.unmatched.map(|unmatched| unmatched.to_string()),
        ),
        ("since", args.since.map(|at| at.to_string())),
        ("until", args.until.map(|at| at.to_string())),
    ];
    let found = delivery::pages(client, &["v1", "notifications"], query, args.limit).await?;
    if output.json {
        return Ok(output.document(&serde_json::json!({ "items": found }))?);
    }
    let row = |notification: &Value| {
        vec![
            text(notification, "id"),
            age(notification, "accepted_at"),
            text(notification, "deliveries"),
            text(notification, "type"),
            text(notification, "tenant"),
            text(notification, "endpoint_id"),
        ]
    };
    let columns = [
        fixed("id"),
        fixed("age"),
        fixed("deliveries"),
        wrapped("type"),
        fixed("tenant"),
        fixed("endpoint"),
    ];
    Ok(output.table(&columns, found.iter().map(row).collect())?)
}

fn show(output: Output, mut view: NotificationView) -> Result<(), Failure> {
    if output.json {
        return Ok(output.document(&view)?);
    }
    // The payload is shown as its sender wrote it. What lies deeper than our parser goes is taken
    // out before the rest is read.
    let payload = view.payload.as_str().to_owned();
    for deep in [&mut view.recipient, &mut view.overrides] {
        *deep = None;
    }
    view.payload = RawJson::null();
    let notification = &serde_json::to_value(&view).unwrap_or_default();
    output.facts(&[
        ("notification", text(notification, "id")),
        ("type", text(notification, "type")),
        ("tenant", text(notification, "tenant")),
        ("endpoint", text(notification, "endpoint_id")),
        ("accepted", time(notification, "accepted_at")),
        ("not before", time(notification, "deliver_at")),
        ("expires", time(notification, "expires_at")),
        ("payload", payload),
    ])?;
    let deliveries = notification
        .get("deliveries")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if deliveries.is_empty() {
        return Ok(output.line("No endpoint subscribed to it.")?);
    }
    output.line("")?;
    delivery::table(output, deliveries)
}
