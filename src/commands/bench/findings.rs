//! From the receiver's records to figures.

use std::collections::{BTreeMap, HashSet};

use super::load::{Load, histogram};
use super::plan::Plan;
use super::receiver::book::{Record, UNKNOWN};
use super::report::{Behind, Latency, Recovery, Run, Windows};
use crate::failure::Failure;

/// A window, in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// A part of the recovery, in nanoseconds.
const PART: u64 = SECOND / 10;
/// How many of them are counted.
const PARTS: usize = 100;

/// Fills in what the receiver saw. `records` are in the order of their arrival.
///
/// # Errors
/// Never in practice: histograms' bounds are constant.
pub(super) fn of_records(
    plan: &Plan,
    load: &Load,
    records: &[Record],
    run: &mut Run,
) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    let (mut first, mut last) = (None, 0);
    let (mut due, mut accepted) = (histogram()?, histogram()?);
    let mut delivered = 0;
    run.requests = records.len() as u64;
    let known = records
        .iter()
        .filter(|record| record.taken() && record.number != UNKNOWN)
        .filter(|record| !plan.is_sick(record.endpoint));
    for record in known {
        if !seen.insert((record.number, record.endpoint)) {
            run.duplicated += 1;
            continue;
        }
        let Some(shot) = load.shot(record.number) else {
            continue;
        };
        let Some(at) = load.accepted_at(record.number) else {
            continue;
        };
        delivered += 1;
        first.get_or_insert(record.at);
        last = record.at;
        // The same endpoints are compared in a control, where all are well.
        if record.endpoint < plan.healthy() && shot.at >= plan.measured_from() {
            let intended = load.started() + shot.at;
            due.saturating_record(record.at.saturating_sub(intended) / 1_000);
            accepted.saturating_record(record.at.saturating_sub(at) / 1_000);
        }
    }
    run.expected = load.expected(plan);
    run.delivered = delivered;
    run.lost = run.expected - delivered.min(run.expected);
    run.seconds = first.map_or(0.0, |first| (last - first) as f64 / 1e9);
    if run.seconds > 0.0 {
        run.deliveries_per_second = (delivered - 1) as f64 / run.seconds;
    }
    if plan.rate_per_second.is_some() {
        run.due_to_arrival = Latency::of(&due);
        run.accepted_to_arrival = Latency::of(&accepted);
        let by_then = records
            .iter()
            .filter(|record| record.at <= load.last_accepted() && record.taken());
        let arrived: HashSet<_> = by_then
            .filter(|record| !plan.is_sick(record.endpoint))
            .map(|record| (record.number, record.endpoint))
            .collect();
        run.behind_at_end = Some(run.expected.saturating_sub(arrived.len() as u64));
    }
    Ok(())
}

/// How full windows of a second were, for each endpoint.
pub(super) fn windows(records: &[Record], limit: u32) -> Windows {
    let mut of_endpoint: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for record in records {
        of_endpoint
            .entry(record.endpoint)
            .or_default()
            .push(record.at);
    }
    let (mut most, mut over, mut means) = (0, 0, Vec::new());
    for times in of_endpoint.values() {
        let mut begin = 0;
        for (end, at) in times.iter().enumerate() {
            while at - times[begin] >= SECOND {
                begin += 1;
            }
            let count = (end - begin + 1) as u64;
            most = most.max(count);
            over += u64::from(count > u64::from(limit));
        }
        let most_of_them = times.len().saturating_sub(1) * 95 / 100;
        if let (Some(first), Some(last)) = (times.first(), times.get(most_of_them))
            && last > first
        {
            means.push(most_of_them as f64 * 1e9 / (last - first) as f64);
        }
    }
    let start = records.first().map_or(0, |record| record.at);
    let mut per_second = Vec::new();
    for record in records {
        let second = ((record.at - start) / SECOND) as usize;
        per_second.resize(per_second.len().max(second + 1), 0);
        per_second[second] += 1;
    }
    Windows {
        most,
        mean_per_second: means.iter().sum::<f64>() / means.len().max(1) as f64,
        per_second,
        over_limit: over,
    }
}

/// When those behind a slow endpoint had theirs, counted from `started`, and how fast it was served
/// itself.
pub(super) fn behind(plan: &Plan, records: &[Record], started: u64) -> Option<Behind> {
    let (slow, others): (Vec<&Record>, Vec<&Record>) = records
        .iter()
        .partition(|record| plan.is_in_front(record.endpoint));
    let last = others.last()?.at;
    let rate = |of: &[&Record]| match of {
        [first, .., last] if last.at > first.at => {
            (of.len() - 1) as f64 * 1e9 / (last.at - first.at) as f64
        }
        _ => 0.0,
    };
    let meanwhile = slow.partition_point(|record| record.at <= last);
    Some(Behind {
        others_done_seconds: last.saturating_sub(started) as f64 / 1e9,
        slow_per_second: rate(&slow),
        slow_meanwhile_per_second: rate(&slow[..meanwhile]),
    })
}

/// What came after the receiver was up again.
pub(super) fn recovery(records: &[Record], up: u64) -> Recovery {
    let mut parts = vec![0; PARTS];
    let mut first = None;
    for record in records.iter().filter(|record| record.at >= up) {
        first.get_or_insert((record.at - up) as f64 / 1e6);
        if let Some(part) = parts.get_mut(((record.at - up) / PART) as usize) {
            *part += 1;
        }
    }
    Recovery {
        first_request_ms: first.unwrap_or(f64::NAN),
        requests_per_100_ms: parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn record(at: u64, endpoint: u32) -> Record {
        Record {
            at,
            id: Uuid::nil(),
            number: 0,
            endpoint,
            status: 200,
        }
    }

    #[test]
    fn every_window_counts_wherever_it_begins() {
        let at = |tenths: u64| record(tenths * PART, 0);
        let records = [at(0), at(9), at(10), at(18), at(40)];
        let windows = windows(&records, 2);
        // 9, 10 and 18 lie within a second; 0 and 10 do not.
        assert_eq!((windows.most, windows.over_limit), (3, 1));
        assert_eq!(windows.per_second, [2, 2, 0, 0, 1]);
        // Three more until the last but one, in 1.8 s.
        assert!((windows.mean_per_second - 3.0 / 1.8).abs() < 1e-9);
    }

    #[test]
    fn endpoints_have_windows_of_their_own() {
        let records = [record(0, 0), record(1, 1), record(2, 0)];
        assert_eq!(windows(&records, 2).most, 2);
    }

    #[test]
    fn recovery_begins_when_the_receiver_is_up() {
        let records = [record(5, 0), record(10 + PART, 0), record(11 + PART, 0)];
        let recovery = recovery(&records, 10);
        assert_eq!(recovery.requests_per_100_ms[..2], [0, 2]);
        assert!((recovery.first_request_ms - 100.0).abs() < 1e-9);
    }
}
