//! `/v1/stats` and `/v1/stats/endpoints`: how attempts went, from the roll-ups that workers keep.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use posthaste_shared::domain::attempt::AttemptResult;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::stats::{Step, Tally, start_of};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::several::Several;
use posthaste_shared::store::stats::{Share, StatsFilter};
use serde::Deserialize;

use crate::http::auth::Reader;
use crate::http::callers::Caller;
use crate::http::endpoints::name;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::Params;
use crate::http::state::Api;
use crate::http::tallies::{
    Answer, EndpointStats, EndpointStatsView, Question, ResultsView, ShareView, StatsRow,
    StatsView, TallyView,
};

/// The lengths of a row that can be asked for, in seconds.
const STEPS: [u32; 9] = [60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];
/// The length of a row when none was named.
const DEFAULT_STEP: u32 = 60;
/// How many rows come when no beginning was named.
const DEFAULT_ROWS: i64 = 60;
/// The most rows of an answer.
const MOST_ROWS: i64 = 1_500;
/// How far back roll-ups by the minute reach.
const MINUTES: Duration = Duration::from_secs(48 * 3_600);
/// What `/v1/stats/endpoints` looks at: this many rows of that many seconds.
const RECENT: (u32, u32) = (12, 300);
/// The most endpoints of an answer, and how many come when nothing was said.
const ENDPOINTS: u32 = 100;
const DEFAULT_ENDPOINTS: u32 = 20;
/// How far parked deliveries of an endpoint are counted.
const PARKED: u32 = 1_000;

/// Which attempts to count.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// The endpoint that was called, by id or uid. Default: all.
    pub endpoint_id: Option<EndpointId>,
    /// The tenant that owns the endpoints. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// Where to begin; the beginning of the row in which it lies counts. At most 1,500 rows ago,
    /// and with a `step` under 3600 at most 48 hours. Default: 60 rows.
    pub since: Option<Timestamp>,
    /// The length of a row in seconds: 60, 300, 900, 1800, 3600, 10800, 21600, 43200 or 86400; rows
    /// begin at whole multiples of it, UTC. Default 60.
    pub step: Option<u32>,
}

/// Count attempts by result, and how long they took
///
/// A key that is bound to a tenant counts that tenant's endpoints alone.
#[utoipa::path(
    get, path = "/v1/stats", tag = "operations", operation_id = "stats",
    params(StatsQuery),
    responses((status = 200, description = "How attempts went, row by row", body = StatsView))
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<StatsQuery>,
) -> Result<Json<StatsView>, Problem> {
    count(&api, &caller, query).await.map(Json)
}

/// Counts attempts by result, and how long they took.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the step or the beginning is wrong; the
/// store failed.
pub async fn count(api: &Api, caller: &Caller, query: StatsQuery) -> Result<StatsView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(query.tenant.as_ref())?;
    let rows = Rows::of(&query, api.clock.now())?;
    let named = query.endpoint_id.into();
    let named = name::ids(api, caller, tenant.as_ref(), named).await?;
    let filter = StatsFilter {
        endpoint: named.values().first().cloned(),
        tenant,
    };
    let question = Question::Series(filter.clone(), rows.since, rows.step);
    let ask = async {
        let span = (rows.since, rows.until);
        let counted = api.store.stats(&filter, span, (rows.of, rows.step)).await?;
        Ok::<_, Problem>(Answer::Series(rows.view(counted)))
    };
    match api.last_stats.answer(question, ask).await? {
        Answer::Series(view) => Ok(view),
        // A question has an answer of its own kind.
        Answer::Endpoints(_) => Err(Problem::internal()),
    }
}

/// Which rows are wanted.
struct Rows {
    since: Timestamp,
    until: Timestamp,
    step: u32,
    /// The roll-ups that they are made of.
    of: Step,
}

impl Rows {
    fn of(query: &StatsQuery, now: Timestamp) -> Result<Self, Problem> {
        let step = query.step.unwrap_or(DEFAULT_STEP);
        if !STEPS.contains(&step) {
            let steps = STEPS.map(|step| step.to_string()).join(", ");
            let rule = format!("must be one of {steps}");
            return Err(Problem::field(Code::InvalidQuery, "step", rule));
        }
        let length = i64::from(step) * 1_000_000;
        let last = start_of(now, step).as_micros();
        let since = match query.since {
            None => last - (DEFAULT_ROWS - 1) * length,
            Some(since) => start_of(since, step).as_micros(),
        };
        let wrong = |rule: String| Err(Problem::field(Code::InvalidQuery, "since", rule));
        if since > last {
            return wrong("must not lie in the future".to_owned());
        }
        if (last - since) / length >= MOST_ROWS {
            return wrong(format!(
                "must be at most {MOST_ROWS} rows of `step` seconds ago; take a larger `step`"
            ));
        }
        let of = if step < Step::Hour.seconds() {
            Step::Minute
        } else {
            Step::Hour
        };
        // The beginning of its row may be a little earlier.
        let oldest = start_of(now.before(MINUTES), step).as_micros();
        if of == Step::Minute && since < oldest {
            return wrong(
                "must be at most 48 hours ago with a `step` under 3600: minutes are kept for as \
                 long; take a `step` of 3600 or more"
                    .to_owned(),
            );
        }
        Ok(Self {
            since: Timestamp::from_micros(since),
            until: Timestamp::from_micros(last + length),
            step,
            of,
        })
    }

    fn view(&self, counted: Vec<(Timestamp, Tally)>) -> StatsView {
        let mut total = Tally::default();
        let mut counted = counted.into_iter().peekable();
        let mut items = Vec::new();
        let mut at = self.since;
        while at < self.until {
            let tally = counted
                .next_if(|(of, _)| *of == at)
                .map_or_else(Tally::default, |(_, tally)| tally);
            total.add(&tally);
            items.push(StatsRow {
                at,
                tally: view_of(&tally),
            });
            at = at.after(Duration::from_secs(u64::from(self.step)));
        }
        StatsView {
            since: self.since,
            step: self.step,
            total: view_of(&total),
            items,
        }
    }
}

/// Which endpoints to look at.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EndpointStatsQuery {
    /// These endpoints alone, by id or uid: one, or up to 100. Default: all.
    #[serde(default)]
    #[param(value_type = Vec<EndpointId>, required = false, style = Form, explode = false)]
    pub endpoint_id: Several<EndpointId>,
    /// The tenant that owns them. Default: the key's tenant, else every tenant.
    pub tenant: Option<TenantId>,
    /// The most endpoints, 1 to 100. Default 20.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

/// Show how the endpoints did in the last hour
///
/// The last 12 rows of 5 minutes, the one that goes on included. Those with the most failures come
/// first; endpoints that were not called are left out.
#[utoipa::path(
    get, path = "/v1/stats/endpoints", tag = "operations", operation_id = "endpoint_stats",
    params(EndpointStatsQuery),
    responses((
        status = 200,
        description = "How attempts at each endpoint went",
        body = EndpointStatsView,
    ))
)]
pub(super) async fn endpoints(
    State(api): State<Arc<Api>>,
    Reader(caller): Reader,
    Params(query): Params<EndpointStatsQuery>,
) -> Result<Json<EndpointStatsView>, Problem> {
    by_endpoint(&api, &caller, query).await.map(Json)
}

/// Shows how the endpoints did in the last hour.
///
/// # Errors
/// The caller may not read or is bound to another tenant; the limit is wrong; the store failed.
pub async fn by_endpoint(
    api: &Api,
    caller: &Caller,
    query: EndpointStatsQuery,
) -> Result<EndpointStatsView, Problem> {
    caller.must(Scope::Read)?;
    let tenant = caller.tenant(query.tenant.as_ref())?;
    let limit = query.limit.unwrap_or(DEFAULT_ENDPOINTS);
    if !(1..=ENDPOINTS).contains(&limit) {
        let rule = format!("must be 1 to {ENDPOINTS}");
        return Err(Problem::field(Code::InvalidQuery, "limit", rule));
    }
    let (rows, step) = RECENT;
    let before = Duration::from_secs(u64::from((rows - 1) * step));
    let since = start_of(api.clock.now(), step).before(before);
    let wanted = name::ids(api, caller, tenant.as_ref(), query.endpoint_id).await?;
    let named = wanted.values().to_vec();
    let question = Question::Endpoints(named, tenant.clone(), since, limit);
    let ask = async {
        let tenant = tenant.as_ref();
        let found = api
            .store
            .stats_of_endpoints(&wanted, tenant, since, limit)
            .await?;
        let ids: Vec<EndpointId> = found.iter().map(|one| one.endpoint.clone()).collect();
        let ids = ids.into();
        let shares = api.store.shares_of_endpoints(&ids, since, step);
        let mut shares = shares.await?;
        let parked = api.store.parked_of_endpoints(&ids, PARKED).await?;
        let items = found.into_iter().map(|one| EndpointStats {
            recent: recent(&shares.remove(&one.endpoint).unwrap_or_default(), since),
            parked: parked.get(&one.endpoint).copied().unwrap_or(0),
            endpoint_id: one.endpoint,
            tenant: one.tenant,
            url: one.url,
            tally: view_of(&one.tally),
        });
        Ok::<_, Problem>(Answer::Endpoints(EndpointStatsView {
            since,
            items: items.collect(),
        }))
    };
    match api.last_stats.answer(question, ask).await? {
        Answer::Endpoints(view) => Ok(view),
        Answer::Series(_) => Err(Problem::internal()),
    }
}

/// The rows of the last hour, with those that have no attempts.
fn recent(shares: &[Share], since: Timestamp) -> Vec<ShareView> {
    let (rows, step) = RECENT;
    (0..rows)
        .map(|row| {
            let at = since.after(Duration::from_secs(u64::from(row * step)));
            let share = shares.iter().find(|share| share.at == at);
            ShareView {
                at,
                attempts: share.map_or(0, |share| share.attempts),
                succeeded: share.map_or(0, |share| share.succeeded),
            }
        })
        .collect()
}

fn view_of(tally: &Tally) -> TallyView {
    // A tenth of a millisecond is more than the histogram knows.
    let rounded = |share| {
        let ms = tally.quantile_ms(share)?;
        Some((ms * 10.0).round() / 10.0)
    };
    TallyView {
        attempts: tally.attempts(),
        results: ResultsView {
            success: tally.of(AttemptResult::Success),
            redirect: tally.of(AttemptResult::Redirect),
            client_error: tally.of(AttemptResult::ClientError),
            server_error: tally.of(AttemptResult::ServerError),
            timeout: tally.of(AttemptResult::Timeout),
            network: tally.of(AttemptResult::Network),
            blocked: tally.of(AttemptResult::Blocked),
            script: tally.of(AttemptResult::Script),
        },
        succeeded: tally.succeeded(),
        first_tries: tally.first_tries(),
        first_successes: tally.first_successes(),
        p50_ms: rounded(0.5),
        p99_ms: rounded(0.99),
    }
}
