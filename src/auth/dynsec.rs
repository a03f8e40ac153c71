//! Dynamic security: clients, groups and roles that are changed while the broker runs, by commands on
//! `$CONTROL/dynamic-security/v1`.
//!
//! | file | knows |
//! |---|---|
//! | this one | who there is, and who belongs to what |
//! | `file` | `dynamic-security.json`, as Mosquitto 2.0 and 2.1 write it |
//! | `rules` | what the roles of a client allow |
//! | `control` | the commands, their answers, and whom a change concerns |
//! | `start` | what there is where no file exists yet |
//!
//! It knows no connection and no session: the broker asks it, and hears from it whose connections are to end.
//!
//! 1. Who is in a group stands with the group and with the client, with the same priority.
//! 2. A role or group that is named somewhere exists; the anonymous group, too.
//! 3. A [`Ranking`] is in the order in which its members are asked: higher priorities first, then by name, each once.
//! 4. The rules of a role are in the order in which they are asked, each topic once for each type.

pub mod control;
pub mod file;
pub mod rules;
pub mod start;

use super::password::PasswordHash;
use rules::Compiled;
use std::collections::BTreeMap;
use std::sync::Arc;

/// No priority is above this, and none below its opposite; Mosquitto clamps so, too.
pub const PRIORITY_MAX: i32 = 100_000;

/// The priority of what was given none. It is not written down.
pub const PRIORITY_UNSET: i32 = -1;

/// The topic that commands are published to.
pub const CONTROL_TOPIC: &str = "$CONTROL/dynamic-security/v1";

/// The topic that answers come on.
pub const RESPONSE_TOPIC: &str = "$CONTROL/dynamic-security/v1/response";

/// Everything that dynamic security knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    /// How many changes there were.
    pub change_index: i64,
    /// What no rule decides.
    pub defaults: Defaults,
    clients: BTreeMap<Box<str>, Client>,
    groups: BTreeMap<Box<str>, Group>,
    roles: BTreeMap<Box<str>, Role>,
    anonymous_group: Option<Box<str>>,
}

/// What is allowed where no rule says anything; `$CONTROL` never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// A client publishes.
    pub publish_client_send: bool,
    /// A client is sent a message.
    pub publish_client_receive: bool,
    /// A client subscribes.
    pub subscribe: bool,
    /// A client unsubscribes.
    pub unsubscribe: bool,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            publish_client_send: false,
            publish_client_receive: true,
            subscribe: false,
            unsubscribe: true,
        }
    }
}

/// Names for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// A short one.
    pub name: Option<String>,
    /// A long one.
    pub description: Option<String>,
}

/// Somebody who may connect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// What is known of the password; without one nobody may connect under this name.
    pub password: Option<Arc<PasswordHash>>,
    /// The only Client Identifier that may be used under this name.
    pub client_id: Option<String>,
    /// Names for people.
    pub texts: Texts,
    /// Whether nobody may connect under this name for now.
    pub disabled: bool,
    roles: Ranking,
    groups: Ranking,
}

/// Clients that have roles in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Names for people.
    pub texts: Texts,
    roles: Ranking,
    /// By user name, each with the priority of the group among the client's.
    clients: BTreeMap<Box<str>, i32>,
}

/// Rules that clients and groups have together.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Names for people.
    pub texts: Texts,
    allows_wildcards: bool,
    rules: [Vec<Rule>; RuleType::ALL.len()],
    compiled: Arc<Compiled>,
}

/// One rule of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A Topic Filter, with `%c` and `%u` for the client's names where the type is no literal one.
    pub topic: Box<str>,
    /// Higher ones are asked first.
    pub priority: i32,
    /// What it says.
    pub allow: bool,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleType {
    /// A client publishes.
    PublishClientSend,
    /// A client is sent a message.
    PublishClientReceive,
    /// A client subscribes to exactly this filter.
    SubscribeLiteral,
    /// A client subscribes to a filter that this one covers.
    SubscribePattern,
    /// A client unsubscribes from exactly this filter.
    UnsubscribeLiteral,
    /// A client unsubscribes from a filter that this one covers.
    UnsubscribePattern,
}

impl RuleType {
    /// All of them, in the order in which files have them.
    pub const ALL: [RuleType; 6] = [
        RuleType::PublishClientSend,
        RuleType::PublishClientReceive,
        RuleType::SubscribeLiteral,
        RuleType::SubscribePattern,
        RuleType::UnsubscribeLiteral,
        RuleType::UnsubscribePattern,
    ];

    /// As commands and files call it.
    pub fn name(self) -> &'static str {
        match self {
            RuleType::PublishClientSend => "publishClientSend",
            RuleType::PublishClientReceive => "publishClientReceive",
            RuleType::SubscribeLiteral => "subscribeLiteral",
            RuleType::SubscribePattern => "subscribePattern",
            RuleType::UnsubscribeLiteral => "unsubscribeLiteral",
            RuleType::UnsubscribePattern => "unsubscribePattern",
        }
    }

    /// The one of that name, in any case.
    pub fn from_name(name: &str) -> Option<RuleType> {
        RuleType::ALL
            .into_iter()
            .find(|it| it.name().eq_ignore_ascii_case(name))
    }
}

/// Names with priorities, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking(Vec<(i32, Box<str>)>);

impl Ranking {
    /// The names and their priorities, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0.iter().map(|(priority, name)| (&**name, *priority))
    }

    /// Adds a name; `false` where it is there already.
    pub fn add(&mut self, name: &str, priority: i32) -> bool {
        if self.0.iter().any(|(_, other)| &**other == name) {
            return false;
        }
        let place = self
            .0
            .partition_point(|(other, its)| (-other, &**its) < (-priority, name));
        self.0.insert(place, (priority, name.into()));
        true
    }

    /// Removes a name; `false` where it is not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let place = self.0.iter().position(|(_, other)| &**other == name);
        place.map(|place| self.0.remove(place)).is_some()
    }
}

/// `priority`, no higher and no lower than may be.
pub fn clamped(priority: i64) -> i32 {
    let max = i64::from(PRIORITY_MAX);
    priority.clamp(-max, max) as i32
}

impl Client {
    /// Its own roles.
    pub fn roles(&self) -> &Ranking {
        &self.roles
    }

    /// The groups that it is in.
    pub fn groups(&self) -> &Ranking {
        &self.groups
    }
}

impl Group {
    /// Its roles.
    pub fn roles(&self) -> &Ranking {
        &self.roles
    }

    /// Who is in it, with the priority that it has among each one's groups.
    pub fn clients(&self) -> impl Iterator<Item = (&str, i32)> {
        self.clients
            .iter()
            .map(|(name, priority)| (&**name, *priority))
    }
}

impl Default for Role {
    fn default() -> Role {
        Role {
            texts: Texts::default(),
            allows_wildcards: true,
            rules: Default::default(),
            compiled: Arc::default(),
        }
    }
}

impl Role {
    /// Its rules of one type, in the order in which they are asked.
    pub fn rules(&self, of: RuleType) -> &[Rule] {
        &self.rules[of as usize]
    }

    /// Whether who has it may subscribe to filters with wildcards.
    pub fn allows_wildcards(&self) -> bool {
        self.allows_wildcards
    }

    /// What its rules come to.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Adds a rule behind those of its priority; `false` where there is one with its topic.
    pub fn add_rule(&mut self, of: RuleType, rule: Rule) -> bool {
        let rules = &mut self.rules[of as usize];
        if rules.iter().any(|other| other.topic == rule.topic) {
            return false;
        }
        let place = rules.partition_point(|other| other.priority >= rule.priority);
        rules.insert(place, rule);
        self.compile();
        true
    }

    /// Removes the rule with this topic; `false` where there is none.
    pub fn remove_rule(&mut self, of: RuleType, topic: &str) -> bool {
        let rules = &mut self.rules[of as usize];
        let place = rules.iter().position(|rule| &*rule.topic == topic);
        let is_there = place.map(|place| rules.remove(place)).is_some();
        self.compile();
        is_there
    }

    /// Puts other rules in the place of all that it has: of each type and topic the first that comes.
    pub fn set_rules(&mut self, rules: impl IntoIterator<Item = (RuleType, Rule)>) {
        self.rules = Default::default();
        for (of, rule) in rules {
            let known = &mut self.rules[of as usize];
            if known.iter().all(|other| other.topic != rule.topic) {
                known.push(rule);
            }
        }
        for rules in &mut self.rules {
            rules.sort_by_key(|rule| -rule.priority);
        }
        self.compile();
    }

    /// Says whether who has it may subscribe with wildcards.
    pub fn allow_wildcards(&mut self, allows: bool) {
        self.allows_wildcards = allows;
        self.compile();
    }

    fn compile(&mut self) {
        self.compiled = Arc::new(Compiled::new(self));
    }
}

/// Something that a change needs is not there, or is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// No such client.
    NoClient,
    /// No such group.
    NoGroup,
    /// No such role.
    NoRole,
    /// What is to be added is there.
    Exists,
}

impl Security {
    /// The clients, by user name.
    pub fn clients(&self) -> &BTreeMap<Box<str>, Client> {
        &self.clients
    }

    /// The groups, by name.
    pub fn groups(&self) -> &BTreeMap<Box<str>, Group> {
        &self.groups
    }

    /// The roles, by name.
    pub fn roles(&self) -> &BTreeMap<Box<str>, Role> {
        &self.roles
    }

    /// The group of those who come without a name.
    pub fn anonymous_group(&self) -> Option<&str> {
        self.anonymous_group.as_deref()
    }

    /// A client, to change what does not name others.
    pub fn client_mut(&mut self, user_name: &str) -> Option<&mut Client> {
        self.clients.get_mut(user_name)
    }

    /// A group, to change what does not name others.
    pub fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// A role, to change it.
    pub fn role_mut(&mut self, name: &str) -> Option<&mut Role> {
        self.roles.get_mut(name)
    }

    /// Adds a client that has nothing yet.
    /// # Errors
    /// [`Unfit::Exists`].
    pub fn add_client(&mut self, user_name: &str) -> Result<&mut Client, Unfit> {
        add(&mut self.clients, user_name)
    }

    /// Adds a group that has nothing yet.
    /// # Errors
    /// [`Unfit::Exists`].
    pub fn add_group(&mut self, name: &str) -> Result<&mut Group, Unfit> {
        add(&mut self.groups, name)
    }

    /// Adds a role that says nothing yet.
    /// # Errors
    /// [`Unfit::Exists`].
    pub fn add_role(&mut self, name: &str) -> Result<&mut Role, Unfit> {
        add(&mut self.roles, name)
    }

    /// Removes a client, from its groups as well.
    /// # Errors
    /// [`Unfit::NoClient`].
    pub fn remove_client(&mut self, user_name: &str) -> Result<(), Unfit> {
        let client = self.clients.remove(user_name).ok_or(Unfit::NoClient)?;
        for (group, _) in client.groups.iter() {
            if let Some(group) = self.groups.get_mut(group) {
                group.clients.remove(user_name);
            }
        }
        Ok(())
    }

    /// Removes a group; who was in it stays.
    /// # Errors
    /// [`Unfit::NoGroup`].
    pub fn remove_group(&mut self, name: &str) -> Result<(), Unfit> {
        let group = self.groups.remove(name).ok_or(Unfit::NoGroup)?;
        for user_name in group.clients.keys() {
            if let Some(client) = self.clients.get_mut(user_name) {
                client.groups.remove(name);
            }
        }
        if self.anonymous_group.as_deref() == Some(name) {
            self.anonymous_group = None;
        }
        Ok(())
    }

    /// Removes a role, from all who have it.
    /// # Errors
    /// [`Unfit::NoRole`].
    pub fn remove_role(&mut self, name: &str) -> Result<(), Unfit> {
        self.roles.remove(name).ok_or(Unfit::NoRole)?;
        for client in self.clients.values_mut() {
            client.roles.remove(name);
        }
        for group in self.groups.values_mut() {
            group.roles.remove(name);
        }
        Ok(())
    }

    /// Gives a role to a client.
    /// # Errors
    /// There is no such client or role, or the client has it.
    pub fn add_client_role(
        &mut self,
        user_name: &str,
        role: &str,
        priority: i32,
    ) -> Result<(), Unfit> {
        let client = self.clients.get_mut(user_name).ok_or(Unfit::NoClient)?;
        self.roles.get(role).ok_or(Unfit::NoRole)?;
        added(client.roles.add(role, priority))
    }

    /// Takes a role from a client, if it has it.
    /// # Errors
    /// There is no such client or role.
    pub fn remove_client_role(&mut self, user_name: &str, role: &str) -> Result<(), Unfit> {
        let client = self.clients.get_mut(user_name).ok_or(Unfit::NoClient)?;
        self.roles.get(role).ok_or(Unfit::NoRole)?;
        client.roles.remove(role);
        Ok(())
    }

    /// Gives a role to a group.
    /// # Errors
    /// There is no such group or role, or the group has it.
    pub fn add_group_role(&mut self, group: &str, role: &str, priority: i32) -> Result<(), Unfit> {
        let group = self.groups.get_mut(group).ok_or(Unfit::NoGroup)?;
        self.roles.get(role).ok_or(Unfit::NoRole)?;
        added(group.roles.add(role, priority))
    }

    /// Takes a role from a group, if it has it.
    /// # Errors
    /// There is no such group or role.
    pub fn remove_group_role(&mut self, group: &str, role: &str) -> Result<(), Unfit> {
        let group = self.groups.get_mut(group).ok_or(Unfit::NoGroup)?;
        self.roles.get(role).ok_or(Unfit::NoRole)?;
        group.roles.remove(role);
        Ok(())
    }

    /// Gives other roles to a client, all of which exist.
    pub fn set_client_roles(&mut self, user_name: &str, roles: Ranking) {
        debug_assert!(roles.iter().all(|(role, _)| self.roles.contains_key(role)));
        if let Some(client) = self.clients.get_mut(user_name) {
            client.roles = roles;
        }
    }

    /// Gives other roles to a group, all of which exist.
    pub fn set_group_roles(&mut self, group: &str, roles: Ranking) {
        debug_assert!(roles.iter().all(|(role, _)| self.roles.contains_key(role)));
        if let Some(group) = self.groups.get_mut(group) {
            group.roles = roles;
        }
    }

    /// Puts a client into a group.
    /// # Errors
    /// There is no such client or group, or the client is in it.
    pub fn add_group_client(
        &mut self,
        group_name: &str,
        user_name: &str,
        priority: i32,
    ) -> Result<(), Unfit> {
        let client = self.clients.get_mut(user_name).ok_or(Unfit::NoClient)?;
        let group = self.groups.get_mut(group_name).ok_or(Unfit::NoGroup)?;
        added(client.groups.add(group_name, priority))?;
        group.clients.insert(user_name.into(), priority);
        Ok(())
    }

    /// Takes a client out of a group, if it is in it.
    /// # Errors
    /// There is no such client or group.
    pub fn remove_group_client(&mut self, group_name: &str, user_name: &str) -> Result<(), Unfit> {
        let client = self.clients.get_mut(user_name).ok_or(Unfit::NoClient)?;
        let group = self.groups.get_mut(group_name).ok_or(Unfit::NoGroup)?;
        client.groups.remove(group_name);
        group.clients.remove(user_name);
        Ok(())
    }

    /// Says whose group those without a name are in.
    /// # Errors
    /// [`Unfit::NoGroup`].
    pub fn set_anonymous_group(&mut self, name: &str) -> Result<(), Unfit> {
        self.groups.get(name).ok_or(Unfit::NoGroup)?;
        self.anonymous_group = Some(name.into());
        Ok(())
    }

    /// Panics where one of the module's invariants does not hold.
    pub fn check_invariants(&self) {
        let is_ordered = |ranking: &Ranking| {
            let keys = ranking.0.iter().map(|(priority, name)| (-priority, name));
            assert!(keys.is_sorted(), "{ranking:?}");
            let mut names: Vec<_> = ranking.0.iter().map(|(_, name)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ranking.0.len(), "each once: {ranking:?}");
        };
        let are_roles = |ranking: &Ranking| {
            is_ordered(ranking);
            assert!(
                ranking
                    .iter()
                    .all(|(role, _)| self.roles.contains_key(role))
            );
        };
        for (user_name, client) in &self.clients {
            are_roles(&client.roles);
            is_ordered(&client.groups);
            for (group, priority) in client.groups.iter() {
                assert_eq!(self.groups[group].clients.get(user_name), Some(&priority));
            }
        }
        for (name, group) in &self.groups {
            are_roles(&group.roles);
            for (user_name, priority) in group.clients() {
                let mut groups = self.clients[user_name].groups.iter();
                assert!(groups.any(|group| group == (name, priority)));
            }
        }
        for role in self.roles.values() {
            for rules in &role.rules {
                assert!(rules.is_sorted_by_key(|rule| -rule.priority), "{rules:?}");
            }
        }
        let anonymous = self.anonymous_group.as_ref();
        assert!(anonymous.is_none_or(|group| self.groups.contains_key(group)));
    }
}

fn add<'a, T: Default>(
    known: &'a mut BTreeMap<Box<str>, T>,
    name: &str,
) -> Result<&'a mut T, Unfit> {
    if known.contains_key(name) {
        return Err(Unfit::Exists);
    }
    Ok(known.entry(name.into()).or_default())
}

fn added(is_new: bool) -> Result<(), Unfit> {
    match is_new {
        true => Ok(()),
        false => Err(Unfit::Exists),
    }
}

#[cfg(test)]
mod tests;
