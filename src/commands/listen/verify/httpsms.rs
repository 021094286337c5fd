//! httpSMS: `Authorization: Bearer` and a JWT, HS256. It proves the sender; nothing in it binds the
//! body.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use posthaste_shared::domain::secret::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Came, is_hmac};

/// Who issues the tokens.
const ISSUER: &str = "api.httpsms.com";

#[derive(Deserialize)]
struct Head {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
}

/// The token's signature fits, it is of httpSMS, and of now.
pub(super) fn check(came: &Came<'_>, secrets: &[Secret]) -> Result<(), String> {
    let token = came
        .authorization("Bearer ")
        .ok_or("there is no header Authorization: Bearer and a JWT")?;
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        return Err(
            "the token is not a JWT: it must have three parts with dots between".to_owned(),
        );
    };
    let algorithm = part::<Head>(head, "header")?.alg;
    // Before the signature: a token that names another algorithm, or none, must not get further.
    if algorithm != "HS256" {
        return Err("the token's alg is not HS256".to_owned());
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| "the token's signature is not base64url")?;
    let signed = [head.as_bytes(), b".", claims.as_bytes()];
    if !secrets
        .iter()
        .any(|secret| is_hmac(secret.expose().trim().as_bytes(), &signed, &signature))
    {
        return Err("the token's signature does not match any --secret".to_owned());
    }
    // Only now: what is not signed is not believed.
    let claims: Claims = part(claims, "claims")?;
    let now = came.now.as_seconds();
    match claims {
        Claims { iss, .. } if iss.as_deref() != Some(ISSUER) => {
            Err(format!("the token's iss is not {ISSUER}"))
        }
        Claims { exp: None, .. } => Err("the token has no exp".to_owned()),
        Claims { exp: Some(exp), .. } if exp <= now => Err(format!(
            "the token expired {} s ago (exp)",
            now.saturating_sub(exp)
        )),
        Claims { nbf: Some(nbf), .. } if nbf > now => Err(format!(
            "the token is not valid for another {} s (nbf)",
            nbf.saturating_sub(now)
        )),
        _ => Ok(()),
    }
}

fn part<T: DeserializeOwned>(encoded: &str, what: &str) -> Result<T, String> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| format!("the token's {what} is not base64url"))?;
    serde_json::from_slice(&bytes)
        .map_err(|_| format!("the token's {what} is not the JSON that it must be"))
}
