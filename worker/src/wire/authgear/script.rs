//! `authgear-script`: the custom script of Authgear's custom SMS gateway. Its default export is
//! called with what the webhook would get, and what it returns decides.

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::wire::outcome::Outcome;
use crate::wire::{
    FieldProblem, Header, RenderError, Rendered, Reply, Sample, Subject, Unwritten, Wire, WireInfo,
    authgear, settings,
};

/// A script that hands the message to a gateway, after the example of Authgear's documentation.
const SAMPLE_SCRIPT: &str = concat!(
    r#"import { CustomSMSGatewayPayload, CustomSMSGatewayResponse } from "#,
    r#""https://deno.land/x/authgear_deno_hook@v1.5.0/mod.ts";

export default async function (e: CustomSMSGatewayPayload): Promise<CustomSMSGatewayResponse> {
  const response = await fetch("https://example.com", {
    method: "POST",
    body: JSON.stringify(e),
  });

  if (!response.ok) {
    return {
      code: "delivery_rejected",
    };
  }

  return {
    code: "ok",
  };
}
"#,
);

#[derive(Debug)]
pub(in crate::wire) struct AuthgearScript;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The script, JavaScript or TypeScript, up to 100 KiB: a module whose default export is a
    /// function of the payload. Needed.
    script: Option<String>,
    /// The project's id, for notifications whose payload has no `app_id`.
    app_id: Option<String>,
}

impl Wire for AuthgearScript {
    fn info(&self) -> WireInfo {
        WireInfo {
            description: "The custom script of Authgear's custom SMS gateway: JavaScript or \
                          TypeScript that is called \
                with the message and returns a `code` that decides.",
            signs: false,
            settings: settings::schema::<Settings>(),
            payload: settings::schema::<authgear::Payload>(),
            recipient: settings::schema::<authgear::Recipient>(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<FieldProblem> {
        let problem = |text: &str| {
            vec![FieldProblem {
                field: "settings.script".into(),
                problem: text.into(),
            }]
        };
        let settings = match settings::settings::<Settings>(endpoint) {
            Ok(settings) => settings,
            Err(error) => return vec![error.into()],
        };
        match settings.script {
            None => problem(
                "is missing: the text of a JavaScript or TypeScript module with a default export",
            ),
            Some(script) if script.trim().is_empty() => {
                problem("is empty: it must be a module with a default export")
            }
            Some(_) => Vec::new(),
        }
    }

    fn check_notification(
        &self,
        _endpoint: &Endpoint,
        notification: &Notification,
    ) -> Vec<FieldProblem> {
        authgear::check_notification(notification)
    }

    /// The script's argument. Escaping would make no difference: the script gets it parsed.
    fn render(&self, subject: &Subject<'_>) -> Result<Rendered, Unwritten> {
        let settings: Settings = settings::settings(subject.endpoint)?;
        Ok(Rendered::json(authgear::write(
            subject.notification,
            settings.app_id.as_deref(),
        )?))
    }

    fn sign(
        &self,
        _subject: &Subject<'_>,
        _rendered: &Rendered,
        _now: Timestamp,
    ) -> Result<Vec<Header>, RenderError> {
        Ok(Vec::new())
    }

    fn script<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a str> {
        endpoint.confidential.settings.get("script")?.as_str()
    }

    fn classify(&self, _endpoint: &Endpoint, reply: &Reply, now: Timestamp) -> Outcome {
        authgear::classify_returned(reply, now)
    }

    fn new_secret(&self, _settings: &Map<String, Value>) -> Option<Secret> {
        None
    }

    fn check_secret(&self, _secret: &Secret) -> Result<(), String> {
        Err("has no use: the wire format authgear-script does not sign".to_owned())
    }

    fn sample(&self) -> Sample {
        authgear::sample(json!({ "script": SAMPLE_SCRIPT }))
    }
}

#[cfg(test)]
mod tests {
    use posthaste_shared::domain::wire_format::WireFormat;

    use super::*;
    use crate::wire::sms_fixture::{endpoint, notification, subject, vectors};

    fn problems(settings: &Value) -> Vec<String> {
        let found = AuthgearScript.check(&endpoint(WireFormat::AuthgearScript, settings, None));
        found.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn the_argument_is_what_a_webhook_would_get() {
        let body = vectors()["authgear"][1]["body"]
            .as_str()
            .unwrap()
            .to_owned();
        let endpoint = endpoint(
            WireFormat::AuthgearScript,
            &AuthgearScript.sample().settings,
            None,
        );
        let payload: Value = serde_json::from_str(&body).unwrap();
        let notification = notification("sms", &json!({ "payload": payload }));
        let subject = subject(&endpoint, &notification, None);
        assert_eq!(
            AuthgearScript.render(&subject).unwrap().body,
            body.as_bytes()
        );
        assert_eq!(AuthgearScript.script(&endpoint), Some(SAMPLE_SCRIPT));
    }

    #[test]
    fn the_script_is_needed() {
        assert_eq!(problems(&json!({})), ["settings.script"]);
        assert_eq!(problems(&json!({ "script": " \n" })), ["settings.script"]);
        assert_eq!(problems(&json!({ "script": 1 })), ["settings.script"]);
        assert_eq!(
            problems(&json!({ "script": "x", "go_escape": true })),
            ["settings.go_escape"]
        );
    }

    #[test]
    fn the_sample_passes() {
        let sample = AuthgearScript.sample();
        assert_eq!(problems(&sample.settings), Vec::<String>::new());
        let endpoint = endpoint(WireFormat::AuthgearScript, &sample.settings, None);
        let notification = notification(sample.kind, &json!({ "payload": sample.payload }));
        assert!(
            AuthgearScript
                .check_notification(&endpoint, &notification)
                .is_empty()
        );
        assert!(AuthgearScript.new_secret(&Map::new()).is_none());
    }
}
