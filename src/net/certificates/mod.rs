//! TLS of a listener: the operator's files and lists of ciphers -> a configuration of rustls.
//!
//! | file | knows |
//! |---|---|
//! | `pem` | the operator's files |
//! | `suites` | OpenSSL's names of ciphers |
//! | `x509` | what a certificate says |
//! | `verify` | which certificates of peers are good |
//! | `name` | which user a certificate stands for |
//! | `error` | what the operator did wrong |
//! | `client` | TLS of connections that we open ourselves |
//! | `describe` | what went wrong in a handshake |
//!
//! Knows no sockets: [`TlsContext`] is made off the loop, at the start and at each reload, and never changes.
//!
//! 1. A context exists only if every file that it needs is whole and good. No file that is empty, damaged or missing
//!    makes a listener ask for less.
//! 2. With `require_certificate` nobody gets through a handshake without a certificate; without it none is asked for.
//! 3. A session is resumed only in the context that it began in: each has ticket keys and a session cache of its own.
//!    What an earlier context accepted is checked in full by the next. Within one, [`TlsContext::still_accepts`] tells
//!    whether a resumed client's certificate has expired in the meantime: whoever drives the handshake must ask.
//! 4. No private key or secret is in an error, a warning or `Debug`.
//!
//! The protocol `mqtt` (ALPN) is agreed on with clients that offer it. A client that offers only others is not refused,
//! as with Mosquitto; rustls would, once it knows a protocol. Hence two configurations that differ in nothing else:
//! [`TlsContext::server_config`] has no protocol, [`TlsContext::server_config_for`] has one where the client asks for
//! it.

mod client;
mod describe;
mod error;
mod name;
mod pem;
mod suites;
mod verify;
mod x509;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{KeyLog, ServerConfig};

pub use self::client::{ClientTlsContext, describe_client};
pub use self::describe::{describe, describe_behind_hello};
pub use self::error::{Fault, NameFault, TlsError};

use self::error::{MAKE_CERTIFICATE, MAKE_REVOCATION_LIST, Refusal};
use self::verify::{ClientVerifier, Purpose, RevocationList};
use self::x509::{Certificate, RSA_BITS_MIN, check_key};
use crate::config::{self, CertificateName, TlsVersion};

/// The protocol that clients offer for MQTT (ALPN).
const ALPN_MQTT: &[u8] = b"mqtt";

/// TLS 1.2 sessions without tickets that one context remembers.
const SESSIONS_MAX: usize = 1024;

/// TLS of one listener, ready for use.
pub struct TlsContext {
    config: Arc<ServerConfig>,
    config_mqtt: Arc<ServerConfig>,
    verifier: Option<Arc<ClientVerifier>>,
    user_name: Option<CertificateName>,
    warnings: Vec<String>,
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsContext")
            .field("requires_certificate", &self.verifier.is_some())
            .field("user_name", &self.user_name)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl TlsContext {
    /// Reads and checks all that `tls` names; secrets of connections are appended to `keylog`.
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(tls: &config::Tls, keylog: Option<&Path>) -> Result<TlsContext, TlsError> {
        let mut warnings = Vec::new();
        let provider = Arc::new(provider(tls, &mut warnings)?);
        let certified = certified_key(tls, &provider, &mut warnings)?;
        let verifier = client_verifier(tls, &provider, &mut warnings)?.map(Arc::new);
        let versions: &[_] = match tls.version_min {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?;
        let builder = match &verifier {
            Some(verifier) => builder
                .with_client_cert_verifier(Arc::clone(verifier) as Arc<dyn ClientCertVerifier>),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // As Mosquitto does, but only for an order that somebody wrote: a client without AES in hardware knows best.
        config.ignore_client_order = tls.ciphers.is_some() || tls.ciphers_tls13.is_some();
        config.ticketer = Ticketer::new().map_err(TlsError::Setup)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        // One is enough for a client that connects once at a time; with client certificates each is a few KiB.
        config.send_tls13_tickets = 1;
        if let Some(path) = keylog {
            config.key_log = Arc::new(KeyLogFile::open(path)?);
            warnings.push(format!(
                "The secrets of all TLS connections are written to {}: whoever reads it can read them.",
                path.display()
            ));
        }
        let mut config_mqtt = config.clone();
        config_mqtt.alpn_protocols = vec![ALPN_MQTT.to_vec()];
        Ok(TlsContext {
            config: Arc::new(config),
            config_mqtt: Arc::new(config_mqtt),
            verifier,
            user_name: tls.user_name,
            warnings,
        })
    }

    /// The configuration for a connection whose client is not known yet; it agrees on no protocol (ALPN).
    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The configuration for the client that said `hello`; it agrees on `mqtt` if the client offers that.
    pub fn server_config_for(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        match hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN_MQTT))
        {
            true => &self.config_mqtt,
            false => &self.config,
        }
    }

    /// What the operator should know, a sentence each: a certificate out of date, ciphers that do not exist.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a client must show a certificate.
    pub fn requires_certificate(&self) -> bool {
        self.verifier.is_some()
    }

    /// The user name that a client's certificate, the first of `chain`, stands for; `None` if it is not to be one.
    /// # Errors
    /// If it is to be one and there is no certificate, or it has no name that a client may have. The connection is to
    /// be refused.
    pub fn user_name(&self, chain: &[CertificateDer<'_>]) -> Result<Option<String>, TlsError> {
        let Some(kind) = self.user_name else {
            return Ok(None);
        };
        let der = chain.first().ok_or(TlsError::NoCertificate)?;
        let certificate = Certificate::parse(der).ok_or(TlsError::Name(NameFault::Unreadable))?;
        let subject = certificate.x509.subject();
        match kind {
            CertificateName::CommonName => name::common_name(subject),
            CertificateName::Subject => name::whole(subject),
        }
        .map(Some)
        .map_err(TlsError::Name)
    }

    /// Whether `other` judges every client's certificate as this one does: then a reload need not look at those that
    /// are connected, which takes about a tenth of a millisecond for each.
    pub fn lets_in_the_same(&self, other: &TlsContext) -> bool {
        match (&self.verifier, &other.verifier) {
            (Some(one), Some(other)) => one.lets_in_the_same(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Whether a chain that was accepted before would be now: for the clients of an older context after a reload, and
    /// for those that resumed a session, whose certificate no handshake looks at.
    /// # Errors
    /// Why not.
    pub fn still_accepts(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        match &self.verifier {
            Some(_) if chain.is_empty() => Err(TlsError::NoCertificate),
            Some(verifier) => verifier
                .verify(chain, UnixTime::now())
                .map_err(TlsError::Refused),
            None => Ok(()),
        }
    }
}

/// The algorithms of aws-lc-rs with the suites that `tls` wants.
fn provider(tls: &config::Tls, warnings: &mut Vec<String>) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    let (tls13, tls12): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|suite| suite.tls13().is_some());
    let fail = |option, list: &str| {
        let list = list.to_owned();
        move |available| TlsError::Ciphers {
            option,
            list,
            available,
        }
    };
    provider.cipher_suites.extend(match &tls.ciphers_tls13 {
        Some(list) => suites::tls13(list, warnings).map_err(fail("ciphers_tls1.3", list))?,
        None => tls13,
    });
    provider.cipher_suites.extend(match &tls.ciphers {
        Some(list) => suites::tls12(list, warnings).map_err(fail("ciphers", list))?,
        None => tls12,
    });
    Ok(provider)
}

/// The broker's own certificate and key.
fn certified_key(
    tls: &config::Tls,
    provider: &CryptoProvider,
    warnings: &mut Vec<String>,
) -> Result<CertifiedKey, TlsError> {
    let chain =
        pem::certificates(&tls.certfile).map_err(TlsError::file("certfile", &tls.certfile))?;
    let key =
        private_key(&tls.keyfile, provider).map_err(TlsError::file("keyfile", &tls.keyfile))?;
    check_chain(&chain, &*key, tls, provider, warnings)
        .map_err(TlsError::file("certfile", &tls.certfile))?;
    Ok(CertifiedKey::new(chain, key))
}

fn private_key(path: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, Fault> {
    let der = pem::private_key(path)?;
    let bits = pem::rsa_bits(&der);
    let load = provider.key_provider.load_private_key(der);
    match bits {
        Some(bits) if bits < RSA_BITS_MIN => Err(Fault::WeakKey(bits)),
        _ => load.map_err(|_| Fault::UnsupportedKey),
    }
}

/// Whether clients can be shown `chain`: the key's own certificate first, nothing in it that clients no longer accept.
fn check_chain(
    chain: &[CertificateDer<'_>],
    key: &dyn SigningKey,
    tls: &config::Tls,
    provider: &CryptoProvider,
    warnings: &mut Vec<String>,
) -> Result<(), Fault> {
    let read = |der| Certificate::parse(der).expect("read before");
    let chain: Vec<Certificate<'_>> = chain.iter().map(|der| read(der)).collect();
    if let Some(public_key) = key.public_key() {
        let is_of_key =
            |certificate: &Certificate<'_>| certificate.public_key().raw == public_key.as_ref();
        if !is_of_key(&chain[0]) {
            return Err(match chain.iter().position(is_of_key) {
                Some(index) => Fault::WrongOrder(index + 1),
                None => Fault::Mismatch(tls.keyfile.clone()),
            });
        }
    }
    for certificate in &chain {
        match check_key(
            certificate.public_key(),
            &provider.signature_verification_algorithms,
        ) {
            Err(Refusal::WeakKey(bits)) => return Err(Fault::WeakKey(bits)),
            Err(_) => return Err(Fault::UnsupportedKey),
            Ok(()) => {}
        }
        match certificate.weak_hash() {
            // Nobody checks the signature of a certificate that signed itself: it is trusted or not.
            Some(hash) if certificate.is_self_issued() => {
                warnings.push(format!("{} is signed with {hash}.", tls.certfile.display()));
            }
            Some(hash) => return Err(Fault::WeakSignature(hash)),
            None => {}
        }
    }
    if chain.windows(2).any(|pair| !pair[0].is_issued_by(&pair[1])) {
        warnings.push(format!(
            "The certificates in {} are not in order: each should be followed by that of its issuer. Some clients will \
             refuse them.",
            tls.certfile.display()
        ));
    }
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    for certificate in &chain {
        let (not_before, not_after) = certificate.dates();
        let subject = certificate.x509.subject();
        if now > not_after {
            warnings.push(format!(
                "The certificate '{subject}' in {} has expired: clients will refuse it. Make another one: \
                 {MAKE_CERTIFICATE}",
                tls.certfile.display()
            ));
        } else if now < not_before {
            warnings.push(format!(
                "The certificate '{subject}' in {} is not yet valid: clients will refuse it. Is this machine's clock \
                 right?",
                tls.certfile.display()
            ));
        }
    }
    Ok(())
}

/// What checks the certificates of clients; `None` if clients need not have any.
fn client_verifier(
    tls: &config::Tls,
    provider: &Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Option<ClientVerifier>, TlsError> {
    // Read even if nobody is asked for a certificate: a damaged file is a mistake to be told of.
    let mut authorities = match &tls.cafile {
        Some(path) => pem::certificates(path).map_err(TlsError::file("cafile", path))?,
        None => Vec::new(),
    };
    if !tls.require_certificate {
        if let Some(path) = &tls.capath {
            warnings.push(format!(
                "capath {} has no effect without require_certificate true.",
                path.display()
            ));
        }
        return Ok(None);
    }
    if let Some(path) = &tls.capath {
        authorities.extend(pem::directory(path, warnings).map_err(TlsError::file("capath", path))?);
    }
    if authorities.is_empty() {
        return Err(TlsError::NoAuthorities);
    }
    let usable = |der: &CertificateDer<'_>| {
        Certificate::parse(der).is_some_and(|certificate| {
            certificate.is_authority(true) || certificate.is_self_issued()
        })
    };
    if !authorities.iter().any(usable) {
        let (option, path) = match (&tls.cafile, &tls.capath) {
            (Some(path), _) => ("cafile", path),
            (None, path) => (
                "capath",
                path.as_ref().expect("one of both has authorities"),
            ),
        };
        return Err(TlsError::file(option, path)(Fault::NoAuthority));
    }
    let lists = match &tls.crlfile {
        Some(path) => {
            Some(revocation_lists(path, warnings).map_err(TlsError::file("crlfile", path))?)
        }
        None => None,
    };
    Ok(Some(ClientVerifier::new(
        Purpose::Client,
        authorities,
        lists,
        tls.ignores_dates,
        provider,
    )))
}

fn revocation_lists(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<RevocationList>, Fault> {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let lists = pem::revocation_lists(path)?
        .into_iter()
        .map(|der| {
            RevocationList::parse(der).map_err(|what| Fault::Damaged(format!("{what} is in it")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if lists.iter().any(|list| list.has_expired(now)) {
        warnings.push(format!(
            "A revocation list in {} has expired: until there is a newer one, clients of its issuer are refused. \
             Make one: {MAKE_REVOCATION_LIST}",
            path.display()
        ));
    }
    Ok(lists)
}

/// Secrets of TLS connections for those who look into them, in the format of NSS.
#[derive(Debug)]
struct KeyLogFile {
    file: Mutex<File>,
}

impl KeyLogFile {
    fn open(path: &Path) -> Result<KeyLogFile, TlsError> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map(|file| KeyLogFile {
                file: Mutex::new(file),
            })
            .map_err(|error| TlsError::file("--tls-keylog", path)(Fault::Unreadable(error)))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", Hex(client_random), Hex(secret));
        if let Ok(mut file) = self.file.lock() {
            // A full disk must not end a connection.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
