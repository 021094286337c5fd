//! The requests of a call: sent by the worker's own client, in its runtime, and aborted with the
//! call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use posthaste_shared::domain::hops::{self, Hops};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::work::Event;
use super::work::Work;
use super::{MAX_FETCHES, MAX_REQUEST_BYTES};
use crate::send::Reply;
use crate::send::{BodyFault, Outgoing, Reading, SendError, Sender};

/// What a script may ask for. The prelude says the same with errors of its own; this holds whatever
/// a script makes of the prelude.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];
/// Headers that belong to the connection or to the message's framing: whoever sets them can smuggle
/// a second request into the first. Also all that begin with `proxy-`.
const NOT_OF_SCRIPTS: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    hops::HEADER,
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// A request's headers, names and values together.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long before the call's deadline a request times out, at most: the script can still return
/// what follows from that.
const RESERVE: Duration = Duration::from_millis(250);

/// The requests of one call.
#[derive(Debug)]
pub(super) struct Fetches {
    network: bool,
    hops: Hops,
    deadline: Instant,
    sender: Sender,
    runtime: Handle,
    events: mpsc::Sender<Event>,
    started: Cell<usize>,
    under_way: RefCell<HashMap<u32, AbortOnDropHandle<()>>>,
    failures: RefCell<HashMap<u32, SendError>>,
}

/// A request as the prelude gives it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) url: String,
    /// Name, value, name, value, …
    pub(super) headers: Vec<String>,
    pub(super) body: Vec<u8>,
}

impl Fetches {
    pub(super) fn new(work: &Work) -> Self {
        Self {
            network: work.network,
            hops: work.hops,
            deadline: work.deadline,
            sender: work.sender.clone(),
            runtime: work.runtime.clone(),
            events: work.events.clone(),
            started: Cell::new(0),
            under_way: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Whether one is under way.
    pub(super) fn any(&self) -> bool {
        !self.under_way.borrow().is_empty()
    }

    /// Starts a request; its end comes as an [`Event::Fetched`]. Answers what is wrong where it
    /// cannot start.
    pub(super) fn start(&self, id: u32, asked: Asked) -> Option<String> {
        if !self.network {
            return Some("there is no network in a transform".to_owned());
        }
        if self.started.get() >= MAX_FETCHES {
            return Some(format!("a call may make {MAX_FETCHES} requests"));
        }
        let outgoing = match self.outgoing(asked) {
            Ok(outgoing) => outgoing,
            Err(problem) => return Some(problem),
        };
        // Counted when it starts, so that requests that the script aborts count as well.
        self.started.set(self.started.get() + 1);
        let sender = self.sender.clone();
        let events = self.events.clone();
        let exchange = async move {
            let result = Box::pin(sender.exchange(outgoing)).await.result;
            // Nobody listens any more when the call is over.
            let _ = events.send(Event::Fetched { id, result });
        };
        // Aborted when the call ends: nobody would read the answer.
        let task = AbortOnDropHandle::new(self.runtime.spawn(exchange));
        self.under_way.borrow_mut().insert(id, task);
        None
    }

    fn outgoing(&self, asked: Asked) -> Result<Outgoing, String> {
        if asked.body.len() > MAX_REQUEST_BYTES {
            return Err(format!(
                "the body has {} bytes; {MAX_REQUEST_BYTES} are allowed",
                asked.body.len()
            ));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut headers = headers(&asked.headers)?;
        // The first hop needs no header: the `User-Agent` says it, or the client adds it where the
        // script has set another one.
        if self.hops > Hops::default().next() {
            headers.insert(hops::HEADER, self.hops.get().into());
        }
        // A tenth at most: of a short timeout the reserve would leave nothing.
        let timeout = left.saturating_sub(RESERVE.min(left / 10));
        Ok(Outgoing {
            method: method(&asked.method)?,
            url: Url::parse(&asked.url)
                .map_err(|error| format!("the URL cannot be read: {error}"))?,
            headers,
            body: Bytes::from(asked.body),
            timeout,
            limit: timeout,
            reading: Reading::Script,
        })
    }

    /// Gives a request up.
    pub(super) fn abort(&self, id: u32) {
        self.under_way.borrow_mut().remove(&id);
    }

    /// Notes the end of a request; `false` where it was given up before.
    pub(super) fn ended(&self, id: u32, result: &Result<Reply, SendError>) -> bool {
        if let Err(error) = result {
            // Kept after the request has ended: the script may throw the error later, and it is
            // recognised by this.
            self.failures.borrow_mut().insert(id, error.clone());
        }
        self.under_way.borrow_mut().remove(&id).is_some()
    }

    /// Why a request failed.
    pub(super) fn failure(&self, id: u32) -> Option<SendError> {
        self.failures.borrow().get(&id).cloned()
    }
}

fn method(name: &str) -> Result<Method, String> {
    let found = METHODS.into_iter().find(|method| method.as_str() == name);
    found.ok_or_else(|| format!("the method {name:?} cannot be used"))
}

fn headers(flat: &[String]) -> Result<HeaderMap, String> {
    if flat.iter().map(String::len).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(format!(
            "the headers have more than {MAX_HEADER_BYTES} bytes"
        ));
    }
    let mut headers = HeaderMap::new();
    for pair in flat.chunks_exact(2) {
        let problem = || format!("the header {:?} cannot be sent", pair[0]);
        let name = HeaderName::from_bytes(pair[0].as_bytes()).map_err(|_| problem())?;
        if NOT_OF_SCRIPTS.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(problem());
        }
        // The prelude has seen to it that each character is a byte.
        let value: Option<Vec<u8>> = pair[1]
            .chars()
            .map(|character| u8::try_from(character).ok())
            .collect();
        let value = value
            .and_then(|value| HeaderValue::from_bytes(&value).ok())
            .ok_or_else(problem)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// An answer's headers as the prelude takes them.
pub(super) fn flat(reply: &Reply) -> Vec<String> {
    let text = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect::<String>()
    };
    reply
        .headers
        .iter()
        .flat_map(|(name, value)| [name.as_str().to_owned(), text(value)])
        .collect()
}

/// What reading an answer's body says where it was cut.
pub(super) fn cut(reply: &Reply) -> Option<String> {
    match reply.fault {
        Some(BodyFault::TooLarge { limit }) => Some(format!(
            "the answer has more than {limit} bytes, and no more are read"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_is_not_the_scripts() {
        let sent = |name: &str| headers(&[name.to_owned(), "1".to_owned()]).is_ok();
        for name in [
            "Host",
            "Posthaste-Hops",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "proxy-authorization",
            "TE",
            "upgrade",
        ] {
            assert!(!sent(name), "{name}");
        }
        for name in ["authorization", "x-host", "cookie", "content-type"] {
            assert!(sent(name), "{name}");
        }
        for name in ["CONNECT", "TRACE", "TRACK", "get", "G ET", ""] {
            assert!(method(name).is_err(), "{name}");
        }
        assert_eq!(method("DELETE"), Ok(Method::DELETE));
    }
}
