//! Receivers that speak HTTP/2, behind TLS.

use std::sync::Mutex;

use h2::server::SendResponse;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

type Respond = SendResponse<Bytes>;

/// TLS for both sides, by a certificate of its own.
fn tls() -> (TlsAcceptor, ClientConfig) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), client)
}

/// A receiver whose requests on HTTP/2, numbered from 1, are handled by a function; on HTTP/1.1 it
/// answers 200. The function answers whether the connection goes on.
async fn receiver(
    handle: fn(usize, Respond) -> bool,
) -> (Receiver, Sender, Arc<Mutex<Vec<&'static str>>>) {
    let (acceptor, client) = tls();
    let spoken = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&spoken);
    let count = Arc::new(AtomicUsize::new(0));
    let mut receiver = Receiver::start(move |_, stream| {
        let acceptor = acceptor.clone();
        let heard = Arc::clone(&heard);
        let count = Arc::clone(&count);
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                heard.lock().unwrap().push("h2");
                serve(stream, &count, handle).await;
            } else {
                heard.lock().unwrap().push("http/1.1");
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    stream.write_all(OK).await.unwrap();
                }
            }
        }
    })
    .await;
    receiver.url.set_scheme("https").unwrap();
    let egress = Arc::new(EgressPolicy::new("127.0.0.0/8", true).unwrap());
    let tcp: Arc<dyn Dial> = Arc::new(Tcp);
    let sender = Sender {
        client: Client::with(&egress, &Resolver::new(&[]), &tcp, client),
        egress,
    };
    (receiver, sender, spoken)
}

async fn serve(
    stream: TlsStream<TcpStream>,
    count: &AtomicUsize,
    handle: fn(usize, Respond) -> bool,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, respond))) = connection.accept().await {
        if !handle(count.fetch_add(1, Ordering::SeqCst) + 1, respond) {
            return;
        }
    }
}

fn accept(mut respond: Respond) -> bool {
    respond
        .send_response(
            http::Response::builder().status(202).body(()).unwrap(),
            true,
        )
        .unwrap();
    true
}

#[tokio::test]
async fn a_large_head_is_read() {
    let (receiver, sender, _) = receiver(|_, mut respond| {
        let answer = http::Response::builder()
            .status(200)
            .header("x-policy", "a".repeat(17 * 1024));
        let _ = respond.send_response(
            answer
                .header("x-more", "b".repeat(60_000))
                .body(())
                .unwrap(),
            true,
        );
        true
    })
    .await;
    let reply = sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    assert_eq!(
        (reply.status, reply.headers["x-policy"].len()),
        (200, 17 * 1024)
    );
}

#[tokio::test]
async fn a_receiver_that_wants_http_1_1_gets_it_and_is_remembered() {
    let (receiver, sender, spoken) = receiver(|_, mut respond| {
        respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
        true
    })
    .await;
    for _ in 0..3 {
        let reply = sender
            .exchange(receiver.request(Reading::Body))
            .await
            .result
            .unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(*spoken.lock().unwrap(), ["h2", "http/1.1"]);
}

#[tokio::test]
async fn a_refused_stream_is_sent_again() {
    let (receiver, sender, _) = receiver(|number, mut respond| {
        if number == 1 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return true;
        }
        accept(respond)
    })
    .await;
    assert_eq!(
        sender
            .exchange(receiver.request(Reading::Body))
            .await
            .result
            .unwrap()
            .status,
        202
    );
}

#[tokio::test]
async fn a_reused_connection_that_dies_is_replaced() {
    let (receiver, sender, spoken) =
        receiver(|number, respond| number != 2 && accept(respond)).await;
    for _ in 0..2 {
        assert_eq!(
            sender
                .exchange(receiver.request(Reading::Body))
                .await
                .result
                .unwrap()
                .status,
            202
        );
    }
    assert_eq!(*spoken.lock().unwrap(), ["h2", "h2"]);
}

#[tokio::test]
async fn a_stream_that_is_reset_was_seen() {
    let (receiver, sender, _) = receiver(|number, mut respond| {
        if number == 2 {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            return true;
        }
        accept(respond)
    })
    .await;
    sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap();
    sender
        .exchange(receiver.request(Reading::Body))
        .await
        .result
        .unwrap_err();
}
