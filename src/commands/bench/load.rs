//! The load: enqueueing through the HTTP API, by a schedule that does not wait for answers, or as
//! fast as answers come.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::calls::Caller;
use super::clock::{self, nanos};
use super::plan::{ALL, Chance, Plan, Shot};
use super::receiver::DIGITS;
use crate::failure::Failure;

/// The type of every notification.
pub(super) const KIND: &str = "bench.load";
/// Requests that are open at once, at the most, where there is a rate.
const OPEN: usize = 256;
/// Notifications that are due and wait for a request to end, at the most.
const WAITING: usize = 65_536;
/// Bytes of random text that payloads are cut from.
const TEXT: usize = 64 * 1024;
/// A request of a batch has no more bytes than this, roughly: half of the API's own limit.
const BATCH_BYTES: u32 = 4 * 1024 * 1024;
/// Notifications in a request of a backlog, at the most.
const BATCH: u32 = 500;
/// Requests of a backlog that are open at once.
const LANES: u32 = 4;

/// An endpoint as the API knows it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) tenant: String,
}

/// All notifications of a run, and when each was accepted.
pub(super) struct Load {
    shots: Vec<Shot>,
    targets: Vec<Target>,
    /// When each was accepted, by the bench's clock; 0: not.
    accepted: Vec<AtomicU64>,
    text: Vec<u8>,
    payload: usize,
    started: AtomicU64,
    tally: Mutex<Tally>,
}

/// What enqueueing came to.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Notifications that were refused, or whose request was not answered.
    pub(super) not_accepted: u64,
    /// What the first refusal said.
    pub(super) problem: Option<String>,
    /// How long requests took, in microseconds.
    pub(super) requests: Histogram<u64>,
    /// How late requests were sent, in microseconds.
    pub(super) late: Histogram<u64>,
}

#[derive(Deserialize)]
struct Answer {
    rejected: u64,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    error: Option<IgnoredAny>,
}

impl Load {
    /// The load of a plan for these endpoints. `shots`: what is enqueued.
    ///
    /// # Errors
    /// Never in practice: a histogram's bounds are constant.
    pub(super) fn new(
        plan: &Plan,
        shots: Vec<Shot>,
        targets: Vec<Target>,
    ) -> Result<Arc<Self>, Failure> {
        let mut chance = Chance::new(plan.seed);
        let payload = plan.payload_bytes as usize;
        let letters = b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
        // What repeats would be compressed by the store; real payloads hardly are.
        let text = (0..TEXT.max(payload) + payload)
            .map(|_| letters[(chance.next() % 64) as usize])
            .collect();
        let accepted = shots.iter().map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Self {
            shots,
            targets,
            accepted,
            text,
            payload,
            started: AtomicU64::new(0),
            tally: Mutex::new(Tally {
                not_accepted: 0,
                problem: None,
                requests: histogram()?,
                late: histogram()?,
            }),
        }))
    }

    /// The notification's place in the load.
    pub(super) fn shot(&self, number: u32) -> Option<Shot> {
        self.shots.get(number as usize).copied()
    }

    /// When the load began, by the bench's clock.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// When a notification was accepted, by the bench's clock.
    pub(super) fn accepted_at(&self, number: u32) -> Option<u64> {
        let at = self.accepted.get(number as usize)?.load(Ordering::Relaxed);
        (at > 0).then_some(at)
    }

    /// The notifications that were accepted.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (u32, Shot)> {
        (0..)
            .zip(&self.shots)
            .filter(move |(number, _)| self.accepted_at(*number).is_some())
            .map(|(number, shot)| (number, *shot))
    }

    /// Deliveries of healthy endpoints that the whole load makes.
    pub(super) fn planned(&self, plan: &Plan) -> u64 {
        let shots = self.shots.iter();
        shots.map(|shot| u64::from(plan.deliveries_of(*shot))).sum()
    }

    /// Deliveries of healthy endpoints that what was accepted makes.
    pub(super) fn expected(&self, plan: &Plan) -> u64 {
        self.accepted()
            .map(|(_, shot)| u64::from(plan.deliveries_of(shot)))
            .sum()
    }

    /// Everything counts as accepted: another program has put it on its queue.
    pub(super) fn take_as_accepted(&self) {
        for accepted in &self.accepted {
            accepted.store(1, Ordering::Relaxed);
        }
    }

    /// The last acceptance, by the bench's clock.
    pub(super) fn last_accepted(&self) -> u64 {
        let times = self.accepted.iter();
        times
            .map(|at| at.load(Ordering::Relaxed))
            .max()
            .unwrap_or(0)
    }

    /// What enqueueing came to.
    pub(super) fn tally(&self) -> Tally {
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Enqueues by the schedule, whatever the answers: one that is late does not delay the others.
    pub(super) async fn by_schedule(self: Arc<Self>, caller: Caller) {
        let (due, mut next) = mpsc::channel(WAITING);
        let pacer = Arc::clone(&self);
        // A thread of its own: tokio's timers are a millisecond coarse.
        let start = clock::now() + nanos(Duration::from_millis(50));
        self.started.store(start, Ordering::Relaxed);
        std::thread::spawn(move || {
            for (number, shot) in (0_u32..).zip(&pacer.shots) {
                let wait = (start + shot.at).saturating_sub(clock::now());
                std::thread::sleep(Duration::from_nanos(wait));
                // Nobody takes it any more: the bench was stopped.
                if due.blocking_send(number).is_err() {
                    return;
                }
            }
        });
        let open = Arc::new(Semaphore::new(OPEN));
        let mut sending = JoinSet::new();
        while let Some(number) = next.recv().await {
            let Ok(permit) = Arc::clone(&open).acquire_owned().await else {
                break;
            };
            let (load, caller) = (Arc::clone(&self), caller.clone());
            sending.spawn(async move {
                load.send(&caller, number, number + 1).await;
                drop(permit);
            });
            while sending.try_join_next().is_some() {}
        }
        while sending.join_next().await.is_some() {}
    }

    /// Enqueues everything as a backlog.
    pub(super) async fn all_at_once(self: Arc<Self>, caller: Caller) {
        let fit = BATCH_BYTES / (self.payload as u32 + 200);
        self.as_answered(caller, LANES, fit.clamp(1, BATCH), None)
            .await;
    }

    /// Enqueues `batch` at a time over `lanes` connections, each request after the answer to the
    /// one before, until everything is enqueued or the time is over.
    pub(super) async fn as_answered(
        self: Arc<Self>,
        caller: Caller,
        lanes: u32,
        batch: u32,
        time: Option<Duration>,
    ) {
        let next = Arc::new(AtomicU32::new(0));
        let count = u32::try_from(self.shots.len()).unwrap_or(u32::MAX);
        let start = clock::now();
        self.started.store(start, Ordering::Relaxed);
        let end = time.map_or(u64::MAX, |time| start + nanos(time));
        let mut sending = JoinSet::new();
        for _ in 0..lanes {
            let (load, caller, next) = (Arc::clone(&self), caller.clone(), Arc::clone(&next));
            sending.spawn(async move {
                while clock::now() < end {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    if first >= count {
                        return;
                    }
                    let last = first.saturating_add(batch).min(count);
                    load.send(&caller, first, last).await;
                }
            });
        }
        while sending.join_next().await.is_some() {}
    }

    /// Sends the notifications from `first` to before `last` in one request.
    async fn send(&self, caller: &Caller, first: u32, last: u32) {
        let single = last == first + 1;
        let mut body = Vec::with_capacity((self.payload + 200) * (last - first) as usize);
        if !single {
            body.push(b'[');
        }
        for number in first..last {
            if number > first {
                body.push(b',');
            }
            self.write(number, &mut body);
        }
        if !single {
            body.push(b']');
        }
        let path = if single {
            "/v1/notifications"
        } else {
            "/v1/notifications/batch"
        };
        let sent = clock::now();
        let answer = caller.call(Method::POST, path, Bytes::from(body)).await;
        let at = clock::now();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests.saturating_record((at - sent) / 1_000);
        let due = self.started() + self.shot(first).map_or(0, |shot| shot.at);
        tally
            .late
            .saturating_record(sent.saturating_sub(due) / 1_000);
        let mut refuse = |numbers: u64, problem: String| {
            tally.not_accepted += numbers;
            tally.problem.get_or_insert(problem);
        };
        let count = u64::from(last - first);
        match answer {
            Err(failure) => refuse(count, failure.message().to_owned()),
            Ok((StatusCode::ACCEPTED, _)) if single => self.accept(first, at),
            Ok((StatusCode::ACCEPTED, body)) => match serde_json::from_slice::<Answer>(&body) {
                Ok(answer) => {
                    for (number, item) in (first..last).zip(&answer.items) {
                        if item.error.is_none() {
                            self.accept(number, at);
                        }
                    }
                    if answer.rejected > 0 {
                        refuse(
                            answer.rejected,
                            String::from_utf8_lossy(&body).chars().take(300).collect(),
                        );
                    }
                }
                Err(error) => refuse(count, error.to_string()),
            },
            Ok((status, body)) => refuse(
                count,
                format!("{status}: {}", String::from_utf8_lossy(&body)),
            ),
        }
    }

    fn accept(&self, number: u32, at: u64) {
        if let Some(accepted) = self.accepted.get(number as usize) {
            accepted.store(at, Ordering::Relaxed);
        }
    }

    /// The notification as the API wants it.
    fn write(&self, number: u32, to: &mut Vec<u8>) {
        let endpoint = self.shot(number).map_or(ALL, |shot| shot.endpoint);
        to.extend_from_slice(br#"{"type":""#);
        to.extend_from_slice(KIND.as_bytes());
        let target = self.targets.get(endpoint as usize);
        if let Some(target) = target {
            to.extend_from_slice(br#"","endpoint_id":""#);
            to.extend_from_slice(target.id.as_bytes());
        }
        if let Some(target) = target.or(self.targets.first()) {
            to.extend_from_slice(br#"","tenant":""#);
            to.extend_from_slice(target.tenant.as_bytes());
        }
        to.extend_from_slice(br#"","payload":"#);
        let begin = to.len();
        to.extend_from_slice(format!(r#"{{"n":"{number:0DIGITS$}","x":""#).as_bytes());
        let rest = self.payload.saturating_sub(to.len() - begin + 2);
        let from = (number as usize).wrapping_mul(7_919) % (self.text.len() - self.payload);
        to.extend_from_slice(&self.text[from..from + rest]);
        to.extend_from_slice(br#""}}"#);
    }
}

/// A histogram of times in microseconds, up to an hour, to three digits.
pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 3_600_000_000, 3)?)
}

/// The name of a tenant of this bench.
pub(super) fn tenant(index: u32) -> String {
    format!("bench-{index}")
}
