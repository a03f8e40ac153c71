//! Other settings and other rights, while everybody stays connected who may.
//!
//! 1. What was decided under the rules before is decided again: connections are ended whose client may not enter any more,
//!    subscriptions are taken away that it may not have, and everything that is read or written from now on is asked for
//!    anew (`principal`).
//! 2. Settings that a client was told at CONNECT hold for it until its next CONNECT; limits hold at once.

use super::Broker;
use super::client::{Client, ClientKey};
use super::ending::Ending;
use super::principal::Proof;
use super::session::SessionExpiry;
use super::subscriptions::SubscriptionKey;
use super::timers::Time;
use crate::auth::Auth;
use crate::buffer::ConnectionKey;
use crate::config::Config;
use crate::config::log_target::NOTICE;
use crate::mqtt::topic;

impl Broker {
    /// Puts `config` and `auth` in force. The listeners of `config` are those that are open, in the order that they have
    /// had from the start.
    pub fn reconfigure(&mut self, config: Config, auth: Auth, now: Time) {
        assert_eq!(
            config.listeners.len(),
            self.config.listeners.len(),
            "listeners are opened at the start only"
        );
        let former = std::mem::replace(&mut self.config, config);
        self.restricts = auth.has_rules();
        let mut auth = auth;
        auth.keep_securities_of(&self.authority.auth());
        self.authority.replace(auth);
        self.subscriptions.rights_changed();
        if former.sys_interval != self.config.sys_interval {
            self.start_sys(now);
        }
        let clients: Vec<ClientKey> = self.clients.iter().map(|(key, _)| key).collect();
        for key in clients {
            let Some(client) = self.clients.get(key) else {
                continue; // its session ended with another's
            };
            if client.is_connected() && !self.may_stay(client) {
                self.end_link(key, Ending::Administrative, now);
                continue;
            }
            self.drop_forbidden_subscriptions(key);
            if former.persistent_client_expiration != self.config.persistent_client_expiration {
                self.shorten_session(key, now);
            }
        }
    }

    /// The certificate of `connection` is not accepted any more.
    pub fn revoke(&mut self, connection: ConnectionKey, reason: &str, now: Time) {
        let Some(key) = self.clients.by_connection(connection) else {
            return;
        };
        let name = self.clients[key].name();
        log::info!(target: NOTICE, "The certificate of client {name} is no longer accepted: {reason}.");
        self.end_link(key, Ending::Administrative, now);
    }

    /// Whether the client would be let in again.
    fn may_stay(&self, client: &Client) -> bool {
        let Some(principal) = &client.session.principal else {
            return false;
        };
        let prefix = self.config.client_id_prefix.as_deref().unwrap_or("");
        if !principal.client_id.starts_with(prefix) {
            return false;
        }
        let listener = &self.config.listeners[principal.listener];
        let auth = self.authority.auth();
        let asks = auth.asks(principal.listener);
        match (&principal.proof, &principal.user_name, asks) {
            (Proof::Certificate, name, _) => {
                let (listener_index, client_id) = (principal.listener, &principal.client_id);
                let admits = |name: &str| auth.admits(listener_index, name, client_id);
                listener.takes_names_of_certificates() && name.as_deref().is_none_or(admits)
            }
            (Proof::Password(hash), Some(name), true) => {
                let known = auth.hash_of(principal.listener, name);
                hash.is_some()
                    && known == hash.as_ref()
                    && auth.admits(principal.listener, name, &principal.client_id)
            }
            // A name that nobody asked to prove is as good as none, as long as nobody asks now.
            (_, Some(_), true) => false,
            _ => listener.allow_anonymous,
        }
    }

    /// The session in `key` has other rights than a moment ago.
    pub(super) fn rights_of_session_changed(&mut self, key: ClientKey) {
        if !self.clients[key].session.subscriptions.is_empty() {
            self.subscriptions.rights_changed();
            self.drop_forbidden_subscriptions(key);
        }
    }

    pub(super) fn drop_forbidden_subscriptions(&mut self, key: ClientKey) {
        let session = &mut self.clients[key].session;
        let Some(principal) = session.principal.as_ref().filter(|_| self.restricts) else {
            return;
        };
        let forbidden: Vec<SubscriptionKey> = session
            .subscriptions
            .iter()
            .copied()
            .filter(|&place| {
                let filter = self.subscriptions.filter_of(place);
                // As in SUBSCRIBE, rules are about what stands behind a share name.
                let bare = topic::shared(&filter).map_or(filter.as_str(), |it| it.filter);
                !principal.may_subscribe(bare)
            })
            .collect();
        for place in forbidden {
            self.clients[key].session.subscriptions.remove(&place);
            self.end_subscription(key, place);
        }
    }

    /// `persistent_client_expiration` counts from now for sessions that are alone already.
    fn shorten_session(&mut self, key: ClientKey, now: Time) {
        let limit = self.config.persistent_client_expiration;
        let Client { session, link } = &mut self.clients[key];
        session.expiry = session.expiry.at_most(limit);
        if session.row.is_some() {
            self.output.journal.session_changed(key);
        }
        if let (None, SessionExpiry::After(duration)) = (link, session.expiry) {
            let ends = now + duration;
            session.ends = Some(session.ends.map_or(ends, |former| former.min(ends)));
            self.set_session_timer(key);
        }
    }
}
