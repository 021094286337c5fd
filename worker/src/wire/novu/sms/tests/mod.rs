//! The wire format of Novu's generic SMS provider, against its documentation and its own code.

mod answer;
mod request;
mod settings;
mod token;

use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::wire_format::WireFormat;

use super::*;
use crate::wire::novu::fixture::{self, body, header, now, reply, signed};

const BODY: &str =
    r#"{"to":"+1234567890","content":"Your verification code is 123456","sender":"MyApp"}"#;

fn endpoint(more: Value) -> Endpoint {
    let mut settings = NovuSms.sample().settings;
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap());
    fixture::endpoint(WireFormat::NovuSms, settings)
}

fn with_token(more: Value) -> Endpoint {
    let mut endpoint = endpoint(
        json!({"authenticateByToken": true, "domain": "https://gw.example.com/auth",
            "authenticationTokenKey": "X-Auth-Token"}),
    );
    endpoint
        .confidential
        .settings
        .extend(more.as_object().cloned().unwrap());
    endpoint
}

fn otp(overrides: Value) -> Notification {
    let payload = json!({"content": "Your verification code is 123456"});
    fixture::notification(
        &payload,
        &json!({"phone": "+1234567890", "step_id": "first"}),
        &overrides,
    )
}

fn problems(endpoint: &Endpoint) -> Vec<String> {
    NovuSms
        .check(endpoint)
        .into_iter()
        .map(|problem| format!("{} {}", problem.field, problem.problem))
        .collect()
}

fn accepted(endpoint: &Endpoint, body: &str) -> (Option<String>, Option<String>) {
    match NovuSms.classify(endpoint, &reply(200, body), now()) {
        Outcome::Accepted {
            provider_message_id,
            provider_message_date,
        } => (provider_message_id, provider_message_date),
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Refused {
            reason: FailureReason::ProviderRejected,
            error,
            ..
        } => (error.code, error.text),
        other => panic!("{other:?}"),
    }
}

fn preflight(endpoint: &Endpoint) -> Option<Preflight> {
    let notification = otp(json!({}));
    let delivery =
        posthaste_shared::domain::id::DeliveryId::of(&notification.id, &endpoint.id, None);
    NovuSms
        .preflight(&Subject {
            delivery,
            recipient: None,
            notification: &notification,
            endpoint,
            trace: None,
        })
        .unwrap()
}
