//! `/console/dead-letters`: what nobody could read. Not refreshed by itself: on RabbitMQ, to look
//! at them takes them off the queue and puts them back.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};
use posthaste_producer::http::body::RedriveRequest;
use posthaste_producer::http::operations::{dead_letters, redrive as move_back};
use posthaste_shared::domain::dead_letter::DeadLetter;

use crate::entry::form::Form;
use crate::entry::visitor::Visitor;
use crate::pages::{act, ask, done};
use crate::parts::actions;
use crate::parts::attempts::looks_like_json;
use crate::parts::frame::Section;
use crate::parts::json;
use crate::parts::layout::still;
use crate::parts::text::{block, plain, strange, whole_id};
use crate::parts::time::{at_or, number};
use crate::state::Console;

const PATH: &str = "/console/dead-letters";
/// How many are shown: the oldest.
const SHOWN: u32 = 50;

/// The list.
pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::DeadLetters);
    let found = ask(
        &console,
        &frame,
        dead_letters(&console.api, &visitor.caller, Some(SHOWN)),
    )
    .await?;
    let body = html! {
        div.headline {
            h1 { "Dead letters" }
            @if !found.items.is_empty() {
                div.actions {
                    (actions::question(&frame, &format!("{PATH}/redrive"), "Redrive all …"))
                }
            }
        }
        @if found.items.is_empty() { p.said { "There are none: all that came could be read." } }
        @for letter in &found.items { (shown(letter)) }
        @if found.items.len() >= SHOWN as usize {
            p.muted { "These are the oldest " (SHOWN) "; there may be more." }
        }
    };
    Ok(still(&frame, StatusCode::OK, "Dead letters", &body))
}

fn shown(letter: &DeadLetter) -> Markup {
    html! {
        section.pane.letter {
            h2 { (strange(letter.reason.as_str())) " " span.muted { (at_or(letter.died_at, "")) } }
            p dir="auto" { (plain(&letter.detail)) }
            p { (whole_id(&letter.id)) " " span.muted { (number(letter.size)) " bytes" } }
            details { summary { "Body" }
                @if looks_like_json(&letter.body) { (json::pretty(&letter.body)) }
                @else { (block(&letter.body)) }
            }
        }
    }
}

/// Asks before all of them are put back.
pub(crate) async fn ask_redrive(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let frame = visitor.at(Section::DeadLetters);
    // Whoever may not look may not redrive.
    ask(
        &console,
        &frame,
        dead_letters(&console.api, &visitor.caller, Some(1)),
    )
    .await?;
    let words = html! {
        p { "They go back on the work queue, up to 1,000 at once. What still cannot be read comes \
            back as a dead letter." }
    };
    let confirm = actions::Confirm {
        title: "Redrive all dead letters?",
        words,
        action: &format!("{PATH}/redrive"),
        label: "Redrive all",
        typed: None,
        back: PATH,
    };
    let body = actions::confirm(&frame, &confirm);
    Ok(still(&frame, StatusCode::OK, "Redrive all", &body))
}

/// Puts all of them back.
pub(crate) async fn redrive(
    State(console): State<Arc<Console>>,
    form: Form,
) -> Result<Response, Response> {
    let visitor = form.visitor;
    let request = RedriveRequest {
        ids: None,
        all: true,
    };
    let work = move_back(&console.api, &visitor.caller, &request);
    act(&visitor, "redrive all dead letters", work).await?;
    Ok(done(&visitor.frame, PATH, "redriven"))
}
