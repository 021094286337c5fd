//! The cookie that names a session. Over TLS it has the prefix `__Host-`, which browsers take only
//! with `Secure`, for the whole host and from nowhere else; on loopback there is no TLS, so
//! neither.

use http::{HeaderMap, HeaderValue, header};

use crate::entry::origin::Scheme;

/// The longest id that is looked up. Ours have 43 characters.
const MAX_ID: usize = 64;

const fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Https => "__Host-posthaste",
        Scheme::Loopback => "posthaste",
    }
}

/// The session's id that a request came with.
pub(crate) fn read(headers: &HeaderMap, scheme: Scheme) -> Option<&str> {
    let name = name(scheme);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, id)| id);
    let id = found.next()?;
    // Of two, one was planted from a neighbouring host or path, and nobody can say which.
    if found.next().is_some() || id.is_empty() || id.len() > MAX_ID {
        return None;
    }
    Some(id)
}

/// The header that gives the browser a session.
pub(crate) fn set(id: &str, scheme: Scheme) -> Option<HeaderValue> {
    let secure = match scheme {
        Scheme::Https => "; Secure",
        Scheme::Loopback => "",
    };
    let name = name(scheme);
    HeaderValue::from_str(&format!(
        "{name}={id}; Path=/; HttpOnly; SameSite=Strict{secure}"
    ))
    .ok()
}

/// The header that takes it away again.
pub(crate) fn clear(scheme: Scheme) -> Option<HeaderValue> {
    let gone = set("", scheme)?;
    HeaderValue::from_str(&format!("{}; Max-Age=0", gone.to_str().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers
    }

    #[test]
    fn one_cookie_is_read_and_two_of_the_name_are_none() {
        let loopback = Scheme::Loopback;
        assert_eq!(read(&with("a=b; posthaste=x"), loopback), Some("x"));
        assert_eq!(read(&with("posthaste=x; posthaste=y"), loopback), None);
        assert_eq!(read(&with("__Host-posthaste=x"), loopback), None);
        assert_eq!(read(&with("posthaste=x"), Scheme::Https), None);
        assert_eq!(read(&with("__Host-posthaste=x"), Scheme::Https), Some("x"));
        assert_eq!(
            read(&with(&format!("posthaste={}", "x".repeat(65))), loopback),
            None
        );
    }

    #[test]
    fn it_is_secure_wherever_there_is_tls() {
        let text = |value: Option<HeaderValue>| value.unwrap().to_str().unwrap().to_owned();
        let strict = "Path=/; HttpOnly; SameSite=Strict";
        assert_eq!(
            text(set("x", Scheme::Loopback)),
            format!("posthaste=x; {strict}")
        );
        assert_eq!(
            text(set("x", Scheme::Https)),
            format!("__Host-posthaste=x; {strict}; Secure")
        );
        assert!(text(clear(Scheme::Https)).ends_with("; Secure; Max-Age=0"));
    }
}
