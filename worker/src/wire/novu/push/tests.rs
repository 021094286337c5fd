use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::wire_format::WireFormat;

use super::super::fixture::{self, body, header, now, reply, signed, signing};
use super::*;
use crate::wire::Grant;

const VECTORS: &str = include_str!("../../../../../tests/vectors/wire-formats.json");

fn endpoint(settings: Value, secret: &str) -> Endpoint {
    let mut endpoint = fixture::endpoint(WireFormat::NovuPush, settings);
    if !secret.is_empty() {
        endpoint.confidential.secrets.push(signing(secret, None));
    }
    endpoint
}

fn hello(overrides: Value) -> Notification {
    fixture::notification(
        &json!({"title": "t"}),
        &json!({"device_tokens": ["t1"], "step_id": "first"}),
        &overrides,
    )
}

fn signature_of(endpoint: &Endpoint, notification: &Notification) -> Option<String> {
    header(
        &signed(endpoint, notification, Grant::default()).unwrap(),
        SIGNATURE,
    )
}

fn fields(problems: Vec<FieldProblem>) -> Vec<String> {
    problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn signatures_are_those_of_the_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = vectors["novu_push"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let key = Secret::new(vector["key"].as_str().unwrap());
        let body = vector["body"].as_str().unwrap();
        assert_eq!(
            signature(&key, body.as_bytes()),
            vector["signature"].as_str().unwrap(),
            "{body}"
        );
    }
}

#[test]
fn the_body_is_the_vectors_byte_for_byte() {
    let payload =
        json!({"title": "Olá 你好 👋", "content": "a & b <c> \"d\" é", "payload": {"k": 1}});
    let recipient = json!({"device_tokens": ["t1"], "subscriber": {"subscriberId": "s1"}});
    let notification = fixture::notification(&payload, &recipient, &json!({}));
    let endpoint = endpoint(json!({}), "super-secret-key");
    let request = signed(&endpoint, &notification, Grant::default()).unwrap();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let vector = &vectors["novu_push"][1];
    assert_eq!(request.body(), vector["body"].as_str().unwrap());
    assert_eq!(request.body().len(), 195);
    assert_eq!(
        header(&request, SIGNATURE).as_deref(),
        vector["signature"].as_str()
    );
    assert_eq!(
        header(&request, "content-type").unwrap(),
        "application/json"
    );
    let shown: Vec<&str> = request
        .shown_headers()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(shown, ["content-type", "webhook-id", "X-Novu-Signature"]);
}

/// The example that Novu's documentation shows, without its comments.
#[test]
fn the_documented_payload_is_written_and_signed_as_novu_does() {
    let subscriber = json!({
        "_id": "65c0d71c0959a38e8857b131",
        "_organizationId": "organizationId",
        "_environmentId": "environmentId",
        "firstName": "Pawan",
        "lastName": "Jain",
        "phone": "+123456789",
        "subscriberId": "push-webhook-demo-subscriber-id",
        "email": "pawan+push+web+hook+demo@domain.com",
        "channels": [{
            "credentials": {"deviceTokens": ["subscriber-token-for-push-webhook-provider"]},
            "_integrationId": "integrationId",
            "providerId": "push-webhook"
        }],
        "data": {"isDeveloper": "true"},
        "deleted": false,
        "createdAt": "2024-02-05T12:39:56.379Z",
        "updatedAt": "2024-02-05T12:54:08.684Z",
        "__v": 0,
        "id": "65c0d71c0959a38e8857b131"
    });
    let custom = "this is custom message from payload push webhook demo";
    let payload = json!({
        "title": "Push Webhook message title",
        "content": "push Webhook content body",
        "payload": {"custom_message": custom, "__source": "test-workflow"},
        "step": {"digest": false, "events": [], "total_count": 0},
    });
    let recipient = json!({"deviceTokens": ["subscriber-token-for-push-webhook-provider"],
        "subscriber": subscriber});
    let overrides = json!({"push-webhook": {"data": {"custom_message": custom}}});
    let notification = fixture::notification(&payload, &recipient, &overrides);
    let request = signed(
        &endpoint(json!({}), "YOUR_HMAC_SECRET_KEY"),
        &notification,
        Grant::default(),
    )
    .unwrap();
    assert_eq!(request.body().len(), 980);
    assert_eq!(
        header(&request, SIGNATURE).unwrap(),
        "e93193ad56f9d0190126e7aecba34527a716e438085b4db0e0d44721e6759e0b"
    );
}

#[test]
fn each_token_gets_a_delivery() {
    let recipients = |recipient: Value, overrides: Value| {
        NovuPush.recipients(&fixture::notification(&json!({}), &recipient, &overrides))
    };
    let several = |member, tokens: &[&str]| Recipients::Several {
        member,
        each: tokens.iter().map(|token| (*token).to_owned()).collect(),
    };
    let some = |tokens: &[&str]| several("recipient.device_tokens", tokens);
    let overridden = several("overrides.push-webhook.deviceTokens", &["x", "y"]);
    let three = json!({"device_tokens": ["b", "a", "b", ""]});
    assert_eq!(recipients(three.clone(), json!({})), some(&["b", "a"]));
    assert_eq!(
        recipients(json!({"deviceTokens": ["c"]}), json!({})),
        some(&["c"])
    );
    assert_eq!(
        recipients(
            three.clone(),
            json!({"push-webhook": {"deviceTokens": ["x", "y"]}})
        ),
        overridden
    );
    assert_eq!(
        recipients(
            three.clone(),
            json!({"push-webhook": {"deviceTokens": null}})
        ),
        some(&["b", "a"])
    );
    assert_eq!(
        recipients(three, json!({"push-webhook": {"deviceTokens": []}})),
        Recipients::One
    );
    assert_eq!(recipients(json!({}), json!({})), Recipients::One);
    assert_eq!(
        recipients(json!({"device_tokens": "a"}), json!({})),
        Recipients::One
    );
}

#[test]
fn without_a_token_it_is_skipped() {
    let notification = fixture::notification(
        &json!({"title": "t"}),
        &json!({"device_tokens": []}),
        &json!({}),
    );
    let endpoint = endpoint(json!({}), "k");
    match fixture::rendered(&endpoint, &notification) {
        Err(Unwritten::Skip(skip)) => assert_eq!(skip.code, "no_device_token"),
        other => panic!("{other:?}"),
    }
    assert_eq!(NovuPush.check_notification(&endpoint, &notification), []);
}

#[test]
fn what_is_left_out_is_filled() {
    let nothing = fixture::notification(&json!({}), &json!({"device_tokens": ["t1"]}), &json!({}));
    let expected = concat!(
        r#"{"target":["t1"],"title":"","content":"","overrides":{},"payload":{"subscriber":{},"#,
        r#""step":{"digest":false,"events":[],"total_count":0}}}"#,
    );
    assert_eq!(body(&endpoint(json!({}), "k"), &nothing), expected);
    let payload = json!({"step": {"digest": true, "events": [{}, 2]},
        "payload": {"step": 1, "z": 2, "subscriber": 3}});
    let digest = fixture::notification(&payload, &json!({"device_tokens": ["t1"]}), &json!({}));
    let expected = concat!(
        r#""payload":{"step":{"digest":true,"events":[{},2],"total_count":2},"z":2,"#,
        r#""subscriber":{}}}"#,
    );
    assert!(body(&endpoint(json!({}), "k"), &digest).ends_with(expected));
}

#[test]
fn the_body_shows_the_overrides_and_those_of_providers_are_merged() {
    let overrides = json!({
        "push": {"a": 1, "b": {"x": 1}},
        "push-webhook": {"b": {"y": 2}, "_passthrough": {"body": {"as_it_is": 1}}},
        "providers": {"push-webhook": {"extra_member": {"in_ner": 1}, "content": "c",
        "_passthrough": {"body": {"payload": {"k": 1}}}}},
        "steps": {"first": {"providers": {"push-webhook": {"title": "other"}}}},
    });
    let expected = concat!(
        r#"{"target":["t1"],"title":"other","content":"c","overrides":{"a":1,"b":{"y":2}},"#,
        r#""payload":{"subscriber":{},"step":{"digest":false,"events":[],"total_count":0},"k":1},"#,
        r#""extraMember":{"inNer":1},"as_it_is":1}"#,
    );
    let endpoint = endpoint(json!({}), "k");
    let notification = hello(overrides);
    assert_eq!(body(&endpoint, &notification), expected);
    assert_eq!(
        signature_of(&endpoint, &notification).unwrap(),
        signature(&Secret::new("k"), expected.as_bytes())
    );
}

#[test]
fn passthrough_headers_may_replace_even_the_signature() {
    let headers =
        json!({"x-novu-signature": "forged", "X-Trace": "1", "content-type": "text/plain"});
    let notification =
        hello(json!({"providers": {"push-webhook": {"_passthrough": {"headers": headers}}}}));
    let request = signed(&endpoint(json!({}), "k"), &notification, Grant::default()).unwrap();
    assert_eq!(header(&request, SIGNATURE).unwrap(), "forged");
    assert_eq!(header(&request, "x-trace").unwrap(), "1");
    assert_eq!(header(&request, "content-type").unwrap(), "text/plain");
}

#[test]
fn the_newest_live_secret_signs() {
    let mut rotated = endpoint(json!({}), "new");
    rotated.confidential.secrets.push(signing(
        "old",
        Some(now().after(std::time::Duration::from_secs(60))),
    ));
    let notification = hello(json!({}));
    let expected = signature(
        &Secret::new("new"),
        body(&rotated, &notification).as_bytes(),
    );
    assert_eq!(
        signature_of(&rotated, &notification),
        Some(expected.clone())
    );
    assert_eq!(expected.len(), 64);
    assert!(
        expected
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    );
}

#[test]
fn a_secret_can_be_left_out_unless_it_is_asked_for() {
    let notification = hello(json!({}));
    let free = endpoint(json!({}), "");
    assert_eq!(NovuPush.check(&free), []);
    assert_eq!(signature_of(&free, &notification), None);
    let strict = endpoint(json!({"require_secret": true}), "");
    let problem = "is missing: the settings ask for one (require_secret)".to_owned();
    assert_eq!(
        NovuPush.check(&strict),
        [FieldProblem {
            field: "secret".to_owned(),
            problem
        }]
    );
    assert_eq!(
        signed(&strict, &notification, Grant::default())
            .unwrap_err()
            .member,
        "secret"
    );
    assert_eq!(
        NovuPush.check(&endpoint(json!({"require_secret": true}), "k")),
        []
    );
}

#[test]
fn secrets_are_any_text() {
    for (text, fits) in [
        ("k", true),
        ("ключ 🔑", true),
        (&"k".repeat(255), true),
        ("", false),
        (&"k".repeat(256), false),
    ] {
        assert_eq!(
            NovuPush.check_secret(&Secret::new(text)).is_ok(),
            fits,
            "{text}"
        );
    }
    let made = NovuPush.new_secret(&Map::new()).unwrap();
    assert_eq!(made.expose().len(), 64);
    assert_ne!(NovuPush.new_secret(&Map::new()).unwrap(), made);
    assert_eq!(
        fields(NovuPush.check(&endpoint(json!({}), &"k".repeat(256)))),
        ["secret"]
    );
}

#[test]
fn message_ids_are_sent_where_they_are_asked_for() {
    let with_ids = endpoint(json!({"message_id": true}), "k");
    let payload = json!({"message_id": "m-1", "payload": {"k": 1}});
    let given = fixture::notification(&payload, &json!({"device_tokens": ["t1"]}), &json!({}));
    let expected = concat!(
        r#"{"target":["t1"],"title":"","content":"","messageId":"m-1","overrides":{},"payload":{"#,
        r#""k":1,"__nvMessageId":"m-1","subscriber":{},"step":{"digest":false,"events":[],"#,
        r#""total_count":0}}}"#,
    );
    assert_eq!(body(&with_ids, &given), expected);
    let own = hello(json!({}));
    let id = fixture::delivery_id(&with_ids, &own);
    assert!(body(&with_ids, &own).contains(&format!(r#""messageId":"{id}""#)));
    assert!(!body(&endpoint(json!({}), "k"), &given).contains("m-1"));
}

#[test]
fn overrides_aim_elsewhere_only_where_that_is_allowed() {
    let elsewhere = json!({"webhookUrl": "other.example.com/hook", "hmac_secret_key": "other-key"});
    let notification = hello(json!({"providers": {"push-webhook": elsewhere}}));
    let plain = body(&endpoint(json!({}), "k"), &hello(json!({})));
    let free = endpoint(json!({"url_override": true}), "k");
    let request = signed(&free, &notification, Grant::default()).unwrap();
    assert_eq!(request.url().as_str(), "https://other.example.com/hook");
    assert_eq!(request.body(), plain.as_str());
    assert_eq!(
        header(&request, SIGNATURE).unwrap(),
        signature(&Secret::new("other-key"), plain.as_bytes())
    );
    let strict = endpoint(json!({}), "k");
    let request = signed(&strict, &notification, Grant::default()).unwrap();
    assert_eq!(request.url(), &strict.url);
    assert_eq!(request.body(), plain.as_str());
    assert_eq!(
        header(&request, SIGNATURE).unwrap(),
        signature(&Secret::new("k"), plain.as_bytes())
    );
    let no_override = signed(&free, &hello(json!({})), Grant::default()).unwrap();
    assert_eq!(no_override.url(), &free.url);
}

#[test]
fn what_a_notification_has_wrong_is_named() {
    let free = endpoint(json!({"url_override": true}), "k");
    let provider = |members: Value| json!({"providers": {"push-webhook": members}});
    for (payload, recipient, overrides, named) in [
        (json!({"title": 1}), json!({}), json!({}), "payload.title"),
        (
            json!({"payload": []}),
            json!({}),
            json!({}),
            "payload.payload",
        ),
        (
            json!({"step": {"events": 1}}),
            json!({}),
            json!({}),
            "payload.step.events",
        ),
        (json!([]), json!({}), json!({}), "payload"),
        (
            json!({}),
            json!({"device_tokens": [1]}),
            json!({}),
            "recipient.device_tokens[0]",
        ),
        (
            json!({}),
            json!({"subscriber": "s"}),
            json!({}),
            "recipient.subscriber",
        ),
        (
            json!({}),
            json!({}),
            json!({"push-webhook": 1}),
            "overrides.push-webhook",
        ),
        (
            json!({}),
            json!({}),
            json!({"push-webhook": {"deviceTokens": [1]}}),
            "overrides.push-webhook.deviceTokens",
        ),
        (
            json!({}),
            json!({}),
            provider(json!({"webhookUrl": 1})),
            "overrides.providers.push-webhook.webhookUrl",
        ),
        (
            json!({}),
            json!({}),
            provider(json!({"webhookUrl": "ftp://a"})),
            "overrides.providers.push-webhook.webhookUrl",
        ),
        (
            json!({}),
            json!({}),
            provider(json!({"hmacSecretKey": {}})),
            "overrides.providers.push-webhook.hmacSecretKey",
        ),
    ] {
        let notification = fixture::notification(&payload, &recipient, &overrides);
        assert_eq!(
            fields(NovuPush.check_notification(&free, &notification)),
            [named]
        );
    }
}

#[test]
fn wrong_settings_are_named() {
    assert_eq!(
        fields(NovuPush.check(&endpoint(json!({"url_override": "yes"}), "k"))),
        ["settings.url_override"]
    );
    assert_eq!(
        fields(NovuPush.check(&endpoint(json!({"webhookUrl": "https://a"}), "k"))),
        ["settings.webhookUrl"]
    );
}

#[test]
fn the_answer_may_say_an_id() {
    let endpoint = endpoint(json!({}), "k");
    let id = |status, body: &str| match NovuPush.classify(&endpoint, &reply(status, body), now()) {
        Outcome::Accepted {
            provider_message_id,
            provider_message_date,
        } => {
            assert_eq!(provider_message_date.as_deref(), Some("Sat Nov 21 2026"));
            provider_message_id
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(id(200, r#"{"id":"p-1"}"#).as_deref(), Some("p-1"));
    assert_eq!(id(201, r#"{"id":7}"#).as_deref(), Some("7"));
    for body in [
        "",
        "ok",
        "{}",
        "[]",
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":{}}"#,
    ] {
        assert_eq!(id(204, body), None, "{body}");
    }
    let outcome = |status| NovuPush.classify(&endpoint, &reply(status, r#"{"id":"p-1"}"#), now());
    assert!(matches!(
        outcome(503),
        Outcome::Transient {
            kind: RetryOn::ServerError,
            ..
        }
    ));
    assert!(matches!(
        outcome(404),
        Outcome::Refused {
            reason: FailureReason::Rejected,
            ..
        }
    ));
}

#[test]
fn the_sample_suffices() {
    let sample = NovuPush.sample();
    let secret = NovuPush.new_secret(&Map::new()).unwrap();
    let endpoint = endpoint(sample.settings, secret.expose());
    let notification =
        fixture::notification(&sample.payload, &sample.recipient.unwrap(), &json!({}));
    assert_eq!(NovuPush.check(&endpoint), []);
    assert_eq!(NovuPush.check_notification(&endpoint, &notification), []);
    assert!(signature_of(&endpoint, &notification).is_some());
}
