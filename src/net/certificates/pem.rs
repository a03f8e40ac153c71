//! The operator's files -> DER: certificates, one private key, revocation lists.
//!
//! Knows PEM and what people get wrong in it; what the certificates are good for is decided elsewhere.
//! 1. Every file that is named gives at least one of what it is for, or a [`Fault`].
//! 2. Nothing of a private key is in a fault.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::verify::{Certificate, element, integer_bits};
use super::{Fault, system_reason};

/// Reads the certificates in `path`, in their order.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = fs::read(path).map_err(Fault::Unreadable)?;
    let certificates = sections(&bytes, "certificate")?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect::<Vec<_>>();
    if certificates.is_empty() {
        return Err(nothing(&bytes, "certificate"));
    }
    match certificates
        .iter()
        .position(|der| Certificate::parse(der).is_none())
    {
        Some(index) => Err(Fault::Damaged(format!(
            "certificate {} of {} in it cannot be read",
            index + 1,
            certificates.len()
        ))),
        None => Ok(certificates),
    }
}

/// Reads the one private key in `path`.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = fs::read(path).map_err(Fault::Unreadable)?;
    if is_encrypted(&bytes) {
        return Err(Fault::Encrypted);
    }
    let mut keys: Vec<PrivateKeyDer<'static>> = sections(&bytes, "private key")?
        .into_iter()
        .filter_map(|(kind, der)| match kind {
            SectionKind::PrivateKey => Some(PrivateKeyDer::Pkcs8(der.into())),
            SectionKind::RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(der.into())),
            SectionKind::EcPrivateKey => Some(PrivateKeyDer::Sec1(der.into())),
            _ => None,
        })
        .collect();
    match keys.len() {
        0 => Err(nothing(&bytes, "private key")),
        1 => Ok(keys.remove(0)),
        several => Err(Fault::SeveralKeys(several)),
    }
}

/// Reads the revocation lists in `path`, in DER.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let bytes = fs::read(path).map_err(Fault::Unreadable)?;
    let lists: Vec<Vec<u8>> = sections(&bytes, "revocation list")?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| der)
        .collect();
    match lists.is_empty() {
        true => Err(nothing(&bytes, "revocation list")),
        false => Ok(lists),
    }
}

/// Reads the certificates in every file of the directory `path`; files without any, and damaged ones, are passed over,
/// the latter with a warning.
pub(super) fn directory(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<_>>()
        })
        .map_err(Fault::Unreadable)?;
    files.sort();
    let mut found = Vec::new();
    // Links are followed: `openssl rehash` makes them.
    for file in files.into_iter().filter(|file| file.is_file()) {
        match certificates(&file) {
            Ok(more) => {
                for certificate in more {
                    if !found.contains(&certificate) {
                        found.push(certificate);
                    }
                }
            }
            Err(Fault::Empty | Fault::NoPem(_) | Fault::Der(_)) => {}
            Err(Fault::Unreadable(error)) => warnings.push(format!(
                "capath: {} is passed over: {}.",
                file.display(),
                system_reason(&error)
            )),
            Err(fault) => warnings.push(format!(
                "capath: {} is passed over: {fault}.",
                file.display()
            )),
        }
    }
    match found.is_empty() {
        true => Err(Fault::EmptyDirectory),
        false => Ok(found),
    }
}

/// The bits of an RSA private key; `None` if it is none.
pub(super) fn rsa_bits(key: &PrivateKeyDer<'_>) -> Option<usize> {
    let sequence = match key {
        PrivateKeyDer::Pkcs1(key) => element(key.secret_pkcs1_der())?,
        PrivateKeyDer::Pkcs8(key) => {
            let version = element(element(key.secret_pkcs8_der())?.content)?;
            let algorithm = element(version.rest)?;
            // rsaEncryption
            if element(algorithm.content)?.content != [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]
            {
                return None;
            }
            element(element(algorithm.rest)?.content)?
        }
        _ => return None,
    };
    let version = element(sequence.content)?;
    Some(integer_bits(element(version.rest)?.content))
}

fn sections(bytes: &[u8], wanted: &'static str) -> Result<Vec<(SectionKind, Vec<u8>)>, Fault> {
    // Some Windows editors begin a file with this.
    let mut rest = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut found = Vec::new();
    loop {
        match pem::from_buf(&mut rest) {
            Ok(Some(section)) => found.push(section),
            Ok(None) => return Ok(found),
            Err(pem::Error::MissingSectionEnd { .. }) => {
                return Err(Fault::Damaged(format!("a {wanted} in it has no END line")));
            }
            Err(_) => return Err(Fault::Damaged("a PEM block in it is damaged".to_owned())),
        }
    }
}

/// Why a file without `wanted` has none.
fn nothing(bytes: &[u8], wanted: &'static str) -> Fault {
    match bytes {
        bytes if bytes.iter().all(u8::is_ascii_whitespace) => Fault::Empty,
        bytes if element(bytes).is_some_and(|der| der.tag == 0x30) => Fault::Der(wanted),
        _ => Fault::NoPem(wanted),
    }
}

fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}
