use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use posthaste_shared::domain::time::Timestamp;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_767_225_600;

/// By a path such as `/standard_webhooks/secret`.
fn vector(path: &str) -> String {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/wire-formats.json")).unwrap();
    vectors
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {path}"))
        .to_owned()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect::<HeaderMap>()
}

fn verify_at(
    format: Format,
    secrets: &[&str],
    pairs: &[(&'static str, &str)],
    body: &str,
    now: i64,
) -> Verified {
    let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
    let verifier = Verifier::new(format, &secrets).unwrap();
    verifier.verify(
        &headers(pairs),
        body.as_bytes(),
        Timestamp::from_micros(now * 1_000_000),
    )
}

fn verify(
    format: Format,
    secrets: &[&str],
    pairs: &[(&'static str, &str)],
    body: &str,
) -> Verified {
    verify_at(format, secrets, pairs, body, NOW)
}

fn why(verified: Verified) -> String {
    match verified {
        Verified::Bad(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Standard Webhooks, under a prefix.
fn standard(prefix: &str, secret: &str, signature: &str, body: &str, after: i64) -> Verified {
    let pairs: &[(&'static str, &str)] = if prefix == "svix" {
        &[
            ("svix-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
            ("svix-timestamp", "1767225600"),
            ("svix-signature", signature),
        ]
    } else {
        &[
            ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
            ("webhook-timestamp", "1767225600"),
            ("webhook-signature", signature),
        ]
    };
    verify_at(Format::Auto, &[secret], pairs, body, NOW + after)
}

#[test]
fn standard_takes_one_of_several_signatures_of_either_kind() {
    let body = vector("/standard_webhooks/body");
    let v1 = vector("/standard_webhooks/rotatedSignature");
    let v1a = vector("/standard_webhooks/v1aSignature");
    let all = format!("{v1a} {v1}");
    for prefix in ["webhook", "svix"] {
        for secret in [
            "secret",
            "oldSecret",
            "ed25519SecretKey",
            "ed25519PublicKey",
        ] {
            let secret = vector(&format!("/standard_webhooks/{secret}"));
            assert_eq!(
                standard(prefix, &secret, &all, &body, 299),
                Verified::Good,
                "{prefix}"
            );
            assert_eq!(standard(prefix, &secret, &all, &body, -300), Verified::Good);
            assert!(why(standard(prefix, &secret, &all, "{}", 0)).contains("does not match"));
            assert!(why(standard(prefix, &secret, &all, &body, 301)).contains("301 s off"));
        }
    }
}

#[test]
fn standard_says_why_not() {
    let body = vector("/standard_webhooks/body");
    let secret = vector("/standard_webhooks/secret");
    let public = vector("/standard_webhooks/ed25519PublicKey");
    assert!(why(standard("webhook", &secret, "v1a,AAAA", &body, 0)).contains("no v1 signature"));
    assert!(why(standard("webhook", &public, "v1,AAAA", &body, 0)).contains("no v1a signature"));
    assert!(why(standard("webhook", &public, "v1a,AAAA", &body, 0)).contains("does not match"));
    assert!(why(standard("webhook", &secret, "v1,!!", &body, 0)).contains("does not match"));
    assert!(why(verify(Format::Auto, &[&secret], &[], "")).contains("no signature"));
    assert!(why(verify(Format::Standard, &[&secret], &[], "")).contains("no header webhook-id"));
}

#[test]
fn httpsms_tokens_are_of_the_issuer_and_of_now() {
    let key = vector("/httpsms_jwt/key");
    let token = vector("/httpsms_jwt/token");
    let bearer = format!("Bearer {token}");
    let pairs: [(&'static str, &str); 2] = [
        ("authorization", &bearer),
        ("x-event-type", "message.phone.sent"),
    ];
    for format in [Format::Auto, Format::Httpsms] {
        assert_eq!(
            verify(format, &["other", &key], &pairs, "anything"),
            Verified::Good
        );
        assert!(why(verify(format, &["other"], &pairs, "")).contains("does not match"));
    }
    let at = |seconds| verify_at(Format::Httpsms, &[&key], &pairs, "", NOW + seconds);
    assert_eq!((at(599), at(-600)), (Verified::Good, Verified::Good));
    assert!(why(at(600)).contains("exp") && why(at(-601)).contains("nbf"));
    let made = |head: Value, claims: Value| {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let bearer = format!(
            "Bearer {signed}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        );
        verify(Format::Httpsms, &[&key], &[("authorization", &bearer)], "")
    };
    let good = json!({"alg": "HS256"});
    assert_eq!(
        made(
            good.clone(),
            json!({"iss": "api.httpsms.com", "exp": NOW + 1})
        ),
        Verified::Good
    );
    assert!(why(made(good.clone(), json!({"iss": "else", "exp": NOW + 1}))).contains("iss"));
    assert!(why(made(good.clone(), json!({"iss": "api.httpsms.com"}))).contains("no exp"));
    assert!(why(made(json!({"alg": "none"}), json!({}))).contains("HS256"));
    assert!(
        why(verify(
            Format::Httpsms,
            &[&key],
            &[("authorization", "Bearer a.b")],
            ""
        ))
        .contains("not a JWT")
    );
    assert!(why(verify(Format::Httpsms, &[&key], &[], "")).contains("Authorization: Bearer"));
}

#[test]
fn hex_signatures_fit_the_body() {
    for (format, path, header) in [
        (Format::NovuPush, "/novu_push/1", "x-novu-signature"),
        (
            Format::AuthgearSms,
            "/authgear/0",
            "x-authgear-body-signature",
        ),
    ] {
        let part = |name: &str| vector(&format!("{path}/{name}"));
        let key = part("key");
        let body = part("body");
        let signature = part("signature");
        for format in [format, Format::Auto] {
            assert_eq!(
                verify(format, &[&key], &[(header, &signature)], &body),
                Verified::Good
            );
            assert!(
                why(verify(format, &[&key], &[(header, &signature)], "{}"))
                    .contains("does not match")
            );
            assert!(
                why(verify(format, &["other"], &[(header, &signature)], &body))
                    .contains("does not match")
            );
            let upper = signature.to_uppercase();
            assert!(
                why(verify(format, &[&key], &[(header, &upper)], &body)).contains("lower-case")
            );
            assert!(
                why(verify(format, &[&key], &[(header, &signature[2..])], &body)).contains("64")
            );
        }
        assert!(why(verify(format, &[&key], &[], &body)).contains(header));
    }
}

#[test]
fn basic_authentication_is_user_and_password() {
    for nth in 0..3 {
        let part = |name: &str| vector(&format!("/cometchat_basic/{nth}/{name}"));
        let secret = format!("{}:{}", part("user"), part("password"));
        let header = part("header");
        for format in [Format::CometchatSms, Format::Auto] {
            assert_eq!(
                verify(format, &[&secret], &[("authorization", &header)], "{}"),
                Verified::Good
            );
            let wrong = why(verify(
                format,
                &["user:other"],
                &[("authorization", &header)],
                "{}",
            ));
            assert!(
                wrong.contains("do not match") && !wrong.contains("other"),
                "{wrong}"
            );
        }
    }
    assert!(why(verify(Format::CometchatSms, &["a:b"], &[], "")).contains("Basic"));
    assert!(
        why(verify(
            Format::CometchatSms,
            &["a:b"],
            &[("authorization", "Basic !")],
            ""
        ))
        .contains("base64")
    );
}

#[test]
fn an_api_key_stands_in_its_header() {
    let secret = ["X-API-KEY: key-123"];
    for format in [Format::NovuSms, Format::Auto] {
        assert_eq!(
            verify(format, &secret, &[("x-api-key", "key-123")], "{}"),
            Verified::Good
        );
        let wrong = why(verify(format, &secret, &[("x-api-key", "key-124")], "{}"));
        assert!(
            wrong.contains("x-api-key") && !wrong.contains("key-12"),
            "{wrong}"
        );
    }
    assert!(why(verify(Format::NovuSms, &secret, &[], "{}")).contains("no header x-api-key"));
}

#[test]
fn each_scheme_takes_any_of_two_secrets() {
    let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
    let hmac = |key: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(b"{}");
        mac.finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let cases = [
        (
            Format::NovuSms,
            ["X-Key: new", "X-Key: old"],
            "x-key",
            ["new", "old"].map(str::to_owned),
        ),
        (
            Format::NovuSms,
            ["X-New: a", "X-Old: b"],
            "x-old",
            ["c", "b"].map(str::to_owned),
        ),
        (
            Format::CometchatSms,
            ["u:new", "u:old"],
            "authorization",
            ["u:new", "u:old"].map(basic),
        ),
        (
            Format::NovuPush,
            ["new", "old"],
            "x-novu-signature",
            ["new", "old"].map(hmac),
        ),
    ];
    for (format, secrets, header, [_, old]) in cases {
        for secrets in [secrets, [secrets[1], secrets[0]]] {
            for format in [format, Format::Auto] {
                assert_eq!(
                    verify(format, &secrets, &[(header, &old)], "{}"),
                    Verified::Good,
                    "{format:?} {secrets:?}"
                );
                assert!(
                    matches!(
                        verify(format, &secrets, &[(header, "x")], "{}"),
                        Verified::Bad(_)
                    ),
                    "{format:?} {secrets:?}"
                );
            }
        }
    }
}

#[test]
fn a_cloud_event_has_its_attributes() {
    let event = |body: Value| {
        let pairs = [(
            "content-type",
            "application/cloudevents+json; charset=utf-8",
        )];
        verify(Format::Auto, &[], &pairs, &body.to_string())
    };
    let good = json!({
        "specversion": "1.0", "id": "1", "source": "/a", "type": "t",
        "time": "2026-01-01T00:00:00Z", "n": 1, "data": {},
    });
    assert_eq!(event(good.clone()), Verified::Good);
    for (change, problem) in [
        (json!({"id": null}), "id must be"),
        (json!({"id": ""}), "id is empty"),
        (json!({"specversion": "0.3"}), "not 1.0"),
        (json!({"time": "now"}), "RFC 3339"),
        (json!({"Upper": "a"}), "lower-case"),
        (json!({"n": {}}), "n must be"),
        (json!({"data_base64": ""}), "exclude"),
    ] {
        let mut wrong = good.clone();
        wrong
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        assert!(why(event(wrong)).contains(problem), "{problem}");
    }
    let mut without = good;
    without.as_object_mut().unwrap().remove("source");
    assert!(why(event(without)).contains("source is missing"));
    assert!(why(event(json!([]))).contains("not a JSON object"));
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/a"),
        ("ce-type", "t"),
        ("content-type", "a/b"),
    ];
    assert_eq!(
        verify(Format::Cloudevents, &[], &binary, "data"),
        Verified::Good
    );
    assert!(why(verify(Format::Auto, &[], &binary[..3], "")).contains("type is missing"));
    assert!(why(verify(Format::Auto, &[], &binary[..4], "data")).contains("Content-Type"));
    let twice = [&binary[..], &[("ce-datacontenttype", "a/b")]].concat();
    assert!(why(verify(Format::Auto, &[], &twice, "data")).contains("ce-datacontenttype"));
    assert!(why(verify(Format::Cloudevents, &[], &[], "{}")).contains("not a CloudEvent"));
    // A secret that was given must have signed, though the event itself is sound.
    let secret = vector("/standard_webhooks/secret");
    assert!(why(verify(Format::Auto, &[&secret], &binary, "data")).contains("no signature"));
}

#[test]
fn secrets_are_for_their_format_and_are_not_shown() {
    let refused = |format, secret: &str| {
        Verifier::new(format, &[Secret::new(secret)])
            .map(|_| ())
            .unwrap_err()
    };
    for (format, secret, expected) in [
        (Format::Standard, "hello-there", "whsec_"),
        (Format::Auto, "whsk_AAAA", "ed25519"),
        (Format::NovuSms, "hello-there", "X-API-KEY"),
        (Format::CometchatSms, "hello-there", "user:password"),
        (Format::Httpsms, " ", "signing key"),
    ] {
        let problem = refused(format, secret);
        assert!(
            problem.contains(expected) && !problem.contains("hello-there"),
            "{problem}"
        );
    }
    assert!(
        Verifier::new(Format::Httpsms, &[])
            .map(|_| ())
            .unwrap_err()
            .contains("needs --secret")
    );
    // A request that is signed in a way that the secret is not for.
    let said = why(verify(
        Format::Auto,
        &["hello-there"],
        &[("webhook-signature", "v1,AAAA")],
        "",
    ));
    assert!(
        said.contains("standard") && said.contains("whsec_") && !said.contains("hello"),
        "{said}"
    );
    assert_eq!(
        verify(Format::Auto, &[], &[("webhook-signature", "v1,AAAA")], ""),
        Verified::Unchecked
    );
    assert_eq!(
        verify(Format::None, &["hello-there"], &[], ""),
        Verified::Unchecked
    );
    let basic = format!("Basic {}", STANDARD.encode("a:b"));
    assert_eq!(
        verify(Format::Auto, &["a:b"], &[("authorization", &basic)], ""),
        Verified::Good
    );
}

#[test]
fn formats_have_the_names_of_wire_formats() {
    for (name, format) in Format::SCHEMES {
        assert_eq!((Format::parse(name), format.name()), (Some(format), name));
        assert!(
            posthaste_shared::domain::wire_format::WireFormat::ALL
                .iter()
                .any(|known| known.to_string() == name)
        );
    }
    assert_eq!(Format::parse("auto"), Some(Format::Auto));
    assert_eq!(Format::parse("nope"), None);
    assert!(
        Format::NAMES
            .iter()
            .all(|name| Format::parse(name).is_some())
    );
    let schemes = Format::SCHEMES.iter();
    assert!(
        schemes
            .clone()
            .all(|(name, _)| Format::NAMES.contains(name))
    );
}
