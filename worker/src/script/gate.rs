//! A bounded number of places that tenants share fairly.
//!
//! Two rules keep one tenant from the others' places. A tenant that holds places already gets
//! another only while it holds fewer than half as many as are free, so that some stay free for
//! whoever comes next, however many a single tenant asks for; one that holds none gets any that is
//! free. And the lines are one for each tenant, served in turn, so that a long line delays nobody
//! but its own tenant.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_shared::domain::id::TenantId;
use tokio::sync::oneshot;

/// How much a gate lets through and keeps waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Places that can be held at once, by all tenants together; at least 1.
    pub(super) places: usize,
    /// How many may wait for a place, of all tenants together.
    pub(super) waiting: usize,
    /// How many of one tenant may wait for a place.
    pub(super) waiting_each: usize,
}

/// The line is as long as it may be: nobody else can wait now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Where somebody stands in the line of its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// At its end, if that is not too far.
    Comes,
    /// Before all others of its tenant, however long the line is.
    Returns,
}

/// The places; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    held: HashMap<TenantId, usize>,
    lines: HashMap<TenantId, VecDeque<Waiter>>,
    /// The tenants that have a line, the next to be served first.
    order: VecDeque<TenantId>,
    waiting: usize,
    last_number: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    turn: oneshot::Sender<Place>,
}

/// A place that is held; the next in line gets it when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    tenant: TenantId,
}

/// Somebody in a line, who leaves it when this is dropped.
struct InLine<'a> {
    gate: &'a Gate,
    tenant: &'a TenantId,
    number: u64,
}

impl Gate {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            bounds,
            state: Mutex::default(),
        }))
    }

    /// Waits for a place, for as long as the caller likes.
    ///
    /// # Errors
    /// At once, when the line is full.
    pub(super) async fn place(&self, tenant: &TenantId) -> Result<Place, Full> {
        self.wait(tenant, Standing::Comes).await
    }

    /// Waits for a place before all others of its tenant, however long the line is: for work that
    /// has begun, and gave its place away while it had no use for it.
    ///
    /// # Errors
    /// Never while the gate is there.
    pub(super) async fn place_again(&self, tenant: &TenantId) -> Result<Place, Full> {
        self.wait(tenant, Standing::Returns).await
    }

    async fn wait(&self, tenant: &TenantId, standing: Standing) -> Result<Place, Full> {
        let (number, turn) = self.stand_in_line(tenant, standing)?;
        // Leaves the line when the caller drops this future, as a deadline does.
        let in_line = InLine {
            gate: self,
            tenant,
            number,
        };
        self.serve();
        let place = turn.await;
        drop(in_line);
        // The sender is dropped by leaving the line alone, which happens after this.
        place.map_err(|_| Full)
    }

    fn stand_in_line(
        &self,
        tenant: &TenantId,
        standing: Standing,
    ) -> Result<(u64, oneshot::Receiver<Place>), Full> {
        let Bounds {
            places,
            waiting,
            waiting_each,
        } = self.0.bounds;
        let mut state = self.state();
        let line = state.lines.get(tenant).map_or(0, VecDeque::len);
        // The bounds are for the line. Whoever gets a place at once does not lengthen it.
        let goes_at_once = line == 0 && state.may_take(tenant, places);
        if standing == Standing::Comes
            && !goes_at_once
            && (line >= waiting_each || state.waiting >= waiting)
        {
            return Err(Full);
        }
        state.last_number += 1;
        state.waiting += 1;
        let (sender, turn) = oneshot::channel();
        let waiter = Waiter {
            number: state.last_number,
            turn: sender,
        };
        let queue = state.lines.entry(tenant.clone()).or_default();
        match standing {
            Standing::Comes => queue.push_back(waiter),
            Standing::Returns => queue.push_front(waiter),
        }
        if line == 0 {
            state.order.push_back(tenant.clone());
        }
        Ok((state.last_number, turn))
    }

    /// Gives out what is free. The places are handed over without the lock: one that nobody takes
    /// any more comes back through [`Place::drop`], which wants it.
    fn serve(&self) {
        let mut turns = Vec::new();
        {
            let mut state = self.state();
            while let Some((tenant, waiter)) = state.next(self.0.bounds.places) {
                turns.push((
                    waiter,
                    Place {
                        gate: self.clone(),
                        tenant,
                    },
                ));
            }
        }
        for (waiter, place) in turns {
            // Refused where the waiter has left the line a moment ago; then the place is dropped
            // here.
            let _ = waiter.turn.send(place);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_take(&self, tenant: &TenantId, places: usize) -> bool {
        let free = places.saturating_sub(self.taken);
        let held = self.held.get(tenant).copied().unwrap_or(0);
        free > 0 && (held == 0 || held < free / 2)
    }

    /// Who gets a place now: the first of the first line whose tenant may have one.
    fn next(&mut self, places: usize) -> Option<(TenantId, Waiter)> {
        let at = self
            .order
            .iter()
            // Not the first line in any case: its tenant may hold its share, and the places are for
            // the next one then.
            .position(|tenant| self.may_take(tenant, places))?;
        let tenant = self.order.remove(at)?;
        let line = self.lines.get_mut(&tenant)?;
        let waiter = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&tenant);
        } else {
            // Behind the others: tenants are served in turn.
            self.order.push_back(tenant.clone());
        }
        self.waiting -= 1;
        self.taken += 1;
        *self.held.entry(tenant.clone()).or_default() += 1;
        Some((tenant, waiter))
    }

    fn leave(&mut self, tenant: &TenantId, number: u64) {
        let Some(line) = self.lines.get_mut(tenant) else {
            return;
        };
        let before = line.len();
        line.retain(|waiter| waiter.number != number);
        self.waiting -= before - line.len();
        if line.is_empty() {
            self.lines.remove(tenant);
            self.order.retain(|known| known != tenant);
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.gate.state().leave(self.tenant, self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.taken -= 1;
        if let Some(held) = state.held.get_mut(&self.tenant) {
            *held -= 1;
            if *held == 0 {
                state.held.remove(&self.tenant);
            }
        }
        // `serve` locks the state itself.
        drop(state);
        self.gate.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    fn gate(places: usize) -> Gate {
        Gate::new(Bounds {
            places,
            waiting: 100,
            waiting_each: 60,
        })
    }

    /// A place that is there now, or `None`.
    fn at_once(gate: &Gate, tenant: &TenantId) -> Option<Place> {
        gate.place(tenant).now_or_never().and_then(Result::ok)
    }

    #[test]
    fn one_tenant_leaves_places_for_the_others() {
        let gate = gate(64);
        let a = tenant("a");
        let b = tenant("b");
        let of_a: Vec<Place> = std::iter::from_fn(|| at_once(&gate, &a)).collect();
        assert_eq!(of_a.len(), 21);
        let of_b: Vec<Place> = std::iter::from_fn(|| at_once(&gate, &b)).collect();
        assert!(of_b.len() >= 10, "{}", of_b.len());
        // Several tenants that take what they can get leave one for a tenant that comes new.
        let others: Vec<Place> = (0..4)
            .flat_map(|n| {
                std::iter::from_fn(|| at_once(&gate, &tenant(&format!("t{n}")))).collect::<Vec<_>>()
            })
            .collect();
        assert!(at_once(&gate, &tenant("new")).is_some());
        drop((of_a, of_b, others));
        let again: Vec<Place> = std::iter::from_fn(|| at_once(&gate, &b)).collect();
        assert_eq!(again.len(), 21, "everything came back");
    }

    #[tokio::test]
    async fn lines_are_served_in_turn() {
        let gate = gate(1);
        let a = tenant("a");
        let b = tenant("b");
        let held = gate.place(&a).await.unwrap();
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for name in [&a, &a, &a, &b] {
            let gate = gate.clone();
            let name = name.clone();
            let served = served.clone();
            tasks.push(tokio::spawn(async move {
                let place = gate.place(&name).await.unwrap();
                served.send(name).unwrap();
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut got = Vec::new();
        for _ in 0..4 {
            got.push(order.recv().await.unwrap().to_string());
        }
        assert_eq!(got, ["a", "b", "a", "a"]);
    }

    #[tokio::test]
    async fn a_full_line_says_so_and_leaving_makes_room() {
        let gate = Gate::new(Bounds {
            places: 1,
            waiting: 2,
            waiting_each: 1,
        });
        let a = tenant("a");
        let b = tenant("b");
        let c = tenant("c");
        let held = gate.place(&a).await.unwrap();
        let mut waits = Box::pin(gate.place(&a));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(
            gate.place(&a).await.unwrap_err(),
            Full,
            "one of a tenant waits"
        );
        let mut other = Box::pin(gate.place(&b));
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(gate.place(&c).await.unwrap_err(), Full, "two wait in all");
        drop(waits);
        let mut third = Box::pin(gate.place(&c));
        assert!(third.as_mut().now_or_never().is_none());
        drop(held);
        drop(other.await.unwrap());
        drop(third.await.unwrap());
        let state = gate.state();
        assert_eq!(
            (
                state.taken,
                state.waiting,
                state.order.len(),
                state.held.len()
            ),
            (0, 0, 0, 0)
        );
    }
}
