//! The first attempt of a delivery that it finished: it is kept in the delivery's row.
//!
//! Nearly every delivery is finished by its first attempt. A row of its own, with its entry in an
//! index, would cost as much as the delivery's. Other attempts are rows of the table `attempts`.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::db::{Param, Reader, clean};
use crate::domain::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use crate::domain::delivery::{Delivery, Status};
use crate::domain::time::Timestamp;

/// Whether the attempt is kept in the row of its delivery, which is new with it.
pub(super) fn is_inside(delivery: &Delivery, attempt: &Attempt) -> bool {
    attempt.number == 1 && attempt.round == 1 && delivery.state.status() != Status::Pending
}

/// An attempt as it stands in the column `first_attempt`. Number and round are 1. The names are
/// short, for they are written with each.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    /// In microseconds since 1970.
    #[serde(rename = "at")]
    started_at: i64,
    #[serde(rename = "us")]
    duration_us: u64,
    phases: Phases,
    result: AttemptResult,
    #[serde(rename = "code", skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    error_code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_text: Option<Cow<'a, str>>,
    #[serde(rename = "body", skip_serializing_if = "Option::is_none")]
    response_body: Option<Cow<'a, str>>,
    #[serde(rename = "address", skip_serializing_if = "Option::is_none")]
    resolved_address: Option<Cow<'a, str>>,
    #[serde(rename = "headers")]
    request_headers: Cow<'a, [(String, String)]>,
    worker: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<Cow<'a, str>>,
}

/// The values of the columns `first_attempt` and `first_status_code`.
pub(super) fn params(attempt: Option<&Attempt>) -> [Param; 2] {
    let Some(attempt) = attempt else {
        return [Param::text_opt(None::<&str>), Param::Int(None)];
    };
    let stored = Stored {
        started_at: attempt.started_at.as_micros(),
        duration_us: u64::try_from(attempt.duration.as_micros()).unwrap_or(u64::MAX),
        phases: attempt.phases,
        result: attempt.result,
        status_code: attempt.status_code,
        error_code: attempt.error.as_ref().map(|error| clean(&error.code)),
        error_text: attempt.error.as_ref().map(|error| clean(&error.text)),
        response_body: attempt.response_body.as_deref().map(clean),
        resolved_address: attempt.resolved_address.as_deref().map(clean),
        request_headers: Cow::Borrowed(&attempt.request_headers),
        worker: clean(&attempt.worker),
        console: attempt.console.as_deref().map(clean),
    };
    let code = attempt.status_code.map(i64::from);
    [Param::json(&stored), Param::Int(code)]
}

/// Reads the column `first_attempt`.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(super) fn read(row: &mut Reader) -> Result<Option<Attempt>, StoreError> {
    let Some(text) = row.text_opt()? else {
        return Ok(None);
    };
    let stored: Stored = serde_json::from_str(&text).map_err(|error| row.corrupt(error))?;
    let owned = |text: Option<Cow<str>>| text.map(Cow::into_owned);
    Ok(Some(Attempt {
        number: 1,
        round: 1,
        started_at: Timestamp::from_micros(stored.started_at),
        duration: Duration::from_micros(stored.duration_us),
        phases: stored.phases,
        result: stored.result,
        status_code: stored.status_code,
        error: stored.error_code.map(|code| AttemptError {
            code: code.into_owned(),
            text: owned(stored.error_text).unwrap_or_default(),
        }),
        response_body: owned(stored.response_body),
        resolved_address: owned(stored.resolved_address),
        request_headers: stored.request_headers.into_owned(),
        worker: stored.worker.into_owned(),
        console: owned(stored.console),
    }))
}
