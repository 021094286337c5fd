//! `/console/deliveries/selected`: what is done with the rows that somebody selected.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use posthaste_producer::http::operations::deliveries;
use posthaste_producer::http::problem::{Code, Problem};
use posthaste_shared::domain::delivery::Status;
use posthaste_shared::domain::id::DeliveryId;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{acting, must_manage};
use crate::parts::frame::Frame;
use crate::parts::layout::{failed, token};
use crate::parts::notice;
use crate::parts::query::Query;
use crate::state::Console;

const LIST: &str = "/console/deliveries";
const PATH: &str = "/console/deliveries/selected";
/// The id of the form, to which the boxes of the rows belong.
const FORM: &str = "selected";
/// The field of each row, and the most that are taken of it: as many as a page may have.
const ROW: &str = "delivery";
const MOST: usize = 500;
/// The field that says what to do.
const ACTION: &str = "do";

/// The box of a row.
pub(crate) fn check(id: &str, short: &str) -> Markup {
    html! {
        input type="checkbox" name=(ROW) value=(id) form=(FORM)
            aria-label={ "Select the delivery " (short) };
    }
}

/// What can be done with the rows that are selected.
pub(crate) fn actions(frame: &Frame, query: &Query) -> Markup {
    // Back to where somebody was: the filters and the place in the list.
    let back = query.without(&["notice"]);
    html! {
        form.selection id=(FORM) method="post" action={ (PATH) (back) } {
            (token(frame))
            span.muted { "Selected:" }
            span #count hidden {}
            button type="submit" name=(ACTION) value="retry" { "Retry" }
            button type="submit" name=(ACTION) value="cancel" { "Cancel" }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Retry,
    Cancel,
}

/// Retries or cancels them, each by itself: what cannot be done for one is done for the others.
pub(crate) async fn act_on(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = &form.visitor;
    let refused = |problem| failed(Some(&visitor.frame), &problem);
    must_manage(&visitor.frame).map_err(refused)?;
    let action = match form.fields.get(ACTION) {
        Some("retry") => Action::Retry,
        Some("cancel") => Action::Cancel,
        _ => {
            let problem = Problem::field(Code::Invalid, ACTION, "must be retry or cancel");
            return Err(refused(problem));
        }
    };
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for id in form.fields.all(ROW).take(MOST) {
        let result = one(&console, visitor, action, id).await;
        match counts.iter_mut().find(|(word, _)| *word == result) {
            Some((_, count)) => *count += 1,
            None => counts.push((result, 1)),
        }
    }
    // What was done is said first.
    counts.sort_by_key(|(word, _)| !matches!(*word, "retried" | "cancelled"));
    let back = visitor.query.with("notice", &notice::results(&counts));
    Ok(Redirect::to(&format!("{LIST}{back}")).into_response())
}

/// What came of one of them, in a word of [`notice`].
async fn one(console: &Console, visitor: &Visitor, action: Action, id: &str) -> &'static str {
    let Ok(id) = id.parse::<DeliveryId>() else {
        return "unknown";
    };
    let (api, caller) = (&console.api, &visitor.caller);
    let what = match action {
        Action::Retry => "retry",
        Action::Cancel => "cancel",
    };
    let work = async {
        match action {
            Action::Retry => deliveries::retry(api, caller, id).await,
            Action::Cancel => deliveries::cancel(api, caller, id).await,
        }
    };
    match acting(visitor, &format!("{what} delivery {id}"), work).await {
        Ok(_) if action == Action::Retry => "retried",
        Ok(_) => "cancelled",
        Err(problem) if problem.code == Code::NotFound => "unknown",
        Err(problem) if problem.code == Code::WrongState => why_not(console, visitor, id).await,
        Err(_) => "refused",
    }
}

/// Why a delivery is not in a state for it, as it is now.
async fn why_not(console: &Console, visitor: &Visitor, id: DeliveryId) -> &'static str {
    match deliveries::explain(&console.api, &visitor.caller, id).await {
        Err(_) => "refused",
        Ok(found) if found.lease_until.is_some() => "sending",
        Ok(found) if found.delivery.status == Status::Expired => "expired",
        Ok(found) if found.endpoint.is_none() => "orphaned",
        Ok(found) if found.delivery.status != Status::Pending => "finished",
        Ok(_) => "refused",
    }
}
