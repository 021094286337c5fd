//! A fault of Posthaste itself is called one, and nobody else is blamed for it.

use serde_json::json;

use crate::support::{Api, Backend, Place, Process, Receiver, eventually};

#[tokio::test]
async fn a_result_that_the_store_refuses_fails_as_internal() {
    let place = Place::new(Backend::EmbeddedPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let pool = sqlx::PgPool::connect(&place.database_url).await.unwrap();
    sqlx::query(
        "ALTER TABLE attempts ADD CONSTRAINT refused CHECK (response_body <> 'cannot be kept')",
    )
    .execute(&pool)
    .await
    .unwrap();
    receiver.answers("/later", &[(503, "later"), (200, "cannot be kept")]);
    let endpoint = api.endpoint(&receiver.url("/later"), json!({})).await;
    let id = api.enqueue_to(&endpoint, json!({})).await;
    let delivery = api.finished(&id, 1).await.remove(0);
    assert_eq!(
        (&delivery["status"], &delivery["reason"]),
        (&json!("failed"), &json!("internal")),
        "{delivery}"
    );
    assert!(
        delivery["last_error"]
            .as_str()
            .unwrap()
            .contains("the store refuses its result"),
        "{delivery}"
    );
    let subject = delivery["id"].as_str().unwrap();
    let event = eventually("its event", async || {
        api.events("delivery.failed", subject).await.pop()
    })
    .await;
    assert_eq!(event["data"]["delivery"]["reason"], "internal", "{event}");
    let explained = api
        .get(&format!("/v1/deliveries/{subject}/explain"))
        .await
        .to_string();
    assert!(
        explained.contains("Posthaste itself is at fault"),
        "{explained}"
    );
    assert!(!explained.contains("wire format"), "{explained}");
    pool.close().await;
}
