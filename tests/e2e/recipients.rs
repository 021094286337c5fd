//! A notification with many recipients: how many it may have, what each delivery carries, and that
//! it holds nobody up.

use std::collections::HashSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, Backend, Place, Process, Receiver, eventually, stranger};

fn tokens(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("token-{number}")).collect()
}

fn push(id: &str, endpoint: Option<&Value>, count: usize) -> Value {
    let mut body = json!({
        "id": id, "type": "push.sent",
        "payload": {"title": "t", "content": "c"},
        "recipient": {"device_tokens": tokens(count)},
    });
    if let Some(endpoint) = endpoint {
        body["endpoint_id"] = endpoint["id"].clone();
    }
    body
}

fn group(id: &str, endpoint: &Value, count: usize) -> Value {
    let members: Vec<Value> = (0..count)
        .map(|n| json!({"uid": format!("u{n}"), "name": format!("N{n}")}))
        .collect();
    let payload = json!({
        "messages": [{"sender": {"uid": "s", "name": "S"}, "message": "hello"}],
        "groupDetails": {"guid": "g", "name": "G"}, "smsContent": "hello", "appId": "a",
        "region": "us",
    });
    json!({"id": id, "type": "sms.sent", "endpoint_id": endpoint["id"], "payload": payload,
        "recipient": {"recipients": members}})
}

async fn publish(place: &Place, body: &Value) {
    stranger::publish(place, [(None, body.to_string().into_bytes())]).await;
}

#[tokio::test]
async fn more_recipients_than_allowed_are_refused_at_the_door_and_are_a_dead_letter_over_amqp() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[("POSTHASTE_MAX_RECIPIENTS", "20")]).await;
    let api = Api::of(&up);
    let pushes = api
        .endpoint(&receiver.url("/push"), json!({"wire_format": "novu-push"}))
        .await;
    let texts = api
        .endpoint(
            &receiver.url("/sms"),
            json!({"wire_format": "cometchat-sms"}),
        )
        .await;
    let overridden = json!({"type": "push.sent", "payload": {}, "endpoint_id": pushes["id"],
        "overrides": {"push-webhook": {"deviceTokens": tokens(21)}}});
    for (field, body) in [
        (
            "recipient.device_tokens",
            push("too-many", Some(&pushes), 21),
        ),
        ("recipient.device_tokens", push("too-many", None, 21)),
        ("recipient.recipients", group("too-many", &texts, 21)),
        ("overrides.push-webhook.deviceTokens", overridden),
    ] {
        let (status, problem) = api
            .call(Method::POST, "/v1/notifications", Some(body.clone()))
            .await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        let problem = problem.to_string();
        assert!(
            problem.contains(field) && problem.contains("names 21 recipients"),
            "{problem}"
        );
        let batch = api
            .post(
                "/v1/notifications/batch",
                json!([body, push("fits", Some(&pushes), 1)]),
            )
            .await;
        assert_eq!(
            (&batch["rejected"], &batch["accepted"]),
            (&json!(1), &json!(1)),
            "{batch}"
        );
    }
    publish(&place, &push("amqp", Some(&pushes), 21)).await;
    let dead = eventually("a dead letter", async || {
        let dead = api.get("/v1/dead-letters?limit=10").await;
        dead["items"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(dead["reason"], "too_many_recipients", "{dead}");
    assert!(
        dead["detail"]
            .as_str()
            .unwrap()
            .contains("recipient.device_tokens names 21"),
        "{dead}"
    );
    let metrics = reqwest::get(format!("{}/metrics", up.url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains(r#"posthaste_dead_letters_total{reason="too_many_recipients"} 1"#),
        "{metrics}"
    );
    // As many as allowed go through, twice the same counts once.
    let mut body = push("twenty", Some(&pushes), 20);
    body["recipient"]["device_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!("token-3"));
    publish(&place, &body).await;
    assert_eq!(api.finished("twenty", 20).await.len(), 20);
}

#[tokio::test]
async fn each_of_many_deliveries_has_its_own_recipient_in_retries_too() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let receiver = Receiver::start().await;
    // Each delivery is to fail once, so nothing may be held back from an endpoint that fails.
    let up = Process::start_with(&place, &["up"], &[("POSTHASTE_BREAKER_FAILURES", "0")]).await;
    let api = Api::of(&up);
    let pushes = api
        .endpoint(&receiver.url("/push"), json!({"wire_format": "novu-push"}))
        .await;
    let texts = api
        .endpoint(
            &receiver.url("/sms"),
            json!({"wire_format": "cometchat-sms"}),
        )
        .await;
    // Everything is refused once, so every request comes from the store the second time.
    receiver.set_down(true);
    api.post("/v1/notifications", push("push", Some(&pushes), 150))
        .await;
    api.post("/v1/notifications", group("sms", &texts, 150))
        .await;
    let distinct = |path: &str, member: &str| {
        let requests = receiver.requests(path);
        requests
            .iter()
            .map(|request| request.json().pointer(member).unwrap().to_string())
            .collect::<HashSet<_>>()
    };
    eventually("150 first attempts each", async || {
        let all = distinct("/push", "/target/0").len() == 150
            && distinct("/sms", "/data/to/uid").len() == 150;
        all.then_some(())
    })
    .await;
    receiver.set_down(false);
    for id in ["push", "sms"] {
        let deliveries = eventually(&format!("all of {id}"), async || {
            let all = api.all_deliveries(&format!("&notification_id={id}")).await;
            (all.len() == 150 && all.iter().all(|one| one["status"] == "delivered")).then_some(all)
        })
        .await;
        let requests = receiver.requests(&format!("/{id}"));
        for delivery in &deliveries {
            let recipient = &delivery["recipient"];
            let own = requests
                .iter()
                .filter(|request| request.header("webhook-id") == delivery["id"]);
            let bodies: HashSet<String> = own.map(|request| request.text().to_owned()).collect();
            assert_eq!(bodies.len(), 1, "one body in all attempts: {delivery}");
            let body: Value = serde_json::from_str(bodies.iter().next().unwrap()).unwrap();
            let sent = body
                .pointer("/target/0")
                .or_else(|| body.pointer("/data/to/uid"))
                .unwrap();
            assert_eq!(sent, recipient);
        }
    }
}

#[tokio::test]
async fn a_large_fan_out_holds_nobody_up_and_survives_a_kill() {
    let place = Place::new(Backend::RabbitPostgres).await;
    let receiver = Receiver::start().await;
    let up = Process::start_with(&place, &["up"], &[("POSTHASTE_WORKER_SLOTS", "16")]).await;
    let api = Api::of(&up);
    for number in 0..20 {
        let more = json!({"wire_format": "novu-push", "subscription": {"types": ["push.*"]}});
        api.endpoint(&receiver.url(&format!("/push/{number}")), more)
            .await;
    }
    let other = api
        .endpoint(&receiver.url("/other"), json!({"tenant": "other"}))
        .await;
    api.post("/v1/notifications", push("large", None, 300))
        .await;
    receiver.wait_for("/push", 30).await;
    let small = json!({
        "id": "small", "tenant": "other", "type": "a", "payload": 1, "endpoint_id": other["id"],
    });
    api.post("/v1/notifications", small).await;
    receiver.wait_for("/other", 1).await;
    let before = receiver.requests("/push").len();
    assert!(
        before < 6000,
        "all {before} requests of the large one went first"
    );
    up.kill().await;
    let up = Process::start(&place, &["up"]).await;
    let api = Api::of(&up);
    eventually("all 6,000 deliveries", async || {
        let explained = api
            .get("/v1/deliveries?notification_id=large&status=pending&limit=1")
            .await;
        let sent: HashSet<String> = receiver
            .requests("/push")
            .iter()
            .map(|request| request.header("webhook-id").to_owned())
            .collect();
        (sent.len() == 6000 && explained["items"].as_array()?.is_empty()).then_some(())
    })
    .await;
}
