//! Signing in, what a form needs, and what ends a session.

use std::time::{Duration, Instant};

use posthaste_console::Mode;
use posthaste_producer::http::hash_key;
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::domain::id::KeyId;
use posthaste_shared::domain::key::Scope;
use posthaste_shared::store::console_sessions::ConsoleSession;
use serde_json::Value;

use crate::browser::{Browser, start};
use crate::html::check;
use crate::support::{ADMIN_KEY, TestApi};
use crate::things::recorded;

async fn failed(api: &TestApi, name: &str) -> String {
    let at = api.clock.now();
    let reason = FailureReason::RetriesExhausted;
    let id = recorded(api, "acme", name, DeliveryState::Failed { at, reason }).await;
    format!("/console/deliveries/{id}")
}

async fn status(api: &TestApi, path: &str) -> Value {
    let path = path.replace("/console", "/v1");
    api.call("GET", &path, Value::Null).await.body["status"].clone()
}

#[tokio::test]
async fn signing_in_leads_to_where_somebody_wanted_to_go() {
    let api = start(Mode::On).await;
    let mut browser = Browser::new(&api);
    let asked = browser.get("/console/deliveries?status=failed").await;
    assert_eq!(asked.status, 303);
    let login = asked.location().to_owned();
    assert_eq!(
        login,
        "/console/login?next=%2Fconsole%2Fdeliveries%3Fstatus%3Dfailed"
    );
    let page = browser.get(&login).await;
    check("sign in", &page);
    assert!(
        page.html
            .contains("value=\"/console/deliveries?status=failed\"")
    );
    let key = api.key(&[Scope::Read], None).await;
    let next = ("next", "/console/deliveries?status=failed");
    let page = browser.post("/console/login", &[("key", &key), next]).await;
    assert_eq!((page.status, page.location()), (303, next.1));
    let set = page.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{set}"
    );
    browser.cookie = page.cookie();
    let page = browser.get(next.1).await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.headers[name], value, "{name}");
    }
    let evil = ("next", "//evil.example");
    let page = browser.post("/console/login", &[("key", &key), evil]).await;
    assert_eq!(page.location(), "/console/overview");
}

#[tokio::test]
async fn a_link_from_another_site_asks_once_more_from_here() {
    let api = start(Mode::On).await;
    let browser = Browser::new(&api);
    let request = browser.request("GET", "/console/deliveries?a=%22%3E");
    let page = browser
        .send(request.header("sec-fetch-site", "cross-site"))
        .await;
    assert_eq!(page.status, 200);
    let refresh = "<meta http-equiv=\"refresh\" content=\"0;url=/console/deliveries?a=%22%3E\">";
    assert!(page.html.contains(refresh), "{}", page.html);
    let request = browser.request("GET", "/console");
    let page = browser
        .send(request.header("sec-fetch-site", "cross-site"))
        .await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn the_api_never_looks_at_the_cookie() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    assert_eq!(browser.get("/v1/deliveries").await.status, 401);
    let request = browser.request("POST", "/v1/notifications").body("{}");
    assert_eq!(browser.send(request).await.status, 401);
}

#[tokio::test]
async fn a_form_needs_cookie_origin_and_token() {
    let api = start(Mode::On).await;
    let path = failed(&api, "n-1").await;
    let retry = format!("{path}/retry");
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let other = Browser::with(&api, &[Scope::Admin], None).await;
    let token = browser.get(&path).await.token();
    let form = [("form_token", token.as_str()), ("form_id", "a-new-one")];
    let foreign = other.get(&path).await.token();
    // Without the cookie.
    assert_eq!(Browser::new(&api).post(&retry, &form).await.status, 401);
    // Without the token, and with that of another session.
    assert_eq!(browser.post(&retry, &[]).await.status, 403);
    assert_eq!(
        browser
            .post(&retry, &[("form_token", &foreign)])
            .await
            .status,
        403
    );
    // From another site, from nowhere, and as a GET, which only asks.
    for (header, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("x-nothing", ""),
    ] {
        let request = browser
            .request("POST", &retry)
            .header(header, value)
            .form(&form);
        let page = browser.send(request).await;
        assert_eq!(page.status, 403, "{header}: {value}");
        check(value, &page);
    }
    // A proxy that passes on a loopback address as the host: the origin says otherwise.
    let request = browser.request("POST", &retry).form(&form);
    let request = request
        .header("sec-fetch-site", "same-origin")
        .header("origin", "https://posthaste.example");
    assert_eq!(browser.send(request).await.status, 403);
    let query = format!("{retry}?form_token={token}");
    assert_eq!(browser.get(&query).await.status, 200);
    assert_eq!(status(&api, &path).await, "failed");
    // An older browser names the origin instead.
    let request = browser.request("POST", &retry).header("origin", &api.url);
    let page = browser.send(request.form(&form)).await;
    assert_eq!(page.location(), format!("{path}?notice=retried"));
    assert_eq!(status(&api, &path).await, "pending");
    let page = browser.get(page.location()).await;
    assert!(page.html.contains("It is due now"), "{}", page.html);
}

#[tokio::test]
async fn an_id_that_somebody_planted_is_never_taken_over() {
    let api = start(Mode::On).await;
    let key = api.key(&[Scope::Read], None).await;
    let mut browser = Browser::new(&api);
    browser.cookie = Some("planted-planted-planted-planted-planted-123".to_owned());
    let page = browser.post("/console/login", &[("key", &key)]).await;
    let first = page.cookie().unwrap();
    assert_ne!(Some(&first), browser.cookie.as_ref());
    assert_eq!(
        browser.get("/console/deliveries").await.status,
        303,
        "it opens nothing"
    );
    browser.cookie = Some(first.clone());
    assert_eq!(browser.get("/console/deliveries").await.status, 200);
    let again = browser.post("/console/login", &[("key", &key)]).await;
    assert_ne!(again.cookie().unwrap(), first, "a new one at each sign-in");
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let api = start(Mode::On).await;
    let browser = Browser::with(&api, &[Scope::Read], None).await;
    let page = browser.act("/console/logout").await;
    assert_eq!((page.status, page.location()), (303, "/console/login"));
    let set = page.headers["set-cookie"].to_str().unwrap();
    assert!(set.contains("Max-Age=0"), "{set}");
    assert_eq!(browser.get("/console/deliveries").await.status, 303);
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let api = start(Mode::On).await;
    let link = api.call("POST", "/v1/console-links", Value::Null).await;
    assert_eq!(link.status, 201, "{link:?}");
    let path = link.body["path"].as_str().unwrap();
    let token = path.split_once("token=").unwrap().1;
    let mut browser = Browser::new(&api);
    for _ in 0..2 {
        let page = browser.get(path).await;
        check("a link", &page);
        assert_eq!(page.status, 200, "a preview does not use it up");
    }
    let altered = format!("{}x", &token[1..]);
    let page = browser.post("/console/link", &[("token", &altered)]).await;
    assert_eq!(page.status, 401);
    let page = browser.post("/console/link", &[("token", token)]).await;
    assert_eq!(page.status, 303, "{}", page.html);
    browser.cookie = page.cookie();
    let page = browser.get("/console/keys").await;
    assert_eq!(
        page.status, 200,
        "with the rights of the key that created it"
    );
    let page = Browser::new(&api)
        .post("/console/link", &[("token", token)])
        .await;
    assert_eq!(page.status, 401, "only once");
    assert!(page.html.contains("used already"), "{}", page.html);
    let enqueue = api.key(&[Scope::Enqueue], None).await;
    let refused = api
        .call_as(&enqueue, "POST", "/v1/console-links", Value::Null)
        .await;
    assert_eq!(refused.code(), "missing_scope");
}

#[tokio::test]
async fn sign_ins_that_fail_are_counted() {
    let api = start(Mode::On).await;
    let browser = Browser::new(&api);
    for _ in 0..5 {
        let page = browser.post("/console/login", &[("key", "ph_wrong")]).await;
        assert_eq!(page.status, 401);
        check("a wrong key", &page);
        assert!(!page.html.contains("ph_wrong"), "it is not shown again");
    }
    let page = browser.post("/console/login", &[("key", ADMIN_KEY)]).await;
    assert_eq!(page.status, 429, "even a right one");
    let wait: u64 = page.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_revoked_key_ends_its_sessions() {
    let api = start(Mode::On).await;
    let key = api.key(&[Scope::Read], None).await;
    let browser = Browser::with_key(&api, &key, false).await;
    assert_eq!(browser.get("/console/deliveries").await.status, 200);
    let keys = api.store.keys().await.unwrap();
    // In the store alone, as another process does it.
    api.store
        .revoke_key(&keys[0].id, api.clock.now())
        .await
        .unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while browser.get("/console/deliveries").await.status != 303 {
        assert!(Instant::now() < end, "within 5 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let api = start(Mode::On).await;
    let key = api.key(&[Scope::Read], None).await;
    let minutes = |minutes: u64| api.clock.now().before(Duration::from_secs(60 * minutes));
    let session = async |id: &str, created: u64, used: u64| {
        let session = ConsoleSession {
            key_id: KeyId::parse("key_1").unwrap(),
            key_hash: hash_key(&key),
            look_only: false,
            created_at: minutes(created),
            used_at: minutes(used),
        };
        api.store
            .insert_console_session(&hash_key(id), &session)
            .await
            .unwrap();
        let mut browser = Browser::new(&api);
        browser.cookie = Some(id.to_owned());
        browser
    };
    let used = async |id: &str| {
        let session = api.store.console_session(&hash_key(id)).await.unwrap();
        session.unwrap().used_at
    };
    for (id, created, last, status) in [
        ("in-use", 11 * 60, 50, 200),
        ("idle", 90, 61, 303),
        ("old", 12 * 60 + 1, 1, 303),
    ] {
        let browser = session(id, created, last).await;
        assert_eq!(
            browser.get("/console/deliveries").await.status,
            status,
            "{id}"
        );
    }
    assert!(used("in-use").await > minutes(1), "somebody opened a page");
    // A page that refreshes itself keeps no session alive.
    let browser = session("open", 60, 30).await;
    let part = browser.request("GET", "/console/deliveries");
    let page = browser.send(part.header("posthaste-part", "main")).await;
    assert_eq!(page.status, 200);
    assert!(used("open").await < minutes(29));
    assert_eq!(browser.get("/console/deliveries").await.status, 200);
    assert!(used("open").await > minutes(1));
}

#[tokio::test]
async fn over_plain_http_from_elsewhere_nobody_signs_in() {
    let api = start(Mode::On).await;
    let browser = Browser::new(&api);
    let host = |method: &str, path: &str| {
        browser
            .request(method, path)
            .header("host", "posthaste.example")
            .header("sec-fetch-site", "same-origin")
    };
    let page = browser.send(host("GET", "/console/login")).await;
    check("an unsafe place", &page);
    assert!(page.html.contains("over plain HTTP") && !page.html.contains("<form"));
    let form = [("key", ADMIN_KEY)];
    let page = browser
        .send(host("POST", "/console/login").form(&form))
        .await;
    assert_eq!(page.status, 403);
    assert!(page.cookie().is_none());
}

#[tokio::test]
async fn a_read_only_console_changes_nothing() {
    let api = start(Mode::ReadOnly).await;
    let path = failed(&api, "n-1").await;
    let browser = Browser::with(&api, &[Scope::Admin], None).await;
    let page = browser.get(&path).await;
    assert!(page.html.contains("read-only") && !page.html.contains("/retry"));
    let token = page.token();
    let retry = format!("{path}/retry");
    let page = browser.post(&retry, &[("form_token", &token)]).await;
    assert_eq!(page.status, 403);
    assert_eq!(status(&api, &path).await, "failed");
}
