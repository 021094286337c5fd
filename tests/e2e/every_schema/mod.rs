//! A store of every schema that ever landed is brought up to date with what programs of that time
//! left in it: what waited has its outcome, what was finished stays, nothing is sent again.

mod besides;
mod left;

use std::collections::HashMap;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::old_store::{self, OldStore, Schema};
use crate::support::receiver::Received;
use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process};
use left::{Left, Outcome, Writer};

/// How many stores are worked on at once.
const AT_ONCE: usize = 4;

fn master_key(place: &Place) -> String {
    let of = |(name, value)| (name == "POSTHASTE_MASTER_KEY").then_some(value);
    place.environment().into_iter().find_map(of).unwrap()
}

async fn each_version(backend: Backend) {
    let versions = old_store::landed(&Place::new(backend).await).await;
    let newest = *versions.last().unwrap();
    futures::stream::iter(versions)
        .for_each_concurrent(AT_ONCE, |version| async move {
            // Which one it is that fails is the one without an end.
            println!("schema {version} begins");
            comes_up_to_date(backend, version, newest).await;
            println!("schema {version} ends");
        })
        .await;
}

async fn comes_up_to_date(backend: Backend, version: i64, newest: i64) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    let (key, url) = (master_key(&place), receiver.url("/ok"));
    let mut store = OldStore::at(&place, version).await;
    let known = store.schema().await;
    let mut writer = Writer::new(&mut store, &known, "early", &key, &url);
    let mut left = writer.deliveries().await;
    left.extend(writer.everything_else().await);
    // Whoever adds a table adds to what is left there, too.
    assert_eq!(store.empty_tables().await, Vec::<String>::new());

    let migrated = process::run(&place, &["migrate"], &[], None).await;
    let said = String::from_utf8_lossy(&migrated.stdout).into_owned();
    assert!(migrated.status.success(), "{said}");
    assert!(said.contains(&newest.to_string()), "{said}");
    // Programs of then go on beside the newer ones, and write what they know.
    let mut writer = Writer::new(&mut store, &known, "late", &key, &url);
    left.extend(writer.deliveries().await);
    still_fits(&known, &store.schema().await);

    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    everything_has_its_outcome(&place, &api, &receiver, &left).await;
    // What a transform returned when the round began is what is sent, since it is kept.
    let kept = known.contains_key(&column("deliveries", "kept"));
    let of_then = |request: &Received| request.text().contains("a transform of then");
    let of_then = receiver
        .requests("/ok")
        .iter()
        .filter(|request| of_then(request))
        .count();
    assert_eq!(of_then, if kept { 2 } else { 0 });
    the_rest_is_there(&api, known.contains_key(&column("redrives", "id"))).await;
}

fn column(table: &str, name: &str) -> (String, String) {
    (table.to_owned(), name.to_owned())
}

/// What a program knows is still there, and nothing is asked of it that it does not know.
fn still_fits(known: &Schema, now: &Schema) {
    for (name, column) in known {
        assert_eq!(now.get(name), Some(column), "{name:?}");
    }
    for (name, column) in now {
        let (table, _) = name;
        let table_is_old = known.keys().any(|(of, _)| of == table);
        let asked = column.required && table_is_old && !known.contains_key(name);
        assert!(!asked, "a program of before does not write {name:?}");
    }
}

async fn everything_has_its_outcome(place: &Place, api: &Api, receiver: &Receiver, left: &[Left]) {
    all_is_quiet(
        place,
        api,
        left,
        &[Outcome::Waits, Outcome::SentWhenEnabled],
    )
    .await;
    for one in left {
        check(api, one, Outcome::Waits).await;
    }
    for prefix in ["early", "late"] {
        let path = format!("/v1/endpoints/ep_{prefix}_disabled/enable");
        api.post(&path, json!({})).await;
    }
    all_is_quiet(place, api, left, &[Outcome::Waits]).await;
    let mut requests: HashMap<Uuid, usize> = HashMap::new();
    for request in receiver.requests("/ok") {
        assert_eq!(request.header("x-of-then"), "kept");
        assert!(request.header("webhook-signature").starts_with("v1,"));
        let id = Uuid::parse_str(request.header("webhook-id")).unwrap();
        *requests.entry(id).or_default() += 1;
    }
    for one in left {
        check(api, one, Outcome::Sent).await;
        let sent = matches!(one.outcome, Outcome::Sent | Outcome::SentWhenEnabled);
        let count = requests.remove(&one.id).unwrap_or_default();
        assert_eq!(count, usize::from(sent), "requests of {one:?}");
    }
    assert!(requests.is_empty(), "{requests:?}");
}

/// Waits until only what may wait is pending, nothing is on the queue or in the outbox, and the
/// books are in order.
async fn all_is_quiet(place: &Place, api: &Api, left: &[Left], may_wait: &[Outcome]) {
    let waiting = left.iter().filter(|one| may_wait.contains(&one.outcome));
    let waiting = waiting.count();
    // Cheaper to ask than `reconcile` is.
    eventually("only what may wait is pending", async || {
        let pending = api.all_deliveries("&status=pending").await;
        (pending.len() == waiting).then_some(())
    })
    .await;
    let last = std::sync::Mutex::new(Value::Null);
    let quiet = eventually("all is quiet", async || {
        let done = process::run(place, &["--json", "reconcile"], &[], None).await;
        let found: Value = serde_json::from_slice(&done.stdout).ok()?;
        let books = &found["accounting"];
        let quiet = books["deliveries"]["pending"] == json!(waiting)
            && books["unpublished"] == 0
            && found["queues"]["work"] == 0
            && found["adds_up"] == true;
        *last.lock().unwrap() = found;
        quiet.then_some(())
    });
    // The deadline's own message does not say what was found.
    if let Err(error) = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(quiet)).await
    {
        println!("{}", last.lock().unwrap());
        std::panic::resume_unwind(error);
    }
}

/// One delivery through the API, with all its attempts. `held`: what becomes of those that wait
/// for their endpoint.
async fn check(api: &Api, one: &Left, held: Outcome) {
    let name = &one.notification;
    let outcome = match one.outcome {
        Outcome::SentWhenEnabled => held,
        outcome => outcome,
    };
    let delivery = api.get(&format!("/v1/deliveries/{}", one.id)).await;
    let (status, attempts) = match outcome {
        Outcome::Sent | Outcome::SentWhenEnabled => ("delivered", one.attempts + 1),
        Outcome::Stays(status, attempts) => (status, attempts),
        Outcome::Expires => ("expired", one.attempts),
        Outcome::Fails => ("failed", one.attempts),
        Outcome::Waits => ("pending", one.attempts),
    };
    assert_eq!(delivery["status"], status, "{name}: {delivery}");
    assert_eq!(delivery["attempt_count"], attempts, "{name}: {delivery}");
    let shown = delivery["attempts"].as_array().expect("attempts");
    assert_eq!(json!(shown.len()), attempts, "{name}: {delivery}");
    if one.attempts > 0 {
        assert_eq!(shown[0]["response_body"], "of then", "{name}: {delivery}");
        assert_eq!(shown[0]["worker"], "worker-of-then", "{name}: {delivery}");
    }
}

/// What is neither a delivery nor on its way to be one.
async fn the_rest_is_there(api: &Api, has_redrives: bool) {
    let letters = api.get("/v1/dead-letters").await;
    let letters = letters["items"].as_array().unwrap().len();
    assert_eq!(letters, usize::from(!has_redrives), "dead letters");
    let replay = api.get(&format!("/v1/replays/{}", besides::REPLAY)).await;
    assert_eq!(replay["state"], "done", "{replay}");
    assert_eq!(replay["replayed"], 2, "{replay}");
    // An idempotency key stands for what it stood for.
    let body = json!({"type": "drill.old", "endpoint_id": "ep_early_open", "payload": 1});
    let headers = [("idempotency-key", besides::IDEMPOTENCY_KEY)];
    let again = api.post_with("/v1/notifications", body, &headers).await;
    assert_eq!(again["id"], "early-delivered", "{again}");
    assert_eq!(again["deduplicated"], true, "{again}");
    let (status, keys) = api.call(Method::GET, "/v1/keys", None).await;
    assert!(status.is_success() && keys.to_string().contains("key_of_then"));
    let with_key = api.status_for(besides::KEY, "/v1/deliveries?limit=1").await;
    assert!(with_key.is_success(), "{with_key}");
    let events = api.get("/v1/events?limit=500").await;
    let expired = |event: &&Value| event["type"] == "delivery.expired";
    let expired = events["items"].as_array().unwrap().iter().filter(expired);
    // Of then, and of what expired since; of early and of late.
    assert_eq!(expired.count(), 4, "{events}");
}

#[tokio::test]
async fn stores_of_every_schema_on_sqlite() {
    each_version(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn stores_of_every_schema_on_postgres() {
    each_version(Backend::EmbeddedPostgres).await;
}
