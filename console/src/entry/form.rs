//! A form that somebody sent. It needs the session's cookie, to come from a page of the console,
//! and that page's token: each of the three alone is not enough.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::response::Response;

use crate::entry::origin;
use crate::entry::visitor::Visitor;
use crate::parts::layout;
use crate::parts::query::Query;
use crate::state::Console;

/// The longest form. The longest field is a script of 100 KiB, each byte of which may be three
/// here.
const MAX_BYTES: usize = 512 * 1024;
/// The field that carries the session's token.
pub(crate) const TOKEN: &str = crate::parts::frame::TOKEN;

/// The field with the form's own id.
pub(crate) const ONCE: &str = crate::parts::frame::ONCE;

/// A form of somebody who is signed in, from one of our pages.
#[derive(Clone)]
pub(crate) struct Form {
    /// Who sent it.
    pub(crate) visitor: Visitor,
    /// What stands in it.
    pub(crate) fields: Query,
}

impl FromRequest<Arc<Console>> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        // Read already, by what does each form once.
        if let Some(form) = parts.extensions.remove::<Self>() {
            return Ok(form);
        }
        let visitor = Visitor::from_request_parts(&mut parts, console).await?;
        let refused = |why: &str| layout::refused(&visitor.frame, why);
        if !origin::is_own(console, &parts.uri, &parts.headers) {
            return Err(refused("It was sent by a page of another site."));
        }
        let fields = fields(Request::from_parts(parts, body)).await;
        let made_here = |fields: &Query| fields.get(TOKEN).is_some_and(|it| visitor.made(it));
        match fields.filter(made_here) {
            Some(fields) => Ok(Self { visitor, fields }),
            None => Err(refused(
                "It is from before you signed in: reload the page and send it again.",
            )),
        }
    }
}

/// The fields of a form; `None` when it is too long or cannot be read.
pub(crate) async fn fields(request: Request) -> Option<Query> {
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BYTES)
        .await
        .ok()?;
    Some(Query::parse(std::str::from_utf8(&bytes).ok()?))
}
