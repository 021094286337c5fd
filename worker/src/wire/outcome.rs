//! What happened in an attempt (`Outcome`) and what we do next (`Verdict`): kept apart, so that
//! reading answers (the wire format's business) and policy (the endpoint's) do not mix.

use std::time::Duration;

use posthaste_shared::domain::attempt::AttemptError;
use posthaste_shared::domain::delivery::FailureReason;
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::domain::time::Timestamp;

/// What happened in an attempt, as the wire format reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint took it.
    Accepted {
        /// What the provider calls the message, if its answer says so.
        provider_message_id: Option<String>,
        /// When it took it, as its answer says it.
        provider_message_date: Option<String>,
    },
    /// The endpoint, or our own policy, said no for good.
    Refused {
        /// The delivery's `reason` once it has failed.
        reason: FailureReason,
        /// A stable code and a sentence that says what was refused.
        error: AttemptError,
        /// The error code of the provider, as its answer has it.
        provider_error_code: Option<String>,
    },
    /// It did not work this time.
    Transient {
        /// The kind of failure, which a policy may retry.
        kind: RetryOn,
        /// A stable code and a sentence that says what failed.
        error: AttemptError,
        /// How long the endpoint asked us to wait.
        retry_after: Option<Duration>,
        /// The error code of the provider, as its answer has it.
        provider_error_code: Option<String>,
    },
}

impl Outcome {
    /// Taken, by an endpoint that does not say what it calls the message.
    #[must_use]
    pub const fn accepted() -> Self {
        Self::Accepted {
            provider_message_id: None,
            provider_message_date: None,
        }
    }

    /// The same, where the error's text begins with what it is about.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        if let Self::Refused { error, .. } | Self::Transient { error, .. } = &mut self {
            error.text = format!("{what}: {}", error.text);
        }
        self
    }

    /// The same, where the error's text ends with more.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        if let Self::Refused { error, .. } | Self::Transient { error, .. } = &mut self {
            error.text.push_str(more);
        }
        self
    }

    /// The same, with what the endpoint said changed: its error's text, the provider's code, id and
    /// date.
    #[must_use]
    pub fn reworded(mut self, change: impl Fn(&str) -> String) -> Self {
        if let Self::Refused {
            error,
            provider_error_code,
            ..
        }
        | Self::Transient {
            error,
            provider_error_code,
            ..
        } = &mut self
        {
            error.text = change(&error.text);
            // The provider's code is text of the receiver's as well, and may echo what `change` is
            // there to take out.
            *provider_error_code = provider_error_code.as_deref().map(&change);
        } else if let Self::Accepted {
            provider_message_id,
            provider_message_date,
        } = &mut self
        {
            for text in [provider_message_id, provider_message_date] {
                *text = text.as_deref().map(&change);
            }
        }
        self
    }

    /// The same from a URL that is not the endpoint's own: that this one is gone says nothing of
    /// the endpoint, which is not disabled for it.
    #[must_use]
    pub fn of_another_url(mut self) -> Self {
        if let Self::Refused {
            reason: reason @ FailureReason::Gone,
            error,
            ..
        } = &mut self
        {
            *reason = FailureReason::Rejected;
            error
                .text
                .push_str("; the endpoint stays enabled, as the URL that answered is not its own");
        }
        self
    }

    /// What went wrong, if anything did.
    #[must_use]
    pub const fn error(&self) -> Option<&AttemptError> {
        match self {
            Self::Accepted { .. } => None,
            Self::Refused { error, .. } | Self::Transient { error, .. } => Some(error),
        }
    }

    /// The provider's code for a failure, if its answer has one.
    #[must_use]
    pub fn provider_error_code(&self) -> Option<&str> {
        match self {
            Self::Accepted { .. } => None,
            Self::Refused {
                provider_error_code,
                ..
            }
            | Self::Transient {
                provider_error_code,
                ..
            } => provider_error_code.as_deref(),
        }
    }
}

/// What follows from an outcome by the endpoint's retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No further attempt: the notification is delivered.
    Complete,
    /// Another attempt is due at this time.
    RetryAt(Timestamp),
    /// No further attempt: the delivery has failed for this reason.
    GiveUp(FailureReason),
    /// No further attempt: the delivery expired during this one.
    Expire,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_endpoint_said_can_be_changed() {
        let accepted = Outcome::Accepted {
            provider_message_id: Some("its id".to_owned()),
            provider_message_date: Some("its date".to_owned()),
        };
        let shown = accepted.reworded(|text| text.replace("its", "[redacted]"));
        assert!(!format!("{shown:?}").contains("its"), "{shown:?}");
    }
}
