//! Who stands behind a session, and what they may do now.
//!
//! A [`Principal`] goes with a session from one CONNECT to the next, and with every retained message that was published
//! under it, so that a right which was taken away is gone for all that was said before, too.
//!
//! 1. Rights are never older than the rules in force: a reload raises the epoch, and whoever asks a principal whose rights
//!    are of an earlier one has them made anew first.
//! 2. Who has no principal may do nothing.
//! 3. Who was put back by a restart, and came through a listener that cannot be told from others or is no more, may
//!    write nothing where listeners have rules of their own, until they come again.

use crate::auth::password::PasswordHash;
use crate::auth::{Auth, Rights};
use crate::mqtt::topic;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// The rules in force, shared by all who are subject to them.
#[derive(Debug, Default)]
pub struct Authority {
    auth: RefCell<Auth>,
    epoch: Cell<u64>,
}

impl Authority {
    /// What `auth` says is in force.
    pub fn new(auth: Auth) -> Rc<Authority> {
        Rc::new(Authority {
            auth: RefCell::new(auth),
            epoch: Cell::new(0),
        })
    }

    /// Puts other rules in force.
    pub fn replace(&self, auth: Auth) {
        *self.auth.borrow_mut() = auth;
        self.epoch.set(self.epoch.get() + 1);
    }

    /// Puts a change in force that `change` makes.
    pub fn change<T>(&self, change: impl FnOnce(&mut Auth) -> T) -> T {
        self.epoch.set(self.epoch.get() + 1);
        change(&mut self.auth.borrow_mut())
    }

    /// What the files say.
    pub fn auth(&self) -> Ref<'_, Auth> {
        self.auth.borrow()
    }

    /// Whether there are any rules about topics.
    pub fn restricts(&self) -> bool {
        self.auth.borrow().has_rules()
    }
}

/// How it is known that somebody is who they say.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It is not: there was no name, or nothing to check it with.
    None,
    /// By the password that this is the hash of; `None` where it was proven to an earlier process, and the password file
    /// does not know the name any more.
    Password(Option<Arc<PasswordHash>>),
    /// By a certificate.
    Certificate,
}

impl Proof {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        !matches!(self, Proof::None)
    }
}

/// What becomes of a session when somebody comes under its Client Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is theirs.
    Resumed,
    /// Its owner is gone for good: it ends, and they begin a new one.
    Discarded,
    /// It is its owner's.
    Refused,
}

/// Who a CONNECT came from.
#[derive(Debug)]
pub struct Principal {
    authority: Rc<Authority>,
    /// The Client Identifier.
    pub client_id: Rc<str>,
    /// The User Name, of CONNECT or of the certificate.
    pub user_name: Option<Box<str>>,
    /// How the name was proven.
    pub proof: Proof,
    /// The index of the listener they came through.
    pub listener: usize,
    /// The port of that listener, where a restart left open which one it is.
    port: Option<u16>,
    /// Of which epoch `rights` is.
    epoch: Cell<u64>,
    /// `None` where no rules restrict them.
    rights: RefCell<Option<Box<Rights>>>,
}

impl Principal {
    /// Who has just proven to be `user_name`, or nobody in particular.
    pub fn new(
        authority: &Rc<Authority>,
        client_id: &Rc<str>,
        user_name: Option<Box<str>>,
        proof: Proof,
        listener: usize,
    ) -> Principal {
        let principal = Principal {
            authority: Rc::clone(authority),
            client_id: Rc::clone(client_id),
            user_name,
            proof,
            listener,
            port: None,
            epoch: Cell::new(0),
            rights: RefCell::new(None),
        };
        principal.renew();
        principal
    }

    /// The same, of whom it is only known that they came through a listener on `port`.
    pub fn of_port(self, port: u16) -> Principal {
        let port = Some(port);
        Principal { port, ..self }
    }

    /// The port of their listener, where that is all that is known of it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether other rules may be theirs than those that they are held to: nobody knows which.
    fn has_unknown_rules(&self) -> bool {
        self.port.is_some() && !self.authority.auth().has_same_rules_everywhere()
    }

    /// Makes the rights anew from the rules in force.
    fn renew(&self) {
        let auth = self.authority.auth();
        let rights = auth.rights(self.listener, self.user_name.as_deref(), &self.client_id);
        *self.rights.borrow_mut() = rights.map(Box::new);
        self.epoch.set(self.authority.epoch.get());
    }

    fn may(&self, ask: impl FnOnce(&Rights) -> bool) -> bool {
        if self.epoch.get() != self.authority.epoch.get() {
            self.renew();
        }
        self.rights
            .borrow()
            .as_ref()
            .is_none_or(|rights| ask(rights))
    }

    /// Whether messages with this Topic Name may go to them. Where their rules are not known messages wait for them, and
    /// are asked for again when they come.
    pub fn may_read(&self, topic: &str) -> bool {
        self.has_unknown_rules() || self.may(|rights| rights.may_read(topic))
    }

    /// Whether they may publish to this Topic Name. What the server says of itself is not for clients to say; bridges tell
    /// of their state below `$SYS/broker/connection/`, as in Mosquitto. Where their rules are not known they may not.
    pub fn may_write(&self, topic: &str) -> bool {
        if topic.starts_with('$') {
            let is_the_servers = topic.starts_with("$SYS") || topic.starts_with("$CONTROL/");
            if is_the_servers && !topic::matches("$SYS/broker/connection/+/state", topic) {
                return false;
            }
        }
        !self.has_unknown_rules() && self.may(|rights| rights.may_write(topic))
    }

    /// Whether they may subscribe to this Topic Filter, which has no share name any more.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.has_unknown_rules() || self.may(|rights| rights.may_subscribe(filter))
    }

    /// Whether they may unsubscribe from this Topic Filter, which has no share name any more.
    pub fn may_unsubscribe(&self, filter: &str) -> bool {
        self.has_unknown_rules() || self.may(|rights| rights.may_unsubscribe(filter))
    }

    /// Whether they may send commands to this Topic Name below `$CONTROL/`.
    pub fn may_control(&self, topic: &str) -> bool {
        if self.epoch.get() != self.authority.epoch.get() {
            self.renew();
        }
        let rights = self.rights.borrow();
        let may = rights
            .as_ref()
            .is_some_and(|rights| rights.may_control(topic));
        !self.has_unknown_rules() && may
    }

    /// What becomes of their session, which outlives its connection, when `other` comes under the same Client Identifier. A name that was proven belongs to
    /// whoever proves it again, for as long as it could be.
    pub fn session_for(&self, other: &Principal) -> Claim {
        if !self.proof.is_some() || self.is_proven_again_by(other) {
            Claim::Resumed
        } else if self.is_known() {
            Claim::Refused
        } else {
            Claim::Discarded
        }
    }

    /// Whether `other` has proven to be the same user. A name is one user's within one password file; certificates are the
    /// operator's word for a name, wherever they are shown.
    fn is_proven_again_by(&self, other: &Principal) -> bool {
        if !other.proof.is_some() || self.user_name != other.user_name {
            return false;
        }
        match (&self.proof, &other.proof) {
            (Proof::Password(_), Proof::Password(_)) => {
                let auth = self.authority.auth();
                auth.asks(self.listener) && auth.has_same_users(self.listener, other.listener)
            }
            _ => true,
        }
    }

    /// Whether the name could still be proven: its line is in the password file, or certificates prove it.
    fn is_known(&self) -> bool {
        match (&self.proof, &self.user_name) {
            (Proof::Password(_), Some(name)) => {
                let auth = self.authority.auth();
                auth.hash_of(self.listener, name).is_some()
            }
            _ => true,
        }
    }
}
