//! Messages of the work queue as strangers publish them.

use posthaste_shared::domain::message::{Incoming, Message, Tag};
use posthaste_worker::pipeline::decode::{Decoded, Limits, decode};

use super::fixture::{incoming, now};
use super::{Target, parts};

pub(super) const TARGET: Target = Target {
    name: "envelope",
    about: "a message: what is taken survives being written and read again",
    run,
    tokens: &[
        "\"id\"",
        "\"type\"",
        "\"payload\"",
        "\"tenant\"",
        "\"endpoint_id\"",
        "\"recipient\"",
        "\"overrides\"",
        "\"ttl_seconds\"",
        "\"expires_at\"",
        "\"deliver_at\"",
        "\"priority\"",
        "\"high\"",
        "\"delay_seconds\"",
        "invoice.paid",
        "posthaste.",
    ],
};

fn run(input: &[u8]) {
    let [id, body] = parts(input);
    let Ok(id) = std::str::from_utf8(id) else {
        return;
    };
    match decode(&incoming(id, body), Limits::default(), now()) {
        Decoded::Work(first) => {
            let written = Incoming {
                message: Message::of((*first).clone()),
                tag: Tag {
                    epoch: 1,
                    number: 1,
                },
                delivery_count: 0,
            };
            match decode(&written, Limits::default(), now()) {
                Decoded::Work(again) => assert_eq!(first, again, "written and read again"),
                other => panic!("{first:?} became {other:?}"),
            }
        }
        Decoded::WithoutId(message) => {
            let id = message.id.clone().expect("it was given an id");
            match decode(&incoming(&id, &message.body), Limits::default(), now()) {
                Decoded::Work(_) | Decoded::Unreadable(..) => {}
                Decoded::WithoutId(_) => panic!("{id:?} is lost again"),
            }
        }
        Decoded::Unreadable(_, why) => assert!(!why.is_empty(), "refused without a reason"),
    }
}
