//! Dead letters: messages that nobody can handle, kept apart with the reason.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// Not a notification in JSON.
    Undecodable,
    /// Larger than the limit.
    TooLarge,
    /// It has more recipients than a notification may have.
    TooManyRecipients,
    /// Its id stands for another notification already, which was sent under it.
    IdConflict,
    /// Handling it panicked, or workers that held it died again and again.
    Poisonous,
    /// The store refuses to keep it.
    Unrecordable,
    /// The broker itself gave up on it (delivery limit).
    DeliveryLimit,
}

impl DeadReason {
    /// Every reason that a dead letter can have.
    pub const ALL: [Self; 7] = [
        Self::Undecodable,
        Self::TooLarge,
        Self::TooManyRecipients,
        Self::IdConflict,
        Self::Poisonous,
        Self::Unrecordable,
        Self::DeliveryLimit,
    ];

    /// The name in JSON, in headers and in metrics' labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::TooManyRecipients => "too_many_recipients",
            Self::IdConflict => "id_conflict",
            Self::Poisonous => "poisonous",
            Self::Unrecordable => "unrecordable",
            Self::DeliveryLimit => "delivery_limit",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A message on the dead-letter queue.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// Names it for `dead show` and `dead redrive`: the message's own id where it has one, else
    /// derived from its body.
    pub id: String,
    /// Why the message is a dead letter.
    pub reason: DeadReason,
    /// Why, in a sentence.
    pub detail: String,
    /// When the message was dead-lettered; null where the broker did not record it.
    pub died_at: Option<Timestamp>,
    /// Bytes of the body.
    pub size: u64,
    /// The beginning of the body, as text.
    pub body: String,
}

/// What a redrive moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Dead letters that are back on the work queue.
    pub moved: u64,
    /// Of these, bodies that are not a notification in JSON: they will be dead-lettered again.
    pub undecodable: u64,
}
