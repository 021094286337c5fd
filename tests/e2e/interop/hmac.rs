//! Novu push and Authgear SMS: the HMAC over the raw body, by the means that their documents show.

use serde_json::{Value, json};

use super::{Scene, assert_only_genuine, judged_by_node, judged_by_python, with_tampered};

/// What would show a body that was written anew, or a signature over other bytes than those sent.
const TEXT: &str = "Olá 你好 👋 a & b <c> \"d\" \u{2028} \\ 420240\n";

const PYTHON: &str = "
import hashlib, hmac
class Refused(Exception):
    pass
def check(headers, body):
    expected = hmac.new(given['key'].encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, headers.get(given['header'], '')):
        raise Refused
    return json.loads(body)
judge(check, Refused)
";

const NODE: &str = "
const crypto = require('node:crypto');
class Refused extends Error {}
judge((headers, body) => {
  const hmac = crypto.createHmac('sha256', given.key);
  const actual = hmac.update(body.toString('utf8'), 'utf-8').digest('hex');
  if (headers[given.header] !== actual) throw new Refused();
  return JSON.parse(body);
}, ['Refused']);
";

/// Both accept what arrives, with a key of the user's and with one that Posthaste made.
async fn verified(
    wire_format: &str,
    header: &str,
    own: &str,
    notification: &Value,
    expected: &Value,
) {
    let scene = Scene::start().await;
    for settings in [
        json!({"wire_format": wire_format, "secret": own}),
        json!({"wire_format": wire_format}),
    ] {
        let (endpoint, request) = scene.deliver(settings, notification.clone()).await;
        let key = endpoint["secret"].as_str().unwrap_or(own);
        for (key, accepted) in [
            (key, expected),
            ("another-key", &json!({"refused": "Refused"})),
        ] {
            let given = json!({
                "key": key, "header": header, "requests": with_tampered(&request, &[header]),
            });
            assert_only_genuine(&judged_by_python(PYTHON, &given).await, accepted, "Refused");
            assert_only_genuine(&judged_by_node(NODE, &given).await, accepted, "Refused");
        }
    }
}

#[tokio::test]
async fn novu_push_is_verified_as_its_page_shows() {
    let notification = json!({
        "payload": {"title": TEXT, "content": TEXT, "payload": {"k": [1, null, {"<": ">"}]}},
        "recipient": {"device_tokens": ["t1"], "subscriber": {"subscriberId": "s1"}},
    });
    let step = json!({"digest": false, "events": [], "total_count": 0});
    let expected = json!({
        "target": ["t1"], "title": TEXT, "content": TEXT, "overrides": {},
        "payload": {"k": [1, null, {"<": ">"}], "subscriber": {"subscriberId": "s1"}, "step": step},
    });
    verified(
        "novu-push",
        "x-novu-signature",
        "ein Schlüssel & <€>",
        &notification,
        &expected,
    )
    .await;
}

#[tokio::test]
async fn authgear_sms_is_verified_as_its_page_shows() {
    let message = json!({
        "to": "+44123456789", "body": TEXT, "app_id": "demo",
        "template_name": "verification_sms.txt",
        "language_tag": "fr", "template_variables": {"app_name": "<french> & \
            more", "code": "420240"},
    });
    verified(
        "authgear-sms",
        "x-authgear-body-signature",
        "authgear_webhook_key_0123456789A",
        &json!({"payload": message.clone()}),
        &message,
    )
    .await;
}
