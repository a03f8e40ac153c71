//! What becomes of the lines of a password file when one user, or all of them, get another hash.
//!
//! It does not know disks. Comments, empty lines and the lines of other users stay as they are, to the byte.
//! 1. A file with a line that is no line of a password file is not changed at all.
//! 2. Afterwards a user has one line; other lines of the same user, with old passwords, are gone.

use std::fmt;

use crate::auth::password::{HashError, Kind, Line, PasswordHash, Problem, read_line};

/// Why a file is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// A line is wrong.
    Corrupt {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A plain password has a colon: the original takes it to end there, so it cannot be what it looks like.
    Colon {
        /// The line, from 1.
        line: usize,
    },
    /// A password cannot be hashed.
    Hash(HashError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Corrupt { line, problem } => write!(
                f,
                "Error: Corrupt password file at line {line}.\nFound: {problem}. Expected: {}.",
                problem.expected()
            ),
            EditError::Colon { line } => write!(
                f,
                "Error: Corrupt password file at line {line}.\n\
                 Found: a plain password with a ':'. Expected: one without; take the line out and give the user this \
                 password with `midge passwd FILE USER`."
            ),
            EditError::Hash(error) => write!(
                f,
                "Error: Unable to hash password: {error}.\nExpected: {}.",
                error.expected()
            ),
        }
    }
}

/// Gives a user this hash, where the user's line is, else at the end. Tells whether there was one.
pub fn set(
    text: &[u8],
    user_name: &str,
    hash: &PasswordHash,
) -> Result<(Vec<u8>, bool), EditError> {
    let line = format!("{user_name}:{}\n", hash.encode());
    let mut changed = Vec::with_capacity(text.len() + line.len() + 1);
    let mut found = false;
    for entry in lines(text) {
        let (bytes, entry) = entry?;
        if entry.is_none_or(|entry| entry.user_name != user_name) {
            changed.extend(bytes);
        } else if !found {
            found = true;
            changed.extend(line.as_bytes());
        }
    }
    if !found {
        if changed.last().is_some_and(|byte| *byte != b'\n') {
            changed.push(b'\n');
        }
        changed.extend(line.as_bytes());
    }
    Ok((changed, found))
}

/// Takes a user out; none if the user is not there.
pub fn delete(text: &[u8], user_name: &str) -> Result<Option<Vec<u8>>, EditError> {
    let mut changed = Vec::with_capacity(text.len());
    let mut found = false;
    for entry in lines(text) {
        let (bytes, entry) = entry?;
        if entry.is_some_and(|entry| entry.user_name == user_name) {
            found = true;
        } else {
            changed.extend(bytes);
        }
    }
    Ok(found.then_some(changed))
}

/// Hashes every plain password, and leaves what is hashed.
pub fn hash_plain(text: &[u8], kind: Kind) -> Result<Vec<u8>, EditError> {
    let mut changed = Vec::with_capacity(2 * text.len());
    for (entry, number) in lines(text).zip(1..) {
        let (bytes, entry) = entry?;
        let plain = match entry {
            Some(entry) if is_plain(&entry, number)? => entry,
            Some(_) | None => {
                changed.extend(bytes);
                continue;
            }
        };
        if bytes.iter().filter(|byte| **byte == b':').count() > 1 {
            return Err(EditError::Colon { line: number });
        }
        let hash = PasswordHash::create(kind, plain.secret).map_err(EditError::Hash)?;
        changed.extend(format!("{}:{}\n", plain.user_name, hash.encode()).as_bytes());
    }
    Ok(changed)
}

/// Whether the second field is a password. What begins as one of our hashes and is none is damaged: to hash that would
/// make it the password.
fn is_plain(entry: &Line<'_>, number: usize) -> Result<bool, EditError> {
    match entry.hash() {
        Ok(_) => Ok(false),
        Err(Problem::Hash {
            error: HashError::Plain | HashError::UnknownKind,
            ..
        }) => Ok(true),
        Err(problem) => Err(EditError::Corrupt {
            line: number,
            problem,
        }),
    }
}

/// Every line with its end, and what it says of a user.
fn lines(text: &[u8]) -> impl Iterator<Item = Result<(&[u8], Option<Line<'_>>), EditError>> {
    text.split_inclusive(|byte| *byte == b'\n')
        .zip(1..)
        .map(|(bytes, line)| match read_line(bytes) {
            Ok(entry) => Ok((bytes, entry)),
            Err(problem) => Err(EditError::Corrupt { line, problem }),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(password: &str) -> PasswordHash {
        PasswordHash::create(Kind::Sha512, password.as_bytes()).expect("there is memory")
    }

    #[test]
    fn one_user_is_set() {
        let new = hash("new");
        let line = format!("bob:{}\n", new.encode());
        for (before, after, was_there) in [
            ("", "@", false),
            ("# users\n\n", "# users\n\n@", false),
            ("ann:x\n", "ann:x\n@", false),
            ("ann:x", "ann:x\n@", false),
            ("ann:x\r\n\tzoe : y\r\n", "ann:x\r\n\tzoe : y\r\n@", false),
            (
                "bobby:x\nbo:y\nBob:z\n#bob:x\n",
                "bobby:x\nbo:y\nBob:z\n#bob:x\n@",
                false,
            ),
            ("ann:x\nbob:y\nzoe:z\n", "ann:x\n@zoe:z\n", true),
            ("bob:y", "@", true),
            (" bob : y : more\nzoe:z", "@zoe:z", true),
            // Old passwords of the same user do not stay behind.
            ("bob:y\nann:x\nbob:z\n", "@ann:x\n", true),
        ] {
            let (text, found) = set(before.as_bytes(), "bob", &new).expect("it is a good file");
            assert_eq!(
                (String::from_utf8_lossy(&text).as_ref(), found),
                (&*after.replace('@', &line), was_there),
                "{before:?}"
            );
        }
    }

    #[test]
    fn one_user_is_deleted() {
        for (before, after) in [
            ("", None),
            ("ann:x\n#bob:y\nbobby:x", None),
            ("bob:x", Some("")),
            (
                "# a\nann:x\r\nbob:y\n\nzoe:z",
                Some("# a\nann:x\r\n\nzoe:z"),
            ),
            ("bob:x\nann:x\n bob: y\n", Some("ann:x\n")),
        ] {
            let text = delete(before.as_bytes(), "bob").expect("it is a good file");
            assert_eq!(text.as_deref(), after.map(str::as_bytes), "{before:?}");
        }
    }

    #[test]
    fn plain_passwords_are_hashed_once() {
        let hashed = hash("hashed").encode();
        let before = format!(
            "# users\nann:secret\n\n zoe : pässwörd \r\nbob:{hashed}:x\r\ncarl:$money$\ndora:\u{1}x"
        );
        let kind = Kind::SHA512_PBKDF2;
        let text = hash_plain(before.as_bytes(), kind).expect("it is a good file");
        let text = String::from_utf8(text).expect("it was UTF-8");
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!((lines[0], lines[2], lines.len()), ("# users", "", 8));
        assert_eq!(lines[4], format!("bob:{hashed}:x\r"));
        for (line, user_name, password) in [
            (1, "ann", "secret"),
            (3, "zoe", "pässwörd"),
            (5, "carl", "$money$"),
            (6, "dora", "\u{1}x"),
        ] {
            let entry = read_line(lines[line].as_bytes()).expect("it is good");
            let entry = entry.expect("it is about a user");
            assert_eq!(entry.user_name, user_name);
            let hash = entry.hash().expect("it is hashed");
            assert_eq!(hash.kind(), kind);
            assert_eq!(hash.verify(password.as_bytes()), Ok(true), "{user_name}");
        }
        assert_eq!(
            hash_plain(text.as_bytes(), kind).as_deref(),
            Ok(text.as_bytes())
        );
    }

    #[test]
    fn a_bad_line_changes_nothing() {
        let new = hash("new");
        for (bad, found) in [
            ("zoe", "there is no ':'"),
            ("zoe:", "user 'zoe' has no password"),
            (":x", "the user name is empty"),
            ("z\0e:x", "the user name has control characters"),
        ] {
            let text = format!("ann:x\nbob:y\n{bad}\n");
            let errors = [
                set(text.as_bytes(), "bob", &new).expect_err(bad),
                delete(text.as_bytes(), "bob").expect_err(bad),
                hash_plain(text.as_bytes(), Kind::Sha512).expect_err(bad),
            ];
            for error in errors {
                let error = error.to_string();
                let start =
                    format!("Error: Corrupt password file at line 3.\nFound: {found}. Expected: ");
                assert!(error.starts_with(&start), "{error}");
            }
        }
    }

    /// They would become passwords, or half of one.
    #[test]
    fn plain_passwords_that_may_be_none() {
        let cut = hash("x").encode();
        let cut = &cut[..cut.len() - 5];
        for (line, found) in [
            (format!("ann:{cut}"), "user 'ann' cannot be read"),
            ("ann:$7$x".to_owned(), "user 'ann' cannot be read"),
            ("ann:half:secret".to_owned(), "a plain password with a ':'"),
        ] {
            let error = hash_plain(line.as_bytes(), Kind::Sha512).expect_err(&line);
            let error = error.to_string();
            assert!(
                error.contains("at line 1.") && error.contains(found),
                "{error}"
            );
            assert!(!error.contains(cut) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_hash_that_could_not_be_read_back() {
        let kind = Kind::Sha512Pbkdf2 {
            iterations: u32::MAX.try_into().expect("above 0"),
        };
        let error = hash_plain(b"ann:secret", kind).expect_err("it would take hours");
        assert!(error.to_string().contains("iterations at most"), "{error}");
    }
}
