//! Endpoints as clients write them: whole ([`EndpointDraft`]) and as changes ([`EndpointPatch`]).

use std::collections::BTreeMap;

use posthaste_shared::domain::id::{EndpointUid, TenantId};
use posthaste_shared::domain::retry::RetryPolicy;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::subscription::Subscription;
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::EndpointView;
use posthaste_shared::domain::whole;
use posthaste_shared::domain::wire_format::WireFormat;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::http::problem::{FieldProblem, Problem};
use crate::http::request::json::parse;

/// How long an old secret signs on when the client does not say: a day.
pub(in crate::http) const DEFAULT_OVERLAP_SECONDS: u64 = 24 * 3600;

/// An endpoint to create. Only `url` is required, and not even that with `authgear-script`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointDraft {
    /// An id of your choice, unique in the tenant, by which requests can name the endpoint. It must
    /// not begin with `ep_` and cannot be changed later. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<EndpointUid>,
    /// The tenant that owns the endpoint. Default: the key's tenant, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The URL that requests go to: `https://…`, without user and password. Optional with
    /// `authgear-script` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://.")]
    pub url: Option<String>,
    /// The wire format: how a notification becomes a request. It cannot be changed later. Default
    /// `standard`.
    #[serde(default)]
    pub wire_format: WireFormat,
    /// What the endpoint is for, in up to 1,000 characters. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1_000)]
    pub description: Option<String>,
    /// Which notifications the endpoint receives. Default: all of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// The signing secret, write-only. Default: generated if the wire format signs, and shown once.
    /// An empty text means no secret, where the wire format allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Headers that every request carries, up to 50. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub headers: Option<BTreeMap<String, Secret>>,
    /// Settings of the wire format, described by `GET /v1/wire-formats`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Map<String, Value>>,
    /// How long one attempt may take as a whole, in milliseconds, 1,000 to 60,000. Default 5,000.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::option"
    )]
    #[schema(minimum = 1_000, maximum = 60_000)]
    pub timeout_ms: Option<u64>,
    /// When failures are retried. Default: 4 retries after 1, 2, 4 and 8 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The most requests in flight at once, over all workers, 1 to 10,000. Default 32.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::option"
    )]
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_in_flight: Option<u32>,
    /// The most requests a second, over all workers, more than 0 and at most 1,000,000. Default: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1_000_000)]
    pub rate_limit_per_second: Option<f64>,
    /// Whether the endpoint is called. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Changes to an endpoint: a JSON Merge Patch (RFC 7396). What is left out stays; null sets the
/// default again. `headers` and `settings` are replaced as a whole, where a value that was shown as
/// `[redacted]` may be sent back and stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointPatch {
    /// The URL that requests go to: `https://…`, without user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://.")]
    pub url: Option<String>,
    /// What the endpoint is for, in up to 1,000 characters.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<String>, max_length = 1_000)]
    pub description: Option<Option<String>>,
    /// Which notifications the endpoint receives; its members are merged.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<Subscription>)]
    pub subscription: Option<Option<Map<String, Value>>>,
    /// Headers that every request carries, up to 50, replaced as a whole.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub headers: Option<Option<BTreeMap<String, Secret>>>,
    /// Settings of the wire format, replaced as a whole.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Option<Map<String, Value>>>,
    /// How long one attempt may take as a whole, in milliseconds, 1,000 to 60,000.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::patch"
    )]
    #[schema(value_type = Option<u64>, minimum = 1_000, maximum = 60_000)]
    pub timeout_ms: Option<Option<u64>>,
    /// When failures are retried; its members are merged.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<RetryPolicy>)]
    pub retry: Option<Option<Map<String, Value>>>,
    /// The most requests in flight at once, over all workers, 1 to 10,000.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::patch"
    )]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    pub max_in_flight: Option<Option<u32>>,
    /// The most requests a second, over all workers, up to 1,000,000; null for no limit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    #[schema(value_type = Option<f64>, exclusive_minimum = 0, maximum = 1_000_000)]
    pub rate_limit_per_second: Option<Option<f64>>,
    /// Whether the endpoint is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Members of an endpoint that no patch changes, and what to do.
const FIXED: &[(&str, &str)] = &[
    ("id", "the server chose it"),
    ("tenant", "create an endpoint for the other tenant"),
    ("uid", "create an endpoint with the other uid"),
    ("wire_format", "create an endpoint of the other format"),
    (
        "secret",
        "rotate it with POST /v1/endpoints/{id}/rotate-secret",
    ),
];

/// Reads changes to an endpoint.
///
/// # Errors
/// As [`parse`]; of a member that endpoints have and that cannot be changed it says so.
pub(super) fn patch(bytes: &[u8]) -> Result<EndpointPatch, Problem> {
    parse(bytes).map_err(|problem: Problem| {
        let fixed = |error: &FieldProblem| {
            let (_, instead) = FIXED.iter().find(|(name, _)| *name == error.field)?;
            let said = format!("cannot be changed: {instead}");
            Some(FieldProblem::new(error.field.clone(), said))
        };
        match problem.errors.first().and_then(fixed) {
            Some(error) => Problem::fields(problem.code, vec![error]),
            None => problem,
        }
    })
}

/// Tells a null (`Some(None)`) from a member that was left out (`None`).
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// An endpoint that was created or updated.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedEndpoint {
    /// The endpoint as it is now.
    #[serde(flatten)]
    pub endpoint: EndpointView,
    /// The signing secret, shown only this once, and only if Posthaste generated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// How to rotate the signing secret of an endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateRequest {
    /// How long the old secret keeps signing beside the new one, in seconds, 0 to 2,592,000 (30
    /// days). Default 86,400 (a day).
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::option"
    )]
    #[schema(maximum = 2_592_000)]
    pub overlap_seconds: Option<u64>,
    /// The new secret. Default: one that is generated, and shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// The result of rotating the signing secret of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RotatedSecret {
    /// The new secret, shown only this once, and only if Posthaste generated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// When the old secret stops signing.
    pub old_secret_retires_at: Timestamp,
    /// The endpoint as it is now.
    pub endpoint: EndpointView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_cannot_be_changed() {
        for (member, _) in FIXED {
            let body = format!(r#"{{"timeout_ms": 2000, "{member}": "x"}}"#);
            let problem = patch(body.as_bytes()).unwrap_err();
            assert_eq!(problem.errors[0].field, *member);
            assert!(
                problem.detail.contains(" cannot be changed: "),
                "{problem:?}"
            );
        }
        let unknown = patch(br#"{"timeout": 2000}"#).unwrap_err();
        assert!(
            unknown.detail.starts_with("timeout is not known: "),
            "{unknown:?}"
        );
        let twice = patch(br#"{"headers": {"x-a": "1", "x-a": "2"}}"#).unwrap_err();
        assert_eq!(twice.detail, "headers.x-a is there twice");
    }
}
