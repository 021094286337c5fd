//! `POST /v1/notifications/batch`: up to a thousand notifications, as a JSON array or as NDJSON.
//! Each is read and answered on its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use posthaste_shared::domain::notification::NotificationDraft;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http::auth::Enqueuer;
use crate::http::notifications::intake::{AcceptedView, Carried, Item, take_in};
use crate::http::notifications::{IdempotencyKey, idempotency_key};
use crate::http::problem::{Code, Problem, ProblemBody};
use crate::http::request::extract::BatchBytes;
use crate::http::request::json::{explain, parse};
use crate::http::state::Api;

/// Notifications, each read and answered on its own.
#[derive(utoipa::ToSchema)]
#[schema(max_items = 1_000)]
#[expect(dead_code, reason = "for the specification")]
pub(in crate::http) struct Batch(Vec<NotificationDraft>);

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BatchView {
    /// One result for each notification, in order.
    pub items: Vec<BatchItem>,
    /// How many notifications are accepted, including those that had been accepted before.
    pub accepted: usize,
    /// How many notifications were refused.
    pub rejected: usize,
}

/// The result for one notification of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum BatchItem {
    /// The notification is accepted.
    Accepted(AcceptedView),
    /// The notification was refused.
    Rejected {
        /// Why the notification was refused.
        error: ProblemBody,
    },
}

/// Enqueue up to 1,000 notifications
///
/// A JSON array, or one JSON object a line (`application/x-ndjson`). 202 with a result for each, in
/// order; a bad one does not stop the good ones. With an `Idempotency-Key` the whole batch can be
/// sent again safely.
#[utoipa::path(
    post, path = "/v1/notifications/batch", tag = "notifications", operation_id = "enqueue_batch",
    params(IdempotencyKey),
    request_body(content(
        (Batch = "application/json"),
        (NotificationDraft = "application/x-ndjson"),
    )),
    responses((
        status = 202,
        description = "A result for each notification, in order",
        body = BatchView,
    ))
)]
pub(in crate::http) async fn enqueue_batch(
    State(api): State<Arc<Api>>,
    Enqueuer(caller): Enqueuer,
    headers: http::HeaderMap,
    BatchBytes { body, ndjson }: BatchBytes,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let texts = split(&body, ndjson)?;
    // Refused as a whole: with a part taken in, sending a smaller batch again would enqueue that
    // part twice.
    if texts.len() > api.settings.max_batch {
        let detail = format!(
            "a batch may have at most {} notifications, this has {}",
            api.settings.max_batch,
            texts.len()
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let item = |(index, text): (usize, &[u8])| {
        let draft = read_item(text, api.settings.max_body_bytes)?;
        Ok(Item {
            draft,
            // By position: two equal items of a batch are two notifications, and must not share a
            // key.
            idempotency_key: key.as_ref().map(|key| format!("{key}/{index}")),
        })
    };
    let items = texts.into_iter().enumerate().map(item).collect();
    let results = take_in(&api, &caller, Carried::by(&headers), items).await;
    Ok(answer(results))
}

/// One item's text as a draft.
fn read_item(text: &[u8], max_bytes: usize) -> Result<NotificationDraft, Problem> {
    if text.len() > max_bytes {
        return Err(Problem::new(
            Code::TooLarge,
            format!("a notification may have at most {max_bytes} bytes"),
        ));
    }
    parse(text)
}

/// The texts of the items. A body that begins with an object is NDJSON, whatever it calls itself;
/// one that is an array is an array.
fn split(body: &[u8], ndjson: bool) -> Result<Vec<&[u8]>, Problem> {
    let lines = || {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty()).collect()
    };
    let first = body.trim_ascii_start().first();
    if first == Some(&b'{') || (ndjson && first != Some(&b'[')) {
        return Ok(lines());
    }
    // Items stay texts at first, so that one with a wrong member does not fail the array.
    match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(items) => Ok(items
            .into_iter()
            .map(|item| item.get().as_bytes())
            .collect()),
        // Lines, of which the first is wrong by itself.
        Err(_) if ndjson => Ok(lines()),
        Err(error) => Err(explain::<Vec<Box<RawValue>>>(body, &error)),
    }
}

/// 202 with a result for each; 503 when the broker or the store was away for all that could be
/// taken, 429 when the tenant was over its limit.
fn answer(results: Vec<Result<AcceptedView, Problem>>) -> Response {
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    let for_now =
        |problem: &&Problem| matches!(problem.code, Code::Unavailable | Code::BacklogLimit);
    let later = results
        .iter()
        .find_map(|result| result.as_ref().err().filter(for_now));
    // Clients retry a whole batch by its status; 202 would have them look into each item.
    if let (0, Some(problem)) = (accepted, later) {
        return problem.clone().into_response();
    }
    let rejected = results.len() - accepted;
    let item = |result| match result {
        Ok(view) => BatchItem::Accepted(view),
        Err(problem) => BatchItem::Rejected {
            error: Problem::body(&problem),
        },
    };
    let items = results.into_iter().map(item).collect();
    (
        StatusCode::ACCEPTED,
        Json(BatchView {
            items,
            accepted,
            rejected,
        }),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_arrays_and_lines() {
        assert_eq!(
            split(b" [ {\"a\":1} , 2 ]", false).unwrap(),
            [b"{\"a\":1}".as_slice(), b"2"]
        );
        assert_eq!(
            split(b"{\"a\":1}\r\n\n{\"a\":\n", true).unwrap(),
            [b"{\"a\":1}".as_slice(), b"{\"a\":"]
        );
        assert_eq!(split(b"{}\n{}", false).unwrap().len(), 2);
        assert!(split(b"", true).unwrap().is_empty());
        assert_eq!(split(b"", false).unwrap_err().code, Code::InvalidJson);
        assert_eq!(split(b"[1,]", false).unwrap_err().code, Code::InvalidJson);
        assert_eq!(split(b"7", false).unwrap_err().code, Code::Invalid);
    }

    #[test]
    fn a_store_or_broker_that_is_away_for_all_is_said_by_the_status() {
        let away = || Err(Problem::new(Code::Unavailable, "away"));
        let wrong = || Err(Problem::new(Code::Invalid, "wrong"));
        assert_eq!(
            answer(vec![away(), wrong()]).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        let full = || Err(Problem::new(Code::BacklogLimit, "full"));
        assert_eq!(
            answer(vec![wrong(), full()]).status(),
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(answer(vec![wrong()]).status(), StatusCode::ACCEPTED);
        assert_eq!(answer(vec![]).status(), StatusCode::ACCEPTED);
    }
}
