//! `posthaste explain`: why a notification or delivery is where it is.

use std::process::ExitCode;

use clap::Args;
use posthaste_shared::domain::id::{DeliveryId, NotificationId, TenantId};
use reqwest::StatusCode;
use serde_json::Value;

use crate::client::{ApiError, Client};
use crate::commands::delivery::print_attempts;
use crate::failure::{Done, Failure};
use crate::global::{ClientFlags, Global};
use crate::output::{Output, text, time};

/// Say why a notification or delivery is where it is: what it waits for, what holds it back, and
/// the result of each attempt.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  posthaste explain 0192f0c4-7f3e-7cc1-9f5a-2f1f2d3c4b5a")]
pub(crate) struct ExplainArgs {
    /// The id of a notification or of a delivery
    id: NotificationId,
    /// The tenant of the notification, if the id alone is ambiguous
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    client: ClientFlags,
}

/// Runs `posthaste explain` and prints the answer.
pub(crate) async fn run(global: &Global, args: ExplainArgs) -> Done {
    let client = global.client(&args.client)?;
    let explanation = fetch(&client, &args).await?;
    let output = global.output();
    if output.json {
        output.document(&explanation)?;
    } else {
        print(output, &explanation)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A delivery's id is a UUID; so may a notification's be, which is tried next.
async fn fetch(client: &Client, args: &ExplainArgs) -> Result<Value, Failure> {
    let id = args.id.as_str();
    // Deliveries first: their ids are in `webhook-id`, which is what receivers complain with.
    if id.parse::<DeliveryId>().is_ok() {
        match client.get(&["v1", "deliveries", id, "explain"], &[]).await {
            Err(ApiError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => {}
            other => return Ok(other?),
        }
    }
    let tenant = [("tenant", args.tenant.as_ref().map(ToString::to_string))];
    Ok(client
        .get(&["v1", "notifications", id, "explain"], &tenant)
        .await?)
}

fn print(output: Output, explanation: &Value) -> Result<(), Failure> {
    let Some(deliveries) = explanation.get("deliveries").and_then(Value::as_array) else {
        return print_delivery(output, explanation);
    };
    output.facts(&[
        ("notification", text(explanation, "notification_id")),
        ("accepted", time(explanation, "accepted_at")),
        ("", text(explanation, "summary")),
    ])?;
    for delivery in deliveries {
        output.line("")?;
        print_delivery(output, delivery)?;
    }
    Ok(())
}

fn print_delivery(output: Output, explanation: &Value) -> Result<(), Failure> {
    let endpoint = match text(explanation, "endpoint.url") {
        url if url.is_empty() => text(explanation, "delivery.endpoint_id"),
        url => format!("{} {url}", text(explanation, "delivery.endpoint_id")),
    };
    output.facts(&[
        ("delivery", text(explanation, "delivery.id")),
        ("endpoint", endpoint),
        ("status", text(explanation, "delivery.status")),
        ("why", text(explanation, "summary")),
        ("leased until", time(explanation, "lease_until")),
    ])?;
    print_attempts(output, explanation)
}
