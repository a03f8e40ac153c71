//! Which certificates of peers are good: the path from a certificate to an authority, and revocation.
//!
//! Written for clients that are let in; servers that we connect to are judged by the same rules but for their purpose,
//! and by their names in `client`. Follows the rules of OpenSSL's purposes `sslclient` and `sslserver` at its security
//! level 2, which are Mosquitto's on most systems.
//! They are not webpki's, which knows neither version 1 nor an authority's certificate used by a client nor one that
//! stands in `cafile` by itself, and to which everything in `cafile` is an authority, above all dates. Signatures are
//! checked by the algorithms of rustls. An authority in `cafile` need not have signed itself, unlike with Mosquitto:
//! who names one in between trusts it. Names must be the same byte for byte. Does not know files or sockets.
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
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::error::Refusal;
use super::x509::{
    CRL_SIGN, Certificate, DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_ENCIPHERMENT, Signed, check_key,
    check_signature, key_parts, serial,
};

/// The most authorities between a client's certificate and the one that is trusted.
const LINKS_MAX: usize = 8;

/// The most certificates that are looked at of those that a client sends along.
pub(super) const INTERMEDIATES_MAX: usize = 16;

/// The most signatures of certificates and revocation lists that are checked for one client.
const SIGNATURES_MAX: u32 = 32;

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// By a client, to our listener.
    Client,
    /// By a server that we connect to.
    Server,
}

/// The client certificates of one listener, or the servers that we connect to.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    purpose: Purpose,
    /// By subject, in DER.
    authorities: HashMap<Vec<u8>, Vec<CertificateDer<'static>>>,
    revocation: Option<Revocation>,
    ignores_dates: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// For invariant 4; it alone lets nobody in. `None` if webpki can read none of the authorities.
    webpki: Option<Arc<dyn ClientCertVerifier>>,
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
    pub(super) fn new(
        purpose: Purpose,
        authorities: Vec<CertificateDer<'static>>,
        lists: Option<Vec<RevocationList>>,
        ignores_dates: bool,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> ClientVerifier {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let webpki =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .ok();
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
        ClientVerifier {
            purpose,
            authorities: by_subject,
            revocation,
            ignores_dates,
            algorithms,
            webpki,
        }
    }

    /// Whether `other` was made of the same.
    pub(super) fn lets_in_the_same(&self, other: &ClientVerifier) -> bool {
        let lists = |verifier: &ClientVerifier| {
            let lists = verifier.revocation.as_ref()?.values().flatten();
            Some(lists.map(|list| list.der.clone()).collect::<HashSet<_>>())
        };
        self.authorities == other.authorities
            && self.ignores_dates == other.ignores_dates
            && lists(self) == lists(other)
    }

    /// Whether `chain`, a client's certificate and those that it sent along, is let in at `now`.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let Some(at) = self.verify_path(chain, now)? else {
            return Ok(());
        };
        let (client_der, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let webpki = self
            .webpki
            .as_ref()
            .ok_or(CertificateError::from(Refusal::NameConstraints))?;
        webpki.verify_client_cert(client_der, rest, at)?;
        Ok(())
    }

    /// Everything but name constraints (invariant 4): where there are some, the time at which webpki is to judge.
    pub(super) fn verify_path(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Error> {
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
        client.check_extensions(self.purpose, true)?;
        let uses = match self.purpose {
            Purpose::Client => DIGITAL_SIGNATURE | KEY_AGREEMENT,
            Purpose::Server => DIGITAL_SIGNATURE | KEY_AGREEMENT | KEY_ENCIPHERMENT,
        };
        if !client.may(uses) {
            return Err(CertificateError::from(Refusal::KeyUsage).into());
        }
        self.check_dates(&client, search.now)?;
        self.check_revocation(&client, &issuer, &mut search)?;
        let at = match self.ignores_dates {
            true => UnixTime::since_unix_epoch(std::time::Duration::from_secs(
                u64::try_from(search.not_before_max).unwrap_or(0),
            )),
            false => now,
        };
        Ok(search.name_constraints.then_some(at))
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
        issuer.check_extensions(self.purpose, false)?;
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
