//! The commands of dynamic security: what they ask for, what they change, and what is answered.
//!
//! A request is `{"commands": [{"command": NAME, "correlationData": TEXT?, ..}]}`, an answer
//! `{"responses": [{"command": NAME, "data": {..}?, "error": TEXT?, "correlationData": TEXT?}]}`; names of commands and
//! fields may have any case. It knows neither who may ask nor how answers travel.
//!
//! 1. A command that is answered with an error has changed nothing.
//! 2. Commands are carried out in their order, each on what those before it left. What is no command at all ends the list.
//! 3. No bytes make it panic, and what it keeps of them is what a command stores.
//! 4. Passwords are hashed by [`Surroundings`], who can do so beforehand: see [`passwords`].
//!
//! The sentences are Mosquitto's. Where it only says `Internal error` though the request was at fault, they say
//! what that was; and the topics of `createRole` and `modifyRole` are checked as those of `addRoleACL` are.

mod clients;
mod groups;
mod roles;

use super::file::{field, object, priority, text};
use super::{PRIORITY_UNSET, Ranking, Security, Texts, Unfit};
use crate::auth::password::PasswordHash;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Who sent a request, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its Client Identifier.
    pub client_id: &'a str,
    /// Its user name.
    pub user_name: Option<&'a str>,
}

/// What a command needs that dynamic security does not know.
pub trait Surroundings {
    /// The hash of a password; `None` where the system has no memory or no random bytes for it.
    fn hash(&mut self, password: &str) -> Option<Arc<PasswordHash>>;

    /// The addresses of those who are connected under this name, and under this Client Identifier if there is one.
    fn addresses(&self, user_name: &str, client_id: Option<&str>) -> Vec<String>;
}

/// Whose connections are to end, so that they come again under what is known now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concerned {
    /// Those of a client.
    Client(Box<str>),
    /// Those of all who gave no name.
    Anonymous,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, JSON.
    pub response: String,
    /// Whether anything is to be saved.
    pub changed: bool,
    /// Whose connections are to end.
    pub concerned: BTreeSet<Concerned>,
}

impl Outcome {
    /// The answer where what was changed could not be saved, for this reason.
    pub fn unsaved(&self, reason: &str) -> String {
        let mut tree: Value = serde_json::from_str(&self.response).unwrap_or_default();
        let responses = tree.get_mut("responses").and_then(Value::as_array_mut);
        for response in responses.into_iter().flatten() {
            if let Value::Object(fields) = response
                && !fields.contains_key("error")
                && !fields.contains_key("data")
            {
                let error = format!("Done, but not saved: {reason}");
                fields.insert("error".to_owned(), json!(error));
            }
        }
        tree.to_string()
    }
}

/// What a command that went well has to tell.
type Answer = Result<Option<Value>, &'static str>;

/// The passwords that a request has, each once: to be hashed before it is carried out, since a hash takes long.
pub fn passwords(request: &[u8]) -> BTreeSet<String> {
    let Ok(request) = serde_json::from_slice::<Value>(request) else {
        return BTreeSet::new();
    };
    let commands = field(&request, "commands").and_then(Value::as_array);
    let hashing = ["createClient", "modifyClient", "setClientPassword"];
    commands
        .into_iter()
        .flatten()
        .filter(|command| {
            let name = text(command, "command").unwrap_or_default();
            hashing.iter().any(|it| it.eq_ignore_ascii_case(name))
        })
        .filter_map(|command| text(command, "password"))
        .filter(|password| !password.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Carries out a request.
pub fn execute(
    security: &mut Security,
    request: &[u8],
    caller: Caller<'_>,
    surroundings: &mut dyn Surroundings,
) -> Outcome {
    let mut control = Control {
        security,
        caller,
        surroundings,
        changed: false,
        concerned: BTreeSet::new(),
    };
    let responses = control.request(request);
    Outcome {
        response: json!({ "responses": responses }).to_string(),
        changed: control.changed,
        concerned: control.concerned,
    }
}

struct Control<'a> {
    security: &'a mut Security,
    caller: Caller<'a>,
    surroundings: &'a mut dyn Surroundings,
    changed: bool,
    concerned: BTreeSet<Concerned>,
}

fn response(
    name: &str,
    data: Option<Value>,
    error: Option<&str>,
    correlation: Option<&str>,
) -> Value {
    object([
        ("command", Some(json!(name))),
        ("data", data),
        ("error", error.map(Value::from)),
        ("correlationData", correlation.map(Value::from)),
    ])
}

/// A command: its name, and what it does.
type Command<'a> = (&'static str, fn(&mut Control<'a>, &Value) -> Answer);

impl<'a> Control<'a> {
    const COMMANDS: [Command<'a>; 32] = [
        ("setDefaultACLAccess", Control::set_default_access),
        ("getDefaultACLAccess", Control::get_default_access),
        ("getDetails", Control::get_details),
        ("createClient", Control::create_client),
        ("deleteClient", Control::delete_client),
        ("getClient", Control::get_client),
        ("listClients", Control::list_clients),
        ("modifyClient", Control::modify_client),
        ("setClientPassword", Control::set_client_password),
        ("setClientId", Control::set_client_id),
        ("addClientRole", Control::add_client_role),
        ("removeClientRole", Control::remove_client_role),
        ("enableClient", Control::enable_client),
        ("disableClient", Control::disable_client),
        ("addGroupClient", Control::add_group_client),
        ("createGroup", Control::create_group),
        ("deleteGroup", Control::delete_group),
        ("getGroup", Control::get_group),
        ("listGroups", Control::list_groups),
        ("modifyGroup", Control::modify_group),
        ("removeGroupClient", Control::remove_group_client),
        ("addGroupRole", Control::add_group_role),
        ("removeGroupRole", Control::remove_group_role),
        ("setAnonymousGroup", Control::set_anonymous_group),
        ("getAnonymousGroup", Control::get_anonymous_group),
        ("createRole", Control::create_role),
        ("getRole", Control::get_role),
        ("listRoles", Control::list_roles),
        ("modifyRole", Control::modify_role),
        ("deleteRole", Control::delete_role),
        ("addRoleACL", Control::add_role_acl),
        ("removeRoleACL", Control::remove_role_acl),
    ];
}

impl Control<'_> {
    fn request(&mut self, request: &[u8]) -> Vec<Value> {
        const NAMELESS: &str = "Unknown command";
        let ends_with = |error| response(NAMELESS, None, Some(error), None);
        let Ok(request) = serde_json::from_slice::<Value>(request) else {
            return vec![ends_with("Payload not valid JSON")];
        };
        let Some(commands) = field(&request, "commands").and_then(Value::as_array) else {
            return vec![ends_with("Invalid/missing commands")];
        };
        let mut responses = Vec::new();
        for command in commands {
            if !command.is_object() {
                responses.push(ends_with("Command not an object"));
                break;
            }
            let Some(name) = text(command, "command") else {
                responses.push(ends_with("Missing command"));
                break;
            };
            let correlation = match field(command, "correlationData") {
                None => None,
                Some(Value::String(data)) => Some(data.as_str()),
                Some(_) => {
                    let error = Some("Invalid correlationData data type.");
                    responses.push(response(name, None, error, None));
                    break;
                }
            };
            responses.push(self.command(name, command, correlation));
        }
        responses
    }

    fn command(&mut self, name: &str, command: &Value, correlation: Option<&str>) -> Value {
        let known = Self::COMMANDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        match known.map(|(known, run)| (known, run(self, command))) {
            None => response(name, None, Some("Unknown command"), correlation),
            Some((_, Err(error))) => response(name, None, Some(error), correlation),
            Some((_, Ok(None))) => response(name, None, None, correlation),
            Some((known, Ok(data))) => response(known, data, None, correlation),
        }
    }

    /// Something was changed.
    fn changed(&mut self) -> Answer {
        self.changed = true;
        self.security.change_index += 1;
        Ok(None)
    }

    /// The connections of a client are to end.
    fn concerns(&mut self, user_name: &str) {
        let client = Concerned::Client(user_name.into());
        self.concerned.insert(client);
    }

    /// The connections of all in a group are to end.
    fn concerns_group(&mut self, name: &str) {
        if self.security.anonymous_group() == Some(name) {
            self.concerned.insert(Concerned::Anonymous);
        }
        if let Some(group) = self.security.groups().get(name) {
            let clients = group.clients();
            self.concerned
                .extend(clients.map(|(client, _)| Concerned::Client(client.into())));
        }
    }

    /// The connections of all who have a role are to end.
    fn concerns_role(&mut self, name: &str) {
        let has_role = |roles: &Ranking| roles.iter().any(|(role, _)| role == name);
        let clients = self.security.clients().iter();
        let clients = clients.filter(|(_, client)| has_role(&client.roles));
        self.concerned
            .extend(clients.map(|(client, _)| Concerned::Client(client.clone())));
        let groups = self.security.groups().iter();
        let groups: Vec<Box<str>> = groups
            .filter(|(_, group)| has_role(&group.roles))
            .map(|(group, _)| group.clone())
            .collect();
        for group in groups {
            self.concerns_group(&group);
        }
    }

    /// The line of the log that tells of a command.
    fn log(&self, command: &str, details: fmt::Arguments<'_>) {
        let Caller {
            client_id,
            user_name,
        } = self.caller;
        let user_name = user_name.unwrap_or("(null)");
        log::info!("dynsec: {client_id}/{user_name} | {command}{details}");
    }

    fn set_default_access(&mut self, command: &Value) -> Answer {
        let acls = field(command, "acls").and_then(Value::as_array);
        let acls = acls.ok_or("Missing/invalid actions array")?;
        for acl in acls {
            let allow = field(acl, "allow").and_then(Value::as_bool);
            let (Some(acltype), Some(allow)) = (text(acl, "acltype"), allow) else {
                continue;
            };
            let defaults = &mut self.security.defaults;
            let known = [
                ("publishClientSend", &mut defaults.publish_client_send),
                ("publishClientReceive", &mut defaults.publish_client_receive),
                ("subscribe", &mut defaults.subscribe),
                ("unsubscribe", &mut defaults.unsubscribe),
            ];
            for (name, default) in known {
                if name.eq_ignore_ascii_case(acltype) {
                    *default = allow;
                }
            }
            self.log(
                "setDefaultACLAccess",
                format_args!(" | acltype={acltype} | allow={allow}"),
            );
        }
        self.changed()
    }

    fn get_default_access(&mut self, _: &Value) -> Answer {
        self.log("getDefaultACLAccess", format_args!(""));
        let defaults = self.security.defaults;
        let acls = [
            ("publishClientSend", defaults.publish_client_send),
            ("publishClientReceive", defaults.publish_client_receive),
            ("subscribe", defaults.subscribe),
            ("unsubscribe", defaults.unsubscribe),
        ];
        let acls = acls.map(|(acltype, allow)| json!({"acltype": acltype, "allow": allow}));
        Ok(Some(json!({ "acls": acls })))
    }

    fn get_details(&mut self, _: &Value) -> Answer {
        self.log("getDetails", format_args!(""));
        Ok(Some(json!({
            "clientCount": self.security.clients().len(),
            "groupCount": self.security.groups().len(),
            "roleCount": self.security.roles().len(),
            "changeIndex": self.security.change_index,
        })))
    }

    /// `command` asks for a list; `entries` are all there are, `list` is their name, and `verbose` tells of one.
    fn list(
        &self,
        command: &Value,
        list: &str,
        entries: &[&str],
        verbose: impl Fn(&str) -> Value,
    ) -> Answer {
        let is_verbose = field(command, "verbose").and_then(Value::as_bool) == Some(true);
        let number = |name| field(command, name).and_then(Value::as_i64);
        let offset = usize::try_from(number("offset").unwrap_or(0)).unwrap_or(0);
        // Less than nothing is everything; with nothing Mosquitto still tells of one.
        let count = match number("count") {
            None | Some(i64::MIN..0) => usize::MAX,
            Some(count) => usize::try_from(count.max(1)).unwrap_or(usize::MAX),
        };
        let shown = entries.iter().skip(offset).take(count);
        let shown: Vec<Value> = match is_verbose {
            true => shown.map(|name| verbose(name)).collect(),
            false => shown.map(|name| json!(name)).collect(),
        };
        Ok(Some(object([
            ("totalCount", Some(json!(entries.len()))),
            (list, Some(Value::Array(shown))),
        ])))
    }

    /// The roles that a command gives to somebody; `None` where it has no such list.
    fn roles(&self, command: &Value) -> Result<Option<Ranking>, &'static str> {
        const INVALID: &str = "'roles' not an array or missing/invalid rolename";
        let Some(roles) = field(command, "roles") else {
            return Ok(None);
        };
        let mut ranking = Ranking::default();
        for role in roles.as_array().ok_or(INVALID)? {
            let name = text(role, "rolename").ok_or(INVALID)?;
            if !self.security.roles().contains_key(name) {
                return Err("Role not found");
            }
            ranking.add(name, priority(role, PRIORITY_UNSET));
        }
        Ok(Some(ranking))
    }
}

/// The entries of the array `list`, each with its name, which stands in `name`, and its priority.
fn named<'a>(
    command: &'a Value,
    list: &str,
    name: &str,
    invalid: &'static str,
) -> Result<Option<Vec<(&'a str, i32)>>, &'static str> {
    let Some(entries) = field(command, list).and_then(Value::as_array) else {
        return Ok(None);
    };
    let entries = entries.iter().map(|entry| {
        let name = text(entry, name).ok_or(invalid)?;
        Ok((name, priority(entry, PRIORITY_UNSET)))
    });
    entries.collect::<Result<_, _>>().map(Some)
}

/// The text of a field that a command may leave out; `invalid` where it is something else.
fn optional<'a>(
    command: &'a Value,
    name: &str,
    invalid: &'static str,
) -> Result<Option<&'a str>, &'static str> {
    match field(command, name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(invalid),
    }
}

/// The names for people that a new entry is given.
fn new_texts(command: &Value) -> Result<Texts, &'static str> {
    let name = optional(command, "textname", "Invalid/missing textname")?;
    let invalid = "Invalid/missing textdescription";
    let description = optional(command, "textdescription", invalid)?;
    Ok(Texts {
        name: name.map(str::to_owned),
        description: description.map(str::to_owned),
    })
}

/// Gives other names for people, where the command has some.
fn change_texts(texts: &mut Texts, command: &Value) {
    if let Some(name) = text(command, "textname") {
        texts.name = Some(name.to_owned());
    }
    if let Some(description) = text(command, "textdescription") {
        texts.description = Some(description.to_owned());
    }
}

/// A name that a command must have.
fn required<'a>(
    command: &'a Value,
    name: &str,
    missing: &'static str,
    invalid: &'static str,
) -> Result<&'a str, &'static str> {
    let value = text(command, name).ok_or(missing)?;
    match is_utf8_of_mqtt(value) {
        true => Ok(value),
        false => Err(invalid),
    }
}

fn user_name(command: &Value) -> Result<&str, &'static str> {
    let missing = "Invalid/missing username";
    required(command, "username", missing, "Username not valid UTF-8")
}

fn group_name(command: &Value) -> Result<&str, &'static str> {
    let missing = "Invalid/missing groupname";
    required(command, "groupname", missing, "Group name not valid UTF-8")
}

fn role_name(command: &Value) -> Result<&str, &'static str> {
    let missing = "Invalid/missing rolename";
    required(command, "rolename", missing, "Role name not valid UTF-8")
}

/// Whether text has none of the characters that a UTF-8 Encoded String should not have (1.5.4).
fn is_utf8_of_mqtt(text: &str) -> bool {
    let is_no_character = |character: char| {
        let code = u32::from(character);
        (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
    };
    !text.contains(|character: char| character.is_control() || is_no_character(character))
}

/// How the lack of something is told.
fn unfit(unfit: Unfit, exists: &'static str) -> &'static str {
    match unfit {
        Unfit::NoClient => "Client not found",
        Unfit::NoGroup => "Group not found",
        Unfit::NoRole => "Role not found",
        Unfit::Exists => exists,
    }
}

#[cfg(test)]
mod tests;
