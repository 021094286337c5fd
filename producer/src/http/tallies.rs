//! Counts of attempts as the API shows them, and the last answers with them. Whoever asks the same
//! within 5 s gets the same answer, and two questions are asked at a time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::stats::StatsFilter;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(5);
/// The most answers that are kept.
const KEPT: usize = 64;
/// How many questions the store is asked at the same time.
const AT_ONCE: usize = 2;

/// How many attempts went how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TallyView {
    /// All attempts, whatever their result.
    pub attempts: u64,
    /// The same by result.
    pub results: ResultsView,
    /// The attempts with which a delivery was delivered. A `2xx` that the wire format does not take
    /// for a success is not among them.
    pub succeeded: u64,
    /// The attempts that were the first of their delivery.
    pub first_tries: u64,
    /// The first attempts with which their delivery was delivered.
    pub first_successes: u64,
    /// The milliseconds within which half of the attempts ended; null without attempts. From a
    /// histogram: right to within a factor of 1.6, at most 63,000. Attempts that were `blocked` are
    /// left out.
    pub p50_ms: Option<f64>,
    /// As `p50_ms`, for 99 of 100 attempts.
    pub p99_ms: Option<f64>,
}

/// How many attempts ended how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultsView {
    /// Answers with a status from 200 to 299.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// Redirects, which are never followed.
    #[serde(rename = "3xx")]
    pub redirect: u64,
    /// Answers with a status from 400 to 499.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// Answers with a status of 500 or more.
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// No complete answer in time.
    pub timeout: u64,
    /// DNS, connection or TLS failures.
    pub network: u64,
    /// Addresses that the egress policy forbids; nothing was sent.
    pub blocked: u64,
    /// Scripts that ran in the place of a request.
    pub script: u64,
}

/// How attempts went in a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatsRow {
    /// When the while began.
    pub at: Timestamp,
    /// The attempts that ended in it.
    #[serde(flatten)]
    pub tally: TallyView,
}

/// How attempts went, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatsView {
    /// When the first row begins.
    pub since: Timestamp,
    /// The length of a row in seconds.
    pub step: u32,
    /// The sum of all rows.
    pub total: TallyView,
    /// The rows, the earliest first, also those without attempts. The last is the one that goes on;
    /// what happened within the last 10 s may be missing in it.
    pub items: Vec<StatsRow>,
}

/// How attempts at an endpoint went in the last hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointStats {
    /// The id of the endpoint, `ep_…`.
    pub endpoint_id: EndpointId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Where requests to it go.
    pub url: String,
    /// The attempts of the last hour.
    #[serde(flatten)]
    pub tally: TallyView,
    /// Its deliveries that are parked, counted up to 1,000.
    pub parked: u64,
    /// The attempts in 12 rows of 5 minutes, the earliest first, also those without attempts.
    pub recent: Vec<ShareView>,
}

/// How many attempts succeeded in 5 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShareView {
    /// When the 5 minutes began.
    pub at: Timestamp,
    /// All attempts, whatever their result.
    pub attempts: u64,
    /// The attempts with which a delivery was delivered.
    pub succeeded: u64,
}

/// How attempts at endpoints went in the last hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointStatsView {
    /// When the hour began.
    pub since: Timestamp,
    /// The endpoints that were called, those with the most failures first.
    pub items: Vec<EndpointStats>,
}

/// The last answers. What is known is given at once; of what has to be asked, two questions at a
/// time, so looking takes two connections at the most, however many look.
pub(super) struct LastStats {
    answers: Mutex<HashMap<Question, (Instant, Answer)>>,
    turns: Semaphore,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Series(StatsFilter, Timestamp, u32),
    Endpoints(Vec<EndpointId>, Option<TenantId>, Timestamp, u32),
}

#[derive(Clone)]
pub(super) enum Answer {
    Series(StatsView),
    Endpoints(EndpointStatsView),
}

impl Default for LastStats {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl LastStats {
    /// The answer that is known, or the one of `ask`, which is kept then.
    pub(super) async fn answer<E>(
        &self,
        question: Question,
        ask: impl Future<Output = Result<Answer, E>>,
    ) -> Result<Answer, E> {
        if let Some(known) = self.known(&question) {
            return Ok(known);
        }
        // Nobody closes it: there is always a turn, in the order of coming.
        let _turn = self.turns.acquire().await;
        // Somebody who waited for the same may have had it by now.
        if let Some(known) = self.known(&question) {
            return Ok(known);
        }
        let answer = ask.await?;
        let mut answers = self.lock();
        answers.retain(|_, (at, _)| at.elapsed() < FRESH);
        if answers.len() < KEPT {
            answers.insert(question, (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }

    fn known(&self, question: &Question) -> Option<Answer> {
        let answers = self.lock();
        let (at, answer) = answers.get(question)?;
        (at.elapsed() < FRESH).then(|| answer.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, (Instant, Answer)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use super::*;

    fn question(row: u32) -> Question {
        Question::Series(StatsFilter::default(), Timestamp::from_micros(0), row)
    }

    fn answer() -> Answer {
        Answer::Endpoints(EndpointStatsView {
            since: Timestamp::from_micros(0),
            items: vec![],
        })
    }

    #[tokio::test]
    async fn what_is_known_waits_for_no_question() {
        let last = LastStats::default();
        let known = last.answer::<Infallible>(question(1), ready(Ok(answer())));
        assert!(known.await.is_ok());
        let stuck = || last.answer::<Infallible>(question(2), pending());
        let (mut one, mut two, mut three) =
            (Box::pin(stuck()), Box::pin(stuck()), Box::pin(stuck()));
        for asked in [&mut one, &mut two, &mut three] {
            assert!(futures::poll!(asked).is_pending());
        }
        assert_eq!(
            last.turns.available_permits(),
            0,
            "two are asked, one waits"
        );
        let again = last.answer::<Infallible>(question(1), pending());
        let again = tokio::time::timeout(Duration::from_secs(5), again).await;
        assert!(again.is_ok(), "it is known, and waited all the same");
    }
}
