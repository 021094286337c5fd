//! The receiver itself: answers requests as its [`Behaviour`] says and hands on what it received.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use posthaste_shared::clock::{Clock as _, SystemClock};
use posthaste_shared::domain::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, Course};
use super::verify::{Verified, Verifier};

/// The largest body that is taken.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Received requests that may wait to be looked at; more make senders wait.
const QUEUE: usize = 1_024;

/// How long answers under way may take when the receiver stops, beside their own delay.
const LINGER: Duration = Duration::from_secs(1);

/// A request that came in, and how it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The number of the request, from 1.
    pub(crate) number: u64,
    /// When the request came in.
    pub(crate) at: Timestamp,
    /// The HTTP method, such as `POST`.
    pub(crate) method: String,
    /// The path, with the query.
    pub(crate) path: String,
    /// The headers as they came in.
    pub(crate) headers: HeaderMap,
    /// The body as it came in.
    pub(crate) body: Bytes,
    /// Whether the signature of the request matches.
    pub(crate) verified: Verified,
    /// The status of the answer; `None`: it is never answered.
    pub(crate) answer: Option<u16>,
}

/// A running receiver. Dropping it stops it.
pub(crate) struct Handle {
    address: SocketAddr,
    received: mpsc::Receiver<Received>,
    stop: CancellationToken,
    linger: Duration,
    task: JoinHandle<()>,
}

struct Receiver {
    behaviour: Behaviour,
    verifier: Verifier,
    course: Mutex<(u64, Course)>,
    received: mpsc::Sender<Received>,
}

/// Starts a receiver on `listener`, which must be bound. Whoever starts it takes what it received
/// off it with [`Handle::next`], else senders wait after the first thousand requests.
pub(crate) fn serve(behaviour: Behaviour, verifier: Verifier, listener: TcpListener) -> Handle {
    let address = listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    // What is never answered is not waited for.
    let linger = if behaviour.hang {
        Duration::ZERO
    } else {
        behaviour.delay + LINGER
    };
    let (sender, received) = mpsc::channel(QUEUE);
    let receiver = Receiver {
        behaviour,
        verifier,
        course: Mutex::default(),
        received: sender,
    };
    let app = Router::new()
        .fallback(receive)
        .with_state(Arc::new(receiver));
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app)
            .with_graceful_shutdown(stopped)
            .await
        {
            tracing::error!(%error, "the receiver stopped");
        }
    });
    Handle {
        address,
        received,
        stop,
        linger,
        task,
    }
}

impl Handle {
    /// The address that the receiver listens on.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request that came in. `None` once the receiver has stopped. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }

    /// Stops listening, and waits until what is under way is answered.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        match tokio::time::timeout(self.linger, &mut self.task).await {
            Ok(Err(error)) if error.is_panic() => tracing::error!(%error, "the receiver panicked"),
            Ok(_) => {}
            Err(_) => self.task.abort(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let at = SystemClock.now();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, Body::empty());
    };
    // Who asks for consent has nothing to sign yet.
    let asks =
        parts.method == Method::OPTIONS && parts.headers.contains_key("webhook-request-origin");
    let verified = if asks {
        Verified::Unchecked
    } else {
        receiver.verifier.verify(&parts.headers, &body, at)
    };
    let consent = receiver.behaviour.consent.as_ref().filter(|_| asks);
    // Numbers and statuses are given out under one lock, so both are in the order of arrival.
    let (number, status) = receiver.choose(consent.is_some());
    // As a real receiver would answer: a sender with a wrong secret must not see success. A failure
    // that was asked for stays what it is.
    let status = if matches!(verified, Verified::Bad(_)) && status < 300 {
        401
    } else {
        status
    };
    let hang = receiver.behaviour.hang;
    let received = Received {
        number,
        at,
        method: parts.method.to_string(),
        path: parts
            .uri
            .path_and_query()
            .map_or_else(|| parts.uri.path().to_owned(), ToString::to_string),
        headers: parts.headers,
        body,
        verified,
        answer: (!hang).then_some(status),
    };
    // Fails only when nobody looks any more, which is no reason not to answer.
    let _ = receiver.received.send(received).await;
    if hang {
        std::future::pending::<()>().await;
    }
    // After it was handed on: what is printed need not wait for the delay.
    tokio::time::sleep(receiver.behaviour.delay).await;
    let mut response = receiver.answer(status);
    if let Some(consent) = consent {
        let rate = consent
            .rate
            .map(|rate| ("webhook-allowed-rate", rate.into()));
        for (name, value) in
            std::iter::once(("webhook-allowed-origin", consent.origin.clone())).chain(rate)
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

impl Receiver {
    /// Number and status of the next answer. Consent is always given with 200 and is none of the
    /// answers that [`Behaviour`] counts.
    fn choose(&self, consents: bool) -> (u64, u16) {
        let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        course.0 += 1;
        let status = if consents {
            200
        } else {
            course.1.next(&self.behaviour, Instant::now())
        };
        (course.0, status)
    }

    fn answer(&self, status: u16) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = plain(status, Body::from(self.behaviour.body.clone()));
        let failed = !status.is_success();
        if let (true, Some(seconds)) = (failed, self.behaviour.retry_after) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn plain(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use posthaste_shared::domain::secret::Secret;

    use super::super::behaviour::Consent;
    use super::super::verify::Format;
    use super::*;

    async fn start(behaviour: Behaviour, secrets: &[Secret]) -> (Handle, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?a=1", listener.local_addr().unwrap());
        (
            serve(
                behaviour,
                Verifier::new(Format::Auto, secrets).unwrap(),
                listener,
            ),
            url,
        )
    }

    fn client() -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::new()
    }

    #[tokio::test]
    async fn answers_as_it_is_told_and_hands_requests_on() {
        let behaviour = Behaviour {
            fail_first: Some(1),
            retry_after: Some(3),
            ..Behaviour::default()
        };
        let (mut receiver, url) = start(behaviour, &[]).await;
        let first = client().post(&url).body("one").send().await.unwrap();
        assert_eq!(
            (first.status().as_u16(), &first.headers()["retry-after"]),
            (503, &"3".parse().unwrap())
        );
        let second = client().post(&url).body("two").send().await.unwrap();
        assert_eq!(second.status(), 200);
        assert!(second.headers().get("retry-after").is_none());
        let received = receiver.next().await.unwrap();
        assert_eq!(
            (received.path.as_str(), &received.body[..], received.answer),
            ("/hook?a=1", &b"one"[..], Some(503))
        );
        assert_eq!(receiver.next().await.unwrap().number, 2);
        receiver.stop().await;
        assert!(client().post(&url).send().await.is_err());
    }

    #[tokio::test]
    async fn consents_to_who_asks_and_counts_it_apart() {
        let consent = Some(Consent {
            origin: "a.example".parse().unwrap(),
            rate: Some(120),
        });
        let behaviour = Behaviour {
            fail_first: Some(1),
            consent,
            ..Behaviour::default()
        };
        let (mut receiver, url) = start(behaviour, &[Secret::new("whsec_c2VjcmV0")]).await;
        let ask = || {
            client()
                .request(Method::OPTIONS, &url)
                .header("WebHook-Request-Origin", "b.example")
                .send()
        };
        let answer = ask().await.unwrap();
        assert_eq!(answer.status(), 200);
        let said = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (said("webhook-allowed-origin"), said("webhook-allowed-rate")),
            ("a.example".into(), "120".into())
        );
        assert_eq!(receiver.next().await.unwrap().verified, Verified::Unchecked);
        assert_eq!(client().post(&url).send().await.unwrap().status(), 503);
        // An OPTIONS request that asks for nothing is a request like any other.
        let other = client()
            .request(Method::OPTIONS, &url)
            .send()
            .await
            .unwrap();
        assert!(other.headers().get("webhook-allowed-origin").is_none());
        assert_eq!(other.status(), 401);
    }

    #[tokio::test]
    async fn what_is_not_signed_is_refused() {
        let (mut receiver, url) =
            start(Behaviour::default(), &[Secret::new("whsec_c2VjcmV0")]).await;
        assert_eq!(client().post(&url).send().await.unwrap().status(), 401);
        assert!(matches!(
            receiver.next().await.unwrap().verified,
            Verified::Bad(_)
        ));
    }
}
