//! The HTTP API's client for the commands. Errors come out as sentences that say what to do.

use std::time::Duration;

use posthaste_shared::config::{API_KEY_FILE, Config};
use posthaste_shared::domain::id::TenantId;
use posthaste_shared::domain::secret::Secret;
use posthaste_shared::domain::trace_context::TraceContext;
use posthaste_shared::tls;
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Failure, chain};
use crate::flags;

/// How long an answer of the API may take; the longest is `endpoint test`, which waits for the
/// endpoint (60 s at most).
const TIMEOUT: Duration = Duration::from_secs(90);

/// A stream ends when its reader has enough: a year is no limit.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How much is shown of an answer that is not one of the API's problems, in characters.
const MAX_SHOWN: usize = 200;

/// Speaks to the API.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    key: Option<Secret>,
    key_file: std::path::PathBuf,
    trace: Option<TraceContext>,
    tenant: Option<TenantId>,
    /// Problems name members, as the input does, and not flags.
    members: bool,
}

/// Why a request was not answered as hoped.
pub(crate) enum ApiError {
    /// Nothing answers at the address, or the connection broke.
    Unreachable(Failure),
    /// The API asks to try again later (503, 429), perhaps after a given time.
    Busy {
        /// How long to wait first, from the header `Retry-After`.
        retry_after: Option<Duration>,
        /// What the API said, as a failure of the command.
        failure: Failure,
    },
    /// Asking again will not help.
    Refused {
        /// The HTTP status of the answer.
        status: StatusCode,
        /// What the API said, as a failure of the command.
        failure: Failure,
    },
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unreachable(failure)
            | ApiError::Busy { failure, .. }
            | ApiError::Refused { failure, .. } => failure,
        }
    }
}

impl Client {
    /// A client for the API that the configuration names.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        let url = config.client.api_url.clone();
        let key = config.client.api_key.clone();
        let mut tls = tls::client_config()?;
        // reqwest offers HTTP/2 only in a TLS configuration of its own, and this one takes its
        // place.
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .user_agent(concat!("posthaste-cli/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .tls_backend_preconfigured(tls);
        // Over plain HTTP a proxy would read the key; and `HTTP_PROXY` is not meant for the API on
        // this machine.
        let http = if url.scheme() == "https" && !is_loopback(&url) {
            http
        } else {
            http.no_proxy()
        };
        let http = http.build()?;
        Ok(Self {
            http,
            url,
            key,
            key_file: config.data_dir.join(API_KEY_FILE),
            trace: None,
            tenant: None,
            members: false,
        })
    }

    /// The same client; its requests carry this trace context.
    pub(crate) fn in_trace(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// The same client; each of its requests names this tenant in its query.
    pub(crate) fn of_tenant(self, tenant: Option<TenantId>) -> Self {
        Self { tenant, ..self }
    }

    /// The same client; what it says of wrong members names them as the API does, for input that is
    /// JSON.
    pub(crate) fn naming_members(self, members: bool) -> Self {
        Self { members, ..self }
    }

    /// Where the API is.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// `GET`, with a query; members without a value are left out.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
    ) -> Result<T, ApiError> {
        self.send(self.http.get(self.with_query(path, query))).await
    }

    fn with_query(&self, path: &[&str], query: &[(&str, Option<String>)]) -> Url {
        let mut url = self.at(path);
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// A stream of Server-Sent Events, from the one after `after`, else from now. It has no end of
    /// its own.
    pub(crate) async fn open(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
        after: Option<i64>,
    ) -> Result<reqwest::Response, ApiError> {
        // The client's own timeout bounds an answer with its body, so it would cut the stream off.
        let mut request = self.http.get(self.with_query(path, query)).timeout(FOREVER);
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        self.exchange(request).await
    }

    /// `POST` with a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.send(self.http.post(self.at(path)).json(body)).await
    }

    /// [`Self::post`] with a query.
    pub(crate) async fn post_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.send(self.http.post(self.with_query(path, query)).json(body))
            .await
    }

    /// `PATCH` with a JSON body.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.send(self.http.patch(self.at(path)).json(body)).await
    }

    /// `PUT` with a JSON body.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.send(self.http.put(self.at(path)).json(body)).await
    }

    /// `DELETE`; the answer has no body.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<(), ApiError> {
        self.send::<Value>(self.http.request(Method::DELETE, self.at(path)))
            .await
            .map(drop)
    }

    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each segment is escaped by itself: an id with a slash in it stays one segment.
            segments.pop_if_empty().extend(path);
        }
        if let Some(tenant) = &self.tenant {
            url.query_pairs_mut().append_pair("tenant", tenant.as_str());
        }
        url
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = self.exchange(request).await?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        // DELETE is answered without a body, which is read as null.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("the answer of {} cannot be read: {error}", self.url);
            let hint = "is it Posthaste, and of the same version?";
            ApiError::Refused {
                status,
                failure: Failure::new(message).hint(hint),
            }
        })
    }

    /// The head of an answer that is not a refusal.
    async fn exchange(&self, request: RequestBuilder) -> Result<reqwest::Response, ApiError> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        };
        let request = match &self.trace {
            Some(trace) => request.header("traceparent", trace.to_string()),
            None => request,
        };
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        if status.is_success() {
            return Ok(response);
        }
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        // Only seconds are read, which is what the API sends; a date counts as no hint.
        let retry_after = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let failure = self.refusal(status, &body);
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            return Err(ApiError::Busy {
                retry_after: retry_after.map(Duration::from_secs),
                failure,
            });
        }
        Err(ApiError::Refused { status, failure })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        // A failed connect can be a time-out as well, and then the address is what to look at.
        let failure = if error.is_connect() {
            let message = format!("nothing answers at {}: {}", self.url, root(error));
            Failure::new(message).hint(
                "start `posthaste up` or `posthaste api`, or say where it is with --api-url \
                       or POSTHASTE_API_URL",
            )
        } else if error.is_timeout() {
            Failure::new(format!(
                "{} did not answer within {} s",
                self.url,
                TIMEOUT.as_secs()
            ))
        } else {
            Failure::new(chain(error))
        };
        ApiError::Unreachable(failure.code("unreachable"))
    }

    /// Problem details (RFC 9457) as sentences.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> Failure {
        let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let member = |name: &str| {
            problem
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let mut message = match (member("title"), member("detail")) {
            // The detail is a sentence by itself; the title only names its kind.
            (_, Some(text)) | (Some(text), None) => text.to_owned(),
            (None, None) => {
                let text: String = String::from_utf8_lossy(body)
                    .trim()
                    .chars()
                    .take(MAX_SHOWN)
                    .collect();
                format!(
                    "{} answered {status}{}{text}",
                    self.url,
                    if text.is_empty() { "" } else { ": " }
                )
            }
        };
        for error in problem
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let field = error
                .get("field")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let said = error
                .get("problem")
                .and_then(Value::as_str)
                .unwrap_or_default();
            // The detail mostly has the problems of all members already: only what it lacks is
            // added.
            if !message.contains(said) {
                message.push_str(&format!("\n  {field} {said}"));
            }
        }
        let message = if self.members {
            message
        } else {
            flags::named(&message)
        };
        let failure = Failure::new(message)
            .code(member("code").map_or_else(|| status.as_str().to_owned(), str::to_owned));
        match status {
            StatusCode::UNAUTHORIZED => failure.hint(self.key_hint()),
            StatusCode::FORBIDDEN => {
                failure.hint("use another key, or create one: posthaste key create --scope admin")
            }
            _ => failure,
        }
    }

    fn key_hint(&self) -> String {
        format!(
            "set POSTHASTE_API_KEY, or name its file with --api-key-file (looked for {}); \
             create a key with `posthaste key create`",
            self.key_file.display()
        )
    }
}

/// A URL as it is typed, with the scheme that was meant where it has none: `http` for this machine,
/// as for curl, else `https`, since a key goes there.
pub(crate) fn with_scheme(text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let plain = format!("http://{text}");
    match Url::parse(&plain) {
        Ok(url) if !is_loopback(&url) => format!("https://{text}"),
        _ => plain,
    }
}

/// Whether the API is on this machine, as far as its URL says.
pub(crate) fn is_loopback(url: &Url) -> bool {
    // By the URL alone, without a look-up: that could have another result when the request is sent.
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The innermost cause, which says what the operating system said.
fn root(error: &reqwest::Error) -> String {
    // The outer errors only say that a request to this URL failed; the innermost has the reason.
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    tls::reword(&text, error).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_needs_no_scheme() {
        for (typed, meant) in [
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("api.example.com", "https://api.example.com"),
            ("http://api.example.com", "http://api.example.com"),
        ] {
            assert_eq!(with_scheme(typed), meant);
        }
    }
}
