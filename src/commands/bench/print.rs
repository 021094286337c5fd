//! The results for people.

use super::plan::{self, Plan};
use super::report::{Latency, Report, Run};
use crate::failure::Failure;
use crate::output::{Output, fixed, wrapped};

/// Prints everything that was found out.
pub(super) fn print(output: Output, report: &Report) -> Result<(), Failure> {
    output.line(format_args!(
        "{}, {} + {}, {} processors, {} build of {}",
        what(&report.plan),
        report.broker,
        report.store,
        report.machine.processors,
        report.build,
        report.version
    ))?;
    let compared = if report.plan.against.is_some() {
        "The other program's run"
    } else {
        "Control"
    };
    for (number, run) in report.controls.iter().enumerate() {
        output.line(format_args!("\n{compared} {}", number + 1))?;
        print_run(output, &report.plan, run)?;
    }
    for (number, run) in report.runs.iter().enumerate() {
        if report.runs.len() > 1 || !report.controls.is_empty() {
            output.line(format_args!("\nRun {}", number + 1))?;
        } else {
            output.line("")?;
        }
        print_run(output, &report.plan, run)?;
    }
    if report.runs.len() > 1 || !report.controls.is_empty() {
        output.line("\nAll runs")?;
        print_summary(output, report)?;
    }
    for warning in &report.warnings {
        output.line(format_args!("warning: {warning}"))?;
    }
    Ok(())
}

fn what(plan: &Plan) -> String {
    let rate = plan
        .rate_per_second
        .map(|rate| format!(" at {rate}/s"))
        .unwrap_or_default();
    let count = if plan.workers == 0 {
        format!("notifications for {:?}", plan.duration)
    } else {
        format!("{} notifications", plan.messages)
    };
    let sick = plan
        .sickness
        .map(|sickness| {
            use clap::ValueEnum as _;
            let kind = sickness.to_possible_value();
            format!(
                ", {} of them sick ({})",
                plan.sick,
                kind.as_ref().map_or("", |kind| kind.get_name())
            )
        })
        .unwrap_or_default();
    format!(
        "{}: {count} of {} bytes{rate}, endpoints: {}{sick}, workers: {}",
        plan::name(plan.scenario),
        plan.payload_bytes,
        plan.endpoints,
        plan.workers
    )
}

fn print_run(output: Output, plan: &Plan, run: &Run) -> Result<(), Failure> {
    let accepting = plan.workers == 0;
    let mut facts = Vec::new();
    if run.accepted_per_second > 0.0 {
        facts.push((
            "accepted",
            format!("{} ({:.0}/s)", run.accepted, run.accepted_per_second),
        ));
    }
    if run.not_accepted > 0 {
        let why = run.problem.as_deref().unwrap_or_default();
        facts.push(("not accepted", format!("{}: {why}", run.not_accepted)));
    }
    if !accepting {
        facts.extend([
            (
                "delivered",
                format!(
                    "{} of {} in {:.2} s: {:.0}/s",
                    run.delivered, run.expected, run.seconds, run.deliveries_per_second
                ),
            ),
            (
                "lost, duplicated",
                format!("{}, {}", run.lost, run.duplicated),
            ),
        ]);
    }
    // Another program says nothing of that.
    if run.rows > 0 {
        facts.push((
            "recorded",
            format!(
                "{} rows, {:.0} in a transaction, {} parked",
                run.rows, run.rows_per_transaction, run.parked
            ),
        ));
    }
    if let Some(bytes) = run.wal_bytes_per_delivery {
        facts.push(("WAL", format!("{bytes:.0} bytes for each delivery")));
    }
    if let Some(windows) = &run.windows {
        facts.push((
            "windows of 1 s",
            format!(
                "{} requests at the most, {:.1}/s on average, {} over the limit",
                windows.most, windows.mean_per_second, windows.over_limit
            ),
        ));
    }
    if let Some(recovery) = &run.recovery {
        let parts: Vec<String> = recovery.requests_per_100_ms[..30]
            .iter()
            .map(u64::to_string)
            .collect();
        facts.push((
            "after the outage",
            format!(
                "first request after {:.0} ms; in each 100 ms: {} …",
                recovery.first_request_ms,
                parts.join(" ")
            ),
        ));
    }
    if let Some(behind) = &run.behind {
        facts.push((
            "behind the slow one",
            format!(
                "the others had theirs after {:.2} s; the slow one {:.0}/s meanwhile, {:.0}/s in \
                 all",
                behind.others_done_seconds,
                behind.slow_meanwhile_per_second,
                behind.slow_per_second
            ),
        ));
    }
    facts.push(("machine", format!("{:.0} % busy", run.machine_cpu_percent)));
    facts.push(("at its limit", run.saturated.join("\n")));
    output.facts(&facts)?;
    print_latencies(output, run, accepting)?;
    output.line("")?;
    let each = if accepting {
        "cpu us/notification"
    } else {
        "cpu us/delivery"
    };
    let rows = run.processes.iter().map(|process| {
        vec![
            process.name.clone(),
            format!("{:.1}", process.cpu_us_each),
            format!("{:.2}", process.cpu_seconds),
            format!("{:.2}", process.cores),
            format!("{:.0}", process.max_memory_bytes as f64 / 1e6),
        ]
    });
    output.table(
        &[
            fixed("process"),
            fixed(each),
            fixed("cpu s"),
            fixed("cores"),
            fixed("max MB"),
        ],
        rows.collect(),
    )?;
    Ok(())
}

fn print_latencies(output: Output, run: &Run, accepting: bool) -> Result<(), Failure> {
    let request = if accepting { run.request } else { None };
    let latencies = [
        ("due to arrival", run.due_to_arrival),
        ("accepted to arrival", run.accepted_to_arrival),
        ("sent late by the bench", run.sent_late),
        ("request to answer", request),
    ];
    let rows: Vec<Vec<String>> = latencies
        .iter()
        .filter_map(|(name, latency)| Some(row(name, (*latency)?)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let columns = [
        wrapped("milliseconds"),
        fixed("p50"),
        fixed("p90"),
        fixed("p99"),
        fixed("p99.9"),
        fixed("max"),
        fixed("count"),
    ];
    Ok(output.table(&columns, rows)?)
}

fn row(name: &str, latency: Latency) -> Vec<String> {
    let times = [
        latency.p50_ms,
        latency.p90_ms,
        latency.p99_ms,
        latency.p999_ms,
        latency.max_ms,
    ];
    let mut row = vec![name.to_owned()];
    row.extend(times.iter().map(|time| format!("{time:.2}")));
    row.push(latency.count.to_string());
    row
}

fn print_summary(output: Output, report: &Report) -> Result<(), Failure> {
    let rows = report.summary.iter().map(|figure| {
        let optional = |value: Option<f64>, places: usize| {
            value.map_or_else(String::new, |value| format!("{value:.places$}"))
        };
        vec![
            figure.figure.clone(),
            format!("{:.2}", figure.min),
            format!("{:.2}", figure.median),
            format!("{:.2}", figure.max),
            optional(figure.control, 2),
            optional(figure.ratio, 3),
        ]
    });
    let columns = [
        wrapped("figure"),
        fixed("min"),
        fixed("median"),
        fixed("max"),
        fixed("control"),
        fixed("ratio"),
    ];
    Ok(output.table(&columns, rows.collect())?)
}
