//! What an error of TLS means: the end of a log line for the operator.
//!
//! Knows rustls's errors and [`Refusal`], and no peer or listener: those the caller puts in front.

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, InvalidMessage,
    PeerIncompatible,
};

use super::error::Refusal;

/// What `error` in a handshake means, without a full stop.
pub fn describe(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client showed no certificate".to_owned(),
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidCertRevocationList(error) => revocation_list(error),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "not TLS: the client seems to speak plain text on a TLS port".to_owned(),
        Error::InvalidMessage(reason) => format!("damaged TLS message ({reason:?})"),
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::PeerMisbehaved(reason) => format!("the client broke the TLS protocol ({reason:?})"),
        Error::AlertReceived(alert) => self::alert(*alert),
        Error::DecryptError => "a TLS record could not be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => {
            "the client sent a TLS record that is too large".to_owned()
        }
        Error::InappropriateMessage { got_type, .. } => {
            format!("unexpected TLS message ({got_type:?})")
        }
        Error::InappropriateHandshakeMessage { got_type, .. } => {
            format!("unexpected message of the TLS handshake ({got_type:?})")
        }
        Error::NoApplicationProtocol => "no application protocol (ALPN) in common".to_owned(),
        other => other.to_string(),
    }
}

/// The same for what comes behind a hello that was TLS.
pub fn describe_behind_hello(error: &Error) -> String {
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "damaged TLS: what the client sent is no TLS record".to_owned(),
        other => describe(other),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired on {}", date(*not_after))
        }
        CertificateError::NotValidYet => "certificate is not yet valid".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "certificate is not yet valid, but from {} on",
                date(*not_before)
            )
        }
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::UnknownIssuer => {
            "foreign certificate: unknown issuer, neither in cafile nor in capath".to_owned()
        }
        CertificateError::BadSignature => {
            "bad signature: not made with the key of its issuer or owner".to_owned()
        }
        CertificateError::BadEncoding => "certificate is damaged".to_owned(),
        CertificateError::UnhandledCriticalExtension => {
            "certificate has an unknown critical extension".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not for clients (its extended key usage lacks clientAuth)".to_owned()
        }
        CertificateError::UnknownRevocationStatus => {
            "no revocation list of the certificate's issuer in crlfile".to_owned()
        }
        CertificateError::ExpiredRevocationList => {
            "revocation list of its issuer expired".to_owned()
        }
        CertificateError::ExpiredRevocationListContext { next_update, .. } => {
            format!(
                "revocation list of its issuer expired on {}",
                date(*next_update)
            )
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate has an unsupported signature algorithm".to_owned()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.to_string(),
            None => format!("certificate not accepted: {}", other.0),
        },
        other => format!("certificate not accepted: {other}"),
    }
}

fn revocation_list(error: &CertRevocationListError) -> String {
    format!("revocation list not accepted ({error:?})")
}

fn incompatible(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common".to_owned(),
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "no TLS version in common".to_owned()
        }
        // What is older than TLS 1.2 does not know of this extension.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
            "no TLS version in common: the client's is older than TLS 1.2".to_owned()
        }
        // Also a client whose suites are all without ECDHE, which is all that we have.
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired => {
            "no key exchange in common: the client offers none of our curves, or no cipher suite with ECDHE".to_owned()
        }
        PeerIncompatible::NoSignatureSchemesInCommon => {
            "no signature algorithm in common: the client cannot check the kind of key in certfile"
                .to_owned()
        }
        other => format!("nothing in common with the client ({other:?})"),
    }
}

fn alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown => {
            format!("the client does not accept the certificate in certfile ({alert:?})")
        }
        other => format!("the client ended TLS ({other:?})"),
    }
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| time.as_secs().to_string(), |time| time.to_string())
}
