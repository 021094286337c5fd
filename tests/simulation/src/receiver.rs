//! The endpoints' side: connections in memory, and receivers that answer anything.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use posthaste_shared::domain::id::DeliveryId;
use posthaste_shared::domain::time::Timestamp;
use posthaste_worker::send::{Dial, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use uuid::Uuid;

use crate::faults::Kind;
use crate::gate::short;
use crate::process::Process;
use crate::world::{Request, World};

/// The URL of the endpoint with that number.
#[must_use]
pub fn url(endpoint: usize) -> String {
    format!("http://10.0.0.{endpoint}/hook")
}

/// The network of a process.
pub struct Network(pub Arc<Process>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({})", self.0.name)
    }
}

impl Dial for Network {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Box::pin(async move {
            let process = &self.0;
            process.point("connect").await;
            let dialled = process.clock.now();
            let endpoint = match address.ip() {
                IpAddr::V4(ip) => usize::from(ip.octets()[3]),
                IpAddr::V6(_) => 0,
            };
            let sickness = sickness(&process.world, endpoint);
            let world = &process.world;
            if world.strikes_at(Kind::ConnectRefused, sickness, &process.name) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if world.strikes_at(Kind::ConnectSlow, sickness, &process.name) {
                let faults = &world.faults;
                let length = faults.draw(Kind::ConnectSlow, |dice| dice.millis(50..=3_000));
                tokio::time::sleep(length).await;
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let receiver = Receiver {
                process: Arc::clone(process),
                endpoint,
                stream: theirs,
            };
            tokio::spawn(receiver.serve(dialled));
            Ok(Box::new(ours) as Box<dyn Socket>)
        })
    }
}

fn sickness(world: &World, endpoint: usize) -> f64 {
    world
        .plan
        .endpoints
        .get(endpoint)
        .map_or(0.0, |it| it.sickness)
}

/// One connection, from the receiver's side.
struct Receiver {
    process: Arc<Process>,
    endpoint: usize,
    stream: DuplexStream,
}

/// What a receiver does with a request.
enum Answer {
    /// Writes this and goes on.
    Whole(u16, Vec<u8>),
    /// Writes this, and hangs or ends.
    Last(Option<u16>, Vec<u8>, Duration),
}

impl Receiver {
    async fn serve(mut self, dialled: Timestamp) {
        let mut seen = Vec::new();
        // On a new connection the request was on its way when it was dialled.
        let mut dialled = Some(dialled);
        while let Some(request) = self.request(&mut seen).await {
            // What a dead process had written before it died is still read: a network is like
            // that. But nothing is written by it any more.
            let world = Arc::clone(&self.process.world);
            let clock = dialled.take().unwrap_or_else(|| self.process.clock.now());
            let delivery = header(&request, "webhook-id").and_then(|id| Uuid::parse_str(id).ok());
            let delivery = delivery.map(DeliveryId);
            let entry = {
                let mut books = world.books();
                books.requests.push(Request {
                    at: world.elapsed(),
                    process: self.process.id,
                    endpoint: self.endpoint,
                    delivery,
                    number: number(&request),
                    clock,
                    answered: None,
                    unanswered: false,
                });
                books.requests.len() - 1
            };
            let whom = format!("ep_{}", self.endpoint);
            let id = delivery.map(|id| id.to_string()).unwrap_or_default();
            world.note(&whom, || {
                format!("gets {} from {}", short(&id), self.process.name)
            });
            if !self.answer(&world, entry, &whom, short(&id)).await {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    async fn answer(&mut self, world: &World, entry: usize, whom: &str, id: &str) -> bool {
        if world.strikes_at(Kind::Slow, sickness(world, self.endpoint), whom) {
            let length = world
                .faults
                .draw(Kind::Slow, |dice| dice.millis(50..=3_000));
            tokio::time::sleep(length).await;
        }
        let (status, bytes, last) = match self.draw(world, whom) {
            Answer::Whole(status, bytes) => (Some(status), bytes, None),
            Answer::Last(status, bytes, pause) => (status, bytes, Some(pause)),
        };
        let written = self.stream.write_all(&bytes).await.is_ok();
        {
            let mut books = world.books();
            let request = &mut books.requests[entry];
            request.answered = status.filter(|_| written);
            request.unanswered = bytes.is_empty() && last == Some(Duration::ZERO);
        }
        world.note(whom, || match status {
            Some(status) if written => format!("answers {status} to {id}"),
            _ => format!("does not answer {id}"),
        });
        match last {
            None => written,
            Some(pause) => {
                tokio::time::sleep(pause).await;
                false
            }
        }
    }

    fn draw(&self, world: &World, whom: &str) -> Answer {
        let sickness = sickness(world, self.endpoint);
        let strikes = |kind| world.strikes_at(kind, sickness, whom);
        let head = |status: u16, more: &str| {
            let head = format!("HTTP/1.1 {status} X\r\n{more}content-length: 2\r\n\r\nok");
            Answer::Whole(status, head.into_bytes())
        };
        let long = Duration::from_secs(30);
        if strikes(Kind::Hung) {
            return Answer::Last(None, b"".to_vec(), long);
        }
        if strikes(Kind::HungUp) {
            return Answer::Last(None, b"".to_vec(), Duration::ZERO);
        }
        if strikes(Kind::BrokenOff) {
            let begun = b"HTTP/1.1 200 OK\r\ncontent-le".to_vec();
            return Answer::Last(None, begun, Duration::ZERO);
        }
        if strikes(Kind::Garbage) {
            let garbage = b"\x15\x03\x01 SSH-2.0\r\n\r\n".to_vec();
            return Answer::Last(None, garbage, Duration::ZERO);
        }
        if strikes(Kind::Endless) {
            let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
            return Answer::Last(Some(200), endless.to_vec(), long);
        }
        let status = |kind, of: [u16; 3]| world.faults.draw(kind, |dice| dice.pick(of));
        if strikes(Kind::Answered5xx) {
            return head(status(Kind::Answered5xx, [500, 502, 503]), "");
        }
        if strikes(Kind::Answered4xx) {
            return head(status(Kind::Answered4xx, [400, 404, 422]), "");
        }
        if strikes(Kind::AnsweredGone) {
            return head(410, "");
        }
        if strikes(Kind::Throttled) {
            let status = status(Kind::Throttled, [429, 429, 503]);
            let after = world
                .faults
                .draw(Kind::Throttled, |dice| dice.within(0..=4));
            return head(status, &format!("retry-after: {after}\r\n"));
        }
        head(200, "")
    }

    /// The next request, whole; `None` when the connection ended before.
    async fn request(&mut self, seen: &mut Vec<u8>) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = whole(seen) {
                let rest = seen.split_off(length);
                return Some(std::mem::replace(seen, rest));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
    }
}

/// The length of the request that the bytes begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body: usize = header(&bytes[..end], "content-length")?.parse().ok()?;
    (bytes.len() >= end + body).then_some(end + body)
}

fn header<'a>(request: &'a [u8], name: &str) -> Option<&'a str> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&request[..end]).ok()?;
    head.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The number in a notification's payload.
fn number(request: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(request);
    let (_, rest) = text.split_once("\"simulated\":")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
