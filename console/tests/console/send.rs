//! A notification by hand, a transform that is tried, rows that are selected, and who did what.

use posthaste_console::Mode;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::key::Scope;
use serde_json::json;

use crate::browser::{Browser, start};
use crate::forms::{filled, send, value, with};
use crate::html::check;
use crate::things::{HOSTILE, recorded};

#[tokio::test]
async fn who_gets_it_is_shown_and_it_is_sent_once() {
    let api = start(Mode::On).await;
    let endpoint = api.endpoint("acme").await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get("/console/send?tenant=acme").await;
    check("send", &page);
    let changes = [("type", "order.paid"), ("payload", "{\"a\": 1.10}")];
    let form = with(filled(&page), &changes);
    let looked = send(&browser, "/console/send/look?tenant=acme", &form).await;
    assert_eq!(looked.status, 200, "{}", looked.html);
    check("looked", &looked);
    assert!(
        looked.html.contains("One endpoint gets it"),
        "{}",
        looked.html
    );
    assert!(looked.html.contains("hooks.example/x"), "{}", looked.html);
    // The request, with each digit as it was typed.
    assert!(looked.html.contains("1.10"), "{}", looked.html);
    assert_eq!(
        value(&looked, "notification_id"),
        value(&page, "notification_id"),
        "the id stays"
    );
    assert_eq!(api.depth().await, 0, "to look sends nothing");

    let form = filled(&looked);
    let sent = send(&browser, "/console/send?tenant=acme", &form).await;
    assert_eq!(sent.status, 303, "{}", sent.html);
    let id = value(&page, "notification_id");
    assert!(sent.location().starts_with("/console/notifications/acme/"));
    assert!(sent.location().contains("fresh=1"), "{}", sent.location());
    let again = send(&browser, "/console/send?tenant=acme", &form).await;
    assert_eq!(again.status, 303);
    // The page of the form again, by Back: another form, and the same notification.
    let new = with(form.clone(), &[("form_id", "another")]);
    let again = send(&browser, "/console/send?tenant=acme", &new).await;
    assert_eq!(again.status, 303, "{}", again.html);
    assert_eq!(api.depth().await, 1, "it is enqueued once");
    let other = with(new, &[("form_id", "third"), ("payload", "2")]);
    let conflict = send(&browser, "/console/send?tenant=acme", &other).await;
    assert_eq!(conflict.status, 409, "{}", conflict.html);
    let fresh = browser.get(sent.location()).await;
    check("not recorded yet", &fresh);
    assert!(
        fresh.status == 200 && fresh.html.contains(id),
        "{}",
        fresh.html
    );
    let one = browser
        .get(&format!("/console/send?endpoint_id={endpoint}"))
        .await;
    let tenant = ("tenant".to_owned(), "acme".to_owned());
    assert!(filled(&one).contains(&tenant), "{}", one.html);
}

#[tokio::test]
async fn what_is_wrong_with_it_stands_at_its_field() {
    let api = start(Mode::On).await;
    let endpoint = api.endpoint("acme").await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let form = filled(&browser.get("/console/send").await);
    for (field, text, said) in [
        ("payload", "{\"a\":", "is not JSON"),
        ("payload", "", "is missing"),
        ("type", "delivery.failed", "own events"),
        ("type", HOSTILE, "is refused"),
        ("recipient", "[", "is not JSON"),
        ("tenant", HOSTILE, "is refused"),
        ("endpoint_id", "ep_nothing", "does not name an endpoint"),
    ] {
        let mut wrong = form.clone();
        wrong.retain(|(name, _)| name != field && name != "type");
        wrong.push((field.to_owned(), text.to_owned()));
        if field != "type" {
            wrong.push(("type".to_owned(), "order.paid".to_owned()));
        }
        for path in ["/console/send/look", "/console/send"] {
            let page = send(&browser, path, &wrong).await;
            assert_eq!(page.status, 422, "{field}: {}", page.html);
            check(field, &page);
            assert!(page.html.contains(said), "{field}: {}", page.html);
            assert!(!page.html.contains("<script>alert"), "{field}");
        }
    }
    // What the endpoint's format lacks is said before.
    let wrong = with(
        form,
        &[("payload", "\"no good\""), ("endpoint_id", &endpoint)],
    );
    let page = send(&browser, "/console/send/look", &wrong).await;
    assert!(
        page.html.contains("payload.text is no good"),
        "{}",
        page.html
    );
    assert_eq!(api.depth().await, 0);
}

#[tokio::test]
async fn whoever_may_only_read_sends_nothing_and_whoever_may_enqueue_sees_no_request() {
    let api = start(Mode::On).await;
    api.endpoint("acme").await;
    let reader = Browser::with(&api, &[Scope::Read], Some("acme")).await;
    assert_eq!(reader.get("/console/send").await.status, 403);
    assert!(
        !reader
            .get("/console/deliveries")
            .await
            .html
            .contains("/console/send")
    );
    let both = Browser::with(&api, &[Scope::Read, Scope::Enqueue], Some("acme")).await;
    let page = both.get("/console/send").await;
    let form = with(filled(&page), &[("type", "order.paid"), ("payload", "1")]);
    let looked = send(&both, "/console/send/look", &form).await;
    assert!(
        looked.html.contains("One endpoint gets it"),
        "{}",
        looked.html
    );
    assert!(!looked.html.contains("The request"), "{}", looked.html);
    let sent = send(&both, "/console/send", &filled(&looked)).await;
    assert_eq!(sent.status, 303, "{}", sent.html);
    assert_eq!(api.depth().await, 1);
}

#[tokio::test]
async fn a_transform_is_checked_tried_and_saved() {
    let api = start(Mode::On).await;
    let endpoint = api.endpoint("acme").await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let path = format!("/console/endpoints/{endpoint}/transform");
    let attempt = format!("{path}/try");
    let page = browser.get(&path).await;
    check("transform", &page);
    let form = filled(&page);
    let wrong = with(
        form.clone(),
        &[("transform", "export default (n) => {\r\n\treturn 1 +;\r\n}")],
    );
    let page = send(&browser, &attempt, &wrong).await;
    assert_eq!(page.status, 200, "{}", page.html);
    check("wrong", &page);
    assert!(page.html.contains("Line 2, column 12"), "{}", page.html);
    assert!(
        page.html.contains("\treturn 1 +;\n\t          ^"),
        "{}",
        page.html
    );
    let hostile = format!("// {HOSTILE}\nexport default (n) => ({{ payload: n.payload }})");
    let right = with(form, &[("transform", &hostile)]);
    let page = send(&browser, &attempt, &right).await;
    check("tried", &page);
    for part in [
        "It works",
        "Payload before",
        "Payload after",
        "&lt;script&gt;alert(1)",
    ] {
        assert!(page.html.contains(part), "{part}: {}", page.html);
    }
    assert!(!page.html.contains("<script>alert"));
    let odd = with(
        right.clone(),
        &[("notification", "{\"type\": \"a b\", \"payload\": 1}")],
    );
    let page = send(&browser, &attempt, &odd).await;
    assert_eq!(page.status, 422, "{}", page.html);
    let shown = api
        .call("GET", &format!("/v1/endpoints/{endpoint}"), json!(null))
        .await;
    assert_eq!(shown.body["settings"], json!({}), "to try it saves nothing");

    let page = send(&browser, &path, &right).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let shown = api
        .call("GET", &format!("/v1/endpoints/{endpoint}"), json!(null))
        .await;
    assert_eq!(shown.body["settings"]["transform"], "[redacted]");
    // What is saved is shown to nobody; with an empty field it is what is tried, and it stays.
    let page = browser.get(&path).await;
    check("saved", &page);
    assert!(page.html.contains("The endpoint has a transform."));
    assert!(!page.html.contains("redacted"), "{}", page.html);
    let form = filled(&page);
    let page = send(&browser, &attempt, &form).await;
    assert!(page.html.contains("It works"), "{}", page.html);
    let page = send(&browser, &path, &form).await;
    assert_eq!(page.status, 422, "{}", page.html);
    assert!(page.html.contains("There is nothing to save"));
    // Somebody else is quicker: that is said, and the own one is kept when it is saved again.
    let theirs = json!({ "settings": { "transform": "theirs" } });
    api.call("PATCH", &format!("/v1/endpoints/{endpoint}"), theirs)
        .await;
    let mine = with(form, &[("transform", "mine")]);
    let page = send(&browser, &path, &mine).await;
    assert_eq!(page.status, 412, "{}", page.html);
    check("overtaken", &page);
    assert!(page.html.contains("mine"), "{}", page.html);
    let page = send(&browser, &path, &filled(&page)).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let shown = api
        .call("GET", &format!("/v1/endpoints/{endpoint}"), json!(null))
        .await;
    assert_eq!(shown.body["settings"]["transform"], "[redacted]");
    let mut form = filled(&browser.get(&path).await);
    form.push(("remove".to_owned(), "1".to_owned()));
    let page = send(&browser, &path, &form).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let shown = api
        .call("GET", &format!("/v1/endpoints/{endpoint}"), json!(null))
        .await;
    assert_eq!(shown.body["settings"], json!({}));
}

#[tokio::test]
async fn several_rows_are_retried_or_cancelled_and_each_is_accounted_for() {
    let api = start(Mode::On).await;
    let now = api.clock.now();
    let later = now.after(std::time::Duration::from_secs(600));
    let reason = FailureReason::Rejected;
    let failed = recorded(
        &api,
        "acme",
        "n-1",
        DeliveryState::Failed { at: now, reason },
    )
    .await;
    let waits = DeliveryState::Pending(Wait::Retry { due_at: later });
    let waits = recorded(&api, "acme", "n-2", waits).await;
    let in_flight = DeliveryState::Pending(Wait::InFlight { lease_until: later });
    let in_flight = recorded(&api, "acme", "n-3", in_flight).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let list = browser.get("/console/deliveries?tenant=acme").await;
    check("the list", &list);
    let box_of = format!("name=\"delivery\" value=\"{failed}\"");
    assert!(list.html.contains(&box_of), "{}", list.html);
    let token = list.token();
    let ids = [failed, waits, in_flight].map(|id| id.to_string());
    let form = |action: &'static str| {
        let mut form = vec![("form_token", token.as_str()), ("do", action)];
        form.extend(ids.iter().map(|id| ("delivery", id.as_str())));
        form.push(("delivery", "nothing"));
        form
    };
    let path = "/console/deliveries/selected?tenant=acme";
    let page = browser.post(path, &form("cancel")).await;
    assert_eq!(page.status, 303, "{}", page.html);
    let list = browser.get(page.location()).await;
    let said = "1 is cancelled; 1 was finished already; 1 is being sent at this moment; 1 is not \
                there any more.";
    assert!(
        list.html.contains(said),
        "{}\n{}",
        page.location(),
        list.html
    );
    let page = browser.post(path, &form("retry")).await;
    let list = browser.get(page.location()).await;
    assert!(list.html.contains("2 are due now; "), "{}", list.html);
    let page = browser
        .post(path, &[("form_token", &token), ("do", "retry")])
        .await;
    let list = browser.get(page.location()).await;
    assert!(list.html.contains("None was selected."), "{}", list.html);
    assert_eq!(
        browser.post(path, &[("form_token", &token)]).await.status,
        422
    );

    // Whoever only looks has no boxes, and those of another tenant are not there.
    let reader = Browser::with(&api, &[Scope::Read], None).await;
    assert!(
        !reader
            .get("/console/deliveries")
            .await
            .html
            .contains("checkbox\" name=\"delivery")
    );
    let other = Browser::with(&api, &[Scope::Admin], Some("other")).await;
    let token = other.get("/console/deliveries").await.token();
    let form = [
        ("form_token", token.as_str()),
        ("do", "retry"),
        ("delivery", &ids[0]),
    ];
    let page = other.post("/console/deliveries/selected", &form).await;
    assert!(page.location().contains("unknown.1"), "{}", page.location());
}

#[tokio::test]
async fn who_did_what_is_written_with_what_was_done() {
    let api = start(Mode::On).await;
    let now = api.clock.now();
    let reason = FailureReason::Rejected;
    let id = recorded(
        &api,
        "acme",
        "n-1",
        DeliveryState::Failed { at: now, reason },
    )
    .await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let path = format!("/console/deliveries/{id}");
    browser.act(&format!("{path}/retry")).await;
    // It was retried, so it cannot be cancelled twice.
    browser.act(&format!("{path}/cancel")).await;
    browser.act(&format!("{path}/cancel")).await;
    let page = browser.get("/console/audit").await;
    check("audit", &page);
    for part in ["console.sign_in", "delivery.retry", "delivery.cancel"] {
        assert!(
            page.html.contains(&format!("<b>{part}</b>")),
            "{part}: {}",
            page.html
        );
    }
    assert_eq!(
        page.html.matches("<b>delivery.cancel</b>").count(),
        1,
        "{}",
        page.html
    );
    let page = browser
        .get(&format!("/console/audit?object={id}&action=delivery.retry"))
        .await;
    assert_eq!(page.html.matches("<tr id=").count(), 1, "{}", page.html);
    assert!(
        page.html.contains(&format!("href=\"{path}\"")),
        "{}",
        page.html
    );
    let bound = Browser::with(&api, &[Scope::Admin], Some("acme")).await;
    assert_eq!(bound.get("/console/audit").await.status, 403);
    assert!(
        !bound
            .get("/console/deliveries")
            .await
            .html
            .contains("/console/audit")
    );
}
