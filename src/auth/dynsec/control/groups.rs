//! Commands about groups.

use super::super::PRIORITY_UNSET;
use super::super::file::{object, ranked};
use super::{
    Answer, Concerned, Control, change_texts, group_name, named, new_texts, priority, role_name,
    unfit, user_name,
};
use serde_json::{Value, json};

const NOT_FOUND: &str = "Group not found";

impl Control<'_> {
    pub(super) fn create_group(&mut self, command: &Value) -> Answer {
        let name = group_name(command)?;
        if name.is_empty() {
            return Err("Empty groupname");
        }
        let texts = new_texts(command)?;
        if self.security.groups().contains_key(name) {
            return Err("Group already exists");
        }
        let roles = self.roles(command)?;
        let group = self.security.add_group(name);
        group.map_err(|_| "Group already exists")?.texts = texts;
        self.security
            .set_group_roles(name, roles.unwrap_or_default());
        self.log("createGroup", format_args!(" | groupname={name}"));
        self.changed()
    }

    pub(super) fn delete_group(&mut self, command: &Value) -> Answer {
        let name = group_name(command)?;
        if self.security.anonymous_group() == Some(name) {
            return Err("Deleting the anonymous group is forbidden");
        }
        self.concerns_group(name);
        let removed = self.security.remove_group(name);
        removed.map_err(|it| unfit(it, ""))?;
        self.log("deleteGroup", format_args!(" | groupname={name}"));
        self.changed()
    }

    pub(super) fn modify_group(&mut self, command: &Value) -> Answer {
        let name = group_name(command)?;
        if !self.security.groups().contains_key(name) {
            return Err(NOT_FOUND);
        }
        let roles = self.roles(command)?;
        let invalid = "'clients' contains an object with an invalid 'username'";
        let clients = named(command, "clients", "username", invalid)?;
        let is_known = |client| self.security.clients().contains_key(client);
        let mut named_clients = clients.iter().flatten();
        if !named_clients.all(|&(client, _)| is_known(client)) {
            return Err("'clients' contains an object with a 'username' that does not exist");
        }
        // Those who leave as well as those who come.
        self.concerns_group(name);
        if let Some(clients) = clients {
            let group = &self.security.groups()[name];
            let former: Vec<Box<str>> = group.clients().map(|(it, _)| it.into()).collect();
            for client in former {
                let removed = self.security.remove_group_client(name, &client);
                removed.map_err(|it| unfit(it, ""))?;
            }
            for (client, priority) in clients {
                // One that is named twice is there already.
                let _ = self.security.add_group_client(name, client, priority);
            }
        }
        let group = self.security.group_mut(name).ok_or(NOT_FOUND)?;
        change_texts(&mut group.texts, command);
        if let Some(roles) = roles {
            self.security.set_group_roles(name, roles);
        }
        self.concerns_group(name);
        self.log("modifyGroup", format_args!(" | groupname={name}"));
        self.changed()
    }

    pub(super) fn get_group(&mut self, command: &Value) -> Answer {
        let name = group_name(command)?;
        if !self.security.groups().contains_key(name) {
            return Err(NOT_FOUND);
        }
        self.log("getGroup", format_args!(" | groupname={name}"));
        Ok(Some(json!({ "group": self.group(name) })))
    }

    pub(super) fn list_groups(&mut self, command: &Value) -> Answer {
        self.log("listGroups", format_args!(""));
        let names: Vec<&str> = self.security.groups().keys().map(|it| &**it).collect();
        self.list(command, "groups", &names, |name| self.group(name))
    }

    /// All there is to tell of a group that there is.
    fn group(&self, name: &str) -> Value {
        let group = &self.security.groups()[name];
        let clients = group.clients().map(|(it, _)| json!({ "username": it }));
        object([
            ("groupname", Some(json!(name))),
            ("textname", group.texts.name.as_deref().map(Value::from)),
            (
                "textdescription",
                group.texts.description.as_deref().map(Value::from),
            ),
            ("clients", Some(Value::Array(clients.collect()))),
            ("roles", Some(ranked("rolename", group.roles().iter()))),
        ])
    }

    pub(super) fn add_group_client(&mut self, command: &Value) -> Answer {
        let (client, name) = (user_name(command)?, group_name(command)?);
        let priority = priority(command, PRIORITY_UNSET);
        let added = self.security.add_group_client(name, client, priority);
        added.map_err(|it| unfit(it, "Client is already in this group"))?;
        self.concerns(client);
        self.log(
            "addGroupClient",
            format_args!(" | groupname={name} | username={client} | priority={priority}"),
        );
        self.changed()
    }

    pub(super) fn remove_group_client(&mut self, command: &Value) -> Answer {
        let (client, name) = (user_name(command)?, group_name(command)?);
        let removed = self.security.remove_group_client(name, client);
        removed.map_err(|it| unfit(it, ""))?;
        self.concerns(client);
        self.log(
            "removeGroupClient",
            format_args!(" | groupname={name} | username={client}"),
        );
        self.changed()
    }

    pub(super) fn add_group_role(&mut self, command: &Value) -> Answer {
        let (name, role) = (group_name(command)?, role_name(command)?);
        let priority = priority(command, PRIORITY_UNSET);
        let added = self.security.add_group_role(name, role, priority);
        added.map_err(|it| unfit(it, "Group is already in this role"))?;
        self.concerns_group(name);
        self.log(
            "addGroupRole",
            format_args!(" | groupname={name} | rolename={role} | priority={priority}"),
        );
        self.changed()
    }

    pub(super) fn remove_group_role(&mut self, command: &Value) -> Answer {
        let (name, role) = (group_name(command)?, role_name(command)?);
        let removed = self.security.remove_group_role(name, role);
        removed.map_err(|it| unfit(it, ""))?;
        self.concerns_group(name);
        self.log(
            "removeGroupRole",
            format_args!(" | groupname={name} | rolename={role}"),
        );
        self.changed()
    }

    pub(super) fn set_anonymous_group(&mut self, command: &Value) -> Answer {
        let name = group_name(command)?;
        let set = self.security.set_anonymous_group(name);
        set.map_err(|it| unfit(it, ""))?;
        self.concerned.insert(Concerned::Anonymous);
        self.log("setAnonymousGroup", format_args!(" | groupname={name}"));
        self.changed()
    }

    pub(super) fn get_anonymous_group(&mut self, _: &Value) -> Answer {
        self.log("getAnonymousGroup", format_args!(""));
        let name = self.security.anonymous_group().unwrap_or_default();
        Ok(Some(json!({ "group": { "groupname": name } })))
    }
}
