//! Status as symbol, word and colour: the colour alone says nothing to many.

use maud::{Markup, html};
use posthaste_shared::domain::attempt::AttemptResult;
use posthaste_shared::domain::delivery::{FailureReason, Hold, Status};
use posthaste_shared::domain::endpoint::DisabledReason;
use posthaste_shared::domain::view::{AttemptView, DeliveryView, EndpointView};

/// A chip of a kind, which names its colours.
pub(crate) fn chip(kind: &str, symbol: &str, text: &str) -> Markup {
    html! { span.chip data-kind=(kind) { span aria-hidden="true" { (symbol) } " " (text) } }
}

/// Where a delivery is, with its reason or what it waits for.
pub(crate) fn delivery(delivery: &DeliveryView) -> Markup {
    match delivery.status {
        Status::Delivered => chip("good", "✓", "delivered"),
        Status::Failed => match delivery.reason {
            Some(reason) => chip("bad", "✕", &format!("failed: {}", reason_word(reason))),
            None => chip("bad", "✕", "failed"),
        },
        Status::Expired => chip("late", "⧗", "expired"),
        Status::Cancelled => chip("off", "⊘", "cancelled"),
        Status::Pending => match delivery.waiting_for.as_deref() {
            Some("parked") => {
                let why = delivery.held_by.map_or("", hold_word);
                chip("parked", "‖", &format!("parked: {why}"))
            }
            Some("scheduled") => chip("waits", "◷", "scheduled"),
            Some("retry") => chip("busy", "◔", "retry"),
            _ => chip("busy", "◔", "in flight"),
        },
    }
}

/// Whether an endpoint is called, and why not.
pub(crate) fn endpoint(endpoint: &EndpointView) -> Markup {
    if !endpoint.enabled {
        let why = match endpoint.disabled_reason {
            Some(DisabledReason::Gone) => "disabled: gone",
            Some(DisabledReason::Failing) => "disabled: failing",
            Some(DisabledReason::Manual) | None => "disabled",
        };
        return chip("off", "⊘", why);
    }
    let health = endpoint.health.as_ref();
    if health.is_some_and(|health| health.unhealthy.is_some()) {
        return chip("bad", "✕", "failing");
    }
    if health.is_some_and(|health| health.paused_until.is_some()) {
        return chip("parked", "‖", "paused");
    }
    chip("good", "✓", "enabled")
}

/// The result of an attempt: its status code, or the word for why there is none.
pub(crate) fn attempt(attempt: &AttemptView) -> Markup {
    let text = match attempt.status_code {
        Some(code) => code.to_string(),
        None => attempt.result.as_str().to_owned(),
    };
    // A script ran to its end: whether it succeeded is what the error says.
    let is_good = match attempt.result {
        AttemptResult::Success | AttemptResult::Script => attempt.error.is_none(),
        _ => false,
    };
    if is_good {
        chip("good", "✓", &text)
    } else {
        chip("bad", "✕", &text)
    }
}

/// The reason of a failure in words.
pub(crate) const fn reason_word(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Rejected => "rejected",
        FailureReason::RetriesExhausted => "retries exhausted",
        FailureReason::Blocked => "blocked",
        FailureReason::Gone => "gone",
        FailureReason::RenderError => "render error",
        FailureReason::EndpointDeleted => "endpoint deleted",
        FailureReason::ProviderRejected => "provider rejected",
        FailureReason::Internal => "internal",
    }
}

const fn hold_word(hold: Hold) -> &'static str {
    match hold {
        Hold::MaxInFlight => "max in flight",
        Hold::RateLimit => "rate limit",
        Hold::Slots => "slots",
        Hold::Tenant => "tenant",
        Hold::Disabled => "disabled",
        Hold::Scripts => "scripts",
        Hold::Breaker => "breaker",
        Hold::RetryAfter => "retry after",
    }
}
