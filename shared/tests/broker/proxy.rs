//! A TCP proxy that cuts connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Listens on a port of its own and passes everything on, until told otherwise.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<JoinSet<()>>,
    refusing: AtomicBool,
    silent: AtomicBool,
}

impl Proxy {
    pub(crate) async fn to(target: String) -> Self {
        Self::start(target, None).await
    }

    /// Takes TLS connections and passes on what is inside.
    pub(crate) async fn ending_tls(target: String, tls: ServerConfig) -> Self {
        Self::start(target, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn start(target: String, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, target, tls, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Ends every connection at once.
    pub(crate) fn cut(&self) {
        self.shared.connections.lock().unwrap().abort_all();
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        let mut connections = self.shared.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.len()
    }

    /// Whether to end every new connection at once.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Whether to take new connections and never say anything.
    pub(crate) fn silence(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        if shared.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let silent = shared.silent.load(Ordering::SeqCst);
        let (target, tls) = (target.clone(), tls.clone());
        let mut connections = shared.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if silent {
                return std::future::pending().await;
            }
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            match tls {
                None => drop(tokio::io::copy_bidirectional(&mut client, &mut server).await),
                Some(tls) => {
                    let Ok(mut client) = tls.accept(client).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            }
        });
    }
}
