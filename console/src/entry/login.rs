//! Signing in with an API key or a link that works once, and signing out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_producer::http::sign_in;
use posthaste_shared::domain::secret::Secret;

use crate::entry::form::{self, Form};
use crate::entry::{cookie, origin};
use crate::parts::layout;
use crate::parts::query::Query;
use crate::parts::sign_in::{LoginPage, link_page, login_page};
use crate::state::Console;

/// Where somebody goes who did not say where.
const HOME: &str = "/console/overview";

/// Asks for a key.
pub(crate) async fn ask(State(console): State<Arc<Console>>, request: Request) -> Response {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let page = page(&console, &request, &query);
    login_page(StatusCode::OK, &page)
}

/// Signs in with the key.
pub(crate) async fn sign_in(State(console): State<Arc<Console>>, request: Request) -> Response {
    enter(&console, request, async |console, fields, look_only| {
        let key = Secret::new(fields.get("key").unwrap_or_default());
        sign_in::with_key(&console.api, &key, look_only).await
    })
    .await
}

/// Shows a button for a link: a preview of the link, which only asks for it, does not use it up.
pub(crate) async fn ask_link(State(console): State<Arc<Console>>, request: Request) -> Response {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if origin::scheme(&console, request.uri(), request.headers()).is_none() {
        return login_page(StatusCode::OK, &page(&console, &request, &query));
    }
    link_page(
        query.get("token").unwrap_or_default(),
        console.is_read_only(),
    )
}

/// Signs in with the link, and uses it up.
pub(crate) async fn use_link(State(console): State<Arc<Console>>, request: Request) -> Response {
    enter(&console, request, async |console, fields, look_only| {
        let token = Secret::new(fields.get("token").unwrap_or_default());
        sign_in::with_link(&console.api, &token, look_only).await
    })
    .await
}

/// Signs out: the session ends in the store, and the cookie in the browser.
pub(crate) async fn sign_out(State(console): State<Arc<Console>>, request: Request) -> Response {
    let scheme = origin::scheme(&console, request.uri(), request.headers());
    let id = scheme
        .and_then(|scheme| cookie::read(request.headers(), scheme))
        .map(str::to_owned);
    let form = <Form as axum::extract::FromRequest<_>>::from_request(request, &console).await;
    let visitor = match form {
        Ok(form) => form.visitor,
        Err(refused) => return refused,
    };
    if let Err(problem) = sign_in::out(&console.api, id.as_deref().unwrap_or_default()).await {
        return layout::failed(Some(&visitor.frame), &problem);
    }
    let mut response = Redirect::to("/console/login").into_response();
    if let Some(cleared) = scheme.and_then(cookie::clear) {
        response.headers_mut().insert(header::SET_COOKIE, cleared);
    }
    response
}

async fn enter(
    console: &Console,
    request: Request,
    sign_in: impl AsyncFnOnce(&Console, &Query, bool) -> Result<Secret, Problem>,
) -> Response {
    let address = client(&request);
    let scheme = origin::scheme(console, request.uri(), request.headers());
    let mut page = page(console, &request, &Query::default());
    let Some(scheme) = scheme else {
        return login_page(StatusCode::FORBIDDEN, &page);
    };
    // There is no session yet whose token a form could carry: another site must not sign somebody
    // in as somebody else, so the page that sent it is what counts.
    if !origin::is_own(console, request.uri(), request.headers()) {
        let why = "This form was not sent by a page at the console's own address. Behind a proxy, \
                   the setting console_url must have the address that is in the browser.";
        page.error = Some(why.to_owned());
        return login_page(StatusCode::FORBIDDEN, &page);
    }
    if let Some(wait) = console.flood.wait(address) {
        let seconds = wait.as_secs().max(1);
        page.error = Some(format!(
            "Too many sign-ins failed. Try again in {seconds} s."
        ));
        let mut response = login_page(Code::TooManySignIns.status(), &page);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return response;
    }
    let Some(fields) = form::fields(request).await else {
        page.error = Some("The form is too long.".to_owned());
        return login_page(StatusCode::PAYLOAD_TOO_LARGE, &page);
    };
    page.next = fields.get("next").map(str::to_owned);
    let look_only = fields.get("look_only").is_some();
    match sign_in(console, &fields, look_only).await {
        Ok(id) => entered(&id, scheme, page.next.as_deref()),
        Err(problem) => {
            if matches!(problem.code, Code::InvalidKey | Code::MissingScope) {
                console.flood.failed(address);
            }
            page.error = Some(layout::sentence(&problem.detail));
            login_page(problem.code.status(), &page)
        }
    }
}

fn entered(id: &Secret, scheme: origin::Scheme, next: Option<&str>) -> Response {
    let mut response = Redirect::to(safe(next)).into_response();
    if let Some(set) = cookie::set(id.expose(), scheme) {
        response.headers_mut().insert(header::SET_COOKIE, set);
    }
    response
}

/// Where to go after the sign-in: a page of the console, nothing else.
fn safe(next: Option<&str>) -> &str {
    let is_own = |path: &&str| {
        // Browsers take a backslash for a slash and drop tabs and line breaks, so what has one
        // could lead to another host.
        let plain = path
            .bytes()
            .all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\');
        let below = path
            .strip_prefix("/console")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        plain && below && !climbs(path) && !path.starts_with("/console/log")
    };
    next.filter(is_own).unwrap_or(HOME)
}

/// Whether a browser takes a step up in the path, also where its dots are written as `%2e`.
fn climbs(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(segment.as_str(), "." | "..")
    })
}

fn page(console: &Console, request: &Request, query: &Query) -> LoginPage {
    let reachable = origin::scheme(console, request.uri(), request.headers()).is_some();
    LoginPage {
        is_safe: reachable,
        is_read_only: console.is_read_only(),
        next: query.get("next").map(str::to_owned),
        error: None,
    }
}

/// Whose failures a failure is counted with.
fn client(request: &Request) -> IpAddr {
    request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip())
}

/// What is behind the console's address: the page that everybody starts with.
pub(crate) async fn home(headers: HeaderMap) -> Response {
    // By a page and not by a redirect where a link from another site led here: the cookie would not
    // come with the redirect either.
    if origin::is_from_elsewhere(&headers) {
        return layout::once_more(HOME);
    }
    Redirect::to(HOME).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_leads_to_pages_of_the_console_alone() {
        for own in [
            "/console",
            "/console?a=b",
            "/console/deliveries?status=failed",
            "/console/notifications/acme/order%2E1?a=/../b",
        ] {
            assert_eq!(safe(Some(own)), own);
        }
        for other in [
            "//evil.example",
            "https://evil.example",
            "/console.evil.example",
            "/console/\\evil.example",
            "/console/../v1/keys",
            "/console/..",
            "/console/%2E%2e/v1/keys",
            "/console/.%2e/v1/keys?a=b",
            "/console/\n/evil.example",
            "javascript:alert(1)",
            "/v1/keys",
            "/console/logout",
            "",
        ] {
            assert_eq!(safe(Some(other)), HOME, "{other}");
        }
    }
}
