//! A broker with the contract of RabbitMQ's quorum queues: a message is redelivered until it is
//! acknowledged; what a consumer holds goes back when its connection is lost; its tags are void
//! then.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_shared::broker::{
    Acker, Broker, BrokerError, Consumer, DeadLetter, DeadReason, Incoming, Message, Redriven, Tag,
};
use posthaste_shared::domain::event::Event;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::faults::Kind;
use crate::plan::Bug;
use crate::process::Process;
use crate::world::World;

/// How many messages are remembered that may come again.
const REMEMBERED: usize = 64;

/// The work queue of a run.
pub struct Queue {
    world: Arc<World>,
    state: Mutex<State>,
    /// Something can be taken that could not before.
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Stored>,
    connections: HashMap<u32, Connection>,
    /// Messages that were published, for coming again.
    seen: Vec<Message>,
}

struct Stored {
    message: Message,
    deliveries: u32,
}

struct Connection {
    epoch: u64,
    next: u64,
    unacked: BTreeMap<u64, Stored>,
    prefetch: usize,
    /// Not connected until then.
    back_at: Instant,
    /// Takes no more.
    stopped: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Whether nothing is on it, and nothing of it in anybody's hands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.ready.is_empty() && state.connections.values().all(|it| it.unacked.is_empty())
    }

    /// What is left, for people.
    #[must_use]
    pub fn left(&self) -> String {
        let state = self.state();
        let held: usize = state.connections.values().map(|it| it.unacked.len()).sum();
        format!("{} ready, {held} unacknowledged", state.ready.len())
    }

    /// A worker's connection is lost, and is back after `pause`.
    pub fn lose(&self, process: u32, pause: Duration) {
        let mut state = self.state();
        let Some(connection) = state.connections.get_mut(&process) else {
            return;
        };
        connection.epoch += 1;
        connection.next = 1;
        connection.back_at = Instant::now() + pause;
        let held = std::mem::take(&mut connection.unacked);
        self.put_back(&mut state, held.into_values());
        drop(state);
        self.changed.notify_waiters();
    }

    /// A process is gone for good.
    pub fn forget(&self, process: u32) {
        self.lose(process, Duration::ZERO);
        self.state().connections.remove(&process);
    }

    /// A message that was published before comes once more.
    pub fn duplicate(&self) {
        let faults = &self.world.faults;
        let mut state = self.state();
        let index = faults.draw(Kind::Duplicated, |dice| dice.index(state.seen.len()));
        let Some(message) = state.seen.get(index).cloned() else {
            return;
        };
        self.put(&mut state, message);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Publishes without faults.
    pub fn publish(&self, message: Message) {
        let mut state = self.state();
        if state.seen.len() < REMEMBERED {
            state.seen.push(message.clone());
        }
        self.put(&mut state, message);
        drop(state);
        self.changed.notify_waiters();
    }

    fn put(&self, state: &mut State, message: Message) {
        let place = self.place(state.ready.len(), state.ready.len());
        let deliveries = 0;
        state.ready.insert(
            place,
            Stored {
                message,
                deliveries,
            },
        );
    }

    /// What was not acknowledged goes back to where it came from: to the front, in its order.
    fn put_back(&self, state: &mut State, held: impl DoubleEndedIterator<Item = Stored>) {
        for stored in held.rev() {
            let place = self.place(state.ready.len(), 0);
            state.ready.insert(
                place,
                Stored {
                    deliveries: stored.deliveries + 1,
                    ..stored
                },
            );
        }
    }

    fn place(&self, length: usize, usual: usize) -> usize {
        if length > 0 && self.world.strikes(Kind::Reordered, "broker") {
            let faults = &self.world.faults;
            faults.draw(Kind::Reordered, |dice| dice.index(length + 1))
        } else {
            usual
        }
    }

    /// Hands messages out, as many as there are and the prefetch allows; or says from when on that
    /// can be.
    fn take(&self, process: &Process, max: usize) -> Result<Vec<Incoming>, Instant> {
        let mut state = self.state();
        let State {
            ready, connections, ..
        } = &mut *state;
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let Some(connection) = connections.get_mut(&process.id) else {
            return Err(far);
        };
        if now < connection.back_at {
            return Err(connection.back_at);
        }
        let room = connection.prefetch.saturating_sub(connection.unacked.len());
        let count = max.min(room).min(ready.len());
        if count == 0 || connection.stopped {
            return Err(far);
        }
        let epoch = connection.epoch;
        let handed: Vec<Incoming> = (ready.drain(..count))
            .map(|stored| {
                let number = connection.next;
                connection.next += 1;
                let incoming = Incoming {
                    message: stored.message.clone(),
                    tag: Tag { epoch, number },
                    delivery_count: stored.deliveries,
                };
                if self.world.options.planted != Some(Bug::AckBeforeCommit) {
                    connection.unacked.insert(number, stored);
                }
                incoming
            })
            .collect();
        for one in &handed {
            process.note(|| format!("takes {} ({})", shown(&one.message), one.tag.number));
        }
        Ok(handed)
    }

    fn settle(&self, process: &Process, tags: &[Tag], done: bool) {
        let mut state = self.state();
        let Some(connection) = state.connections.get_mut(&process.id) else {
            return;
        };
        let mut back = Vec::new();
        for tag in tags.iter().filter(|tag| tag.epoch == connection.epoch) {
            if let Some(stored) = connection.unacked.remove(&tag.number) {
                process.note(|| {
                    let done = if done { "acknowledges" } else { "requeues" };
                    format!("{done} {}", shown(&stored.message))
                });
                back.push(stored);
            }
        }
        if !done {
            self.put_back(&mut state, back.into_iter());
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message is called in traces.
fn shown(message: &Message) -> &str {
    message.id.as_deref().unwrap_or("a message without an id")
}

/// A process's client of the broker.
pub struct ProcessBroker {
    /// The queue.
    pub queue: Arc<Queue>,
    /// Whose client it is.
    pub process: Arc<Process>,
}

fn lost() -> BrokerError {
    BrokerError::Unavailable("the connection was lost".to_owned())
}

impl ProcessBroker {
    /// What may go wrong with a publish, around its effect.
    async fn publish_one(&self, what: &str, effect: impl FnOnce()) -> Result<(), BrokerError> {
        let process = &self.process;
        process.point("publish").await;
        let faults = &process.world.faults;
        if process.strikes(Kind::PublishDelayed) {
            let length = faults.draw(Kind::PublishDelayed, |dice| dice.millis(1..=3_000));
            tokio::time::sleep(length).await;
            process.point("publish").await;
        }
        if process.strikes(Kind::PublishRefused) {
            return Err(BrokerError::Refused("the queue is full".to_owned()));
        }
        if process.strikes(Kind::PublishFailed) {
            return Err(lost());
        }
        effect();
        process.note(|| format!("publishes {what}"));
        process.point("confirm").await;
        if process.strikes(Kind::ConfirmLost) {
            return Err(lost());
        }
        Ok(())
    }

    async fn question(&self) -> Result<(), BrokerError> {
        self.process.point("question").await;
        if self.process.strikes(Kind::BrokerMute) {
            return Err(lost());
        }
        Ok(())
    }
}

#[async_trait]
impl Broker for ProcessBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let each = messages.into_iter().map(|message| async move {
            let what = shown(&message).to_owned();
            self.publish_one(&what, || self.queue.publish(message))
                .await
        });
        futures::future::join_all(each).await
    }

    async fn publish_events(&self, events: &[Event]) -> Vec<Result<(), BrokerError>> {
        let each = events.iter().map(|event| async move {
            let kind = event.kind.as_str();
            let effect = || {
                let mut books = self.process.world.books();
                books.published.push((event.id, kind.to_owned()));
            };
            self.publish_one(kind, effect).await
        });
        futures::future::join_all(each).await
    }

    async fn consume(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.process.point("consume").await;
        let connection = Connection {
            epoch: 1,
            next: 1,
            unacked: BTreeMap::new(),
            prefetch: usize::from(prefetch),
            back_at: Instant::now(),
            stopped: false,
        };
        self.queue
            .state()
            .connections
            .insert(self.process.id, connection);
        Ok(Box::new(ProcessConsumer {
            queue: Arc::clone(&self.queue),
            process: Arc::clone(&self.process),
        }))
    }

    async fn dead_letter(
        &self,
        message: &Message,
        reason: DeadReason,
        _detail: &str,
    ) -> Result<(), BrokerError> {
        let effect = || {
            let mut books = self.process.world.books();
            books.dead.push((message.body.to_vec(), reason.as_str()));
        };
        self.publish_one(reason.as_str(), effect).await
    }

    async fn dead_letters(&self, _limit: u32) -> Result<Vec<DeadLetter>, BrokerError> {
        self.question().await.map(|()| Vec::new())
    }

    async fn redrive(&self, _ids: Option<&[String]>, _limit: u32) -> Result<Redriven, BrokerError> {
        Err(lost())
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.question().await
    }

    async fn depths(&self) -> Result<BTreeMap<&'static str, u64>, BrokerError> {
        self.question().await?;
        Ok(BTreeMap::from([(
            "work",
            self.queue.state().ready.len() as u64,
        )]))
    }

    async fn describe(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    async fn close(&self) {
        self.queue.forget(self.process.id);
    }
}

struct ProcessConsumer {
    queue: Arc<Queue>,
    process: Arc<Process>,
}

#[async_trait]
impl Consumer for ProcessConsumer {
    async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>> {
        loop {
            self.process.point("next batch").await;
            // Before looking, so that nothing that changes in between is missed.
            let changed = self.queue.changed.notified();
            match self.queue.take(&self.process, max) {
                Ok(batch) => return Some(batch),
                Err(until) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
        }
    }

    fn acker(&self) -> Arc<dyn Acker> {
        Arc::new(ProcessAcker {
            queue: Arc::clone(&self.queue),
            process: Arc::clone(&self.process),
        })
    }

    async fn stop(&mut self) {
        if let Some(connection) = self.queue.state().connections.get_mut(&self.process.id) {
            connection.stopped = true;
        }
    }
}

struct ProcessAcker {
    queue: Arc<Queue>,
    process: Arc<Process>,
}

impl ProcessAcker {
    async fn settle(&self, tags: Vec<Tag>, done: bool) {
        let process = &self.process;
        process.point("acknowledgement").await;
        let faults = &process.world.faults;
        if process.strikes(Kind::AckLost) {
            let pause = faults.draw(Kind::AckLost, |dice| dice.millis(10..=2_000));
            self.queue.lose(process.id, pause);
            return;
        }
        if process.strikes(Kind::AckDelayed) {
            let length = faults.draw(Kind::AckDelayed, |dice| dice.millis(1..=3_000));
            tokio::time::sleep(length).await;
            process.point("late acknowledgement").await;
        }
        self.queue.settle(process, &tags, done);
    }
}

#[async_trait]
impl Acker for ProcessAcker {
    async fn ack(&self, tags: Vec<Tag>) {
        self.settle(tags, true).await;
    }

    async fn requeue(&self, tags: Vec<Tag>) {
        self.settle(tags, false).await;
    }
}
