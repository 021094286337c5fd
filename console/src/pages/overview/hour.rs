//! The last hour on the overview: how much, how well and how fast, and where it went worst.

use maud::{Markup, html};
use posthaste_producer::http::body::{EndpointStats, InstallationView, StatsRow, StatsView};
use posthaste_producer::http::operations::{EndpointStatsQuery, endpoint_stats, endpoints};
use posthaste_producer::http::problem::Problem;
use posthaste_producer::http::{Api, Caller};
use posthaste_shared::domain::view::EndpointView;

use super::{PENDING, of_endpoint};
use crate::parts::chart::{duration, percent, shares, spark, success};
use crate::parts::chip;
use crate::parts::frame::Frame;
use crate::parts::query::segment;
use crate::parts::text::{address, cut, strange};
use crate::parts::time::number;

/// How many of the worst endpoints there are.
const WORST: u32 = 5;
/// The minutes that a rate is of: few enough to be of now, and enough not to jump.
const RATE_MINUTES: usize = 5;
/// How far the API counts what is parked.
const PARKED: u64 = 1_000;

/// The numbers on top. What waits is of the installation as a whole.
pub(super) fn tiles(hour: &StatsView, all: Option<&InstallationView>) -> Markup {
    // The minute that goes on would look like a collapse.
    let rows = &hour.items[..hour.items.len().saturating_sub(1)];
    let total = &hour.total;
    let of = |value: fn(&StatsRow) -> Option<f64>| rows.iter().map(value).collect::<Vec<_>>();
    let attempts = of(|row| Some(row.tally.attempts as f64));
    let delivered = of(|row| Some(row.tally.succeeded as f64));
    let first = of(|row| share(row.tally.first_successes, row.tally.first_tries));
    let slow = of(|row| row.tally.p99_ms);
    let first_try = percent(total.first_successes, total.first_tries);
    let latency = format!("{} / {}", duration(total.p50_ms), duration(total.p99_ms));
    html! {
        dl.tiles {
            (tile("Attempts", &rate(&attempts), &spark("Attempts a minute", &attempts)))
            (tile("Delivered", &rate(&delivered), &spark("Delivered a minute", &delivered)))
            (tile("At the first try", &first_try, &spark("Delivered at the first try", &first)))
            (tile("p50 / p99", &latency, &spark("p99 of each minute", &slow)))
            @if let Some(all) = all { (waiting(all)) }
        }
    }
}

fn tile(name: &str, value: &str, chart: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } dd { (chart) } } }
}

fn waiting(all: &InstallationView) -> Markup {
    let queue = all.work_queue.map_or_else(|| "unknown".to_owned(), number);
    let each = [
        ("in the queue", queue),
        ("due or in flight", number(all.ready)),
        ("scheduled", number(all.scheduled)),
        ("parked", number(all.parked)),
    ];
    html! {
        div.waiting {
            dt { a href=(PENDING) { "Waiting" } }
            @for (name, count) in each { dd { b { (count) } " " (name) } }
        }
    }
}

fn share(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| some as f64 / all as f64)
}

/// How many a second, by the last minutes; a minute where it is less than one a second.
fn rate(minutes: &[Option<f64>]) -> String {
    let last = &minutes[minutes.len().saturating_sub(RATE_MINUTES)..];
    // Not `sum`: that of nothing is -0.
    let sum = last.iter().flatten().fold(0.0, |sum, one| sum + one);
    let a_minute = sum / last.len().max(1) as f64;
    match a_minute / 60.0 {
        a_second if a_second >= 10.0 => format!("{} /s", number(a_second.round() as u64)),
        a_second if a_second >= 1.0 => format!("{a_second:.1} /s"),
        _ if a_minute >= 10.0 => format!("{a_minute:.0} /min"),
        _ => format!("{a_minute:.1} /min"),
    }
}

/// Why there is no chart.
pub(super) fn nothing_sent(frame: &Frame) -> Markup {
    html! {
        p.muted {
            @match &frame.tenant {
                Some(tenant) => { "Nothing was sent for the tenant " (strange(tenant)) },
                None => { "Nothing was sent" },
            }
            " in the last hour. What workers count is here within 10 s."
        }
    }
}

/// An endpoint at which attempts failed, and how it is now; unless it was deleted meanwhile.
pub(super) type Worst = (EndpointStats, Option<EndpointView>);

/// The endpoints with the most failures of the last hour.
pub(super) async fn worst(
    api: &Api,
    caller: &Caller,
    query: EndpointStatsQuery,
) -> Result<Vec<Worst>, Problem> {
    let query = EndpointStatsQuery {
        limit: Some(WORST),
        ..query
    };
    let found = endpoint_stats(api, caller, query).await?;
    let mut worst = Vec::new();
    let failed = |one: &EndpointStats| one.tally.attempts > one.tally.succeeded;
    for one in found.items.into_iter().filter(failed) {
        let endpoint = endpoints::show(api, caller, &one.endpoint_id).await.ok();
        worst.push((one, endpoint));
    }
    Ok(worst)
}

pub(super) fn worst_endpoints(frame: &Frame, worst: &[Worst]) -> Markup {
    html! {
        h2 { "Worst endpoints of the hour" }
        @if worst.is_empty() { p.muted { "No attempt failed in the last hour." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="Worst endpoints" {
                table.rows {
                    thead { tr {
                        th scope="col" { "State" }
                        th.wide scope="col" { "URL" }
                        th scope="col" { "Tenant" }
                        th.number scope="col" { "Success" }
                        th.number scope="col" { "p99" }
                        th.number scope="col" { "Parked" }
                        th scope="col" { "Results" }
                    } }
                    tbody { @for (stats, endpoint) in worst {
                        (row(frame, stats, endpoint.as_ref()))
                    } }
                }
            }
        }
    }
}

fn row(frame: &Frame, stats: &EndpointStats, endpoint: Option<&EndpointView>) -> Markup {
    let id = stats.endpoint_id.as_str();
    html! {
        tr id={ "w-" (segment(id)) } data-row {
            td data-label="State" {
                @match endpoint {
                    Some(endpoint) => (chip::endpoint(endpoint)),
                    None => (chip::chip("off", "⊘", "deleted")),
                }
            }
            td.wide data-label="URL" {
                a href=(of_endpoint(frame, id)) { (cut(address(&stats.url))) }
            }
            td data-label="Tenant" { (strange(stats.tenant.as_str())) }
            td.number data-label="Success" { (success(&stats.tally)) }
            td.number data-label="p99" { (duration(stats.tally.p99_ms)) }
            td.number data-label="Parked" { (parked(stats.parked)) }
            td data-label="Results" { (shares(&stats.recent)) }
        }
    }
}

/// How many deliveries are parked, as far as they were counted.
fn parked(count: u64) -> String {
    let more = if count >= PARKED { "+" } else { "" };
    format!("{}{more}", number(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_minutes_and_has_few_digits() {
        let minutes = |each: f64| vec![Some(each); 6];
        assert_eq!(rate(&minutes(24_720.0)), "412 /s");
        assert_eq!(rate(&minutes(90.0)), "1.5 /s");
        assert_eq!(rate(&minutes(12.0)), "12 /min");
        assert_eq!(rate(&minutes(0.2)), "0.2 /min");
        let mut stopped = minutes(600.0);
        stopped.extend([Some(0.0); 5]);
        assert_eq!(
            (rate(&stopped), rate(&[])),
            ("0.0 /min".to_owned(), "0.0 /min".to_owned())
        );
    }
}
