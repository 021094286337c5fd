//! A form is done once, however often it is sent.

use std::time::Duration;

use posthaste_console::Mode;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::domain::key::Scope;
use serde_json::json;

use crate::browser::{Browser, start};
use crate::forms::{filled, send, shown, with};
use crate::html::check;
use crate::support::TestApi;
use crate::things::recorded;

async fn delivered(api: &TestApi, name: &str) -> String {
    let now = api.clock.now();
    let id = recorded(api, "acme", name, DeliveryState::Delivered { at: now }).await;
    format!("/console/deliveries/{id}")
}

/// The value of the hidden field of a page's forms.
fn form_id(html: &str) -> &str {
    let (_, rest) = html
        .split_once("name=\"form_id\" value=\"")
        .expect("a form");
    rest.split('"').next().expect("its end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_click_does_nothing_more() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let now = api.clock.now();
    let reason = FailureReason::Rejected;
    recorded(
        &api,
        "acme",
        "n-1",
        DeliveryState::Failed { at: now, reason },
    )
    .await;
    let asked = browser
        .get("/console/replays/new?status=failed&window=all&tenant=acme")
        .await;
    let (token, id) = (asked.token(), form_id(&asked.html));
    let form = [("form_token", token.as_str()), ("form_id", id)];
    let path = "/console/replays?status=failed&window=all&tenant=acme";
    let (first, second, third) = tokio::join!(
        browser.post(path, &form),
        browser.post(path, &form),
        browser.post(path, &form)
    );
    let pages = [first, second, third];
    assert!(pages.iter().all(|page| page.status == 303), "{pages:?}");
    let places = pages.each_ref().map(|page| {
        let place = page.location();
        place.split('?').next().unwrap_or_default().to_owned()
    });
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    let said = pages
        .iter()
        .filter(|page| page.location().contains("notice=already"));
    assert_eq!(said.count(), 2, "{pages:?}");
    let all = api.call("GET", "/v1/replays", json!(null)).await;
    assert_eq!(
        all.body["items"].as_array().map(Vec::len),
        Some(1),
        "{all:?}"
    );
    let page = browser.get(pages[1].location()).await;
    check("the page that it leads to", &page);

    // A form of another page is another one.
    let other = browser.post(path, &[("form_token", &token)]).await;
    assert_eq!(other.status, 303);
    let all = api.call("GET", "/v1/replays", json!(null)).await;
    assert_eq!(
        all.body["items"].as_array().map(Vec::len),
        Some(2),
        "{all:?}"
    );
}

#[tokio::test]
async fn the_same_form_with_another_content_is_refused() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/keys/new").await;
    let (token, id) = (page.token(), form_id(&page.html));
    let form = |name: &'static str| {
        vec![
            ("form_token", token.as_str()),
            ("form_id", id),
            ("scopes", "read"),
            ("name", name),
        ]
    };
    // What was refused was not done, and uses up nothing.
    let refused = browser.post("/console/keys", &form("")).await;
    assert_eq!(refused.status, 422);
    let made = browser.post("/console/keys", &form("shop")).await;
    assert_eq!(made.status, 200, "{}", made.html);
    let again = browser.post("/console/keys", &form("shop")).await;
    assert_eq!(
        again.html, made.html,
        "the key is shown to whoever clicked twice"
    );
    let other = browser.post("/console/keys", &form("other")).await;
    assert_eq!(other.status, 409, "{}", other.html);
    check("used up", &other);
    assert!(
        other.html.contains("Nothing was done now"),
        "{}",
        other.html
    );
    let all = api.call("GET", "/v1/keys", json!(null)).await;
    let named = |name: &str| {
        let items = all.body["items"].as_array().expect("keys").iter();
        items.filter(|key| key["name"] == name).count()
    };
    assert_eq!((named("shop"), named("other")), (1, 0));
    // Somebody else who learns of the id gets nothing by it.
    let stranger = Browser::with(&api, &[Scope::Admin], None).await;
    let own = stranger.get("/console/keys/new").await.token();
    let mut stolen = form("shop");
    stolen[0].1 = &own;
    let page = stranger.post("/console/keys", &stolen).await;
    assert!(
        page.status == 200 && page.html != made.html,
        "{}",
        page.html
    );
}

#[tokio::test]
async fn a_form_without_an_id_is_refused() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let path = delivered(&api, "n-1").await;
    let token = browser.get(&path).await.token();
    let request = browser
        .request("POST", &format!("{path}/retry"))
        .header("sec-fetch-site", "same-origin")
        .form(&[("form_token", &token)]);
    let page = browser.send(request).await;
    assert_eq!(page.status, 403, "{}", page.html);
    let retried = browser.act(&format!("{path}/retry")).await;
    assert_eq!(retried.status, 303);
}

#[tokio::test]
async fn a_question_can_be_asked_in_a_dialog() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let path = delivered(&api, "n-1").await;
    let page = browser.get(&path).await;
    assert!(page.html.contains("data-question"), "{}", page.html);
    let request = browser
        .request("GET", &format!("{path}/retry"))
        .header("posthaste-part", "main");
    let part = browser.send(request).await;
    assert!(part.html.starts_with("<main") && part.html.ends_with("</main>"));
    assert!(part.html.contains("Send again") && part.html.contains("form_id"));
}

/// With a second click a browser gives up on the first request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_gave_up_on_is_done_to_its_end() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser
        .get("/console/endpoints/new?wire_format=standard")
        .await;
    // Its name is looked for during two seconds.
    let form = with(filled(&page), &[("url", "https://slow.example/x")]);
    let path = "/console/endpoints";
    let first = send(&browser, path, &form);
    let given_up = tokio::time::timeout(Duration::from_millis(500), first).await;
    assert!(given_up.is_err(), "it takes longer");
    let second = send(&browser, path, &form).await;
    assert_eq!(second.status, 200, "{}", second.html);
    assert!(shown(&second).starts_with("whsec_"), "{}", second.html);
    let all = api.call("GET", "/v1/endpoints", json!(null)).await;
    assert_eq!(
        all.body["items"].as_array().map(Vec::len),
        Some(1),
        "{all:?}"
    );
}
