//! Where connections come from: the system's TCP, or a network of another kind, such as that of
//! `tests/simulation`, which is in memory and in virtual time.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection that bytes are written to and read from.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Socket for T {}

/// Opens connections. Whoever calls it has checked the address against the egress policy.
pub trait Dial: Debug + Send + Sync + 'static {
    /// Connects to the address. The caller drops the future when that takes too long.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>>;
}

/// The TCP of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // A request is written in one piece or two: waiting for more to send would only delay
            // the second.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}
