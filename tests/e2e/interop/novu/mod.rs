//! Novu's own providers, from the package `@novu/providers`, send the same message to the same
//! receiver as Posthaste does. What differs is named and tested.
//!
//! That version (0.24.2, the only one there is) is from before overrides were merged. Novu merges
//! them with copies of the packages `deepmerge` and `change-case`, so these do it here, at the
//! place where later versions of the providers do.

mod push;
mod sms;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Scene;
use crate::support::receiver::Received;

/// `given.send` is what the provider is told, `given.known` and `given.body` are merged over what
/// it makes of it.
const PROVIDER: &str = "
const given = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const build = '@novu/providers/build/main/lib';
const { GenericSmsProvider } = require(build + '/generic-sms/generic-sms.provider.js');
const { PushWebhookPushProvider } = require(build + '/push-webhook/push-webhook.provider.js');
const deepmerge = require('deepmerge');
const run = async () => {
  const { camelCase } = await import('change-case/keys');
  const known = camelCase(given.known ?? {}, Infinity);
  const merged = (body) => deepmerge.all([body, known, given.body ?? {}]);
  if (given.provider === 'sms') {
    const provider = new GenericSmsProvider(given.config);
    provider.axiosInstance?.interceptors.request.use((request) => {
      return { ...request, data: merged(request.data) };
    });
    return provider.sendMessage(given.send);
  }
  const provider = new PushWebhookPushProvider(given.config);
  provider.createBody = (body) => JSON.stringify(merged(body));
  return provider.sendMessage(given.send);
};
run().then(
  (result) => console.log(JSON.stringify({ result })),
  (error) => console.log(JSON.stringify({ error: error.name })),
);
";

/// Lets the provider send; what it returns, or its error.
async fn send(given: Value) -> Value {
    let said = super::node(PROVIDER, &[], &given.to_string()).await;
    serde_json::from_str(&said).expect("its result")
}

/// Headers that each HTTP client has its own of, and Posthaste's addition.
const OWN: [&str; 5] = [
    "accept",
    "accept-encoding",
    "connection",
    "user-agent",
    "webhook-id",
];

fn headers(request: &Received) -> BTreeMap<String, String> {
    request
        .header_list()
        .into_iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect()
}

/// Equal but for the clients' own headers: method, path and query, headers, the body's bytes.
fn assert_same(theirs: &Received, ours: &Received) {
    assert_eq!(theirs.text(), ours.text());
    assert_eq!(
        (&theirs.method, &theirs.target),
        (&ours.method, &ours.target)
    );
    assert_eq!(headers(theirs), headers(ours));
}

/// The same message sent by both: the provider's result and request, Posthaste's request and
/// delivery.
struct Both {
    result: Value,
    theirs: Received,
    ours: Received,
    delivery: Value,
}

impl Both {
    /// `given` for the provider, its configuration without a URL; `settings` and `notification` for
    /// Posthaste.
    async fn send(scene: &Scene, given: Value, settings: Value, notification: Value) -> Self {
        let path = scene.path("provider");
        let url = scene.receiver.url(&format!("{path}?tenant=a&b=%20c"));
        let mut given = given;
        let url_setting = if given["provider"] == "sms" {
            "baseUrl"
        } else {
            "webhookUrl"
        };
        given["config"][url_setting] = json!(url);
        let said = send(given).await;
        let theirs = scene
            .receiver
            .requests(&path)
            .pop()
            .unwrap_or_else(|| panic!("no request: {said}"));
        let endpoint = scene.api.endpoint(&url, settings).await;
        let ours = scene.deliver_to(&endpoint, &path, notification).await;
        let deliveries = scene
            .api
            .all_deliveries(&format!(
                "&endpoint_id={}",
                endpoint["id"].as_str().unwrap()
            ))
            .await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        Self {
            result: said["result"].clone(),
            theirs,
            ours,
            delivery: deliveries[0].clone(),
        }
    }
}
