//! Commands about clients.

use super::super::file::{ranked, text};
use super::super::{PRIORITY_UNSET, Security};
use super::{
    Answer, Control, change_texts, is_utf8_of_mqtt, named, new_texts, optional, priority,
    role_name, unfit, user_name,
};
use crate::auth::dynsec::file::object;
use serde_json::{Value, json};

const NOT_FOUND: &str = "Client not found";
const NO_GROUP: &str = "'groups' contains an object with a 'groupname' that does not exist";

impl Control<'_> {
    pub(super) fn create_client(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        if name.is_empty() {
            return Err("Empty username");
        }
        let password = optional(command, "password", "Invalid/missing password")?;
        let client_id = optional(command, "clientid", "Invalid/missing client id")?;
        if client_id.is_some_and(|it| !is_utf8_of_mqtt(it)) {
            return Err("Client ID not valid UTF-8");
        }
        let texts = new_texts(command)?;
        if self.security.clients().contains_key(name) {
            return Err("Client already exists");
        }
        let roles = self.roles(command)?;
        let invalid = "'groups' contains an object with an invalid 'groupname'";
        let groups = named(command, "groups", "groupname", invalid)?.unwrap_or_default();
        let is_known = |group| self.security.groups().contains_key(group);
        if !groups.iter().all(|&(group, _)| is_known(group)) {
            return Err("Group not found");
        }
        let hash = match password.filter(|password| !password.is_empty()) {
            Some(password) => Some(self.surroundings.hash(password).ok_or("Internal error")?),
            None => None,
        };
        let client = self.security.add_client(name);
        let client = client.map_err(|_| "Client already exists")?;
        client.password = hash;
        client.client_id = client_id.filter(|id| !id.is_empty()).map(str::to_owned);
        client.texts = texts;
        self.security
            .set_client_roles(name, roles.unwrap_or_default());
        join(self.security, name, &groups);
        let shown = if password.is_some() {
            "*****"
        } else {
            "no password"
        };
        self.log(
            "createClient",
            format_args!(" | username={name} | password={shown}"),
        );
        self.changed()
    }

    pub(super) fn delete_client(&mut self, command: &Value) -> Answer {
        let name = text(command, "username").ok_or("Invalid/missing username")?;
        self.security
            .remove_client(name)
            .map_err(|it| unfit(it, ""))?;
        self.concerns(name);
        self.log("deleteClient", format_args!(" | username={name}"));
        self.changed()
    }

    pub(super) fn disable_client(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        self.security.client_mut(name).ok_or(NOT_FOUND)?.disabled = true;
        self.concerns(name);
        self.log("disableClient", format_args!(" | username={name}"));
        self.changed()
    }

    pub(super) fn enable_client(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        self.security.client_mut(name).ok_or(NOT_FOUND)?.disabled = false;
        self.log("enableClient", format_args!(" | username={name}"));
        self.changed()
    }

    pub(super) fn set_client_id(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        let client_id = optional(command, "clientid", "Invalid/missing client ID")?;
        if client_id.is_some_and(|it| !is_utf8_of_mqtt(it)) {
            return Err("Client ID not valid UTF-8");
        }
        let client_id = client_id.filter(|id| !id.is_empty());
        let client = self.security.client_mut(name).ok_or(NOT_FOUND)?;
        client.client_id = client_id.map(str::to_owned);
        self.concerns(name);
        let shown = client_id.unwrap_or("(null)");
        self.log(
            "setClientId",
            format_args!(" | username={name} | clientid={shown}"),
        );
        self.changed()
    }

    pub(super) fn set_client_password(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        let password = text(command, "password").ok_or("Invalid/missing password")?;
        if password.is_empty() {
            return Err("Empty password is not allowed");
        }
        let client = self.security.client_mut(name).ok_or(NOT_FOUND)?;
        client.password = Some(self.surroundings.hash(password).ok_or("Internal error")?);
        self.concerns(name);
        self.log(
            "setClientPassword",
            format_args!(" | username={name} | password=******"),
        );
        self.changed()
    }

    pub(super) fn modify_client(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        if !self.security.clients().contains_key(name) {
            return Err(NOT_FOUND);
        }
        let roles = self.roles(command)?;
        let invalid = "'groups' contains an object with an invalid 'groupname'";
        let groups = named(command, "groups", "groupname", invalid)?;
        let is_known = |group| self.security.groups().contains_key(group);
        let mut named_groups = groups.iter().flatten();
        if !named_groups.all(|&(group, _)| is_known(group)) {
            return Err(NO_GROUP);
        }
        let password = text(command, "password").filter(|password| !password.is_empty());
        let hash = match password {
            Some(password) => Some(self.surroundings.hash(password).ok_or("Internal error")?),
            None => None,
        };
        let client = self.security.client_mut(name).ok_or(NOT_FOUND)?;
        if hash.is_some() {
            client.password = hash;
        }
        if let Some(client_id) = text(command, "clientid") {
            client.client_id = (!client_id.is_empty()).then(|| client_id.to_owned());
        }
        change_texts(&mut client.texts, command);
        if let Some(groups) = groups {
            let former: Vec<Box<str>> = client.groups().iter().map(|(it, _)| it.into()).collect();
            for group in former {
                let removed = self.security.remove_group_client(&group, name);
                removed.map_err(|it| unfit(it, ""))?;
            }
            join(self.security, name, &groups);
        }
        if let Some(roles) = roles {
            self.security.set_client_roles(name, roles);
        }
        self.concerns(name);
        self.log("modifyClient", format_args!(" | username={name}"));
        self.changed()
    }

    pub(super) fn get_client(&mut self, command: &Value) -> Answer {
        let name = user_name(command)?;
        if !self.security.clients().contains_key(name) {
            return Err(NOT_FOUND);
        }
        self.log("getClient", format_args!(" | username={name}"));
        Ok(Some(json!({ "client": self.client(name) })))
    }

    pub(super) fn list_clients(&mut self, command: &Value) -> Answer {
        self.log("listClients", format_args!(""));
        let names: Vec<&str> = self.security.clients().keys().map(|it| &**it).collect();
        self.list(command, "clients", &names, |name| self.client(name))
    }

    /// All there is to tell of a client that there is.
    fn client(&self, name: &str) -> Value {
        let client = &self.security.clients()[name];
        let addresses = self
            .surroundings
            .addresses(name, client.client_id.as_deref());
        let connections = addresses
            .into_iter()
            .map(|address| json!({"address": address}));
        object([
            ("username", Some(json!(name))),
            ("clientid", client.client_id.as_deref().map(Value::from)),
            ("textname", client.texts.name.as_deref().map(Value::from)),
            (
                "textdescription",
                client.texts.description.as_deref().map(Value::from),
            ),
            ("disabled", client.disabled.then_some(Value::Bool(true))),
            ("roles", Some(ranked("rolename", client.roles().iter()))),
            ("groups", Some(ranked("groupname", client.groups().iter()))),
            ("connections", Some(Value::Array(connections.collect()))),
        ])
    }

    pub(super) fn add_client_role(&mut self, command: &Value) -> Answer {
        let (name, role) = (user_name(command)?, role_name(command)?);
        let priority = priority(command, PRIORITY_UNSET);
        let added = self.security.add_client_role(name, role, priority);
        added.map_err(|it| unfit(it, "Client is already in this role"))?;
        self.concerns(name);
        self.log(
            "addClientRole",
            format_args!(" | username={name} | rolename={role} | priority={priority}"),
        );
        self.changed()
    }

    pub(super) fn remove_client_role(&mut self, command: &Value) -> Answer {
        let (name, role) = (user_name(command)?, role_name(command)?);
        let removed = self.security.remove_client_role(name, role);
        removed.map_err(|it| unfit(it, ""))?;
        self.concerns(name);
        self.log(
            "removeClientRole",
            format_args!(" | username={name} | rolename={role}"),
        );
        self.changed()
    }
}

/// Puts a client into groups, all of which there are; the first place in each counts.
fn join(security: &mut Security, user_name: &str, groups: &[(&str, i32)]) {
    for &(group, priority) in groups {
        // One that is named twice is there already.
        let _ = security.add_group_client(group, user_name, priority);
    }
}
