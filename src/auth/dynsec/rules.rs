//! What the roles of a client allow.
//!
//! A client's own roles are asked first, then those of its groups, each in the order of their ranking; in a role the rules are
//! asked in theirs. The first rule that matches decides. Where none does the defaults do, which never allow `$CONTROL`.
//!
//! 1. Who has a name that is not known may do nothing.
//! 2. A rule whose topic is no valid filter, which only a file can bring, denies all that comes to it: as in Mosquitto.
//! 3. `%c` and `%u` stand for nothing that has a wildcard, or is empty: such a rule does not match then (CVE-2017-7650).
//! 4. What is asked of a role costs as much as its rules have levels, not as it has rules.

use super::{Defaults, Role, RuleType, Security};
use crate::auth::trie::{Names, Says, Trie, is_template};
use crate::mqtt::topic;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The place of a rule among those of its type in its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u32);

impl Says for Rank {
    const NOTHING: Rank = Rank(u32::MAX);

    fn with(self, other: Rank) -> Rank {
        self.min(other)
    }

    fn is_enough(self, wanted: Rank) -> bool {
        self <= wanted
    }
}

/// The rules of a role, made to be asked.
pub struct Compiled {
    trie: Trie<Rank>,
    /// Those with patterns, by [`RuleType`]; literal ones have none.
    patterns: [Patterns; RuleType::ALL.len()],
    subscribe_literal: HashMap<Box<str>, bool>,
    unsubscribe_literal: HashMap<Box<str>, bool>,
    allows_wildcards: bool,
}

/// The rules of one type.
#[derive(Debug)]
struct Patterns {
    root: u32,
    /// What each says, in their order.
    allow: Vec<bool>,
    /// The first whose topic is no filter.
    invalid: Rank,
}

impl Compiled {
    /// What the rules of `role` come to.
    pub(super) fn new(role: &Role) -> Compiled {
        let mut trie = Trie::new();
        let patterns = RuleType::ALL.map(|of| {
            let root = trie.add_root();
            let rules = role.rules(of);
            let mut invalid = Rank::NOTHING;
            for (rule, rank) in rules.iter().zip(0..) {
                let rank = Rank(rank);
                if topic::check_filter(&rule.topic).is_err() {
                    invalid = invalid.with(rank);
                } else if is_template(rule.topic.as_bytes()) {
                    trie.add_template(root, &rule.topic, rank);
                } else {
                    trie.add_literal(root, &rule.topic, rank);
                }
            }
            let allow = rules.iter().map(|rule| rule.allow).collect();
            Patterns {
                root,
                allow,
                invalid,
            }
        });
        let literal = |of| {
            let rules = role.rules(of).iter();
            rules
                .map(|rule| (rule.topic.clone(), rule.allow))
                .collect::<HashMap<_, _>>()
        };
        Compiled {
            subscribe_literal: literal(RuleType::SubscribeLiteral),
            unsubscribe_literal: literal(RuleType::UnsubscribeLiteral),
            allows_wildcards: role.allows_wildcards,
            trie,
            patterns,
        }
    }

    /// What the first rule of a type with patterns says that matches the topic, or covers the filter.
    fn says(&self, of: RuleType, text: &str, names: Names<'_>) -> Option<bool> {
        let patterns = &self.patterns[of as usize];
        if patterns.allow.is_empty() {
            return None;
        }
        let found = self.trie.find(patterns.root, text, names, Rank(0));
        match found {
            _ if patterns.invalid < found => Some(false),
            Rank(rank) => patterns.allow.get(rank as usize).copied(),
        }
    }
}

impl Default for Compiled {
    fn default() -> Compiled {
        Compiled {
            trie: Trie::new(),
            patterns: RuleType::ALL.map(|_| Patterns {
                root: 0,
                allow: Vec::new(),
                invalid: Rank::NOTHING,
            }),
            subscribe_literal: HashMap::new(),
            unsubscribe_literal: HashMap::new(),
            allows_wildcards: true,
        }
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.patterns.iter().map(|patterns| patterns.allow.len());
        f.debug_struct("Compiled")
            .field("rules", &rules.sum::<usize>())
            .finish_non_exhaustive()
    }
}

/// What follows from a role follows from its rules, which are compared where it stands.
impl PartialEq for Compiled {
    fn eq(&self, _: &Compiled) -> bool {
        true
    }
}

/// What one client may do. To be made anew after each change.
#[derive(Clone, Debug)]
pub struct Rights {
    /// `None` for a name that is not known.
    roles: Option<Box<[Arc<Compiled>]>>,
    defaults: Defaults,
    user_name: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

impl Security {
    /// What who connects under this name may do; without a name they are in the anonymous group, if there is one.
    pub fn rights(&self, user_name: Option<&str>, client_id: &str) -> Rights {
        let compiled = |roles: &super::Ranking| -> Vec<Arc<Compiled>> {
            let roles = roles.iter();
            roles
                .map(|(role, _)| Arc::clone(self.roles[role].compiled()))
                .collect()
        };
        let roles = match user_name {
            Some(name) => self.clients.get(name).map(|client| {
                let mut roles = compiled(&client.roles);
                for (group, _) in client.groups.iter() {
                    roles.extend(compiled(&self.groups[group].roles));
                }
                roles
            }),
            None => {
                let group = self.anonymous_group.as_deref();
                Some(group.map_or_else(Vec::new, |group| compiled(&self.groups[group].roles)))
            }
        };
        let named = |name: &str| {
            let stands_for_something = !name.is_empty() && !name.contains(['+', '#']);
            stands_for_something.then(|| name.into())
        };
        Rights {
            roles: roles.map(Vec::into_boxed_slice),
            defaults: self.defaults,
            user_name: user_name.and_then(named),
            client_id: named(client_id),
        }
    }
}

impl Rights {
    /// Whether messages on `topic` may be sent to the client.
    pub fn may_read(&self, topic: &str) -> bool {
        let default = self.defaults.publish_client_receive;
        self.allows(topic, default, |role, names| {
            role.says(RuleType::PublishClientReceive, topic, names)
        })
    }

    /// Whether the client may publish to `topic`, by PUBLISH or by its will.
    pub fn may_write(&self, topic: &str) -> bool {
        let default = self.defaults.publish_client_send;
        self.allows(topic, default, |role, names| {
            role.says(RuleType::PublishClientSend, topic, names)
        })
    }

    /// Whether the client may subscribe to the valid `filter`, given without share name.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let has_wildcards = filter.contains(['+', '#']);
        self.allows(filter, self.defaults.subscribe, |role, names| {
            if has_wildcards && !role.allows_wildcards {
                return Some(false);
            }
            let literal = role.subscribe_literal.get(filter).copied();
            literal.or_else(|| role.says(RuleType::SubscribePattern, as_asked(filter), names))
        })
    }

    /// Whether the client may unsubscribe from the valid `filter`, given without share name.
    pub fn may_unsubscribe(&self, filter: &str) -> bool {
        self.allows(filter, self.defaults.unsubscribe, |role, names| {
            let literal = role.unsubscribe_literal.get(filter).copied();
            literal.or_else(|| role.says(RuleType::UnsubscribePattern, as_asked(filter), names))
        })
    }

    fn allows(
        &self,
        text: &str,
        default: bool,
        ask: impl Fn(&Compiled, Names<'_>) -> Option<bool>,
    ) -> bool {
        let Some(roles) = &self.roles else {
            return false;
        };
        let names = Names {
            user_name: self.user_name.as_deref(),
            client_id: self.client_id.as_deref(),
        };
        let said = roles.iter().find_map(|role| ask(role, names));
        said.unwrap_or(default && !text.starts_with("$CONTROL"))
    }
}

/// Besides what starts with a slash, `/#` matches the topic above it, which is empty and so none.
fn as_asked(filter: &str) -> &str {
    if filter == "/#" { "/+/#" } else { filter }
}

#[cfg(test)]
mod tests;
