//! What of a new configuration a running broker can take up, and what stays as it is until it is started again.
//!
//! It knows which settings are read at the start alone; the `reloadable` column of [`super::options::TABLE`] says the
//! same, and a test compares them. It does not know how a setting is taken up.
//! 1. A listener is taken as a whole: with the new settings, or, where one of them cannot be had, with all of the old
//!    ones. So whom new settings let in for a certificate's sake does not get in without.
//! 2. No reload makes local only mode of listeners, or listeners of local only mode: who may be anonymous differs.

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
        if self.persistence != new.persistence {
            changes.push("persistence".to_owned());
        }
        if self.local_only != new.local_only {
            changes.push(match new.local_only {
                true => "that no listener is left, which is local only mode,".to_owned(),
                false => "that there are listeners, which ends local only mode,".to_owned(),
            });
            return changes;
        }
        for open in &self.listeners {
            let differences = match new.at(open) {
                None => "gone".to_owned(),
                Some(wanted) => open.fixed_differences(wanted).join(", "),
            };
            if !differences.is_empty() {
                changes.push(format!("listener {} ({differences})", open.name()));
            }
        }
        for wanted in &new.listeners {
            if self.at(wanted).is_none() {
                changes.push(format!("listener {} (new)", wanted.name()));
            }
        }
        changes
    }

    /// This configuration as a broker can have it that runs under `running`: with its listeners, in their order, and
    /// without what needs a restart.
    pub fn for_running(mut self, running: &Config) -> Config {
        self.user.clone_from(&running.user);
        self.pid_file.clone_from(&running.pid_file);
        self.persistence.clone_from(&running.persistence);
        if self.local_only == running.local_only {
            let listeners = running.listeners.iter().map(|open| {
                let wanted = self.at(open);
                let wanted = wanted.filter(|wanted| open.fixed_differences(wanted).is_empty());
                wanted.unwrap_or(open).clone()
            });
            self.listeners = listeners.collect();
            return self;
        }
        Config {
            listeners: running.listeners.clone(),
            local_only: running.local_only,
            allow_anonymous: running.allow_anonymous,
            allow_zero_length_client_id: running.allow_zero_length_client_id,
            auto_id_prefix: running.auto_id_prefix.clone(),
            ..self
        }
    }

    fn at(&self, listener: &Listener) -> Option<&Listener> {
        self.listeners.iter().find(|other| other.is_at(listener))
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

    fn fixed_differences(&self, new: &Listener) -> Vec<&'static str> {
        let differences = [
            ("socket_domain", self.socket_domain != new.socket_domain),
            ("bind_interface", self.bind_interface != new.bind_interface),
            // Other files are taken up; that there is TLS at all is not.
            (
                "certfile and keyfile",
                self.tls.is_some() != new.tls.is_some(),
            ),
            (
                "enable_proxy_protocol",
                self.proxy_protocol != new.proxy_protocol,
            ),
        ];
        let differing = differences.iter().filter(|(_, differs)| *differs);
        differing.map(|(option, _)| *option).collect()
    }
}
