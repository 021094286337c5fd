use posthaste_shared::domain::endpoint::SigningSecret;
use posthaste_shared::domain::view::EndpointView;
use serde_json::json;

use super::super::fixtures;
use super::*;

fn vector(name: &str) -> String {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/wire-formats.json")).unwrap();
    let vector = &vectors["standard_webhooks"][name];
    vector
        .as_str()
        .map_or_else(|| vector.to_string(), str::to_owned)
}

fn signature(secret: &str) -> String {
    let key = Key::read(&Secret::new(secret)).unwrap();
    key.sign(
        &vector("id"),
        vector("timestamp").parse().unwrap(),
        vector("body").as_bytes(),
    )
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// An endpoint with these secrets, the newest first; the others retire in 2026-01-02.
fn endpoint(settings: Value, secrets: &[String]) -> Endpoint {
    let mut endpoint = fixtures::endpoint(
        posthaste_shared::domain::wire_format::WireFormat::Standard,
        settings,
    );
    let held = |(nth, secret): (usize, &String)| SigningSecret {
        secret: Secret::new(secret),
        created_at: at("2026-01-01T00:00:00Z"),
        retires_at: (nth > 0).then(|| at("2026-01-02T00:00:00Z")),
    };
    endpoint.confidential.secrets = secrets.iter().enumerate().map(held).collect();
    endpoint
}

fn sent(endpoint: &Endpoint, now: &str) -> Vec<(String, String)> {
    let notification = fixtures::notification("order.paid", json!({"a": 1}));
    let subject = fixtures::subject(endpoint, &notification);
    let rendered = Standard.render(&subject).unwrap();
    let headers = Standard.sign(&subject, &rendered, at(now)).unwrap();
    headers
        .iter()
        .map(|header| (header.name.clone(), header.value.expose().to_owned()))
        .collect()
}

#[test]
fn signs_as_the_libraries_do() {
    assert_eq!(signature(&vector("secret")), vector("signature"));
    let both = format!(
        "{} {}",
        signature(&vector("secret")),
        signature(&vector("oldSecret"))
    );
    assert_eq!(both, vector("rotatedSignature"));
    assert_eq!(
        signature(&vector("ed25519SecretKey")),
        vector("v1aSignature")
    );
}

#[test]
fn every_live_secret_signs_the_newest_first() {
    let secrets = [
        vector("ed25519SecretKey"),
        vector("secret"),
        vector("oldSecret"),
    ];
    let endpoint = endpoint(json!({}), &secrets);
    let kinds = |now: &str| {
        let headers = sent(&endpoint, now);
        let (_, signatures) = headers
            .iter()
            .find(|(name, _)| name == "webhook-signature")
            .unwrap();
        signatures
            .split(' ')
            .map(|one| one.split_once(',').unwrap().0.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds("2026-01-01T12:00:00Z"), ["v1a", "v1", "v1"]);
    assert_eq!(kinds("2026-01-02T00:00:00Z"), ["v1a"]);
}

#[test]
fn headers_have_the_prefix_that_is_asked_for() {
    let names = |settings: Value| {
        let mut names: Vec<String> = sent(
            &endpoint(settings, &[vector("secret")]),
            "2026-01-01T00:00:00Z",
        )
        .into_iter()
        .map(|(name, _)| name)
        .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(json!({})),
        ["webhook-id", "webhook-signature", "webhook-timestamp"]
    );
    assert_eq!(
        names(json!({"header_prefix": "svix"})),
        ["svix-id", "svix-signature", "svix-timestamp"]
    );
}

#[test]
fn the_body_is_the_envelope_or_the_payload() {
    let body = |settings: Value| {
        let endpoint = endpoint(settings, &[vector("secret")]);
        let notification = fixtures::notification("order.paid", json!({"a": "<ü>"}));
        Standard
            .render(&fixtures::subject(&endpoint, &notification))
            .unwrap()
            .body
    };
    assert_eq!(
        body(json!({})),
        r#"{"type":"order.paid","timestamp":"2026-01-01T00:00:00Z","data":{"a":"<ü>"}}"#
    );
    assert_eq!(body(json!({"body": "payload"})), r#"{"a":"<ü>"}"#);
}

#[test]
fn others_sign_only_where_there_is_a_secret() {
    let notification = fixtures::notification("a", json!(1));
    let without = endpoint(json!({}), &[]);
    let now = at("2026-01-01T00:00:00Z");
    assert_eq!(
        headers(&fixtures::subject(&without, &notification), b"{}", now),
        Ok(Vec::new())
    );
    let subject = fixtures::subject(&without, &notification);
    let rendered = Standard.render(&subject).unwrap();
    assert_eq!(
        Standard.sign(&subject, &rendered, now).unwrap_err().member,
        "secret"
    );
    let with = endpoint(json!({}), &[vector("secret")]);
    assert_eq!(
        headers(&fixtures::subject(&with, &notification), b"{}", now)
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn refuses_secrets_that_are_none() {
    let foreign = vector("ed25519SecretKey").replace("oxyl2", "oxyl3");
    let cut = vector("ed25519SecretKey").replace("MLA==", "");
    for text in [
        "",
        "whsec_",
        "whsec_c2hvcnQ=",
        "whsec_%%%",
        "c2hvcnRzaG9ydHNob3J0c2hvcnRzaG9ydA==",
        "whsk_",
        &foreign,
        &cut,
    ] {
        let problem = Standard.check_secret(&Secret::new(text)).unwrap_err();
        assert!(text.len() < 8 || !problem.contains(text), "{problem}");
    }
    let public = vector("ed25519PublicKey");
    assert!(
        Standard
            .check_secret(&Secret::new(public))
            .unwrap_err()
            .contains("whsk_")
    );
    assert!(
        Standard
            .check_secret(&Secret::new(foreign))
            .unwrap_err()
            .contains("does not belong to its seed")
    );
}

#[test]
fn makes_the_kind_of_secret_that_the_settings_ask_for() {
    for (settings, prefix) in [
        (json!({}), "whsec_"),
        (json!({"signature": "v1"}), "whsec_"),
        (json!({"signature": "v1a"}), "whsk_"),
    ] {
        let made = Standard.new_secret(settings.as_object().unwrap()).unwrap();
        assert!(made.expose().starts_with(prefix), "{settings}");
        assert_eq!(Standard.check_secret(&made), Ok(()));
    }
}

#[test]
fn says_what_is_wrong_with_an_endpoint() {
    let problems = |settings: Value, secrets: &[String]| {
        let problems = Standard.check(&endpoint(settings, secrets));
        problems
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    assert!(
        problems(
            json!({"signature": "v1a", "header_prefix": "svix"}),
            &[vector("secret")]
        )
        .is_empty()
    );
    assert_eq!(
        problems(json!({"signature": "v2"}), &[]),
        ["settings.signature", "secret"]
    );
    assert_eq!(
        problems(json!({"header_prefix": "x"}), &["whsec_".to_owned()]),
        ["settings.header_prefix", "secret"]
    );
    assert_eq!(
        problems(json!({"boddy": "x"}), &[vector("secret")]).len(),
        1
    );
}

/// The public half is shown for each live pair of keys, and nothing of the secrets.
#[test]
fn an_endpoint_shows_its_public_keys() {
    let settings = json!({"signature": "v1a"});
    let endpoint = endpoint(
        settings.clone(),
        &[vector("ed25519SecretKey"), vector("secret")],
    );
    let view = EndpointView::of(&endpoint, at("2026-01-01T00:00:00Z"));
    assert_eq!(view.public_keys, [vector("ed25519PublicKey")]);
    assert_eq!(
        Value::from(view.settings.clone()),
        settings,
        "which kind is made is no secret"
    );
    let shown = serde_json::to_string(&view).unwrap();
    assert!(
        !shown.contains("whsk_") && !shown.contains("whsec_"),
        "{shown}"
    );
}
