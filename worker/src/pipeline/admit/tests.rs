//! Tests of `admit.rs`.

use posthaste_shared::domain::endpoint::{Confidential, DisabledReason, EndpointStatus};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::wire_format::WireFormat;

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

async fn go(admission: &Admission, endpoint: &Endpoint) -> Permit {
    match admission.admit(endpoint, From::Broker, None).await {
        Admitted::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

async fn fill(admission: &Admission, endpoint: &Endpoint) -> Vec<Permit> {
    let mut held = Vec::new();
    while let Admitted::Go(permit) = admission.admit(endpoint, From::Broker, None).await {
        held.push(permit);
    }
    held
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_hang_leave_room_for_the_others() {
    let admission = Admission::new(100, None, CancellationToken::new());
    let mut held = Vec::new();
    for n in 0..9 {
        held.push(fill(&admission, &endpoint(&format!("hangs-{n}"), 1_000)).await);
    }
    assert!(held.iter().all(|held| !held.is_empty()));
    let healthy = endpoint("healthy", 10);
    for _ in 0..1_000 {
        drop(go(&admission, &healthy).await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_never_gets_more_than_it_may() {
    let admission = Admission::new(1_000, None, CancellationToken::new());
    let endpoint = endpoint("e", 32);
    let held = fill(&admission, &endpoint).await;
    assert_eq!(held.len(), 32);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(admission.room(&endpoint), 0, "it does not move");
    drop(held);
    assert_eq!(
        (admission.room(&endpoint), admission.worth_taking()),
        (64, 1_125)
    );
}

#[tokio::test(start_paused = true)]
async fn work_waits_a_moment_and_is_parked_at_once_where_nothing_moves() {
    let admission = Admission::new(10, None, CancellationToken::new());
    let endpoint = endpoint("e", 1);
    let held = go(&admission, &endpoint).await;
    let begun = Instant::now();
    assert!(matches!(
        admission.admit(&endpoint, From::Broker, None).await,
        Admitted::Hold(Hold::MaxInFlight)
    ));
    assert_eq!(begun.elapsed().as_millis(), PATIENCE.as_millis());
    tokio::time::advance(Duration::from_millis(1)).await;
    let begun = Instant::now();
    assert!(matches!(
        admission.admit(&endpoint, From::Broker, None).await,
        Admitted::Hold(Hold::MaxInFlight)
    ));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    drop(held);
    drop(go(&admission, &endpoint).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_goes_when_a_request_ends() {
    let admission = Admission::new(10, None, CancellationToken::new());
    let endpoint = endpoint("e", 1);
    let held = go(&admission, &endpoint).await;
    let waiting = (0..5).map(|_| {
        let admission = admission.clone();
        let endpoint = endpoint.clone();
        tokio::spawn(async move { drop(go(&admission, &endpoint).await) })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert!(admission.lock().lanes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spaces_requests_evenly() {
    let admission = Admission::new(100, None, CancellationToken::new());
    let endpoint = Endpoint {
        rate_limit_per_second: Some(10.0),
        ..endpoint("e", 32)
    };
    let begun = Instant::now();
    for turn in 0..20 {
        drop(go(&admission, &endpoint).await);
        assert!(begun.elapsed() >= Duration::from_millis(100 * turn));
    }
    assert!(begun.elapsed() < Duration::from_millis(2_100));
    // More at once than have a turn within the patience.
    let crowd: Vec<_> = (0..10)
        .map(|_| {
            let admission = admission.clone();
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                matches!(
                    admission.admit(&endpoint, From::Broker, None).await,
                    Admitted::Hold(Hold::RateLimit)
                )
            })
        })
        .collect();
    let mut held = 0;
    for admitted in crowd {
        held += usize::from(admitted.await.unwrap());
    }
    assert_eq!(held, 8);
    assert_eq!(admission.room(&endpoint), 2);
}

#[tokio::test(start_paused = true)]
async fn fresh_work_leaves_room_for_what_was_parked_before() {
    let admission = Admission::new(1_000, None, CancellationToken::new());
    let endpoint = endpoint("e", 10);
    admission.note_backlog(&endpoint.id, true);
    let fresh = fill(&admission, &endpoint).await;
    assert_eq!(fresh.len(), 5);
    assert!(matches!(
        admission.admit(&endpoint, From::Store, None).await,
        Admitted::Go(_)
    ));
    admission.keep_backlogs(&[]);
    assert_eq!(fill(&admission, &endpoint).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn disabled_endpoints_and_a_stopping_worker_turn_work_away() {
    let stopping = CancellationToken::new();
    let admission = Admission::new(10, None, stopping.clone());
    let disabled = Endpoint {
        status: EndpointStatus::Disabled(DisabledReason::Manual),
        ..endpoint("e", 1)
    };
    assert!(matches!(
        admission.admit(&disabled, From::Broker, None).await,
        Admitted::Hold(Hold::Disabled)
    ));
    stopping.cancel();
    assert!(matches!(
        admission.admit(&endpoint("e", 1), From::Broker, None).await,
        Admitted::Stopping
    ));
}

#[tokio::test(start_paused = true)]
async fn work_that_finds_all_slots_taken_goes_when_any_is_free() {
    let admission = Admission::new(1, None, CancellationToken::new());
    let held = go(&admission, &endpoint("first", 32)).await;
    let begun = Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let admission = admission.clone();
            tokio::spawn(async move {
                let permit = go(&admission, &endpoint(&format!("other-{n}"), 32)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(permit);
            })
        })
        .collect();
    tokio::time::sleep(4 * PATIENCE).await;
    drop(held);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    // One after the other, none of them parked, the slot never idle.
    assert_eq!(
        begun.elapsed(),
        4 * PATIENCE + 20 * Duration::from_millis(200)
    );
}

#[tokio::test(start_paused = true)]
async fn work_waits_for_a_slot_no_longer_than_it_is_of_use() {
    let admission = Admission::new(1, None, CancellationToken::new());
    let held = go(&admission, &endpoint("first", 32)).await;
    let begun = Instant::now();
    let limit = Some(Duration::from_secs(2));
    let other = endpoint("other", 32);
    assert!(matches!(
        admission.admit(&other, From::Broker, limit).await,
        Admitted::Hold(Hold::Slots)
    ));
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert!(matches!(
        admission.admit(&other, From::Broker, None).await,
        Admitted::Hold(Hold::Slots)
    ));
    assert_eq!(begun.elapsed(), Duration::from_secs(2) + SLOT_PATIENCE);
    drop(held);
    assert!(admission.lock().lanes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_few_from_the_store_wait_in_line_with_all_others() {
    let admission = Admission::new(16, None, CancellationToken::new());
    assert_eq!(admission.worth_taking(), 18);
    let mut held = Vec::new();
    for n in 0..16 {
        held.push(go(&admission, &endpoint(&format!("e-{n}"), 32)).await);
    }
    assert_eq!(admission.worth_taking(), 2);
    let waiting: Vec<_> = [From::Store, From::Broker, From::Store]
        .into_iter()
        .enumerate()
        .map(|(n, from)| {
            let admission = admission.clone();
            tokio::spawn(async move {
                admission
                    .admit(&endpoint(&format!("w-{n}"), 32), from, None)
                    .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(admission.worth_taking(), 0);
    held.truncate(13);
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), Admitted::Go(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_no_more_under_way_than_its_limit_over_all_its_endpoints() {
    let admission = Admission::new(1_000, Some(3), CancellationToken::new());
    let first = endpoint("first", 32);
    let second = endpoint("second", 32);
    let mut held = vec![
        go(&admission, &first).await,
        go(&admission, &first).await,
        go(&admission, &second).await,
    ];
    assert!(matches!(
        admission.admit(&second, From::Broker, None).await,
        Admitted::Hold(Hold::Tenant)
    ));
    // An endpoint that has none under way waits for the tenant, too, and goes when any other of its
    // requests ends.
    let waiting = {
        let admission = admission.clone();
        tokio::spawn(async move { go(&admission, &endpoint("third", 32)).await })
    };
    tokio::time::sleep(PATIENCE / 2).await;
    held.remove(0);
    held.push(waiting.await.unwrap());
    let another = Endpoint {
        tenant: TenantId::parse("another").unwrap(),
        ..endpoint("another", 32)
    };
    held.push(go(&admission, &another).await);
    drop(held);
    assert!(admission.lock().tenants.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_for_its_tenant_wakes_the_next() {
    let admission = Admission::new(1_000, Some(1), CancellationToken::new());
    let held = go(&admission, &endpoint("first", 32)).await;
    let wait = |id: &'static str, limit| {
        let admission = admission.clone();
        tokio::spawn(async move {
            matches!(
                admission
                    .admit(&endpoint(id, 32), From::Broker, limit)
                    .await,
                Admitted::Go(_)
            )
        })
    };
    // Its time is over in the very moment in which the request ends: whichever of the two comes
    // first, the next one goes.
    let gives_up = wait("second", Some(PATIENCE / 2));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let goes = wait("third", None);
    tokio::time::sleep(PATIENCE / 2 - Duration::from_millis(1)).await;
    drop(held);
    gives_up.await.unwrap();
    assert!(goes.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn work_of_a_tenant_that_does_not_move_is_parked_at_once() {
    let admission = Admission::new(1_000, Some(2), CancellationToken::new());
    let hanging = endpoint("hanging", 32);
    let held = fill(&admission, &hanging).await;
    assert_eq!(held.len(), 2);
    tokio::time::sleep(PATIENCE * 2).await;
    let begun = Instant::now();
    for id in ["hanging", "another", "a-third"] {
        let end = admission.admit(&endpoint(id, 32), From::Broker, None).await;
        assert!(matches!(end, Admitted::Hold(Hold::Tenant)), "{end:?}");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    drop(held);
    drop(go(&admission, &hanging).await);
}
