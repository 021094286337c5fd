//! `CometChat`: a receiver with the checks of the vendor's sample takes what arrives, and
//! `Authorization` is Basic as the languages know it.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Scene, judged_by_node, judged_by_python, named, with_tampered};
use crate::support::program::{Language, Program};

/// As the vendor's sample in what it accepts and how it answers; that is written for Express.
const SAMPLE: &str = "
const http = require('node:http');
const answer = (response, status, message) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ message }));
};
const send = ({ uid, phno }, { groupDetails, senderDetails, smsContent }) => {
  if (!uid) throw new Error('Missing data.to.uid');
  if (!smsContent) throw new Error('Missing data.smsContent');
  const kind = groupDetails ? 'group' : senderDetails ? 'one-on-one' : 'neither';
  console.log(JSON.stringify({ sent: [kind, uid, phno ?? 'number of ' + uid, smsContent] }));
};
http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  if (!(request.headers.authorization ?? '').startsWith('Basic ')) {
    return answer(response, 401, 'Unauthorized');
  }
  const { trigger, data, webhook } = JSON.parse(Buffer.concat(chunks));
  if (trigger !== 'sms-notification-payload-generated' || webhook !== 'custom') {
    return answer(response, 400, 'Invalid trigger or webhook type');
  }
  answer(response, 200, 'Webhook received successfully');
  try { send(data?.to ?? {}, data ?? {}); } catch (error) { console.log(error.message); }
}).listen(9000, '127.0.0.1');
";

const PYTHON: &str = "
import base64
class Refused(Exception):
    pass
def check(headers, body):
    scheme, _, credentials = headers.get('authorization', '').partition(' ')
    decoded = base64.b64decode(credentials, validate=True).decode(errors='replace')
    name, _, password = decoded.partition(':')
    if (scheme, name, password) != ('Basic', given['name'], given['password']):
        raise Refused
    return [name, password]
judge(check, Refused)
";

const NODE: &str = "
class Refused extends Error {}
judge((headers) => {
  const [scheme, credentials] = (headers.authorization ?? ' ').split(' ');
  const [name, ...password] = Buffer.from(credentials, 'base64').toString('utf8').split(':');
  if (scheme !== 'Basic' || name !== given.name) throw new Refused();
  if (password.join(':') !== given.password) throw new Refused();
  return [name, password.join(':')];
}, ['Refused']);
";

fn settings(name: &str, password: &str) -> Value {
    let settings = json!({
        "useBasicAuth": true, "basicAuthUsername": name, "basicAuthPassword": password,
        "appId": "app123",
        "region": "us",
    });
    json!({"wire_format": "cometchat-sms", "settings": settings})
}

fn notification(details: &str, recipient: Value) -> Value {
    let sender = json!({
        "uid": "cometchat-uid-4", "name": "Susan Marie", "avatar": "https://example.com/4.webp",
    });
    let group = json!({
        "guid": "cometchat-guid-1", "name": "Hiking Group", "icon": "https://example.com/1.webp",
    });
    let details_of = if details == "groupDetails" {
        group
    } else {
        sender.clone()
    };
    let mut payload = json!({
        "messages": [{"sender": sender, "message": "📷 Has shared an image <&> \u{2028}"}],
        "smsContent": "You've received new messages from Susan Marie <&> é",
    });
    payload[details] = details_of;
    json!({"payload": payload, "recipient": recipient})
}

#[tokio::test]
async fn the_vendors_sample_takes_what_arrives() {
    let scene = Scene::start().await;
    let sample = Program::start(Language::Node, SAMPLE, &[]).await;
    let endpoint = scene
        .api
        .endpoint(
            &sample.url("/webhook"),
            settings("cometchat", "pa:ss word-1"),
        )
        .await;
    let deliver = async |endpoint: &Value, notification: Value, count: usize| {
        let id = scene.api.enqueue_to(endpoint, notification).await;
        scene.api.finished(&id, count).await
    };
    let one = notification(
        "senderDetails",
        json!({"uid": "uid-1", "name": "Andrew", "phno": "+919299334134"}),
    );
    let sms = one["payload"]["smsContent"].clone();
    assert_eq!(
        deliver(&endpoint, one.clone(), 1).await[0]["status"],
        "delivered"
    );
    sample
        .printed(&json!({"sent": ["one-on-one", "uid-1", "+919299334134", sms]}).to_string())
        .await;
    let members = json!({
        "recipients": [
            {"uid": "uid-2", "name": "Bo"},
            {"uid": "uid-3", "name": "Ça", "phno": "+3"},
        ],
    });
    let deliveries = deliver(&endpoint, notification("groupDetails", members), 2).await;
    assert_eq!(deliveries.len(), 2);
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["status"] == "delivered"),
        "{deliveries:?}"
    );
    sample
        .printed(&json!({"sent": ["group", "uid-2", "number of uid-2", sms]}).to_string())
        .await;
    sample
        .printed(&json!({"sent": ["group", "uid-3", "+3", sms]}).to_string())
        .await;

    // It does refuse: without credentials, and another trigger.
    let open = json!({"wire_format": "cometchat-sms", "settings": {"appId": "a", "region": "eu"}});
    let open = scene.api.endpoint(&sample.url("/webhook"), open).await;
    let refused = deliver(&open, one, 1).await.remove(0);
    assert_eq!(
        refused["last_error"], "the endpoint answered 401 Unauthorized",
        "{refused}"
    );
    let other = reqwest::Client::new()
        .post(sample.url("/webhook"))
        .header("authorization", "Basic eDp5");
    let other = other
        .body(r#"{"trigger":"other","webhook":"custom"}"#)
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn basic_credentials_are_read_as_they_were_set() {
    let scene = Scene::start().await;
    let one = notification("senderDetails", json!({"uid": "uid-1", "name": "Andrew"}));
    for (name, password) in [
        ("cometchat", "pa:ss word-1"),
        ("üser", "pässwörd€"),
        ("user889", "pass122"),
    ] {
        let (_, request) = scene.deliver(settings(name, password), one.clone()).await;
        let mut requests = with_tampered(&request, &["authorization"]);
        // Nothing binds the body.
        requests.retain(|request| request["name"] != "changed body");
        let mut headers = request.header_list();
        headers
            .iter_mut()
            .filter(|(name, _)| name == "authorization")
            .for_each(|(_, value)| *value = value.replace("Basic", "Bearer"));
        requests.push(named("other scheme", &headers, request.text()));
        let given = json!({"name": name, "password": password, "requests": requests});
        for verdicts in [
            judged_by_python(PYTHON, &given).await,
            judged_by_node(NODE, &given).await,
        ] {
            super::assert_only_genuine(&verdicts, &json!([name, password]), "Refused");
        }
    }
}
