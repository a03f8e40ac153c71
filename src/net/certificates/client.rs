//! TLS of a connection that we open ourselves: `config::ClientTls` -> a configuration of rustls.
//!
//! Knows no sockets: [`ClientTlsContext::connect`] gives a state machine that the caller drives.
//!
//! 1. Nothing is trusted that the caller did not name: no authority at all is an error at load, never "accept all".
//! 2. Without comparison of names the chain and the dates of a server's certificate are checked all the same.
//! 3. A session is resumed only in the context that it began in.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::{Fault, KeyLogFile, TlsError, certified_key, pem, provider};
use crate::config::{self, ClientTls, TlsVersion};

/// TLS towards servers, ready for use.
pub struct ClientTlsContext {
    config: Arc<ClientConfig>,
    warnings: Vec<String>,
}

impl fmt::Debug for ClientTlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTlsContext")
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl ClientTlsContext {
    /// Reads and checks all that `tls` names.
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(tls: &ClientTls) -> Result<ClientTlsContext, TlsError> {
        let mut warnings = Vec::new();
        // The broker's own pair of certificate and key is read, checked and refused in the same way.
        let pair = config::Tls {
            ciphers: tls.ciphers.clone(),
            ..config::Tls::one_way(
                tls.certfile.clone().unwrap_or_default(),
                tls.keyfile.clone().unwrap_or_default(),
            )
        };
        let provider = Arc::new(provider(&pair, &mut warnings)?);
        let verifier = Arc::new(Verifier {
            webpki: authorities(tls, &provider, &mut warnings)?,
            ignores_name: tls.ignores_name,
        });
        let versions: &[_] = match tls.version {
            None => &[&TLS13, &TLS12],
            Some(TlsVersion::V12) => &[&TLS12],
            Some(TlsVersion::V13) => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&tls.certfile, &tls.keyfile) {
            (None, None) => builder.with_no_client_auth(),
            (Some(_), Some(_)) => {
                let certified = certified_key(&pair, &provider, &mut warnings)?;
                let certified = rustls::sign::SingleCertAndKey::from(certified);
                builder.with_client_cert_resolver(Arc::new(certified))
            }
            (Some(_), None) => return Err(TlsError::HalfPair("a certificate", "its private key")),
            (None, Some(_)) => return Err(TlsError::HalfPair("a private key", "its certificate")),
        };
        config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into()).collect();
        if let Some(path) = &tls.keylog {
            config.key_log = Arc::new(KeyLogFile::open(path)?);
        }
        Ok(ClientTlsContext {
            config: Arc::new(config),
            warnings,
        })
    }

    /// Begins TLS with the server `name`: a host name, or an IP address, of version 6 also in brackets.
    /// # Errors
    /// If no server can have this name.
    pub fn connect(&self, name: &str) -> Result<ClientConnection, TlsError> {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let server_name = match bare.unwrap_or(name).parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| TlsError::ServerName(name.to_owned()))?,
        };
        ClientConnection::new(Arc::clone(&self.config), server_name).map_err(TlsError::Setup)
    }

    /// What the user should know, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What trusts the authorities that `tls` names, of which there is at least one.
fn authorities(
    tls: &ClientTls,
    provider: &Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut add = |option, path: &Path, found: Vec<CertificateDer<'static>>| match roots
        .add_parsable_certificates(found)
    {
        (0, _) => Err(TlsError::file(option, path)(Fault::NoAuthority)),
        _ => Ok(()),
    };
    if let Some(path) = &tls.cafile {
        let found = pem::certificates(path).map_err(TlsError::file("cafile", path))?;
        add("cafile", path, found)?;
    }
    if let Some(path) = &tls.capath {
        let found = pem::directory(path, warnings).map_err(TlsError::file("capath", path))?;
        add("capath", path, found)?;
    }
    if tls.trusts_system {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(TlsError::NothingTrusted);
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Setup(Error::General(error.to_string())))
}

/// webpki's verdict on servers, with or without their names.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    ignores_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // webpki compares the name last: all else is good by then.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.ignores_name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
