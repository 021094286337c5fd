//! Novu SMS: an API key in a header, whose name is configured.

use axum::http::{HeaderMap, HeaderName};
use posthaste_shared::domain::secret::Secret;
use subtle::ConstantTimeEq as _;

use super::Came;

/// What its secrets look like.
pub(super) const SECRET: &str = "the header, such as 'X-API-KEY: key-123'";

/// The name and the value of the header in a secret.
pub(super) fn read(text: &str) -> Option<(HeaderName, &str)> {
    let (name, value) = text.split_once(':')?;
    // The space tells a header from another secret with a colon in it, such as user:password.
    let value = value.strip_prefix(' ')?.trim();
    Some((HeaderName::try_from(name.trim()).ok()?, value)).filter(|(_, value)| !value.is_empty())
}

/// Whether the secret's header is there.
pub(super) fn shows(headers: &HeaderMap, secret: &Secret) -> bool {
    read(secret.expose()).is_some_and(|(name, _)| headers.contains_key(name))
}

/// The header of a secret has its value.
pub(super) fn check(came: &Came<'_>, secrets: &[Secret]) -> Result<(), String> {
    let mut missing = String::new();
    let mut other = None;
    for (name, value) in secrets.iter().filter_map(|secret| read(secret.expose())) {
        match came.headers.get(&name) {
            Some(given) if value.as_bytes().ct_eq(given.as_bytes()).into() => return Ok(()),
            // While a key is being rotated two secrets have the same header: the next may match.
            Some(_) => other = Some(format!("the value of {name} does not match any --secret")),
            None => missing = format!("there is no header {name}"),
        }
    }
    // A header with another value says more than one that is not there.
    Err(other.unwrap_or(missing))
}
