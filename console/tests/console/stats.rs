//! What the pages show of the statistics, and of the workers.

use std::time::Duration;

use posthaste_console::Mode;
use posthaste_shared::domain::attempt::{Attempt, AttemptError, AttemptResult, Phases};
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::domain::members::WorkerId;
use posthaste_shared::domain::stats::{MinuteOfEndpoint, Step, Tally};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::store::worker_reports::WorkerReport;

use crate::browser::{Browser, start};
use crate::html::check;
use crate::support::TestApi;

/// The most bytes of a page, without compression.
const PAGE: usize = 80 * 1024;

fn attempt(result: AttemptResult, ms: u64) -> Attempt {
    let error = (result != AttemptResult::Success).then(|| AttemptError {
        code: "x".to_owned(),
        text: "x".to_owned(),
    });
    Attempt {
        number: 1,
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

/// In that minute: so many successes, a refusal and two time-outs.
fn counted(now: Timestamp, endpoint: &str, minutes_ago: u64, successes: usize) -> MinuteOfEndpoint {
    let mut tally = Tally::default();
    for _ in 0..successes {
        tally.note(&attempt(AttemptResult::Success, 30));
    }
    tally.note(&attempt(AttemptResult::ClientError, 30));
    tally.note(&attempt(AttemptResult::Timeout, 5_000));
    tally.note(&attempt(AttemptResult::Timeout, 5_000));
    let ago = Duration::from_secs(minutes_ago * 60);
    MinuteOfEndpoint {
        minute: Step::Minute.start_of(now.before(ago)),
        endpoint: EndpointId::parse(endpoint).unwrap(),
        tally,
    }
}

async fn report(api: &TestApi, name: &str, minutes: &[MinuteOfEndpoint]) {
    let now = api.clock.now();
    let limited: Vec<_> = (0..5)
        .map(|n| EndpointId::parse(&format!("ep_limited_{n}")).unwrap())
        .collect();
    let report = WorkerReport {
        worker: WorkerId::generate(now),
        name,
        version: "1.2.3",
        slots: 64,
        in_flight: 3,
        at_limit: &limited,
        started_at: now,
        sequence: 1,
    };
    api.store
        .report_worker(&report, minutes, now)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_hour_is_drawn_within_the_budget_and_is_in_a_table() {
    let api = start(Mode::On).await;
    let now = api.clock.now();
    let mut minutes = Vec::new();
    let mut endpoints = Vec::new();
    for _ in 0..20 {
        endpoints.push(api.endpoint("acme").await);
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        minutes.extend((1..59).map(|ago| counted(now, endpoint, ago, at + 1)));
    }
    minutes.sort_by(|one, two| (one.minute, &one.endpoint).cmp(&(two.minute, &two.endpoint)));
    for part in minutes.chunks(1_000) {
        report(&api, "worker-1", part).await;
    }
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/overview").await;
    check("the overview", &page);
    assert!(page.html.len() <= PAGE, "{}", page.html.len());
    // Not the minute that goes on, which may end meanwhile.
    // 20 endpoints × 58 minutes × (3 failures and on average 10.5 successes).
    let name = "aria-label=\"15,660 attempts: 12,180 succeeded; 1,160 3xx, 4xx, refused; 2,320 5xx";
    assert!(page.html.contains(name), "{}", page.html);
    assert!(
        page.html.contains("fill=\"url(#hour-failed)\""),
        "failures are hatched"
    );
    assert_eq!(
        page.html.matches("<td class=\"number\">270</td>").count(),
        58,
        "in the table"
    );
    assert_eq!(page.html.matches("<tr id=\"w-").count(), 5, "the worst");
    assert!(page.html.contains("25.0 %"), "{}", page.html);

    let list = browser.get("/console/endpoints").await;
    check("the endpoints", &list);
    assert!(list.html.len() <= PAGE, "{}", list.html.len());
    assert_eq!(list.html.matches("class=\"spark\"").count(), 20);
    for (span, attempts) in [("", "232"), ("?span=24h", "232"), ("?span=30d", "232")] {
        let path = format!("/console/endpoints/{}{span}", endpoints[0]);
        let page = browser.get(&path).await;
        check(&path, &page);
        assert!(page.html.len() <= PAGE, "{path}: {}", page.html.len());
        let name = format!("aria-label=\"{attempts} attempts: 58 succeeded;");
        assert!(page.html.contains(&name), "{path}: {}", page.html);
    }
    let path = format!("/console/endpoints/{}?span=7d", endpoints[0]);
    assert_eq!(browser.get(&path).await.status, 422);
}

#[tokio::test]
async fn whoever_is_bound_to_a_tenant_sees_its_numbers_alone() {
    let api = start(Mode::On).await;
    let now = api.clock.now();
    let of_acme = api.endpoint("acme").await;
    let of_bolt = api.endpoint("bolt").await;
    report(&api, "worker-1", &[counted(now, &of_acme, 2, 7)]).await;
    report(&api, "worker-1", &[counted(now, &of_bolt, 2, 1)]).await;
    let all = Browser::with(&api, &[Scope::Read], None).await;
    let page = all.get("/console/overview").await;
    assert!(
        page.html.contains("aria-label=\"14 attempts:"),
        "{}",
        page.html
    );
    let page = all.get("/console/overview?tenant=bolt").await;
    assert!(
        page.html.contains("aria-label=\"4 attempts:"),
        "{}",
        page.html
    );
    let bound = Browser::with(&api, &[Scope::Read], Some("acme")).await;
    let page = bound.get("/console/overview").await;
    assert!(
        page.html.contains("aria-label=\"10 attempts:"),
        "{}",
        page.html
    );
    assert!(!page.html.contains(&of_bolt) && !page.html.contains("/console/workers"));
    let none = Browser::with(&api, &[Scope::Read], Some("none")).await;
    let page = none.get("/console/overview").await;
    assert!(
        page.html.contains("Nothing was sent for the tenant"),
        "{}",
        page.html
    );
}

#[tokio::test]
async fn workers_are_listed_with_what_they_said() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Read], None).await;
    let none = browser.get("/console/workers").await;
    assert!(none.html.contains("No worker is alive."), "{}", none.html);
    report(&api, "<worker>", &[]).await;
    let page = browser.get("/console/workers").await;
    check("the workers", &page);
    assert!(
        page.html.contains("No worker is alive; one fell silent"),
        "{}",
        page.html
    );
    assert!(page.html.contains("&lt;worker&gt;") && page.html.contains("3 of 64"));
    assert!(page.html.contains("and 3 more"), "{}", page.html);
}
