//! What a certificate says: names, dates, keys, constraints; and who signed it.
//!
//! Reads X.509 of versions 1 to 3 through x509-parser, and takes apart by itself what is needed byte for byte, since an
//! algorithm is known by its DER. Judges nobody: which certificates may do what is decided in `verify`.
//!
//! 1. A certificate is one element of DER and nothing behind it; what was signed is the bytes themselves.
//! 2. No extension is in it twice, and both of its signature algorithms are the same.

use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{NSCertType, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::error::Refusal;
use super::verify::Purpose;

/// The fewest bits of an RSA key.
pub(super) const RSA_BITS_MIN: usize = 2048;

/// A number without leading zeros.
pub(super) fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|&&byte| byte == 0).count();
    &raw[zeros..]
}

/// A certificate that can be read.
pub(super) struct Certificate<'a> {
    pub(super) x509: X509Certificate<'a>,
    pub(super) der: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads `der`, all of it.
    pub(super) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let (rest, x509) = X509Certificate::from_der(der).ok()?;
        let same_algorithm =
            Signed::of(der)?.algorithm == inner_algorithm(x509.tbs_certificate.as_ref())?;
        // Twice the same extension would leave open which one counts.
        let good = rest.is_empty() && same_algorithm && x509.extensions_map().is_ok();
        good.then_some(Certificate { x509, der })
    }

    pub(super) fn subject(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }

    pub(super) fn issuer(&self) -> &'a [u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    /// Whether `issuer` has the name of its issuer.
    pub(super) fn is_issued_by(&self, issuer: &Certificate<'_>) -> bool {
        self.issuer() == issuer.subject()
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.x509.tbs_certificate.subject_pki
    }

    /// Seconds since 1970 before and after which it is not valid.
    pub(super) fn dates(&self) -> (i64, i64) {
        let validity = self.x509.validity();
        (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        )
    }

    /// The hash of its signature, if that is one which can be forged.
    pub(super) fn weak_hash(&self) -> Option<&'static str> {
        match self
            .x509
            .signature_algorithm
            .algorithm
            .to_id_string()
            .as_str()
        {
            "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.2" => Some("MD5"),
            "1.2.840.113549.1.1.5"
            | "1.2.840.10045.4.1"
            | "1.2.840.10040.4.3"
            | "1.3.14.3.2.29" => Some("SHA-1"),
            _ => None,
        }
    }

    /// Its basic constraints: whether it is an authority, and how many may stand between it and a client.
    pub(super) fn basic_constraints(&self) -> Option<(bool, Option<u32>)> {
        self.x509
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    Some((constraints.ca, constraints.path_len_constraint))
                }
                _ => None,
            })
    }

    /// Whether its key usage allows any of `bits` of a KeyUsage; without key usage everything is.
    pub(super) fn may(&self, wanted: u16) -> bool {
        self.x509
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::KeyUsage(usage) => Some(usage.flags & wanted != 0),
                _ => None,
            })
            .unwrap_or(true)
    }

    fn has_key_usage(&self) -> bool {
        let mut extensions = self.x509.extensions().iter();
        extensions
            .any(|extension| matches!(extension.parsed_extension(), ParsedExtension::KeyUsage(_)))
    }

    /// Whether it may issue certificates; `is_trusted` if the operator put it into `cafile` or `capath`.
    pub(super) fn is_authority(&self, is_trusted: bool) -> bool {
        self.may(KEY_CERT_SIGN)
            && match self.basic_constraints() {
                Some((is_authority, _)) => is_authority,
                None if self.x509.version() == X509Version::V1 => {
                    is_trusted && self.is_self_issued()
                }
                None => is_trusted && self.has_key_usage(),
            }
    }

    pub(super) fn has_name_constraints(&self) -> bool {
        let mut extensions = self.x509.extensions().iter();
        extensions.any(|extension| extension.oid.to_id_string() == "2.5.29.30")
    }

    /// Whether its purposes allow what it is shown for, and whether there is no critical extension that nobody looked at.
    /// `is_shown` is false for an authority above it.
    pub(super) fn check_extensions(
        &self,
        purpose: Purpose,
        is_shown: bool,
    ) -> Result<(), CertificateError> {
        let kind_fits = |kind: &NSCertType| match purpose {
            Purpose::Client => kind.ssl_client(),
            Purpose::Server => kind.ssl_server(),
        };
        for extension in self.x509.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let fits = match purpose {
                        Purpose::Client => usage.client_auth,
                        Purpose::Server => usage.server_auth,
                    };
                    if !fits {
                        return Err(CertificateError::InvalidPurpose);
                    }
                }
                ParsedExtension::NSCertType(kind) if is_shown && !kind_fits(kind) => {
                    return Err(CertificateError::InvalidPurpose);
                }
                ParsedExtension::ParseError { .. } => return Err(CertificateError::BadEncoding),
                ParsedExtension::NSCertType(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::BasicConstraints(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::NameConstraints(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::CRLDistributionPoints(_) => {}
                _ if extension.critical => {
                    return Err(CertificateError::UnhandledCriticalExtension);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bits of a KeyUsage, as x509-parser has them.
pub(super) const DIGITAL_SIGNATURE: u16 = 1;
pub(super) const KEY_ENCIPHERMENT: u16 = 1 << 2;
pub(super) const KEY_AGREEMENT: u16 = 1 << 4;
const KEY_CERT_SIGN: u16 = 1 << 5;
pub(super) const CRL_SIGN: u16 = 1 << 6;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The three parts of a certificate or revocation list.
pub(super) struct Signed<'a> {
    message: &'a [u8],
    /// The AlgorithmIdentifier without its tag and length.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn of(der: &'a [u8]) -> Option<Signed<'a>> {
        let outer = element(der)?;
        let message = element(outer.content)?;
        let algorithm = element(message.rest)?;
        let signature = element(algorithm.rest)?;
        let tags = [outer.tag, message.tag, algorithm.tag, signature.tag];
        if tags != [SEQUENCE, SEQUENCE, SEQUENCE, BIT_STRING]
            || !outer.rest.is_empty()
            || !signature.rest.is_empty()
        {
            return None;
        }
        Some(Signed {
            message: message.whole,
            algorithm: algorithm.content,
            signature: signature.content.strip_prefix(&[0])?,
        })
    }
}

/// The algorithm that the signed part of a certificate repeats.
fn inner_algorithm(tbs: &[u8]) -> Option<&[u8]> {
    let first = element(element(tbs)?.content)?;
    // Version 1 leaves its version out.
    let serial = match first.tag {
        0xa0 => element(first.rest)?,
        _ => first,
    };
    Some(element(serial.rest)?.content)
}

/// One element of DER.
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    whole: &'a [u8],
    pub(super) content: &'a [u8],
    pub(super) rest: &'a [u8],
}

/// The element that `der` starts with.
pub(super) fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&[tag, length], after) = der.split_first_chunk::<2>()?;
    let (length, after) = match length {
        short @ 0..=0x7f => (usize::from(short), after),
        digits @ 0x81..=0x84 => {
            let (digits, after) = after.split_at_checked(usize::from(digits & 0x7f))?;
            let length = digits
                .iter()
                .fold(0u32, |length, &byte| length << 8 | u32::from(byte));
            (usize::try_from(length).ok()?, after)
        }
        _ => return None,
    };
    let (content, rest) = after.split_at_checked(length)?;
    Some(Element {
        tag,
        whole: &der[..der.len() - rest.len()],
        content,
        rest,
    })
}

/// A SubjectPublicKeyInfo in two: its AlgorithmIdentifier without tag and length, and its key.
pub(super) fn key_parts(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let algorithm = element(element(info)?.content)?;
    let key = element(algorithm.rest)?;
    Some((algorithm.content, key.content.strip_prefix(&[0])?))
}

/// Whether `key` is strong enough, and of a kind that there are algorithms for.
pub(super) fn check_key(
    key: &SubjectPublicKeyInfo<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Refusal> {
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        let bits = integer_bits(rsa.modulus);
        if bits < RSA_BITS_MIN {
            return Err(Refusal::WeakKey(bits));
        }
    }
    let (algorithm, _) = key_parts(key.raw).ok_or(Refusal::UnsupportedKey)?;
    let mut known = algorithms.all.iter();
    match known.any(|known| known.public_key_alg_id().as_ref() == algorithm) {
        true => Ok(()),
        false => Err(Refusal::UnsupportedKey),
    }
}

/// How many bits the number has that DER's `bytes` are.
pub(super) fn integer_bits(bytes: &[u8]) -> usize {
    let bytes = serial(bytes);
    let unused = bytes.first().map_or(0, |first| first.leading_zeros());
    bytes.len() * 8 - usize::try_from(unused).expect("at most 8")
}

/// Whether the owner of the key `info` made the signature.
pub(super) fn check_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    info: &[u8],
    signed: &Signed<'_>,
) -> Result<(), CertificateError> {
    let (key_algorithm, key) = key_parts(info).ok_or(CertificateError::BadEncoding)?;
    let known = algorithms
        .all
        .iter()
        .filter(|known| known.signature_alg_id().as_ref() == signed.algorithm);
    let mut is_known = false;
    for algorithm in known {
        is_known = true;
        if algorithm.public_key_alg_id().as_ref() == key_algorithm {
            return algorithm
                .verify_signature(key, signed.message, signed.signature)
                .map_err(|_| CertificateError::BadSignature);
        }
    }
    Err(match is_known {
        true => CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signed.algorithm.to_vec(),
            public_key_algorithm_id: key_algorithm.to_vec(),
        },
        false => CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: signed.algorithm.to_vec(),
            supported_algorithms: Vec::new(),
        },
    })
}
