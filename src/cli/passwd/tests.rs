//! Arguments, and answers to the questions.

use std::os::unix::ffi::OsStringExt;

use super::*;

fn parsed(arguments: &[&str]) -> Result<Request, Failure> {
    request(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret(text.as_bytes().to_vec()))
}

fn iterations(iterations: u32) -> Kind {
    Kind::Sha512Pbkdf2 {
        iterations: NonZeroU32::new(iterations).expect("above 0"),
    }
}

#[test]
fn arguments_ask_for() {
    let set = |password, kind| {
        Request::Run(Run::Set {
            path: "f".into(),
            user_name: "u".to_owned(),
            password,
            kind,
        })
    };
    let create = |destination, password| {
        Request::Run(Run::Create {
            destination,
            user_name: "u".to_owned(),
            password,
            kind: Kind::SHA512_PBKDF2,
        })
    };
    let hash_plain = |kind| {
        Request::Run(Run::HashPlain {
            path: "f".into(),
            kind,
        })
    };
    let file = || Destination::File("f".into());
    for (arguments, expected) in [
        (&["f", "u"][..], set(None, Kind::SHA512_PBKDF2)),
        (
            &["-b", "f", "u", "p"],
            set(secret("p"), Kind::SHA512_PBKDF2),
        ),
        (&["-b", "f", "u", ""], set(secret(""), Kind::SHA512_PBKDF2)),
        // What follows the file is no option, whatever it looks like.
        (
            &["-b", "f", "u", "-c"],
            set(secret("-c"), Kind::SHA512_PBKDF2),
        ),
        (
            &["-b", "--", "f", "u", "--"],
            set(secret("--"), Kind::SHA512_PBKDF2),
        ),
        (&["-H", "sha512", "f", "u"], set(None, Kind::Sha512)),
        (
            &["-H", "sha512", "-H", "argon2id", "f", "u"],
            set(None, Kind::ARGON2ID),
        ),
        (
            &["-H", "sha512-pbkdf2", "-I", "7", "f", "u"],
            set(None, iterations(7)),
        ),
        (
            &["-I", "9", "-I", "101", "f", "u"],
            set(None, iterations(101)),
        ),
        (
            &["-I", "9", "-H", "argon2id", "f", "u"],
            set(None, Kind::ARGON2ID),
        ),
        (&["-c", "f", "u"], create(file(), None)),
        (&["-c", "-b", "f", "u", "p"], create(file(), secret("p"))),
        (&["-bc", "f", "u", "p"], create(file(), secret("p"))),
        (&["-c", "-", "u"], create(Destination::Stdout, None)),
        (
            &["-D", "f", "u"],
            Request::Run(Run::Delete {
                path: "f".into(),
                user_name: "u".to_owned(),
            }),
        ),
        (&["-U", "f"], hash_plain(Kind::SHA512_PBKDF2)),
        (&["-U", "-b", "-I", "5", "f"], hash_plain(iterations(5))),
        (&["--help"], Request::Help),
        (&["-h", "f"], Request::Help),
        (&["--version"], Request::Version),
    ] {
        assert_eq!(parsed(arguments), Ok(expected), "{arguments:?}");
    }
}

#[test]
fn arguments_that_cannot_be_answered() {
    let long = "x".repeat(65_536);
    for (arguments, text, show_usage) in [
        (&[][..], "", true),
        (&["f"], "", true),
        (&["-b", "f", "u"], "", true),
        (&["-x", "f"], "Error: Unknown option '-x'.\n", true),
        (
            &["-c", "-D", "f", "u"],
            "Error: -c and -D cannot be used together.",
            false,
        ),
        (
            &["-c", "-U", "f"],
            "Error: -c and -U cannot be used together.",
            false,
        ),
        (
            &["-D", "-U", "f"],
            "Error: -D and -U cannot be used together.",
            false,
        ),
        (
            &["-D", "-b", "f", "u"],
            "Error: -b and -D cannot be used together.",
            false,
        ),
        (
            &["-H"],
            "Error: -H argument given but not enough other arguments.",
            false,
        ),
        (
            &["-I"],
            "Error: -I argument given but not enough other arguments.",
            false,
        ),
        (
            &["-H", "md5", "f", "u"],
            "Error: Unknown hash type 'md5'\nExpected: sha512, sha512-pbkdf2 or argon2id.",
            false,
        ),
        (
            &["-I", "0", "f", "u"],
            "Error: Number of iterations must be > 0.",
            false,
        ),
        (
            &["-I", "-1", "f", "u"],
            "Error: Number of iterations must be > 0.",
            false,
        ),
        (
            &["-I", "x", "f", "u"],
            "Error: Number of iterations must be > 0.",
            false,
        ),
        (
            &["-U"],
            "Error: -U argument given but password file missing.",
            false,
        ),
        (
            &["-D", "f"],
            "Error: -D argument given but password file or username missing.",
            false,
        ),
        (
            &["-c", "f"],
            "Error: -c argument given but password file or username missing.",
            false,
        ),
        (
            &["-c", "-b", "f", "u"],
            "Error: -c argument given but password file, username, or password missing.",
            false,
        ),
        (
            &["f", "u:v"],
            "Error: Username must not contain the ':' character.",
            false,
        ),
        (
            &["f", "u\tv"],
            "Error: Username must not contain control characters.",
            false,
        ),
        (
            &["f", &long],
            "Error: Username must be less than 65536 characters long.",
            false,
        ),
        (&["f", ""], "Error: Username must not be empty.", false),
        (
            &["f", "#u"],
            "Error: Username must not begin with '#', which makes the line a comment.",
            false,
        ),
        (
            &["f", "u "],
            "Error: Username must not begin or end with a blank, which a password file does not keep.",
            false,
        ),
        (
            &["-b", "f", "u", &long],
            "Error: Password must be less than 65536 characters long.",
            false,
        ),
    ] {
        let failure = Failure {
            text: text.to_owned(),
            code: 1,
            show_usage,
        };
        assert_eq!(parsed(arguments), Err(failure), "{arguments:?}");
    }
    for arguments in [
        &["f", "u", "p"][..],
        &["-b", "f", "u", "p", "q"],
        &["-c", "f", "u", "p"],
        &["-c", "-b", "f", "u", "p", "q"],
        &["-D", "f", "u", "v"],
        &["-U", "f", "g"],
    ] {
        assert_eq!(parsed(arguments), Err(too_many()), "{arguments:?}");
    }
}

/// Files and passwords are bytes; names are not.
#[test]
fn arguments_of_any_bytes() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let arguments = [bytes(b"-b"), bytes(b"f\xff"), bytes(b"u"), bytes(b"p\xff")];
    assert_eq!(
        request(&arguments),
        Ok(Request::Run(Run::Set {
            path: bytes(b"f\xff").into(),
            user_name: "u".to_owned(),
            password: Some(Secret(b"p\xff".to_vec())),
            kind: Kind::SHA512_PBKDF2,
        }))
    );
    let failure = request(&[bytes(b"f"), bytes(b"u\xff")]).expect_err("it is not UTF-8");
    assert_eq!(failure.text, "Error: Username must be UTF-8.");
}

#[test]
fn debug_shows_no_password() {
    let request = parsed(&["-b", "f", "u", "wonderland"]);
    assert!(!format!("{request:?}").contains("wonderland"));
}

#[test]
fn answers_are_lines() {
    let long = vec![b'x'; PASSWORD_BYTES_MAX + 10];
    for (input, answers) in [
        (&b"a\nb\n"[..], [&b"a"[..], b"b"]),
        (b"a\r\n b ", [b"a", b" b "]),
        (b"a", [b"a", b""]),
        (b"", [b"", b""]),
        (b"\n\n", [b"", b""]),
        (&long, [&long[..PASSWORD_BYTES_MAX + 3], &long[..7]]),
    ] {
        let mut input = input;
        for answer in answers {
            assert_eq!(read_answer(&mut input).expect("memory").0, answer);
        }
    }
    let too_long = Secret(long[..PASSWORD_BYTES_MAX + 1].to_vec());
    assert!(check_password(too_long).is_err());
}
