//! Our own connections to other servers: whom to believe, and the handshake as a client.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::certificate::{self, read_certificates};
use super::{Stream, provider};
use crate::dial::Trust;

/// Makes encrypted connections to servers. Clones share their sessions.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

/// An encrypted connection to a server.
pub type Connected<T> = Stream<tokio_rustls::client::TlsStream<T>>;

/// Why nobody can be connected to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file named by `--ca`.
    #[error(transparent)]
    File(#[from] certificate::Error),
    /// A certificate that is not good for this.
    #[error("{0} (--ca) holds a certificate that cannot be used: {1}")]
    Unusable(PathBuf, rustls::Error),
    /// The system has no root certificates.
    #[error(
        "this system has no root certificates ({0}); install them (Debian: ca-certificates), or give those to believe with --ca FILE"
    )]
    NoRoots(String),
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    SetUp(#[from] rustls::Error),
}

impl Connector {
    /// Believes whom `trust` says, and offers to speak `protocols` (ALPN names, the preferred one first).
    ///
    /// # Errors
    /// When there are no root certificates, or none that can be used.
    pub fn new(trust: &Trust, protocols: &[&[u8]]) -> Result<Self, Error> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut config = match trust {
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            trust => builder
                .with_root_certificates(roots(trust)?)
                .with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self(Arc::new(config)))
    }

    /// Makes the handshake with the server called `host`, a name or an address.
    ///
    /// # Errors
    /// As the system or rustls gives them; the latter are of the kind `InvalidData`.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: T,
    ) -> std::io::Result<Connected<T>> {
        // A zone (%eth0) is no part of the name.
        let name = host.split_once('%').map_or(host, |(address, _)| address);
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, stream).await.map(Stream)
    }
}

impl<T> Connected<T> {
    /// What was agreed on by ALPN.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

fn roots(trust: &Trust) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    if let Trust::File(file) = trust {
        for certificate in read_certificates(file, "--ca")? {
            roots
                .add(certificate)
                .map_err(|error| Error::Unusable(file.clone(), error))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    // A few that cannot be used are usual; none at all is not.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(Error::NoRoots(match errors.is_empty() {
            true => "none were found".to_owned(),
            false => errors.join("; "),
        }));
    }
    Ok(roots)
}

/// Believes every certificate. That the server has its key is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
