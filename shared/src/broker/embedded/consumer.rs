//! A consumer of the embedded broker: one task that alone speaks to the store (takes messages,
//! removes what is acknowledged, says that it is alive), and [`Hands`], which it shares with
//! whoever uses it.

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
    #[default]
    Running,
    /// Takes nothing more; what was handed out may be acknowledged.
    Stopped,
    /// Holds no message, and is not registered in the store.
    Closed,
}

/// The messages that a consumer holds, and how far it is.
pub(super) struct Hands {
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

impl Hands {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases everything and waits until the store has it.
    pub(super) async fn close(&self) {
        self.reach(Phase::Closed).await;
    }

    async fn reach(&self, phase: Phase) {
        self.want(phase);
        let mut reached = self.reached.subscribe();
        let waiting = reached.wait_for(|reached| *reached >= phase);
        if tokio::time::timeout(CLOSE_DEADLINE, waiting).await.is_err() {
            tracing::warn!(
                "the store does not answer: other consumers get the messages in flight once this consumer's heartbeat is too old"
            );
        }
    }

    fn want(&self, phase: Phase) {
        let mut state = self.state();
        state.wanted = state.wanted.max(phase);
        drop(state);
        self.arrived.notify_one();
        self.work.notify_one();
    }

    fn answer(&self, tags: &[Tag], into: fn(&mut State) -> &mut BTreeSet<i64>) {
        let mut state = self.state();
        for tag in tags {
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
struct Users(Arc<Hands>);

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
        let hands = Arc::new(Hands {
            state: Mutex::default(),
            arrived: Notify::new(),
            work: Notify::new(),
            reached: watch::Sender::new(Phase::Running),
        });
        let task = Task {
            shared: Arc::clone(shared),
            hands: Arc::clone(&hands),
            prefetch: usize::from(prefetch.max(1)),
            id: None,
            beat_at: Instant::now(),
            in_doubt: false,
        };
        tokio::spawn(task.run(shared.published.subscribe()));
        Self {
            users: Arc::new(Users(hands)),
        }
    }

    pub(super) fn hands(&self) -> Weak<Hands> {
        Arc::downgrade(&self.users.0)
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next_batch(&mut self, max: usize) -> Option<Vec<Incoming>> {
        let hands = &self.users.0;
        loop {
            {
                let mut state = hands.state();
                if state.wanted > Phase::Running {
                    return None;
                }
                let count = state.inbox.len().min(max.max(1));
                if count > 0 {
                    let batch = state.inbox.drain(..count).collect();
                    drop(state);
                    hands.work.notify_one();
                    return Some(batch);
                }
            }
            hands.arrived.notified().await;
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
    hands: Arc<Hands>,
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
            let wanted = self.hands.state().wanted;
            if wanted == Phase::Closed {
                give_up_at.get_or_insert(Instant::now() + CLOSE_DEADLINE);
            }
            let pause = match self.step(wanted).await {
                Ok(pause) => {
                    reconnect.reset();
                    self.hands.reached.send_replace(wanted);
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
                () = self.hands.work.notified() => {}
                _ = published.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does what there is to do; returns how long to wait for more.
    async fn step(&mut self, wanted: Phase) -> Result<Duration, StoreError> {
        let id = self.beat().await?;
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
                self.hands.state().void();
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
            let now = store.server_time().await?;
            let dead = now.before(self.shared.options.dead_after);
            if store.queue_heartbeat(id, now, dead).await? == Heartbeat::Alive {
                self.beat_at = Instant::now() + self.shared.options.heartbeat;
                return Ok(id);
            }
            tracing::warn!(
                "this consumer's heartbeat was too old: other consumers got its messages"
            );
            self.hands.state().void();
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
        let acked = self.hands.state().acked.clone();
        self.shared.store.queue_ack(id, &acked).await?;
        self.hands.state().acked.retain(|row| !acked.contains(row));
        let requeued = self.hands.state().requeued.clone();
        self.shared.store.queue_release(id, &requeued, true).await?;
        self.hands
            .state()
            .requeued
            .retain(|row| !requeued.contains(row));
        Ok(())
    }

    /// Takes messages when the inbox is empty or half of the prefetch is free, so that each trip to
    /// the store is worth it.
    async fn take(&mut self, id: Uuid) -> Result<Duration, StoreError> {
        let room = {
            let state = self.hands.state();
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
        self.in_doubt = true;
        let taken = self
            .shared
            .store
            .queue_take(id, u32::try_from(room).unwrap_or(u32::MAX))
            .await?;
        self.in_doubt = false;
        let full = taken.len() == room;
        if !taken.is_empty() {
            self.hands.state().put(taken);
            self.hands.arrived.notify_one();
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
            let state = self.hands.state();
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
        let rows = self.hands.state().empty_inbox();
        let answer = self.shared.store.queue_release(id, &rows, false).await;
        if answer.is_err() {
            // Tried again as requeued ones.
            self.hands.state().requeued.extend(rows);
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
