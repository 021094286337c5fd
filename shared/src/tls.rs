//! TLS of clients, with errors that say what is wrong with a certificate.
//!
//! rustls names a kind (`UnknownIssuer`), and does not tell a self-signed certificate from one
//! whose issuer is missing. [`Explaining`] looks at the certificate; [`reword`] puts what it found
//! in the place of rustls' words.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    SignatureScheme,
};

use crate::domain::time::Timestamp;

/// The most names of a certificate that an error lists.
const MAX_NAMES: usize = 5;

/// A client's configuration that trusts whom the operating system trusts and explains what is wrong
/// with a certificate. Offers no version of HTTP yet (ALPN).
///
/// # Errors
/// When the system's trusted certificates cannot be used.
pub fn client_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Explaining::new(Arc::new(verifier))))
        .with_no_client_auth())
}

/// Verifies as the verifier within does; what that refuses is refused with the reason in words.
#[derive(Debug)]
pub struct Explaining(Arc<dyn ServerCertVerifier>);

impl Explaining {
    /// Wraps a verifier, whose refusals it explains.
    #[must_use]
    pub fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self(verifier)
    }
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(wrong)
                // Only after the verifier has refused it: a self-signed certificate that the
                // operator trusts is a good one.
                if may_be_self_signed(&wrong) && is_self_signed(end_entity) =>
            {
                fault("it is self-signed, so nobody whom this machine trusts vouches for it")
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

/// The fault that [`Explaining`] found.
#[derive(Debug)]
struct Fault(&'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Fault {}

fn fault(words: &'static str) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Fault(words)))))
}

/// Other faults, such as a wrong name, are those that its owner has to mend first.
const fn may_be_self_signed(wrong: &CertificateError) -> bool {
    matches!(
        wrong,
        CertificateError::UnknownIssuer | CertificateError::Other(_)
    )
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}

/// A TLS error in words.
#[must_use]
pub fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(wrong) => {
            format!("the server's certificate is not accepted: {}", of(wrong))
        }
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS there".to_owned(),
        rustls::Error::AlertReceived(alert) => {
            format!(
                "the other side refused the handshake ({})",
                spaced(&format!("{alert:?}"))
            )
        }
        rustls::Error::PeerIncompatible(_) => {
            "the other side offers no version or cipher of TLS that is safe".to_owned()
        }
        other => other.to_string(),
    }
}

fn of(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::UnknownIssuer => {
            "its issuer is unknown: this machine does not trust the authority, or the \
                                            server does not send the intermediate certificates"
                .to_owned()
        }
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it expired at {}", at(*not_after))
        }
        CertificateError::NotValidYet => "it is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "it is not valid before {}; is this machine's clock right?",
                at(*not_before)
            )
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            format!(
                "it is not for {} but for {}",
                expected.to_str(),
                names(presented)
            )
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it was not issued for servers".to_owned()
        }
        CertificateError::Other(OtherError(found)) => match found.downcast_ref::<Fault>() {
            Some(fault) => fault.to_string(),
            None => spaced(&found.to_string()),
        },
        other => spaced(&format!("{other:?}")),
    }
}

fn at(time: UnixTime) -> String {
    let micros = i64::try_from(time.as_secs().saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    Timestamp::from_micros(micros).to_string()
}

/// The names of a certificate: rustls has them as `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| match (name.find(['"', '(']), name.rfind(['"', ')'])) {
        (Some(start), Some(end)) if start < end => name[start + 1..end]
            .trim_matches(['"', '(', ')'])
            .to_owned(),
        _ => name.clone(),
    };
    let mut shown: Vec<String> = presented.iter().take(MAX_NAMES).map(bare).collect();
    if presented.len() > MAX_NAMES {
        shown.push(format!("{} others", presented.len() - MAX_NAMES));
    }
    if shown.is_empty() {
        "no name at all".to_owned()
    } else {
        shown.join(", ")
    }
}

/// `UnsupportedCertVersion` as `unsupported cert version`, without what is in brackets.
fn spaced(name: &str) -> String {
    let end = name
        .find(['(', '{', ' '])
        .filter(|_| !name.contains(". "))
        .unwrap_or(name.len());
    let camel = name.chars().next().is_some_and(char::is_uppercase) && !name[..end].contains(' ');
    if !camel {
        return name.to_owned();
    }
    let mut words = String::new();
    for c in name[..end].chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// `text`, which describes `error`, with a TLS error beneath it in words; `None` when there is
/// none.
#[must_use]
pub fn reword(text: &str, error: &(dyn Error + 'static)) -> Option<String> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>())?;
    let raw = found.to_string();
    let words = words(found);
    // In its place where the error quotes it, else behind: libraries differ in whether they repeat
    // their cause.
    Some(if text.contains(&raw) {
        text.replace(&raw, &words)
    } else {
        format!("{text}: {words}")
    })
}

/// An error and what caused it, outermost first; errors of IO show what they carry.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| beneath(*cause))
}

fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        // An `io::Error` passes over what it wraps and gives that one's cause instead.
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;

    use super::*;

    /// An authority that the verifier trusts or not, and a certificate of it.
    fn said(trusted: bool, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let root = if trusted {
            authority.self_signed(&authority_key).unwrap()
        } else {
            let mut another = authority.clone();
            another
                .distinguished_name
                .push(rcgen::DnType::CommonName, "another");
            another.self_signed(&KeyPair::generate().unwrap()).unwrap()
        };
        let issuer = Issuer::new(authority, authority_key);
        let mut params =
            CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
        change(&mut params);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a server");
        refusal(root.der(), params.signed_by(&key, &issuer).unwrap().der())
    }

    fn refusal(root: &CertificateDer<'static>, certificate: &CertificateDer<'_>) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        let verified = Explaining::new(verifier).verify_server_cert(
            certificate,
            &[],
            &name,
            &[],
            UnixTime::now(),
        );
        verified.map_or_else(|error| words(&error), |_| "accepted".to_owned())
    }

    #[test]
    fn each_fault_of_a_certificate_has_its_words() {
        assert_eq!(said(true, |_| ()), "accepted");
        for (said, part) in [
            (said(false, |_| ()), "issuer is unknown"),
            (
                said(true, |params| {
                    params.not_after = rcgen::date_time_ymd(2020, 1, 2)
                }),
                "expired at 2020-01-02",
            ),
            (
                said(true, |params| {
                    params.not_before = rcgen::date_time_ymd(2999, 1, 2)
                }),
                "not valid before 2999-01-02",
            ),
            (
                said(true, |params| {
                    *params = CertificateParams::new(vec!["c.example".to_owned()]).unwrap()
                }),
                "not for a.example but for c.example",
            ),
        ] {
            assert!(said.contains(part) && !said.contains("Context"), "{said}");
        }
    }

    #[test]
    fn a_self_signed_certificate_is_called_so_with_or_without_the_rights_of_an_authority() {
        let root_key = KeyPair::generate().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name
            .push(rcgen::DnType::CommonName, "another");
        let root = root.self_signed(&root_key).unwrap();
        for is_ca in [
            IsCa::NoCa,
            IsCa::ExplicitNoCa,
            IsCa::Ca(BasicConstraints::Unconstrained),
        ] {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.is_ca = is_ca;
            let said = refusal(root.der(), params.self_signed(&key).unwrap().der());
            assert!(
                said.contains("self-signed") && !said.contains("Other"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_beneath_other_errors_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, tls);
        let said = reword(&format!("cannot connect: {error}"), &error).unwrap();
        assert!(
            said.starts_with(
                "cannot connect: the server's certificate is not accepted: its issuer"
            ),
            "{said}"
        );
        assert_eq!(reword("x", &io::Error::other("y")), None);
        assert_eq!(spaced("UnsupportedCertVersion"), "unsupported cert version");
        assert_eq!(spaced("a sentence. And another"), "a sentence. And another");
    }
}
