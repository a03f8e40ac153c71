//! `password_file`: who has which password.
//!
//! A file is read as a whole into a [`PasswordFile`], which never changes and may be shared with the threads that check
//! passwords. It does not know which listeners use it, nor who waits for an answer.
//!
//! | line | meaning |
//! |---|---|
//! | `# anything` | nothing |
//! | blanks only | nothing |
//! | `USER:HASH` | the user and [`PasswordHash`]; blanks around either do not count, nor does `:` and what follows it |
//!
//! 1. Every user in a [`PasswordFile`] has a hash: one line that is none of the above, and there is no file at all.
//! 2. An unknown user's [`Challenge`] takes as long as that of the user whose takes longest.
//! 3. A `Challenge` for an unknown user is never met.
//! 4. [`Verified`] knows a password only together with the hash that it was verified against.

pub mod hash;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};

pub use hash::{HashError, HashFailed, Kind, PasswordHash};

use super::file::{self, FileError};

/// A user name, at most: what a CONNECT can hold.
pub const USER_NAME_BYTES_MAX: usize = 65_535;

/// All users of a password file and the hashes of their passwords.
pub struct PasswordFile {
    users: HashMap<Box<str>, Arc<PasswordHash>>,
    /// For everybody else.
    decoy: Arc<PasswordHash>,
    warnings: Vec<String>,
}

impl PasswordFile {
    /// What the operator should know about who else can reach the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Reads the file at `path`. An empty file is a good one, and admits nobody.
    /// # Errors
    /// The file cannot be read, or the first line that is wrong.
    pub fn load(path: &Path) -> Result<PasswordFile, PasswordFileError> {
        let (text, warnings) = file::read(path).map_err(PasswordFileError::Unreadable)?;
        let mut passwords = PasswordFile::parse(path, &text)?;
        passwords.warnings = warnings;
        Ok(passwords)
    }

    /// Reads what a file holds; errors name `path`.
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(path: &Path, text: &[u8]) -> Result<PasswordFile, PasswordFileError> {
        let mut users: HashMap<Box<str>, (Arc<PasswordHash>, usize)> = HashMap::new();
        for (line, entry) in entries(text) {
            let added = entry.and_then(|entry| {
                let hash = entry.hash()?;
                match users.entry(entry.user_name.into()) {
                    Entry::Vacant(vacant) => {
                        vacant.insert((Arc::new(hash), line));
                        Ok(())
                    }
                    Entry::Occupied(first) => Err(Problem::Duplicate {
                        user_name: entry.user_name.to_owned(),
                        first: first.get().1,
                    }),
                }
            });
            added.map_err(|problem| PasswordFileError::At {
                path: path.to_owned(),
                line,
                problem,
            })?;
        }
        let users: HashMap<_, _> = users
            .into_iter()
            .map(|(user_name, (hash, _))| (user_name, hash))
            .collect();
        let costliest = users.values().max_by_key(|hash| hash.kind().cost());
        let decoy = costliest.map_or_else(PasswordHash::cheapest_decoy, |hash| hash.decoy());
        Ok(PasswordFile {
            users,
            decoy: Arc::new(decoy),
            warnings: Vec::new(),
        })
    }

    /// What a client that calls itself `user_name` must know. To ask is cheap; to verify is not.
    pub fn challenge(&self, user_name: &str) -> Challenge {
        let (hash, is_decoy) = match self.users.get(user_name) {
            Some(hash) => (hash, false),
            None => (&self.decoy, true),
        };
        Challenge {
            hash: Arc::clone(hash),
            is_decoy,
        }
    }

    /// The hash of a user's password: two files that have equal ones for a user have the same line for it.
    pub fn hash_of(&self, user_name: &str) -> Option<&Arc<PasswordHash>> {
        self.users.get(user_name)
    }

    /// The number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are no users, so that nobody with a name may enter.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFile")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// What somebody must know to be let in under a name.
#[derive(Clone)]
pub struct Challenge {
    hash: Arc<PasswordHash>,
    is_decoy: bool,
}

impl Challenge {
    /// To know the password of this hash.
    pub fn new(hash: &Arc<PasswordHash>) -> Challenge {
        Challenge {
            hash: Arc::clone(hash),
            is_decoy: false,
        }
    }

    /// Never met; takes as long as the costliest of `hashes`.
    pub fn unmet<'a>(hashes: impl Iterator<Item = &'a PasswordHash>) -> Challenge {
        let costliest = hashes.max_by_key(|hash| hash.kind().cost());
        let decoy = costliest.map_or_else(PasswordHash::cheapest_decoy, PasswordHash::decoy);
        Challenge {
            hash: Arc::new(decoy),
            is_decoy: true,
        }
    }

    /// Whether `password` is the user's. This takes up to seconds and a GiB, as the file asks for; it is for a thread
    /// that may wait.
    pub fn verify(&self, password: &[u8]) -> bool {
        let verified = self.hash.verify(password).unwrap_or_else(|failed| {
            log::error!("Error: {failed} A client is refused for it.");
            false
        });
        verified & !self.is_decoy
    }

    /// The hash that a password is verified against; none for an unknown user.
    pub fn hash(&self) -> Option<&Arc<PasswordHash>> {
        (!self.is_decoy).then_some(&self.hash)
    }
}

impl fmt::Debug for Challenge {
    // Whether a user exists is as much as a log should not say of a client that has not shown a password yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

/// Passwords that were verified before, so that a client which comes again is let in without the work.
///
/// What is kept is an HMAC of each under a key that only this process has: from outside it tells nothing, and one who
/// reads this process's memory reads passwords there anyway as they arrive. One user has one place: users bound it.
pub struct Verified {
    key: hmac::Key,
    users: HashMap<Box<str>, (Arc<PasswordHash>, hmac::Tag)>,
}

impl Verified {
    /// Knows nobody yet.
    /// # Errors
    /// [`HashFailed`] when the system has no random bytes.
    pub fn new() -> Result<Verified, HashFailed> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new());
        Ok(Verified {
            key: key.map_err(|_| HashFailed)?,
            users: HashMap::new(),
        })
    }

    /// Whether `password` was verified against `hash` for this user, and was the last one to be.
    pub fn knows(&self, user_name: &str, hash: &Arc<PasswordHash>, password: &[u8]) -> bool {
        self.users.get(user_name).is_some_and(|(known, tag)| {
            same(known, hash)
                && hmac::verify(&self.key, &credentials(user_name, password), tag.as_ref()).is_ok()
        })
    }

    /// Remembers that `password` is this user's according to `hash`.
    pub fn remember(&mut self, user_name: &str, hash: &Arc<PasswordHash>, password: &[u8]) {
        let tag = hmac::sign(&self.key, &credentials(user_name, password));
        self.users.insert(user_name.into(), (Arc::clone(hash), tag));
    }

    /// Forgets all whom `file` does not have with the same hash.
    pub fn retain(&mut self, file: &PasswordFile) {
        self.users.retain(|user_name, (known, _)| {
            file.hash_of(user_name)
                .is_some_and(|hash| same(known, hash))
        });
    }

    /// The number of users of whom a password is remembered.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

fn same(one: &Arc<PasswordHash>, other: &Arc<PasswordHash>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Both as one text, from which each can be told again.
fn credentials(user_name: &str, password: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(8 + user_name.len() + password.len());
    text.extend((user_name.len() as u64).to_be_bytes());
    text.extend(user_name.as_bytes());
    text.extend(password);
    text
}

/// A line of a password file that is about a user: its two fields. In a file of plain passwords the second is one.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// The user, who has a proper name.
    pub user_name: &'a str,
    /// The second field, not empty.
    pub secret: &'a [u8],
}

impl Line<'_> {
    /// Reads the second field as a hash.
    /// # Errors
    /// What is wrong with it.
    pub fn hash(&self) -> Result<PasswordHash, Problem> {
        let undecodable = |error| Problem::Hash {
            user_name: self.user_name.to_owned(),
            error,
        };
        // What is not UTF-8 is not base64.
        let text = str::from_utf8(self.secret).map_err(|_| undecodable(HashError::Plain))?;
        PasswordHash::decode(text).map_err(undecodable)
    }
}

/// Reads one line of a password file; none for a comment or an empty one.
/// # Errors
/// What is wrong with it. The second field is not looked into: [`Line::hash`] does that.
pub fn read_line(line: &[u8]) -> Result<Option<Line<'_>>, Problem> {
    if line.starts_with(b"#") || line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut fields = line.split(|byte| *byte == b':');
    let user_name = fields.next().unwrap_or_default().trim_ascii();
    let secret = fields.next().ok_or(Problem::NoColon)?.trim_ascii();
    let user_name =
        str::from_utf8(user_name).map_err(|_| Problem::UserName(UserNameError::Utf8))?;
    check_user_name(user_name).map_err(Problem::UserName)?;
    if secret.is_empty() {
        return Err(Problem::NoHash {
            user_name: user_name.to_owned(),
        });
    }
    Ok(Some(Line { user_name, secret }))
}

/// Every line about a user, numbered from 1, and every bad one.
fn entries(text: &[u8]) -> impl Iterator<Item = (usize, Result<Line<'_>, Problem>)> {
    text.split(|byte| *byte == b'\n')
        .zip(1..)
        .filter_map(|(line, number)| Some((number, read_line(line).transpose()?)))
}

/// Whether a client could log in under this name.
/// # Errors
/// Why not.
pub fn check_user_name(user_name: &str) -> Result<(), UserNameError> {
    if user_name.is_empty() {
        Err(UserNameError::Empty)
    } else if user_name.len() > USER_NAME_BYTES_MAX {
        Err(UserNameError::TooLong)
    } else if user_name.chars().any(char::is_control) {
        Err(UserNameError::Control)
    } else {
        Ok(())
    }
}

/// Why a user name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNameError {
    /// There is none.
    Empty,
    /// It is longer than a CONNECT can hold.
    TooLong,
    /// It has control characters, which no CONNECT may have.
    Control,
    /// It is not UTF-8.
    Utf8,
}

impl fmt::Display for UserNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UserNameError::Empty => "the user name is empty",
            UserNameError::TooLong => "the user name is longer than 65535 bytes",
            UserNameError::Control => "the user name has control characters",
            UserNameError::Utf8 => "the user name is not UTF-8",
        })
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It has no second field.
    NoColon,
    /// Its second field is empty: this must never become a user without a password.
    NoHash {
        /// The user.
        user_name: String,
    },
    /// No client can have this name.
    UserName(UserNameError),
    /// A line before is about the same user.
    Duplicate {
        /// The user.
        user_name: String,
        /// The line before.
        first: usize,
    },
    /// Its second field is no hash.
    Hash {
        /// The user.
        user_name: String,
        /// What it is.
        error: HashError,
    },
}

impl fmt::Display for Problem {
    // A line without a colon may be a password: it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoColon => f.write_str("there is no ':'"),
            Problem::NoHash { user_name } => write!(f, "user '{user_name}' has no password"),
            Problem::UserName(error) => error.fmt(f),
            Problem::Duplicate { user_name, first } => {
                write!(f, "user '{user_name}' is already in line {first}")
            }
            Problem::Hash { user_name, error } => {
                write!(
                    f,
                    "the password of user '{user_name}' cannot be read: {error}"
                )
            }
        }
    }
}

impl Problem {
    /// What would have been right.
    pub fn expected(&self) -> String {
        match self {
            Problem::NoColon | Problem::NoHash { .. } => "USER:HASH".to_owned(),
            Problem::UserName(_) => {
                "a user name of 1 to 65535 bytes of UTF-8 without control characters".to_owned()
            }
            Problem::Duplicate { .. } => "one line for each user".to_owned(),
            Problem::Hash { error, .. } => error.expected(),
        }
    }
}

/// Why a password file cannot be used. Its `Display` is one to several lines.
#[derive(Debug)]
pub enum PasswordFileError {
    /// It could not be read.
    Unreadable(FileError),
    /// A line is wrong.
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl fmt::Display for PasswordFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordFileError::Unreadable(FileError { path, reason }) => write!(
                f,
                "Error: Unable to open pwfile \"{}\".\n{reason}",
                path.display()
            ),
            PasswordFileError::At {
                path,
                line,
                problem,
            } => write!(
                f,
                "Error: Invalid line in password file: {problem}.\nError found at {}:{line}.\nExpected: {}.",
                path.display(),
                problem.expected()
            ),
        }
    }
}

impl std::error::Error for PasswordFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PasswordFileError::Unreadable(error) => Some(error),
            PasswordFileError::At { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
