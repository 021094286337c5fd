//! Pages of lists.

use posthaste_shared::store::StoreError;
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

/// Answers with the page that a query asks for: `read` gets it from the store, `show` makes of each
/// item what is shown.
///
/// # Errors
/// `invalid_query` for a limit out of bounds or a cursor that is none; those of the store.
pub(in crate::http) async fn list<S, T, F>(
    limit: Option<u32>,
    cursor: Option<&str>,
    read: impl FnOnce(PageRequest) -> F,
    show: impl FnMut(S) -> T,
) -> Result<PageView<T>, Problem>
where
    F: Future<Output = Result<Page<S>, StoreError>>,
{
    let found = read(page_request(limit, cursor)?).await?;
    Ok(PageView {
        items: found.items.into_iter().map(show).collect(),
        next_cursor: found.next_cursor.map(|cursor| cursor.encode()),
    })
}

fn page_request(limit: Option<u32>, cursor: Option<&str>) -> Result<PageRequest, Problem> {
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
