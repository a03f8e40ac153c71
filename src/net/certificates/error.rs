//! Why there is no TLS, or not for a client: sentences for the operator.
//!
//! The first line of an error about a file is Mosquitto's own, since people and their scripts know it; then comes what
//! is wrong, then the command that makes it good. Knows no certificates and no sockets.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use super::describe::describe;
use super::x509::RSA_BITS_MIN;
use crate::config::system_reason;

/// Makes a certificate for the broker that works.
pub(super) const MAKE_CERTIFICATE: &str = "openssl req -x509 -newkey rsa:2048 -sha256 -days 365 -nodes \
     -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server.key -out server.crt";

/// Makes an authority that works.
pub(super) const MAKE_AUTHORITY: &str = "openssl req -x509 -newkey rsa:2048 -sha256 -days 3650 -nodes -subj /CN=CA \
     -keyout ca.key -out ca.crt";

/// Makes the key of a client and what its authority needs.
const MAKE_REQUEST: &str = "openssl req -newkey rsa:2048 -sha256 -nodes -subj /CN=client -keyout client.key \
     -out client.csr";

/// Makes a revocation list.
pub(super) const MAKE_REVOCATION_LIST: &str =
    "openssl ca -gencrl -keyfile ca.key -cert ca.crt -out ca.crl";

/// Why there is no [`super::TlsContext`], or it does not take a client.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be used.
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// `require_certificate` without `cafile` and `capath`.
    NoAuthorities,
    /// A connection of our own for which no authority is trusted.
    NothingTrusted,
    /// One of certificate and key without the other: what there is, and what lacks.
    HalfPair(&'static str, &'static str),
    /// A name that no server can have.
    ServerName(String),
    /// Nothing is left of a list of ciphers.
    Ciphers {
        /// The option.
        option: &'static str,
        /// Its value.
        list: String,
        /// The names that there are.
        available: String,
    },
    /// rustls does not make a configuration of it.
    Setup(rustls::Error),
    /// The client has no certificate.
    NoCertificate,
    /// The client's certificate has no name that a client may have.
    Name(NameFault),
    /// The client's certificate is not accepted.
    Refused(rustls::Error),
}

/// What is wrong with a file.
#[derive(Debug)]
#[allow(missing_docs, reason = "each variant's sentence is in its Display")]
pub enum Fault {
    Unreadable(io::Error),
    Empty,
    EmptyDirectory,
    NoPem(&'static str),
    Der(&'static str),
    Damaged(String),
    Encrypted,
    SeveralKeys(usize),
    /// The key's file.
    Mismatch(PathBuf),
    /// Which certificate belongs to the key, from 1.
    WrongOrder(usize),
    WeakKey(usize),
    WeakSignature(&'static str),
    UnsupportedKey,
    NoAuthority,
}

/// What is wrong with the name in a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant's sentence is in its Display")]
pub enum NameFault {
    Unreadable,
    Missing,
    Empty,
    NotUtf8,
    ControlCharacter,
    TooLong,
}

impl TlsError {
    pub(super) fn file(option: &'static str, path: &Path) -> impl FnOnce(Fault) -> TlsError {
        move |fault| TlsError::File {
            option,
            path: path.to_owned(),
            fault,
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File {
                option,
                path,
                fault,
            } => {
                let path = path.display();
                match *option {
                    "certfile" => writeln!(
                        f,
                        "Error: Unable to load server certificate \"{path}\". Check certfile."
                    )?,
                    "keyfile" => writeln!(
                        f,
                        "Error: Unable to load server key file \"{path}\". Check keyfile."
                    )?,
                    "--cert" => writeln!(
                        f,
                        "Error: Unable to load client certificate \"{path}\". Check --cert."
                    )?,
                    "--key" => writeln!(
                        f,
                        "Error: Unable to load client key file \"{path}\". Check --key."
                    )?,
                    "crlfile" => writeln!(
                        f,
                        "Error: Unable to load certificate revocation file \"{path}\". Check crlfile."
                    )?,
                    "cafile" | "capath" | "--cafile" | "--capath" => {
                        writeln!(
                            f,
                            "Error: Unable to load CA certificates. Check {option} \"{path}\"."
                        )?;
                    }
                    _ => writeln!(f, "Error: Unable to open {option} \"{path}\".")?,
                }
                write!(f, "{path}: {fault}.")?;
                match fault.remedy(option, &path.to_string()) {
                    Some(remedy) => write!(f, "\n{remedy}"),
                    None => Ok(()),
                }
            }
            TlsError::NoAuthorities => write!(
                f,
                "Error: require_certificate needs cafile or capath: the authorities whose clients are let in.\nMake an \
                 authority: {MAKE_AUTHORITY}"
            ),
            TlsError::NothingTrusted => f.write_str(
                "Error: TLS needs a certificate authority to trust: name its file (cafile), a directory of them (capath), \
                 or trust those of the operating system.",
            ),
            TlsError::HalfPair(present, missing) => {
                write!(f, "Error: there is {present} without {missing}: both or neither are needed.")
            }
            TlsError::ServerName(name) => {
                write!(f, "Error: '{}' is neither a host name nor an IP address.", name.escape_debug())
            }
            TlsError::Ciphers {
                option,
                list,
                available,
            } => write!(
                f,
                "Error: Unable to set TLS ciphers. Check cipher list \"{list}\".\nNothing of '{option}' is available. \
                 Available are: {available}"
            ),
            TlsError::Setup(error) => write!(f, "Error: Unable to set up TLS: {error}"),
            TlsError::NoCertificate => f.write_str("the client showed no certificate"),
            TlsError::Name(fault) => write!(f, "{fault}"),
            TlsError::Refused(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::File {
                fault: Fault::Unreadable(error),
                ..
            } => Some(error),
            TlsError::Setup(error) | TlsError::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(error) => f.write_str(&system_reason(error)),
            Fault::Empty => f.write_str("the file is empty"),
            Fault::EmptyDirectory => f.write_str("no file in this directory holds a certificate in PEM"),
            Fault::NoPem(wanted) => write!(f, "no {wanted} in PEM (BEGIN and END lines) is in it"),
            Fault::Der(wanted) => write!(f, "the {wanted} is in DER, and PEM is needed"),
            Fault::Damaged(what) => f.write_str(what),
            Fault::Encrypted => f.write_str("the private key is encrypted, and nobody is there to type its password"),
            Fault::SeveralKeys(number) => write!(f, "{number} private keys are in it, and one is needed"),
            Fault::Mismatch(key) => write!(
                f,
                "certificate/key are inconsistent: the private key in {} belongs to no certificate in it",
                key.display()
            ),
            Fault::WrongOrder(nth) => write!(
                f,
                "the certificates are in the wrong order: that of the key must come first and is number {nth}"
            ),
            Fault::WeakKey(bits) => write!(
                f,
                "an RSA key of {bits} bits is too short, at least {} are needed",
                RSA_BITS_MIN
            ),
            Fault::WeakSignature(hash) => {
                write!(f, "the certificate is signed with {hash}, and SHA-256 or better is needed")
            }
            Fault::UnsupportedKey => {
                f.write_str("the kind of key is not supported: it can be RSA, EC (P-256, P-384, P-521) or Ed25519")
            }
            Fault::NoAuthority => f.write_str("no certificate authority is in it (basicConstraints CA:TRUE)"),
        }
    }
}

impl Fault {
    /// A command that mends it.
    fn remedy(&self, option: &str, path: &str) -> Option<String> {
        let (certificate, key) = match option {
            "--cert" | "--key" => ("client.crt", "client.key"),
            "cafile" | "capath" | "--cafile" | "--capath" => ("ca.crt", "ca.key"),
            _ => ("server.crt", "server.key"),
        };
        Some(match self {
            Fault::Unreadable(error)
                if error.kind() == io::ErrorKind::PermissionDenied && option.starts_with("--") =>
            {
                "Let the user that runs this read it.".to_owned()
            }
            Fault::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "Let the user that the broker runs as read it.".to_owned()
            }
            Fault::Encrypted => {
                format!("Take its password off: openssl pkey -in {path} -out {key}")
            }
            Fault::Der("private key") => {
                format!("Convert it: openssl pkey -inform DER -in {path} -out {key}")
            }
            Fault::Der("revocation list") => {
                format!("Convert it: openssl crl -inform DER -in {path} -out ca.crl")
            }
            Fault::Der(_) => {
                format!("Convert it: openssl x509 -inform DER -in {path} -out {certificate}")
            }
            Fault::SeveralKeys(_) => {
                "Leave the one that belongs to the first certificate.".to_owned()
            }
            Fault::WrongOrder(_) => {
                format!("Put them in order: cat {certificate} intermediate.crt > chain.crt")
            }
            Fault::Mismatch(key) if option == "--cert" => format!(
                "These print the same for a pair: openssl x509 -noout -pubkey -in {path}; openssl pkey -pubout -in {}",
                key.display()
            ),
            Fault::Mismatch(key) => format!(
                "These print the same for a pair: openssl x509 -noout -pubkey -in {path}; openssl pkey -pubout -in {}\n\
                 Make a pair that works: {MAKE_CERTIFICATE}",
                key.display()
            ),
            _ => match option {
                "certfile" | "keyfile" => format!("Make a pair that works: {MAKE_CERTIFICATE}"),
                "crlfile" => format!("Make one: {MAKE_REVOCATION_LIST}"),
                "cafile" | "capath" => format!("Make an authority: {MAKE_AUTHORITY}"),
                "--cafile" | "--capath" => {
                    "It is to hold the certificate of the authority that issued the server's."
                        .to_owned()
                }
                "--cert" | "--key" => format!(
                    "Make a key, and a request that the server's authority makes a certificate of: {MAKE_REQUEST}"
                ),
                _ => return None,
            },
        })
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameFault::Unreadable => "the client's certificate cannot be read",
            NameFault::Missing => "the client's certificate has no common name",
            NameFault::Empty => "the name in the client's certificate is empty",
            NameFault::NotUtf8 => "the name in the client's certificate is not UTF-8",
            NameFault::ControlCharacter => {
                "the name in the client's certificate has control characters"
            }
            NameFault::TooLong => "the name in the client's certificate is too long",
        })
    }
}

/// Why a certificate is refused, where rustls has no word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// An RSA key of so many bits.
    WeakKey(usize),
    /// A kind of key that rustls has no algorithm for.
    UnsupportedKey,
    /// A signature over SHA-1 or MD5.
    WeakSignature(&'static str),
    /// An issuer that is no authority.
    NotAnAuthority,
    /// More authorities below one than it allows, or than `LINKS_MAX`.
    PathTooLong,
    /// `SIGNATURES_MAX`.
    TooMuchWork,
    /// The key usage does not allow signatures.
    KeyUsage,
    /// The issuer's revocation list is not signed by it.
    RevocationListSignature,
    /// An authority limits names in a way that cannot be looked into.
    NameConstraints,
    /// The issuer's revocation list is from the future.
    RevocationListNotYetValid,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WeakKey(bits) => write!(
                f,
                "unsupported key size: RSA of {bits} bits, at least {RSA_BITS_MIN} are needed"
            ),
            Refusal::UnsupportedKey => f.write_str(
                "unsupported kind of key: RSA, EC (P-256, P-384, P-521) and Ed25519 are supported",
            ),
            Refusal::WeakSignature(hash) => {
                write!(
                    f,
                    "certificate signed with {hash}, SHA-256 or better is needed"
                )
            }
            Refusal::NotAnAuthority => {
                f.write_str("certificate issued by one that is no certificate authority")
            }
            Refusal::PathTooLong => f.write_str("certificate chain is too long"),
            Refusal::TooMuchWork => {
                f.write_str("certificate chain takes too many signature checks")
            }
            Refusal::KeyUsage => {
                f.write_str("certificate is not for signing (its key usage lacks digitalSignature)")
            }
            Refusal::NameConstraints => f.write_str(
                "an authority allows some names alone, and this one's cannot be checked",
            ),
            Refusal::RevocationListSignature => {
                f.write_str("revocation list of its issuer has a bad signature")
            }
            Refusal::RevocationListNotYetValid => {
                f.write_str("revocation list of its issuer is not yet valid")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for CertificateError {
    fn from(refusal: Refusal) -> CertificateError {
        CertificateError::Other(OtherError(Arc::new(refusal)))
    }
}
