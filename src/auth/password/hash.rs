//! One password hash as a password file has it: read, written, made and checked.
//!
//! | kind | encoded |
//! |---|---|
//! | [`Kind::Sha512`] | `$6$SALT$HASH`: SHA-512 of the password and then the salt |
//! | [`Kind::Sha512Pbkdf2`] | `$7$ITERATIONS$SALT$HASH`: PBKDF2-HMAC-SHA512 |
//! | [`Kind::Argon2id`] | `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH` |
//!
//! SALT and HASH are base64, of Argon2id without padding. It does not know users or files.
//! 1. A hash that was read or made costs a bounded amount of memory and time to check.
//! 2. Neither `Debug` nor an error shows a hash, a salt, or the text that was read.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// PBKDF2 iterations, at most: several seconds of one core.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Argon2id memory, at most: 1 GiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Argon2id memory times passes, at most: 4 GiB written, several seconds of one core.
const MEMORY_KIB_TIMES_PASSES_MAX: u64 = 4 << 20;
/// Argon2id lanes, at most. They are computed one after the other.
const LANES_MAX: u32 = 64;

/// Bytes of a SHA-512 or PBKDF2 hash.
const SHA512_BYTES: usize = digest::SHA512_OUTPUT_LEN;
/// Bytes of salt beside them: Mosquitto 1.x and 2.0 write and read 12, 2.1 writes 64 and reads both.
const SHA512_SALT_BYTES: [usize; 2] = [12, 64];
/// Bytes of salt that we write beside them, so that both read it. 96 random bits do not repeat.
const SHA512_SALT_BYTES_WRITTEN: usize = SHA512_SALT_BYTES[0];

/// Bytes of salt and of hash that Mosquitto 2.1 writes for Argon2id.
const ARGON2_BYTES_WRITTEN: usize = 64;
/// Bytes of salt and of hash that other programs may have chosen for Argon2id.
const ARGON2_SALT_BYTES: std::ops::RangeInclusive<usize> = argon2::MIN_SALT_LEN..=1024;
const ARGON2_HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// How a password is hashed, and with what effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One SHA-512: no effort at all. It is read because old files have it.
    Sha512,
    /// PBKDF2-HMAC-SHA512.
    Sha512Pbkdf2 {
        /// How often HMAC is applied.
        iterations: NonZeroU32,
    },
    /// Argon2id, version 19.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes of the memory.
        lanes: u32,
    },
}

impl Kind {
    /// PBKDF2 as Mosquitto 2.1 uses it when not asked for another number of iterations.
    pub const SHA512_PBKDF2: Kind = Kind::Sha512Pbkdf2 {
        iterations: NonZeroU32::new(1000).expect("1000 is not 0"),
    };

    /// Argon2id as Mosquitto 2.1 uses it.
    pub const ARGON2ID: Kind = Kind::Argon2id {
        memory_kib: 47_104,
        passes: 1,
        lanes: 1,
    };

    /// How long a check takes, very roughly in microseconds: an HMAC takes about as long as a KiB of Argon2id.
    pub(super) fn cost(self) -> u64 {
        match self {
            Kind::Sha512 => 1,
            Kind::Sha512Pbkdf2 { iterations } => 1 + u64::from(iterations.get()),
            Kind::Argon2id {
                memory_kib, passes, ..
            } => 1 + u64::from(memory_kib) * u64::from(passes),
        }
    }

    /// Invariant 1.
    fn check_bounds(self) -> Result<Kind, HashError> {
        let at_most = |name, found: u64, max: u64| {
            if found <= max {
                Ok(())
            } else {
                Err(HashError::TooCostly { name, found, max })
            }
        };
        match self {
            Kind::Sha512 => {}
            Kind::Sha512Pbkdf2 { iterations } => {
                at_most("iterations", iterations.get().into(), ITERATIONS_MAX.into())?;
            }
            Kind::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                let work = u64::from(memory_kib) * u64::from(passes);
                at_most("m", memory_kib.into(), MEMORY_KIB_MAX.into())?;
                at_most("m times t", work, MEMORY_KIB_TIMES_PASSES_MAX)?;
                at_most("p", lanes.into(), LANES_MAX.into())?;
                Params::new(memory_kib, passes, lanes, None).map_err(|_| HashError::Parameters)?;
            }
        }
        Ok(self)
    }

    /// Hashes `password` into `out`.
    fn derive(self, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<(), HashFailed> {
        match self {
            Kind::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                out.copy_from_slice(context.finish().as_ref());
                Ok(())
            }
            Kind::Sha512Pbkdf2 { iterations } => {
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password, out);
                Ok(())
            }
            Kind::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                let params = Params::new(memory_kib, passes, lanes, Some(out.len()))
                    .expect("parameters are checked before they get here");
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(password, salt, out)
                    .map_err(|_| HashFailed)
            }
        }
    }
}

/// A password cannot be hashed: there is not enough memory, or the system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashFailed;

impl fmt::Display for HashFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Not enough memory, or no random bytes, to hash a password.")
    }
}

impl std::error::Error for HashFailed {}

/// A hash with all that it takes to check a password against it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    kind: Kind,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl PasswordHash {
    /// Hashes `password` with new random salt.
    /// # Errors
    /// [`HashError::TooCostly`] and [`HashError::Parameters`] for a kind that could not be read back, and
    /// [`HashError::Failed`].
    pub fn create(kind: Kind, password: &[u8]) -> Result<PasswordHash, HashError> {
        let mut salt = vec![0; kind.salt_bytes_written()];
        rand::fill(&mut salt).map_err(|_| HashFailed)?;
        PasswordHash::with_salt(kind, password, &salt)
    }

    fn with_salt(kind: Kind, password: &[u8], salt: &[u8]) -> Result<PasswordHash, HashError> {
        let mut hash = vec![0; kind.hash_bytes_written()];
        kind.check_bounds()?.derive(password, salt, &mut hash)?;
        Ok(PasswordHash {
            kind,
            salt: salt.into(),
            hash: hash.into(),
        })
    }

    /// A hash that takes as long to check as this one, and that tells nothing about it.
    pub(super) fn decoy(&self) -> PasswordHash {
        PasswordHash {
            kind: self.kind,
            salt: vec![0; self.salt.len()].into(),
            hash: vec![0; self.hash.len()].into(),
        }
    }

    /// A decoy where there is no hash to imitate.
    pub(super) fn cheapest_decoy() -> PasswordHash {
        PasswordHash {
            kind: Kind::Sha512,
            salt: vec![0; SHA512_SALT_BYTES_WRITTEN].into(),
            hash: vec![0; SHA512_BYTES].into(),
        }
    }

    /// How it was made.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this is the hash of `password`. It takes as long as [`Kind`] asks for, the answer being yes or no.
    /// # Errors
    /// [`HashFailed`] when the memory for it is not there.
    pub fn verify(&self, password: &[u8]) -> Result<bool, HashFailed> {
        let mut derived = vec![0; self.hash.len()];
        self.kind.derive(password, &self.salt, &mut derived)?;
        Ok(constant_time::verify_slices_are_equal(&derived, &self.hash).is_ok())
    }

    /// Reads a hash as password files have it.
    /// # Errors
    /// What is wrong with it.
    pub fn decode(text: &str) -> Result<PasswordHash, HashError> {
        let fields = text.strip_prefix('$').ok_or(HashError::Plain)?;
        let fields: Vec<&str> = fields.split('$').collect();
        match fields[..] {
            ["6", salt, hash] => PasswordHash::decode_fields(Kind::Sha512, &STANDARD, salt, hash),
            ["7", iterations, salt, hash] => {
                let iterations = decimal(iterations).and_then(NonZeroU32::new);
                let iterations = iterations.ok_or(HashError::Iterations)?;
                PasswordHash::decode_fields(
                    Kind::Sha512Pbkdf2 { iterations },
                    &STANDARD,
                    salt,
                    hash,
                )
            }
            ["argon2id", version, parameters, salt, hash] => {
                if version != "v=19" {
                    return Err(HashError::Version);
                }
                let kind = argon2id(parameters).ok_or(HashError::Parameters)?;
                PasswordHash::decode_fields(kind, &STANDARD_NO_PAD, salt, hash)
            }
            ["6" | "7" | "argon2id", ..] => Err(HashError::Fields),
            _ => Err(HashError::UnknownKind),
        }
    }

    fn decode_fields(
        kind: Kind,
        base64: &impl Engine,
        salt: &str,
        hash: &str,
    ) -> Result<PasswordHash, HashError> {
        let kind = kind.check_bounds()?;
        let part = |part: Part, text: &str| {
            let bytes = base64.decode(text).map_err(|_| HashError::Base64(part))?;
            if kind.takes(part, bytes.len()) {
                Ok(bytes.into())
            } else {
                Err(HashError::Length {
                    part,
                    found: bytes.len(),
                    kind,
                })
            }
        };
        Ok(PasswordHash {
            kind,
            salt: part(Part::Salt, salt)?,
            hash: part(Part::Hash, hash)?,
        })
    }

    /// As password files have it; not `Display`, so that it is never shown by accident.
    pub fn encode(&self) -> String {
        match self.kind {
            Kind::Sha512 => format!(
                "$6${}${}",
                STANDARD.encode(&self.salt),
                STANDARD.encode(&self.hash)
            ),
            Kind::Sha512Pbkdf2 { iterations } => format!(
                "$7${iterations}${}${}",
                STANDARD.encode(&self.salt),
                STANDARD.encode(&self.hash)
            ),
            Kind::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => format!(
                "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
                STANDARD_NO_PAD.encode(&self.salt),
                STANDARD_NO_PAD.encode(&self.hash)
            ),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Kind {
    fn salt_bytes_written(self) -> usize {
        match self {
            Kind::Sha512 | Kind::Sha512Pbkdf2 { .. } => SHA512_SALT_BYTES_WRITTEN,
            Kind::Argon2id { .. } => ARGON2_BYTES_WRITTEN,
        }
    }

    fn hash_bytes_written(self) -> usize {
        match self {
            Kind::Sha512 | Kind::Sha512Pbkdf2 { .. } => SHA512_BYTES,
            Kind::Argon2id { .. } => ARGON2_BYTES_WRITTEN,
        }
    }

    fn takes(self, part: Part, bytes: usize) -> bool {
        match (self, part) {
            (Kind::Sha512 | Kind::Sha512Pbkdf2 { .. }, Part::Salt) => {
                SHA512_SALT_BYTES.contains(&bytes)
            }
            (Kind::Sha512 | Kind::Sha512Pbkdf2 { .. }, Part::Hash) => bytes == SHA512_BYTES,
            (Kind::Argon2id { .. }, Part::Salt) => ARGON2_SALT_BYTES.contains(&bytes),
            (Kind::Argon2id { .. }, Part::Hash) => ARGON2_HASH_BYTES.contains(&bytes),
        }
    }

    fn expected_bytes(self, part: Part) -> String {
        let (from, to) = match (self, part) {
            (Kind::Sha512 | Kind::Sha512Pbkdf2 { .. }, Part::Salt) => {
                let [short, long] = SHA512_SALT_BYTES;
                return format!("{short} or {long} bytes of salt");
            }
            (Kind::Sha512 | Kind::Sha512Pbkdf2 { .. }, Part::Hash) => {
                return format!("{SHA512_BYTES} bytes of hash");
            }
            (Kind::Argon2id { .. }, Part::Salt) => ARGON2_SALT_BYTES,
            (Kind::Argon2id { .. }, Part::Hash) => ARGON2_HASH_BYTES,
        }
        .into_inner();
        format!("{from} to {to} bytes of {part}")
    }
}

/// `m=KIB,t=PASSES,p=LANES`.
fn argon2id(parameters: &str) -> Option<Kind> {
    let mut parameters = parameters.split(',');
    let mut next = |name| decimal(parameters.next()?.strip_prefix(name)?);
    let kind = Kind::Argon2id {
        memory_kib: next("m=")?,
        passes: next("t=")?,
        lanes: next("p=")?,
    };
    parameters.next().is_none().then_some(kind)
}

/// A number of digits only, where `parse` would take a sign as well. One that is too large is as large as can be, so
/// that it is refused for that.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// What is base64 in a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was hashed along with the password.
    Salt,
    /// What came out.
    Hash,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Salt => "salt",
            Part::Hash => "hash",
        })
    }
}

/// Why a text is no password hash, or a password was not hashed. `Display` says what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashError {
    /// It does not begin as a hash does; it may be a password.
    Plain,
    /// It begins with the name of a hash that is not known.
    UnknownKind,
    /// It has more or fewer fields than its kind.
    Fields,
    /// The number of iterations is none.
    Iterations,
    /// The version of Argon2 is not 19.
    Version,
    /// The parameters of Argon2id are none.
    Parameters,
    /// To check a password would take more than a machine should spend on it.
    TooCostly {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: u64,
        /// The largest value that is accepted.
        max: u64,
    },
    /// The salt or the hash is not base64.
    Base64(Part),
    /// The salt or the hash is too short or too long.
    Length {
        /// Which of them.
        part: Part,
        /// Its length in bytes.
        found: usize,
        /// The kind, which asks for another length.
        kind: Kind,
    },
    /// The system does not give what it takes to hash a password.
    Failed(HashFailed),
}

impl From<HashFailed> for HashError {
    fn from(failed: HashFailed) -> HashError {
        HashError::Failed(failed)
    }
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashError::Plain => f.write_str("it does not begin with '$', so it is not hashed"),
            HashError::UnknownKind => f.write_str("no hash type has this name"),
            HashError::Fields => f.write_str("it has too few or too many fields for its type"),
            HashError::Iterations => {
                f.write_str("the number of iterations is not a number above 0")
            }
            HashError::Version => f.write_str("this version of Argon2 is not supported"),
            HashError::Parameters => f.write_str("the parameters of Argon2id are invalid"),
            HashError::TooCostly { name, found, .. } => {
                write!(
                    f,
                    "{name} is {found}, and to check a password would cost too much"
                )
            }
            HashError::Base64(part) => write!(f, "the {part} is not base64"),
            HashError::Length { part, found, .. } => write!(f, "the {part} has {found} bytes"),
            HashError::Failed(failed) => failed.fmt(f),
        }
    }
}

impl std::error::Error for HashError {}

impl HashError {
    /// What would have been right.
    pub fn expected(&self) -> String {
        match self {
            HashError::Plain | HashError::UnknownKind => {
                "$6$..., $7$... or $argon2id$..., as `midge passwd` writes it (-U hashes a file of plain passwords)"
                    .to_owned()
            }
            HashError::Fields => {
                "$6$SALT$HASH, $7$ITERATIONS$SALT$HASH or $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH".to_owned()
            }
            HashError::Iterations => format!("1 to {ITERATIONS_MAX} iterations"),
            HashError::Version => "v=19".to_owned(),
            HashError::Parameters => {
                "m=KIB,t=PASSES,p=LANES, each at least 1, and m at least 8 times p".to_owned()
            }
            HashError::TooCostly { name, max, .. } => format!("{name} at most {max}"),
            HashError::Base64(_) => {
                "base64, of $6$ and $7$ with padding, of $argon2id$ without".to_owned()
            }
            HashError::Length { part, kind, .. } => kind.expected_bytes(*part),
            HashError::Failed(_) => "memory and random bytes".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
