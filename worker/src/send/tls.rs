//! TLS for outgoing requests: rustls with the system's trusted certificates.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// The client side's configuration, which offers no version of HTTP yet.
///
/// # Errors
/// When the system's trusted certificates cannot be used.
pub(super) fn client_config() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth())
}
