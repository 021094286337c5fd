//! Who a notification is for: one user, or the members of a group, each with a delivery of their
//! own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use posthaste_shared::domain::notification::Notification;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nothing;
use crate::wire::{RenderError, Subject, settings};

/// A notification's recipient: one user, or several.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Recipient {
    /// The user's id. Needed, unless there are `recipients`.
    uid: Option<String>,
    /// The user's name. Needed, unless there are `recipients`.
    name: Option<String>,
    /// The user's phone number in E.164, if it is known.
    phno: Option<String>,
    /// Several users: the members of a group. Each gets a delivery of its own.
    recipients: Option<Vec<To>>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct To {
    /// The id of the user in CometChat.
    pub(super) uid: String,
    /// The user's phone number in E.164, if it is known.
    #[serde(skip_serializing_if = "nothing")]
    pub(super) phno: Option<String>,
    /// The name of the user, as CometChat shows it.
    pub(super) name: String,
}

/// Everybody that a notification is for, each once, in order, and who is where among them.
#[derive(Debug)]
pub(super) struct Everybody {
    pub(super) each: Vec<To>,
    places: HashMap<String, usize>,
}

/// [`read_everybody`], once for all deliveries of the notification.
pub(super) fn everybody(notification: &Notification) -> Arc<Result<Everybody, Vec<RenderError>>> {
    match &notification.recipient {
        // Each of a thousand deliveries would otherwise read all thousand recipients to find its
        // own.
        Some(recipient) => recipient.read_once(|_| read_everybody(notification)),
        None => Arc::new(read_everybody(notification)),
    }
}

/// # Errors
/// All that its recipient lacks or has wrong.
fn read_everybody(notification: &Notification) -> Result<Everybody, Vec<RenderError>> {
    let recipient: Recipient = settings::recipient(notification).map_err(|error| vec![error])?;
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let problem =
        |member: &str, problem: &str| RenderError::new(format!("recipient.{member}"), problem);
    let several = match (
        present(recipient.uid),
        present(recipient.name),
        recipient.recipients,
    ) {
        (None, _, Some(several)) => several,
        (Some(_), _, Some(_)) => {
            return Err(vec![problem(
                "uid",
                "must not stand beside recipients: give one of the two",
            )]);
        }
        (Some(uid), Some(name), None) => vec![To {
            uid,
            name,
            phno: recipient.phno,
        }],
        (uid, name, None) => {
            let no_uid = || problem("uid", "is missing: the id of the user that the SMS goes to");
            let no_name = || {
                problem(
                    "name",
                    "is missing: the name of the user that the SMS goes to",
                )
            };
            return Err(uid
                .is_none()
                .then(no_uid)
                .into_iter()
                .chain(name.is_none().then(no_name))
                .collect());
        }
    };
    if several.is_empty() {
        return Err(vec![problem(
            "recipients",
            "is empty: there must be at least one",
        )]);
    }
    let mut places = HashMap::with_capacity(several.len());
    let mut each = Vec::with_capacity(several.len());
    for (index, to) in several.into_iter().enumerate() {
        if to.uid.is_empty() {
            return Err(vec![problem(
                &format!("recipients[{index}].uid"),
                "is empty: it must be a user's id",
            )]);
        }
        // The store keeps it with the delivery, and Postgres cannot hold that character.
        if to.uid.contains('\0') {
            return Err(vec![problem(
                &format!("recipients[{index}].uid"),
                "has the character U+0000",
            )]);
        }
        // The first of two with one id counts: the delivery's id is made of it, so that there can
        // be one only.
        if let Entry::Vacant(place) = places.entry(to.uid.clone()) {
            place.insert(each.len());
            each.push(To {
                phno: present(to.phno),
                ..to
            });
        }
    }
    Ok(Everybody { each, places })
}

/// The one that this delivery is for.
pub(super) fn to(subject: &Subject<'_>) -> Result<To, RenderError> {
    let missing = || {
        RenderError::new(
            "recipient.uid",
            "is missing: the id of the user that the SMS goes to",
        )
    };
    let everybody = everybody(subject.notification);
    let everybody = match everybody.as_ref() {
        Ok(everybody) => everybody,
        Err(problems) => return Err(problems.first().cloned().unwrap_or_else(missing)),
    };
    let place = match subject.recipient {
        Some(uid) => everybody.places.get(uid).copied().ok_or_else(missing)?,
        // A single user: the delivery names no recipient, as it did before there were several.
        None => 0,
    };
    everybody.each.get(place).cloned().ok_or_else(missing)
}
