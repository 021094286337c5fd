//! The shell around the policy: waiting, waking, giving up.

use std::collections::HashMap;

use posthaste_shared::domain::endpoint::{Confidential, DisabledReason, EndpointStatus};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;
use posthaste_shared::store::turns::Turns;

use super::breaker::Verdict;
use super::*;

fn endpoint(id: &str, max_in_flight: u32) -> Endpoint {
    Endpoint {
        uid: None,
        id: EndpointId::parse(id).unwrap(),
        tenant: TenantId::default(),
        url: "https://example.com".parse().unwrap(),
        wire_format: WireFormat::Raw,
        description: String::new(),
        subscription: Subscription::default(),
        confidential: Confidential::default(),
        timeout: Duration::from_secs(5),
        retry: RetryPolicy::default(),
        max_in_flight,
        rate_limit_per_second: None,
        status: EndpointStatus::Enabled,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
        version: 1,
    }
}

/// With its driver, which ends with the test.
fn admission(slots: usize) -> Admission {
    let admission = Admission::new(Rules::of_slots(slots), CancellationToken::new()).alone();
    let driver = admission.clone();
    tokio::spawn(async move { driver.run().await });
    let store = admission.clone();
    tokio::spawn(async move { give_turns(&store).await });
    admission
}

/// Gives out turns as a store would that nobody else asks.
async fn give_turns(admission: &Admission) {
    let mut next = HashMap::new();
    loop {
        admission.until_turns_are_wanted().await;
        let demands = admission.demands();
        let turns: Vec<Turns> = demands
            .iter()
            .map(|demand| {
                let spacing = Duration::from_secs_f64(1.0 / demand.rate_per_second);
                let next = next
                    .entry(demand.endpoint.clone())
                    .or_insert(Instant::now());
                let first = (*next).max(Instant::now());
                *next = first + spacing * demand.turns;
                Turns {
                    endpoint: demand.endpoint.clone(),
                    first_in: first - Instant::now(),
                    spacing,
                    count: demand.turns,
                }
            })
            .collect();
        admission.give_turns(&demands, &turns);
    }
}

async fn go(admission: &Admission, endpoint: &Endpoint) -> Permit {
    match admission.admit(endpoint, From::Broker, None).await {
        Admitted::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// In a task of its own, which is in line when this returns.
async fn in_line(
    admission: &Admission,
    endpoint: &Endpoint,
    limit: Option<Duration>,
) -> tokio::task::JoinHandle<Admitted> {
    let before = admission.lock().policy.load().1;
    let task = {
        let admission = admission.clone();
        let endpoint = endpoint.clone();
        tokio::spawn(async move { admission.admit(&endpoint, From::Broker, limit).await })
    };
    while admission.lock().policy.load().1 == before {
        tokio::task::yield_now().await;
    }
    task
}

fn load(admission: &Admission) -> (usize, usize) {
    admission.lock().policy.load()
}

#[test]
fn the_driver_of_a_worker_that_has_run_for_days_still_sleeps() {
    let day = Duration::from_secs(24 * 3600);
    let now = 3 * day;
    assert_eq!(nap(Moment::MAX, now), day);
    assert_eq!(nap(now + Duration::from_millis(50), now).as_millis(), 50);
    assert_eq!(nap(now - day, now), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_goes_when_a_request_ends() {
    let admission = admission(16);
    let endpoint = endpoint("e", 1);
    let held = go(&admission, &endpoint).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(in_line(&admission, &endpoint, None).await);
    }
    drop(held);
    for waiting in waiting {
        // Dropped at once, so that the next one goes.
        assert!(matches!(waiting.await.unwrap(), Admitted::Go(_)));
    }
    assert_eq!(load(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_is_parked_without_any_other_event() {
    let admission = admission(16);
    let endpoint = endpoint("e", 1);
    let _held = go(&admission, &endpoint).await;
    let begun = Instant::now();
    let waiting = in_line(&admission, &endpoint, None).await;
    let end = waiting.await.unwrap();
    assert!(matches!(end, Admitted::Hold(Hold::MaxInFlight)), "{end:?}");
    let waited = begun.elapsed();
    assert!(waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn turns_come_by_themselves() {
    let admission = admission(16);
    let endpoint = Endpoint {
        rate_limit_per_second: Some(10.0),
        ..endpoint("e", 32)
    };
    let begun = Instant::now();
    for turn in 0..20 {
        drop(go(&admission, &endpoint).await);
        assert!(begun.elapsed() >= Duration::from_millis(100 * turn));
    }
    assert!(begun.elapsed() < Duration::from_millis(2_000));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_it_is_of_use() {
    let admission = admission(1);
    let held = go(&admission, &endpoint("first", 32)).await;
    let begun = Instant::now();
    let other = endpoint("other", 32);
    let limit = Some(Duration::from_millis(700));
    let end = in_line(&admission, &other, limit).await.await.unwrap();
    assert!(matches!(end, Admitted::Hold(Hold::Slots)), "{end:?}");
    assert_eq!(begun.elapsed(), Duration::from_millis(700));
    assert_eq!(load(&admission), (1, 0));
    drop(held);
    drop(go(&admission, &other).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dropped_in_line_leaves_its_place_and_its_slot() {
    let admission = admission(1);
    let held = go(&admission, &endpoint("first", 32)).await;
    let other = endpoint("other", 32);
    let gone = in_line(&admission, &other, None).await;
    let next = in_line(&admission, &other, None).await;
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(load(&admission), (1, 1));
    drop(held);
    assert!(matches!(next.await.unwrap(), Admitted::Go(_)));
    // Given a slot in the very moment in which it is dropped: the slot is free again.
    let held = go(&admission, &other).await;
    let gone = in_line(&admission, &other, None).await;
    drop(held);
    gone.abort();
    drop(gone.await);
    assert_eq!(load(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_turns_away_what_comes_and_what_waits() {
    let stopping = CancellationToken::new();
    let admission = Admission::new(Rules::of_slots(1), stopping.clone()).alone();
    let driver = admission.clone();
    let driver = tokio::spawn(async move { driver.run().await });
    let endpoint = endpoint("e", 1);
    let _held = go(&admission, &endpoint).await;
    let waiting = in_line(&admission, &endpoint, None).await;
    stopping.cancel();
    assert!(matches!(waiting.await.unwrap(), Admitted::Stopping));
    driver.await.unwrap();
    let end = admission.admit(&endpoint, From::Broker, None).await;
    assert!(matches!(end, Admitted::Stopping), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_and_one_whose_breaker_is_open_get_nothing() {
    let admission = admission(16);
    let disabled = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Manual),
        ..endpoint("disabled", 1)
    };
    let end = admission.admit(&disabled, From::Broker, None).await;
    assert!(matches!(end, Admitted::Hold(Hold::Disabled)), "{end:?}");
    let failing = endpoint("failing", 32);
    let mut changes = Vec::new();
    for _ in 0..10 {
        let failed = End {
            verdict: Verdict::Failed,
            latency: Duration::from_millis(1),
            overloaded: false,
            pause: None,
        };
        changes.extend(go(&admission, &failing).await.ended(failed));
    }
    assert!(matches!(changes[..], [Change::Opened { first: true, .. }]));
    let end = admission.admit(&failing, From::Store, None).await;
    assert!(matches!(end, Admitted::Hold(Hold::Breaker)), "{end:?}");
    assert_eq!(admission.counts(), (0, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(go(&admission, &failing).await);
}
