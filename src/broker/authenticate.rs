//! Who a CONNECT comes from: certificate, user name and password, or nobody in particular.
//!
//! Hashing a password takes tens of milliseconds, so it is done elsewhere: the CONNECT stays unread where it is, its
//! connection waits, and when the answer is there ([`Broker::password_compared`]) the same CONNECT is handled again.
//! 1. Whoever waits has changed nothing, and is not read from.
//! 2. An answer counts for the hash that it was found with: if the password file changes meanwhile, it is asked again.
//! 3. A user name that does not exist takes as long to refuse as one that does.
//! 4. A password is held no longer than it takes to compare it, and never logged.

use super::Broker;
use super::client::{Client, ClientKey, Identity, Password};
use super::principal::Proof;
use super::timers::Time;
use crate::auth::password::Challenge;
#[cfg(test)]
use crate::auth::password::PasswordFile;
use crate::buffer::{ConnectionKey, PeerAddress};
use crate::config::log_target::NOTICE;
use crate::mqtt::{Connect, ReasonCode};

/// A password that is to be compared with a hash, on any thread.
pub struct PasswordCheck {
    /// Whose it is.
    pub connection: ConnectionKey,
    user_name: Box<str>,
    challenge: Challenge,
    password: Box<[u8]>,
}

impl PasswordCheck {
    #[cfg(test)]
    pub(super) fn for_test(connection: ConnectionKey) -> PasswordCheck {
        let nobody = PasswordFile::parse("none".as_ref(), b"").expect("an empty file is good");
        PasswordCheck {
            connection,
            user_name: "nobody".into(),
            challenge: nobody.challenge("nobody"),
            password: Box::default(),
        }
    }

    /// Compares; takes tens of milliseconds.
    pub fn is_right(&self) -> bool {
        self.challenge.verify(&self.password)
    }
}

impl Drop for PasswordCheck {
    fn drop(&mut self) {
        self.password.fill(0);
    }
}

/// Who somebody is.
#[derive(Debug)]
pub(super) struct Authenticated {
    /// The User Name.
    pub(super) user_name: Option<Box<str>>,
    /// How it was proven.
    pub(super) proof: Proof,
}

impl Authenticated {
    fn new(user_name: Option<&str>, proof: Proof) -> Authenticated {
        Authenticated {
            user_name: user_name.map(Into::into),
            proof,
        }
    }
}

impl Broker {
    /// The layers below MQTT have learnt who `connection` is, before its first packet.
    pub fn identify(
        &mut self,
        connection: ConnectionKey,
        address: PeerAddress,
        identity: Identity,
    ) {
        let Some(key) = self.clients.by_connection(connection) else {
            return;
        };
        let is_behind_proxy = self.listener_of(key).proxy_protocol.is_some();
        if let Some(link) = &mut self.clients[key].link {
            link.peer.address = address;
            link.identity = (identity != Identity::default()).then(|| Box::new(identity));
        }
        if is_behind_proxy {
            self.log_attached(key);
        }
    }

    pub(super) fn log_attached(&self, key: ClientKey) {
        if let (true, Some(link)) = (self.config.connection_messages, &self.clients[key].link) {
            let (peer, port) = (&link.peer, self.listener_of(key).port);
            log::info!(target: NOTICE, "New connection from {peer} on port {port}.");
        }
    }

    /// The next password that is to be compared.
    pub fn take_password_check(&mut self) -> Option<PasswordCheck> {
        self.waiting.pop()
    }

    /// Whether the password of `check` was found to be right since it was asked for.
    pub fn is_known(&self, check: &PasswordCheck) -> bool {
        check
            .challenge
            .hash()
            .is_some_and(|hash| self.verified.knows(&check.user_name, hash, &check.password))
    }

    /// Whether the CONNECT of `connection` waits for its password to be compared: it is to stay unread until
    /// [`Broker::password_compared`], and then to be handled again.
    pub fn is_waiting(&self, connection: ConnectionKey) -> bool {
        self.clients.by_connection(connection).is_some_and(|key| {
            let link = self.clients[key].link.as_ref();
            link.is_some_and(|link| matches!(link.password, Password::Waits))
        })
    }

    /// What came of a [`PasswordCheck`].
    pub fn password_compared(&mut self, check: &PasswordCheck, is_right: bool, now: Time) {
        let hash = check.challenge.hash();
        if let (true, Some(hash)) = (is_right, hash) {
            self.verified
                .remember(&check.user_name, hash, &check.password);
        }
        let Some(key) = self.clients.by_connection(check.connection) else {
            return;
        };
        if let Some(link) = &mut self.clients[key].link {
            link.last_packet = now;
            link.password = Password::Compared {
                hash: hash.cloned(),
                is_right,
            };
        }
    }

    /// Who `connect` comes from; `None` means that it waits.
    /// # Errors
    /// What a client is told that may not enter.
    pub(super) fn authenticate(
        &mut self,
        key: ClientKey,
        connect: &Connect<'_>,
    ) -> Result<Option<Authenticated>, ReasonCode> {
        let listener = self.listener_of(key);
        let certified = listener.takes_names_of_certificates();
        let link = self.clients[key].link.as_ref();
        let link = link.expect("CONNECT came on a link");
        if certified {
            // The name that the certificate stands for is the only one that counts.
            let identity = link.identity.as_ref();
            let name = identity.and_then(|identity| identity.user_name.as_deref());
            let Some(name) = name else {
                log::info!(
                    target: NOTICE,
                    "Client from {} has no certificate with a name, which its listener asks for.",
                    link.peer
                );
                return Err(ReasonCode::NotAuthorized);
            };
            return Ok(Some(Authenticated::new(Some(name), Proof::Certificate)));
        }
        match connect.user_name {
            Some(user_name) => self.authenticate_user(key, user_name, connect.password),
            None if listener.allow_anonymous => Ok(Some(Authenticated::new(None, Proof::None))),
            None => Err(ReasonCode::NotAuthorized),
        }
    }

    fn authenticate_user(
        &mut self,
        key: ClientKey,
        user_name: &str,
        password: Option<&[u8]>,
    ) -> Result<Option<Authenticated>, ReasonCode> {
        let Client { link, .. } = &mut self.clients[key];
        let link = link.as_mut().expect("CONNECT came on a link");
        let auth = self.authority.auth();
        let listener = link.peer.listener;
        if !auth.asks(listener) {
            // Nothing to check a name with: it is as good as none.
            return match self.config.listeners[listener].allow_anonymous {
                true => Ok(Some(Authenticated::new(Some(user_name), Proof::None))),
                false => Err(ReasonCode::NotAuthorized),
            };
        }
        let password = password.ok_or(ReasonCode::NotAuthorized)?;
        let hash = auth.hash_of(listener, user_name);
        if let Some(hash) = hash
            && self.verified.knows(user_name, hash, password)
        {
            let proof = Proof::Password(Some(hash.clone()));
            return Ok(Some(Authenticated::new(Some(user_name), proof)));
        }
        if let Password::Compared {
            hash: compared,
            is_right,
        } = &link.password
            && compared.as_ref() == hash
        {
            let (true, Some(hash)) = (is_right, hash) else {
                return Err(ReasonCode::NotAuthorized);
            };
            let proof = Proof::Password(Some(hash.clone()));
            return Ok(Some(Authenticated::new(Some(user_name), proof)));
        }
        link.password = Password::Waits;
        let check = PasswordCheck {
            connection: link.connection,
            user_name: user_name.into(),
            challenge: auth.challenge(listener, user_name),
            password: password.into(),
        };
        self.waiting.push(link.peer.address, check);
        Ok(None)
    }
}
