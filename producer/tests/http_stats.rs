//! `/v1/stats`, `/v1/stats/endpoints` and `/v1/workers`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use posthaste_shared::domain::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::members::{Acknowledged, WorkerId};
use posthaste_shared::domain::stats::{MinuteOfEndpoint, Step, Tally};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::worker_reports::WorkerReport;
use posthaste_shared::store::workers::Beat;
use serde_json::{Value, json};
use support::TestApi;

fn attempt(number: u32, result: AttemptResult, ms: u64) -> Attempt {
    let error = (result != AttemptResult::Success).then(|| AttemptError {
        code: "x".to_owned(),
        text: "x".to_owned(),
    });
    Attempt {
        number,
        round: 1,
        started_at: Timestamp::from_micros(0),
        duration: Duration::from_millis(ms),
        phases: Phases::default(),
        result,
        status_code: None,
        error,
        response_body: None,
        resolved_address: None,
        request_headers: vec![],
        worker: String::new(),
        console: None,
    }
}

/// As a worker does: at this endpoint, so long ago, three successes of 20 ms and a time-out.
fn counted(now: Timestamp, endpoint: &str, ago: Duration) -> MinuteOfEndpoint {
    let mut tally = Tally::default();
    for number in [1, 1, 2] {
        tally.note(&attempt(number, AttemptResult::Success, 20));
    }
    tally.note(&attempt(1, AttemptResult::Timeout, 5_000));
    MinuteOfEndpoint {
        minute: Step::Minute.start_of(now.before(ago)),
        endpoint: EndpointId::parse(endpoint).unwrap(),
        tally,
    }
}

async fn report(api: &TestApi, at_limit: &[EndpointId], minutes: &[MinuteOfEndpoint]) -> WorkerId {
    let now = api.clock.now();
    let worker = WorkerId::generate(now);
    let report = WorkerReport {
        worker,
        name: "worker-1",
        version: "1.2.3",
        slots: 64,
        in_flight: 3,
        at_limit,
        started_at: now,
        sequence: 1,
    };
    api.store
        .report_worker(&report, minutes, now)
        .await
        .unwrap();
    worker
}

#[tokio::test]
async fn attempts_are_counted_by_time_endpoint_and_tenant() {
    let api = TestApi::start().await;
    let of_acme = api.endpoint("acme").await;
    let of_bolt = api.endpoint("bolt").await;
    let now = api.clock.now();
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let minutes = [
        counted(now, &of_acme, hours(30)),
        counted(now, &of_acme, Duration::from_secs(120)),
        counted(now, &of_bolt, Duration::from_secs(120)),
    ];
    report(&api, &[], &minutes).await;

    let all = api.call("GET", "/v1/stats", Value::Null).await;
    assert_eq!(all.status, 200, "{all:?}");
    let items = all.body["items"].as_array().unwrap();
    assert_eq!((items.len(), &all.body["step"]), (60, &json!(60)));
    let total = &all.body["total"];
    assert_eq!(
        (&total["attempts"], &total["succeeded"]),
        (&json!(8), &json!(6)),
        "{total}"
    );
    assert_eq!(
        (&total["first_tries"], &total["first_successes"]),
        (&json!(6), &json!(4))
    );
    assert_eq!(
        (&total["results"]["2xx"], &total["results"]["timeout"]),
        (&json!(6), &json!(2))
    );
    let p50 = total["p50_ms"].as_f64().unwrap();
    let p99 = total["p99_ms"].as_f64().unwrap();
    assert!((16.0..=25.0).contains(&p50), "{p50}");
    assert!((4_000.0..=6_300.0).contains(&p99), "{p99}");
    let with: Vec<_> = items.iter().filter(|row| row["attempts"] != 0).collect();
    assert_eq!(with.len(), 1);
    let empty = items.iter().find(|row| row["attempts"] == 0).unwrap();
    assert_eq!(empty["p50_ms"], Value::Null);

    let attempts = async |key: &str, query: &str| {
        let path = format!("/v1/stats{query}");
        let found = api.call_as(key, "GET", &path, Value::Null).await;
        assert_eq!(found.status, 200, "{found:?}");
        found.body["total"]["attempts"].as_u64().unwrap()
    };
    let admin = support::ADMIN_KEY;
    let bound = api.key(&[Scope::Read], Some("bolt")).await;
    assert_eq!(attempts(admin, &format!("?endpoint_id={of_acme}")).await, 4);
    assert_eq!(attempts(admin, "?tenant=bolt").await, 4);
    assert_eq!(attempts(admin, "?step=3600").await, 12);
    assert_eq!(attempts(admin, "?step=86400").await, 12);
    assert_eq!(attempts(&bound, "").await, 4);
    let other = format!("?endpoint_id={of_acme}");
    assert_eq!(attempts(&bound, &other).await, 0, "as if it was not there");
    let refused = api
        .call_as(&bound, "GET", "/v1/stats?tenant=acme", Value::Null)
        .await;
    assert_eq!((refused.status, refused.code()), (403, "other_tenant"));
}

#[tokio::test]
async fn what_is_asked_is_bounded() {
    let api = TestApi::start().await;
    let now = api.clock.now();
    let ago = |seconds: u64| now.before(Duration::from_secs(seconds));
    let later = now.after(Duration::from_secs(7_200));
    for (query, field) in [
        ("step=61".to_owned(), "step"),
        (format!("since={later}"), "since"),
        // 1,500 minutes are more than a day.
        (format!("since={}", ago(1_501 * 60)), "since"),
        (format!("since={}&step=900", ago(50 * 3_600)), "since"),
        (format!("since={}&step=3600", ago(1_501 * 3_600)), "since"),
    ] {
        let path = format!("/v1/stats?{query}");
        let refused = api.call("GET", &path, Value::Null).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "invalid_query"),
            "{query}"
        );
        assert_eq!(refused.fields(), [field], "{query}: {refused:?}");
    }
    for (query, rows) in [
        (format!("since={}&step=300", ago(47 * 3_600)), 565),
        (format!("since={}&step=86400", ago(89 * 86_400)), 90),
        (format!("since={}", ago(0)), 1),
    ] {
        let path = format!("/v1/stats?{query}");
        let found = api.call("GET", &path, Value::Null).await;
        let found = found.body["items"].as_array().unwrap().len();
        assert!(found.abs_diff(rows) <= 1, "{query}: {found}");
    }
    let path = "/v1/stats/endpoints?limit=101";
    let refused = api.call("GET", path, Value::Null).await;
    assert_eq!((refused.status, refused.fields()), (422, vec!["limit"]));
}

#[tokio::test]
async fn endpoints_are_listed_by_their_failures() {
    let api = TestApi::start().await;
    let of_acme = api.endpoint("acme").await;
    let of_bolt = api.endpoint("bolt").await;
    let now = api.clock.now();
    let ago = Duration::from_secs(600);
    let twice = [counted(now, &of_acme, ago), counted(now, &of_bolt, ago)];
    report(&api, &[], &twice).await;
    report(
        &api,
        &[],
        &[counted(now, &of_bolt, Duration::from_secs(660))],
    )
    .await;
    let all = api.call("GET", "/v1/stats/endpoints", Value::Null).await;
    let ids = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().unwrap().iter();
        items
            .map(|one| one["endpoint_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(&all.body),
        [of_bolt.clone(), of_acme.clone()],
        "{all:?}"
    );
    let worst = &all.body["items"][0];
    assert_eq!(
        (&worst["tenant"], &worst["attempts"], &worst["succeeded"]),
        (&json!("bolt"), &json!(8), &json!(6))
    );
    let recent = worst["recent"].as_array().unwrap();
    let sum: u64 = recent
        .iter()
        .map(|row| row["attempts"].as_u64().unwrap())
        .sum();
    assert_eq!((recent.len(), sum), (12, 8));
    let path = format!("/v1/stats/endpoints?endpoint_id={of_acme},ep_unknown");
    let one = api.call("GET", &path, Value::Null).await;
    assert_eq!(ids(&one.body), std::slice::from_ref(&of_acme));
    let key = api.key(&[Scope::Read], Some("acme")).await;
    let path = "/v1/stats/endpoints";
    let bound = api.call_as(&key, "GET", path, Value::Null).await;
    assert_eq!(ids(&bound.body), [of_acme]);
}

#[tokio::test]
async fn workers_are_listed_for_who_sees_every_tenant() {
    let api = TestApi::start().await;
    let none = api.call("GET", "/v1/workers", Value::Null).await;
    assert_eq!((none.status, &none.body["items"]), (200, &json!([])));
    let limited = [EndpointId::parse("ep_busy").unwrap()];
    let worker = report(&api, &limited, &[]).await;
    let beat = Beat {
        worker,
        name: "worker-1",
        acknowledged: &Acknowledged::default(),
        lease: Duration::from_secs(60),
    };
    api.store.beat(&beat, api.clock.now()).await.unwrap();
    let killed = report(&api, &[], &[]).await;
    let all = api.call("GET", "/v1/workers", Value::Null).await.body;
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{all}");
    assert_eq!(
        (&items[0]["id"], &items[0]["alive"], &items[0]["slots"]),
        (&json!(worker.to_string()), &json!(true), &json!(64))
    );
    assert_eq!(items[0]["at_limit"], json!(["ep_busy"]));
    assert_eq!(
        (&items[1]["id"], &items[1]["alive"]),
        (&json!(killed.to_string()), &json!(false))
    );
    let key = api.key(&[Scope::Read], Some("acme")).await;
    let refused = api.call_as(&key, "GET", "/v1/workers", Value::Null).await;
    assert_eq!((refused.status, refused.code()), (403, "other_tenant"));
}
