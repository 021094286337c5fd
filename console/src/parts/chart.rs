//! Charts of attempts, as SVG that needs no script: columns by result, with the failures hatched as
//! well as coloured, and small ones within a line. The same numbers are in a table, or in the name.

use maud::{Markup, html};
use posthaste_producer::http::body::{ShareView, StatsRow, TallyView};

use crate::parts::time::{in_list, milliseconds, number};

/// The height of a chart, in pixels.
const HEIGHT: f64 = 120.0;
/// What a column takes of its place; the rest is the gap to the next.
const FILLED: f64 = 0.8;
/// The least height of what is not nothing, in pixels.
const LOWEST: f64 = 1.5;
/// The size of a chart within a line, in pixels.
const SPARK: (f64, f64) = (96.0, 20.0);

/// The results as the chart tells them apart: name of the class, what it says.
const PARTS: [(&str, &str); 3] = [
    ("good", "succeeded"),
    ("refused", "3xx, 4xx, refused"),
    ("failed", "5xx, time-out, network"),
];

/// Attempts in the order of [`PARTS`].
pub(crate) fn parts(tally: &TallyView) -> [u64; 3] {
    let of = &tally.results;
    let failed = of.server_error + of.timeout + of.network + of.blocked;
    let rest = tally.attempts.saturating_sub(tally.succeeded);
    [tally.succeeded, rest.saturating_sub(failed), failed]
}

/// The share of the attempts that succeeded; a dash without attempts.
pub(crate) fn success(tally: &TallyView) -> String {
    percent(tally.succeeded, tally.attempts)
}

/// A share in per cent, never rounded up to the whole.
pub(crate) fn percent(some: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    let share = some as f64 / all as f64 * 100.0;
    let rounded = (share * 10.0).floor() / 10.0;
    if some == all {
        "100 %".to_owned()
    } else {
        format!("{rounded:.1} %")
    }
}

/// Milliseconds, or a dash.
pub(crate) fn duration(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), milliseconds)
}

/// The results, a column for each row, with the table. `id` is the chart's own on the page.
pub(crate) fn results(id: &str, rows: &[StatsRow], total: &TallyView) -> Markup {
    let most = rows.iter().map(|row| row.tally.attempts).max().unwrap_or(0);
    let words: Vec<String> = std::iter::zip(PARTS, parts(total))
        .map(|((_, name), count)| format!("{} {name}", number(count)))
        .collect();
    let name = format!(
        "{} attempts: {}; a column has at most {}",
        number(total.attempts),
        words.join("; "),
        number(most)
    );
    html! {
        figure.chart {
            figcaption {
                @for (kind, name) in PARTS {
                    span { svg width="10" height="10" aria-hidden="true" {
                        (fill(id, kind, ("0", "10"), (0.0, 10.0)))
                    } " " (name) }
                }
                span.muted { "up to " (number(most)) }
            }
            svg role="img" aria-label=(name) width="100%" height=(HEIGHT) {
                defs { @for (kind, _) in &PARTS[1..] { (hatch(id, kind)) } }
                @for (index, row) in rows.iter().enumerate() {
                    (column(id, place(index, rows.len()), row, most))
                }
                line.base x1="0" x2="100%" y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
            }
            (scale(rows))
            (table(rows))
        }
    }
}

/// The durations, a column for each row: the light one up to p99, the dark one up to p50.
pub(crate) fn durations(rows: &[StatsRow], total: &TallyView) -> Markup {
    let slowest = rows.iter().filter_map(|row| row.tally.p99_ms);
    let slowest = slowest.fold(0.0, f64::max);
    let name = format!(
        "Half of the attempts took up to {}, 99 of 100 up to {}; at the worst time up to {}",
        duration(total.p50_ms),
        duration(total.p99_ms),
        milliseconds(slowest)
    );
    html! {
        figure.chart {
            figcaption {
                @for (kind, name) in [("p50", "half (p50)"), ("p99", "99 of 100 (p99)")] {
                    span { svg width="10" height="10" aria-hidden="true" {
                        (fill("", kind, ("0", "10"), (0.0, 10.0)))
                    } " " (name) }
                }
                span.muted { "up to " (milliseconds(slowest)) }
            }
            svg role="img" aria-label=(name) width="100%" height=(HEIGHT) {
                @for (index, row) in rows.iter().enumerate() {
                    @let (x, width) = place(index, rows.len());
                    @for (kind, ms) in [("p99", row.tally.p99_ms), ("p50", row.tally.p50_ms)] {
                        @if let Some(ms) = ms {
                            @let high = (ms / slowest * HEIGHT).max(LOWEST);
                            (fill("", kind, (&x, &width), (HEIGHT - high, high)))
                        }
                    }
                }
                line.base x1="0" x2="100%" y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
            }
            (scale(rows))
        }
    }
}

/// Where a column begins, and how wide it is: shares of the width, so that it fits any.
fn place(index: usize, of: usize) -> (String, String) {
    let one = 100.0 / of.max(1) as f64;
    (
        format!("{:.2}%", index as f64 * one),
        format!("{:.2}%", one * FILLED),
    )
}

fn column(id: &str, (x, width): (String, String), row: &StatsRow, most: u64) -> Markup {
    let mut floor = HEIGHT;
    let mut bars = Vec::new();
    for ((kind, _), count) in std::iter::zip(PARTS, parts(&row.tally)) {
        if count > 0 {
            let high = (count as f64 / most.max(1) as f64 * HEIGHT).max(LOWEST);
            floor -= high;
            bars.push((kind, floor, high));
        }
    }
    // What was made higher to be seen must not stand out at the top.
    let over = (-floor).max(0.0);
    html! {
        @for (kind, top, high) in bars {
            (fill(id, kind, (&x, &width), (top + over, high)))
        }
    }
}

/// A rectangle of a kind, hatched if that is a kind of failure. The pattern is named by the chart:
/// from a style sheet it would be looked for in there.
fn fill(id: &str, kind: &str, (x, width): (&str, &str), (top, high): (f64, f64)) -> Markup {
    let (y, height) = (format!("{top:.1}"), format!("{high:.1}"));
    html! {
        @if matches!(kind, "refused" | "failed") {
            rect fill=(format!("url(#{id}-{kind})")) x=(x) y=(y) width=(width) height=(height) {}
        } @else {
            rect class={ "fill-" (kind) } x=(x) y=(y) width=(width) height=(height) {}
        }
    }
}

fn hatch(id: &str, kind: &str) -> Markup {
    // Against each other, so that they differ without colour, too.
    let turned = if kind == "failed" {
        "rotate(45)"
    } else {
        "rotate(-45)"
    };
    html! {
        pattern id={ (id) "-" (kind) } width="5" height="5" patternUnits="userSpaceOnUse"
            patternTransform=(turned) {
            rect class={ "ground-" (kind) } width="5" height="5" {}
            rect class={ "fill-" (kind) } width="3" height="5" {}
        }
    }
}

/// When the first and the last column begin.
fn scale(rows: &[StatsRow]) -> Markup {
    html! {
        @if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            div.scale.muted { (in_list(first.at)) (in_list(last.at)) }
        }
    }
}

fn table(rows: &[StatsRow]) -> Markup {
    html! {
        details {
            summary { "As a table" }
            div.scroll tabindex="0" role="region" aria-label="Results as a table" {
                table {
                    thead { tr {
                        th scope="col" { "From" }
                        th.number scope="col" { "Attempts" }
                        @for (_, name) in PARTS { th.number scope="col" { (name) } }
                        th.number scope="col" { "p50" }
                        th.number scope="col" { "p99" }
                    } }
                    tbody {
                        @for row in rows.iter().rev().filter(|row| row.tally.attempts > 0) { tr {
                            td { (in_list(row.at)) }
                            td.number { (number(row.tally.attempts)) }
                            @for count in parts(&row.tally) { td.number { (number(count)) } }
                            td.number { (duration(row.tally.p50_ms)) }
                            td.number { (duration(row.tally.p99_ms)) }
                        } }
                    }
                }
                p.muted { "Times without an attempt are left out." }
            }
        }
    }
}

/// A small chart of columns within a line; what is `None` has none. `name` says what it shows.
pub(crate) fn spark(name: &str, values: &[Option<f64>]) -> Markup {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let (wide, high) = SPARK;
    let step = wide / values.len().max(1) as f64;
    let mut path = String::new();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let top = if most > 0.0 {
            high - (value / most * high).max(LOWEST)
        } else {
            high - LOWEST
        };
        let (x, width) = (index as f64 * step, step * FILLED);
        path.push_str(&format!("M{x:.1} {high}V{top:.1}h{width:.1}V{high}z"));
    }
    html! {
        svg.spark role="img" aria-label=(name) width=(wide) height=(high) {
            title { (name) }
            path.fill-spark d=(path) {}
        }
    }
}

/// The share of successes every 5 minutes: a full column is all of them. Times without an attempt
/// have none.
pub(crate) fn shares(recent: &[ShareView]) -> Markup {
    let values: Vec<Option<f64>> = recent
        .iter()
        .map(|row| (row.attempts > 0).then(|| row.succeeded as f64 / row.attempts as f64))
        .collect();
    let worst = values.iter().flatten().copied().fold(1.0, f64::min);
    let name = format!(
        "Success every 5 minutes of the last hour, at worst {:.0} %",
        worst * 100.0
    );
    let (wide, high) = SPARK;
    let step = wide / recent.len().max(1) as f64;
    let (mut good, mut bad) = (String::new(), String::new());
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let (x, width) = (index as f64 * step, step * FILLED);
        let top = (1.0 - value) * high;
        good.push_str(&format!("M{x:.1} {high}V{top:.1}h{width:.1}V{high}z"));
        bad.push_str(&format!("M{x:.1} {top:.1}V0h{width:.1}V{top:.1}z"));
    }
    html! {
        svg.spark role="img" aria-label=(name) width=(wide) height=(high) {
            title { (name) }
            path.fill-good d=(good) {}
            path.fill-failed d=(bad) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up_to_all() {
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(99_999, 100_000), "99.9 %");
        assert_eq!(percent(5, 5), "100 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }

    #[test]
    fn a_small_chart_has_no_column_where_there_is_no_value() {
        let drawn = spark("it", &[Some(2.0), None, Some(1.0), Some(0.0)]).into_string();
        assert_eq!(drawn.matches('M').count(), 3, "{drawn}");
        assert!(drawn.contains("V0.0h19.2"), "the highest fills it: {drawn}");
        assert!(spark("it", &[]).into_string().contains("d=\"\""));
    }
}
