//! Every page in its states.

use posthaste_console::Mode;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::domain::health::HealthChange;
use posthaste_shared::domain::id::EndpointId;
use posthaste_shared::domain::key::Scope;
use serde_json::json;

use crate::browser::{Browser, start};
use crate::html::check;
use crate::things::{HOSTILE, recorded, states};

/// The most bytes of a page, without compression.
const PAGE: usize = 80 * 1024;

#[tokio::test]
async fn every_page_in_every_state_is_html_without_code_or_style() {
    let api = start(Mode::On).await;
    let empty = Browser::with(&api, &[Scope::Admin], None).await;
    let lists = [
        "/console/overview",
        "/console/deliveries",
        "/console/notifications",
        "/console/endpoints",
        "/console/events",
        "/console/replays",
        "/console/workers",
        "/console/dead-letters",
        "/console/keys",
        "/console/audit",
        "/console/send",
    ];
    for path in lists {
        let page = empty.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        check(path, &page);
    }
    let mut paths: Vec<String> = Vec::new();
    for (at, state) in states(api.clock.now()).into_iter().enumerate() {
        let id = recorded(&api, "acme", &format!("n-{at}"), state).await;
        paths.push(format!("/console/deliveries/{id}"));
        paths.push(format!("/console/deliveries/{id}/cancel"));
        paths.push(format!("/console/deliveries/{id}/retry"));
        paths.push(format!("/console/notifications/acme/n-{at}"));
    }
    let body = json!({
        "url": "https://hooks.example/%3Cscript%3E?a=%22%3E", "wire_format": "standard",
        "tenant": "acme", "description": HOSTILE.replace('\0', ""), "enabled": false,
        "headers": { "x-a": "<script>alert(1)</script>" },
    });
    let made = api.call("POST", "/v1/endpoints", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let endpoint = made.body["id"].as_str().unwrap();
    paths.push(format!("/console/endpoints/{endpoint}"));
    for question in ["disable", "settings", "secret", "delete", "transform"] {
        paths.push(format!("/console/endpoints/{endpoint}/{question}"));
    }
    paths.push("/console/endpoints/new".to_owned());
    paths.push("/console/keys/new".to_owned());
    paths.push(format!(
        "/console/endpoints/{endpoint}/transform?with=latest"
    ));
    paths.push(format!("/console/send?endpoint_id={endpoint}"));
    paths.push("/console/send?like=n-1&of=acme".to_owned());
    paths.push("/console/notifications/acme/no-such?fresh=1".to_owned());
    paths.push("/console/deliveries?window=all&notice=retried.3-expired.1".to_owned());
    let formats = api.call("GET", "/v1/wire-formats", json!(null)).await;
    for format in formats.body["items"].as_array().unwrap() {
        let name = format["name"].as_str().unwrap();
        paths.push(format!("/console/endpoints/new?wire_format={name}"));
    }
    let opened = HealthChange::Opened {
        endpoint: EndpointId::parse(&api.endpoint("acme").await).unwrap(),
        until: api.clock.now(),
        failures: 7,
        last_error: HOSTILE.replace('\0', ""),
        types: vec![],
    };
    let now = api.clock.now();
    api.store.report_health(&[opened], None, now).await.unwrap();
    paths.extend(lists.map(str::to_owned));
    let all = json!({ "type": "order.paid", "status": ["failed", "expired"] });
    let begun = api.call("POST", "/v1/deliveries/replay", all).await;
    paths.push(format!(
        "/console/replays/{}",
        begun.body["id"].as_str().unwrap()
    ));
    paths.push("/console/replays/new?status=failed".to_owned());
    paths.push("/console/replays/new?status=failed&type=no.such&tenant=acme".to_owned());
    let odd = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    paths.extend([
        "/console/deliveries?status=failed,expired&hold=breaker&window=all&tenant=acme".to_owned(),
        format!("/console/deliveries?notification_id={odd}&tenant=acme"),
        "/console/endpoints?enabled=false".to_owned(),
        "/console/notifications?unmatched=true".to_owned(),
    ]);
    for path in &paths {
        let page = empty.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        check(path, &page);
        assert!(!page.html.contains("<script>alert"), "{path}");
        assert!(!without_copies(&page.html).contains('\u{202e}'), "{path}");
        assert!(page.html.len() <= PAGE, "{path}: {}", page.html.len());
    }
    let refused = [
        (format!("/console/deliveries?status={odd}"), 422),
        ("/console/deliveries?cursor=x".to_owned(), 422),
        (format!("/console/deliveries?tenant={odd}"), 422),
        (format!("/console/go?id={odd}"), 404),
        (format!("/console/audit?action={odd}"), 422),
        (format!("/console/send?like={odd}"), 404),
        (format!("/console/send?tenant={odd}"), 422),
        ("/console/notifications/acme/no-such".to_owned(), 404),
        ("/console/replays/new?window=all".to_owned(), 422),
        ("/console/replays/new?status=pending".to_owned(), 422),
        ("/console/replays/nothing".to_owned(), 404),
        (format!("/console/{odd}"), 404),
        ("/console/deliveries/nothing".to_owned(), 404),
    ];
    for (path, status) in refused {
        let page = empty.get(&path).await;
        assert_eq!(page.status, status, "{path}: {}", page.html);
        check(&path, &page);
        assert!(!page.html.contains("<script>alert"), "{path}");
    }
}

/// A page without what scripts copy and what fields have in them, which is the text as it is.
fn without_copies(html: &str) -> String {
    let mut shown = html.to_owned();
    for attribute in [" data-copy=\"", " data-id=\"", " value=\""] {
        let mut parts = shown.split(attribute);
        let first = parts.next().unwrap_or_default().to_owned();
        shown = parts.fold(first, |shown, part| shown + part.split_once('"').unwrap().1);
    }
    shown
}

#[tokio::test]
async fn a_full_list_stays_within_its_budget_and_leads_to_the_older_ones() {
    let api = start(Mode::On).await;
    let endpoint = api.endpoint("acme").await;
    for at in 0..60 {
        let reason = FailureReason::RetriesExhausted;
        let now = api.clock.now();
        let state = DeliveryState::Failed { at: now, reason };
        let error = "the endpoint answered 503 Service Unavailable";
        crate::things::recorded_at(&api, "acme", &format!("n-{at}"), state, &endpoint, error).await;
    }
    let browser = Browser::with(&api, &[Scope::Read], None).await;
    let page = browser.get("/console/deliveries").await;
    check("the list", &page);
    assert_eq!(page.html.matches("<tr id=").count(), 50);
    assert!(page.html.len() <= PAGE, "{}", page.html.len());
    let next = page
        .html
        .split("rel=\"next\" href=\"")
        .nth(1)
        .expect("older ones");
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    let older = browser.get(&next).await;
    assert_eq!(older.html.matches("<tr id=").count(), 10);
    assert!(older.html.contains("rel=\"first\"") && !older.html.contains("rel=\"next\""));
}

#[tokio::test]
async fn an_open_page_asks_for_its_main_part_and_gets_it_only_when_it_changed() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Read], None).await;
    let part = |tag: Option<String>| {
        let request = browser.request("GET", "/console/deliveries");
        let request = request.header("posthaste-part", "main");
        match tag {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        }
    };
    let first = browser.send(part(None)).await;
    assert!(first.html.starts_with("<main") && first.html.ends_with("</main>"));
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(browser.send(part(Some(tag.clone()))).await.status, 304);
    let now = api.clock.now();
    recorded(&api, "acme", "n-1", DeliveryState::Delivered { at: now }).await;
    let second = browser.send(part(Some(tag))).await;
    assert_eq!(second.status, 200);
    assert!(second.html.contains("delivered"));
    let nobody = Browser::new(&api);
    let request = nobody
        .request("GET", "/console/deliveries")
        .header("posthaste-part", "main");
    assert_eq!(nobody.send(request).await.status, 401);
}

#[tokio::test]
async fn files_are_kept_for_ever_under_their_hash_and_within_their_budgets() {
    let api = start(Mode::On).await;
    let nobody = Browser::new(&api);
    let page = nobody.get("/console/login").await;
    check("sign in", &page);
    let mut sizes = Vec::new();
    for part in page.html.split("=\"/console/assets/").skip(1) {
        let path = format!("/console/assets/{}", part.split('"').next().unwrap());
        let file = nobody.get(&path).await;
        assert_eq!(file.status, 200, "{path}");
        let cached = file.headers["cache-control"].to_str().unwrap();
        assert!(cached.contains("immutable"), "{path}: {cached}");
        assert_eq!(file.headers["x-content-type-options"], "nosniff");
        sizes.push((path.rsplit('/').next().unwrap().to_owned(), file.html.len()));
    }
    let size = |name: &str| sizes.iter().find(|(file, _)| file == name).unwrap().1;
    assert!(size("console.css") <= 32 * 1024, "{sizes:?}");
    assert!(size("console.js") <= 24 * 1024, "{sizes:?}");
    assert!(
        size("console.js") + size("idiomorph.js") <= 36 * 1024,
        "{sizes:?}"
    );
    let other = nobody
        .get("/console/assets/0000000000000000/console.css")
        .await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn going_to_an_id_finds_whatever_has_it() {
    let api = start(Mode::On).await;
    let now = api.clock.now();
    let id = recorded(
        &api,
        "acme",
        "order/1",
        DeliveryState::Delivered { at: now },
    )
    .await;
    let endpoint = api.endpoint("acme").await;
    let browser = Browser::with(&api, &[Scope::Read], None).await;
    for (id, path) in [
        (id.to_string(), format!("/console/deliveries/{id}")),
        (
            "order%2F1".to_owned(),
            "/console/notifications/acme/order%2F1".to_owned(),
        ),
        (endpoint.clone(), format!("/console/endpoints/{endpoint}")),
    ] {
        let page = browser.get(&format!("/console/go?id={id}")).await;
        assert_eq!((page.status, page.location()), (303, path.as_str()));
        assert_eq!(browser.get(&path).await.status, 200, "{path}");
    }
    let other = Browser::with(&api, &[Scope::Read], Some("other")).await;
    let page = other.get(&format!("/console/go?id={endpoint}")).await;
    assert_eq!(page.status, 404, "another tenant's looks like none");
}

#[tokio::test]
async fn the_overview_says_what_needs_somebody() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/overview").await;
    assert!(page.html.contains("No worker is alive"), "{}", page.html);
    assert!(
        page.html.contains("One thing needs attention"),
        "{}",
        page.html
    );
    let now = api.clock.now();
    let reason = FailureReason::Rejected;
    let id = recorded(
        &api,
        "acme",
        "n-1",
        DeliveryState::Failed { at: now, reason },
    )
    .await;
    let delivery = api.store.delivery(id).await.unwrap().unwrap().0;
    let opened = HealthChange::Opened {
        endpoint: delivery.endpoint_id,
        until: now,
        failures: 7,
        last_error: "503 Service Unavailable".to_owned(),
        types: vec![],
    };
    api.store.report_health(&[opened], None, now).await.unwrap();
    let page = browser.get("/console/overview").await;
    check("the overview", &page);
    for part in [
        "2 things need attention",
        "fails since",
        "503 Service Unavailable",
        "rejected",
    ] {
        assert!(page.html.contains(part), "{part}: {}", page.html);
    }
    // A tenant's own key sees nothing of the whole.
    let bound = Browser::with(&api, &[Scope::Read], Some("bolt")).await;
    let page = bound.get("/console/overview").await;
    check("the overview of a tenant", &page);
    for part in ["All is well", "Nothing."] {
        assert!(page.html.contains(part), "{part}: {}", page.html);
    }
    assert!(!page.html.contains("Work queue"), "{}", page.html);
}

#[tokio::test]
async fn all_that_match_are_sent_again_as_a_job_that_can_be_stopped() {
    let api = start(Mode::On).await;
    let endpoint = api.endpoint("acme").await;
    for at in 0..3 {
        let now = api.clock.now();
        let reason = FailureReason::Rejected;
        let state = DeliveryState::Failed { at: now, reason };
        crate::things::recorded_at(&api, "acme", &format!("n-{at}"), state, &endpoint, "no").await;
    }
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let list = browser
        .get("/console/deliveries?status=failed&tenant=acme")
        .await;
    let link = "/console/replays/new?status=failed&amp;tenant=acme";
    assert!(list.html.contains(link), "{}", list.html);
    let asked = browser
        .get("/console/replays/new?status=failed&tenant=acme")
        .await;
    check("the question", &asked);
    assert!(
        asked.html.contains("Send 3 deliveries again?"),
        "{}",
        asked.html
    );
    // What is asked about is what is sent: the window does not move with the clock.
    let action = asked
        .html
        .split("action=\"/console/replays?")
        .nth(1)
        .expect("the form");
    let action = action.split('"').next().unwrap().replace("&amp;", "&");
    assert!(
        action.contains("since=") && action.contains("tenant=acme"),
        "{action}"
    );
    let begun = browser.act(&format!("/console/replays?{action}")).await;
    assert_eq!(begun.status, 303, "{}", begun.html);
    let path = begun.location().to_owned();
    let page = browser.get(&path).await;
    check("the job", &page);
    for part in ["running", "0 of 3", "tenant acme"] {
        assert!(page.html.contains(part), "{part}: {}", page.html);
    }
    let id = path.split(['/', '?']).nth(3).unwrap();
    let stopped = browser.act(&format!("/console/replays/{id}/cancel")).await;
    assert_eq!(stopped.status, 303, "{}", stopped.html);
    let page = browser.get(&path).await;
    assert!(
        page.html.contains("cancelled") && !page.html.contains("Stop"),
        "{}",
        page.html
    );
    // Whoever only looks is not even asked.
    let reader = Browser::with(&api, &[Scope::Read], None).await;
    let list = reader.get("/console/deliveries?status=failed").await;
    assert!(!list.html.contains("Replay all"), "{}", list.html);
}
