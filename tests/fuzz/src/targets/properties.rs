//! AMQP properties as strangers write them, on the wire.

use lapin::protocol::basic::parse_properties;
use posthaste_shared::broker::amqp::received;
use posthaste_shared::domain::notification::Origin;
use posthaste_worker::pipeline::decode::{Limits, decode};

use super::fixture::{incoming, now};
use super::{Target, parts};

pub(super) const TARGET: Target = Target {
    name: "properties",
    about: "AMQP properties: whatever they are, nobody passes for Posthaste itself",
    run,
    tokens: &[
        "x-posthaste-origin",
        "x-delivery-count",
        "traceparent",
        "x-posthaste-hops",
        "x-posthaste-accepted-at",
        "event",
        "S\0\0\0\x05event",
        "l\0\0\0\0\0\0\0\x01",
    ],
};

fn run(input: &[u8]) {
    let [properties, body] = parts(input);
    let Ok((_, properties)) = parse_properties(properties) else {
        return;
    };
    let (message, count) = received(&properties, body.to_vec());
    assert_eq!(
        message.origin,
        Origin::Producer,
        "no key proves that it is of Posthaste"
    );
    assert!(
        message
            .traceparent
            .iter()
            .all(|text| text.chars().all(|c| c.is_ascii_graphic())),
        "{:?} cannot stand in a header",
        message.traceparent
    );
    let mut whole = incoming("n-1", b"");
    whole.message = message;
    whole.delivery_count = count;
    drop(decode(&whole, Limits::default(), now()));
}
