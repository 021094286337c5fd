//! Nothing unreadable blocks the queue.

use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, process, stranger};

#[tokio::test]
async fn garbage_is_set_aside_with_its_reason_and_the_rest_is_delivered() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    let endpoint = api.endpoint(&receiver.url("/ok"), json!({})).await;
    let good = |id: &str| {
        json!({"id": id, "type": "a", "payload": {}, "endpoint_id": endpoint["id"]}).to_string()
    };
    let bodies = [
        ("not-json", b"hello, world".to_vec()),
        ("not-utf8", vec![0xff, 0xfe, 0x00]),
        ("wrong-type", br#"{"type": 5, "payload": {}}"#.to_vec()),
        (
            "unknown-member",
            br#"{"type": "a", "payload": {}, "ttl": 3}"#.to_vec(),
        ),
        (
            "huge",
            format!(
                r#"{{"type": "a", "payload": "{}"}}"#,
                "x".repeat(10_000_000)
            )
            .into_bytes(),
        ),
        ("empty", Vec::new()),
        (
            "nowhere",
            br#"{"type": "a", "payload": {}, "endpoint_id": "ep_nowhere"}"#.to_vec(),
        ),
        ("good-1", good("good-1").into_bytes()),
        ("good-2", good("good-2").into_bytes()),
    ];
    let messages = bodies.iter().map(|(id, body)| (Some(*id), body.to_vec()));
    stranger::publish(&place, messages).await;
    api.finished("good-1", 1).await;
    api.finished("good-2", 1).await;
    let nowhere = api.finished("nowhere", 1).await.remove(0);
    assert_eq!(
        (&nowhere["status"], &nowhere["reason"]),
        (&json!("failed"), &json!("endpoint_deleted"))
    );
    assert!(
        nowhere["last_error"]
            .as_str()
            .unwrap()
            .contains("ep_nowhere"),
        "{nowhere}"
    );

    let dead = eventually("six dead letters", async || {
        let dead = api.get("/v1/dead-letters?limit=100").await;
        let items = dead["items"].as_array().expect("items").clone();
        (items.len() == 6).then_some(items)
    })
    .await;
    let detail = |id: &str| -> &Value {
        &dead
            .iter()
            .find(|letter| letter["id"] == id)
            .unwrap_or_else(|| panic!("{id}: {dead:?}"))["detail"]
    };
    assert!(
        detail("wrong-type")
            .as_str()
            .unwrap()
            .contains("type must be a string"),
        "{}",
        detail("wrong-type")
    );
    assert!(
        detail("unknown-member")
            .as_str()
            .unwrap()
            .contains("ttl is not known")
    );
    assert!(detail("huge").as_str().unwrap().contains("bytes"));

    let listed = process::run(
        &place,
        &["dead", "list"],
        &[("POSTHASTE_API_URL", &up.url)],
        None,
    )
    .await;
    assert!(
        String::from_utf8_lossy(&listed.stdout).contains("not-json"),
        "{listed:?}"
    );
    let redriven = api
        .post("/v1/dead-letters/redrive", json!({"ids": ["not-json"]}))
        .await;
    assert_eq!(redriven["redriven"], 1, "{redriven}");
}
