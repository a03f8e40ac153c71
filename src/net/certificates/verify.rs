//! Which client certificates are let in: the path from a certificate to an authority, and revocation.
//!
//! Follows the rules of OpenSSL's `sslclient` purpose at its security level 2, which are Mosquitto's on today's systems.
//! They are not webpki's, which knows neither version 1 nor an authority's certificate used by a client nor one that
//! stands in `cafile` by itself. Signatures are checked by the algorithms of rustls. Does not know files or sockets.
//!
//! 1. A path ends at a certificate of `cafile` or `capath`. What the client sent is only ever a link in between.
//! 2. Every link above the client's own certificate is an authority: by its basic constraints. Of the authorities in
//!    `cafile` and `capath` also those without them: version 1 that signed itself, and those whose key usage says so.
//! 3. Dates, key strength, purpose and critical extensions hold for every certificate of the path, the last included.
//! 4. A path with name constraints in it must be good to webpki too, which evaluates them.
//! 5. Where there are revocation lists, the client's certificate needs a list of its issuer's that is signed and in
//!    date; on one that is signed, though out of date, it is revoked all the same. Authorities are not looked up.
//! 6. The work for one client is bounded: [`LINKS_MAX`], [`INTERMEDIATES_MAX`], [`SIGNATURES_MAX`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

/// The most authorities between a client's certificate and the one that is trusted.
const LINKS_MAX: usize = 8;

/// The most certificates that are looked at of those that a client sends along.
const INTERMEDIATES_MAX: usize = 16;

/// The most signatures of certificates and revocation lists that are checked for one client.
const SIGNATURES_MAX: u32 = 32;

/// The fewest bits of an RSA key.
pub(super) const RSA_BITS_MIN: usize = 2048;

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
    /// More authorities below one than it allows, or than [`LINKS_MAX`].
    PathTooLong,
    /// [`SIGNATURES_MAX`].
    TooMuchWork,
    /// The key usage does not allow signatures.
    KeyUsage,
    /// The issuer's revocation list is not signed by it.
    RevocationListSignature,
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

/// The client certificates of one listener.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// By subject, in DER.
    authorities: HashMap<Vec<u8>, Vec<CertificateDer<'static>>>,
    revocation: Option<Revocation>,
    ignores_dates: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// For invariant 4; it alone lets nobody in.
    webpki: Arc<dyn ClientCertVerifier>,
}

/// The revocation lists, by issuer in DER.
type Revocation = HashMap<Vec<u8>, Vec<RevocationList>>;

/// One revocation list that is well-formed. Whose it is the path decides: its signature is checked then.
#[derive(Debug)]
pub(super) struct RevocationList {
    der: Vec<u8>,
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    serials: HashSet<Vec<u8>>,
    /// The public keys of authorities that signed it, found at load so that a handshake need not.
    signers: Vec<Vec<u8>>,
}

impl RevocationList {
    /// Reads one list.
    /// # Errors
    /// If it is damaged, or of a kind that says less than what is revoked among all certificates of its issuer.
    pub(super) fn parse(der: Vec<u8>) -> Result<RevocationList, &'static str> {
        let (rest, list) =
            CertificateRevocationList::from_der(&der).map_err(|_| "a damaged revocation list")?;
        if !rest.is_empty() {
            return Err("a damaged revocation list");
        }
        for extension in list.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::IssuingDistributionPoint(point)
                    if point.distribution_point.is_none()
                        && !point.only_contains_ca_certs
                        && !point.only_contains_attribute_certs
                        && !point.indirect_crl
                        && point.only_some_reasons.is_none() => {}
                ParsedExtension::IssuingDistributionPoint(_) => {
                    return Err("a revocation list for a part of the certificates only");
                }
                _ if extension.oid.to_id_string() == "2.5.29.27" => {
                    return Err("a delta of a revocation list instead of a whole one");
                }
                _ if extension.critical => {
                    return Err("a revocation list with an unknown critical extension");
                }
                _ => {}
            }
        }
        let mut serials = HashSet::new();
        for revoked in list.iter_revoked_certificates() {
            if revoked
                .extensions()
                .iter()
                .any(|extension| extension.critical)
            {
                return Err("a revocation list with an unknown critical extension");
            }
            serials.insert(serial(revoked.raw_serial()).to_vec());
        }
        let parsed = RevocationList {
            issuer: list.issuer().as_raw().to_vec(),
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|time| time.timestamp()),
            serials,
            signers: Vec::new(),
            der: Vec::new(),
        };
        Ok(RevocationList { der, ..parsed })
    }
}

impl RevocationList {
    /// Whether there should be a newer one by now.
    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.next_update
            .is_some_and(|next_update| now > next_update)
    }
}

/// A number without leading zeros.
fn serial(raw: &[u8]) -> &[u8] {
    let zeros = raw.iter().take_while(|&&byte| byte == 0).count();
    &raw[zeros..]
}

/// A certificate that can be read.
pub(super) struct Certificate<'a> {
    pub(super) x509: X509Certificate<'a>,
    der: &'a [u8],
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

    fn issuer(&self) -> &'a [u8] {
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
    fn basic_constraints(&self) -> Option<(bool, Option<u32>)> {
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
    fn may(&self, wanted: u16) -> bool {
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

    fn has_name_constraints(&self) -> bool {
        let mut extensions = self.x509.extensions().iter();
        extensions.any(|extension| extension.oid.to_id_string() == "2.5.29.30")
    }

    /// Whether its purposes allow a client, and whether there is no critical extension that nobody looked at.
    fn check_extensions(&self, is_client: bool) -> Result<(), CertificateError> {
        for extension in self.x509.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) if !usage.client_auth => {
                    return Err(CertificateError::InvalidPurpose);
                }
                ParsedExtension::NSCertType(kind) if is_client && !kind.ssl_client() => {
                    return Err(CertificateError::InvalidPurpose);
                }
                ParsedExtension::ParseError { .. } => return Err(CertificateError::BadEncoding),
                ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::NSCertType(_)
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
const DIGITAL_SIGNATURE: u16 = 1;
const KEY_AGREEMENT: u16 = 1 << 4;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The three parts of a certificate or revocation list.
struct Signed<'a> {
    message: &'a [u8],
    /// The AlgorithmIdentifier without its tag and length.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(der: &'a [u8]) -> Option<Signed<'a>> {
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
fn key_parts(info: &[u8]) -> Option<(&[u8], &[u8])> {
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

/// A path under construction for one client.
struct Search<'a> {
    intermediates: &'a [Certificate<'a>],
    now: i64,
    signatures_left: u32,
    /// Indices of the intermediates in the path, the client's issuer first.
    path: Vec<usize>,
    /// Whether one of the path has name constraints.
    name_constraints: bool,
    /// The latest `not_before` of the path's certificates.
    not_before_max: i64,
}

/// The key that signed the client's certificate, and what it may be used for.
struct Issuer {
    key: Vec<u8>,
    signs_revocation_lists: bool,
}

impl Issuer {
    fn of(certificate: &Certificate<'_>) -> Issuer {
        Issuer {
            key: certificate.public_key().raw.to_vec(),
            signs_revocation_lists: certificate.may(CRL_SIGN),
        }
    }
}

impl ClientVerifier {
    /// A verifier that trusts `authorities`, of which each can be read; with `lists`, revocation is checked.
    /// # Errors
    /// If there is no authority at all.
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        lists: Option<Vec<RevocationList>>,
        ignores_dates: bool,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<ClientVerifier, Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let webpki =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let algorithms = provider.signature_verification_algorithms;
        let mut by_subject: HashMap<Vec<u8>, Vec<CertificateDer<'static>>> = HashMap::new();
        for der in authorities {
            if let Some(certificate) = Certificate::parse(&der) {
                let subject = certificate.subject().to_vec();
                let same = by_subject.entry(subject).or_default();
                if !same.contains(&der) {
                    same.push(der);
                }
            }
        }
        let revocation = lists.map(|lists| {
            let mut revocation = Revocation::new();
            for mut list in lists {
                for authority in by_subject.get(&list.issuer).into_iter().flatten() {
                    if let Some(authority) = Certificate::parse(authority)
                        && let Some(signed) = Signed::of(&list.der)
                        && check_signature(&algorithms, authority.public_key().raw, &signed).is_ok()
                    {
                        list.signers.push(authority.public_key().raw.to_vec());
                    }
                }
                revocation
                    .entry(list.issuer.clone())
                    .or_default()
                    .push(list);
            }
            revocation
        });
        Ok(ClientVerifier {
            authorities: by_subject,
            revocation,
            ignores_dates,
            algorithms,
            webpki,
        })
    }

    /// Whether `chain`, a client's certificate and those that it sent along, is let in at `now`.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let (client_der, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let client = Certificate::parse(client_der).ok_or(CertificateError::BadEncoding)?;
        let intermediates: Vec<Certificate<'_>> = rest
            .iter()
            .take(INTERMEDIATES_MAX)
            .filter_map(|der| Certificate::parse(der))
            .collect();
        let mut search = Search {
            intermediates: &intermediates,
            now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            signatures_left: SIGNATURES_MAX,
            path: Vec::new(),
            name_constraints: client.has_name_constraints(),
            not_before_max: client.dates().0,
        };
        let issuer = match self.stands_for_itself(&client) {
            true => Issuer::of(&client),
            false => self.find_path(&client, &mut search)?,
        };
        check_key(client.public_key(), &self.algorithms).map_err(CertificateError::from)?;
        client.check_extensions(true)?;
        if !client.may(DIGITAL_SIGNATURE | KEY_AGREEMENT) {
            return Err(CertificateError::from(Refusal::KeyUsage).into());
        }
        self.check_dates(&client, search.now)?;
        if search.name_constraints {
            let at = match self.ignores_dates {
                true => UnixTime::since_unix_epoch(std::time::Duration::from_secs(
                    u64::try_from(search.not_before_max).unwrap_or(0),
                )),
                false => now,
            };
            self.webpki.verify_client_cert(client_der, rest, at)?;
        }
        self.check_revocation(&client, &issuer, &mut search)?;
        Ok(())
    }

    /// Whether the operator trusts this very certificate, which signed itself.
    fn stands_for_itself(&self, client: &Certificate<'_>) -> bool {
        client.is_self_issued()
            && self.authorities.get(client.subject()).is_some_and(|same| {
                same.iter()
                    .any(|authority| authority.as_ref() == client.der)
            })
    }

    /// Finds who issued `child` and so on up to a trusted authority. The error is that of the most promising link.
    fn find_path(
        &self,
        child: &Certificate<'_>,
        search: &mut Search<'_>,
    ) -> Result<Issuer, CertificateError> {
        let mut failure = CertificateError::UnknownIssuer;
        let fail = |error: CertificateError, failure: &mut CertificateError| {
            if matches!(
                failure,
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            ) {
                *failure = error;
            }
        };
        for authority in self.authorities.get(child.issuer()).into_iter().flatten() {
            let authority = Certificate::parse(authority).ok_or(CertificateError::BadEncoding)?;
            match self.check_link(child, &authority, true, search) {
                Ok(()) => {
                    search.name_constraints |= authority.has_name_constraints();
                    search.not_before_max = search.not_before_max.max(authority.dates().0);
                    return Ok(Issuer::of(&authority));
                }
                Err(error) => fail(error, &mut failure),
            }
        }
        for (i, candidate) in search.intermediates.iter().enumerate() {
            if candidate.subject() != child.issuer()
                || candidate.der == child.der
                || search.path.contains(&i)
            {
                continue;
            }
            if search.path.len() == LINKS_MAX {
                return Err(Refusal::PathTooLong.into());
            }
            let above = self
                .check_link(child, candidate, false, search)
                .and_then(|()| {
                    search.path.push(i);
                    let above = self.find_path(candidate, search);
                    search.path.pop();
                    above
                });
            match above {
                Ok(_) => {
                    search.name_constraints |= candidate.has_name_constraints();
                    search.not_before_max = search.not_before_max.max(candidate.dates().0);
                    return Ok(Issuer::of(candidate));
                }
                Err(error) => fail(error, &mut failure),
            }
        }
        Err(failure)
    }

    /// Whether `issuer` may have issued `child`, and did.
    fn check_link(
        &self,
        child: &Certificate<'_>,
        issuer: &Certificate<'_>,
        is_trusted: bool,
        search: &mut Search<'_>,
    ) -> Result<(), CertificateError> {
        if let Some(hash) = child.weak_hash() {
            return Err(Refusal::WeakSignature(hash).into());
        }
        let signed = Signed::of(child.der).ok_or(CertificateError::BadEncoding)?;
        check_key(issuer.public_key(), &self.algorithms)?;
        self.spend(search)?;
        check_signature(&self.algorithms, issuer.public_key().raw, &signed)?;
        if !issuer.is_authority(is_trusted) {
            return Err(Refusal::NotAnAuthority.into());
        }
        let below = search
            .path
            .iter()
            .filter(|&&i| !search.intermediates[i].is_self_issued());
        if let Some((_, Some(most))) = issuer.basic_constraints()
            && below.count() > usize::try_from(most).unwrap_or(usize::MAX)
        {
            return Err(Refusal::PathTooLong.into());
        }
        issuer.check_extensions(false)?;
        self.check_dates(issuer, search.now)
    }

    fn spend(&self, search: &mut Search<'_>) -> Result<(), Refusal> {
        search.signatures_left = search
            .signatures_left
            .checked_sub(1)
            .ok_or(Refusal::TooMuchWork)?;
        Ok(())
    }

    fn check_dates(&self, certificate: &Certificate<'_>, now: i64) -> Result<(), CertificateError> {
        let (not_before, not_after) = certificate.dates();
        if self.ignores_dates {
            return Ok(());
        }
        if now < not_before {
            return Err(CertificateError::NotValidYetContext {
                time: unix_time(now),
                not_before: unix_time(not_before),
            });
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext {
                time: unix_time(now),
                not_after: unix_time(not_after),
            });
        }
        Ok(())
    }

    /// Invariant 5. The dates of lists count even where those of certificates do not.
    fn check_revocation(
        &self,
        client: &Certificate<'_>,
        issuer: &Issuer,
        search: &mut Search<'_>,
    ) -> Result<(), CertificateError> {
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        let serial = serial(client.x509.raw_serial());
        let mut status = Err(CertificateError::UnknownRevocationStatus);
        for list in revocation.get(client.issuer()).into_iter().flatten() {
            let known = list.signers.contains(&issuer.key);
            if !known {
                self.spend(search)?;
                let signed = Signed::of(&list.der).ok_or(CertificateError::BadEncoding)?;
                if check_signature(&self.algorithms, &issuer.key, &signed).is_err() {
                    status = status.or(Err(Refusal::RevocationListSignature.into()));
                    continue;
                }
            }
            if list.serials.contains(serial) {
                return Err(CertificateError::Revoked);
            }
            let next_update = list.next_update.unwrap_or(i64::MAX);
            if !issuer.signs_revocation_lists {
                status = status.or(Err(Refusal::RevocationListSignature.into()));
            } else if search.now > next_update {
                status = status.or(Err(CertificateError::ExpiredRevocationListContext {
                    time: unix_time(search.now),
                    next_update: unix_time(next_update),
                }));
            } else if search.now < list.this_update {
                status = status.or(Err(Refusal::RevocationListNotYetValid.into()));
            } else {
                status = Ok(());
            }
        }
        status
    }
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(seconds).unwrap_or(0),
    ))
}

/// Whether the owner of the key `info` made the signature.
fn check_signature(
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

/// The schemes that a signature of a TLS 1.2 handshake may have; those of TLS 1.3 rustls checks itself.
const TLS12_SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

impl ClientCertVerifier for ClientVerifier {
    /// None, as with Mosquitto: the client chooses freely, and a directory of authorities makes no long handshake.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .take(INTERMEDIATES_MAX + 1)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        self.verify(&chain, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(cert).ok_or(CertificateError::BadEncoding)?;
        let info = certificate.public_key().raw;
        let (key_algorithm, key) = key_parts(info).ok_or(CertificateError::BadEncoding)?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme && TLS12_SCHEMES.contains(scheme))
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let algorithm = candidates
            .iter()
            .find(|candidate| candidate.public_key_alg_id().as_ref() == key_algorithm)
            .ok_or(PeerMisbehaved::SignedKxWithWrongAlgorithm)?;
        algorithm
            .verify_signature(key, message, dss.signature())
            .map_err(|_| CertificateError::BadSignature)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(cert).ok_or(CertificateError::BadEncoding)?;
        let info = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &info, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
