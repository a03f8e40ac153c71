//! Hashes that other programs made, hashes of our own, and texts that are none.

use proptest::prelude::*;

use super::*;

/// Made by mosquitto_passwd 2.0.11, and of Argon2id by the reference implementation, libargon2.
const FOREIGN: [(&str, &str, Kind); 6] = [
    (
        "$6$6dpDK7BKntHRiyUX$U3KYeQ6QJ+gD57qNTpSt/mmvfizkDboA+AeA8U1k1vLdXUfejWU6aK46wSs+0DrOTK+uecJf7oNeptdnDKxy2Q==",
        "correct horse",
        Kind::Sha512,
    ),
    (
        "$7$101$pTA417sS3WWe1CnY$DrpCNSPkKmB0d4uNmT1NU2FGnuj7TErg2grW/0pFbKzrSJg8kcUUPhOWOrnqB8YyWYQFjWyZSECUortd1Ekaug==",
        "pässwörd",
        Kind::Sha512Pbkdf2 {
            iterations: NonZeroU32::new(101).unwrap(),
        },
    ),
    (
        "$7$7$xBBiEYz0Q/mWi4tw$MpDPmdyP8yw0egIeKEXKYLaqzN+J6QkzElp2qU1RpPvLebE6BhAAmx3Fr6UlVSHS7g4IYlttuKXfX61qUB2qaQ==",
        "",
        Kind::Sha512Pbkdf2 {
            iterations: NonZeroU32::new(7).unwrap(),
        },
    ),
    // With the longer salt of Mosquitto 2.1; made with Python's hashlib.
    (
        "$7$1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$uIcph1roMVniTFPfsn685nOrKRY6RnaDjMRqwK0w6RUYrFCRlDyccbkpLM0tHgAI9NdN4RkgAPUYPaQEMxRlYg==",
        "pw",
        Kind::SHA512_PBKDF2,
    ),
    (
        "$argon2id$v=19$m=47104,t=1,p=1$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw$aVo1St5PsxylF7NjjIPOOE5jxNbeUNweT/LEl8ONyxYqiqflWO7BotCdzcmTPqR4fg0oMZSzDQFY9PDfbH+biw",
        "correct horse",
        Kind::ARGON2ID,
    ),
    (
        "$argon2id$v=19$m=64,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$Gil85LgNtPX4nZVW5pLwHrWEppsV7oDBx9uZ7RL8Ie4",
        "pässwörd",
        Kind::Argon2id {
            memory_kib: 64,
            passes: 3,
            lanes: 4,
        },
    ),
];

#[test]
fn hashes_of_other_programs() {
    for (text, password, kind) in FOREIGN {
        let hash = PasswordHash::decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(hash.kind(), kind, "{text}");
        assert_eq!(hash.encode(), text);
        let other = format!("{password}x");
        assert_eq!(hash.verify(password.as_bytes()), Ok(true), "{text}");
        assert_eq!(hash.verify(other.as_bytes()), Ok(false), "{text}");
    }
}

/// Little effort of each kind, for tests.
const KINDS: [Kind; 3] = [
    Kind::Sha512,
    Kind::Sha512Pbkdf2 {
        iterations: NonZeroU32::new(3).unwrap(),
    },
    Kind::Argon2id {
        memory_kib: 16,
        passes: 2,
        lanes: 2,
    },
];

#[test]
fn hashes_of_our_own() {
    for kind in KINDS {
        for password in [&b""[..], b"secret", b"with\0zero", &[0xff; 70_000]] {
            let hash = PasswordHash::create(kind, password).expect("there is memory");
            let again = PasswordHash::create(kind, password).expect("there is memory");
            assert_ne!(hash, again, "salt is random");
            assert_eq!(PasswordHash::decode(&hash.encode()).as_ref(), Ok(&hash));
            assert_eq!(hash.verify(password), Ok(true));
            // Not a zero byte: HMAC fills up a key with those, so PBKDF2 cannot tell them from none.
            assert_eq!(hash.verify(&[password, b"x"].concat()), Ok(false));
            assert_eq!(hash.verify(b"another"), Ok(false));
        }
    }
}

/// What Mosquitto 2.0 and 2.1 write: 2.0 reads no other salt than this.
#[test]
fn lengths_that_are_written() {
    let lengths = |kind| {
        let hash = PasswordHash::create(kind, b"x").expect("there is memory");
        (hash.salt.len(), hash.hash.len())
    };
    assert_eq!(KINDS.map(lengths), [(12, 64), (12, 64), (64, 64)]);
    assert!(
        PasswordHash::create(Kind::SHA512_PBKDF2, b"x")
            .expect("there is memory")
            .encode()
            .starts_with("$7$1000$")
    );
}

#[test]
fn texts_that_are_no_hash() {
    // 12, 64, 8 and 3 zero bytes.
    let salt = "A".repeat(16);
    let hash = format!("{}==", "A".repeat(86));
    let raw = "A".repeat(86);
    let too_costly = |name, found, max| HashError::TooCostly { name, found, max };
    let length = |part, found, kind| HashError::Length { part, found, kind };
    let argon2 = |parameters: &str| format!("$argon2id$v=19${parameters}${salt}${raw}");
    for (text, expected) in [
        (String::new(), HashError::Plain),
        ("secret".into(), HashError::Plain),
        (" $6$".into(), HashError::Plain),
        ("$".into(), HashError::UnknownKind),
        ("$5$a$b".into(), HashError::UnknownKind),
        ("$$6$a$b".into(), HashError::UnknownKind),
        (
            format!("$argon2i$v=19$m=16,t=1,p=1${salt}${raw}"),
            HashError::UnknownKind,
        ),
        (format!("$2y$10${salt}"), HashError::UnknownKind),
        ("$6".into(), HashError::Fields),
        (format!("$6${salt}"), HashError::Fields),
        (format!("$6${salt}${hash}$"), HashError::Fields),
        (format!("$7${salt}${hash}"), HashError::Fields),
        (
            format!("$argon2id$m=16,t=1,p=1${salt}${raw}"),
            HashError::Fields,
        ),
        (format!("$6$${hash}"), length(Part::Salt, 0, Kind::Sha512)),
        (format!("$6${salt}$"), length(Part::Hash, 0, Kind::Sha512)),
        (
            format!("$6$AAAA${hash}"),
            length(Part::Salt, 3, Kind::Sha512),
        ),
        (
            format!("$6${salt}$AAAA"),
            length(Part::Hash, 3, Kind::Sha512),
        ),
        (format!("$6${salt}${raw}"), HashError::Base64(Part::Hash)),
        (format!("$6$-{salt}${hash}"), HashError::Base64(Part::Salt)),
        (format!("$6${salt} ${hash}"), HashError::Base64(Part::Salt)),
        (format!("$7$${salt}${hash}"), HashError::Iterations),
        (format!("$7$0${salt}${hash}"), HashError::Iterations),
        (format!("$7$-1${salt}${hash}"), HashError::Iterations),
        (format!("$7$+1${salt}${hash}"), HashError::Iterations),
        (format!("$7$1x${salt}${hash}"), HashError::Iterations),
        (
            format!("$7$10000001${salt}${hash}"),
            too_costly("iterations", 10_000_001, 10_000_000),
        ),
        (
            format!("$7$99999999999999999999${salt}${hash}"),
            too_costly("iterations", u32::MAX.into(), 10_000_000),
        ),
        (
            format!("$argon2id$v=16$m=16,t=1,p=1${salt}${raw}"),
            HashError::Version,
        ),
        (argon2(""), HashError::Parameters),
        (argon2("m=16,t=1"), HashError::Parameters),
        (argon2("t=1,m=16,p=1"), HashError::Parameters),
        (argon2("m=16,t=1,p=1,data=AA"), HashError::Parameters),
        (argon2("m=16,t=0,p=1"), HashError::Parameters),
        (argon2("m=16,t=1,p=0"), HashError::Parameters),
        (argon2("m=16,t=1,p=3"), HashError::Parameters),
        (argon2("m=7,t=1,p=1"), HashError::Parameters),
        (
            argon2("m=1048577,t=1,p=1"),
            too_costly("m", 1_048_577, 1_048_576),
        ),
        (
            argon2("m=4294967295,t=4294967295,p=16777215"),
            too_costly("m", u32::MAX.into(), 1_048_576),
        ),
        (
            argon2("m=1048576,t=5,p=1"),
            too_costly("m times t", 5 << 20, 4 << 20),
        ),
        (argon2("m=1024,t=1,p=65"), too_costly("p", 65, 64)),
        (
            format!("$argon2id$v=19$m=16,t=1,p=1${salt}${hash}"),
            HashError::Base64(Part::Hash),
        ),
        (
            format!("$argon2id$v=19$m=47104,t=1,p=1$AAAA${raw}"),
            length(Part::Salt, 3, Kind::ARGON2ID),
        ),
        (
            format!("$argon2id$v=19$m=47104,t=1,p=1${salt}$AAAAAAAA"),
            length(Part::Hash, 6, Kind::ARGON2ID),
        ),
    ] {
        assert_eq!(PasswordHash::decode(&text), Err(expected), "{text}");
        // Each says something.
        assert!(expected.to_string().len() > 10 && expected.expected().len() > 3);
    }
}

#[test]
fn a_kind_that_could_not_be_read_back_is_not_made() {
    let iterations = NonZeroU32::new(ITERATIONS_MAX + 1).expect("above 0");
    let made = PasswordHash::create(Kind::Sha512Pbkdf2 { iterations }, b"x");
    assert!(matches!(made, Err(HashError::TooCostly { .. })));
}

#[test]
fn a_decoy_is_as_the_original_and_tells_nothing() {
    for kind in KINDS {
        let hash = PasswordHash::create(kind, b"secret").expect("there is memory");
        let decoy = hash.decoy();
        assert_eq!((decoy.kind, decoy.salt.len()), (kind, hash.salt.len()));
        assert_eq!(decoy.hash.len(), hash.hash.len());
        assert!(decoy.salt.iter().chain(&decoy.hash).all(|byte| *byte == 0));
    }
}

#[test]
fn debug_shows_no_hash() {
    let hash = PasswordHash::decode(FOREIGN[1].0).expect("it is one");
    assert_eq!(
        format!("{hash:?}"),
        "PasswordHash { kind: Sha512Pbkdf2 { iterations: 101 }, .. }"
    );
}

proptest! {
    /// Whatever is read was written so, and any text gets an answer.
    #[test]
    fn what_is_read_is_written_back(text in "\\$(6|7|argon2id|[a-z0-9$=,]{0,6})\\$[a-zA-Z0-9+/=$,]{0,120}") {
        if let Ok(hash) = PasswordHash::decode(&text) {
            prop_assert_eq!(PasswordHash::decode(&hash.encode()), Ok(hash));
        }
    }

    /// A hash that lost or changed a byte is another one or none.
    #[test]
    fn a_damaged_hash(which in 0_usize..6, at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let text = FOREIGN[which].0;
        let mut damaged = text.as_bytes().to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let damaged = String::from_utf8(damaged).expect("ASCII");
        let original = PasswordHash::decode(text).expect("it is one");
        if let Ok(hash) = PasswordHash::decode(&damaged) {
            // `07` is 7.
            prop_assert!(damaged == text || hash != original || hash.encode() != damaged);
        }
    }
}
