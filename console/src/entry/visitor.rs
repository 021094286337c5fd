//! Who looks at a page: the session that the cookie names.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use posthaste_producer::http::Caller;
use posthaste_producer::http::sign_in::{self, SignedIn, Use};
use posthaste_shared::domain::key::Scope;

use crate::entry::{cookie, origin};
use crate::parts::frame::{Frame, PART, Section};
use crate::parts::query::Query;
use crate::parts::{layout, notice};
use crate::state::Console;

/// Somebody who is signed in, and what they asked for.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// Who calls the operations.
    pub(crate) caller: Caller,
    /// Where they are and what they may do, for the frame around the page.
    pub(crate) frame: Frame,
    /// The query string of the page.
    pub(crate) query: Query,
    signed_in: SignedIn,
}

impl Visitor {
    /// The frame around a page of this part of the console.
    pub(crate) fn at(&self, section: Section) -> Frame {
        Frame {
            section,
            ..self.frame.clone()
        }
    }

    /// Whether a form with this token comes from a page of this session.
    pub(crate) fn made(&self, form_token: &str) -> bool {
        self.signed_in.made(form_token)
    }
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        let is_part = parts.headers.contains_key(PART);
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let scheme = origin::scheme(console, &parts.uri, &parts.headers);
        let id = scheme.and_then(|scheme| cookie::read(&parts.headers, scheme));
        let use_ = if is_part { Use::Refresh } else { Use::Person };
        let found = match id {
            None => None,
            Some(id) => sign_in::session(&console.api, id, use_)
                .await
                .map_err(|problem| layout::failed(None, &problem))?,
        };
        let Some(mut signed_in) = found else {
            return Err(nobody(parts, is_part));
        };
        if console.is_read_only() {
            signed_in.caller = signed_in.caller.looking_only();
        }
        let key = signed_in.caller.key();
        let frame = Frame {
            section: Section::None,
            tenant: match &key.tenant {
                Some(own) => Some(own.as_str().to_owned()),
                None => query.get("tenant").map(str::to_owned),
            },
            is_bound: key.tenant.is_some(),
            may_manage: signed_in.caller.may(Scope::Admin),
            who: key.name.clone(),
            rights: if console.is_read_only() {
                "read-only"
            } else if signed_in.look_only {
                "look only"
            } else if signed_in.caller.may(Scope::Admin) {
                "admin"
            } else {
                "read"
            },
            may_enqueue: signed_in.caller.may(Scope::Enqueue),
            form_token: signed_in.form_token.clone(),
            form_id: sign_in::new_form_id(),
            notice: query.get("notice").and_then(notice::sentence),
            ends_at: Some(signed_in.ends_at),
            is_part,
            seen: parts
                .headers
                .get(http::header::IF_NONE_MATCH)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
        };
        Ok(Self {
            caller: signed_in.caller.clone(),
            frame,
            query,
            signed_in,
        })
    }
}

/// What somebody gets who is not signed in.
fn nobody(parts: &Parts, is_part: bool) -> Response {
    if is_part {
        return (StatusCode::UNAUTHORIZED, "signed out\n").into_response();
    }
    if parts.method != Method::GET {
        return layout::signed_out();
    }
    let here = parts
        .uri
        .path_and_query()
        .map_or("/console", |path| path.as_str());
    // A strict cookie does not come with a link from another site, such as a chat. The page asks
    // for itself once more, and that request comes from here.
    if origin::is_from_elsewhere(&parts.headers) {
        return layout::once_more(here);
    }
    let query = Query::default().with("next", here);
    Redirect::to(&format!("/console/login{query}")).into_response()
}
