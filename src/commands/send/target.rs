//! Where notifications are sent: the API, or the broker itself.

use std::sync::Arc;
use std::time::Duration;

use posthaste_producer::enqueue::{accept, publish};
use posthaste_shared::broker::{Broker, BrokerError};
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::notification::NotificationDraft;
use posthaste_shared::domain::trace_context::TraceContext;
use serde_json::Value;

use crate::client::{ApiError, Client};
use crate::failure::Failure;
use crate::output::text;

/// The two ways in.
pub(super) enum Target {
    /// The HTTP API, through its client.
    Api(Client),
    /// The broker; the trace context goes with what is published.
    Broker(Arc<dyn Broker>, Option<TraceContext>),
}

/// One notification of the input.
#[derive(Clone)]
pub(super) struct Item {
    /// Which line it stood on; 0: it came from flags.
    pub(super) line: u64,
    /// What it says; has an id.
    pub(super) draft: NotificationDraft,
}

/// The outcome for one item.
pub(super) enum Answer {
    /// The notification is accepted and durable.
    Accepted {
        /// When the notification was accepted.
        accepted_at: String,
        /// Whether it had been accepted before.
        deduplicated: bool,
    },
    /// The notification is refused; sending it again does not help.
    Rejected {
        /// The API's code for the kind of problem.
        code: String,
        /// What is wrong with the notification.
        why: String,
    },
    /// It cannot be accepted now; a later try may succeed.
    Later {
        /// What the other side said.
        why: String,
        /// How long to wait first.
        retry_after: Option<Duration>,
    },
}

impl Target {
    /// Sends items at once. Answers in order.
    ///
    /// # Errors
    /// What makes sending anything at all pointless: a wrong key, or nothing that answers.
    pub(super) async fn send(&self, items: &[Item]) -> Result<Vec<Answer>, ApiError> {
        match self {
            Self::Api(client) => send_to_api(client, items).await,
            Self::Broker(broker, trace) => Ok(send_to_broker(broker.as_ref(), *trace, items).await),
        }
    }

    /// Where it goes, for messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Api(client) => format!("the API at {}", client.url()),
            Self::Broker(..) => "the broker".to_owned(),
        }
    }

    /// Lets go of connections.
    pub(super) async fn close(&self) {
        if let Self::Broker(broker, _) = self {
            broker.close().await;
        }
    }
}

async fn send_to_api(client: &Client, items: &[Item]) -> Result<Vec<Answer>, ApiError> {
    // A list, not lines: what was given on the command line may have line breaks in it.
    let drafts: Vec<&NotificationDraft> = items.iter().map(|item| &item.draft).collect();
    let answer: Value = client
        .post(&["v1", "notifications", "batch"], &drafts)
        .await?;
    let results = crate::output::items(&answer);
    // Results belong to items by their place: with another number none could be trusted.
    if results.len() != items.len() {
        let message = format!(
            "the API answered {} results for {} notifications",
            results.len(),
            items.len()
        );
        return Err(ApiError::Unreachable(Failure::new(message)));
    }
    Ok(results.iter().map(read_result).collect())
}

fn read_result(result: &Value) -> Answer {
    match result.get("error").filter(|error| !error.is_null()) {
        None => Answer::Accepted {
            accepted_at: text(result, "accepted_at"),
            deduplicated: result
                .get("deduplicated")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        },
        Some(error) => {
            let mut why = text(error, "detail");
            for field in error
                .get("errors")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let said = format!("{} {}", text(field, "field"), text(field, "problem"));
                if !why.contains(&text(field, "problem")) {
                    why = format!("{why}; {said}");
                }
            }
            // These two pass by themselves; anything else would be refused again.
            let later = error
                .get("status")
                .and_then(Value::as_u64)
                .is_some_and(|status| status == 503 || status == 429);
            if later {
                Answer::Later {
                    why,
                    retry_after: None,
                }
            } else {
                Answer::Rejected {
                    code: text(error, "code"),
                    why,
                }
            }
        }
    }
}

async fn send_to_broker(
    broker: &dyn Broker,
    trace: Option<TraceContext>,
    items: &[Item],
) -> Vec<Answer> {
    let now = SystemClock.now();
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(items.len());
    let mut good = Vec::new();
    for item in items {
        let tenant = item.draft.tenant.clone().unwrap_or_default();
        match accept(
            item.draft.clone(),
            tenant,
            now,
            trace.map(|trace| trace.to_string()),
        ) {
            Ok(notification) => {
                good.push(notification);
                answers.push(None);
            }
            Err(error) => answers.push(Some(Answer::Rejected {
                code: "invalid".to_owned(),
                why: error.to_string(),
            })),
        }
    }
    // Confirms are in the order of what was published; items that were refused have their answer.
    let mut confirms = publish(broker, good).await.into_iter();
    let settle = |answer: Option<Answer>| {
        answer.unwrap_or_else(|| match confirms.next() {
            Some(Ok(accepted)) => Answer::Accepted {
                accepted_at: accepted.accepted_at.to_string(),
                deduplicated: false,
            },
            Some(Err(error @ (BrokerError::Unavailable(_) | BrokerError::Refused(_)))) => {
                Answer::Later {
                    why: error.to_string(),
                    retry_after: None,
                }
            }
            Some(Err(error)) => Answer::Rejected {
                code: "refused".to_owned(),
                why: error.to_string(),
            },
            // Sent again rather than lost: its id keeps it from being delivered twice.
            None => Answer::Later {
                why: "the broker gave no answer".to_owned(),
                retry_after: None,
            },
        })
    };
    answers.into_iter().map(settle).collect()
}
