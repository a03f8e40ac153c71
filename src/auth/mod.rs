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
//! 2. It does not change but by commands of dynamic security; a reload makes another one, which keeps what those did.

pub mod acl;
pub mod dynsec;
pub mod file;
pub mod password;
mod trie;

use crate::config::{Config, DynamicSecurity};
use acl::{Acl, AclError};
use dynsec::Security;
use dynsec::file::DynsecError;
use dynsec::start::{self, Source};
use password::{Challenge, PasswordFile, PasswordFileError, PasswordHash};
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
    /// Each file of dynamic security once.
    securities: Vec<Dynamic>,
    /// What the operator should know of files of dynamic security.
    said: Vec<String>,
}

/// What decides at one listener.
#[derive(Clone, Debug, Default)]
struct Door {
    passwords: Option<Arc<PasswordFile>>,
    acl: Option<Arc<Acl>>,
    /// The index of its dynamic security.
    security: Option<usize>,
}

/// Dynamic security as it stands, and the file that has it.
#[derive(Clone, Debug)]
struct Dynamic {
    file: PathBuf,
    security: Arc<Security>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub enum AuthError {
    /// A `password_file`.
    Passwords(PasswordFileError),
    /// An `acl_file`.
    Acl(AclError),
    /// A `dynamic_security_file`.
    Dynsec(DynsecError),
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::Passwords(error) => error.fmt(f),
            AuthError::Acl(error) => error.fmt(f),
            AuthError::Dynsec(error) => error.fmt(f),
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
                | AuthError::Dynsec(DynsecError::Unreadable(_) | DynsecError::Unwritable(_))
        )
    }
}

/// Whether files that are not there yet may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// They may.
    Allowed,
    /// Nothing is to be written; what would be made is as good as empty.
    Forbidden,
}

impl Auth {
    /// Reads the files of every listener of `config`, each file once.
    /// # Errors
    /// The first file that cannot be read, made or understood.
    pub fn load(config: &Config, making: Making) -> Result<Auth, AuthError> {
        let mut password_files = HashMap::new();
        let mut acl_files = HashMap::new();
        let mut auth = Auth::default();
        for listener in &config.listeners {
            let passwords = listener.password_file.as_deref().map(|path| {
                once(&mut password_files, path, PasswordFile::load).map_err(AuthError::Passwords)
            });
            let acl = listener
                .acl_file
                .as_deref()
                .map(|path| once(&mut acl_files, path, Acl::load).map_err(AuthError::Acl));
            let security = listener.dynamic_security.as_ref();
            let security = security.map(|settings| auth.load_security(settings, making));
            auth.doors.push(Door {
                passwords: passwords.transpose()?,
                acl: acl.transpose()?,
                security: security.transpose().map_err(AuthError::Dynsec)?,
            });
        }
        auth.password_files = password_files.into_values().collect();
        auth.acls = acl_files.into_values().collect();
        Ok(auth)
    }

    /// The index of the dynamic security that `settings` ask for, which is read or made once.
    fn load_security(
        &mut self,
        settings: &DynamicSecurity,
        making: Making,
    ) -> Result<usize, DynsecError> {
        let file = &settings.file;
        let mut known = self.securities.iter();
        if let Some(index) = known.position(|known| known.file == *file) {
            return Ok(index);
        }
        let source = Source::of_process(settings.password_file.as_deref());
        let (security, said) = match making {
            Making::Forbidden if !file.exists() => (Security::default(), Vec::new()),
            _ => start::load_or_make(file, &source)?,
        };
        self.said.extend(said);
        self.securities.push(Dynamic {
            file: file.clone(),
            security: Arc::new(security),
        });
        Ok(self.securities.len() - 1)
    }

    /// Goes on with what `running` knows by dynamic security, which is newer than what its files had when they were read.
    pub fn keep_securities_of(&mut self, running: &Auth) {
        for dynamic in &mut self.securities {
            let mut known = running.securities.iter();
            if let Some(known) = known.find(|known| known.file == dynamic.file) {
                dynamic.security = Arc::clone(&known.security);
            }
        }
    }

    /// The file and the content of the dynamic security at the listener with this index, to be changed.
    pub fn security_mut(&mut self, listener: usize) -> Option<(&Path, &mut Arc<Security>)> {
        let index = self.doors.get(listener)?.security?;
        let dynamic = &mut self.securities[index];
        Some((&dynamic.file, &mut dynamic.security))
    }

    /// The dynamic security at the listener with this index.
    pub fn security(&self, listener: usize) -> Option<&Arc<Security>> {
        let index = self.doors.get(listener)?.security?;
        Some(&self.securities[index].security)
    }

    /// Whether names need a proof at the listener with this index.
    pub fn asks(&self, listener: usize) -> bool {
        let door = self.doors.get(listener);
        door.is_some_and(|door| door.passwords.is_some() || door.security.is_some())
    }

    /// The hash of a user's password; `None` for who may not enter. A name that dynamic security has is its own.
    pub fn hash_of(&self, listener: usize, user_name: &str) -> Option<&Arc<PasswordHash>> {
        if let Some(client) = self.client(listener, user_name) {
            return client.password.as_ref().filter(|_| !client.disabled);
        }
        let passwords = self.doors.get(listener)?.passwords.as_ref();
        passwords.and_then(|passwords| passwords.hash_of(user_name))
    }

    /// What a client that calls itself `user_name` must know. To ask is cheap; to verify is not.
    pub fn challenge(&self, listener: usize, user_name: &str) -> Challenge {
        if let Some(hash) = self.hash_of(listener, user_name) {
            return Challenge::new(hash);
        }
        let door = self.doors.get(listener);
        match (
            door.and_then(|door| door.passwords.as_ref()),
            self.security(listener),
        ) {
            (Some(passwords), None) => passwords.challenge(user_name),
            (_, Some(security)) => {
                let clients = security.clients().values();
                Challenge::unmet(clients.filter_map(|client| client.password.as_deref()))
            }
            (None, None) => Challenge::unmet(std::iter::empty()),
        }
    }

    /// Whether who has proven to have this name may enter, under this Client Identifier.
    pub fn admits(&self, listener: usize, user_name: &str, client_id: &str) -> bool {
        self.client(listener, user_name).is_none_or(|client| {
            let bound = client.client_id.as_deref();
            !client.disabled && bound.is_none_or(|bound| bound == client_id)
        })
    }

    fn client(&self, listener: usize, user_name: &str) -> Option<&dynsec::Client> {
        self.security(listener)?.clients().get(user_name)
    }

    /// Whether a name is the same user's at both listeners.
    pub fn has_same_users(&self, one: usize, other: usize) -> bool {
        let (Some(one), Some(other)) = (self.doors.get(one), self.doors.get(other)) else {
            return false;
        };
        let address = |door: &Door| door.passwords.as_ref().map(Arc::as_ptr);
        one.security == other.security && address(one) == address(other)
    }

    /// What a client may do that came through the listener with this index; `None` where nothing restricts it.
    pub fn rights(
        &self,
        listener: usize,
        user_name: Option<&str>,
        client_id: &str,
    ) -> Option<Rights> {
        let acl = self.doors.get(listener)?.acl.as_ref();
        let rules = acl.map(|acl| acl.rights(user_name, client_id));
        let security = self.security(listener);
        let roles = security.map(|security| security.rights(user_name, client_id));
        (rules.is_some() || roles.is_some()).then_some(Rights { rules, roles })
    }

    /// Whether the same rules hold at every listener.
    pub fn has_same_rules_everywhere(&self) -> bool {
        let mut rules = self
            .doors
            .iter()
            .map(|door| (door.acl.as_ref().map(Arc::as_ptr), door.security));
        let first = rules.next();
        first.is_none_or(|first| rules.all(|rules| rules == first))
    }

    /// What the operator should know about the files.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let passwords = self.password_files.iter().flat_map(|it| it.warnings());
        let acls = self.acls.iter();
        let files = passwords.chain(acls.clone().flat_map(|acl| acl.file_warnings()));
        let rules = acls.flat_map(|acl| acl.warnings());
        let said = self.said.iter().cloned();
        files
            .cloned()
            .chain(rules.map(ToString::to_string))
            .chain(said)
    }

    /// Whether any listener has rules.
    pub fn has_rules(&self) -> bool {
        !self.acls.is_empty() || !self.securities.is_empty()
    }
}

/// What one client may do. An `acl_file` decides alone where there is one, of all but `$CONTROL`, which roles decide.
#[derive(Clone, Debug)]
pub struct Rights {
    rules: Option<acl::Rights>,
    roles: Option<dynsec::rules::Rights>,
}

impl Rights {
    fn ask(
        &self,
        text: &str,
        rules: impl FnOnce(&acl::Rights) -> bool,
        roles: impl FnOnce(&dynsec::rules::Rights) -> bool,
    ) -> bool {
        match (&self.rules, &self.roles) {
            (Some(own), None) => rules(own),
            (Some(own), Some(_)) if !text.starts_with("$CONTROL") => rules(own),
            (_, Some(own)) => roles(own),
            (None, None) => true,
        }
    }

    /// Whether messages on `topic` may be sent to the client.
    pub fn may_read(&self, topic: &str) -> bool {
        self.ask(topic, |it| it.may_read(topic), |it| it.may_read(topic))
    }

    /// Whether the client may publish to `topic`.
    pub fn may_write(&self, topic: &str) -> bool {
        self.ask(topic, |it| it.may_write(topic), |it| it.may_write(topic))
    }

    /// Whether the client may subscribe to the valid `filter`, given without share name.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.ask(
            filter,
            |it| it.may_subscribe(filter),
            |it| it.may_subscribe(filter),
        )
    }

    /// Whether the client may unsubscribe from the valid `filter`, given without share name.
    pub fn may_unsubscribe(&self, filter: &str) -> bool {
        self.ask(filter, |_| true, |it| it.may_unsubscribe(filter))
    }

    /// Whether the client may send commands to `topic`: only a role can say so.
    pub fn may_control(&self, topic: &str) -> bool {
        self.roles
            .as_ref()
            .is_some_and(|roles| roles.may_write(topic))
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

#[cfg(test)]
mod tests;
