//! From what a client wrote to an endpoint: a new one from a draft, a changed one from a patch.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_shared::domain::endpoint::{
    Confidential, DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_MS, Endpoint, SigningSecret,
};
use posthaste_shared::domain::id::{EndpointId, TenantId};
use posthaste_shared::domain::reading::{self, Objects};
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::REDACTED;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use crate::http::endpoints::edit::{status, switch};
use crate::http::endpoints::input::DEFAULT_OVERLAP_SECONDS;
use crate::http::endpoints::input::{EndpointDraft, EndpointPatch};
use crate::http::problem::{Code, Problem};
use crate::http::state::Api;

/// The endpoint of a draft, and its signing secret if that is a new one. The URL comes in checked;
/// the other members are not checked yet.
///
/// # Errors
/// A secret of the client's own that the wire format cannot use.
pub(in crate::http) fn make(
    api: &Api,
    draft: EndpointDraft,
    tenant: TenantId,
    url: Url,
    now: Timestamp,
) -> Result<(Endpoint, Option<Secret>), Problem> {
    let settings = draft.settings.unwrap_or_default();
    let (secret, shown) = match draft.secret {
        // An empty one stands for none: a wire format that can do without does not sign then.
        Some(secret) if secret.expose().is_empty() => (None, None),
        Some(secret) => {
            let refused = |problem: String| Problem::field(Code::Invalid, "secret", problem);
            api.wire_formats
                .check_secret(draft.wire_format, &secret)
                .map_err(refused)?;
            (Some(secret), None)
        }
        None => {
            let made = api.wire_formats.new_secret(draft.wire_format, &settings);
            (made.clone(), made)
        }
    };
    let secrets = secret.map(|secret| SigningSecret {
        secret,
        created_at: now,
        retires_at: None,
    });
    let written_url = draft.url.filter(|text| text != url.as_str());
    let endpoint = Endpoint {
        id: EndpointId::generate(now),
        uid: draft.uid,
        tenant,
        url,
        wire_format: draft.wire_format,
        description: draft.description.unwrap_or_default(),
        subscription: draft.subscription.unwrap_or_default(),
        confidential: Confidential {
            secrets: secrets.into_iter().collect(),
            headers: draft.headers.unwrap_or_default().into_iter().collect(),
            settings,
            written_url,
        },
        timeout: Duration::from_millis(draft.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS)),
        retry: draft.retry.unwrap_or_default(),
        max_in_flight: draft.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
        rate_limit_per_second: draft.rate_limit_per_second,
        status: status(draft.enabled.unwrap_or(true)),
        created_at: now,
        updated_at: now,
        version: 0,
    };
    Ok((endpoint, shown))
}

/// Changes an endpoint to what the draft says. Members that the draft leaves out are reset to their
/// defaults, except `secret` and `enabled`, which stay. The URL comes in checked; the result is not
/// checked yet.
///
/// # Errors
/// Another wire format, or a secret that the wire format cannot use.
pub(in crate::http) fn replace(
    api: &Api,
    draft: &EndpointDraft,
    url: &Url,
    endpoint: &mut Endpoint,
    now: Timestamp,
) -> Result<(), Problem> {
    if draft.wire_format != endpoint.wire_format {
        let problem = format!(
            "cannot be changed: it is {}; delete the endpoint and create another",
            endpoint.wire_format
        );
        return Err(Problem::field(Code::Invalid, "wire_format", problem));
    }
    match draft.url.as_deref() {
        Some(text) => endpoint.set_url(url.clone(), text),
        None => endpoint.url = url.clone(),
    }
    endpoint.description = draft.description.clone().unwrap_or_default();
    endpoint.subscription = draft.subscription.clone().unwrap_or_default();
    endpoint.timeout = Duration::from_millis(draft.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS));
    endpoint.retry = draft.retry.clone().unwrap_or_default();
    endpoint.max_in_flight = draft.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT);
    endpoint.rate_limit_per_second = draft.rate_limit_per_second;
    if let Some(enabled) = draft.enabled {
        switch(endpoint, enabled);
    }
    let confidential = &mut endpoint.confidential;
    // What a client read as `[redacted]` it sends back so; the stored value stands for it.
    let headers = std::mem::take(&mut confidential.headers);
    confidential.headers = kept_headers(draft.headers.clone().unwrap_or_default(), &headers);
    let settings = std::mem::take(&mut confidential.settings);
    confidential.settings = kept_settings(draft.settings.clone().unwrap_or_default(), &settings);
    match &draft.secret {
        None => {}
        Some(secret) if secret.expose().is_empty() => confidential.secrets.clear(),
        // The same secret again is no rotation: repeating a PUT must change nothing.
        Some(secret)
            if confidential
                .secrets
                .first()
                .is_some_and(|newest| newest.secret == *secret) => {}
        Some(secret) => {
            let refused = |problem: String| Problem::field(Code::Invalid, "secret", problem);
            api.wire_formats
                .check_secret(draft.wire_format, secret)
                .map_err(refused)?;
            confidential.rotate(
                secret.clone(),
                now,
                now.after(Duration::from_secs(DEFAULT_OVERLAP_SECONDS)),
            );
        }
    }
    Ok(())
}

/// Applies a patch, all but its `url` and `enabled`. The result is not checked yet.
///
/// # Errors
/// A merged `retry` or `subscription` that cannot be read.
pub(in crate::http) fn apply(patch: EndpointPatch, endpoint: &mut Endpoint) -> Result<(), Problem> {
    let EndpointPatch {
        url: _,
        enabled: _,
        description,
        subscription,
        headers,
        settings,
        timeout_ms,
        retry,
        max_in_flight,
        rate_limit_per_second,
    } = patch;
    if let Some(description) = description {
        endpoint.description = description.unwrap_or_default();
    }
    if let Some(members) = subscription {
        endpoint.subscription = merged("subscription", &endpoint.subscription, members)?;
    }
    if let Some(members) = retry {
        endpoint.retry = merged::<RetryPolicy>("retry", &endpoint.retry, members)?;
    }
    if let Some(headers) = headers {
        let old = std::mem::take(&mut endpoint.confidential.headers);
        endpoint.confidential.headers = kept_headers(headers.unwrap_or_default(), &old);
    }
    if let Some(settings) = settings {
        let old = std::mem::take(&mut endpoint.confidential.settings);
        endpoint.confidential.settings = kept_settings(settings.unwrap_or_default(), &old);
    }
    if let Some(timeout_ms) = timeout_ms {
        endpoint.timeout = Duration::from_millis(timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS));
    }
    if let Some(max_in_flight) = max_in_flight {
        endpoint.max_in_flight = max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT);
    }
    if let Some(rate) = rate_limit_per_second {
        endpoint.rate_limit_per_second = rate;
    }
    Ok(())
}

/// `current` with `members` merged in (RFC 7396, one level: a null takes a member out, so that it
/// has its default again); without members: the default.
fn merged<T: Serialize + DeserializeOwned + Default>(
    field: &str,
    current: &T,
    members: Option<Map<String, Value>>,
) -> Result<T, Problem> {
    let Some(members) = members else {
        return Ok(T::default());
    };
    let mut whole = match serde_json::to_value(current) {
        Ok(Value::Object(whole)) => whole,
        _ => return Err(Problem::internal()),
    };
    for (name, value) in members {
        match value {
            Value::Null => drop(whole.remove(&name)),
            value => drop(whole.insert(name, value)),
        }
    }
    serde_path_to_error::deserialize(Objects(Value::Object(whole))).map_err(|error| {
        let message = error.inner().to_string();
        let path = match reading::member(&error.path().to_string(), &message).as_str() {
            "" => field.to_owned(),
            inner => format!("{field}.{inner}"),
        };
        Problem::field(Code::Invalid, path, reading::problem(&message))
    })
}

/// New headers, where one that was shown redacted keeps its old value.
fn kept_headers(new: BTreeMap<String, Secret>, old: &[(String, Secret)]) -> Vec<(String, Secret)> {
    let keep = |(name, value): (String, Secret)| {
        let kept = (value.expose() == REDACTED).then(|| {
            old.iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(&name))
                .map(|(_, value)| value.clone())
        });
        (name, kept.flatten().unwrap_or(value))
    };
    new.into_iter().map(keep).collect()
}

/// New settings, where one that was shown redacted keeps its old value.
fn kept_settings(new: Map<String, Value>, old: &Map<String, Value>) -> Map<String, Value> {
    let keep = |(name, value): (String, Value)| {
        let kept = match (value, old.get(&name)) {
            (Value::String(text), Some(before)) if text == REDACTED => before.clone(),
            (Value::Object(inner), Some(Value::Object(before))) => {
                kept_settings(inner, before).into()
            }
            (value, _) => value,
        };
        (name, kept)
    };
    new.into_iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_members_and_resets_those_that_are_null() {
        let current = RetryPolicy {
            max_retries: 9,
            jitter: 0.5,
            ..RetryPolicy::default()
        };
        let merge = |members: Value| merged("retry", &current, members.as_object().cloned());
        let policy = merge(json!({"max_retries": 2, "jitter": null})).unwrap();
        assert_eq!(
            policy,
            RetryPolicy {
                max_retries: 2,
                ..RetryPolicy::default()
            }
        );
        assert_eq!(
            merged("retry", &current, None).unwrap(),
            RetryPolicy::default()
        );
        assert_eq!(
            merge(json!({"retries": 2})).unwrap_err().errors[0].field,
            "retry.retries"
        );
        assert_eq!(
            merge(json!({"jitter": "much"})).unwrap_err().errors[0].field,
            "retry.jitter"
        );
    }

    #[test]
    fn what_was_shown_redacted_stays_as_it_is() {
        let old = [("Authorization".to_owned(), Secret::new("Bearer x"))];
        let new = BTreeMap::from([
            ("authorization".to_owned(), Secret::new(REDACTED)),
            ("X-Other".to_owned(), Secret::new(REDACTED)),
        ]);
        let kept = kept_headers(new, &old);
        assert!(kept.contains(&("authorization".to_owned(), Secret::new("Bearer x"))));
        assert!(kept.contains(&("X-Other".to_owned(), Secret::new(REDACTED))));
        let settings = |value: Value| value.as_object().cloned().unwrap();
        let old = settings(json!({"api_key": "k", "inner": {"token": "t", "a": 1}, "gone": true}));
        let new = settings(json!({"api_key": REDACTED, "inner": {"token": REDACTED, "a": 2}}));
        assert_eq!(
            Value::from(kept_settings(new, &old)),
            json!({"api_key": "k", "inner": {"token": "t", "a": 2}})
        );
    }
}
