//! Posthaste's own events in a form that a wire format has for them, such as httpSMS's
//! `message.send.failed` for a delivery that failed. The relay creates them beside the event
//! itself, and only endpoints of that wire format get them.

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::event::EventType;
use posthaste_shared::domain::id::NotificationType;
use posthaste_shared::domain::wire_format::WireFormat;

use super::of;

/// Whether notifications of this type are events in a form of some wire format's own. To be asked
/// of what Posthaste created itself: a producer may use the same type for what it has to say.
#[must_use]
pub fn is_own_form(kind: &NotificationType) -> bool {
    WireFormat::ALL
        .into_iter()
        .any(|format| has_form(format, kind))
}

/// Whether an endpoint gets events of this type, if the phone number matches too.
#[must_use]
pub fn wanted_by(endpoint: &Endpoint, kind: &NotificationType) -> bool {
    // As an event, which `*` does not include, however much the type looks like the producers'.
    has_form(endpoint.wire_format, kind) && endpoint.subscription.wants_event(kind)
}

fn has_form(format: WireFormat, kind: &NotificationType) -> bool {
    EventType::ALL
        .into_iter()
        .any(|event| of(format).event_type(event).as_ref() == Some(kind))
}
