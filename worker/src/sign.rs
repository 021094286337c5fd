//! Puts a request together and signs it. [`SignedRequest`] can be made here only and is the only thing
//! that can be sent, so an unsigned request does not compile.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{REDACTED, looks_secret};
use url::Url;

use crate::wire::{self, Header, RenderError, Rendered, Subject};

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    shown: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl SignedRequest {
    /// The headers as they may be kept and shown.
    #[must_use]
    pub fn shown_headers(&self) -> &[(String, String)] {
        &self.shown
    }

    /// The body, as it goes out.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// An answer's text without the secrets that this request carried: some endpoints echo what they got.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

/// Signs a rendered request for one attempt at `now`. The endpoint's static headers come last and may
/// replace those of the wire format, but not its signature.
///
/// # Errors
/// When the secret cannot be used, or a header cannot be written.
pub fn sign(subject: &Subject<'_>, rendered: Rendered, now: Timestamp) -> Result<SignedRequest, RenderError> {
    let proof = wire::of(subject.endpoint.wire_format).sign(subject, &rendered, now)?;
    let fixed = subject.endpoint.confidential.headers.iter().map(|(name, value)| Header {
        name: name.clone(),
        value: value.clone(),
        sensitive: looks_secret(name),
    });
    let content_type = Header::open("content-type", rendered.content_type);
    let mut request = SignedRequest {
        url: subject.endpoint.url.clone(),
        headers: HeaderMap::new(),
        body: rendered.body,
        timeout: subject.endpoint.timeout,
        shown: Vec::new(),
        secrets: Vec::new(),
    };
    for header in std::iter::once(content_type).chain(rendered.headers).chain(fixed).chain(proof) {
        request.set(header)?;
    }
    Ok(request)
}

impl SignedRequest {
    fn set(&mut self, header: Header) -> Result<(), RenderError> {
        let problem =
            |problem: &str| RenderError { member: format!("headers.{}", header.name), problem: problem.to_owned() };
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| problem("is no header name"))?;
        let mut value =
            HeaderValue::from_str(header.value.expose()).map_err(|_| problem("has a value that no header can have"))?;
        value.set_sensitive(header.sensitive);
        self.shown.retain(|(shown, _)| !shown.eq_ignore_ascii_case(&header.name));
        let shown = if header.sensitive { REDACTED } else { header.value.expose() };
        self.shown.push((header.name.clone(), shown.to_owned()));
        // Too short to be a secret, and likely to be found by chance.
        if header.sensitive && header.value.expose().len() >= 6 {
            self.secrets.push(header.value.expose().to_owned());
        }
        self.headers.insert(name, value);
        Ok(())
    }
}
