//! Files that are read, files that are not, and what is asked of those that are.

use std::num::NonZeroU32;
use std::thread;

use proptest::prelude::*;

use super::*;

fn hash(kind: Kind, password: &str) -> String {
    PasswordHash::create(kind, password.as_bytes())
        .expect("there is memory")
        .encode()
}

fn parse(text: impl AsRef<[u8]>) -> Result<PasswordFile, PasswordFileError> {
    PasswordFile::parse(Path::new("some/passwords"), text.as_ref())
}

fn parsed(text: impl AsRef<[u8]>) -> PasswordFile {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn users_of_a_file() {
    let (ann, bob) = (hash(Kind::Sha512, "a"), hash(Kind::SHA512_PBKDF2, "b"));
    for text in [
        format!("ann:{ann}\nbob:{bob}\n"),
        format!("ann:{ann}\nbob:{bob}"),
        format!("ann:{ann}\r\nbob:{bob}\r\n"),
        format!("# ann:{bob}\n\n \t\r\nann:{ann}\n#\n\nbob:{bob}\n\n"),
        // As in Mosquitto, blanks around a field do not count, nor does what follows a second colon.
        format!(" ann : {ann} \nbob:{bob}:1000::\n"),
    ] {
        let file = parsed(&text);
        assert_eq!((file.len(), file.is_empty()), (2, false), "{text}");
        for (user_name, password, verified) in [
            ("ann", "a", true),
            ("bob", "b", true),
            ("ann", "b", false),
            ("bob", "a", false),
            ("bob", "", false),
            ("Ann", "a", false),
            (" ann", "a", false),
            ("", "", false),
            ("carl", "", false),
        ] {
            let challenge = file.challenge(user_name);
            assert_eq!(
                challenge.verify(password.as_bytes()),
                verified,
                "{user_name} {password} {text}"
            );
            assert_eq!(challenge.hash(), file.hash_of(user_name));
        }
    }
}

#[test]
fn an_empty_file_admits_nobody() {
    for text in ["", "\n", "# nobody\n", "\r\n \n"] {
        let file = parsed(text);
        assert_eq!((file.len(), file.is_empty()), (0, true));
        for (user_name, password) in [("", ""), ("ann", ""), ("ann", "a")] {
            assert!(!file.challenge(user_name).verify(password.as_bytes()));
        }
    }
}

/// CVE-2018-12551: a line that is malformed never becomes a user without a password; here, there is no file then.
#[test]
fn lines_that_are_wrong() {
    let good = hash(Kind::Sha512, "a");
    let first = format!("# users\nann:{good}\n");
    let long = "u".repeat(USER_NAME_BYTES_MAX + 1);
    for (line, found, expected) in [
        ("bob".to_owned(), "there is no ':'", "USER:HASH"),
        ("bob $6$".to_owned(), "there is no ':'", "USER:HASH"),
        ("bob:".to_owned(), "user 'bob' has no password", "USER:HASH"),
        (
            "bob: \r".to_owned(),
            "user 'bob' has no password",
            "USER:HASH",
        ),
        (
            format!("bob::{good}"),
            "user 'bob' has no password",
            "USER:HASH",
        ),
        (
            format!(":{good}"),
            "the user name is empty",
            "a user name of 1 to 65535 bytes of UTF-8 without control characters",
        ),
        (
            format!("  :{good}"),
            "the user name is empty",
            "a user name of 1 to 65535 bytes of UTF-8 without control characters",
        ),
        (
            format!("b\0b:{good}"),
            "the user name has control characters",
            "a user name of 1 to 65535 bytes of UTF-8 without control characters",
        ),
        (
            format!("b\u{85}b:{good}"),
            "the user name has control characters",
            "a user name of 1 to 65535 bytes of UTF-8 without control characters",
        ),
        (
            format!("{long}:{good}"),
            "the user name is longer than 65535 bytes",
            "a user name of 1 to 65535 bytes of UTF-8 without control characters",
        ),
        (
            format!("ann:{good}"),
            "user 'ann' is already in line 2",
            "one line for each user",
        ),
        (
            "bob:wonderland".to_owned(),
            "the password of user 'bob' cannot be read: it does not begin with '$', so it is not hashed",
            "$6$..., $7$... or $argon2id$..., as `midge passwd` writes it (-U hashes a file of plain passwords)",
        ),
        (
            "bob:$7$abc$x$y".to_owned(),
            "the password of user 'bob' cannot be read: the number of iterations is not a number above 0",
            "1 to 10000000 iterations",
        ),
        (
            "bob:$6$AAAA$AAAA".to_owned(),
            "the password of user 'bob' cannot be read: the salt has 3 bytes",
            "12 or 64 bytes of salt",
        ),
        (
            "bob:$argon2id$v=19$m=4000000,t=1,p=1$AAAA$AAAA".to_owned(),
            "the password of user 'bob' cannot be read: m is 4000000, and to check a password would cost too much",
            "m at most 1048576",
        ),
    ] {
        let error = parse(format!("{first}{line}\nzoe:{good}\n")).expect_err(&line);
        assert_eq!(
            error.to_string(),
            format!(
                "Error: Invalid line in password file: {found}.\n\
                 Error found at some/passwords:3.\nExpected: {expected}."
            )
        );
        // The same as the last line, and without a line feed.
        assert!(parse(format!("{first}{line}")).is_err(), "{line}");
    }
}

#[test]
fn bytes_that_are_not_utf_8() {
    let good = hash(Kind::Sha512, "a");
    let user_name = [b"\xffbob:", good.as_bytes()].concat();
    let secret = b"bob:$6$\xff$\xff".to_vec();
    // In UTF-16, most of it is NUL.
    let utf_16: Vec<u8> = format!("bob:{good}\n")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for text in [user_name, secret, utf_16] {
        let error = parse(&text).expect_err("not UTF-8").to_string();
        assert!(error.contains("some/passwords:1."), "{error}");
    }
    // In a comment they do not matter.
    assert_eq!(parsed([b"# \xff\nbob:", good.as_bytes()].concat()).len(), 1);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("missing");
    assert_eq!(
        PasswordFile::load(&missing)
            .expect_err("missing")
            .to_string(),
        format!(
            "Error: Unable to open pwfile \"{}\".\nNo such file or directory",
            missing.display()
        )
    );
    assert!(PasswordFile::load(directory.path()).is_err());
    let there = directory.path().join("there");
    std::fs::write(&there, "").expect("the directory is ours");
    assert!(PasswordFile::load(&there).expect("it is empty").is_empty());
}

/// An unknown user costs what the costliest known one does, in whatever order they stand.
#[test]
fn decoys_are_of_the_costliest_kind() {
    let kinds = [
        Kind::Argon2id {
            memory_kib: 64,
            passes: 32,
            lanes: 1,
        },
        Kind::Sha512,
        Kind::Argon2id {
            memory_kib: 1024,
            passes: 1,
            lanes: 4,
        },
        Kind::SHA512_PBKDF2,
        Kind::Sha512Pbkdf2 {
            iterations: NonZeroU32::new(2000).expect("above 0"),
        },
    ];
    let costs = [0_usize, 4, 2, 3, 1];
    for (at, costliest) in costs.iter().enumerate() {
        let text: String = costs[at..]
            .iter()
            .map(|kind| format!("user{kind}:{}\n", hash(kinds[*kind], "a")))
            .collect();
        let challenge = parsed(text).challenge("unknown");
        assert!(challenge.is_decoy && challenge.hash().is_none());
        assert_eq!(challenge.hash.kind(), kinds[*costliest]);
    }
}

/// The hash that a decoy has is one that nobody's password has; but if one had, it still would not be let in.
#[test]
fn a_decoy_is_never_met() {
    let file = parsed(format!("ann:{}\n", hash(Kind::Sha512, "a")));
    let challenge = Challenge {
        hash: Arc::clone(file.hash_of("ann").expect("she is in it")),
        is_decoy: true,
    };
    assert!(!challenge.verify(b"a"));
}

#[test]
fn challenges_are_met_on_other_threads() {
    let file = Arc::new(parsed(format!("ann:{}\n", hash(Kind::SHA512_PBKDF2, "a"))));
    let checks: Vec<_> = (0..4)
        .map(|number| {
            let challenge = file.challenge("ann");
            thread::spawn(move || challenge.verify(if number % 2 == 0 { b"a" } else { b"b" }))
        })
        .collect();
    let answers: Vec<bool> = checks
        .into_iter()
        .map(|check| check.join().expect("it does not panic"))
        .collect();
    assert_eq!(answers, [true, false, true, false]);
}

#[test]
fn what_was_verified_is_known() {
    let line = |user_name, password| format!("{user_name}:{}\n", hash(Kind::Sha512, password));
    let (ann, bob) = (line("ann", "a"), line("bob", "b"));
    let before = parsed(format!("{ann}{bob}"));
    let hash_of = |user_name| before.hash_of(user_name).expect("it is in the file");
    let mut verified = Verified::new().expect("there are random bytes");
    assert!(verified.is_empty() && !verified.knows("ann", hash_of("ann"), b"a"));
    verified.remember("ann", hash_of("ann"), b"a");
    verified.remember("bob", hash_of("bob"), b"b");
    for (user_name, hash, password, known) in [
        ("ann", hash_of("ann"), "a", true),
        ("bob", hash_of("bob"), "b", true),
        ("ann", hash_of("ann"), "", false),
        ("ann", hash_of("ann"), "b", false),
        ("ann", hash_of("bob"), "a", false),
        ("an", hash_of("ann"), "na", false),
        ("carl", hash_of("ann"), "a", false),
    ] {
        let found = verified.knows(user_name, hash, password.as_bytes());
        assert_eq!(found, known, "{user_name} {password}");
    }
    // The same lines again: nothing is forgotten, although the hashes stand elsewhere.
    let reloaded = parsed(format!("# reloaded\n{bob}{ann}"));
    verified.retain(&reloaded);
    assert_eq!(verified.len(), 2);
    let ann_now = reloaded.hash_of("ann").expect("she is in it");
    assert!(verified.knows("ann", ann_now, b"a"));
    // The same password with other salt is another line; bob is gone.
    let changed = parsed(line("ann", "a"));
    let ann_then = changed.hash_of("ann").expect("she is in it");
    assert!(
        !verified.knows("ann", ann_then, b"a"),
        "also before it is told"
    );
    verified.retain(&changed);
    assert!(verified.is_empty());
}

#[test]
fn debug_and_errors_show_no_secrets() {
    let good = hash(Kind::Sha512, "a");
    let secret = good.rsplit('$').next().expect("it has fields").to_owned();
    let file = parsed(format!("ann:{good}\n"));
    let hash = file.hash_of("ann").expect("she is in it");
    let mut verified = Verified::new().expect("there are random bytes");
    verified.remember("ann", hash, b"wonderland");
    let mut shown = vec![
        format!("{file:?}"),
        format!("{hash:?}"),
        format!("{:?}", file.challenge("ann")),
        format!("{verified:?}"),
    ];
    for line in [
        "wonderland".to_owned(),
        "ann:wonderland".to_owned(),
        "ann:$wonderland$".to_owned(),
        "ann:$7$wonderland$wonderland$wonderland".to_owned(),
        format!("ann:{good}x"),
        format!("ann:{good}\nann:{good}"),
    ] {
        let error = parse(line).expect_err("it is wrong");
        shown.extend([format!("{error}"), format!("{error:?}")]);
    }
    for text in shown {
        assert!(
            !text.contains(&secret) && !text.contains("wonderland"),
            "{text}"
        );
    }
    assert_eq!(
        format!("{:?}", file.challenge("ann")),
        format!("{:?}", file.challenge("unknown"))
    );
}

/// What a file means, in one expression for each user.
fn naive(text: &str) -> Option<Vec<(String, PasswordHash)>> {
    let mut users: Vec<(String, PasswordHash)> = Vec::new();
    for line in text.split('\n') {
        if line.starts_with('#') || line.bytes().all(|byte| byte.is_ascii_whitespace()) {
            continue;
        }
        let (user_name, rest) = line.split_once(':')?;
        let user_name = user_name.trim_matches([' ', '\t', '\r']);
        let hash = rest.split(':').next()?.trim_matches([' ', '\t', '\r']);
        let bad = user_name.is_empty() || user_name.contains(|c: char| c.is_control());
        if bad || users.iter().any(|(other, _)| other == user_name) {
            return None;
        }
        users.push((user_name.to_owned(), PasswordHash::decode(hash).ok()?));
    }
    Some(users)
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(text in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = parse(&text) {
            // Random bytes are no hash.
            prop_assert!(file.is_empty());
        }
    }

    #[test]
    fn a_file_means_what_it_says(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "ann", "bob", "é", ":", ":", ":HASH", ":HASH\n", "ann:HASH\n", "bob:HASH\r\n", " ", "\t", "\r\n", "\n",
                "#", "\0", "$6$", "secret",
            ]),
            0..12,
        )
    ) {
        let hash = "$6$6dpDK7BKntHRiyUX$U3KYeQ6QJ+gD57qNTpSt/mmvfizkDboA+AeA8U1k1vLdXUfejWU6aK46wSs+0DrOTK+uecJf7oNeptdnDKxy2Q==";
        let text = pieces.concat().replace("HASH", hash);
        match (parse(&text), naive(&text)) {
            (Ok(file), Some(users)) => {
                prop_assert_eq!(file.len(), users.len());
                for (user_name, hash) in &users {
                    prop_assert_eq!(file.hash_of(user_name).map(Arc::as_ref), Some(hash));
                }
            }
            (Err(_), None) => {}
            (file, users) => prop_assert!(false, "{:?} against {:?} for {:?}", file, users, text),
        }
    }
}
