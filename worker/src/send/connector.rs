//! Opens connections: looks the name up, has the egress policy check every address, connects to one
//! of them and does the TLS handshake. What was checked is what is connected to: nothing resolves
//! the name again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use posthaste_shared::egress::EgressPolicy;
use posthaste_shared::resolver::Resolver;
use posthaste_shared::tls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::addresses;
use super::connection::{Stream, Watched};
use super::dial::{Dial, Socket};
use super::error::{SendError, span_text};
use super::timer::{Stage, Timer};

/// The part of what is left of an exchange that connecting to one address may take: 2 s of the
/// default 5 s. Each address has it to itself; what remains is for the handshake and the answer.
const CONNECT_SHARE: u32 = 5;
/// No address is given longer. By then the system has sent its third SYN.
const CONNECT_AT_MOST: Duration = Duration::from_secs(10);
/// How long a connection may take to open that no exchange waits for.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Opens connections for the client.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    egress: Arc<EgressPolicy>,
    resolver: Resolver,
    dialer: Arc<dyn Dial>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// `tls` says which versions of HTTP are offered.
    pub(super) const fn new(
        egress: Arc<EgressPolicy>,
        resolver: Resolver,
        dialer: Arc<dyn Dial>,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            egress,
            resolver,
            dialer,
            tls,
        }
    }

    async fn open(self, uri: Uri, timer: Timer) -> Result<TokioIo<Watched>, SendError> {
        let host = uri
            .host()
            .ok_or_else(|| SendError::network("connect", "the URL has no host"))?;
        // An IPv6 address stands in brackets in a URI, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.addresses(host, port, &timer).await?;

        timer.enter(Stage::Connecting(addresses.clone()));
        let begun = Instant::now();
        // Of what is left now: looking the name up took its part.
        let limit = (timer.left() * 2 / CONNECT_SHARE).min(CONNECT_AT_MOST);
        let (stream, address) = addresses::connect(self.dialer.as_ref(), &addresses, limit).await?;
        timer.connected(begun.elapsed(), address);
        let stream = if secure {
            self.handshake(host, stream, address, &timer).await?
        } else {
            Stream::Plain(stream)
        };
        timer.enter(Stage::Waiting(address));
        Ok(TokioIo::new(Watched::new(
            stream,
            address,
            timer.exchange(),
        )))
    }

    /// The addresses to connect to, every one of them allowed: a name that also points inward is
    /// not to be trusted.
    async fn addresses(
        &self,
        host: &str,
        port: u16,
        timer: &Timer,
    ) -> Result<Vec<SocketAddr>, SendError> {
        // An address in the URL is checked as well; only there is nothing to look up.
        if let Ok(address) = host.parse::<IpAddr>() {
            self.egress
                .check_address(None, address)
                .map_err(SendError::refused)?;
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        timer.enter(Stage::LookingUp(host.to_owned()));
        let begun = Instant::now();
        let addresses = self
            .resolver
            .look_up(host)
            .await
            .map_err(SendError::refused)?;
        // All of them before any is called: which one is connected to depends on which answers
        // first.
        for address in &addresses {
            self.egress
                .check_address(Some(host), *address)
                .map_err(SendError::refused)?;
        }
        let addresses: Vec<SocketAddr> = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect();
        timer.looked_up(begun.elapsed(), addresses.first().copied());
        Ok(addresses)
    }

    async fn handshake(
        &self,
        host: &str,
        stream: Box<dyn Socket>,
        address: SocketAddr,
        timer: &Timer,
    ) -> Result<Stream, SendError> {
        timer.enter(Stage::Handshake(address));
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            SendError::network(
                "tls",
                format!("TLS: {host:?} is not a name that a certificate can have"),
            )
        })?;
        let begun = Instant::now();
        let shaking = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = shaking
            .await
            .map_err(|error| tls_failure(&error, address))?;
        timer.tls_done(begun.elapsed());
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// A handshake fails by a rule of TLS or, more plainly, because the other side hung up.
fn tls_failure(error: &io::Error, address: SocketAddr) -> SendError {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(error) => SendError::network("tls", format!("TLS: {}", tls::words(error))),
        None => {
            let SendError::Network(mut failure) = SendError::io(error) else {
                return SendError::io(error);
            };
            failure.text = format!(
                "the TLS handshake with {address} broke off: {}",
                failure.text
            );
            SendError::Network(failure)
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<Self::Response, SendError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    /// The client goes on opening a connection in the background when another becomes free
    /// meanwhile, so the exchange's timer is taken along from the start, and such a connection ends
    /// soon after the exchange would have.
    fn call(&mut self, uri: Uri) -> Self::Future {
        let timer = Timer::current()
            .unwrap_or_else(|| Timer::start(tokio::time::Instant::now() + UNWATCHED));
        let connector = self.clone();
        Box::pin(async move {
            // Later than the exchange itself, which says better what took so long.
            let deadline = timer.deadline() + Duration::from_secs(1);
            match tokio::time::timeout_at(deadline, connector.open(uri, timer)).await {
                Ok(opened) => opened,
                Err(_) => Err(SendError::Timeout("no connection in time".to_owned())),
            }
        })
    }
}

/// Why there is no answer yet, when the exchange's time is up.
pub(super) fn late(stage: &Stage, limit: Duration) -> SendError {
    let limit = span_text(limit);
    SendError::Timeout(match stage {
        Stage::Starting => format!("no connection became free within {limit}"),
        Stage::LookingUp(host) => format!("looking up {host} gave no answer within {limit}"),
        Stage::Connecting(addresses) => {
            let all: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("could not connect to {} within {limit}", all.join(", "))
        }
        Stage::Handshake(address) => {
            format!("the TLS handshake with {address} did not end within {limit}")
        }
        Stage::Waiting(address) => format!("no answer from {address} within {limit}"),
    })
}
