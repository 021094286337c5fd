//! Novu push and Authgear: the HMAC-SHA256 of the body in a header, in lower-case hex.

use posthaste_shared::domain::secret::Secret;

use super::{Came, is_hmac};

/// The header of Novu.
pub(super) const NOVU: &str = "x-novu-signature";
/// The header of Authgear.
pub(super) const AUTHGEAR: &str = "x-authgear-body-signature";

/// The header fits the body.
pub(super) fn check(came: &Came<'_>, header: &str, secrets: &[Secret]) -> Result<(), String> {
    let signature = came.header(header)?;
    // Receivers compare texts, so upper case is wrong.
    let digits = decoded(signature).filter(|digits| digits.len() == 32);
    let signature = digits.ok_or_else(|| format!("{header} is not 64 lower-case hex digits"))?;
    if secrets
        .iter()
        .any(|secret| is_hmac(secret.expose().as_bytes(), &[came.body], &signature))
    {
        return Ok(());
    }
    Err(format!(
        "the signature does not match: {header} is not the HMAC-SHA256 of this body by a --secret"
    ))
}

fn decoded(hex: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    hex.as_bytes()
        .chunks(2)
        .map(|pair| Some(digit(pair[0])? * 16 + digit(*pair.get(1)?)?))
        .collect()
}
