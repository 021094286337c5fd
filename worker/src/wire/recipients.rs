//! Who a notification is for, at one endpoint, and how many that may be.

use posthaste_shared::domain::endpoint::Endpoint;
use posthaste_shared::domain::notification::Notification;
use posthaste_shared::domain::wire_format::WireFormat;

use super::{FieldProblem, of};

/// Who a notification is for, at one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// It is one request, or names no recipient: one delivery.
    One,
    /// A delivery for each.
    Several {
        /// The member of the notification that lists them, such as `recipient.device_tokens`.
        member: &'static str,
        /// What tells them apart, each once.
        each: Vec<String>,
    },
}

impl Recipients {
    /// How many deliveries they make at an endpoint.
    #[must_use]
    pub const fn deliveries(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Several { each, .. } => each.len(),
        }
    }

    /// The recipient of the delivery with this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        match self {
            Self::One => None,
            Self::Several { each, .. } => each.get(index).map(String::as_str),
        }
    }

    /// What is wrong with them when there may be `most` at the most.
    #[must_use]
    pub fn too_many(&self, most: usize) -> Option<FieldProblem> {
        let Self::Several { member, each } = self else {
            return None;
        };
        let problem = || {
            let count = each.len();
            format!(
                "names {count} recipients, a notification may have {most}: send several \
                 notifications"
            )
        };
        (each.len() > most).then(|| FieldProblem {
            field: (*member).to_owned(),
            problem: problem(),
        })
    }
}

/// What is wrong with a notification that has more recipients than `most` in the endpoint's wire
/// format or, where it names no endpoint, in any: one that reads it so may subscribe to it.
#[must_use]
pub fn too_many_recipients(
    endpoint: Option<&Endpoint>,
    notification: &Notification,
    most: usize,
) -> Option<FieldProblem> {
    // A recipient takes four bytes at the least, `"a",`: so most notifications need not be read for
    // this.
    let lists = [&notification.recipient, &notification.overrides];
    let bytes: usize = lists
        .into_iter()
        .flatten()
        .map(|json| json.as_str().len())
        .sum();
    if bytes / 4 < most {
        return None;
    }
    let formats = match endpoint {
        Some(endpoint) => vec![endpoint.wire_format],
        None => WireFormat::ALL.to_vec(),
    };
    formats
        .into_iter()
        .find_map(|format| of(format).recipients(notification).too_many(most))
}
