//! How a request names an endpoint: by its id or by its owner's uid, and in which state it must be.

use std::sync::Arc;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::id::{EndpointId, EndpointUid, TenantId};
use posthaste_shared::store::several::Several;
use serde::{Deserialize, Serialize};

use crate::http::callers::Caller;
use crate::http::problem::{Code, Problem};
use crate::http::request::extract::{Id, Params};
use crate::http::state::Api;

/// What ids begin with that Posthaste makes, and uids must not.
const OWN_PREFIX: &str = "ep_";

/// An endpoint's id or uid, as it stands in a path.
#[derive(Debug, Clone)]
pub(in crate::http) struct EndpointName {
    /// The id or the uid.
    text: EndpointId,
    /// Where the uid is looked for. Default: the key's tenant, else `default`.
    pub(in crate::http) tenant: Option<TenantId>,
    /// In which state the endpoint must be.
    pub(in crate::http) precondition: Precondition,
}

/// In which state an endpoint must be for a request to be done (RFC 9110, section 13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Precondition {
    /// No condition: in any state, or not there.
    Any,
    /// The endpoint must exist.
    Exists,
    /// The endpoint must have one of these tags.
    Matches(Vec<String>),
    /// The endpoint must not exist.
    Absent,
}

/// Query and headers of the requests that name an endpoint.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EndpointTenant {
    /// The tenant that the uid belongs to. Default: the key's tenant, else `default`.
    tenant: Option<TenantId>,
}

/// The header that guards against changing what somebody else has changed.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "for the specification; `Precondition::of` reads the header"
)]
pub(in crate::http) struct IfMatch {
    /// The `ETag` that the endpoint must have; otherwise the answer is 412.
    #[param(rename = "If-Match", required = false)]
    if_match: String,
}

impl FromRequestParts<Arc<Api>> for EndpointName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Id(text) = Id::<EndpointId>::from_request_parts(parts, api).await?;
        let Params(EndpointTenant { tenant }) = Params::from_request_parts(parts, api).await?;
        Ok(Self {
            text,
            tenant,
            precondition: Precondition::of(&parts.headers)?,
        })
    }
}

impl EndpointName {
    /// The endpoint with this id or uid, in any state.
    pub(in crate::http) const fn of(text: EndpointId) -> Self {
        Self {
            text,
            tenant: None,
            precondition: Precondition::Any,
        }
    }

    /// The uid; an error when it is an id that Posthaste made.
    pub(in crate::http) fn uid(&self) -> Result<EndpointUid, Problem> {
        if self.text.as_str().starts_with(OWN_PREFIX) {
            return Err(Problem::not_found("endpoint"));
        }
        EndpointUid::parse(self.text.as_str()).map_err(|_| Problem::not_found("endpoint"))
    }

    /// The endpoint, if there is one that this caller may see.
    pub(in crate::http) async fn look_up(
        &self,
        api: &Api,
        caller: &Caller,
    ) -> Result<Option<Endpoint>, Problem> {
        let found = if self.text.as_str().starts_with(OWN_PREFIX) {
            let tenant = caller.tenant(self.tenant.as_ref())?;
            let found = api.store.endpoint(&self.text).await?;
            found.filter(|endpoint| tenant.is_none_or(|tenant| tenant == endpoint.tenant))
        } else {
            let tenant = caller.tenant_or_default(self.tenant.as_ref())?;
            api.store.endpoint_by_uid(&tenant, &self.uid()?).await?
        };
        // Filtered to nothing and not refused: another tenant's endpoint must look like none at
        // all.
        Ok(found.filter(|endpoint| caller.sees(&endpoint.tenant)))
    }
}

/// The ids of endpoints that a filter names by id or uid.
///
/// # Errors
/// A name that can be no uid; the store failed.
pub(in crate::http) async fn ids(
    api: &Api,
    caller: &Caller,
    tenant: Option<&TenantId>,
    named: Several<EndpointId>,
) -> Result<Several<EndpointId>, Problem> {
    let mut ids = Vec::new();
    for text in named.values() {
        // Of deleted endpoints, too: their deliveries are still there.
        if text.as_str().starts_with(OWN_PREFIX) {
            ids.push(text.clone());
            continue;
        }
        let name = EndpointName {
            tenant: tenant.cloned(),
            ..EndpointName::of(text.clone())
        };
        let found = name.look_up(api, caller).await?;
        // Of one that is not there, there is nothing, as with every other filter.
        ids.push(found.map_or_else(|| text.clone(), |endpoint| endpoint.id));
    }
    Ok(ids.into())
}

impl Precondition {
    /// What `If-Match` and `If-None-Match` ask for.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(value) = headers.get(header::IF_NONE_MATCH) {
            let wrong = "can only be *, to create what is not there";
            return match value.to_str() {
                Ok("*") => Ok(Self::Absent),
                _ => Err(Problem::field(Code::InvalidHeader, "If-None-Match", wrong)),
            };
        }
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            tags.extend(
                value
                    .to_str()
                    .unwrap_or("?")
                    .split(',')
                    .map(|tag| tag.trim().to_owned()),
            );
        }
        Ok(match tags.as_slice() {
            [] => Self::Any,
            [any] if any == "*" => Self::Exists,
            _ => Self::Matches(tags),
        })
    }

    /// Whether the endpoint is in that state.
    ///
    /// # Errors
    /// `precondition_failed`.
    pub(in crate::http) fn check(&self, endpoint: Option<&Endpoint>) -> Result<(), Problem> {
        let holds = match (self, endpoint) {
            (Self::Any, _) | (Self::Absent, None) | (Self::Exists, Some(_)) => true,
            (Self::Matches(tags), Some(endpoint)) => tags.contains(&tag(endpoint)),
            (Self::Absent, Some(_)) | (Self::Exists | Self::Matches(_), None) => false,
        };
        if holds {
            return Ok(());
        }
        let detail = match self {
            Self::Absent => "the endpoint already exists",
            _ => "the endpoint does not match If-Match: somebody changed it, or it does not exist",
        };
        Err(Problem::new(Code::PreconditionFailed, detail))
    }
}

/// The endpoint's `ETag`: another one after each change.
pub(in crate::http) fn tag(endpoint: &Endpoint) -> String {
    format!("\"{}\"", endpoint.version)
}

/// An answer that shows an endpoint, with its `ETag`.
pub(in crate::http) fn shown<T: Serialize>(
    status: StatusCode,
    endpoint: &Endpoint,
    view: T,
) -> Response {
    (status, [(header::ETAG, tag(endpoint))], Json(view)).into_response()
}
