//! That scripts leave the worker alone: its runtime, its threads, its places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use posthaste_worker::script::{Call, Called, Engine, MAX_RUNNING, Returned, Returns, Script, ScriptError};

use crate::engine;

const ENDLESS: &str = "export default () => { while (true) {} }";
const ONE: &str = "export default () => 1";

async fn call(engine: &Engine, script: &Script, within: Duration) -> Called {
    let deadline = tokio::time::Instant::now() + within;
    engine.call(script, "null", Call { deadline, network: false, returns: Returns::Json }).await
}

/// The longest time between two ticks, which should be 5 ms apart, until it is told to stop.
async fn longest_gap(stop: Arc<AtomicBool>) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
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
    let script = engine.script(ENDLESS).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ticking = tokio::spawn(longest_gap(Arc::clone(&stop)));
    let begun = Instant::now();
    let called = join_all((0..16).map(|_| call(&engine, &script, Duration::from_secs(2)))).await;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let longest = ticking.await.unwrap();
    assert!(called.iter().all(|called| called.result == Err(ScriptError::TimedOut)), "{called:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    println!("16 endless loops for 2 s: {took:?}, longest gap between ticks {longest:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back_and_those_that_wait_have_their_deadline() {
    let engine = engine();
    let (endless, one) = (engine.script(ENDLESS).await.unwrap(), engine.script(ONE).await.unwrap());
    let mut running: Vec<_> =
        (0..MAX_RUNNING).map(|_| Box::pin(call(&engine, &endless, Duration::from_secs(300)))).collect();
    // Long enough for all to start: each needs but one poll.
    for call in &mut running {
        assert!(futures::poll!(call).is_pending());
    }
    let called = call(&engine, &one, Duration::from_millis(100)).await;
    assert_eq!(called.result, Err(ScriptError::TimedOut), "there is no place left");
    drop(running);
    let called = call(&engine, &one, Duration::from_secs(20)).await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())), "the places are free again");
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_ends() {
    let engine = engine();
    let waiting = engine.script("export default () => new Promise((done) => setTimeout(done, 100_000))").await.unwrap();
    let one = engine.script(ONE).await.unwrap();
    let mut running: Vec<_> =
        (0..MAX_RUNNING).map(|_| Box::pin(call(&engine, &waiting, Duration::from_secs(300)))).collect();
    for call in &mut running {
        assert!(futures::poll!(call).is_pending());
    }
    drop(running);
    let called = call(&engine, &one, Duration::from_secs(20)).await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())));
}

/// An operation that the engine cannot stop: some 10^13 comparisons, for as long as the tests run.
const UNSTOPPABLE: &str = "export default (e) => e ?? 'a'.repeat(1e7).indexOf('a'.repeat(5e6) + 'b')";

#[tokio::test]
async fn a_script_that_cannot_be_stopped_takes_one_place_and_no_more() {
    let engine = engine();
    let (stuck, one) = (engine.script(UNSTOPPABLE).await.unwrap(), engine.script(ONE).await.unwrap());
    let begun = Instant::now();
    let called = call(&engine, &stuck, Duration::from_millis(500)).await;
    assert_eq!(called.result, Err(ScriptError::TimedOut));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // More calls than there are places, of which none gets one.
    let more = (0..MAX_RUNNING + 8).map(|_| call(&engine, &stuck, Duration::from_millis(500)));
    assert!(join_all(more).await.iter().all(|called| called.result == Err(ScriptError::TimedOut)));
    let called = call(&engine, &one, Duration::from_secs(20)).await;
    assert_eq!(called.result, Ok(Returned::Json("1".into())));
}

/// What a call costs without its network: the bound is generous, the figure is printed.
#[tokio::test]
async fn a_call_is_quick() {
    let engine = engine();
    let source = include_str!("sample.ts").replace("await fetch", "await (async () => ({ ok: true }))");
    let script = engine.script(&source).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let called = engine
            .call(&script, r#"{"to":"+44","body":"x"}"#, Call { deadline, network: true, returns: Returns::Json })
            .await;
        times.push(begun.elapsed());
        assert_eq!(called.result, Ok(Returned::Json(r#"{"code":"ok"}"#.into())));
    }
    times.sort_unstable();
    println!("a call: median {:?}, slowest of 200 {:?}", times[100], times[199]);
    assert!(times[100] < Duration::from_millis(50), "{:?}", times[100]);
}
