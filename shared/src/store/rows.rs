//! Between the domain types and rows: which columns in which order, read and written in one place.

use std::sync::Arc;
use std::time::Duration;

use super::db::{Batch, ColumnKind, Kind, Param, Reader};
use super::partitions::CLOCK_SLACK;
use super::{StoreError, first_attempt};
use crate::domain::attempt::{Attempt, AttemptError, AttemptResult};
use crate::domain::delivery::{Delivery, DeliveryState, FailureReason, Hold, Status, Wait};
use crate::domain::event::{Event, EventType};
use crate::domain::hops::Hops;
use crate::domain::id::{
    DeliveryId, EndpointId, EventId, NotificationId, NotificationType, TenantId,
};
use crate::domain::notification::{Notification, Origin, Priority};
use crate::domain::raw_json::RawJson;
use crate::domain::time::Timestamp;
use crate::domain::wire_format::WireFormat;

/// Declares the columns of a table, once. From the list come, always in its order:
/// - `$name!()`: what a SELECT reads from the table, which it names by `$table`,
/// - `$name!(insert)` and `$name!(inserted)`: the columns of an INSERT, and their values in a
///   batch,
/// - `$name!(changes)`: the SET list of an UPDATE by a batch, with a comma at its end,
/// - `$kinds`: what a batch of rows to insert consists of.
///
/// A row is read as `read`, then `changing`. `written` columns are written with the others, and
/// read only by those who need them.
macro_rules! columns {
    ($name:ident, $table:literal, $kinds:ident:
        read [$first:literal $first_kind:ident $(, $read:literal $read_kind:ident)* $(,)?]
        changing [$($changing:literal $changing_kind:ident),* $(,)?]
        written [$($written:literal $written_kind:ident),* $(,)?]
    ) => {
        macro_rules! $name {
            () => {
                concat!(
                    $table, ".", $first
                    $(, ", ", $table, ".", $read)*
                    $(, ", ", $table, ".", $changing)*
                )
            };
            (insert) => {
                concat!($first $(, ", ", $read)* $(, ", ", $changing)* $(, ", ", $written)*)
            };
            (inserted) => {
                concat!(
                    "u.", $first
                    $(, ", u.", $read)* $(, ", u.", $changing)* $(, ", u.", $written)*
                )
            };
            (changes) => { concat!($($changing, " = u.", $changing, ", "),*) };
        }

        pub(super) const $kinds: &[ColumnKind] = &[
            ($first, Kind::$first_kind),
            $(($read, Kind::$read_kind),)*
            $(($changing, Kind::$changing_kind),)*
            $(($written, Kind::$written_kind),)*
        ];
    };
}

// As [`delivery`] reads them, and [`delivery_batch`] writes them.
columns!(delivery_columns, "d", DELIVERY:
    read [
        "id" Uuid, "notification_id" Text, "tenant" Text, "type" Text, "endpoint_id" Text,
        "wire_format" Text, "recipient" Text, "created_at" Int, "expires_at" Int, "origin" Text,
    ]
    changing [
        "status" Text, "wait" Text, "hold" Text, "due_at" Int, "reason" Text, "finished_at" Int,
        "round" Int, "attempt_count" Int, "round_base" Int, "provider_message_id" Text,
        "provider_message_date" Text, "provider_error_code" Text, "last_error" Text,
    ]
    written ["kept" Bytes, "first_attempt" Text, "first_status_code" Int]
);

// As [`notification`] reads them, and [`notification_batch`] writes them.
columns!(notification_columns, "n", NOTIFICATION:
    read [
        "tenant" Text, "id" Text, "type" Text, "target" Text, "payload" Bytes, "recipient" Bytes,
        "overrides" Bytes, "accepted_at" Int, "deliver_at" Int, "expires_at" Int, "priority" Text,
        "origin" Text, "traceparent" Text, "hops" Int,
    ]
    changing []
    written ["fan_out" Int]
);

// As [`attempt`] reads them, and [`attempt_batch`] writes them.
columns!(attempt_columns, "a", ATTEMPT:
    read [
        "number" Int, "round" Int, "started_at" Int, "duration_us" Int, "phases" Text,
        "result" Text, "status_code" Int, "error_code" Text, "error_text" Text,
        "response_body" Text, "resolved_address" Text, "request_headers" Text, "worker" Text,
        "console" Text,
    ]
    changing []
    written ["delivery_id" Uuid]
);
pub(super) use {attempt_columns, delivery_columns, notification_columns};

/// The columns of a delivery that a change writes: those of [`DELIVERY`] from its status on, up to
/// what is kept.
pub(super) const DELIVERY_CHANGES: &[ColumnKind] =
    DELIVERY.split_at(FIXED).1.split_at(CHANGES + KEPT).0;
/// How many columns never change.
const FIXED: usize = 10;
/// How many columns a change writes, and with what is kept, one more.
const CHANGES: usize = 13;
const KEPT: usize = 1;

pub(super) fn delivery(row: &mut Reader) -> Result<Delivery, StoreError> {
    let id = DeliveryId(row.uuid()?);
    row.named(id);
    Ok(Delivery {
        id,
        notification_id: row.word(|text| NotificationId::parse(text).ok())?,
        tenant: row.word(|text| TenantId::parse(text).ok())?,
        kind: row.word(|text| NotificationType::parse(text).ok())?,
        endpoint_id: row.word(|text| EndpointId::parse(text).ok())?,
        wire_format: row.word(WireFormat::parse)?,
        recipient: row.text_opt()?,
        created_at: row.time()?,
        expires_at: row.time_opt()?,
        origin: row.word(parse_origin)?,
        state: state(row)?,
        round: row.count()?,
        attempt_count: row.count()?,
        round_base: row.count()?,
        provider_message_id: row.text_opt()?,
        provider_message_date: row.text_opt()?,
        provider_error_code: row.text_opt()?,
        last_error: row.text_opt()?,
    })
}

fn state(row: &mut Reader) -> Result<DeliveryState, StoreError> {
    let status = row.word(Status::parse)?;
    let wait = row.text_opt()?;
    let hold = row.word_opt(Hold::parse)?;
    let due_at = row.time_opt()?;
    let reason = row.word_opt(FailureReason::parse)?;
    let finished_at = row.time_opt()?;
    let state = match (status, finished_at, reason) {
        (Status::Pending, None, None) => {
            waiting(wait.as_deref(), due_at, hold).map(DeliveryState::Pending)
        }
        (Status::Delivered, Some(at), None) => Some(DeliveryState::Delivered { at }),
        (Status::Failed, Some(at), Some(reason)) => Some(DeliveryState::Failed { at, reason }),
        (Status::Expired, Some(at), None) => Some(DeliveryState::Expired { at }),
        (Status::Cancelled, Some(at), None) => Some(DeliveryState::Cancelled { at }),
        _ => None,
    };
    state.ok_or_else(|| {
        let problem =
            format!("{status:?} does not go with the wait {wait:?} and the reason {reason:?}");
        row.corrupt_in("status", problem)
    })
}

fn waiting(wait: Option<&str>, due_at: Option<Timestamp>, hold: Option<Hold>) -> Option<Wait> {
    match (wait?, due_at, hold) {
        ("in_flight", Some(lease_until), None) => Some(Wait::InFlight { lease_until }),
        ("retry", Some(due_at), None) => Some(Wait::Retry { due_at }),
        ("scheduled", Some(due_at), None) => Some(Wait::Scheduled { due_at }),
        ("parked", None, Some(why)) => Some(Wait::Parked { why }),
        _ => None,
    }
}

/// The values of the columns that a change of a delivery writes.
pub(super) fn change_params(delivery: &Delivery) -> [Param; CHANGES] {
    let [status, wait, hold, due_at, reason, finished_at] = state_params(&delivery.state);
    [
        status,
        wait,
        hold,
        due_at,
        reason,
        finished_at,
        Param::count(delivery.round),
        Param::count(delivery.attempt_count),
        Param::count(delivery.round_base),
        Param::text_opt(delivery.provider_message_id.as_ref()),
        Param::text_opt(delivery.provider_message_date.as_ref()),
        Param::text_opt(delivery.provider_error_code.as_ref()),
        Param::text_opt(delivery.last_error.as_ref()),
    ]
}

/// A delivery's state as columns: status, wait, hold, due_at, reason, finished_at.
fn state_params(state: &DeliveryState) -> [Param; 6] {
    let (wait, hold) = match state {
        DeliveryState::Pending(Wait::Parked { why }) => (Some("parked"), Some(why.as_str())),
        DeliveryState::Pending(wait) => (Some(wait.as_str()), None),
        _ => (None, None),
    };
    let reason = match state {
        DeliveryState::Failed { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    [
        Param::text(state.status().as_str()),
        Param::text_opt(wait),
        Param::text_opt(hold),
        Param::time_opt(state.due_at()),
        Param::text_opt(reason),
        Param::time_opt(state.finished_at()),
    ]
}

/// Deliveries to insert, each with what is kept for its round, and with the attempt that finished
/// it, if its first did.
pub(super) fn delivery_batch<'a>(
    deliveries: impl Iterator<Item = (&'a Delivery, Param, Option<&'a Attempt>)>,
) -> Batch {
    let mut batch = Batch::new(DELIVERY);
    for (delivery, kept, first_attempt) in deliveries {
        let fixed: [Param; FIXED] = [
            Param::uuid(delivery.id.0),
            Param::text(delivery.notification_id.as_str()),
            Param::text(delivery.tenant.as_str()),
            Param::text(delivery.kind.as_str()),
            Param::text(delivery.endpoint_id.as_str()),
            Param::text(delivery.wire_format.as_str()),
            Param::text_opt(delivery.recipient.as_ref()),
            Param::time(delivery.created_at),
            Param::time_opt(delivery.expires_at),
            Param::text(origin_name(delivery.origin)),
        ];
        batch.push(
            fixed
                .into_iter()
                .chain(change_params(delivery))
                .chain([kept])
                .chain(first_attempt::params(first_attempt)),
        );
    }
    batch
}

pub(super) fn notification(row: &mut Reader) -> Result<Notification, StoreError> {
    let tenant = row.word(|text| TenantId::parse(text).ok())?;
    let id = row.word(|text| NotificationId::parse(text).ok())?;
    row.named(&id);
    Ok(Notification {
        id,
        tenant,
        kind: row.word(|text| NotificationType::parse(text).ok())?,
        target: row.word_opt(|text| EndpointId::parse(text).ok())?,
        payload: raw_json(row)?,
        recipient: raw_json_opt(row)?,
        overrides: raw_json_opt(row)?,
        accepted_at: row.time()?,
        deliver_at: row.time_opt()?,
        expires_at: row.time_opt()?,
        priority: row.word(parse_priority)?,
        origin: row.word(parse_origin)?,
        traceparent: row.text_opt()?,
        hops: Hops::new(row.count()?),
    })
}

/// Notifications to insert, each with its number of deliveries.
pub(super) fn notification_batch<'a>(
    notifications: impl Iterator<Item = (&'a Arc<Notification>, u32)>,
) -> Batch {
    let mut batch = Batch::new(NOTIFICATION);
    for (notification, fan_out) in notifications {
        batch.push([
            Param::text(notification.tenant.as_str()),
            Param::text(notification.id.as_str()),
            Param::text(notification.kind.as_str()),
            Param::text_opt(notification.target.as_ref().map(EndpointId::as_str)),
            Param::bytes(notification.payload.as_str()),
            Param::bytes_opt(notification.recipient.as_ref().map(RawJson::as_str)),
            Param::bytes_opt(notification.overrides.as_ref().map(RawJson::as_str)),
            Param::time(notification.accepted_at),
            Param::time_opt(notification.deliver_at),
            Param::time_opt(notification.expires_at),
            Param::text(priority_name(notification.priority)),
            Param::text(origin_name(notification.origin)),
            Param::text_opt(notification.traceparent.as_ref()),
            Param::count(notification.hops.get()),
            Param::count(fan_out),
        ]);
    }
    batch
}

pub(super) fn attempt(row: &mut Reader) -> Result<Attempt, StoreError> {
    let number = row.count()?;
    row.named(number);
    Ok(Attempt {
        number,
        round: row.count()?,
        started_at: row.time()?,
        duration: Duration::from_micros(row.total()?),
        phases: row.json()?,
        result: row.word(AttemptResult::parse)?,
        status_code: row.int_opt()?.and_then(|code| u16::try_from(code).ok()),
        error: attempt_error(row)?,
        response_body: row.text_opt()?,
        resolved_address: row.text_opt()?,
        request_headers: row.json()?,
        worker: row.text()?,
        console: row.text_opt()?,
    })
}

fn attempt_error(row: &mut Reader) -> Result<Option<AttemptError>, StoreError> {
    let code = row.text_opt()?;
    let text = row.text_opt()?;
    Ok(code.map(|code| AttemptError {
        code,
        text: text.unwrap_or_default(),
    }))
}

/// A batch of attempts to insert.
pub(super) fn attempt_batch<'a>(
    attempts: impl Iterator<Item = (&'a Delivery, &'a Attempt)>,
) -> Batch {
    let mut batch = Batch::new(ATTEMPT);
    for (delivery, attempt) in attempts {
        // No attempt started before its notification was accepted: the clock of this worker is
        // behind. By so much, and the attempt would never be shown.
        let behind = attempt.started_at < delivery.created_at.before(CLOCK_SLACK);
        let started_at = if behind {
            delivery.created_at
        } else {
            attempt.started_at
        };
        batch.push([
            Param::count(attempt.number),
            Param::count(attempt.round),
            Param::time(started_at),
            Param::int(i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX)),
            Param::json(&attempt.phases),
            Param::text(attempt.result.as_str()),
            Param::Int(attempt.status_code.map(i64::from)),
            Param::text_opt(attempt.error.as_ref().map(|error| &error.code)),
            Param::text_opt(attempt.error.as_ref().map(|error| &error.text)),
            Param::text_opt(attempt.response_body.as_ref()),
            Param::text_opt(attempt.resolved_address.as_ref()),
            Param::json(&attempt.request_headers),
            Param::text(&attempt.worker),
            Param::text_opt(attempt.console.as_ref()),
            Param::uuid(delivery.id.0),
        ]);
    }
    batch
}

/// Reads id, type, tenant, at, body.
pub(super) fn event(row: &mut Reader) -> Result<Event, StoreError> {
    let id = EventId(row.uuid()?);
    row.named(id);
    Ok(Event {
        id,
        kind: row.word(EventType::parse)?,
        tenant: row.word(|text| TenantId::parse(text).ok())?,
        at: row.time()?,
        body: raw_json(row)?,
    })
}

/// The final event of a delivery, unless it delivers an event itself.
pub(super) fn outcome_event(delivery: &Delivery, last_attempt: Option<&Attempt>) -> Option<Event> {
    match delivery.origin {
        Origin::Producer => Event::of_outcome(delivery, last_attempt),
        Origin::Event => None,
    }
}

fn raw_json(row: &mut Reader) -> Result<RawJson, StoreError> {
    raw_json_opt(row)?.ok_or_else(|| row.corrupt("JSON expected, NULL found"))
}

fn raw_json_opt(row: &mut Reader) -> Result<Option<RawJson>, StoreError> {
    let Some(bytes) = row.bytes_opt()? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| row.corrupt(error))?;
    RawJson::parse(text)
        .map(Some)
        .map_err(|error| row.corrupt(error))
}

pub(super) const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Producer => "producer",
        Origin::Event => "event",
    }
}

pub(super) fn parse_origin(name: &str) -> Option<Origin> {
    [Origin::Producer, Origin::Event]
        .into_iter()
        .find(|origin| origin_name(*origin) == name)
}

const fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Normal => "normal",
        Priority::High => "high",
    }
}

fn parse_priority(name: &str) -> Option<Priority> {
    [Priority::Normal, Priority::High]
        .into_iter()
        .find(|priority| priority_name(*priority) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_writes_the_columns_of_its_list() {
        let names: Vec<&str> = DELIVERY_CHANGES.iter().map(|(name, _)| *name).collect();
        assert_eq!((names[0], names[CHANGES]), ("status", "kept"));
        let set: String = names[..CHANGES]
            .iter()
            .map(|name| format!("{name} = u.{name}, "))
            .collect();
        assert_eq!(set, delivery_columns!(changes));
        let inserted: Vec<String> = ATTEMPT
            .iter()
            .map(|(name, _)| format!("u.{name}"))
            .collect();
        assert_eq!(inserted.join(", "), attempt_columns!(inserted));
    }
}
