//! What of a new configuration a running broker cannot take up.
//!
//! It knows which settings are read at the start alone; the `reloadable` column of [`super::options::TABLE`] says the
//! same, and a test compares them. It does not know how a setting is taken up.

use super::listener::listener_name;
use super::{Config, Listener};

impl Config {
    /// What differs in `new` and has no effect until the broker is started again, a phrase each.
    pub fn changes_that_need_a_restart(&self, new: &Config) -> Vec<String> {
        let mut changes = Vec::new();
        if self.user != new.user {
            changes.push("user".to_owned());
        }
        if self.pid_file != new.pid_file {
            changes.push("pid_file".to_owned());
        }
        if self.local_only != new.local_only {
            changes.push(match new.local_only {
                true => "no listener is left, which would be local only mode".to_owned(),
                false => "listeners instead of local only mode".to_owned(),
            });
            return changes;
        }
        for listener in &self.listeners {
            match new.listeners.iter().find(|other| listener.is_at(other)) {
                None => changes.push(format!("listener {} (gone)", listener.name())),
                Some(other) => changes.extend(
                    listener
                        .fixed_differences(other)
                        .map(|option| format!("{option} of listener {}", listener.name())),
                ),
            }
        }
        for listener in &new.listeners {
            if !self.listeners.iter().any(|other| listener.is_at(other)) {
                changes.push(format!("listener {} (new)", listener.name()));
            }
        }
        changes
    }
}

impl Listener {
    /// Whether both listen at the same place: the listener of another configuration that goes on as this one.
    pub fn is_at(&self, other: &Listener) -> bool {
        (self.port, &self.unix_path, &self.host) == (other.port, &other.unix_path, &other.host)
    }

    /// Where it listens, as in its `listener` line: port, and address or path.
    pub fn name(&self) -> String {
        listener_name(self.port, self.unix_path.as_ref(), self.host.as_deref())
    }

    fn fixed_differences(&self, new: &Listener) -> impl Iterator<Item = &'static str> {
        [
            ("socket_domain", self.socket_domain != new.socket_domain),
            ("bind_interface", self.bind_interface != new.bind_interface),
            // Other files are taken up; that there is TLS at all is not.
            (
                "certfile and keyfile",
                self.tls.is_some() != new.tls.is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(option, differs)| differs.then_some(option))
    }
}
