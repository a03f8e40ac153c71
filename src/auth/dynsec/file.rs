//! `dynamic-security.json`: what is known, as text, and back.
//!
//! It reads what Mosquitto 2.0 writes (`password`, `salt` and `iterations`) and 2.1 (`encoded_password`), and writes both
//! forms, so that either can go on with the file. As there, names of fields are looked for in any case, and an entry that
//! does not fit is left out; here a warning tells of it.
//!
//! 1. Text that is no JSON object, or in which a list is something else, is no [`Security`]: what was damaged
//!    never means that everybody may do everything, or that nobody is known.
//! 2. A file appears whole or not at all, for its owner only.
//! 3. What was written is read back the same.

use super::{PRIORITY_UNSET, Ranking, Rule, RuleType, Security, Texts, Unfit, clamped};
use crate::auth::file::{self, FileError};
use crate::auth::password::{Kind, PasswordHash};
use serde_json::{Map, Value, json};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// A file that cannot be used. Its `Display` is a line of the log, and a second one that says what was expected.
#[derive(Debug)]
pub enum DynsecError {
    /// It cannot be read.
    Unreadable(FileError),
    /// It is not what it should be.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The first file could not be written.
    Unwritable(FileError),
}

impl fmt::Display for DynsecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DynsecError::Unreadable(error) => write!(
                f,
                "Error loading Dynamic security plugin config: {} cannot be read: {}.",
                error.path.display(),
                error.reason
            ),
            DynsecError::Invalid { path, problem } => write!(
                f,
                "Error loading Dynamic security plugin config: {}: {problem}.\n\
                 Expected: a JSON object with clients, groups, roles and defaultACLAccess, as `midge ctrl dynsec init` makes one.",
                path.display()
            ),
            DynsecError::Unwritable(error) => write!(
                f,
                "Error: Unable to write the Dynamic security plugin config {}: {}.",
                error.path.display(),
                error.reason
            ),
        }
    }
}

impl std::error::Error for DynsecError {}

/// Reads the file at `path`, and tells what the operator should know: of who else can reach it, and what was left out.
/// # Errors
/// It cannot be read, or is not what it should be.
pub fn load(path: &Path) -> Result<(Security, Vec<String>), DynsecError> {
    let (bytes, mut warnings) = file::read(path).map_err(DynsecError::Unreadable)?;
    let invalid = |problem| DynsecError::Invalid {
        path: path.to_owned(),
        problem,
    };
    let (security, left_out) = parse(&bytes).map_err(invalid)?;
    let name = path.display();
    warnings.extend(
        left_out
            .into_iter()
            .map(|what| format!("Warning: {name}: {what}.")),
    );
    Ok((security, warnings))
}

/// Reads the content of a file, and tells what was left out of it.
/// # Errors
/// What is wrong, as a sentence without its end.
pub fn parse(bytes: &[u8]) -> Result<(Security, Vec<String>), String> {
    let tree: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not valid JSON: {error}"))?;
    if !tree.is_object() {
        return Err("not a JSON object".to_owned());
    }
    let mut reader = Reader::default();
    reader.general(&tree);
    reader.roles(&tree)?;
    reader.clients(&tree)?;
    reader.groups(&tree)?;
    Ok((reader.security, reader.left_out))
}

/// Writes `text` to `path`, whole or not at all, for its owner only.
/// # Errors
/// Whatever the system says.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // A file of this kind has mode 0600.
    let mut new = NamedTempFile::with_prefix_in(".dynamic-security-", directory)?;
    new.write_all(text.as_bytes())?;
    // Where root makes it, before the broker becomes somebody else, it is for whom the directory is made for.
    let (owner, ours) = (std::fs::metadata(directory)?, new.as_file().metadata()?);
    if ours.uid() == 0 && owner.uid() != 0 {
        fchown(new.as_file(), Some(owner.uid()), Some(owner.gid()))?;
    }
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// The field of that name, in any case, as cJSON looks for it.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    object.get(name).or_else(|| {
        let mut fields = object.iter();
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

/// The text of a field.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    field(object, name)?.as_str()
}

/// The priority of an entry, `unset` where it has none.
pub(super) fn priority(object: &Value, unset: i32) -> i32 {
    let number = field(object, "priority").and_then(Value::as_f64);
    number.map_or(unset, |number| clamped(number as i64))
}

/// The rules in `acls`, those that fit, and what is wrong with the others.
pub(super) fn rules(acls: &[Value]) -> (Vec<(RuleType, Rule)>, Vec<String>) {
    let (mut rules, mut left_out) = (Vec::new(), Vec::new());
    for acl in acls {
        let of = text(acl, "acltype").and_then(RuleType::from_name);
        let topic = text(acl, "topic").filter(|topic| !topic.is_empty());
        match (of, topic) {
            (Some(of), Some(topic)) => {
                let rule = Rule {
                    topic: topic.into(),
                    priority: priority(acl, 0),
                    allow: field(acl, "allow").and_then(Value::as_bool) == Some(true),
                };
                rules.push((of, rule));
            }
            (None, _) => left_out.push("an ACL without a known 'acltype' was left out".to_owned()),
            (_, None) => left_out.push("an ACL without a 'topic' was left out".to_owned()),
        }
    }
    (rules, left_out)
}

#[derive(Default)]
struct Reader {
    security: Security,
    left_out: Vec<String>,
}

impl Reader {
    fn general(&mut self, tree: &Value) {
        self.security.change_index = field(tree, "changeIndex")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if let Some(defaults) = field(tree, "defaultACLAccess").filter(|it| it.is_object()) {
            // What is missing in a list that is there is denied, as Mosquitto has it.
            let is_allowed = |name| field(defaults, name).and_then(Value::as_bool) == Some(true);
            self.security.defaults = super::Defaults {
                publish_client_send: is_allowed("publishClientSend"),
                publish_client_receive: is_allowed("publishClientReceive"),
                subscribe: is_allowed("subscribe"),
                unsubscribe: is_allowed("unsubscribe"),
            };
        }
    }

    /// The entries of the list `list` with their names, which stand in `name`.
    fn entries<'a>(
        &mut self,
        tree: &'a Value,
        list: &str,
        name: &str,
    ) -> Result<Vec<(&'a str, &'a Value)>, String> {
        let Some(entries) = field(tree, list) else {
            return Ok(Vec::new());
        };
        let entries = entries
            .as_array()
            .ok_or_else(|| format!("'{list}' is not an array"))?;
        let mut named = Vec::with_capacity(entries.len());
        for (entry, index) in entries.iter().zip(1..) {
            match text(entry, name).filter(|name| !name.is_empty()) {
                Some(name) => named.push((name, entry)),
                None => {
                    let what =
                        format!("entry {index} of '{list}' has no '{name}' and was left out");
                    self.left_out.push(what);
                }
            }
        }
        Ok(named)
    }

    fn twice(&mut self, list: &str, name: &str) {
        self.left_out.push(format!(
            "'{name}' is in '{list}' twice: the second was left out"
        ));
    }

    fn roles(&mut self, tree: &Value) -> Result<(), String> {
        for (name, entry) in self.entries(tree, "roles", "rolename")? {
            let Ok(role) = self.security.add_role(name) else {
                self.twice("roles", name);
                continue;
            };
            role.texts = texts(entry);
            role.allows_wildcards = field(entry, "allowwildcardsubs")
                .and_then(Value::as_bool)
                .unwrap_or(true);
            let acls = field(entry, "acls").and_then(Value::as_array);
            let (rules, left_out) = rules(acls.map_or(&[], Vec::as_slice));
            role.set_rules(rules);
            let of_role = left_out
                .into_iter()
                .map(|what| format!("role '{name}': {what}"));
            self.left_out.extend(of_role);
        }
        Ok(())
    }

    /// The roles of an entry of `owner`.
    fn ranking(&mut self, entry: &Value, owner: &str) -> Ranking {
        let mut ranking = Ranking::default();
        let roles = field(entry, "roles").and_then(Value::as_array);
        for role in roles.into_iter().flatten() {
            let Some(name) = text(role, "rolename") else {
                continue;
            };
            if self.security.roles().contains_key(name) {
                ranking.add(name, priority(role, PRIORITY_UNSET));
            } else {
                self.left_out
                    .push(format!("{owner} has the role '{name}', which there is not"));
            }
        }
        ranking
    }

    fn clients(&mut self, tree: &Value) -> Result<(), String> {
        for (name, entry) in self.entries(tree, "clients", "username")? {
            let roles = self.ranking(entry, &format!("client '{name}'"));
            let (password, problem) = match password(entry) {
                Ok(password) => (password, None),
                Err(problem) => (None, Some(problem)),
            };
            let Ok(client) = self.security.add_client(name) else {
                self.twice("clients", name);
                continue;
            };
            client.password = password.map(Arc::new);
            client.client_id = text(entry, "clientid").map(str::to_owned);
            client.texts = texts(entry);
            client.disabled = field(entry, "disabled").and_then(Value::as_bool) == Some(true);
            client.roles = roles;
            if let Some(problem) = problem {
                let what =
                    format!("nobody can connect as '{name}', whose password is damaged: {problem}");
                self.left_out.push(what);
            }
        }
        Ok(())
    }

    fn groups(&mut self, tree: &Value) -> Result<(), String> {
        for (name, entry) in self.entries(tree, "groups", "groupname")? {
            let roles = self.ranking(entry, &format!("group '{name}'"));
            let Ok(group) = self.security.add_group(name) else {
                self.twice("groups", name);
                continue;
            };
            group.texts = texts(entry);
            group.roles = roles;
            let clients = field(entry, "clients").and_then(Value::as_array);
            for client in clients.into_iter().flatten() {
                let Some(user_name) = text(client, "username") else {
                    continue;
                };
                let priority = priority(client, PRIORITY_UNSET);
                let added = self.security.add_group_client(name, user_name, priority);
                if added == Err(Unfit::NoClient) {
                    let what =
                        format!("group '{name}' has the client '{user_name}', which there is not");
                    self.left_out.push(what);
                }
            }
        }
        if let Some(name) = text(tree, "anonymousGroup")
            && self.security.set_anonymous_group(name).is_err()
        {
            self.left_out.push(format!(
                "the anonymous group is '{name}', which there is not"
            ));
        }
        Ok(())
    }
}

fn texts(entry: &Value) -> Texts {
    Texts {
        name: text(entry, "textname").map(str::to_owned),
        description: text(entry, "textdescription").map(str::to_owned),
    }
}

/// The hash of an entry's password, if it has one.
fn password(entry: &Value) -> Result<Option<PasswordHash>, String> {
    let encoded = match text(entry, "encoded_password") {
        Some(encoded) => encoded.to_owned(),
        None => {
            let iterations = field(entry, "iterations").and_then(Value::as_f64);
            let parts = (text(entry, "password"), text(entry, "salt"), iterations);
            let (Some(password), Some(salt), Some(iterations)) = parts else {
                return Ok(None);
            };
            format!("$7${iterations}${salt}${password}")
        }
    };
    let hash = PasswordHash::decode(&encoded).map_err(|error| error.expected())?;
    Ok(Some(hash))
}

/// An object of those fields that have a value.
pub(super) fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    let present = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}

/// The names of a ranking, each below `name`, with the priorities that were given.
pub(super) fn ranked<'a>(name: &str, ranking: impl Iterator<Item = (&'a str, i32)>) -> Value {
    let entries = ranking.map(|(of, priority)| {
        let priority = (priority != PRIORITY_UNSET).then(|| json!(priority));
        object([(name, Some(json!(of))), ("priority", priority)])
    });
    Value::Array(entries.collect())
}

/// A role as files and answers have it.
pub(super) fn role(name: &str, role: &super::Role) -> Value {
    let acls = RuleType::ALL.into_iter().flat_map(|of| {
        role.rules(of).iter().map(move |rule| {
            json!({
                "acltype": of.name(),
                "topic": &*rule.topic,
                "priority": rule.priority,
                "allow": rule.allow,
            })
        })
    });
    object([
        ("rolename", Some(json!(name))),
        ("textname", role.texts.name.as_deref().map(Value::from)),
        (
            "textdescription",
            role.texts.description.as_deref().map(Value::from),
        ),
        ("allowwildcardsubs", Some(json!(role.allows_wildcards))),
        ("acls", Some(Value::Array(acls.collect()))),
    ])
}

/// What is known, as the text of a file.
pub fn to_text(security: &Security) -> String {
    let defaults = security.defaults;
    let mut tree = Map::new();
    tree.insert("changeIndex".to_owned(), json!(security.change_index));
    tree.insert(
        "defaultACLAccess".to_owned(),
        json!({
            "publishClientSend": defaults.publish_client_send,
            "publishClientReceive": defaults.publish_client_receive,
            "subscribe": defaults.subscribe,
            "unsubscribe": defaults.unsubscribe,
        }),
    );
    let clients = security.clients().iter();
    let clients = clients.map(|(name, client)| client_to_value(name, client));
    tree.insert("clients".to_owned(), clients.collect());
    let groups = security.groups().iter().map(|(name, group)| {
        object([
            ("groupname", Some(json!(name))),
            ("textname", group.texts.name.as_deref().map(Value::from)),
            (
                "textdescription",
                group.texts.description.as_deref().map(Value::from),
            ),
            ("roles", Some(ranked("rolename", group.roles.iter()))),
            ("clients", Some(ranked("username", group.clients()))),
        ])
    });
    tree.insert("groups".to_owned(), groups.collect());
    let roles = security.roles().iter();
    tree.insert(
        "roles".to_owned(),
        roles.map(|(name, it)| role(name, it)).collect(),
    );
    if let Some(group) = security.anonymous_group() {
        tree.insert("anonymousGroup".to_owned(), json!(group));
    }
    let mut text = serde_json::to_string_pretty(&tree).expect("names of fields are text");
    text.push('\n');
    text
}

fn client_to_value(name: &str, client: &super::Client) -> Value {
    let encoded = client.password.as_ref().map(|hash| hash.encode());
    // What 2.0 reads, which knows no other kind.
    let (mut iterations, mut salt, mut password) = (None, None, None);
    if let Some(hash) = &client.password
        && let Kind::Sha512Pbkdf2 { iterations: number } = hash.kind()
        && let Some(text) = &encoded
    {
        let mut parts = text.rsplit('$').map(Value::from);
        (password, salt) = (parts.next(), parts.next());
        iterations = Some(json!(number.get()));
    }
    object([
        ("username", Some(json!(name))),
        ("clientid", client.client_id.as_deref().map(Value::from)),
        ("textname", client.texts.name.as_deref().map(Value::from)),
        (
            "textdescription",
            client.texts.description.as_deref().map(Value::from),
        ),
        ("disabled", client.disabled.then_some(Value::Bool(true))),
        ("roles", Some(ranked("rolename", client.roles.iter()))),
        ("encoded_password", encoded.map(Value::from)),
        ("password", password),
        ("salt", salt),
        ("iterations", iterations),
    ])
}

#[cfg(test)]
mod tests;
