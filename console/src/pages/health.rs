//! How endpoints do: of several, the last hour; of one, the results and durations of a span.

use std::collections::HashMap;
use std::time::Duration;

use maud::{Markup, html};
use posthaste_producer::http::body::{EndpointStats, StatsView};
use posthaste_producer::http::operations::{EndpointStatsQuery, StatsQuery, endpoint_stats, stats};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_producer::http::{Api, Caller};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::view::EndpointView;

use crate::parts::chart::{self, duration, percent, success};
use crate::parts::query::Query;
use crate::parts::time::number;

/// The last hour of the endpoints that were called in it.
pub(crate) type OfHour = HashMap<EndpointId, EndpointStats>;

/// The most endpoints that the API gives the last hour of at once.
const AT_ONCE: usize = 100;

/// The last hour of these endpoints, of the first 100.
pub(super) async fn of_hour(
    api: &Api,
    caller: &Caller,
    endpoints: &[EndpointView],
) -> Result<OfHour, Problem> {
    if endpoints.is_empty() {
        return Ok(OfHour::new());
    }
    let ids: Vec<EndpointId> = endpoints
        .iter()
        .take(AT_ONCE)
        .map(|endpoint| endpoint.id.clone())
        .collect();
    let query = EndpointStatsQuery {
        limit: u32::try_from(ids.len()).ok(),
        endpoint_id: ids.into(),
        ..EndpointStatsQuery::default()
    };
    let found = endpoint_stats(api, caller, query).await?.items.into_iter();
    Ok(found.map(|one| (one.endpoint_id.clone(), one)).collect())
}

/// A span of the chart: its word in the address, how it is called, and its rows: how many, of how
/// many seconds.
struct Span(&'static str, &'static str, u64, u32);

const SPANS: [Span; 3] = [
    Span("1h", "the last hour", 60, 60),
    Span("24h", "the last 24 h", 48, 1_800),
    Span("30d", "the last 30 days", 60, 43_200),
];

fn span(query: &Query) -> Result<&'static Span, Problem> {
    let wanted = query.get("span").unwrap_or(SPANS[0].0);
    let found = SPANS.iter().find(|Span(word, ..)| *word == wanted);
    found.ok_or_else(|| Problem::field(Code::InvalidQuery, "span", "must be 1h, 24h or 30d"))
}

/// The results of an endpoint in the span that the address asks for.
///
/// # Errors
/// There is no such span; whatever the API refuses.
pub(super) async fn of_endpoint(
    api: &Api,
    caller: &Caller,
    endpoint: &EndpointId,
    query: &Query,
) -> Result<StatsView, Problem> {
    let Span(_, _, rows, step) = span(query)?;
    let back = Duration::from_secs((rows - 1) * u64::from(*step));
    let query = StatsQuery {
        endpoint_id: Some(endpoint.clone()),
        since: Some(api.now().before(back)),
        step: Some(*step),
        ..StatsQuery::default()
    };
    stats(api, caller, query).await
}

/// Results and durations, with the way to the other spans.
pub(super) fn section(path: &str, query: &Query, seen: &StatsView) -> Markup {
    let chosen = span(query).map_or(SPANS[0].0, |Span(word, ..)| word);
    let name = span(query).map_or(SPANS[0].1, |Span(_, name, ..)| name);
    let total = &seen.total;
    html! {
        div.headline {
            h2 #results { "Results, " (name) }
            ul.saved aria-label="Span" {
                @for Span(word, ..) in &SPANS {
                    @let to = query.without(&["notice"]).with("span", word);
                    li { a href={ (path) (to) "#results" }
                        aria-current=[(*word == chosen).then_some("true")] { (word) } }
                }
            }
        }
        @if total.attempts == 0 {
            p.muted { "It was not called in " (name) "." }
        } @else {
            p {
                b { (number(total.attempts)) } " attempts, of which " b { (success(total)) }
                " succeeded; " b { (percent(total.first_successes, total.first_tries)) }
                " of the deliveries at the first try. Half took up to "
                b { (duration(total.p50_ms)) } ", 99 of 100 up to " b { (duration(total.p99_ms)) }
                "."
            }
            div.charts {
                (chart::results("results", &seen.items, total))
                (chart::durations(&seen.items, total))
            }
        }
    }
}
