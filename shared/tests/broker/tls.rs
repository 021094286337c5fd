//! `amqps://` to RabbitMQ through a proxy that ends TLS and insists on client certificates.

use std::path::PathBuf;
use std::sync::Arc;

use posthaste_shared::broker::Broker as _;
use posthaste_shared::broker::amqp::AmqpOptions;
use posthaste_shared::domain::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::amqp_bench::{RabbitMq, connected};
use super::bench::{Bench, ids, message, publish, take, until};
use super::proxy::Proxy;

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        (certificate, key)
    }

    /// The configuration of a server that takes only clients whose certificate this authority
    /// issued.
    fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let (certificate, key) = self.issue("localhost");
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// Files and a proxy for one test.
struct Secured {
    rabbitmq: RabbitMq,
    proxy: Proxy,
    directory: tempfile::TempDir,
}

impl Secured {
    async fn new() -> Self {
        let rabbitmq = RabbitMq::new();
        let authority = Authority::new();
        let url = url::Url::parse(&rabbitmq.url).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
        let proxy = Proxy::ending_tls(target, authority.server()).await;
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue("client");
        for (name, text) in [
            ("ca.pem", authority.0.pem()),
            ("other-ca.pem", Authority::new().0.pem()),
            ("client.pem", certificate.pem()),
            ("client.key", key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self {
            rabbitmq,
            proxy,
            directory,
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    fn options(&self) -> AmqpOptions {
        let mut url = self
            .rabbitmq
            .url
            .replacen("amqp://", "amqps://", 1)
            .parse::<url::Url>()
            .unwrap();
        url.set_host(Some("localhost")).unwrap();
        url.set_port(Some(self.proxy.address.port())).unwrap();
        AmqpOptions {
            url: Secret::new(url.as_str()),
            ca_file: self.file("ca.pem"),
            client_cert_file: self.file("client.pem"),
            client_key_file: self.file("client.key"),
            ..self.rabbitmq.options()
        }
    }

    /// What `ping` says once a connection was tried.
    async fn refusal(&self, options: AmqpOptions) -> String {
        let broker = self.rabbitmq.open(options).await;
        let mut text = String::new();
        until("tried", async || {
            text = broker.ping().await.unwrap_err().to_string();
            !text.contains("still connecting")
        })
        .await;
        broker.close().await;
        text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_over_tls_with_an_authority_and_a_client_certificate_of_its_own() {
    let secured = Secured::new().await;
    let broker = secured.rabbitmq.open(secured.options()).await;
    connected(&*broker).await;
    publish(&*broker, vec![message("sealed")]).await;
    let mut consumer = broker.consume(1).await.unwrap();
    assert_eq!(ids(&take(&mut *consumer, 1).await), ["sealed"]);
    let described = broker.describe().await;
    assert!(
        described.contains(&("tls".to_owned(), "yes".to_owned())),
        "{described:?}"
    );
    secured.proxy.cut();
    until("it goes on", async || {
        broker.publish(vec![message("again")]).await[0].is_ok()
    })
    .await;
    broker.close().await;
    secured.rabbitmq.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_is_refused() {
    let secured = Secured::new().await;
    let options = AmqpOptions {
        ca_file: secured.file("other-ca.pem"),
        ..secured.options()
    };
    let text = secured.refusal(options).await;
    assert!(text.contains("certificate"), "{text}");
    let text = secured
        .refusal(AmqpOptions {
            ca_file: None,
            ..secured.options()
        })
        .await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_a_certificate_refuses_without_one() {
    let secured = Secured::new().await;
    let options = AmqpOptions {
        client_cert_file: None,
        client_key_file: None,
        ..secured.options()
    };
    let text = secured.refusal(options).await;
    assert!(!text.is_empty());
}
