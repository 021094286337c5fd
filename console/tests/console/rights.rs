//! Every route, for everybody: what a visitor may not do is refused, whatever the page shows.

use posthaste_console::{Mode, Needs, Route, table};
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason, Wait};
use posthaste_shared::domain::key::Scope;

use crate::browser::{Browser, start};
use crate::support::TestApi;
use crate::things::recorded;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Reader,
    Admin,
    LooksOnly,
}

/// Whose things the key is for.
const KEYS: [Option<&str>; 3] = [None, Some("acme"), Some("other")];

/// What a route is about; a new route has no row here until somebody gives it one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    TheWayIn,
    Lists,
    OneOfAcme,
    EveryTenant,
    Nothing,
}

fn about(route: &Route) -> About {
    match route.path {
        "/console" | "/console/login" | "/console/link" | "/console/assets/{hash}/{name}" => {
            About::TheWayIn
        }
        "/console/overview"
        | "/console/deliveries"
        | "/console/notifications"
        | "/console/endpoints"
        | "/console/events"
        | "/console/replays"
        | "/console/replays/new"
        | "/console/endpoints/new"
        | "/console/deliveries/selected"
        | "/console/send"
        | "/console/send/look"
        | "/console/logout" => About::Lists,
        "/console/go"
        | "/console/deliveries/{id}"
        | "/console/deliveries/{id}/retry"
        | "/console/deliveries/{id}/cancel"
        | "/console/notifications/{tenant}/{id}"
        | "/console/replays/{id}"
        | "/console/replays/{id}/cancel"
        | "/console/endpoints/{id}"
        | "/console/endpoints/{id}/settings"
        | "/console/endpoints/{id}/secret"
        | "/console/endpoints/{id}/transform"
        | "/console/endpoints/{id}/transform/try"
        | "/console/endpoints/{id}/delete"
        | "/console/endpoints/{id}/test"
        | "/console/endpoints/{id}/enable"
        | "/console/endpoints/{id}/disable" => About::OneOfAcme,
        "/console/workers"
        | "/console/dead-letters"
        | "/console/dead-letters/redrive"
        | "/console/audit"
        | "/console/keys"
        | "/console/keys/new"
        | "/console/keys/{id}/revoke" => About::EveryTenant,
        "/console/{*path}" => About::Nothing,
        other => panic!("{other} has no row in the matrix of rights: give it one"),
    }
}

/// Whether the action needs fields.
fn is_form(route: &Route) -> bool {
    route.method == "POST"
        && matches!(
            route.path,
            "/console/endpoints"
                | "/console/keys"
                | "/console/endpoints/{id}/settings"
                | "/console/endpoints/{id}/delete"
                | "/console/endpoints/{id}/transform"
                | "/console/endpoints/{id}/transform/try"
                | "/console/deliveries/selected"
                | "/console/send"
                | "/console/send/look"
        )
}

/// The answer that somebody must get: what was asked for, or one of the refusals.
fn expected(route: &Route, who: Who, tenant: Option<&str>) -> &'static [u16] {
    const DONE: &[u16] = &[200, 303];
    // Empty forms are sent here.
    const TAKEN: &[u16] = &[200, 303, 412, 422];
    let about = about(route);
    if about == About::TheWayIn {
        return if route.method == "GET" {
            &[200, 303, 404]
        } else {
            &[401]
        };
    }
    match who {
        Who::Nobody if route.method == "GET" => return &[302, 303],
        Who::Nobody => return &[401],
        _ => {}
    }
    let allowed = match route.needs {
        Needs::Nothing | Needs::SignIn | Needs::Read => true,
        Needs::UnboundRead => tenant.is_none(),
        Needs::Admin | Needs::Enqueue => who == Who::Admin,
        Needs::UnboundAdmin => who == Who::Admin && tenant.is_none(),
    };
    match about {
        About::Nothing => &[404],
        // Whoever may not act at all learns nothing of whether it is there.
        About::OneOfAcme if tenant == Some("other") => &[403, 404],
        _ if allowed && is_form(route) => TAKEN,
        _ if allowed => DONE,
        _ => &[403],
    }
}

async fn path(api: &TestApi, route: &Route, at: usize) -> String {
    let name = format!("n-{at}");
    let now = api.clock.now();
    let state = if route.path.ends_with("/cancel") {
        DeliveryState::Pending(Wait::Retry {
            due_at: now.after(std::time::Duration::from_secs(600)),
        })
    } else {
        let reason = FailureReason::Rejected;
        DeliveryState::Failed { at: now, reason }
    };
    let delivery = recorded(api, "acme", &name, state).await.to_string();
    let id = if route.path.starts_with("/console/endpoints") {
        api.endpoint("acme").await
    } else {
        delivery.clone()
    };
    let id = if route.path.starts_with("/console/replays/{id}") {
        let all = serde_json::json!({ "tenant": "acme", "status": "failed" });
        let begun = api.call("POST", "/v1/deliveries/replay", all).await;
        begun.body["id"].as_str().expect("a replay").to_owned()
    } else {
        id
    };
    let id = if route.path.starts_with("/console/keys/{id}") {
        let draft = serde_json::json!({ "name": name, "scopes": ["read"] });
        let made = api.call("POST", "/v1/keys", draft).await;
        made.body["id"].as_str().expect("a key").to_owned()
    } else {
        id
    };
    let path = match route.path {
        "/console/go" => format!("/console/go?id={delivery}"),
        "/console/notifications/{tenant}/{id}" => format!("/console/notifications/acme/{name}"),
        "/console/{*path}" => "/console/nothing".to_owned(),
        "/console/replays" | "/console/replays/new" if route.needs == Needs::Admin => {
            format!("{}?status=failed&window=all", route.path)
        }
        "/console/assets/{hash}/{name}" => "/console/assets/0/console.css".to_owned(),
        other => other.replace("{id}", &id),
    };
    assert!(!path.contains('{'), "{path} is complete");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_gives_everybody_what_they_may_have() {
    let api = start(Mode::On).await;
    let mut at = 0;
    for tenant in KEYS {
        let admin = api.key(&[Scope::Admin], tenant).await;
        let read = api.key(&[Scope::Read], tenant).await;
        for who in [Who::Nobody, Who::Reader, Who::Admin, Who::LooksOnly] {
            for route in table() {
                let browser = match who {
                    Who::Nobody => Browser::new(&api),
                    Who::Reader => Browser::with_key(&api, &read, false).await,
                    Who::Admin => Browser::with_key(&api, &admin, false).await,
                    Who::LooksOnly => Browser::with_key(&api, &admin, true).await,
                };
                at += 1;
                let path = path(&api, &route, at).await;
                let page = match (route.method, who, about(&route)) {
                    ("GET", ..) => browser.get(&path).await,
                    // Once for nobody: sign-ins that fail are counted, and too many would be 429.
                    (_, _, About::TheWayIn) if who != Who::Nobody || tenant.is_some() => continue,
                    (_, Who::Nobody, _) => browser.post(&path, &[("form_token", "x")]).await,
                    _ => browser.act(&path).await,
                };
                let expected = expected(&route, who, tenant);
                assert!(
                    expected.contains(&page.status),
                    "{} {path} for {who:?} of {tenant:?}: {} and not {expected:?}\n{}",
                    route.method,
                    page.status,
                    page.html
                );
                let leads_in = page.location().starts_with("/console/login");
                let is_out = who == Who::Nobody || route.path == "/console/logout";
                assert!(!leads_in || is_out, "{path}: {who:?} is signed in");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_may_only_enqueue_does_not_sign_in() {
    let api = start(Mode::On).await;
    let key = api.key(&[Scope::Enqueue], None).await;
    let page = Browser::new(&api)
        .post("/console/login", &[("key", &key)])
        .await;
    assert_eq!(page.status, 403);
    assert!(page.cookie().is_none() && page.html.contains("may only enqueue"));
}

#[tokio::test]
async fn what_somebody_may_not_do_is_not_on_the_page() {
    let api = start(Mode::On).await;
    let state = |api: &TestApi| DeliveryState::Failed {
        at: api.clock.now(),
        reason: FailureReason::Rejected,
    };
    let id = recorded(&api, "acme", "n-1", state(&api)).await;
    let path = format!("/console/deliveries/{id}");
    let admin = Browser::with(&api, &[Scope::Admin], Some("acme")).await;
    let page = admin.get(&path).await;
    assert!(page.html.contains("Retry now") && !page.html.contains("Dead letters"));
    let reader = Browser::with(&api, &[Scope::Read], Some("acme")).await;
    let page = reader.get(&path).await;
    assert!(!page.html.contains("Retry now") && !page.html.contains("API keys"));
    assert_eq!(
        page.html.matches("method=\"post\"").count(),
        1,
        "to sign out"
    );
    let list = Browser::with(&api, &[Scope::Read], Some("other")).await;
    let page = list.get("/console/deliveries?window=all").await;
    assert!(!page.html.contains("<tr id="), "nothing of another tenant");
    let page = list.get("/console/deliveries?tenant=acme").await;
    assert_eq!(page.status, 403);
}
