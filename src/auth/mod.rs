//! Who may: password files and access control lists, compiled when they are loaded, pure answers afterwards.
//!
//! | file | knows |
//! |---|---|
//! | `password` | `password_file`, its hashes, and how long a check takes |
//! | `acl` | `acl_file`: user, topic and pattern rules |
//! | `dynsec` | clients, groups and roles that are changed while the broker runs |
//! | `trie` | which of many rules match a topic |
//! | `file` | how such a file is read, and who else could |
//!
//! It knows names, passwords and topics; it does not know connections, sessions or packets.
//! 1. An [`Auth`] exists only if every file that its configuration names was read to its last line: what cannot be read
//!    never means that everything is allowed.
//! 2. It does not change; a reload makes another one.

pub mod acl;
pub mod dynsec;
pub mod file;
pub mod password;
mod trie;

use crate::config::Config;
use acl::{Acl, AclError};
use password::{PasswordFile, PasswordFileError};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the files of a configuration say, for each of its listeners. The default is that of listeners without files.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    doors: Vec<Door>,
    /// Each password file once.
    password_files: Vec<Arc<PasswordFile>>,
    /// Each ACL file once.
    acls: Vec<Arc<Acl>>,
}

/// What decides at one listener.
#[derive(Clone, Debug, Default)]
struct Door {
    passwords: Option<Arc<PasswordFile>>,
    acl: Option<Arc<Acl>>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub enum AuthError {
    /// A `password_file`.
    Passwords(PasswordFileError),
    /// An `acl_file`.
    Acl(AclError),
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::Passwords(error) => error.fmt(f),
            AuthError::Acl(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AuthError {}

impl AuthError {
    /// Whether the file could not be read, rather than understood.
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            AuthError::Passwords(PasswordFileError::Unreadable(_))
                | AuthError::Acl(AclError::Unreadable(_))
        )
    }
}

impl Auth {
    /// Reads the password and ACL files of every listener of `config`, each file once.
    /// # Errors
    /// The first file that cannot be read or has a bad line.
    pub fn load(config: &Config) -> Result<Auth, AuthError> {
        let mut password_files = HashMap::new();
        let mut acl_files = HashMap::new();
        let mut doors = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let passwords = listener.password_file.as_deref().map(|path| {
                once(&mut password_files, path, PasswordFile::load).map_err(AuthError::Passwords)
            });
            let acl = listener
                .acl_file
                .as_deref()
                .map(|path| once(&mut acl_files, path, Acl::load).map_err(AuthError::Acl));
            doors.push(Door {
                passwords: passwords.transpose()?,
                acl: acl.transpose()?,
            });
        }
        Ok(Auth {
            doors,
            password_files: password_files.into_values().collect(),
            acls: acl_files.into_values().collect(),
        })
    }

    /// The passwords that are asked for at the listener with this index.
    pub fn passwords(&self, listener: usize) -> Option<&Arc<PasswordFile>> {
        self.doors.get(listener)?.passwords.as_ref()
    }

    /// The rules that hold at the listener with this index.
    pub fn acl(&self, listener: usize) -> Option<&Arc<Acl>> {
        self.doors.get(listener)?.acl.as_ref()
    }

    /// Whether the same rules hold at every listener.
    pub fn has_same_rules_everywhere(&self) -> bool {
        let mut acls = self
            .doors
            .iter()
            .map(|door| door.acl.as_ref().map(Arc::as_ptr));
        let first = acls.next();
        first.is_none_or(|first| acls.all(|acl| acl == first))
    }

    /// What the operator should know about the files.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let passwords = self.password_files.iter().flat_map(|it| it.warnings());
        let acls = self.acls.iter();
        let files = passwords.chain(acls.clone().flat_map(|acl| acl.file_warnings()));
        let rules = acls.flat_map(|acl| acl.warnings());
        files.cloned().chain(rules.map(ToString::to_string))
    }

    /// Whether any listener has rules.
    pub fn has_rules(&self) -> bool {
        !self.acls.is_empty()
    }
}

fn once<T, E>(
    files: &mut HashMap<PathBuf, Arc<T>>,
    path: &Path,
    load: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<Arc<T>, E> {
    if let Some(file) = files.get(path) {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(load(path)?);
    files.insert(path.to_owned(), Arc::clone(&file));
    Ok(file)
}
