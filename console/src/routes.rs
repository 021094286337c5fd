//! All routes of the console, and what each needs.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use posthaste_producer::http::identified;
use posthaste_producer::http::problem::{Code, Problem};

use crate::assets;
use crate::entry::visitor::Visitor;
use crate::entry::{headers, login, once};
use crate::pages::{
    audit, dead_letters, deliveries, delivery, endpoint, endpoint_form, endpoint_secret, endpoints,
    events, go, key_form, keys, notification, notifications, overview, replays, selected, send,
    transform, workers,
};
use crate::parts::layout;
use crate::state::Console;

/// What somebody needs for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is the way in, or a file of the program.
    Nothing,
    /// To be signed in, and no more.
    SignIn,
    /// A key that may look.
    Read,
    /// A key that may look and enqueue.
    Enqueue,
    /// A key that may look and is bound to no tenant.
    UnboundRead,
    /// A key that may manage.
    Admin,
    /// A key that may manage and is bound to no tenant.
    UnboundAdmin,
}

/// A route of the console.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The HTTP method: `GET` or `POST`.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What somebody needs for it.
    pub needs: Needs,
}

impl Route {
    /// Whether it takes forms that do something, each of which is done once only. Those by which
    /// somebody signs in or out may be sent again, and those that only show something.
    fn is_done_once(&self) -> bool {
        self.method == "POST"
            && !matches!(self.needs, Needs::Nothing | Needs::SignIn)
            && !LOOKING.contains(&self.path)
    }
}

/// Forms that change nothing.
const LOOKING: [&str; 2] = [
    "/console/send/look",
    "/console/endpoints/{id}/transform/try",
];

type Handler = MethodRouter<Arc<Console>>;

/// The one list from which the router is made, so that no route is without its row.
fn all() -> Vec<(Route, Handler)> {
    let row = |method, path, needs, handler| {
        let route = Route {
            method,
            path,
            needs,
        };
        (route, handler)
    };
    let page = |path, needs, handler| row("GET", path, needs, handler);
    let action = |path, needs, handler| row("POST", path, needs, handler);
    vec![
        page("/console", Needs::Nothing, get(login::home)),
        page(
            "/console/assets/{hash}/{name}",
            Needs::Nothing,
            get(assets::serve),
        ),
        page("/console/login", Needs::Nothing, get(login::ask)),
        action("/console/login", Needs::Nothing, post(login::sign_in)),
        page("/console/link", Needs::Nothing, get(login::ask_link)),
        action("/console/link", Needs::Nothing, post(login::use_link)),
        action("/console/logout", Needs::SignIn, post(login::sign_out)),
        page("/console/go", Needs::Read, get(go::show)),
        page("/console/overview", Needs::Read, get(overview::show)),
        page("/console/deliveries", Needs::Read, get(deliveries::show)),
        action(
            "/console/deliveries/selected",
            Needs::Admin,
            post(selected::act_on),
        ),
        page("/console/deliveries/{id}", Needs::Read, get(delivery::show)),
        page(
            "/console/deliveries/{id}/retry",
            Needs::Admin,
            get(delivery::ask_retry),
        ),
        action(
            "/console/deliveries/{id}/retry",
            Needs::Admin,
            post(delivery::retry),
        ),
        page(
            "/console/deliveries/{id}/cancel",
            Needs::Admin,
            get(delivery::ask_cancel),
        ),
        action(
            "/console/deliveries/{id}/cancel",
            Needs::Admin,
            post(delivery::cancel),
        ),
        page("/console/replays", Needs::Read, get(replays::show)),
        action("/console/replays", Needs::Admin, post(replays::begin)),
        page("/console/replays/new", Needs::Admin, get(replays::ask_all)),
        page("/console/replays/{id}", Needs::Read, get(replays::one)),
        action(
            "/console/replays/{id}/cancel",
            Needs::Admin,
            post(replays::stop),
        ),
        page(
            "/console/notifications",
            Needs::Read,
            get(notifications::show),
        ),
        page(
            "/console/notifications/{tenant}/{id}",
            Needs::Read,
            get(notification::show),
        ),
        page("/console/endpoints", Needs::Read, get(endpoints::show)),
        page("/console/endpoints/{id}", Needs::Read, get(endpoint::show)),
        action(
            "/console/endpoints/{id}/test",
            Needs::Admin,
            post(endpoint::test),
        ),
        action(
            "/console/endpoints/{id}/enable",
            Needs::Admin,
            post(endpoint::enable),
        ),
        page(
            "/console/endpoints/{id}/disable",
            Needs::Admin,
            get(endpoint::ask_disable),
        ),
        action(
            "/console/endpoints/{id}/disable",
            Needs::Admin,
            post(endpoint::disable),
        ),
        page(
            "/console/endpoints/new",
            Needs::Admin,
            get(endpoint_form::ask_new),
        ),
        action(
            "/console/endpoints",
            Needs::Admin,
            post(endpoint_form::create),
        ),
        page(
            "/console/endpoints/{id}/settings",
            Needs::Admin,
            get(endpoint_form::ask_change),
        ),
        action(
            "/console/endpoints/{id}/settings",
            Needs::Admin,
            post(endpoint_form::change),
        ),
        page(
            "/console/endpoints/{id}/secret",
            Needs::Admin,
            get(endpoint_secret::ask_rotate),
        ),
        action(
            "/console/endpoints/{id}/secret",
            Needs::Admin,
            post(endpoint_secret::rotate),
        ),
        page(
            "/console/endpoints/{id}/delete",
            Needs::Admin,
            get(endpoint_secret::ask_delete),
        ),
        action(
            "/console/endpoints/{id}/delete",
            Needs::Admin,
            post(endpoint_secret::delete),
        ),
        page(
            "/console/endpoints/{id}/transform",
            Needs::Admin,
            get(transform::ask),
        ),
        action(
            "/console/endpoints/{id}/transform",
            Needs::Admin,
            post(transform::save),
        ),
        action(
            "/console/endpoints/{id}/transform/try",
            Needs::Admin,
            post(transform::attempt),
        ),
        page("/console/send", Needs::Enqueue, get(send::ask_new)),
        action("/console/send", Needs::Enqueue, post(send::send)),
        action("/console/send/look", Needs::Enqueue, post(send::look)),
        page("/console/events", Needs::Read, get(events::show)),
        page("/console/workers", Needs::UnboundRead, get(workers::show)),
        page(
            "/console/dead-letters",
            Needs::UnboundAdmin,
            get(dead_letters::show),
        ),
        page(
            "/console/dead-letters/redrive",
            Needs::UnboundAdmin,
            get(dead_letters::ask_redrive),
        ),
        action(
            "/console/dead-letters/redrive",
            Needs::UnboundAdmin,
            post(dead_letters::redrive),
        ),
        page("/console/audit", Needs::UnboundAdmin, get(audit::show)),
        page("/console/keys", Needs::UnboundAdmin, get(keys::show)),
        page(
            "/console/keys/new",
            Needs::UnboundAdmin,
            get(key_form::ask_new),
        ),
        action("/console/keys", Needs::UnboundAdmin, post(key_form::create)),
        page(
            "/console/keys/{id}/revoke",
            Needs::UnboundAdmin,
            get(key_form::ask_revoke),
        ),
        action(
            "/console/keys/{id}/revoke",
            Needs::UnboundAdmin,
            post(key_form::revoke),
        ),
        page("/console/{*path}", Needs::SignIn, get(unknown)),
    ]
}

/// Every route, with what it needs.
#[must_use]
pub fn table() -> Vec<Route> {
    all().into_iter().map(|(route, _)| route).collect()
}

/// The console's routes, all below `/console`.
pub fn router(console: Arc<Console>) -> Router {
    let router = all()
        .into_iter()
        .fold(Router::new(), |router, (route, handler)| {
            let handler = if route.is_done_once() {
                let once = from_fn_with_state(Arc::clone(&console), once::serve);
                handler.layer(once)
            } else {
                handler
            };
            router.route(route.path, handler)
        });
    let router = router
        // Forms are read with a limit of their own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(headers::add));
    identified(router).with_state(console)
}

async fn unknown(visitor: Visitor) -> Response {
    let problem = Problem::new(Code::UnknownRoute, "the console has no such page");
    layout::failed(Some(&visitor.frame), &problem)
}
