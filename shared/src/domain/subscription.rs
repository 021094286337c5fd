//! Which notifications an endpoint wants.

use serde::{Deserialize, Serialize};

use super::id::NotificationType;

/// An endpoint's filter. An empty list lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Exact types (`message.phone.received`), prefixes (`message.*`, any depth) or `*`. Empty:
    /// every type that a producer sends. Posthaste's own events need a pattern that names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1_000)]
    pub types: Vec<TypePattern>,
    /// Phone numbers in E.164, compared as exact texts with the notification's
    /// `recipient.phone_number`, or else with `owner` in the payload. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = phone_numbers)]
    pub phone_numbers: Vec<String>,
}

/// The schema of [`Subscription::phone_numbers`].
fn phone_numbers() -> utoipa::openapi::schema::Array {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
    let number = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r"^\+?[0-9]{3,15}$"));
    let described = "Phone numbers in E.164, compared as exact texts with the notification's \
                     `recipient.phone_number`, \
                     or else with `owner` in the payload. Empty: any.";
    ArrayBuilder::new()
        .items(number)
        .max_items(Some(1_000))
        .description(Some(described))
        .build()
}

/// One entry of [`Subscription::types`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TypePattern {
    /// `*`: notifications of every type.
    Any,
    /// `message.*`, of which `message.` is kept.
    Prefix(String),
    /// `message.phone.received`: exactly this type.
    Exact(NotificationType),
}

/// A text that is not a pattern.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a type (order.paid), a prefix (order.*) nor *")]
pub struct InvalidPattern(String);

impl utoipa::PartialSchema for TypePattern {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(
                "A type (`message.phone.received`), a prefix (`message.*`, any depth) or `*`.",
            ))
            .pattern(Some(r"^(\*|[A-Za-z0-9_.:/-]*\.\*|[A-Za-z0-9_.:/-]+)$"))
            .min_length(Some(1))
            .max_length(Some(128))
            .into()
    }
}

impl utoipa::ToSchema for TypePattern {}

impl TypePattern {
    /// Parses one pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] when the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.chars().take(64).collect());
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Any),
            // Whole segments alone, so that `order*` does not take `orders.eu` along.
            Some(prefix) if prefix.ends_with('.') => match NotificationType::parse(prefix) {
                Ok(_) => Ok(Self::Prefix(prefix.to_owned())),
                Err(_) => Err(invalid()),
            },
            Some(_) => Err(invalid()),
            None => NotificationType::parse(text)
                .map(Self::Exact)
                .map_err(|_| invalid()),
        }
    }

    fn matches(&self, kind: &NotificationType) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => kind.as_str().starts_with(prefix.as_str()),
            Self::Exact(exact) => exact == kind,
        }
    }
}

impl TryFrom<String> for TypePattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        Self::parse(&text)
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> Self {
        match pattern {
            TypePattern::Any => "*".to_owned(),
            TypePattern::Prefix(prefix) => format!("{prefix}*"),
            TypePattern::Exact(kind) => kind.into(),
        }
    }
}

impl Subscription {
    /// Whether a producer's notification of this type and phone number is wanted.
    #[must_use]
    pub fn wants(&self, kind: &NotificationType, phone_number: Option<&str>) -> bool {
        let type_wanted =
            self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(kind));
        // A notification without a number matches no list of numbers: whoever asks for some does
        // not want what belongs to nobody.
        let phone_wanted = self.phone_numbers.is_empty()
            || phone_number
                .is_some_and(|number| self.phone_numbers.iter().any(|wanted| wanted == number));
        type_wanted && phone_wanted
    }

    /// Whether one of Posthaste's own events is wanted. These must be asked for by name
    /// (`delivery.failed`, `delivery.*`): an endpoint that takes "everything" gets what producers
    /// send.
    #[must_use]
    pub fn wants_event(&self, kind: &NotificationType) -> bool {
        self.types
            .iter()
            // `*` means all of the tenant's notifications. An endpoint that has had it for years
            // must not get events because Posthaste learned to send them.
            .any(|pattern| !matches!(pattern, TypePattern::Any) && pattern.matches(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(types: &[&str], phones: &[&str]) -> Subscription {
        Subscription {
            types: types
                .iter()
                .map(|text| TypePattern::parse(text).unwrap())
                .collect(),
            phone_numbers: phones.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn kind(text: &str) -> NotificationType {
        NotificationType::parse(text).unwrap()
    }

    #[test]
    fn types_match_exactly_or_by_prefix() {
        let subscribed = subscription(&["message.phone.*", "call.missed"], &[]);
        assert!(subscribed.wants(&kind("message.phone.received"), None));
        assert!(subscribed.wants(&kind("call.missed"), None));
        assert!(!subscribed.wants(&kind("message.phonebook"), None));
        assert!(!subscribed.wants(&kind("call.missed.twice"), None));
        assert!(subscription(&[], &[]).wants(&kind("anything"), None));
    }

    #[test]
    fn phone_numbers_are_compared_as_exact_texts() {
        let subscribed = subscription(&[], &["+18005550199"]);
        assert!(subscribed.wants(&kind("a"), Some("+18005550199")));
        assert!(!subscribed.wants(&kind("a"), Some("18005550199")));
        assert!(!subscribed.wants(&kind("a"), None));
    }

    #[test]
    fn own_events_must_be_asked_for_by_name() {
        assert!(!subscription(&[], &[]).wants_event(&kind("delivery.failed")));
        assert!(!subscription(&["*"], &[]).wants_event(&kind("delivery.failed")));
        assert!(subscription(&["delivery.*"], &[]).wants_event(&kind("delivery.failed")));
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        for text in ["", "message*", "*.message", "a b", ".*.*"] {
            assert!(TypePattern::parse(text).is_err(), "{text}");
        }
    }
}
