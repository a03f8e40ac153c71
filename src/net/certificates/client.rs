//! TLS of a connection that we open ourselves: `config::ClientTls` -> a configuration of rustls.
//!
//! Knows no sockets: [`ClientTlsContext::connect`] gives a state machine that the caller drives.
//!
//! 1. Nothing is trusted that the caller did not name: no authority at all is an error at load, never "accept all".
//! 2. Without comparison of names the chain and the dates of a server's certificate are checked all the same.
//! 3. A session is resumed only in the context that it began in.
//! 4. Of what a server's certificate says only so much reaches a terminal, and nothing that would command it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, InvalidMessage, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;

use super::error::Refusal;
use super::name::{common_name, whole};
use super::verify::{ClientVerifier, INTERMEDIATES_MAX, Purpose};
use super::x509::Certificate;
use super::{KeyLogFile, TlsError, certified_key, pem, provider};
use crate::config::{self, ClientTls, TlsVersion};

/// The most names of a certificate that an error lists, and the most characters of each.
const NAMES_SHOWN_MAX: usize = 10;
const NAME_CHARS_MAX: usize = 200;

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
        let verifier = Arc::new(verifier(tls, &provider, &mut warnings)?);
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
                let certified =
                    certified_key(&pair, &provider, &mut warnings).map_err(of_client)?;
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

/// The error about a pair of certificate and key, as one about ours.
fn of_client(error: TlsError) -> TlsError {
    match error {
        TlsError::File {
            option,
            path,
            fault,
        } => TlsError::File {
            option: match option {
                "certfile" => "--cert",
                "keyfile" => "--key",
                other => other,
            },
            path,
            fault,
        },
        other => other,
    }
}

/// What judges servers by the authorities that `tls` names, of which there is at least one.
fn verifier(
    tls: &ClientTls,
    provider: &Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Verifier, TlsError> {
    let mut authorities = Vec::new();
    if let Some(path) = &tls.cafile {
        let found = pem::certificates(path).map_err(TlsError::file("--cafile", path))?;
        authorities.extend(found);
    }
    if let Some(path) = &tls.capath {
        let found = pem::directory(path, warnings).map_err(TlsError::file("--capath", path))?;
        authorities.extend(found);
    }
    if tls.trusts_system {
        let found = rustls_native_certs::load_native_certs();
        let failures = found.errors.iter();
        warnings.extend(
            failures.map(|error| {
                format!("Authorities of the operating system are passed over: {error}.")
            }),
        );
        authorities.extend(found.certs);
    }
    if authorities.is_empty() {
        return Err(TlsError::NothingTrusted);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(Verifier {
        path: ClientVerifier::new(Purpose::Server, authorities, None, false, provider),
        webpki: webpki.build().ok(),
        ignores_name: tls.ignores_name,
    })
}

/// Which servers are the ones that we want to talk to.
#[derive(Debug)]
struct Verifier {
    path: ClientVerifier,
    /// For name constraints. `None` if webpki can read none of the authorities.
    webpki: Option<Arc<WebPkiServerVerifier>>,
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
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .take(INTERMEDIATES_MAX + 1)
            .cloned()
            .collect();
        let constrained = match self.path.verify_path(&chain, now) {
            Ok(at) => at.is_some(),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Err(match Untrusted::of(&chain) {
                    Some(untrusted) => CertificateError::Other(OtherError(Arc::new(untrusted))),
                    None => CertificateError::UnknownIssuer,
                }
                .into());
            }
            Err(error) => return Err(error),
        };
        if constrained {
            let webpki = self
                .webpki
                .as_ref()
                .ok_or(CertificateError::from(Refusal::NameConstraints))?;
            match webpki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ) {
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        if !self.ignores_name {
            check_name(end_entity, server_name, constrained)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(&self.path, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(&self.path, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(&self.path)
    }
}

/// Whether the certificate is one of this server (RFC 6125). As with OpenSSL, and unlike with webpki, the common name
/// counts where there are no alternative names of hosts; as with Mosquitto an address may stand where a host may.
/// Neither is so below an authority with name constraints: nobody compared them with those.
fn check_name(
    der: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    has_name_constraints: bool,
) -> Result<(), CertificateError> {
    let certificate = Certificate::parse(der).ok_or(CertificateError::BadEncoding)?;
    let names = names(&certificate, !has_name_constraints);
    let is_that = |name: &Name| match (name, server_name) {
        (Name::Host(name), ServerName::DnsName(wanted)) => is_host(name, wanted.as_ref()),
        (Name::Address(name), ServerName::IpAddress(wanted)) => *name == IpAddr::from(*wanted),
        (Name::Host(name), ServerName::IpAddress(wanted)) => {
            !has_name_constraints && name.parse() == Ok(IpAddr::from(*wanted))
        }
        _ => false,
    };
    let matches = names.iter().any(is_that);
    match matches {
        true => Ok(()),
        false => Err(CertificateError::NotValidForNameContext {
            expected: server_name.to_owned(),
            presented: shown_names(&names),
        }),
    }
}

/// What a certificate is for, as its maker wrote it.
enum Name {
    Host(String),
    Address(IpAddr),
}

/// The names of a certificate, in their order.
fn names(certificate: &Certificate<'_>, with_common_name: bool) -> Vec<Name> {
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.x509.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(Name::Host((*name).to_owned())),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                    names.extend(v4.or(v6).map(Name::Address));
                }
                _ => {}
            }
        }
    }
    if with_common_name && !names.iter().any(|name| matches!(name, Name::Host(_))) {
        names.extend(common_name(certificate.x509.subject()).map(Name::Host));
    }
    names
}

/// Invariant 4.
fn shown_names(names: &[Name]) -> Vec<String> {
    let mut texts: Vec<String> = names
        .iter()
        .take(NAMES_SHOWN_MAX)
        .map(|name| match name {
            Name::Host(name) => shown(name),
            Name::Address(address) => address.to_string(),
        })
        .collect();
    if names.len() > NAMES_SHOWN_MAX {
        texts.push(format!("and {} more", names.len() - NAMES_SHOWN_MAX));
    }
    texts
}

/// What somebody wrote into a certificate, fit for a terminal.
fn shown(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(NAME_CHARS_MAX).collect();
    if text.escape_debug().nth(NAME_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// An authority that nobody here trusts, at the end of a server's chain.
#[derive(Debug)]
struct Untrusted {
    subject: String,
    /// `None` if the server's certificate signed itself.
    issuer: Option<String>,
}

impl Untrusted {
    /// Looks at names alone, of certificates that nobody vouches for.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Untrusted> {
        let chain: Vec<Certificate<'_>> = chain
            .iter()
            .filter_map(|der| Certificate::parse(der))
            .collect();
        let (server, mut rest) = chain.split_first()?;
        let show = |name| whole(name).map_or_else(|fault| fault.to_string(), |name| shown(&name));
        let mut last = server;
        // Those who send their chain in order get the whole way up; others a link in between.
        while let Some((next, above)) = rest.split_first() {
            if last.is_issued_by(next) && !last.is_self_issued() {
                last = next;
            }
            rest = above;
        }
        Some(Untrusted {
            subject: show(server.x509.subject()),
            issuer: (!server.is_self_issued()).then(|| show(last.x509.issuer())),
        })
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        match &self.issuer {
            Some(issuer) => write!(
                f,
                "The server's certificate '{subject}' comes from '{issuer}', an authority that is not trusted here: name \
                 the file of that authority (--cafile)."
            ),
            None => write!(
                f,
                "The server's certificate '{subject}' signed itself, and is not trusted here: if it is the right one, \
                 name its file (--cafile), since a certificate that signed itself is its own authority."
            ),
        }
    }
}

impl std::error::Error for Untrusted {}

/// Whether `name` of a certificate, which may begin with a label `*`, stands for `host`.
fn is_host(name: &str, host: &str) -> bool {
    let (name, host) = (name.trim_end_matches('.'), host.trim_end_matches('.'));
    match name.strip_prefix("*.") {
        // Not for a whole top-level domain, as with OpenSSL.
        Some(domain) if domain.contains('.') => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        Some(_) => false,
        None => name.eq_ignore_ascii_case(host),
    }
}

/// What went wrong with a server, what is wrong exactly, and what the user can do: a sentence or two.
pub fn describe_client(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => describe_certificate(error),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "The server does not speak TLS on this port: try the port of its TLS listener (-p 8883), or do without TLS."
            .to_owned(),
        Error::AlertReceived(alert) => describe_alert(*alert),
        Error::PeerIncompatible(reason) => {
            format!("The server's TLS and ours have nothing in common ({reason:?}): try another --tls-version, or no --ciphers.")
        }
        Error::NoApplicationProtocol => {
            "The server does not know the protocol that --tls-alpn names.".to_owned()
        }
        other => format!("{other}."),
    }
}

fn describe_alert(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::CertificateRequired => {
            "The server wants a certificate of ours: give one with --cert and --key."
        }
        AlertDescription::HandshakeFailure => {
            "The server ended the TLS handshake: it may want a certificate (--cert, --key), or other --ciphers."
        }
        AlertDescription::UnknownCA => {
            "The server does not know the authority that issued our certificate (--cert)."
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "The server does not accept our certificate (--cert).",
        AlertDescription::CertificateExpired => {
            "Our certificate (--cert) has expired, says the server."
        }
        AlertDescription::CertificateRevoked => {
            "Our certificate (--cert) is revoked, says the server."
        }
        AlertDescription::ProtocolVersion => {
            "The server does not speak TLS 1.2 or 1.3, or not the one of --tls-version."
        }
        AlertDescription::NoApplicationProtocol => {
            "The server does not know the protocol that --tls-alpn names."
        }
        AlertDescription::UnrecognisedName => {
            "The server knows nothing of the name that it is called by (-h)."
        }
        other => return format!("The server ended TLS ({other:?})."),
    };
    text.to_owned()
}

fn describe_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names = match presented.is_empty() {
                true => "nobody".to_owned(),
                false => presented.join(", "),
            };
            let expected = expected.to_str();
            format!(
                "The server's certificate is not for {expected}, but for {names}: connect by such a name (-h), or accept \
                 any server that the authority vouches for (--insecure)."
            )
        }
        CertificateError::Other(other) if other.0.is::<Untrusted>() => other.0.to_string(),
        CertificateError::InvalidPurpose => {
            "The server's certificate is not for servers (its extended key usage lacks serverAuth)."
                .to_owned()
        }
        other => {
            let text = super::describe(&Error::InvalidCertificate(other.clone()));
            format!("The server's certificate is not good: {text}.")
        }
    }
}

#[cfg(test)]
mod tests;
