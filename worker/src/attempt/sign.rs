//! Puts a request together and signs it. [`SignedRequest`] can be created here only and is the only
//! thing that can be sent, so an unsigned request does not compile.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use posthaste_shared::domain::time::Timestamp;
use posthaste_shared::domain::view::{REDACTED, is_harmless_header};
use url::Url;

use crate::attempt::redact::Secrets;
use crate::send::{Outgoing, Reading};
use crate::wire::settings::common_headers;
use crate::wire::{self, Header, Preflight, RenderError, Rendered, Subject};

/// The most of a message that is kept, in bytes: what an answer or a script says of a failure.
const LONGEST_TEXT: usize = 16 * 1024;

/// The scheme of what stands for the URL where a script is called.
const SCRIPT_SCHEME: &str = "script";

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    shown: Vec<(String, String)>,
    secrets: Secrets,
}

impl SignedRequest {
    /// The HTTP method, such as `POST`; `SCRIPT` where a script is called in place of a request.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Whether a script is called, and no request is sent.
    #[must_use]
    pub fn calls_script(&self) -> bool {
        self.url.scheme() == SCRIPT_SCHEME
    }

    /// The URL that the request goes to, with its query. It may hold secrets: show
    /// [`Self::shown_url`].
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Where it goes as it may be shown: without a name and a password, and without the values in
    /// its query, any of which may be secret.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let mut shown = self.url.clone();
        // An error: it can have none.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        if shown.query().is_none() {
            return shown.to_string();
        }
        // Names are kept: they tell an operator which parameters were sent.
        let names: Vec<String> = self
            .url
            .query_pairs()
            .map(|(name, _)| name.into_owned())
            .collect();
        shown
            .query_pairs_mut()
            .clear()
            .extend_pairs(names.iter().map(|name| (name, REDACTED)));
        shown.to_string()
    }

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

    /// The request as it goes out, with what is left of the attempt's limit.
    pub(crate) fn outgoing(&self, left: Duration, limit: Duration, reading: Reading) -> Outgoing {
        Outgoing {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            timeout: left,
            limit,
            reading,
        }
    }

    /// An answer's text, up to 16 KiB of it, without the secrets that this request carried: some
    /// endpoints echo what they got.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        self.secrets.redact(text, LONGEST_TEXT)
    }

    /// The first `most` bytes of an answer's text, without the secrets.
    #[must_use]
    pub fn beginning_without_secrets(&self, text: &str, most: usize) -> String {
        self.secrets.redact(text, most)
    }
}

/// Signs a rendered request for one attempt at `now`. The endpoint's static headers may replace
/// those of the wire format; `added` are those that the endpoint's transform and a preflight
/// request brought, and replace static ones. None replaces the signature.
///
/// # Errors
/// When the secret cannot be used, or a header cannot be written.
pub fn sign(
    subject: &Subject<'_>,
    rendered: Rendered,
    added: Vec<Header>,
    now: Timestamp,
) -> Result<SignedRequest, RenderError> {
    let proof = wire::of(subject.endpoint.wire_format).sign(subject, &rendered, now)?;
    let fixed = subject
        .endpoint
        .confidential
        .headers
        .iter()
        .map(|(name, value)| Header {
            name: name.clone(),
            value: value.clone(),
            sensitive: !is_harmless_header(name),
        });
    let content_type = Header::open("content-type", rendered.content_type);
    let url = rendered.url.unwrap_or_else(|| subject.endpoint.url.clone());
    // The order is the precedence, because a later header replaces an earlier one of the same name.
    // The signature comes last, so nothing replaces it.
    let headers = std::iter::once(content_type)
        .chain(rendered.headers)
        .chain(common_headers(subject)?)
        .chain(fixed)
        .chain(added)
        .chain(proof);
    let mut request = SignedRequest::new(Method::POST, url, headers, rendered.body)?;
    // It was not sent; a receiver has it all the same, and may say which one it checked with.
    for signing in &subject.endpoint.confidential.secrets {
        request.secrets.add_signing(signing.secret.expose());
    }
    Ok(request)
}

/// The request that goes out before a delivery's own.
///
/// # Errors
/// When a header cannot be written.
pub fn ask_first(preflight: Preflight) -> Result<SignedRequest, RenderError> {
    // The client leaves it out where there is no body; some servers refuse a POST without (RFC
    // 9110, section 8.6).
    let length = (preflight.method == Method::POST).then(|| Header::open("content-length", "0"));
    SignedRequest::new(
        preflight.method,
        preflight.url,
        preflight.headers.into_iter().chain(length),
        Bytes::new(),
    )
}

/// What stands for the request where a script is called with `argument`. It is shown, never sent.
pub(crate) fn script_call(argument: Bytes) -> SignedRequest {
    #[expect(
        clippy::expect_used,
        reason = "letters alone are a method (RFC 9110, section 9.1)"
    )]
    let method = Method::from_bytes(b"SCRIPT").expect("a method");
    #[expect(clippy::expect_used, reason = "a scheme and its colon are a URL")]
    let url = Url::parse(&format!("{SCRIPT_SCHEME}:")).expect("a URL");
    SignedRequest {
        method,
        url,
        headers: HeaderMap::new(),
        body: argument,
        shown: Vec::new(),
        secrets: Secrets::default(),
    }
}

impl SignedRequest {
    fn new(
        method: Method,
        url: Url,
        headers: impl IntoIterator<Item = Header>,
        body: Bytes,
    ) -> Result<Self, RenderError> {
        let mut request = Self {
            method,
            url,
            headers: HeaderMap::new(),
            body,
            shown: Vec::new(),
            secrets: Secrets::default(),
        };
        for header in headers {
            request.set(header)?;
        }
        // Any value of a query may be a secret, and answers often echo the URL.
        for (_, value) in request.url.query_pairs() {
            request.secrets.add(&value);
        }
        Ok(request)
    }

    fn set(&mut self, header: Header) -> Result<(), RenderError> {
        let problem = |problem: &str| RenderError::new(format!("headers.{}", header.name), problem);
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| problem("is not a header name"))?;
        let mut value = HeaderValue::from_str(header.value.expose())
            .map_err(|_| problem("has a value that no header can have"))?;
        // Keeps the value out of the compression tables of HTTP/2 and out of `Debug`.
        value.set_sensitive(header.sensitive);
        // What is replaced must not be shown beside what replaced it.
        if self.headers.contains_key(&name) {
            self.shown
                .retain(|(shown, _)| !shown.eq_ignore_ascii_case(&header.name));
        }
        let shown = if header.sensitive {
            REDACTED
        } else {
            header.value.expose()
        };
        self.shown.push((header.name.clone(), shown.to_owned()));
        if header.sensitive {
            self.secrets.add_header(header.value.expose());
        }
        self.headers.insert(name, value);
        Ok(())
    }
}
