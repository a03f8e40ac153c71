//! Commands about roles.

use super::super::file::{self, field, text};
use super::super::{Rule, RuleType};
use super::{
    Answer, Control, change_texts, is_utf8_of_mqtt, new_texts, priority, role_name, unfit,
};
use crate::mqtt::topic;
use serde_json::{Value, json};

const INVALID_TOPIC: &str = "Invalid ACL topic";

impl Control<'_> {
    pub(super) fn create_role(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        if name.is_empty() {
            return Err("Empty rolename");
        }
        let texts = new_texts(command)?;
        let allows_wildcards = match field(command, "allowwildcardsubs") {
            None => true,
            Some(value) => value.as_bool().ok_or("Invalid allowwildcardsubs")?,
        };
        if self.security.roles().contains_key(name) {
            return Err("Role already exists");
        }
        let rules = rules(command)?;
        let role = self.security.add_role(name);
        let role = role.map_err(|_| "Role already exists")?;
        role.texts = texts;
        role.set_rules(rules.unwrap_or_default());
        role.allow_wildcards(allows_wildcards);
        self.log("createRole", format_args!(" | rolename={name}"));
        self.changed()
    }

    pub(super) fn delete_role(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        self.concerns_role(name);
        let removed = self.security.remove_role(name);
        removed.map_err(|it| unfit(it, ""))?;
        self.log("deleteRole", format_args!(" | rolename={name}"));
        self.changed()
    }

    pub(super) fn modify_role(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        let rules = match self.security.roles().contains_key(name) {
            true => rules(command)?,
            false => return Err("Role does not exist"),
        };
        let role = self.security.role_mut(name).ok_or("Role does not exist")?;
        change_texts(&mut role.texts, command);
        let allows = field(command, "allowwildcardsubs").and_then(Value::as_bool);
        let changes_wildcards = allows.is_some_and(|allows| allows != role.allows_wildcards());
        let changes_rights = changes_wildcards || rules.is_some();
        if let Some(allows) = allows {
            role.allow_wildcards(allows);
        }
        if let Some(rules) = rules {
            role.set_rules(rules);
        }
        if changes_rights {
            self.concerns_role(name);
        }
        self.log("modifyRole", format_args!(" | rolename={name}"));
        self.changed()
    }

    pub(super) fn get_role(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        let role = self.security.roles().get(name).ok_or("Role not found")?;
        self.log("getRole", format_args!(" | rolename={name}"));
        Ok(Some(json!({ "role": file::role(name, role) })))
    }

    pub(super) fn list_roles(&mut self, command: &Value) -> Answer {
        self.log("listRoles", format_args!(""));
        let roles = self.security.roles();
        let names: Vec<&str> = roles.keys().map(|it| &**it).collect();
        self.list(command, "roles", &names, |name| {
            file::role(name, &roles[name])
        })
    }

    pub(super) fn add_role_acl(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        let role = self.security.role_mut(name).ok_or("Role not found")?;
        let (of, topic) = rule_named(command)?;
        let rule = Rule {
            topic: topic.into(),
            priority: priority(command, 0),
            allow: field(command, "allow").and_then(Value::as_bool) == Some(true),
        };
        let (priority, allow) = (rule.priority, rule.allow);
        if !role.add_rule(of, rule) {
            return Err("ACL with this topic already exists");
        }
        self.concerns_role(name);
        let of = of.name();
        self.log(
            "addRoleACL",
            format_args!(
                " | rolename={name} | acltype={of} | topic={topic} | priority={priority} | allow={allow}"
            ),
        );
        self.changed()
    }

    pub(super) fn remove_role_acl(&mut self, command: &Value) -> Answer {
        let name = role_name(command)?;
        let role = self.security.role_mut(name).ok_or("Role not found")?;
        let (of, topic) = rule_named(command)?;
        if !role.remove_rule(of, topic) {
            return Err("ACL not found");
        }
        self.concerns_role(name);
        let of = of.name();
        self.log(
            "removeRoleACL",
            format_args!(" | rolename={name} | acltype={of} | topic={topic}"),
        );
        self.changed()
    }
}

/// The rule that a command names: its type and its topic.
fn rule_named(command: &Value) -> Result<(RuleType, &str), &'static str> {
    let of = text(command, "acltype").ok_or("Invalid/missing acltype")?;
    let of = RuleType::from_name(of).ok_or("Unknown acltype")?;
    let topic = text(command, "topic").ok_or("Invalid/missing topic")?;
    check_topic(topic)?;
    Ok((of, topic))
}

fn check_topic(topic: &str) -> Result<(), &'static str> {
    if !is_utf8_of_mqtt(topic) {
        return Err("Topic not valid UTF-8");
    }
    topic::check_filter(topic).map_err(|_| INVALID_TOPIC)
}

/// All rules that a command gives to a role; `None` where it has no such list.
fn rules(command: &Value) -> Result<Option<Vec<(RuleType, Rule)>>, &'static str> {
    let Some(acls) = field(command, "acls").and_then(Value::as_array) else {
        return Ok(None);
    };
    let (rules, _) = file::rules(acls);
    for (_, rule) in &rules {
        check_topic(&rule.topic)?;
    }
    Ok(Some(rules))
}
