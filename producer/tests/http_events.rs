//! Events and dead letters over HTTP: listing and following events, looking at dead letters and
//! putting them back.

mod support;

use std::time::Duration;

use futures::StreamExt;
use posthaste_shared::broker::{DeadReason, Message};
use posthaste_shared::domain::delivery::{DeliveryState, FailureReason};
use posthaste_shared::redrive::Redriver;
use serde_json::{Value, json};
use support::{ADMIN_KEY, TestApi, recorded};

fn failed(api: &TestApi) -> impl FnOnce() -> DeliveryState + use<> {
    let at = api.clock.now();
    move || DeliveryState::Failed {
        at,
        reason: FailureReason::Rejected,
    }
}

#[tokio::test]
async fn a_redrive_takes_what_was_there_and_can_be_cancelled() {
    let api = TestApi::start().await;
    for n in 0..250 {
        let message = Message {
            id: Some(format!("m-{n}")),
            body: "not JSON".into(),
            ..Message::default()
        };
        api.broker
            .dead_letter(&message, DeadReason::Undecodable, "expected a value")
            .await
            .unwrap();
    }
    let cancelled = api.call("POST", "/v1/redrives", Value::Null).await;
    assert_eq!(
        (cancelled.status, &cancelled.body["total"]),
        (202, &json!(250)),
        "{cancelled:?}"
    );
    let location = cancelled.headers["location"].to_str().unwrap().to_owned();
    let stopped = api
        .call("POST", &format!("{location}/cancel"), Value::Null)
        .await;
    assert_eq!(
        (stopped.status, &stopped.body["state"]),
        (200, &json!("cancelled")),
        "{stopped:?}"
    );
    let again = api
        .call("POST", &format!("{location}/cancel"), Value::Null)
        .await;
    assert_eq!((again.status, again.code()), (409, "wrong_state"));
    let unknown = format!("/v1/redrives/{}", uuid::Uuid::nil());
    assert_eq!(api.call("GET", &unknown, Value::Null).await.status, 404);
    assert_eq!(
        api.call("POST", &format!("{unknown}/cancel"), Value::Null)
            .await
            .status,
        404
    );

    let started = api.call("POST", "/v1/redrives", Value::Null).await;
    let location = started.headers["location"].to_str().unwrap().to_owned();
    let redriver = Redriver {
        services: api.services.clone(),
        stopping: api.shutdown.clone(),
    };
    tokio::spawn(redriver.run());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let done = loop {
        let now = api.call("GET", &location, Value::Null).await;
        if now.body["state"] == "done" {
            break now.body;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&done["redriven"], &done["undecodable"]),
        (&json!(250), &json!(250)),
        "{done}"
    );
    assert_eq!(
        api.broker.depths().await.unwrap(),
        [("dead", 0), ("work", 250)].into()
    );
    let listed = api.call("GET", "/v1/redrives", Value::Null).await;
    assert_eq!(
        listed.body["items"].as_array().unwrap().len(),
        2,
        "{listed:?}"
    );
}

#[tokio::test]
async fn events_are_listed_and_streamed_from_where_one_left_off() {
    let api = TestApi::start().await;
    recorded(&api, "acme", "n-1", failed(&api)).await;
    let listed = api
        .call("GET", "/v1/events?type=delivery.failed", Value::Null)
        .await;
    assert_eq!(listed.body["items"][0]["specversion"], "1.0", "{listed:?}");
    assert_eq!(
        listed.body["items"][0]["data"]["delivery"]["notification_id"],
        "n-1"
    );

    let request = api
        .request("GET", "/v1/events/stream?type=delivery.failed")
        .bearer_auth(ADMIN_KEY);
    let response = request.header("Last-Event-ID", "0").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut read_until = async |wanted: &str| {
        let reading = async {
            while !text.contains(wanted) {
                text.push_str(&String::from_utf8_lossy(
                    &stream.next().await.unwrap().unwrap(),
                ));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reading)
            .await
            .expect("the event in time");
        text.clone()
    };
    let first = read_until("n-1").await;
    assert!(
        first.contains("event: delivery.failed") && first.contains("id: "),
        "{first}"
    );
    recorded(&api, "acme", "n-2", failed(&api)).await;
    read_until("n-2").await;
    api.shutdown.cancel();
    let end = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(Ok(_)) = stream.next().await {}
    });
    end.await.expect("the stream ends on shutdown");
}

#[tokio::test]
async fn a_stream_wants_an_id_that_it_gave() {
    let api = TestApi::start().await;
    let request = api
        .request("GET", "/v1/events/stream")
        .bearer_auth(ADMIN_KEY)
        .header("Last-Event-ID", "x");
    let refused = support::answer(request).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_header"));
}

#[tokio::test]
async fn dead_letters_are_seen_and_driven_again() {
    let api = TestApi::start().await;
    let message = Message {
        id: Some("m-1".to_owned()),
        body: "not JSON".into(),
        ..Message::default()
    };
    api.broker
        .dead_letter(&message, DeadReason::Undecodable, "expected a value")
        .await
        .unwrap();
    let listed = api
        .call("GET", "/v1/dead-letters?limit=10", Value::Null)
        .await;
    assert_eq!(
        (listed.status, &listed.body["items"][0]["reason"]),
        (200, &json!("undecodable")),
        "{listed:?}"
    );
    for wrong in [
        json!({}),
        json!({ "ids": [] }),
        json!({ "ids": ["m-1"], "all": true }),
        json!({ "every": true }),
    ] {
        assert_eq!(
            api.call("POST", "/v1/dead-letters/redrive", wrong.clone())
                .await
                .status,
            422,
            "{wrong}"
        );
    }
    let ids = json!({ "ids": [listed.body["items"][0]["id"]] });
    let redriven = api.call("POST", "/v1/dead-letters/redrive", ids).await;
    assert_eq!(
        (redriven.status, &redriven.body["redriven"]),
        (200, &json!(1)),
        "{redriven:?}"
    );
    assert_eq!(api.queued(1).await[0].message.body, "not JSON");
    let none = api
        .call("POST", "/v1/dead-letters/redrive", json!({ "all": true }))
        .await;
    assert_eq!(none.body["redriven"], 0);
}
