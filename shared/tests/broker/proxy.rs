//! A TCP proxy that cuts connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
    answers: Arc<Answers>,
}

/// What becomes of the server's answers.
#[derive(Default)]
struct Answers {
    muted: AtomicBool,
    losing_a_commit: AtomicBool,
    nacks: AtomicUsize,
    /// The channels of a RabbitMQ that said `basic.ack`, and whether those of each are kept back.
    channels: Mutex<HashMap<[u8; 2], bool>>,
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
        Self {
            address,
            shared,
            accepting,
        }
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

    /// Passes nothing on any more that the server says, though connections stay open. Not with TLS.
    pub(crate) fn mute(&self) {
        self.shared.answers.muted.store(true, Ordering::SeqCst);
    }

    /// Passes on again what the server says. What it said meanwhile is gone, so connections that
    /// waited for it wait on.
    pub(crate) fn unmute(&self) {
        self.shared.answers.muted.store(false, Ordering::SeqCst);
    }

    /// Cuts the connection of the next COMMIT when the server has answered, so that nobody hears
    /// it. Not with TLS.
    pub(crate) fn lose_a_commit(&self) {
        self.shared
            .answers
            .losing_a_commit
            .store(true, Ordering::SeqCst);
    }

    /// Turns the next so many `basic.ack` of a RabbitMQ into `basic.nack`. Returns how many were
    /// left of an earlier call. Not with TLS.
    pub(crate) fn nack(&self, count: usize) -> usize {
        self.shared.answers.nacks.swap(count, Ordering::SeqCst)
    }

    /// How many channels of a RabbitMQ have said `basic.ack`. For one connection, not with TLS.
    pub(crate) fn acking(&self) -> usize {
        self.shared.answers.channels.lock().unwrap().len()
    }

    /// Keeps back every `basic.ack` on those channels, until they are opened anew.
    pub(crate) fn keep_acks(&self) {
        self.shared
            .answers
            .channels
            .lock()
            .unwrap()
            .values_mut()
            .for_each(|kept_back| *kept_back = true);
    }
}

/// How many bytes of a frame come before its method: type, channel (2), length (4).
const FRAME_HEAD: usize = 7;
/// The length of the whole frame of a `basic.ack`: method (4), delivery tag (8), flags, end.
const ACK_FRAME: usize = FRAME_HEAD + 14;
const ACK: [u8; 4] = [0, 60, 0, 80];

impl Answers {
    fn see_questions(&self, bytes: &[u8]) {
        const OPEN: [u8; 4] = [0, 20, 0, 10];
        for at in
            (FRAME_HEAD..bytes.len().saturating_sub(3)).filter(|at| bytes[*at..at + 4] == OPEN)
        {
            self.channels
                .lock()
                .unwrap()
                .remove(&[bytes[at - 6], bytes[at - 5]]);
        }
    }

    /// Takes out what is kept back.
    fn keep_acks(&self, bytes: &mut Vec<u8>) {
        let mut channels = self.channels.lock().unwrap();
        let mut at = FRAME_HEAD;
        while at + ACK_FRAME - FRAME_HEAD <= bytes.len() {
            let start = at - FRAME_HEAD;
            if bytes[at..at + 4] == ACK
                && *channels
                    .entry([bytes[start + 1], bytes[start + 2]])
                    .or_default()
            {
                bytes.drain(start..start + ACK_FRAME);
            } else {
                at += 1;
            }
        }
    }

    /// Both methods have the same arguments: a delivery tag and a byte of flags.
    fn make_nacks(&self, bytes: &mut [u8]) {
        const NACK: [u8; 4] = [0, 60, 0, 120];
        for at in 0..bytes.len().saturating_sub(3) {
            let left = |left: usize| left.checked_sub(1);
            if bytes[at..at + 4] == ACK
                && self
                    .nacks
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
                    .is_ok()
            {
                bytes[at..at + 4].copy_from_slice(&NACK);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if shared.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let silent = shared.silent.load(Ordering::SeqCst);
        let target = target.clone();
        let tls = tls.clone();
        let answers = Arc::clone(&shared.answers);
        let mut connections = shared.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if silent {
                return std::future::pending().await;
            }
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            match tls {
                None => drop(pass_on(client, server, &answers).await),
                Some(tls) => {
                    let Ok(mut client) = tls.accept(client).await else {
                        return;
                    };
                    let mut server = server;
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            }
        });
    }
}

async fn pass_on(
    mut client: TcpStream,
    mut server: TcpStream,
    answers: &Answers,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let losing = AtomicBool::new(false);
    let questions = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut bytes).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            if bytes[..length].windows(6).any(|window| window == b"COMMIT") {
                losing.store(
                    answers.losing_a_commit.swap(false, Ordering::SeqCst),
                    Ordering::SeqCst,
                );
            }
            answers.see_questions(&bytes[..length]);
            to_server.write_all(&bytes[..length]).await?;
        }
    };
    let answered = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut bytes).await?;
            if losing.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            if length == 0 {
                return to_client.shutdown().await;
            }
            let mut said = bytes[..length].to_vec();
            answers.make_nacks(&mut said);
            answers.keep_acks(&mut said);
            if !answers.muted.load(Ordering::SeqCst) {
                to_client.write_all(&said).await?;
            }
        }
    };
    tokio::try_join!(questions, answered).map(drop)
}
