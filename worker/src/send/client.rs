//! The HTTP client: which connection a request goes out on, and when it goes out once more within
//! the same attempt because the receiver cannot have seen it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, Entry, HeaderValue, USER_AGENT};
use http::uri::Authority;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client as Pooled, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use posthaste_shared::domain::hops;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::tls;
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Known;
use super::connector::{Connector, late};
use super::dial::{Dial, Tcp};
use super::error::{SendError, causes, explain};
use super::timer::{Stage, Timer};
use super::{MAX_HEAD_BYTES, MAX_HEADERS, Outgoing};

/// The most interim answers (1xx) before the answer. None is due: each is a line more than anybody
/// needs.
const MAX_INTERIM: u32 = 32;
/// How long an idle connection is kept: less than the 5 s after which Node's HTTP server closes
/// one, so that a request seldom meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for each host: an endpoint's default `max_in_flight`.
const IDLE_PER_HOST: usize = 32;
/// How much of one answer, and of all on one connection, HTTP/2 may send before it is read. It
/// bounds memory.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How long a host that refused HTTP/2 is spoken to on HTTP/1.1 alone.
const HTTP1_ONLY_FOR: Duration = Duration::from_secs(600);
/// The most hosts that are remembered so.
const HTTP1_ONLY_HOSTS: usize = 10_000;

type Http = Pooled<Connector, Full<Bytes>>;

/// The process's HTTP client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    any: Versions,
    http1: Versions,
    http1_only: Arc<Mutex<HashMap<Authority, Instant>>>,
}

/// A client that offers certain versions of HTTP.
#[derive(Debug, Clone)]
struct Versions {
    /// Keeps idle connections for later requests.
    kept: Http,
    /// Opens a connection for each request.
    fresh: Http,
}

/// Why a request has no answer, and what may be done about that within the attempt.
struct Failed {
    error: SendError,
    remedy: Remedy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing: the receiver may have seen it.
    Nothing,
    /// Once more, on a connection of its own: the receiver cannot have seen it, or not as far as
    /// anybody can tell from a connection that was closed while it lay idle.
    FreshConnection,
    /// On HTTP/1.1: the receiver said so, and did nothing.
    Http1,
}

impl Client {
    /// A client that calls what `egress` allows, and looks names up with `resolver`.
    ///
    /// # Errors
    /// When the system's trusted certificates cannot be used.
    pub(super) fn new(
        egress: &Arc<EgressPolicy>,
        resolver: &Resolver,
    ) -> Result<Self, rustls::Error> {
        let tcp: Arc<dyn Dial> = Arc::new(Tcp);
        Ok(Self::with(egress, resolver, &tcp, tls::client_config()?))
    }

    /// The same with connections of its own kind and a set-up of TLS, whose protocols (ALPN) are
    /// set here.
    pub(super) fn with(
        egress: &Arc<EgressPolicy>,
        resolver: &Resolver,
        dialer: &Arc<dyn Dial>,
        tls: ClientConfig,
    ) -> Self {
        let versions = |offered: &[&[u8]]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = offered.iter().map(|version| version.to_vec()).collect();
            let connector = Connector::new(
                Arc::clone(egress),
                resolver.clone(),
                Arc::clone(dialer),
                Arc::new(tls),
            );
            Versions {
                kept: http(IDLE_PER_HOST, connector.clone()),
                fresh: http(0, connector),
            }
        };
        Self {
            any: versions(&[b"h2", b"http/1.1"]),
            http1: versions(&[b"http/1.1"]),
            http1_only: Arc::default(),
        }
    }

    /// Sends the request and waits for the answer's head. It goes out again where no receiver can
    /// have acted on it: once on a connection of its own, and once on HTTP/1.1.
    pub(super) async fn send(
        &self,
        outgoing: &Outgoing,
        timer: &Timer,
    ) -> Result<Response<Incoming>, SendError> {
        let uri: Uri = outgoing
            .url
            .as_str()
            .parse()
            .map_err(|error: http::uri::InvalidUri| {
                SendError::network("invalid_url", format!("the URL cannot be called: {error}"))
            })?;
        let mut http1 = self.is_http1_only(&uri);
        let mut fresh = false;
        loop {
            let versions = if http1 { &self.http1 } else { &self.any };
            let client = if fresh {
                &versions.fresh
            } else {
                &versions.kept
            };
            let failed = match once(client, request(outgoing, uri.clone()), outgoing, timer).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match failed.remedy {
                // Once only: a fresh connection cannot have been closed while it lay idle.
                Remedy::FreshConnection if !fresh => fresh = true,
                Remedy::Http1 if !http1 => {
                    // Remembered, or each request would be refused once on HTTP/2 first.
                    self.remember_http1_only(&uri);
                    http1 = true;
                }
                _ => return Err(failed.error),
            }
        }
    }

    fn is_http1_only(&self, uri: &Uri) -> bool {
        let hosts = self
            .http1_only
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let since = uri.authority().and_then(|authority| hosts.get(authority));
        since.is_some_and(|since| since.elapsed() < HTTP1_ONLY_FOR)
    }

    fn remember_http1_only(&self, uri: &Uri) {
        let Some(authority) = uri.authority() else {
            return;
        };
        let mut hosts = self
            .http1_only
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HTTP1_ONLY_HOSTS {
            hosts.retain(|_, since| since.elapsed() < HTTP1_ONLY_FOR);
        }
        // A full map forgets no host that is still refused; a further one pays for the detour each
        // time.
        if hosts.len() < HTTP1_ONLY_HOSTS {
            hosts.insert(authority.clone(), Instant::now());
        }
    }
}

fn http(idle_per_host: usize, connector: Connector) -> Http {
    Pooled::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle_per_host)
        // As Go and most others write them on HTTP/1.1: X-Event-Type. Their case has no meaning.
        .http1_title_case_headers(true)
        // What the status says counts, also where a line of the head is amiss: a folded one (RFC
        // 9112, section 5.2, wants it read), a space before the colon, or one that is no header.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MAX_HEADERS)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http2_max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector)
}

/// The request as it goes out. What every request carries gives way to what this one brings.
fn request(outgoing: &Outgoing, uri: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(outgoing.body.clone()));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = outgoing.headers.clone();
    let headers = request.headers_mut();
    // A request that does not say by its `User-Agent` whose it is says so otherwise, should it come
    // back to Posthaste.
    match headers.entry(USER_AGENT) {
        Entry::Vacant(agent) => drop(agent.insert(HeaderValue::from_static(hops::AGENT))),
        Entry::Occupied(_) => drop(
            headers
                .entry(hops::HEADER)
                .or_insert(HeaderValue::from_static("1")),
        ),
    }
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    // Answers are read as they come: a compressed one cannot be.
    headers
        .entry(ACCEPT_ENCODING)
        .or_insert(HeaderValue::from_static("identity"));
    request
}

async fn once(
    client: &Http,
    mut request: Request<Full<Bytes>>,
    outgoing: &Outgoing,
    timer: &Timer,
) -> Result<Response<Incoming>, Failed> {
    timer.enter(Stage::Starting);
    // The client's errors do not say on which connection they happened; the remedy depends on that.
    let captured = capture_connection(&mut request);
    let too_many = count_interim(&mut request);
    let answer = tokio::select! {
        // In order, here and in every other wait of the worker: by chance, which is what `select!`
        // does otherwise, no run of `tests/simulation` could be repeated from its seed.
        biased;
        answer = client.request(request) => answer,
        () = too_many.notified() => return Err(Failed::for_good(SendError::network(
            "protocol",
            format!("more than {MAX_INTERIM} interim answers (1xx) came, and no answer"),
        ))),
        // Timed here and not around the whole exchange, because only here it is known what was
        // waited for.
        () = tokio::time::sleep_until(timer.deadline()) => {
            let stage = known(&captured)
                .map_or_else(|| timer.stage(), |known| waiting(&known, timer));
            return Err(Failed::for_good(late(&stage, outgoing.limit)));
        }
    };
    let known = known(&captured);
    if let Some(known) = known.as_ref() {
        waiting(known, timer);
    }
    match answer {
        Ok(response) => {
            timer.answered();
            if let Some(known) = &known {
                known.answered();
            }
            Ok(response)
        }
        Err(error) => {
            let remedy = remedy(&error, known.as_ref(), timer.exchange());
            Err(Failed {
                error: explain(&error),
                remedy,
            })
        }
    }
}

impl Failed {
    const fn for_good(error: SendError) -> Self {
        Self {
            error,
            remedy: Remedy::Nothing,
        }
    }
}

/// Notifies when too many interim answers have come. On HTTP/2 they are dropped as they come,
/// until the deadline.
fn count_interim(request: &mut Request<Full<Bytes>>) -> Arc<Notify> {
    let too_many = Arc::new(Notify::new());
    let notify = Arc::clone(&too_many);
    let count = AtomicU32::new(0);
    hyper::ext::on_informational(request, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            notify.notify_one();
        }
    });
    too_many
}

/// The connection that the request went out on, once there is one.
fn known(captured: &CaptureConnection) -> Option<Known> {
    let mut extras = http::Extensions::new();
    captured
        .connection_metadata()
        .as_ref()?
        .get_extras(&mut extras);
    extras.remove::<Known>()
}

/// Notes that the request is on this connection.
fn waiting(known: &Known, timer: &Timer) -> Stage {
    if known.is_reused_by(timer.exchange()) {
        timer.reused(known.address());
    }
    let stage = Stage::Waiting(known.address());
    timer.enter(stage.clone());
    stage
}

/// What may be done about a failure, by its kind and the connection on which it happened.
fn remedy(error: &ClientError, known: Option<&Known>, exchange: u64) -> Remedy {
    let Some(known) = known else {
        // Without a connection nothing was sent, but connecting has been tried just now.
        return Remedy::Nothing;
    };
    let reused = known.is_reused_by(exchange);
    if let Some(error) =
        causes(error as &(dyn Error + 'static)).find_map(|cause| cause.downcast_ref::<h2::Error>())
    {
        return of_http2(error, reused);
    }
    // On HTTP/1.1 a byte of an answer proves that the receiver saw the request. On HTTP/2 bytes
    // come for other reasons, and the error itself tells what was processed (`of_http2`).
    let unseen = known.is_http2() || known.is_unanswered();
    if reused && unseen {
        Remedy::FreshConnection
    } else {
        Remedy::Nothing
    }
}

/// RFC 9113, sections 6.8, 7 and 8.7: what a receiver did not process, and what it says of itself.
/// A stream that it reset for another reason it has seen.
fn of_http2(error: &h2::Error, reused: bool) -> Remedy {
    match error.reason() {
        Some(h2::Reason::HTTP_1_1_REQUIRED) if error.is_remote() => Remedy::Http1,
        Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Remedy::FreshConnection,
        Some(h2::Reason::NO_ERROR) if error.is_remote() && error.is_go_away() => {
            Remedy::FreshConnection
        }
        _ if reused && (error.is_io() || (error.is_go_away() && error.is_remote())) => {
            Remedy::FreshConnection
        }
        _ => Remedy::Nothing,
    }
}
