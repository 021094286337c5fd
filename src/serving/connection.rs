//! One connection: its requests, and the watchdog that closes it when its time has run out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use posthaste_producer::http::problem::{Code, Problem};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::Limits;
use super::activity::Activity;
use super::room::{Purpose, Seat};
use super::socket::Socket;

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Requests at once on a connection of HTTP/2.
const MAX_STREAMS: u32 = 100;
/// How often a client of HTTP/2 is asked whether it is there, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the watchdog looks at a connection that may be used on.
const WATCH: Duration = Duration::from_secs(1);
/// How long a connection has to end once it was asked to.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a connection for health and metrics may last.
const OPERATIONS: Duration = Duration::from_secs(10);

/// Serves a connection to its end.
pub(super) async fn run(
    stream: TcpStream,
    seat: Seat,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    // Of a socket that is gone already nobody reads the answer.
    let peer = stream.peer_addr().ok().map(ConnectInfo);
    let activity = Arc::clone(&seat.activity);
    let purpose = seat.purpose;
    let io = TokioIo::new(Socket::new(stream, Arc::clone(&activity)));
    let requests = Arc::clone(&activity);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        // Counted before the router sees it: from here on the connection has a request, and does
        // not give way to another one.
        let under_way = UnderWay::new(Arc::clone(&requests));
        answer(router.clone(), purpose, request, under_way)
    });
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let over = purpose_over(purpose);
    // In this order: a connection that is told to leave is not served on, however busy.
    tokio::select! {
        biased;
        () = seat.leave.cancelled() => {}
        () = over => {}
        () = watch(&activity, &limits) => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        _ = connection.as_mut() => return,
    }
    // HTTP/2 says goodbye; HTTP/1 just ends, with what was not answered.
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GOODBYE, connection).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn purpose_over(purpose: Purpose) {
    match purpose {
        Purpose::Everything => std::future::pending().await,
        Purpose::Operations => tokio::time::sleep(OPERATIONS).await,
    }
}

/// Returns when the connection's time has run out.
async fn watch(activity: &Activity, limits: &Limits) {
    loop {
        let now = Instant::now();
        let deadline = activity.deadline(limits);
        if deadline.is_some_and(|deadline| deadline <= now) {
            return;
        }
        // The deadline can move closer while this sleeps, as when a head begins to arrive. So it is
        // looked at again at least once a second.
        let look = now + WATCH;
        tokio::time::sleep_until(deadline.map_or(look, |deadline| deadline.min(look))).await;
    }
}

async fn answer(
    mut router: Router,
    purpose: Purpose,
    request: Request<Incoming>,
    under_way: UnderWay,
) -> Result<Response<Answering>, Infallible> {
    let operations = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    let response = if purpose == Purpose::Everything || operations {
        match router.call(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    } else {
        let problem = Problem::new(
            Code::Unavailable,
            "too many connections are open; try again",
        );
        // The seat is for health and metrics alone: a client that stayed on it would keep the next
        // probe out.
        let mut response = problem.into_response();
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    };
    // The request ends when its body is dropped and not when the handler returns: an answer that is
    // still being written keeps its connection.
    Ok(response.map(|body| Answering {
        body,
        _under_way: under_way,
    }))
}

/// Counts a request for as long as it lives.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: Arc<Activity>) -> Self {
        activity.begin();
        Self(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer's body: its request is under way until all of it is handed over.
struct Answering {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
