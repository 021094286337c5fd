//! The same backlog, delivered by another program: the ceiling to compare with. Such a program is
//! started twice, with the settings of Posthaste's processes in its environment: `PROGRAM fill …`
//! puts the load on its queue, `PROGRAM drain …` delivers it and ends.

use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Progress;
use super::children::{command_of, end_of};
use super::findings;
use super::load::Load;
use super::meter::Meter;
use super::place::{Place, Servers};
use super::plan::{Plan, Program};
use super::remote::Receiver;
use super::report::Run;
use super::usage::Watched;
use crate::failure::Failure;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Makes one run of the other program.
///
/// # Errors
/// It failed or was not done in time, or `stopping` was cancelled.
pub(super) async fn run(
    plan: &Plan,
    program: &Program,
    servers: &Servers,
    progress: &Progress,
    stopping: &CancellationToken,
) -> Result<Run, Failure> {
    let place = Place::new(servers).await?;
    let done = tokio::select! {
        done = Box::pin(play(plan, program, servers, &place, progress)) => done,
        () = stopping.cancelled() => Err(Failure::interrupted("the bench was stopped")),
    };
    place.remove().await;
    done
}

async fn play(
    plan: &Plan,
    program: &Program,
    servers: &Servers,
    place: &Place,
    progress: &Progress,
) -> Result<Run, Failure> {
    progress.say("enqueueing");
    let mut receiver = Receiver::start(&plan.orders()).await?;
    let url = format!("http://{}/0", receiver.addresses.healthy);
    let mut meter = Meter::new();
    phase(plan, program, place, "fill", &url, &mut meter).await?;
    progress.say("delivering");
    let mut meter = Meter::new();
    meter.add(receiver.watched());
    for server in servers.watched() {
        meter.add(server);
    }
    let wal = place.wal_bytes().await;
    phase(plan, program, place, "drain", &url, &mut meter).await?;
    let mut run = Run {
        machine_cpu_percent: meter.machine_percent(),
        saturated: meter.saturated(),
        ..Run::default()
    };
    let wal_now = place.wal_bytes().await;
    let load = Load::new(plan, plan.shots(), Vec::new())?;
    load.take_as_accepted();
    let mut records = receiver.records(place.dir()).await?;
    // It has one endpoint, whatever it is called.
    for record in &mut records {
        if let Some(shot) = load.shot(record.number) {
            record.endpoint = shot.endpoint;
        }
    }
    run.accepted = plan.messages.into();
    findings::of_records(plan, &load, &records, &mut run)?;
    run.processes = meter.processes(run.delivered);
    if let (Some(before), Some(after)) = (wal, wal_now)
        && run.delivered > 0
    {
        run.wal_bytes_per_delivery =
            Some(after.saturating_sub(before) as f64 / run.delivered as f64);
    }
    Ok(run)
}

/// Runs one phase to its end.
async fn phase(
    plan: &Plan,
    program: &Program,
    place: &Place,
    phase: &str,
    url: &str,
    meter: &mut Meter,
) -> Result<(), Failure> {
    let (count, payload) = (plan.messages.to_string(), plan.payload_bytes.to_string());
    let mut arguments = vec![
        phase,
        "--count",
        &count,
        "--payload",
        &payload,
        "--url",
        url,
    ];
    arguments.extend(program.arguments.iter().map(String::as_str));
    let log = place.dir().join(format!("{phase}.log"));
    let file = std::fs::File::create(&log)?;
    let mut command = command_of(&program.path, &arguments);
    place.set_environment(&mut command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(file.try_clone()?))
        .stderr(Stdio::from(file))
        .spawn()?;
    let name = program.path.file_name().unwrap_or_default();
    meter.add_whole(Watched {
        name: name.to_string_lossy().into_owned(),
        pid: child.id().unwrap_or_default(),
        server: false,
    });
    let deadline = Instant::now() + plan.deadline;
    loop {
        meter.look();
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(Failure::new(format!(
                    "{} {phase} failed ({status}): {}",
                    program.path.display(),
                    end_of(&log)
                )))
            };
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "{} {phase} was not done in time; --deadline allows it more",
                program.path.display()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}
