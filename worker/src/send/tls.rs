//! TLS for outgoing requests: rustls with the system's trusted certificates, HTTP/2 or HTTP/1.1 by ALPN.
//! Key exchange is wrapped to note when a handshake begins: nothing else tells it apart from connecting.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SupportedKxGroup};
use rustls::{ClientConfig, NamedGroup};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::phases;

/// The client side's configuration.
pub(super) fn client_config() -> Result<ClientConfig, rustls::Error> {
    let provider = CryptoProvider { kx_groups: TIMED_GROUPS.clone(), ..rustls::crypto::ring::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Made once for the process: rustls wants them to live for ever.
static TIMED_GROUPS: LazyLock<Vec<&'static dyn SupportedKxGroup>> = LazyLock::new(|| {
    let groups = rustls::crypto::ring::default_provider().kx_groups;
    groups.into_iter().map(|group| &*Box::leak(Box::new(Timed(group))) as &'static dyn SupportedKxGroup).collect()
});

#[derive(Debug)]
struct Timed(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for Timed {
    /// Called while the handshake's first message is written.
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        phases::tls_begun();
        self.0.start()
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }
}
