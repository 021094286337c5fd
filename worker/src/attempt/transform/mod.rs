//! `settings.transform`: a script of the endpoint's owner that changes a notification before it is
//! rendered. It has no network.

mod returned;
mod untouched;

use std::borrow::Cow;
use std::fmt::Display;

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::hops::Hops;
use posthaste_shared::domain::id::{DeliveryId, EndpointId, NotificationId, TenantId};
use posthaste_shared::domain::notification::{Notification, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::round::Transformed;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::is_harmless_header;
use serde::Serialize;
use tokio::time::Instant;
use url::Url;

use crate::script::{Call, Engine, Returned, Returns, ScriptError, Uncompiled};
use crate::wire::settings;
use crate::wire::{Header, RenderError, Skip, Subject};

/// Why there is nothing to send.
#[derive(Debug)]
pub(crate) enum NotTransformed {
    /// The script wants nothing sent.
    Skip(Skip),
    /// The script could not be run now: nothing of it has run.
    Busy,
    /// The script did not return.
    Script(ScriptError),
    /// The script cannot be run, or what it returned cannot be used; in words.
    Unusable(String),
}

/// A run of a transform.
#[derive(Debug)]
pub(crate) struct Run {
    /// What it returned, or why that is nothing that can be sent.
    pub(crate) result: Result<Transformed, NotTransformed>,
    /// What the script wrote to its console.
    pub(crate) console: Option<String>,
}

/// What the script is called with.
#[derive(Serialize)]
struct Argument<'a> {
    id: &'a NotificationId,
    tenant: &'a TenantId,
    #[serde(rename = "type")]
    kind: &'a str,
    payload: &'a RawJson,
    recipient: Option<&'a RawJson>,
    overrides: Option<&'a RawJson>,
    accepted_at: Timestamp,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    priority: Priority,
    endpoint_id: &'a EndpointId,
    delivery_id: DeliveryId,
    delivery_recipient: Option<&'a str>,
}

/// Runs the endpoint's transform, whose source is given, on the subject's notification.
pub(crate) async fn run(
    scripts: &Engine,
    source: &str,
    subject: &Subject<'_>,
    deadline: Instant,
) -> Run {
    let unusable = |problem: &dyn Display| {
        let result = Err(NotTransformed::Unusable(problem.to_string()));
        Run {
            result,
            console: None,
        }
    };
    let tenant = &subject.endpoint.tenant;
    let script = match scripts.script(tenant, source, deadline).await {
        Ok(script) => script,
        Err(Uncompiled::Refused(problem)) => return unusable(&problem),
        Err(Uncompiled::Busy(_)) => {
            return Run {
                result: Err(NotTransformed::Busy),
                console: None,
            };
        }
    };
    let argument = match argument(subject) {
        Ok(argument) => argument,
        Err(error) => return unusable(&error),
    };
    let how = Call {
        deadline,
        // What it could fetch would be a second way out of here, for every payload, past the
        // endpoint's own URL.
        network: false,
        hops: Hops::default(),
        returns: Returns::Strict,
    };
    let called = scripts.call(tenant, &script, &argument, how).await;
    let result = match called.result {
        Ok(Returned::Json(handed)) => returned::transformed(&handed, &subject.notification.payload),
        // A forgotten `return` looks like this. Taken for `skip`, it would drop every notification
        // in silence.
        Ok(Returned::Nothing) => Err(NotTransformed::Unusable("it returned nothing".to_owned())),
        Err(ScriptError::Busy) => Err(NotTransformed::Busy),
        Err(error) => Err(NotTransformed::Script(error)),
    };
    Run {
        result,
        console: Some(called.console).filter(|text| !text.is_empty()),
    }
}

fn argument(subject: &Subject<'_>) -> Result<String, RenderError> {
    let notification = subject.notification;
    settings::json_text(&Argument {
        id: &notification.id,
        tenant: &notification.tenant,
        kind: notification.kind.as_str(),
        payload: &notification.payload,
        recipient: notification.recipient.as_ref(),
        overrides: notification.overrides.as_ref(),
        accepted_at: notification.accepted_at,
        deliver_at: notification.deliver_at,
        expires_at: notification.expires_at,
        priority: notification.priority,
        endpoint_id: &subject.endpoint.id,
        delivery_id: subject.delivery,
        delivery_recipient: subject.recipient,
    })
}

/// The notification with the payload that is sent.
pub(crate) fn notification<'a>(
    transformed: &Transformed,
    notification: &'a Notification,
) -> Cow<'a, Notification> {
    let Some(payload) = &transformed.payload else {
        // `keep_payload`: the bytes as they were enqueued, which parsing and writing would not
        // bring back.
        return Cow::Borrowed(notification);
    };
    Cow::Owned(Notification {
        payload: payload.clone(),
        ..notification.clone()
    })
}

/// The endpoint with the URL that is called. All that depends on a URL (a preflight's grant, an
/// audience, a token in it) reads it from here, so that nothing is left of the one that the
/// transform replaced.
///
/// # Errors
/// When the URL cannot be read.
pub(crate) fn endpoint<'a>(
    transformed: &Transformed,
    endpoint: &'a Endpoint,
) -> Result<Cow<'a, Endpoint>, RenderError> {
    let Some(text) = &transformed.url else {
        return Ok(Cow::Borrowed(endpoint));
    };
    let url = Url::parse(text)
        .map_err(|error| refused(&format!("the url that it returned cannot be read: {error}")))?;
    let mut endpoint = endpoint.clone();
    endpoint.set_url(url, text);
    Ok(Cow::Owned(endpoint))
}

/// The headers that are added to the request.
pub(crate) fn headers(transformed: &Transformed) -> Vec<Header> {
    let header = |(name, value): &(String, Secret)| Header {
        name: name.clone(),
        value: value.clone(),
        sensitive: !is_harmless_header(name),
    };
    transformed.headers.iter().map(header).collect()
}

/// What an author reads of a transform that cannot be used.
pub(crate) fn refused(why: &dyn Display) -> RenderError {
    RenderError::new("settings.transform", format!("failed: {why}"))
}

#[cfg(test)]
mod tests;
