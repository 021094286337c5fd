//! Sends a signed request: one guarded client for the process, one deadline over the whole
//! exchange, no redirects, an answer of bounded size. Every failure is a value.

mod addresses;
mod client;
mod connection;
mod connector;
mod dial;
mod error;
mod reply;
mod timer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use posthaste_shared::domain::attempt::Phases;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use rustls::ClientConfig;
use tokio::time::Instant;
use url::{Host, Url};

use client::Client;
pub use dial::{Dial, Socket, Tcp};
pub use error::SendError;
pub use reply::{BodyFault, MEANT_BODY_BYTES, READ_BODY_BYTES, Reading, Reply};
use timer::Timer;

/// The largest head of an answer that is read, on HTTP/1.1 and on HTTP/2 alike: what Chromium reads
/// too. Node sends up to 16 KiB by default, some gateways send a policy or cookies of 17 KB and
/// more.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// The most headers of an answer on HTTP/1.1: some CDNs and proxies add dozens, and the parser
/// wants a bound.
const MAX_HEADERS: usize = 512;

/// The process's HTTP client.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    egress: Arc<EgressPolicy>,
}

/// A request as it goes out. Deliveries make it of a signed request only; scripts make their own.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What is left for the whole exchange.
    pub(crate) timeout: Duration,
    /// The limit that texts name: that of the attempt, of which `timeout` is what is left.
    pub(crate) limit: Duration,
    /// What the answer's body is for.
    pub(crate) reading: Reading,
}

/// The result of sending a request, and how long each phase took.
#[derive(Debug)]
pub struct Exchange {
    /// The answer, or why there is none.
    pub result: Result<Reply, SendError>,
    /// How long the whole exchange took.
    pub duration: Duration,
    /// How long each phase took, in milliseconds; `None` for a phase that did not take place.
    pub phases: Phases,
    /// The address that was called, with its port; without a port where no connection was made.
    pub address: Option<String>,
}

/// Why the client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The system's trusted certificates cannot be used.
    #[error("the TLS set-up cannot be used")]
    Tls(#[from] rustls::Error),
}

impl Sender {
    /// A client that calls what `egress` allows and asks the system's name servers.
    ///
    /// # Errors
    /// When the system's trusted certificates cannot be used.
    pub fn new(egress: EgressPolicy) -> Result<Self, SenderError> {
        Self::with_resolver(egress, &Resolver::new(&[]))
    }

    /// A client that calls what `egress` allows and looks names up with `resolver`.
    ///
    /// # Errors
    /// When the system's trusted certificates cannot be used.
    pub fn with_resolver(egress: EgressPolicy, resolver: &Resolver) -> Result<Self, SenderError> {
        let egress = Arc::new(egress);
        Ok(Self {
            client: Client::new(&egress, resolver)?,
            egress,
        })
    }

    /// The same over connections of another kind than the system's TCP, with a set-up of TLS.
    #[must_use]
    pub fn over(
        dialer: Arc<dyn Dial>,
        egress: EgressPolicy,
        resolver: &Resolver,
        tls: ClientConfig,
    ) -> Self {
        let egress = Arc::new(egress);
        Self {
            client: Client::with(&egress, resolver, &dialer, tls),
            egress,
        }
    }

    /// Whether the URL alone may be called, before a name is looked up. What the name leads to is
    /// checked when it is connected to.
    pub(crate) fn allows(&self, url: &Url) -> Result<(), SendError> {
        self.egress.check_url(url).map_err(SendError::Blocked)
    }

    /// Sends the request and reads the answer, all within its timeout.
    pub(crate) async fn exchange(&self, request: Outgoing) -> Exchange {
        let begun = Instant::now();
        let timer = Timer::start(begun + request.timeout);
        let result = match self.allows(&request.url) {
            Err(refused) => Err(refused),
            Ok(()) => timer.scope(self.call(&request, &timer)).await,
        };
        // An attempt that was refused never had a connection; the address is in the URL then, or
        // unknown.
        let address = timer.address().or_else(|| literal(&request.url));
        Exchange {
            result,
            duration: begun.elapsed(),
            phases: timer.phases(),
            address,
        }
    }

    async fn call(&self, request: &Outgoing, timer: &Timer) -> Result<Reply, SendError> {
        let response = self.client.send(request, timer).await?;
        let reply = reply::read(response, request.reading, timer.deadline(), request.limit).await;
        timer.finished();
        match &reply.fault {
            // A script's `fetch` has one promise for both; it fails as it would without a head.
            Some(fault) if request.reading == Reading::Script => {
                fault.as_failure().map_or(Ok(reply.clone()), Err)
            }
            _ => Ok(reply),
        }
    }
}

/// The address in a URL that has one in the place of a name.
fn literal(url: &Url) -> Option<String> {
    let address: IpAddr = match url.host()? {
        Host::Ipv4(address) => address.into(),
        Host::Ipv6(address) => address.into(),
        Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(address, url.port_or_known_default()?).to_string())
}

#[cfg(test)]
mod tests;
