//! Cipher suites: OpenSSL's lists of names -> the suites that rustls has.
//!
//! Knows names and classes, and nothing of files. rustls has six suites of TLS 1.2 and three of TLS 1.3, all with
//! forward secrecy and authenticated encryption; of OpenSSL's about hundred and sixty the others are passed over.
//! 1. The suites stand in the order that the operator wrote them in.
//! 2. A suite that was taken out with `!` does not come back.
//! 3. No list leaves an empty set: that is an error which names what there is.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

/// A TLS 1.2 suite: OpenSSL's name, the standard's name, the classes that it belongs to.
struct Tls12 {
    name: &'static str,
    standard: &'static str,
    classes: &'static [&'static str],
    suite: SupportedCipherSuite,
}

/// The classes that all of them belong to. `DEFAULT` and `ALL` leave out in OpenSSL what rustls does not have at all.
const ALWAYS: [&str; 10] = [
    "ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH", "AEAD", "ECDH",
];

/// In rustls's order of preference.
static TLS12: [Tls12; 6] = [
    Tls12 {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        standard: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        classes: &[
            "aECDSA",
            "ECDSA",
            "AES",
            "AES256",
            "AESGCM",
            "FIPS",
            "SUITEB128",
            "SUITEB192",
        ],
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Tls12 {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        standard: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        classes: &[
            "aECDSA",
            "ECDSA",
            "AES",
            "AES128",
            "AESGCM",
            "FIPS",
            "SUITEB128",
            "SUITEB128ONLY",
        ],
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Tls12 {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        standard: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        classes: &["aECDSA", "ECDSA", "CHACHA20"],
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Tls12 {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        standard: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        classes: &["aRSA", "AES", "AES256", "AESGCM", "FIPS"],
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Tls12 {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        standard: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        classes: &["aRSA", "AES", "AES128", "AESGCM", "FIPS"],
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
    Tls12 {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        standard: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        classes: &["aRSA", "CHACHA20"],
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
];

static TLS13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// OpenSSL's classes that none of rustls's suites is in; adding or removing them changes nothing and is no mistake.
const FOREIGN_CLASSES: [&str; 59] = [
    "COMPLEMENTOFDEFAULT",
    "COMPLEMENTOFALL",
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "eNULL",
    "NULL",
    "aNULL",
    "RSA",
    "kRSA",
    "DH",
    "EDH",
    "DHE",
    "kDHE",
    "kEDH",
    "kDHr",
    "kDHd",
    "kDH",
    "ADH",
    "AECDH",
    "aDSS",
    "DSS",
    "aDH",
    "kECDHr",
    "kECDHe",
    "kECDH",
    "aECDH",
    "AESCCM",
    "AESCCM8",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "ARIAGCM",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "MD5",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "aGOST",
    "kGOST",
    "PSK",
    "kPSK",
    "kDHEPSK",
    "kECDHEPSK",
    "kRSAPSK",
    "SRP",
    "kSRP",
];

/// The suites of TLS 1.2 that OpenSSL's cipher list `list` leaves, and what was passed over.
/// # Errors
/// If nothing is left: the names that there are.
pub(super) fn tls12(
    list: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut killed = [false; TLS12.len()];
    for word in list
        .split([':', ',', ' ', ';'])
        .filter(|word| !word.is_empty())
    {
        if word.starts_with('@') {
            // @STRENGTH sorts and @SECLEVEL forbids; what rustls has is strong enough for every level but 4 and 5.
            if let Some("4" | "5") = word.strip_prefix("@SECLEVEL=") {
                warnings.push(format!("ciphers: '{word}' has no effect."));
            }
            continue;
        }
        let (operator, name) = match word.as_bytes()[0] {
            operator @ (b'!' | b'-' | b'+') => (operator, &word[1..]),
            _ => (b' ', word),
        };
        let found: Vec<usize> = (0..TLS12.len()).filter(|&i| TLS12[i].is(name)).collect();
        if found.is_empty() && !is_foreign_class(name) && operator == b' ' {
            warnings.push(match TLS13.iter().any(|(tls13, _)| *tls13 == name) {
                true => {
                    format!("ciphers: '{name}' belongs to TLS 1.3: write it in ciphers_tls1.3.")
                }
                false => format!("ciphers: '{name}' is not available and is passed over."),
            });
        }
        match operator {
            b'!' => {
                found.iter().for_each(|&i| killed[i] = true);
                chosen.retain(|i| !found.contains(i));
            }
            b'-' => chosen.retain(|i| !found.contains(i)),
            b'+' => chosen.sort_by_key(|i| found.contains(i)),
            _ => {
                for i in found {
                    if !killed[i] && !chosen.contains(&i) {
                        chosen.push(i);
                    }
                }
            }
        }
    }
    match chosen.is_empty() {
        true => Err(names(TLS12.iter().map(|suite| suite.name))),
        false => Ok(chosen.into_iter().map(|i| TLS12[i].suite).collect()),
    }
}

/// The suites of TLS 1.3 in `list`, and what was passed over.
/// # Errors
/// If nothing is left: the names that there are.
pub(super) fn tls13(
    list: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for word in list
        .split([':', ',', ' ', ';'])
        .filter(|word| !word.is_empty())
    {
        match TLS13.iter().find(|(name, _)| *name == word) {
            Some((_, suite)) if !chosen.contains(suite) => chosen.push(*suite),
            Some(_) => {}
            None => warnings.push(format!(
                "ciphers_tls1.3: '{word}' is not available and is passed over."
            )),
        }
    }
    match chosen.is_empty() {
        true => Err(names(TLS13.iter().map(|(name, _)| *name))),
        false => Ok(chosen),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(":")
}

fn is_foreign_class(name: &str) -> bool {
    name.split('+').all(|part| {
        FOREIGN_CLASSES.contains(&part)
            || ALWAYS.contains(&part)
            || TLS12.iter().any(|suite| suite.classes.contains(&part))
    })
}

impl Tls12 {
    /// Whether `name` is this suite's, or a class that it is in, or several such classes with `+` between them.
    fn is(&self, name: &str) -> bool {
        name == self.name
            || name == self.standard
            || (!name.is_empty()
                && name
                    .split('+')
                    .all(|part| ALWAYS.contains(&part) || self.classes.contains(&part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(list: &str) -> (Result<String, String>, usize) {
        let mut warnings = Vec::new();
        let suites = tls12(list, &mut warnings).map(|suites| {
            names(suites.iter().map(|suite| {
                TLS12
                    .iter()
                    .find(|known| known.suite == *suite)
                    .expect("one of ours")
                    .name
            }))
        });
        (suites, warnings.len())
    }

    #[test]
    fn lists_of_openssl_choose_suites() {
        let all = names(TLS12.iter().map(|suite| suite.name));
        for (list, expected, warnings) in [
            ("DEFAULT", all.as_str(), 0),
            ("HIGH:!aNULL:!MD5:!3DES", &all, 0),
            (
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
                0,
            ),
            (
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305",
                0,
            ),
            (
                "AES256-SHA:DHE-RSA-AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384",
                2,
            ),
            (
                "ECDHE+AESGCM:!ECDSA",
                "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
                0,
            ),
            (
                "aRSA:+AES256:@STRENGTH",
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384",
                0,
            ),
            (
                "!CHACHA20:aRSA:-AES128:CHACHA20",
                "ECDHE-RSA-AES256-GCM-SHA384",
                0,
            ),
            (
                "TLS_AES_128_GCM_SHA256:aRSA:!AESGCM",
                "ECDHE-RSA-CHACHA20-POLY1305",
                1,
            ),
        ] {
            assert_eq!(chosen(list), (Ok(expected.to_owned()), warnings), "{list}");
        }
        for list in [
            "",
            "!ALL",
            "RC4",
            "DHE-RSA-AES128-SHA",
            "ALL:!HIGH",
            "PSK",
            "nonsense",
            "+",
            "!",
            "++",
        ] {
            assert_eq!(chosen(list).0, Err(all.clone()), "{list}");
        }
    }

    #[test]
    fn lists_of_tls_1_3_choose_suites() {
        let mut warnings = Vec::new();
        let suites = tls13(
            "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256",
            &mut warnings,
        );
        assert_eq!(
            suites,
            Ok(vec![
                suite::TLS13_CHACHA20_POLY1305_SHA256,
                suite::TLS13_AES_128_GCM_SHA256
            ])
        );
        assert_eq!(warnings.len(), 1);
        let error = tls13("TLS_AES_128_CCM_SHA256", &mut warnings).expect_err("none is left");
        assert!(error.contains("TLS_AES_256_GCM_SHA384"), "{error}");
    }
}
