//! One notification from flags.

use std::time::Duration;

use clap::Args;
use posthaste_shared::domain::id::{EndpointId, NotificationId, NotificationType, TenantId};
use posthaste_shared::domain::notification::{NotificationDraft, Priority};
use posthaste_shared::domain::raw_json::RawJson;
use posthaste_shared::domain::time::Timestamp;

use crate::failure::Failure;
use crate::when;

/// The members of a notification as flags.
#[derive(Debug, Args)]
pub(super) struct DraftFlags {
    /// The type of the notification, such as order.paid
    #[arg(long = "type", value_name = "TYPE", requires = "payload")]
    kind: Option<NotificationType>,
    /// The payload: JSON, or @FILE (@- for stdin)
    #[arg(long, value_name = "JSON", requires = "kind")]
    payload: Option<String>,
    /// The one endpoint to deliver to [default: every enabled endpoint whose subscription matches]
    #[arg(long, value_name = "ID", requires = "kind")]
    endpoint: Option<EndpointId>,
    /// The tenant that owns the notification [default: the key's tenant, else default]
    #[arg(long, requires = "kind")]
    tenant: Option<TenantId>,
    /// The id of the notification; the same id is delivered once [default: a UUIDv7]
    #[arg(long, requires = "kind")]
    id: Option<NotificationId>,
    /// What the wire formats need beside the payload, such as a phone number: a JSON object, or
    /// @FILE
    #[arg(long, value_name = "JSON", requires = "kind")]
    recipient: Option<String>,
    /// Deliver no earlier than this long from now, such as 1h [default: at once]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = when::duration,
        requires = "kind",
        conflicts_with = "deliver_at"
    )]
    delay: Option<Duration>,
    /// Deliver no earlier than at this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = when::time, requires = "kind")]
    deliver_at: Option<Timestamp>,
    /// Let it expire this long from now, such as 10m [default: never]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = when::duration,
        requires = "kind",
        conflicts_with = "expires_at"
    )]
    ttl: Option<Duration>,
    /// Let it expire at this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = when::time, requires = "kind")]
    expires_at: Option<Timestamp>,
    /// Priority: high goes before normal, if the broker supports priorities [default: normal]
    #[arg(long, value_parser = ["normal", "high"], requires = "kind")]
    priority: Option<String>,
    /// Overrides for single wire formats: a JSON object, or @FILE
    #[arg(long, value_name = "JSON", requires = "kind")]
    overrides: Option<String>,
}

impl DraftFlags {
    /// Whether a notification was given.
    pub(super) fn is_given(&self) -> bool {
        self.kind.is_some()
    }

    /// The notification that the flags describe.
    pub(super) fn read(self) -> Result<NotificationDraft, Failure> {
        // clap requires each with the other; this names both should only one be there.
        let (Some(kind), Some(payload)) = (self.kind, self.payload) else {
            return Err(Failure::wrong_use(
                "a notification needs --type and --payload",
            ));
        };
        let mut draft = NotificationDraft::new(kind, raw("--payload", &payload)?);
        draft.id = self.id;
        draft.tenant = self.tenant;
        draft.endpoint_id = self.endpoint;
        draft.recipient = self
            .recipient
            .as_deref()
            .map(|text| raw("--recipient", text))
            .transpose()?;
        draft.overrides = self
            .overrides
            .as_deref()
            .map(|text| raw("--overrides", text))
            .transpose()?;
        draft.delay_seconds = self.delay.map(|delay| delay.as_secs_f64());
        draft.deliver_at = self.deliver_at;
        draft.ttl_seconds = self.ttl.map(|ttl| ttl.as_secs_f64());
        draft.expires_at = self.expires_at;
        draft.priority = self.priority.map(|word| {
            if word == "high" {
                Priority::High
            } else {
                Priority::Normal
            }
        });
        Ok(draft)
    }
}

/// JSON from a flag, byte for byte: the value itself, or `@FILE`.
fn raw(flag: &str, text: &str) -> Result<RawJson, Failure> {
    // Kept as text: read into a value, 1.0e2 would become 100.0, and a payload is delivered byte
    // for byte.
    let content = match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some("-") => std::io::read_to_string(std::io::stdin()),
        Some(path) => std::fs::read_to_string(path),
    };
    let content = content
        .map_err(|error| Failure::wrong_use(format!("{flag}: {text} cannot be read: {error}")))?;
    // The newline at the end of a file is not part of the value.
    RawJson::parse(content.trim().to_owned()).map_err(|error| {
        Failure::wrong_use(format!("{flag} is not JSON: {error}")).hint(
            "texts need quotes: --payload '\"hello\"'; a file is named with @: --payload \
                   @order.json",
        )
    })
}
