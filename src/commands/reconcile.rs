//! `posthaste reconcile`: the books. Accepted = delivered + failed + expired + cancelled + pending.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use std::sync::Arc;

use clap::Args;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::config::Profile;
use posthaste_shared::domain::id::{NotificationId, TenantId};
use posthaste_shared::store::Store;
use posthaste_shared::store::accounting::Accounting;
use posthaste_shared::telemetry::metrics::Metrics;
use serde_json::{Value, json};

use crate::connect;
use crate::failure::{Done, Failure, chain};
use crate::global::{Global, ServiceFlags};
use crate::output::{Output, Waiting, count, waiting};

/// How many ids are looked up in one query.
const LOOK_UP: usize = 1_000;

/// Prove that everything accepted is accounted for: accepted = delivered + failed + expired +
/// cancelled + pending.
///
/// Exit code 1 when something does not add up. While work is under way, messages on the work queue
/// are not taken up yet; run it again when the queue is empty.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  posthaste reconcile\n  posthaste send --file batch.ndjson --json > \
                  accepted.ndjson && posthaste reconcile --accepted accepted.ndjson"
)]
pub(crate) struct ReconcileArgs {
    /// Ids that were accepted, one a line, or what `send --json` printed; lists those that no
    /// worker took up
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
    /// Tenant of the ids that name none
    #[arg(long, default_value = "default")]
    tenant: TenantId,
    #[command(flatten)]
    service: ServiceFlags,
}

/// Runs `posthaste reconcile`: exit code 1 when the books do not balance.
pub(crate) async fn run(global: &Global, args: ReconcileArgs) -> Done {
    let config = global.start(Profile::Tool, args.service.settings())?;
    let accepted = args
        .accepted
        .as_deref()
        .map(|path| read_accepted(path, &args.tenant))
        .transpose()?;
    // Whole tables are read, which takes minutes for millions of rows.
    let waiting = waiting("opening the store");
    let store = connect::migrated_store(&config).await?;
    waiting.now("counting what is in the store");
    let books = store.accounting(SystemClock.now()).await?;
    let (missing, conflicts) = match &accepted {
        Some(ids) => look_up(&store, ids, &waiting).await?,
        None => Default::default(),
    };
    waiting.now("counting messages on the queues");
    let conflict_count = store.count_id_conflicts().await?;
    let broker = connect::broker(&config, &store, &Arc::new(Metrics::new())).await?;
    let queues = broker.depths().await.map_err(|error| chain(&error));
    broker.close().await;
    store.close().await;
    drop(waiting);

    let deliveries: u64 = books.deliveries.values().sum();
    let nothing_lacks = missing.is_empty() && conflicts.is_empty();
    let adds_up =
        books.problem_count == 0 && deliveries == books.expected && nothing_lacks && queues.is_ok();
    let output = global.output();
    if output.json {
        let (queues, queue_error) = match &queues {
            Ok(depths) => (json!(depths), Value::Null),
            Err(error) => (Value::Null, json!(error)),
        };
        let ids: Vec<&str> = missing.iter().map(|(_, id)| id.as_str()).collect();
        output.document(&json!({
            "adds_up": adds_up, "accounting": books, "queues": queues, "queue_error": queue_error,
            "accepted": accepted.as_ref().map(Vec::len), "missing": ids,
            "id_conflict_count": conflict_count,
            "id_conflicts": conflicts.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(),
        }))?;
    } else {
        print(output, &books, deliveries)?;
        match &queues {
            Ok(depths) => {
                for (queue, depth) in depths {
                    let messages = things(*depth, "message");
                    output.line(format_args!("  {messages} on the queue {queue}"))?;
                }
            }
            Err(error) => output.line(format_args!("The queues could not be counted: {error}"))?,
        }
        if let Some(accepted) = &accepted {
            output.line(format_args!(
                "  {} given, {} never taken up",
                things(accepted.len() as u64, "accepted id"),
                missing.len()
            ))?;
        }
        if conflict_count > 0 {
            output.line(format_args!(
                "  {} used again for another notification, which was not sent and is a dead \
                 letter (id_conflict)",
                things(conflict_count, "id")
            ))?;
        }
        for (tenant, id) in &conflicts {
            output.line(format_args!(
                "used again for another notification, which was not sent: {id} (tenant {tenant})"
            ))?;
        }
        for (tenant, id) in &missing {
            output.line(format_args!("never taken up: {id} (tenant {tenant})"))?;
        }
        let queued = queues
            .as_ref()
            .ok()
            .and_then(|depths| depths.get("work").copied())
            .unwrap_or(0);
        if !missing.is_empty() && queued > 0 {
            output.line("There is still work on the queue: run this again when it is empty.")?;
        }
        output.line(if adds_up {
            "It adds up."
        } else {
            "It does not add up."
        })?;
    }
    Ok(if adds_up {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(output: Output, books: &Accounting, deliveries: u64) -> Result<(), Failure> {
    output.line(format_args!(
        "  {} taken up, {} of them without a subscriber",
        things(books.notifications, "notification"),
        books.unmatched
    ))?;
    output.line(format_args!(
        "  {} expected from them",
        things(books.expected, "delivery")
    ))?;
    output.line(format_args!("  {} found", things(deliveries, "delivery")))?;
    for (status, count) in &books.deliveries {
        output.line(format_args!("  {count:>12}    {status}"))?;
    }
    output.line(format_args!("  {}", things(books.attempts, "attempt")))?;
    output.line(format_args!(
        "  {}, {} of them not published yet",
        things(books.events, "event"),
        books.unpublished
    ))?;
    for problem in &books.problems {
        output.line(format_args!("problem: {} ({})", problem.what, problem.id))?;
    }
    let unlisted = books
        .problem_count
        .saturating_sub(books.problems.len() as u64);
    if unlisted > 0 {
        let more = count(unlisted, "more problem");
        output.line(format_args!("… and {more}"))?;
    }
    Ok(())
}

/// A number of things, with the numbers below each other.
fn things(number: u64, thing: &str) -> String {
    let counted = count(number, thing);
    let (number, thing) = counted.split_once(' ').unwrap_or((&counted, ""));
    format!("{number:>12}  {thing}")
}

/// Accepted ids.
type Ids = Vec<(TenantId, NotificationId)>;

/// Which of the accepted ids were never taken up, and which were used again for another
/// notification.
async fn look_up(
    store: &Store,
    ids: &[(TenantId, NotificationId)],
    waiting: &Waiting,
) -> Result<(Ids, Ids), Failure> {
    let mut missing = Vec::new();
    let mut conflicts = Vec::new();
    for (index, part) in ids.chunks(LOOK_UP).enumerate() {
        let done = index * LOOK_UP;
        waiting.now(format!("looking up accepted ids: {done} of {}", ids.len()));
        missing.extend(store.missing_notifications(part).await?);
        conflicts.extend(store.id_conflicts(part).await?);
    }
    Ok((missing, conflicts))
}

fn read_accepted(
    path: &Path,
    tenant: &TenantId,
) -> Result<Vec<(TenantId, NotificationId)>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::wrong_use(format!(
            "--accepted: {} cannot be read: {error}",
            path.display()
        ))
    })?;
    let mut ids = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let read = read_line(line.trim(), tenant);
        ids.extend(read.map_err(|problem| {
            Failure::wrong_use(format!("{}:{}: {problem}", path.display(), index + 1))
        })?);
    }
    Ok(ids)
}

/// An id, or a line of `send --json`; one that was not accepted counts for nothing.
fn read_line(line: &str, tenant: &TenantId) -> Result<Option<(TenantId, NotificationId)>, String> {
    let (tenant, id) = if line.starts_with('{') {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let member = |name: &str| value.get(name).and_then(Value::as_str);
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Ok(None);
        }
        let tenant = member("tenant")
            .map_or(Ok(tenant.clone()), TenantId::parse)
            .map_err(|error| error.to_string())?;
        (tenant, member("id").ok_or("there is no id")?.to_owned())
    } else {
        (tenant.clone(), line.to_owned())
    };
    NotificationId::parse(&id)
        .map(|id| Some((tenant, id)))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_ids_come_as_lines_or_as_results() {
        let tenant = TenantId::default();
        let id = |line: &str| {
            read_line(line, &tenant)
                .unwrap()
                .map(|(tenant, id)| format!("{tenant}/{id}"))
        };
        assert_eq!(id("n-1").unwrap(), "default/n-1");
        assert_eq!(
            id(r#"{"line":1,"id":"n-2","tenant":"acme"}"#).unwrap(),
            "acme/n-2"
        );
        assert_eq!(id(r#"{"line":1,"id":"n-3","error":"no"}"#), None);
        assert!(read_line(r#"{"line":1}"#, &tenant).is_err());
        assert!(read_line("a b", &tenant).is_err());
    }
}
