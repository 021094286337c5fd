//! TLS to RabbitMQ: rustls with the `ring` provider.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::broker::BrokerError;
use crate::tls::Explaining;

/// The configuration: whom to trust (default: whom the operating system trusts) and, where given,
/// the client's own certificate and its key.
pub(super) fn client_config(
    ca_file: Option<&Path>,
    client_cert_file: Option<&Path>,
    client_key_file: Option<&Path>,
) -> Result<ClientConfig, BrokerError> {
    let roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => system_roots()?,
    };
    // Named here because rustls panics where two providers are compiled in and none is chosen.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| BrokerError::configuration(&format!("TLS: {error}")))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BrokerError::configuration(&format!("TLS: {error}")))?
        // Dangerous by name only: the verifier is that of webpki, wrapped to say in words why it
        // refuses.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Explaining::new(verifier)));
    match (client_cert_file, client_key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| {
                BrokerError::configuration(&format!(
                    "client certificate {}: {error}",
                    cert.display()
                ))
            }),
        (Some(_), None) => Err(BrokerError::configuration(
            "a client certificate is set, but no key for it",
        )),
        (None, Some(_)) => Err(BrokerError::configuration(
            "a client key is set, but no certificate for it",
        )),
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, BrokerError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| {
            BrokerError::configuration(&format!("CA file {}: {error}", file.display()))
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, BrokerError> {
    let mut roots = RootCertStore::empty();
    // Systems carry authorities that rustls cannot read. One of them is no reason to trust none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(BrokerError::configuration(
            "the operating system has no CA certificates; set a CA file",
        ));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let failed = |error| {
        BrokerError::configuration(&format!("certificate file {}: {error}", file.display()))
    };
    let found = CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if found.is_empty() {
        return Err(BrokerError::configuration(&format!(
            "certificate file {}: no certificate in it",
            file.display()
        )));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, BrokerError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        BrokerError::configuration(&format!("key file {}: {error}", file.display()))
    })
}
