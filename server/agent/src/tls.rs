//! TLS of the client: trust, own certificate, versions. Made anew for each connection, so that certificates which are
//! renewed on disk count from the next connection on.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion, version,
};

use crate::config::client::TlsConfig;

/// The authorities the system trusts, read once.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

fn system() -> Arc<RootCertStore> {
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "an authority of the system cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    };
    Arc::clone(SYSTEM.get_or_init(read))
}

/// What a connection needs to begin TLS. Reads the files that the configuration names.
pub(crate) fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>, String> {
    let versions: Vec<&SupportedProtocolVersion> = [&version::TLS12, &version::TLS13]
        .into_iter()
        .filter(|version| {
            let (tls12, tls13) = (version.version == rustls::ProtocolVersion::TLSv1_2, config.min_version.as_deref());
            !(tls12 && tls13 == Some("TLS13") || !tls12 && config.max_version.as_deref() == Some("TLS12"))
        })
        .collect();
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls: {error}"))?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let roots = match &config.ca {
            None => system(),
            Some(source) => {
                let pem = source.read().map_err(|what| format!("unable to load specified CA cert: {what}"))?;
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&pem)? {
                    roots.add(certificate).map_err(|error| format!("unable to use specified CA cert: {error}"))?;
                }
                Arc::new(roots)
            }
        };
        builder.with_root_certificates(roots)
    };
    let config = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let wrong = |what: String| format!("unable to use specified client cert & key: {what}");
            let chain = certificates(&cert.read().map_err(wrong)?)?;
            let key = key.read().map_err(wrong)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong(error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("a certificate was expected and none is there".to_owned()),
        Err(error) => Err(format!("a certificate cannot be read: {error}")),
    }
}

/// The name a server's certificate must have.
pub(crate) fn server_name(config: &TlsConfig, host: &str) -> Result<ServerName<'static>, String> {
    let name = if config.server_name.is_empty() { host } else { &config.server_name };
    ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(|error| format!("tls: {name:?}: {error}"))
}

/// Takes any certificate: `insecure_skip_verify`. Signatures are still checked, so that the peer has the key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
