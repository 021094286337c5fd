//! Takes parked deliveries out of the store when their endpoints have room for them.
//!
//! 1. **Finding** which endpoints have parked deliveries: every 200 ms, or less often where it
//!    takes long, up to every 2 s. Between two finds this worker goes by the last one.
//! 2. **Taking**: for each enabled endpoint as many as it and its tenant have room for, the oldest
//!    first, beginning with another endpoint each time, up to 100 endpoints in a transaction. Again
//!    after 20 ms if there were more than could be taken at once, else after 100 ms: room is
//!    counted for half a second ahead.
//! 3. **Emptied**: an endpoint of which fewer were found than there was room for has none left, and
//!    is not asked for again before the next find.
//! 4. **Leases** that this worker dropped without a result are released before each look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::repeat::until_stopped;
use posthaste_shared::store::StoreError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::scheduler::{LEASE_MARGIN, PAUSE, STEP, Scheduler};
use crate::pipeline::endpoints::EndpointSet;

/// How often endpoints with parked deliveries are looked for.
const FIND: Duration = Duration::from_millis(200);
/// The time between two finds is at least this many times as long as one takes, up to
/// [`FIND_MOST`]: finding thousands of endpoints must not keep the store busy.
const FIND_SHARE: u32 = 100;
/// The longest time between two finds.
const FIND_MOST: Duration = Duration::from_secs(2);
/// The pause between two looks that took all that there was room for.
const TAKE: Duration = Duration::from_millis(100);
/// The most endpoints whose parked deliveries are taken in one transaction.
const AT_ONCE: usize = 100;

/// The endpoints that have parked deliveries, as far as this worker knows.
#[derive(Default)]
struct Backlogs {
    of: Vec<EndpointId>,
    /// When they are looked for again; `None`: at once.
    find_again: Option<Instant>,
    /// Where the next look begins.
    turn: usize,
}

impl Scheduler {
    /// Looks after parked deliveries until told to stop.
    pub async fn run_parked(&self) {
        let backlogs = Mutex::new(Backlogs::default());
        until_stopped(&self.stopping, || async {
            let mut backlogs = backlogs.lock().await;
            match self.look(&mut backlogs).await {
                Ok(pause) => pause,
                Err(error) => {
                    // What it had found may be out of date by the time that the store is back.
                    *backlogs = Backlogs::default();
                    self.failed("parked deliveries", &error)
                }
            }
        })
        .await;
    }

    /// One look. Returns how long to wait before the next.
    async fn look(&self, backlogs: &mut Backlogs) -> Result<Duration, StoreError> {
        // Left alone they would end only after the timeout of the endpoint and the margin.
        let abandoned = self.pipeline.in_flight.abandoned();
        let now = self.pipeline.services.clock.now();
        if !abandoned.is_empty()
            && let Err(error) = self.store.release(&abandoned, now).await
        {
            self.pipeline.in_flight.abandon(abandoned);
            return Err(error);
        }
        if backlogs.find_again.is_none_or(|at| at <= Instant::now()) {
            let begun = Instant::now();
            backlogs.of = self.store.endpoints_with_parked().await?;
            let pause = (begun.elapsed() * FIND_SHARE).clamp(FIND, FIND_MOST);
            backlogs.find_again = Some(Instant::now() + pause);
            // Another worker may have emptied a backlog that this one has seen.
            self.pipeline.admission.keep_backlogs(&backlogs.of);
        }
        if backlogs.of.is_empty() {
            return Ok(FIND);
        }
        let is_all = self.take(backlogs).await?;
        Ok(if is_all { TAKE } else { PAUSE })
    }

    /// Takes what there is room for. Whether that was all: `false` where the bound of one look left
    /// some.
    async fn take(&self, backlogs: &mut Backlogs) -> Result<bool, StoreError> {
        let admission = &self.pipeline.admission;
        let mut worth = admission.worth_taking();
        if worth == 0 {
            // Every slot is taken, and enough is in line for the next.
            return Ok(true);
        }
        let endpoints = self.endpoints.refresh().await?;
        let mut of_tenant: HashMap<TenantId, usize> = HashMap::new();
        let mut wanted = Wanted::default();
        let mut is_all = true;
        backlogs.turn = (backlogs.turn + 1) % backlogs.of.len();
        let turn = backlogs.turn;
        let (before, from) = backlogs.of.split_at(turn);
        let enabled: Vec<Arc<Endpoint>> = from
            .iter()
            .chain(before)
            .filter_map(|id| endpoints.get(id).filter(|it| it.is_enabled()))
            .collect();
        for endpoint in enabled {
            admission.note_backlog(&endpoint.id, true);
            let taken = of_tenant.entry(endpoint.tenant.clone()).or_default();
            let room = admission.room(&endpoint, *taken);
            let most = room.min(worth).min(STEP as usize);
            is_all &= most == room;
            if worth == 0 {
                break;
            }
            let Some(most) = u32::try_from(most).ok().filter(|most| *most > 0) else {
                continue;
            };
            *taken += most as usize;
            worth -= most as usize;
            wanted.add(endpoint.id.clone(), most);
            if wanted.is_full() {
                self.release(std::mem::take(&mut wanted), &endpoints, backlogs)
                    .await?;
            }
        }
        self.release(wanted, &endpoints, backlogs).await?;
        Ok(is_all)
    }

    /// Takes parked deliveries of endpoints, up to so many of each, and starts them.
    async fn release(
        &self,
        wanted: Wanted,
        endpoints: &EndpointSet,
        backlogs: &mut Backlogs,
    ) -> Result<(), StoreError> {
        if wanted.of.is_empty() {
            return Ok(());
        }
        let now = self.pipeline.services.clock.now();
        let claimed = self
            .store
            .claim_parked(&wanted.of, now, LEASE_MARGIN)
            .await?;
        let mut found: HashMap<&EndpointId, u32> = HashMap::new();
        for one in &claimed {
            *found.entry(&one.delivery.endpoint_id).or_default() += 1;
        }
        for (endpoint, room) in &wanted.of {
            if found.get(endpoint).is_none_or(|found| found < room) {
                self.pipeline.admission.note_backlog(endpoint, false);
                backlogs.of.retain(|id| id != endpoint);
            }
        }
        self.begin(claimed, endpoints).await;
        Ok(())
    }
}

/// What is to be taken in one transaction.
#[derive(Default)]
struct Wanted {
    of: Vec<(EndpointId, u32)>,
    in_all: u32,
}

impl Wanted {
    fn add(&mut self, endpoint: EndpointId, most: u32) {
        self.of.push((endpoint, most));
        self.in_all += most;
    }

    const fn is_full(&self) -> bool {
        self.of.len() >= AT_ONCE || self.in_all >= STEP
    }
}
