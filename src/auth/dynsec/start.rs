//! What there is where no file exists yet: an administrator, and the roles that Mosquitto 2.1 begins with.
//!
//! The administrator's password is the first line of `plugin_opt_password_init_file`, else what `MOSQUITTO_DYNSEC_PASSWORD` has,
//! else random: then it stands in a file beside, whose name ends in `.pw`, together with that of `democlient`, who may
//! publish and subscribe to everything. The log tells where a password is, never what it is.
//!
//! 1. There is no file without an administrator whose password somebody knows.

use super::file::{self, DynsecError};
use super::{PRIORITY_UNSET, Rule, RuleType, Security};
use crate::auth::file::FileError;
use crate::auth::password::{Kind, PasswordHash};
use aws_lc_rs::rand;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Holds the administrator's first password.
pub const PASSWORD_VARIABLE: &str = "MOSQUITTO_DYNSEC_PASSWORD";

/// How many characters the variable has at least.
const VARIABLE_CHARACTERS_MIN: usize = 12;

/// What random passwords are made of: 64 characters, so that six random bits choose one.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 120 random bits.
const PASSWORD_CHARACTERS: usize = 20;

/// The administrator.
pub const ADMINISTRATOR: &str = "admin";

/// Where the administrator's first password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first line of a file.
    File(PathBuf),
    /// The environment.
    Variable(String),
    /// Nowhere: it is made, and stands in a file beside.
    Random,
}

impl Source {
    /// The one that this process was given.
    pub fn of_process(password_init_file: Option<&Path>) -> Source {
        match (password_init_file, std::env::var(PASSWORD_VARIABLE)) {
            (Some(path), _) => Source::File(path.to_owned()),
            (None, Ok(password)) => Source::Variable(password),
            (None, Err(_)) => Source::Random,
        }
    }
}

/// Makes the first file at `path`, and tells what the log should say.
/// # Errors
/// The password cannot be had, or a file not be written.
pub fn make(path: &Path, source: &Source) -> Result<(Security, Vec<String>), DynsecError> {
    let unwritable = |path: &Path, reason: String| {
        DynsecError::Unwritable(FileError {
            path: path.to_owned(),
            reason,
        })
    };
    let failed = |reason: &str| unwritable(path, reason.to_owned());
    let mut said =
        vec!["Dynamic security plugin config not found, generating a default config.".to_owned()];
    let mut security = Security::default();
    add_roles(&mut security);
    match source {
        Source::File(from) => {
            let (bytes, _) = crate::auth::file::read(from).map_err(DynsecError::Unreadable)?;
            let line = bytes.split(|byte| *byte == b'\n').next();
            let password = line.and_then(|line| str::from_utf8(line).ok());
            let password = password.map_or("", str::trim_end);
            if password.is_empty() {
                let reason = format!(
                    "the administrator's password in {} is empty, or no UTF-8",
                    from.display()
                );
                return Err(unwritable(path, reason));
            }
            said.push(format!(
                "  Using admin password from file '{}'",
                from.display()
            ));
            add_administrator(&mut security, password).map_err(failed)?;
        }
        Source::Variable(password) => {
            if password.chars().count() < VARIABLE_CHARACTERS_MIN {
                let reason = format!(
                    "{PASSWORD_VARIABLE} must be at least {VARIABLE_CHARACTERS_MIN} characters"
                );
                return Err(unwritable(path, reason));
            }
            said.push(format!(
                "  Using admin password from {PASSWORD_VARIABLE} environment variable"
            ));
            add_administrator(&mut security, password).map_err(failed)?;
        }
        Source::Random => {
            let (admin, demo) = (
                random_password().map_err(failed)?,
                random_password().map_err(failed)?,
            );
            add_administrator(&mut security, &admin).map_err(failed)?;
            add_client(&mut security, "democlient", &demo, &["client"]).map_err(failed)?;
            let mut beside = OsString::from(path);
            beside.push(".pw");
            let beside = PathBuf::from(beside);
            let text = format!("{ADMINISTRATOR} {admin}\ndemoclient {demo}\n");
            let saved = file::save(&beside, &text);
            saved.map_err(|error| unwritable(&beside, error.to_string()))?;
            said.push(format!("  Generated passwords are at {}", beside.display()));
        }
    }
    let saved = file::save(path, &file::to_text(&security));
    saved.map_err(|error| unwritable(path, error.to_string()))?;
    Ok((security, said))
}

/// Reads the file at `path`, and makes it where there is none.
/// # Errors
/// It cannot be read, is not what it should be, or cannot be made.
pub fn load_or_make(path: &Path, source: &Source) -> Result<(Security, Vec<String>), DynsecError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(path, source),
        _ => file::load(path),
    }
}

fn random_password() -> Result<String, &'static str> {
    let mut bytes = [0; PASSWORD_CHARACTERS];
    rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    let characters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    Ok(characters.iter().collect())
}

fn add_administrator(security: &mut Security, password: &str) -> Result<(), &'static str> {
    let roles = ["super-admin", "sys-observe", "topic-observe"];
    add_client(security, ADMINISTRATOR, password, &roles)
}

fn add_client(
    security: &mut Security,
    user_name: &str,
    password: &str,
    roles: &[&str],
) -> Result<(), &'static str> {
    let hash = PasswordHash::create(Kind::SHA512_PBKDF2, password.as_bytes());
    let hash = hash.map_err(|_| "the system gives no random bytes")?;
    let client = security.add_client(user_name).map_err(|_| "named twice")?;
    client.password = Some(Arc::new(hash));
    for role in roles {
        let added = security.add_client_role(user_name, role, PRIORITY_UNSET);
        added.map_err(|_| "a role is missing")?;
    }
    Ok(())
}

/// The roles and the group that everybody begins with.
fn add_roles(security: &mut Security) {
    use RuleType::{PublishClientReceive, PublishClientSend, SubscribePattern, UnsubscribePattern};
    let everything = [
        PublishClientSend,
        PublishClientReceive,
        SubscribePattern,
        UnsubscribePattern,
    ];
    let reading = [PublishClientReceive, SubscribePattern, UnsubscribePattern];
    let roles: [(&str, &str, &[RuleType], &str); 7] = [
        (
            "client",
            "May publish and subscribe to every topic of applications.",
            &everything,
            "#",
        ),
        (
            "broker-admin",
            "May administer the broker itself.",
            &everything,
            "$CONTROL/broker/#",
        ),
        (
            "dynsec-admin",
            "May administer clients, groups and roles.",
            &everything,
            "$CONTROL/dynamic-security/#",
        ),
        (
            "super-admin",
            "May administer everything that can be administered.",
            &everything,
            "$CONTROL/#",
        ),
        (
            "sys-notify",
            "Bridges may tell of the state of their connections.",
            &[PublishClientSend],
            "$SYS/broker/connection/%c/state",
        ),
        (
            "sys-observe",
            "May see what the broker tells of itself below $SYS.",
            &[PublishClientReceive, SubscribePattern],
            "$SYS/#",
        ),
        (
            "topic-observe",
            "May subscribe to every topic of applications.",
            &reading,
            "#",
        ),
    ];
    for (name, description, rule_types, topic) in roles {
        let role = security.add_role(name).expect("names differ");
        role.texts.description = Some(description.to_owned());
        role.set_rules(rule_types.iter().map(|of| {
            let rule = Rule {
                topic: topic.into(),
                priority: 0,
                allow: true,
            };
            (*of, rule)
        }));
    }
    let name = "unauthenticated";
    let group = security.add_group(name).expect("there is no other");
    group.texts.description =
        Some("Who connects without a user name has the roles of this group.".to_owned());
    security
        .set_anonymous_group(name)
        .expect("it was just added");
}

#[cfg(test)]
mod tests;
