//! A consumer of the embedded broker: one task that alone speaks to the store (takes messages,
//! removes what is acknowledged, says that it is alive), and [`InFlight`], which it shares with
//! whoever uses it.
//!
//! The rules, in the order in which a step of the task follows them (the numbers are the defaults
//! of [`super::EmbeddedOptions`]):
//! 1. **Heartbeat.** The consumer has a row in `queue_consumers`. Every 2 s it writes the
//!    database's time there, and looks for others that wrote nothing for 15 s: their rows go, and
//!    their messages are requeued and counted as delivered once more. A consumer that finds its own
//!    row gone begins a new epoch under a new id. The tags from before are void then, since others
//!    may have those messages.
//! 2. **Answers** go before new messages. They are kept until the store has them, and sent again
//!    after an error.
//! 3. **Doubt.** When the store's answer to taking messages was lost, they may have been taken. The
//!    next step releases what the store has under this consumer's id and the consumer does not
//!    know, without counting it, as nobody has seen it.
//! 4. **Taking.** Only while it runs, and only when the inbox is empty or half of the prefetch is
//!    free, so that a query brings more than one message. Never more than the prefetch are out,
//!    with those in the inbox.
//! 5. **Waiting.** Then it sleeps until there is an answer to send, this process has published, or
//!    the time is up: 50 ms when the store had fewer messages than there was room for (other
//!    processes publish without telling), else until the next heartbeat.
//!
//! How it ends: [`Phase::Stopped`] (by `stop`) releases the inbox, and what was handed out can
//! still be acknowledged. [`Phase::Closed`] (the broker is closed, or the consumer and its last
//! acker are dropped) requeues everything and removes the row. Both wait up to 5 s for the store.
//! If the store is away, or the process dies, rule 1 of another consumer requeues the messages
//! after 15 s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::Shared;
use crate::backoff::Reconnect;
use crate::broker::{Acker, Consumer, Incoming, Tag};
use crate::store::StoreError;
use crate::store::queue::{Heartbeat, Taken};

/// How long stopping and closing wait for the store.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// How far a consumer is, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Phase {
    /// Takes messages, and hands them out.
    #[default]
    Running,
    /// Takes nothing more; what was handed out may be acknowledged.
    Stopped,
    /// Holds no message, and is not registered in the store.
    Closed,
}

/// The messages that a consumer holds, and how far it is.
pub(super) struct InFlight {
    state: Mutex<State>,
    /// There is something in the inbox, or the phase has changed.
    arrived: Notify,
    /// There is something for the task to do.
    work: Notify,
    /// How far the task is.
    reached: watch::Sender<Phase>,
}

#[derive(Default)]
struct State {
    wanted: Phase,
    /// Grows when others took this consumer for dead: tags from before are void.
    epoch: u64,
    last_number: u64,
    /// Taken and not handed out.
    inbox: VecDeque<Incoming>,
    /// Everything taken and not answered, inbox included: tag number and row.
    held: BTreeMap<u64, i64>,
    /// Answered; the store does not know yet.
    acked: BTreeSet<i64>,
    requeued: BTreeSet<i64>,
}

impl InFlight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases everything and waits until the store has it.
    pub(super) async fn close(&self) {
        self.reach(Phase::Closed).await;
    }

    async fn reach(&self, phase: Phase) {
        // Wanted before waiting: the task may reach the phase before this subscribes, and
        // `wait_for` looks at the current value first.
        self.want(phase);
        let mut reached = self.reached.subscribe();
        let waiting = reached.wait_for(|reached| *reached >= phase);
        if tokio::time::timeout(CLOSE_DEADLINE, waiting).await.is_err() {
            tracing::warn!(
                "the store does not answer: other consumers get the messages in flight once this \
                 consumer's heartbeat is too old"
            );
        }
    }

    fn want(&self, phase: Phase) {
        let mut state = self.state();
        // Phases only advance: a `stop` that comes after a `close` must not open the consumer
        // again.
        state.wanted = state.wanted.max(phase);
        drop(state);
        // Both sides: whoever waits for messages has to learn that none will come, and the task has
        // something to do.
        self.arrived.notify_one();
        self.work.notify_one();
    }

    fn answer(&self, tags: &[Tag], into: fn(&mut State) -> &mut BTreeSet<i64>) {
        let mut state = self.state();
        for tag in tags {
            // A tag of an earlier epoch is void: its message was requeued when this consumer was
            // taken for dead, and somebody else may hold it.
            if tag.epoch == state.epoch
                && let Some(row) = state.held.remove(&tag.number)
            {
                into(&mut state).insert(row);
            }
        }
        drop(state);
        self.work.notify_one();
    }
}

#[async_trait]
impl Acker for Users {
    async fn ack(&self, tags: Vec<Tag>) {
        self.0.answer(&tags, |state| &mut state.acked);
    }

    async fn requeue(&self, tags: Vec<Tag>) {
        self.0.answer(&tags, |state| &mut state.requeued);
    }
}

/// Held by the consumer and its ackers: once all are gone, nobody can answer, and everything goes
/// back.
struct Users(Arc<InFlight>);

impl Drop for Users {
    fn drop(&mut self) {
        self.0.want(Phase::Closed);
    }
}

/// Work that comes in from the store's queue.
pub(super) struct EmbeddedConsumer {
    users: Arc<Users>,
}

impl EmbeddedConsumer {
    pub(super) fn start(shared: &Arc<Shared>, prefetch: u16) -> Self {
        let in_flight = Arc::new(InFlight {
            state: Mutex::default(),
            arrived: Notify::new(),
            work: Notify::new(),
            reached: watch::Sender::new(Phase::Running),
        });
        let task = Task {
            shared: Arc::clone(shared),
            in_flight: Arc::clone(&in_flight),
            prefetch: usize::from(prefetch.max(1)),
            id: None,
            beat_at: Instant::now(),
            in_doubt: false,
        };
        tokio::spawn(task.run(shared.published.subscribe()));
        Self {
            users: Arc::new(Users(in_flight)),
        }
    }

    pub(super) fn in_flight(&self) -> Weak<InFlight> {
        Arc::downgrade(&self.users.0)
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>> {
        let in_flight = &self.users.0;
        loop {
            {
                let mut state = in_flight.state();
                // Before the inbox: what is in it goes back to the queue, and must not be handed
                // out as well.
                if state.wanted > Phase::Running {
                    return None;
                }
                let count = state.inbox.len().min(max.max(1));
                if count > 0 {
                    let batch = state.inbox.drain(..count).collect();
                    drop(state);
                    in_flight.work.notify_one();
                    return Some(batch);
                }
            }
            in_flight.arrived.notified().await;
        }
    }

    fn acker(&self) -> Arc<dyn Acker> {
        Arc::clone(&self.users) as Arc<dyn Acker>
    }

    async fn stop(&mut self) {
        self.users.0.reach(Phase::Stopped).await;
    }
}

struct Task {
    shared: Arc<Shared>,
    in_flight: Arc<InFlight>,
    prefetch: usize,
    /// The name under which the store knows this consumer; another after it was taken for dead.
    id: Option<Uuid>,
    /// When the next heartbeat is due.
    beat_at: Instant,
    /// Whether messages may have been taken without an answer that said so.
    in_doubt: bool,
}

impl Task {
    async fn run(mut self, mut published: watch::Receiver<u64>) {
        let mut reconnect = Reconnect::default();
        let mut give_up_at = None;
        loop {
            let wanted = self.in_flight.state().wanted;
            // From the first step on that closes: without a store, the task must not try for ever
            // while the process wants to end.
            if wanted == Phase::Closed {
                give_up_at.get_or_insert(Instant::now() + CLOSE_DEADLINE);
            }
            let pause = match self.step(wanted).await {
                Ok(pause) => {
                    reconnect.reset();
                    // The phase that this step was taken for, not the one that is wanted by now:
                    // `reach` must not return early.
                    self.in_flight.reached.send_replace(wanted);
                    if wanted == Phase::Closed {
                        return;
                    }
                    pause
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded queue cannot be reached; trying again");
                    if give_up_at.is_some_and(|at| Instant::now() >= at) {
                        return;
                    }
                    reconnect.next()
                }
            };
            tokio::select! {
                () = self.in_flight.work.notified() => {}
                _ = published.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does what there is to do; returns how long to wait for more.
    async fn step(&mut self, wanted: Phase) -> Result<Duration, StoreError> {
        let id = self.beat().await?;
        // Before messages are taken: acknowledgements make room, and those that fail are kept and
        // sent again by the next step.
        self.send_answers(id).await?;
        if self.in_doubt {
            self.release_lost(id).await?;
            self.in_doubt = false;
        }
        match wanted {
            Phase::Running => self.take(id).await,
            Phase::Stopped => {
                self.release_inbox(id).await?;
                Ok(self.shared.options.heartbeat)
            }
            Phase::Closed => {
                self.release_inbox(id).await?;
                self.shared.store.queue_leave(id).await?;
                self.in_flight.state().void();
                Ok(Duration::ZERO)
            }
        }
    }

    /// Registers, or says when it is time that this consumer is alive. The database's clock counts:
    /// the processes' own may differ.
    async fn beat(&mut self) -> Result<Uuid, StoreError> {
        let store = &self.shared.store;
        if let Some(id) = self.id {
            if Instant::now() < self.beat_at {
                return Ok(id);
            }
            // Read with each heartbeat: `dead` is compared with what other processes wrote by the
            // same clock.
            let now = store.server_time().await?;
            let dead = now.before(self.shared.options.dead_after);
            if store.queue_heartbeat(id, now, dead).await? == Heartbeat::Alive {
                self.beat_at = Instant::now() + self.shared.options.heartbeat;
                return Ok(id);
            }
            tracing::warn!(
                "this consumer's heartbeat was too old: other consumers got its messages"
            );
            self.in_flight.state().void();
            self.id = None;
        }
        let id = Uuid::new_v4();
        store.queue_join(id, store.server_time().await?).await?;
        self.id = Some(id);
        // Looks for dead consumers at once: often they are why this process was started.
        self.beat_at = Instant::now();
        Ok(id)
    }

    async fn send_answers(&self, id: Uuid) -> Result<(), StoreError> {
        // Copied, and removed only once the store has them: after an error they are sent again, and
        // acknowledging twice does no harm.
        let acked = self.in_flight.state().acked.clone();
        self.shared.store.queue_ack(id, &acked).await?;
        self.in_flight
            .state()
            .acked
            .retain(|row| !acked.contains(row));
        let requeued = self.in_flight.state().requeued.clone();
        self.shared.store.queue_release(id, &requeued, true).await?;
        self.in_flight
            .state()
            .requeued
            .retain(|row| !requeued.contains(row));
        Ok(())
    }

    /// Takes messages when the inbox is empty or half of the prefetch is free, so that each trip to
    /// the store is worth it.
    async fn take(&mut self, id: Uuid) -> Result<Duration, StoreError> {
        let room = {
            let state = self.in_flight.state();
            let room = self.prefetch.saturating_sub(state.held.len());
            if state.inbox.is_empty() || room >= self.prefetch.div_ceil(2) {
                room
            } else {
                0
            }
        };
        if room == 0 {
            return Ok(self.until_beat());
        }
        // Until the answer is there.
        // If the answer of the store is lost, the messages may be taken all the same. The next step
        // then releases what the store has in this name and this consumer does not know.
        self.in_doubt = true;
        let taken = self
            .shared
            .store
            .queue_take(id, u32::try_from(room).unwrap_or(u32::MAX))
            .await?;
        self.in_doubt = false;
        // A full answer means that there may be more, but also that there is no room: the next step
        // comes with an acknowledgement.
        let full = taken.len() == room;
        if !taken.is_empty() {
            self.in_flight.state().put(taken);
            self.in_flight.arrived.notify_one();
        }
        Ok(if full {
            self.until_beat()
        } else {
            self.shared.options.poll
        })
    }

    /// Releases what the store says that this consumer holds, and which it does not: nobody else
    /// would.
    async fn release_lost(&self, id: Uuid) -> Result<(), StoreError> {
        let mut lost = self.shared.store.queue_held_by(id).await?;
        {
            let state = self.in_flight.state();
            let known: BTreeSet<i64> = state.held.values().copied().collect();
            lost.retain(|row| {
                !known.contains(row) && !state.acked.contains(row) && !state.requeued.contains(row)
            });
        }
        self.shared.store.queue_release(id, &lost, false).await
    }

    fn until_beat(&self) -> Duration {
        self.beat_at.saturating_duration_since(Instant::now())
    }

    async fn release_inbox(&self, id: Uuid) -> Result<(), StoreError> {
        let rows = self.in_flight.state().empty_inbox();
        let answer = self.shared.store.queue_release(id, &rows, false).await;
        if answer.is_err() {
            // Tried again as requeued ones.
            self.in_flight.state().requeued.extend(rows);
        }
        answer
    }
}

impl State {
    fn put(&mut self, taken: Vec<Taken>) {
        for Taken {
            row,
            message,
            delivery_count,
        } in taken
        {
            self.last_number += 1;
            let tag = Tag {
                epoch: self.epoch,
                number: self.last_number,
            };
            self.held.insert(tag.number, row);
            self.inbox.push_back(Incoming {
                message,
                tag,
                delivery_count,
            });
        }
    }

    fn empty_inbox(&mut self) -> BTreeSet<i64> {
        let inbox = std::mem::take(&mut self.inbox);
        inbox
            .iter()
            .filter_map(|incoming| self.held.remove(&incoming.tag.number))
            .collect()
    }

    /// The consumer holds nothing any more.
    fn void(&mut self) {
        self.epoch += 1;
        self.inbox.clear();
        self.held.clear();
        self.acked.clear();
        self.requeued.clear();
    }
}
