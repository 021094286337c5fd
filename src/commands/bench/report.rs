//! What a bench found out, as it is written as JSON.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use super::plan::Plan;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// `debug` or `release`: figures of the former mean nothing.
    pub(super) build: &'static str,
    pub(super) store: &'static str,
    pub(super) broker: &'static str,
    pub(super) machine: Machine,
    pub(super) plan: Plan,
    pub(super) runs: Vec<Run>,
    /// What the runs are compared with: the first with the first run, and so on. With everything
    /// well, or of another program.
    pub(super) controls: Vec<Run>,
    /// Over all runs.
    pub(super) summary: Vec<Summary>,
    pub(super) warnings: Vec<String>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processors: usize,
    pub(super) kernel: String,
}

/// A figure over all runs.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) figure: String,
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
    /// The median of the controls.
    pub(super) control: Option<f64>,
    /// Median against median of the controls.
    pub(super) ratio: Option<f64>,
}

/// One run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Run {
    pub(super) accepted: u64,
    pub(super) not_accepted: u64,
    /// What the first refusal said.
    pub(super) problem: Option<String>,
    pub(super) accepted_per_second: f64,
    /// Deliveries of healthy endpoints: how many there have to be, and how many arrived.
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    /// Requests that a healthy endpoint had taken before.
    pub(super) duplicated: u64,
    /// Requests of all kinds at the receiver.
    pub(super) requests: u64,
    /// From the first delivery to the last.
    pub(super) seconds: f64,
    pub(super) deliveries_per_second: f64,
    /// Enqueueing: how long requests took.
    pub(super) request: Option<Latency>,
    /// From when a notification was due to its arrival, at healthy endpoints. Where there is a
    /// rate.
    pub(super) due_to_arrival: Option<Latency>,
    /// The same from the API's answer on; 0 where it arrived before the answer did.
    pub(super) accepted_to_arrival: Option<Latency>,
    /// How late the bench itself was in sending.
    pub(super) sent_late: Option<Latency>,
    pub(super) processes: Vec<Process>,
    /// How busy all processors of the machine were, with all that runs there.
    pub(super) machine_cpu_percent: f64,
    /// Rows of results that workers recorded, and how many there were in a transaction.
    pub(super) rows: u64,
    pub(super) rows_per_transaction: f64,
    /// Rows that recorded no attempt: parked, nearly always.
    pub(super) parked: u64,
    /// What the database server wrote to its log meanwhile, for whomever.
    pub(super) wal_bytes_per_delivery: Option<f64>,
    /// Deliveries that had arrived when the last notification was accepted were so many fewer than
    /// accepted. Where there is a rate.
    pub(super) behind_at_end: Option<u64>,
    pub(super) windows: Option<Windows>,
    pub(super) recovery: Option<Recovery>,
    pub(super) behind: Option<Behind>,
    /// The books of `posthaste reconcile` at the end.
    pub(super) accounting: Value,
    /// What was at its limit.
    pub(super) saturated: Vec<String>,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

/// What a process used.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) cpu_seconds: f64,
    /// For each delivery, or each notification where nothing is delivered.
    pub(super) cpu_us_each: f64,
    /// Processors that it kept busy, on average.
    pub(super) cores: f64,
    pub(super) max_memory_bytes: u64,
}

/// Requests of an endpoint in each window of a second, wherever it begins.
#[derive(Debug, Serialize)]
pub(super) struct Windows {
    /// In the fullest window, of all endpoints.
    pub(super) most: u64,
    /// Of each endpoint, from its first request until 95 % of them had come: the last ones may have
    /// to wait for the leases of a killed worker.
    pub(super) mean_per_second: f64,
    /// Requests of all endpoints in each second after the first request.
    pub(super) per_second: Vec<u64>,
    /// How many windows had more than the limit.
    pub(super) over_limit: u64,
}

/// What came when the receiver was up again.
#[derive(Debug, Serialize)]
pub(super) struct Recovery {
    /// When the first request came, in milliseconds after the receiver was up.
    pub(super) first_request_ms: f64,
    /// Requests in each 100 ms after that the receiver was up, for 10 s.
    pub(super) requests_per_100_ms: Vec<u64>,
}

/// A slow endpoint, and those behind it in the queue.
#[derive(Debug, Serialize)]
pub(super) struct Behind {
    /// When the last of those behind it had arrived, in seconds from when the workers were started.
    pub(super) others_done_seconds: f64,
    /// Requests of the slow one in each second, from its first to its last.
    pub(super) slow_per_second: f64,
    /// The same until those behind it were done.
    pub(super) slow_meanwhile_per_second: f64,
}

impl Latency {
    /// Of a histogram in microseconds; `None` when it is empty.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1e3,
        })
    }
}

/// The figures that are compared over runs.
pub(super) fn summarise(runs: &[Run], controls: &[Run]) -> Vec<Summary> {
    type Figure = fn(&Run) -> Option<f64>;
    let figures: [(&str, Figure); 12] = [
        ("deliveries/s", |run| {
            (run.delivered > 0).then_some(run.deliveries_per_second)
        }),
        ("accepted/s", |run| Some(run.accepted_per_second)),
        ("due to arrival p50 ms", |run| {
            run.due_to_arrival.map(|time| time.p50_ms)
        }),
        ("due to arrival p99 ms", |run| {
            run.due_to_arrival.map(|time| time.p99_ms)
        }),
        ("accepted to arrival p50 ms", |run| {
            run.accepted_to_arrival.map(|time| time.p50_ms)
        }),
        ("accepted to arrival p99 ms", |run| {
            run.accepted_to_arrival.map(|time| time.p99_ms)
        }),
        ("others behind done s", |run| {
            run.behind.as_ref().map(|behind| behind.others_done_seconds)
        }),
        ("slow one in front /s", |run| {
            run.behind.as_ref().map(|behind| behind.slow_per_second)
        }),
        ("slow one meanwhile /s", |run| {
            let behind = run.behind.as_ref();
            behind.map(|behind| behind.slow_meanwhile_per_second)
        }),
        ("CPU us each, what delivers", |run| {
            Some(cpu_each(run, |name| !is_other(name)))
        }),
        ("CPU us each, postgres", |run| {
            Some(cpu_each(run, |name| name == "postgres"))
        }),
        ("CPU us each, rabbitmq", |run| {
            Some(cpu_each(run, |name| name == "rabbitmq"))
        }),
    ];
    let of = |figure: Figure, runs: &[Run]| {
        let mut values: Vec<f64> = runs.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let summaries = figures.into_iter().filter_map(|(name, figure)| {
        let values = of(figure, runs);
        let median = median(&values)?;
        let control = self::median(&of(figure, controls)).filter(|one| *one > 0.0);
        (median > 0.0).then(|| Summary {
            figure: name.to_owned(),
            min: values.first().copied().unwrap_or(median),
            median,
            max: values.last().copied().unwrap_or(median),
            control,
            ratio: control.map(|one| median / one),
        })
    });
    summaries.collect()
}

/// Whether a process does not deliver.
fn is_other(name: &str) -> bool {
    matches!(name, "api" | "postgres" | "rabbitmq" | "receiver")
}

fn cpu_each(run: &Run, counts: impl Fn(&str) -> bool) -> f64 {
    run.processes
        .iter()
        .filter(|process| counts(&process.name))
        .map(|process| process.cpu_us_each)
        .sum()
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted
        .get(middle - 1)
        .map(|lower| f64::midpoint(*lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_compared_by_their_medians() {
        let run = |rate: f64| Run {
            delivered: 1,
            deliveries_per_second: rate,
            ..Run::default()
        };
        let runs = [run(30.0), run(10.0), run(20.0)];
        let controls = [run(40.0), run(60.0)];
        let summary = summarise(&runs, &controls);
        let rate = &summary[0];
        assert_eq!(rate.figure, "deliveries/s");
        assert_eq!(
            (rate.min, rate.median, rate.max, rate.control, rate.ratio),
            (10.0, 20.0, 30.0, Some(50.0), Some(0.4))
        );
        assert_eq!(summary.len(), 1, "what is zero or missing is left out");
    }
}
