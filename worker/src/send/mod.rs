//! Sends a signed request: one guarded client for the process, one deadline over the whole exchange,
//! no redirects, an answer of bounded size. Every failure is a value.

mod phases;
mod resolver;
mod tls;

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use posthaste_shared::domain::attempt::{AttemptError, Phases};
use posthaste_shared::domain::retry::RetryOn;
use posthaste_shared::egress::{EgressPolicy, Refusal};
use url::Url;

use crate::wire::Reply;
use phases::{PhaseTimer, TimedConnect};
use resolver::GuardedResolver;

/// How much of an answer's body is read; what is beyond it is not waited for.
pub const READ_BODY_BYTES: usize = 64 * 1024;
/// How long an idle connection is kept: less than the 5 s after which Node's HTTP server closes one, so
/// that a request seldom meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for each host: an endpoint's default `max_in_flight`.
const IDLE_PER_HOST: usize = 32;

/// The process's HTTP client.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    egress: Arc<EgressPolicy>,
}

/// A request as it goes out. Deliveries make it of a signed request only; scripts make their own.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// For the whole exchange.
    pub(crate) timeout: Duration,
}

/// What came of sending, with where the time went.
#[derive(Debug)]
pub struct Exchange {
    /// The answer, or why there is none.
    pub result: Result<Reply, SendError>,
    /// The whole exchange.
    pub duration: Duration,
    /// Its parts.
    pub phases: Phases,
    /// The address that was called.
    pub address: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// The egress policy forbids the address; nothing was sent.
    Blocked(Refusal),
    /// No complete answer in time.
    Timeout(Duration),
    /// DNS, connection or TLS failure, or an answer that is no HTTP.
    Network(AttemptError),
}

impl SendError {
    /// In words.
    #[must_use]
    pub fn error(&self) -> AttemptError {
        match self {
            Self::Blocked(refusal) => AttemptError { code: refusal.code().to_owned(), text: refusal.to_string() },
            Self::Timeout(limit) => AttemptError {
                code: "timeout".to_owned(),
                text: format!("no complete answer within {} ms", limit.as_millis()),
            },
            Self::Network(error) => error.clone(),
        }
    }

    /// The kind that a policy may retry; `None` for what is final.
    #[must_use]
    pub const fn retry_kind(&self) -> Option<RetryOn> {
        match self {
            Self::Blocked(_) => None,
            Self::Timeout(_) => Some(RetryOn::Timeout),
            Self::Network(_) => Some(RetryOn::Network),
        }
    }
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The system's trusted certificates cannot be used.
    #[error("the TLS set-up cannot be used")]
    Tls(#[from] rustls::Error),
    /// Another part of the client.
    #[error("the HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
}

impl Sender {
    /// A client that calls what `egress` allows.
    ///
    /// # Errors
    /// When the system's trusted certificates cannot be used.
    pub fn new(egress: EgressPolicy) -> Result<Self, SenderError> {
        let egress = Arc::new(egress);
        let client = reqwest::Client::builder()
            .user_agent(concat!("Posthaste/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            // As Go and most others write them on HTTP/1.1: X-Event-Type. Their case has no meaning.
            .http1_title_case_headers()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .tls_backend_preconfigured(tls::client_config()?)
            .dns_resolver(GuardedResolver::new(Arc::clone(&egress)))
            .connector_layer(TimedConnect)
            .build()?;
        Ok(Self { client, egress })
    }

    /// Sends the request and reads the answer, all within its timeout.
    pub(crate) async fn exchange(&self, request: Outgoing) -> Exchange {
        let (limit, address) = (request.timeout, literal(&request.url));
        let timer = PhaseTimer::start();
        let begun = Instant::now();
        // A name is checked when it is resolved; an address that stands for itself never is, so here.
        let result = match self.egress.check_url(&request.url) {
            Err(refusal) => Err(SendError::Blocked(refusal)),
            Ok(()) => {
                let exchange = timer.scope(self.call(request, &timer));
                match tokio::time::timeout(limit, exchange).await {
                    Ok(result) => result,
                    Err(_) => Err(SendError::Timeout(limit)),
                }
            }
        };
        let address = timer.address().or(address);
        Exchange { result, duration: begun.elapsed(), phases: timer.phases(), address }
    }

    async fn call(&self, request: Outgoing, timer: &PhaseTimer) -> Result<Reply, SendError> {
        let response = self
            .client
            .request(request.method, request.url)
            .headers(request.headers)
            .body(request.body)
            .send()
            .await
            .map_err(|error| explain(&error))?;
        timer.answered(response.remote_addr());
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read_body(response).await?;
        timer.finished();
        Ok(Reply { status, headers, body })
    }
}

/// Reads up to [`READ_BODY_BYTES`]; a longer body is cut, and its connection given up.
async fn read_body(mut response: reqwest::Response) -> Result<Bytes, SendError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(&error))? {
        let room = READ_BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == READ_BODY_BYTES {
            break;
        }
    }
    Ok(body.freeze())
}

fn literal(url: &url::Url) -> Option<String> {
    let address: IpAddr = match url.host()? {
        url::Host::Ipv4(address) => address.into(),
        url::Host::Ipv6(address) => address.into(),
        url::Host::Domain(_) => return None,
    };
    Some(std::net::SocketAddr::new(address, url.port_or_known_default()?).to_string())
}

/// Finds out what is behind an error of the client, by the types in its chain of causes.
fn explain(error: &reqwest::Error) -> SendError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    let mut last = error.to_string();
    while let Some(current) = cause {
        if let Some(refusal) = current.downcast_ref::<Refusal>() {
            return match refusal {
                Refusal::Unresolvable { .. } => network("dns", refusal.to_string()),
                _ => SendError::Blocked(refusal.clone()),
            };
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return network("tls", format!("TLS: {tls}"));
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            if let Some(inner) = io.get_ref() {
                last = io.to_string();
                cause = Some(inner);
                continue;
            }
            return network(io_code(io.kind()), io.to_string());
        }
        last = current.to_string();
        cause = current.source();
    }
    network(if error.is_connect() { "connect" } else { "protocol" }, last)
}

fn network(code: &str, text: String) -> SendError {
    SendError::Network(AttemptError { code: code.to_owned(), text })
}

const fn io_code(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "connection_reset"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::UnexpectedEof => "connection_closed",
        _ => "network",
    }
}
