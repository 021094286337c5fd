//! That scripts leave the worker alone: its runtime, its threads, its places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::TenantId;
use posthaste_worker::script::{
    Call, Called, Engine, MAX_RUNNING, Returned, Returns, Script, ScriptError,
};

use crate::{engine, script, tenant};

const ENDLESS: &str = "export default () => { while (true) {} }";
const ONE: &str = "export default () => 1";

async fn call(engine: &Engine, script: &Script, within: Duration) -> Called {
    call_of("acme", engine, script, within).await
}

async fn call_of(tenant: &str, engine: &Engine, script: &Script, within: Duration) -> Called {
    let deadline = tokio::time::Instant::now() + within;
    let tenant = TenantId::parse(tenant).unwrap();
    engine
        .call(
            &tenant,
            script,
            "null",
            Call {
                deadline,
                network: false,
                hops: Hops::default(),
                returns: Returns::Json,
            },
        )
        .await
}

/// Calls again while there is no place, as a worker does.
async fn call_in_the_end(tenant: &str, engine: &Engine, script: &Script) -> Called {
    let begun = Instant::now();
    loop {
        let called = call_of(tenant, engine, script, Duration::from_secs(20)).await;
        if called.result != Err(ScriptError::Busy) || begun.elapsed() > Duration::from_secs(60) {
            return called;
        }
    }
}

/// The longest time between two ticks, which should be 5 ms apart, until it is told to stop.
async fn longest_gap(stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loops_leave_the_runtime_responsive() {
    let engine = engine();
    let script = script(&engine, ENDLESS).await;
    let stop = Arc::new(AtomicBool::new(false));
    let ticking = tokio::spawn(longest_gap(Arc::clone(&stop)));
    let begun = Instant::now();
    let calls = (0..16).map(|_| call(&engine, &script, Duration::from_secs(2)));
    let called = join_all(calls).await;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let longest = ticking.await.unwrap();
    assert!(
        called
            .iter()
            .all(|called| called.result == Err(ScriptError::TimedOut)),
        "{called:?}"
    );
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    println!("16 endless loops for 2 s: {took:?}, longest gap between ticks {longest:?}");
}

/// Polls calls once each, which is enough for them to start.
macro_rules! start {
    ($calls:expr) => {{
        let mut calls: Vec<_> = $calls.map(Box::pin).collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending());
        }
        calls
    }};
}

#[tokio::test]
async fn a_tenant_that_takes_what_it_can_leaves_places_and_gets_them_back() {
    let engine = engine();
    let endless = script(&engine, ENDLESS).await;
    let one = script(&engine, ONE).await;
    let running =
        start!((0..MAX_RUNNING).map(|_| call_of("a", &engine, &endless, Duration::from_secs(300))));
    let called = call_of("a", &engine, &one, Duration::from_millis(100)).await;
    assert_eq!(
        called.result,
        Err(ScriptError::Busy),
        "the tenant has its share"
    );
    let begun = Instant::now();
    for _ in 0..20 {
        let called = call_in_the_end("b", &engine, &one).await;
        assert_eq!(
            called.result,
            Ok(Returned::Json("1".into())),
            "another has a place at once"
        );
    }
    println!(
        "20 calls beside endless loops of another tenant: {:?}",
        begun.elapsed()
    );
    drop(running);
    let called = call_in_the_end("a", &engine, &one).await;
    assert_eq!(
        called.result,
        Ok(Returned::Json("1".into())),
        "the places are free again"
    );
}

#[tokio::test]
async fn waiting_takes_no_place() {
    let engine = engine();
    let waiting = script(
        &engine,
        "export default () => new Promise((done) => setTimeout(done, 100_000))",
    )
    .await;
    let one = script(&engine, ONE).await;
    let mut running =
        start!((0..MAX_RUNNING / 2).map(|_| call(&engine, &waiting, Duration::from_secs(300))));
    // More than a tenant's share of the places wait at the end, for they are given away.
    let begun = Instant::now();
    while engine.waiting(&TenantId::parse("acme").unwrap()) < MAX_RUNNING / 2 {
        for call in &mut running {
            let _ = futures::poll!(call);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        running.extend(start!((0..1).map(|_| call(
            &engine,
            &waiting,
            Duration::from_secs(300)
        ))));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    let called = call_in_the_end("acme", &engine, &one).await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())));
    // And what is dropped while it waits ends.
    drop(running);
    while engine.waiting(&TenantId::parse("acme").unwrap()) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

/// An operation that the engine cannot stop: some 10^13 comparisons, for as long as the tests run.
const UNSTOPPABLE: &str =
    "export default (e) => e ?? 'a'.repeat(1e7).indexOf('a'.repeat(5e6) + 'b')";

#[tokio::test]
async fn scripts_that_cannot_be_stopped_are_few_and_take_no_place() {
    let engine = engine();
    let one = script(&engine, ONE).await;
    let begun = Instant::now();
    let stuck = script(&engine, UNSTOPPABLE).await;
    let called = call_in_the_end_within("a", &engine, &stuck, Duration::from_millis(500)).await;
    assert_eq!(called.result, Err(ScriptError::TimedOut));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    // More calls of it than there are places, and of another script that does the same: of one of
    // them at the most.
    let more =
        (0..MAX_RUNNING + 8).map(|_| call_of("a", &engine, &stuck, Duration::from_millis(500)));
    assert!(
        join_all(more)
            .await
            .iter()
            .all(|called| called.result == Err(ScriptError::Busy))
    );
    let second = script(&engine, &format!("{UNSTOPPABLE}; // 2")).await;
    let called = call_in_the_end_within("a", &engine, &second, Duration::from_millis(500)).await;
    assert_eq!(called.result, Err(ScriptError::TimedOut));
    // With two of them, the tenant's calls wait; the others' do not.
    let called = call_of("a", &engine, &one, Duration::from_secs(20)).await;
    assert_eq!(called.result, Err(ScriptError::Busy));
    let called = call_in_the_end("b", &engine, &one).await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())));
}

async fn call_in_the_end_within(
    tenant: &str,
    engine: &Engine,
    script: &Script,
    within: Duration,
) -> Called {
    let begun = Instant::now();
    loop {
        let called = call_of(tenant, engine, script, within).await;
        if called.result != Err(ScriptError::Busy) || begun.elapsed() > Duration::from_secs(20) {
            return called;
        }
    }
}

/// What a call costs without its network: the bound is generous, the figure is printed.
#[tokio::test]
async fn a_call_is_quick() {
    let engine = engine();
    let source =
        include_str!("sample.ts").replace("await fetch", "await (async () => ({ ok: true }))");
    let script = script(&engine, &source).await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let called = engine
            .call(
                &tenant(),
                &script,
                r#"{"to":"+44","body":"x"}"#,
                Call {
                    deadline,
                    network: true,
                    hops: Hops::default(),
                    returns: Returns::Json,
                },
            )
            .await;
        times.push(begun.elapsed());
        assert_eq!(called.result, Ok(Returned::Json(r#"{"code":"ok"}"#.into())));
    }
    times.sort_unstable();
    println!(
        "a call: median {:?}, slowest of 200 {:?}",
        times[100], times[199]
    );
    assert!(times[100] < Duration::from_millis(50), "{:?}", times[100]);
}
