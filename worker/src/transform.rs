//! `settings.transform`: a script of the endpoint's owner that changes a notification before it is
//! rendered. It has no network.

use std::borrow::Cow;
use std::collections::BTreeMap;

use posthaste_shared::domain::header;
use posthaste_shared::domain::id::{DeliveryId, EndpointId, NotificationId, TenantId};
use posthaste_shared::domain::notification::{Notification, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::looks_secret;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use crate::script::{Call, Engine, Returned, ScriptError, Uncompiled};
use crate::wire::settings::{self, read};
use crate::wire::{Header, RenderError, Skip, Subject, Unwritten};

/// What is sent of a notification.
#[derive(Debug)]
pub(crate) struct Transformed<'a> {
    /// With the payload that is sent.
    pub(crate) notification: Cow<'a, Notification>,
    /// Headers that are added.
    pub(crate) headers: Vec<Header>,
    /// Where to, if not where the endpoint says.
    pub(crate) url: Option<Url>,
    /// What the script wrote to its console.
    pub(crate) console: Option<String>,
}

impl<'a> Transformed<'a> {
    /// The notification as it is.
    pub(crate) const fn unchanged(subject: &Subject<'a>) -> Self {
        Self { notification: Cow::Borrowed(subject.notification), headers: Vec::new(), url: None, console: None }
    }
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

/// What it may return.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    payload: Option<RawJson>,
    headers: Option<BTreeMap<String, String>>,
    url: Option<String>,
    skip: Option<bool>,
}

/// Why there is nothing to send.
#[derive(Debug)]
pub(crate) enum Untransformed {
    /// The script failed, returned something else, or wants nothing sent.
    Unwritten(Unwritten),
    /// The script could not be run now: nothing of it has run.
    Busy,
    /// The attempt's time was over before the script was.
    TimedOut {
        /// What it wrote to its console.
        console: String,
    },
}

impl<T: Into<Unwritten>> From<T> for Untransformed {
    fn from(why: T) -> Self {
        Self::Unwritten(why.into())
    }
}

/// What the endpoint's transform makes of the notification; itself where the endpoint has none.
///
/// # Errors
/// A script that fails or returns something else, by name; or a skip that it asked for.
pub(crate) async fn transform<'a>(
    scripts: &Engine,
    subject: &Subject<'a>,
    deadline: Instant,
) -> Result<Transformed<'a>, Untransformed> {
    let mut transformed = Transformed::unchanged(subject);
    let Some(source) = settings::transform(subject.endpoint) else { return Ok(transformed) };
    let script = match scripts.script(&subject.endpoint.tenant, source, deadline).await {
        Ok(script) => script,
        Err(Uncompiled::Refused(problem)) => return Err(failed(&problem).into()),
        Err(Uncompiled::Busy(_)) => return Err(Untransformed::Busy),
    };
    let call = Call { deadline, network: false };
    let called = scripts.call(&subject.endpoint.tenant, &script, &argument(subject)?, call).await;
    let returned = match called.result {
        Ok(returned) => returned,
        Err(ScriptError::Busy) => return Err(Untransformed::Busy),
        Err(ScriptError::TimedOut) => return Err(Untransformed::TimedOut { console: called.console }),
        Err(error) => return Err(failed(&error).into()),
    };
    let change = match returned {
        Returned::Json(json) => change(json)?,
        Returned::Nothing => {
            return Err(failed(&"it returned nothing; it must return { payload } or { skip: true }").into());
        }
    };
    if change.skip == Some(true) {
        let text = "the endpoint's transform wants nothing sent of it".to_owned();
        return Err(Unwritten::Skip(Skip { code: "transform", text }).into());
    }
    if let Some(payload) = change.payload {
        transformed.notification.to_mut().payload = payload;
    }
    for (name, value) in change.headers.unwrap_or_default() {
        if let Some(problem) = header::problem(&name, &value) {
            return Err(failed(&format!("the header {name:?} that it returned {problem}")).into());
        }
        let sensitive = looks_secret(&name);
        transformed.headers.push(Header { sensitive, ..Header::open(&name, value) });
    }
    if let Some(text) = change.url {
        // Whether it may be called is asked when it is.
        let url = Url::parse(&text).map_err(|error| failed(&format!("the url that it returned is none: {error}")))?;
        transformed.url = Some(url);
    }
    transformed.console = Some(called.console).filter(|text| !text.is_empty());
    Ok(transformed)
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

fn change(json: String) -> Result<Change, RenderError> {
    let json = RawJson::parse(json).map_err(|error| failed(&error))?;
    read("the object that it returned", &json)
        .map_err(|error: RenderError| failed(&format!("{error}; it must be {{ payload?, headers?, url?, skip? }}")))
}

fn failed(why: &dyn std::fmt::Display) -> RenderError {
    RenderError::new("settings.transform", format!("failed: {why}"))
}
