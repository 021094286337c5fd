//! Another notification under an id that was used: it is refused, or visible, and never goes away
//! in silence.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process, stranger};

fn body(id: &str, endpoint: &Value, n: u32) -> Value {
    json!({
        "id": id, "type": "a", "payload": {"n": n}, "endpoint_id": endpoint["id"],
        "ttl_seconds": 600,
    })
}

async fn publish(place: &Place, bodies: &[Value]) {
    let bodies = bodies
        .iter()
        .map(|body| (None, body.to_string().into_bytes()));
    stranger::publish(place, bodies).await;
}

/// What retention does to idempotency keys, at once.
async fn forget_keys(place: &Place) {
    const SQL: &str = "DELETE FROM idempotency_keys";
    if place.database_url.starts_with("sqlite") {
        let pool = sqlx::SqlitePool::connect(&place.database_url)
            .await
            .unwrap();
        assert!(
            sqlx::query(SQL)
                .execute(&pool)
                .await
                .unwrap()
                .rows_affected()
                > 0
        );
        pool.close().await;
    } else {
        let pool = sqlx::PgPool::connect(&place.database_url).await.unwrap();
        assert!(
            sqlx::query(SQL)
                .execute(&pool)
                .await
                .unwrap()
                .rows_affected()
                > 0
        );
        pool.close().await;
    }
}

async fn dead_letters(api: &Api, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), async || {
        let dead = api.get("/v1/dead-letters?limit=100").await;
        let items = dead["items"].as_array()?.clone();
        (items.len() >= count).then_some(items)
    })
    .await
}

async fn the_door(backend: Backend) {
    let place = Place::new(backend).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    api.post("/v1/notifications", body("n-1", &endpoint, 1))
        .await;
    let first = api.finished("n-1", 1).await.remove(0);
    for round in 0..2 {
        forget_keys(&place).await;
        let (status, refused) = api
            .call(
                Method::POST,
                "/v1/notifications",
                Some(body("n-1", &endpoint, 2)),
            )
            .await;
        assert_eq!(
            (status, &refused["code"]),
            (StatusCode::CONFLICT, &json!("idempotency_conflict")),
            "{round}"
        );
        // The one that was refused has claimed nothing.
        let again = api
            .post("/v1/notifications", body("n-1", &endpoint, 1))
            .await;
        assert_eq!(again["deduplicated"], true, "{again}");
        assert_eq!(again["accepted_at"], first["created_at"], "{again}");
    }
    let three = json!([
        body("n-1", &endpoint, 1),
        body("n-1", &endpoint, 2),
        body("n-2", &endpoint, 2)
    ]);
    let batch = api.post("/v1/notifications/batch", three).await;
    assert_eq!(
        (&batch["accepted"], &batch["rejected"]),
        (&json!(2), &json!(1)),
        "{batch}"
    );
    assert_eq!(
        batch["items"][1]["error"]["code"], "idempotency_conflict",
        "{batch}"
    );
    // Two of one id in one batch, of which the store knows none.
    let two = json!([body("n-3", &endpoint, 1), body("n-3", &endpoint, 2)]);
    let batch = api.post("/v1/notifications/batch", two).await;
    assert_eq!(
        batch["items"][1]["error"]["code"], "idempotency_conflict",
        "{batch}"
    );
    api.finished("n-2", 1).await;
    api.finished("n-3", 1).await;
    let sent: Vec<Value> = receiver
        .requests("/ok")
        .iter()
        .map(|request| request.json()["data"]["n"].clone())
        .collect();
    assert_eq!(sent, [json!(1), json!(2), json!(1)]);
}

#[tokio::test]
async fn the_door_refuses_it_once_the_key_is_forgotten_on_postgres() {
    the_door(Backend::RabbitPostgres).await;
}

#[tokio::test]
async fn the_door_refuses_it_once_the_key_is_forgotten_on_sqlite() {
    the_door(Backend::EmbeddedSqlite).await;
}

#[tokio::test]
async fn over_amqp_it_is_a_dead_letter_and_reconcile_sees_it() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    // Two at once, before anybody took the first up; and the first once more, which is no conflict.
    let [one, other] = [1, 2].map(|n| body("n-1", &endpoint, n));
    publish(&place, &[one.clone(), other, one]).await;
    api.finished("n-1", 1).await;
    // One that the API accepted, and another from elsewhere.
    api.post("/v1/notifications", body("n-2", &endpoint, 1))
        .await;
    publish(&place, &[body("n-2", &endpoint, 2)]).await;
    // One that nobody wants, and another.
    let unmatched =
        |n: u32| json!({"id": "n-3", "type": "nobody.wants", "payload": n, "tenant": "other"});
    publish(&place, &[unmatched(1), unmatched(2)]).await;
    let dead = dead_letters(&api, 3).await;
    assert!(
        dead.iter().all(|letter| letter["reason"] == "id_conflict"),
        "{dead:?}"
    );
    for id in ["n-1", "n-2", "n-3"] {
        let about = |letter: &&Value| {
            letter["detail"]
                .as_str()
                .is_some_and(|it| it.contains(&format!("id {id} stands")))
        };
        assert_eq!(dead.iter().filter(about).count(), 1, "{id}: {dead:?}");
    }
    // What was enqueued again is taken off the queue in silence.
    eventually("an empty work queue", async || {
        let metrics = process::run(&place, &["reconcile", "--json"], &[], None).await;
        let books: Value = serde_json::from_slice(&metrics.stdout).ok()?;
        (books["queues"]["work"] == 0).then_some(())
    })
    .await;
    assert_eq!(dead_letters(&api, 3).await.len(), 3);
    assert!(
        receiver
            .requests("/ok")
            .iter()
            .all(|request| request.json()["data"]["n"] == 1)
    );
    assert_eq!(receiver.requests("/ok").len(), 2);

    let accepted = place.dir.path().join("accepted");
    std::fs::write(&accepted, "n-1\nn-2\n").unwrap();
    let arguments = [
        "reconcile",
        "--json",
        "--accepted",
        accepted.to_str().unwrap(),
    ];
    let reconciled = process::run(&place, &arguments, &[], None).await;
    let books: Value = serde_json::from_slice(&reconciled.stdout).unwrap();
    assert_eq!(reconciled.status.code(), Some(1), "{books}");
    assert_eq!(
        (&books["adds_up"], &books["id_conflict_count"]),
        (&json!(false), &json!(3)),
        "{books}"
    );
    assert_eq!(
        books["id_conflicts"].as_array().unwrap().len(),
        2,
        "{books}"
    );
}
