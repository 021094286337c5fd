//! `authgear-sms`: the webhook of Authgear's custom SMS gateway. The body is signed with
//! HMAC-SHA256 (`x-authgear-body-signature`), and the `code` in the answer decides, whatever the
//! status.

use hmac::{Hmac, KeyInit as _, Mac as _};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use rand::RngExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::wire::outcome::Outcome;
use crate::wire::{
    FieldProblem, Header, Reading, RenderError, Rendered, Reply, Sample, Subject, Unwritten, Wire,
    WireInfo, authgear, settings,
};

/// What Authgear makes its secrets of.
const ALPHABET: &[u8; 63] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
/// Length of Authgear's own secrets, and so of ours.
const NEW_SECRET_CHARS: usize = 32;
/// The longest secret that is taken.
const MAX_SECRET_CHARS: usize = 255;

#[derive(Debug)]
pub(in crate::wire) struct AuthgearSms;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The project's id, for notifications whose payload has no `app_id`.
    app_id: Option<String>,
    /// Whether `<`, `>`, `&`, U+2028 and U+2029 are escaped in the body, as Authgear's own server
    /// does.
    go_escape: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            app_id: None,
            go_escape: true,
        }
    }
}

impl Wire for AuthgearSms {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "The webhook of Authgear's custom SMS gateway: the body signed with \
                          HMAC-SHA256 \
                (x-authgear-body-signature), and a `code` in the answer that decides.",
            signs: true,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<authgear::Payload>(),
            recipient: settings::schema::<authgear::Recipient>(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let mut problems: Vec<FieldProblem> = settings::settings::<Settings>(endpoint)
            .err()
            .map(FieldProblem::from)
            .into_iter()
            .collect();
        if endpoint.confidential.secrets.is_empty() {
            problems.push(unsigned().into());
        }
        for held in &endpoint.confidential.secrets {
            let problem = self.check_secret(&held.secret).err();
            problems.extend(problem.map(|problem| FieldProblem {
                field: "secret".into(),
                problem,
            }));
        }
        problems
    }

    fn check_notification(
        &self,
        _endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        authgear::check_notification(notification)
    }

    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        let json = authgear::write(subject.notification, settings.app_id.as_deref())?;
        Ok(Rendered::json(if settings.go_escape {
            settings::go_escaped(&json)
        } else {
            json
        }))
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        rendered: &Rendered,
        now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        // The newest alone: Authgear has one signature header, with one signature.
        let secret = subject
            .endpoint
            .confidential
            .live_secrets(now)
            .next()
            .ok_or_else(unsigned)?;
        Ok(vec![Header::open(
            "X-Authgear-Body-Signature",
            signature(secret, &rendered.body),
        )])
    }

    fn reading(&self) -> Reading {
        Reading::Body
    }

    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        authgear::classify(reply, now)
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        let mut rng = rand::rng();
        let chars = (0..NEW_SECRET_CHARS)
            .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        Some(Secret::new(chars.collect::<String>()))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), String> {
        let text = secret.expose();
        if (1..=MAX_SECRET_CHARS).contains(&text.len())
            // It is copied between two portals, where a space or a line break at its end is easily
            // taken along: every signature would be wrong.
            && text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Ok(());
        }
        Err(
            "must be 1 to 255 visible ASCII characters, such as the 32 that Authgear's portal \
             shows"
                .to_owned(),
        )
    }

    fn sample(&self) -> Sample {
        authgear::sample(json!({}))
    }
}

fn unsigned() -> RenderError {
    RenderError::new("secret", "is needed to sign")
}

/// The key is the secret's characters as they are shown, not decoded in any way.
fn signature(secret: &Secret, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use posthaste_shared::domain::wire_format::WireFormat;

    use super::*;
    use crate::wire::sms_fixture::{NOW, endpoint, fields, notification, subject, vectors};

    const KEY: &str = "authgear_webhook_key_0123456789A";

    fn request(endpoint: &Endpoint, members: &Value) -> (String, Vec<Header>) {
        let notification = notification("sms", members);
        assert!(AuthgearSms.check(endpoint).is_empty());
        assert!(
            AuthgearSms
                .check_notification(endpoint, &notification)
                .is_empty()
        );
        let subject = subject(endpoint, &notification, None);
        let rendered = AuthgearSms.render(&subject).unwrap();
        let headers = AuthgearSms.sign(&subject, &rendered, NOW).unwrap();
        (String::from_utf8(rendered.body.to_vec()).unwrap(), headers)
    }

    #[test]
    fn bodies_and_signatures_are_those_of_the_vectors() {
        for vector in vectors()["authgear"].as_array().unwrap() {
            let body = vector["body"].as_str().unwrap();
            let escaped = vector.get("note").is_some();
            let endpoint = endpoint(
                WireFormat::AuthgearSms,
                &json!({ "go_escape": escaped }),
                Some(vector["key"].as_str().unwrap()),
            );
            let payload: Value = serde_json::from_str(body).unwrap();
            let (sent, headers) = request(&endpoint, &json!({ "payload": payload }));
            assert_eq!(sent, body);
            let expected = Header::open(
                "X-Authgear-Body-Signature",
                vector["signature"].as_str().unwrap(),
            );
            assert_eq!(headers, [expected]);
        }
    }

    #[test]
    fn the_members_go_out_in_authgears_order_and_those_that_are_left_out_are_empty() {
        let endpoint = endpoint(
            WireFormat::AuthgearSms,
            &json!({ "app_id": "mine" }),
            Some(KEY),
        );
        let (sent, _) = request(
            &endpoint,
            &json!({ "recipient": { "phone": "+2", "phone_number": "+1" }, "payload": {
                "template_variables": { "zeta": 1, "x_state": "x", "has_password": true,
                "link": "", "code": "1",
                    "password": null, "app_name": "a <b>", "email": "" },
                "more": true, "body": "hi"
            } }),
        );
        let expected = concat!(
            r#"{"to":"+1","body":"hi","app_id":"mine","template_name":"","language_tag":"","#,
            r#""template_variables":{"app_name":"a \u003cb\u003e","code":"1","has_password":true,"#,
            r#""x_state":"x","zeta":1}}"#,
        );
        assert_eq!(sent, expected);
        let (sent, _) = request(
            &endpoint,
            &json!({ "recipient": { "phone": "+2" }, "payload": { "body": "hi" } }),
        );
        let expected = concat!(
            r#"{"to":"+2","body":"hi","app_id":"mine","template_name":"","language_tag":"","#,
            r#""template_variables":{}}"#,
        );
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_newest_live_secret_signs() {
        let mut endpoint = endpoint(WireFormat::AuthgearSms, &json!({}), Some("old"));
        let members = json!({ "payload": { "to": "+1", "body": "hi" } });
        let (body, before) = request(&endpoint, &members);
        endpoint.confidential.rotate(
            Secret::new(KEY),
            NOW,
            NOW.after(std::time::Duration::from_secs(60)),
        );
        let (same, after) = request(&endpoint, &members);
        assert_eq!(body, same);
        assert_ne!(before, after);
        assert_eq!(
            after[0].value.expose(),
            signature(&Secret::new(KEY), body.as_bytes())
        );
    }

    #[test]
    fn says_what_is_wrong_with_an_endpoint() {
        let problems = |settings: Value, secret: Option<&str>| {
            let endpoint = endpoint(WireFormat::AuthgearSms, &settings, secret);
            AuthgearSms
                .check(&endpoint)
                .into_iter()
                .map(|problem| problem.field)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            problems(json!({ "go_escape": 1 }), None),
            ["settings.go_escape", "secret"]
        );
        assert_eq!(
            problems(json!({ "nope": 1 }), Some("a b")),
            ["settings.nope", "secret"]
        );
        assert!(problems(json!({}), Some(&"a".repeat(255))).is_empty());
        assert_eq!(problems(json!({}), Some(&"a".repeat(256))), ["secret"]);
    }

    #[test]
    fn new_secrets_look_like_authgears() {
        let secret = AuthgearSms.new_secret(&Map::new()).unwrap();
        assert_eq!(secret.expose().len(), 32);
        assert!(
            secret
                .expose()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        );
        assert_ne!(secret, AuthgearSms.new_secret(&Map::new()).unwrap());
    }

    #[test]
    fn the_sample_passes() {
        let sample = AuthgearSms.sample();
        let secret = AuthgearSms.new_secret(&Map::new()).unwrap();
        let endpoint = endpoint(
            WireFormat::AuthgearSms,
            &sample.settings,
            Some(secret.expose()),
        );
        assert_eq!(fields(&AuthgearSms.check(&endpoint)), Vec::<&str>::new());
        let notification = notification(sample.kind, &json!({ "payload": sample.payload }));
        assert!(
            AuthgearSms
                .check_notification(&endpoint, &notification)
                .is_empty()
        );
    }
}
