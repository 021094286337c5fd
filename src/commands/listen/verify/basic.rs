//! `CometChat`: Basic authentication.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_shared::domain::secret::Secret;
use subtle::ConstantTimeEq as _;

use super::Came;

/// What its secrets look like.
pub(super) const SECRET: &str = "user:password";

/// User and password are those of a secret.
pub(super) fn check(came: &Came<'_>, secrets: &[Secret]) -> Result<(), String> {
    let encoded = came
        .authorization("Basic ")
        .ok_or("there is no header Authorization: Basic and user:password in base64")?;
    let given = STANDARD
        .decode(encoded)
        .map_err(|_| "Authorization: Basic is not followed by base64")?;
    // Compared as one text: a password may have a colon in it, a user may not (RFC 7617).
    if secrets
        .iter()
        .any(|secret| secret.expose().as_bytes().ct_eq(&given).into())
    {
        return Ok(());
    }
    Err("user and password of Authorization: Basic do not match any --secret".to_owned())
}
