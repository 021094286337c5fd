//! Pages of lists.

use posthaste_shared::store::page::{Cursor, DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest};
use serde::{Deserialize, Serialize};

use crate::http::problem::{Code, Problem};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PageView<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

impl<T> PageView<T> {
    /// The page with each item as it is shown.
    pub(in crate::http) fn of<S>(page: Page<S>, show: impl FnMut(S) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(show).collect(),
            next_cursor: page.next_cursor.map(|cursor| cursor.encode()),
        }
    }
}

/// The page that a query asks for.
///
/// # Errors
/// `invalid_query` for a limit out of bounds or a cursor that is none.
pub(in crate::http) fn page_request(
    limit: Option<u32>,
    cursor: Option<&str>,
) -> Result<PageRequest, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    // Refused and not cut: a client that asked for more would take a full page for the last one.
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::field(
            Code::InvalidQuery,
            "limit",
            format!("must be 1 to {MAX_LIMIT}"),
        ));
    }
    let wrong = |_| {
        Problem::field(
            Code::InvalidQuery,
            "cursor",
            "must be the next_cursor of an earlier page",
        )
    };
    let cursor = cursor.map(Cursor::parse).transpose().map_err(wrong)?;
    Ok(PageRequest { limit, cursor })
}
