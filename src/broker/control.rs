//! Commands on `$CONTROL/dynamic-security/v1`: who may send them, when they take effect, and when they are answered.
//!
//! What a command means is for `auth/dynsec` to know. Hashing a password takes long, and so does a disk: both are
//! [`Chore`]s, which are done elsewhere.
//!
//! 1. Requests are carried out one after the other, in the order in which they came.
//! 2. What a request changes is in force at once: rights, subscriptions, and connections of those whom it concerns. Who
//!    sent it keeps its own connection until the answer is on its way.
//! 3. A change is answered when it is saved. One that could not be saved is in force and its answer says so.
//! 4. What waits is bounded by [`WAITING_BYTES_MAX`].

use super::Broker;
use super::client::{ClientKey, Clients};
use super::ending::Ending;
use super::message::Publication;
use super::timers::Time;
use crate::auth::dynsec::control::{self, Caller, Concerned, Outcome, Surroundings};
use crate::auth::dynsec::{CONTROL_TOPIC, RESPONSE_TOPIC, Security, file};
use crate::auth::password::{Kind, PasswordHash};
use crate::config::system_reason;
use crate::mqtt::{QoS, ReasonCode};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// How many bytes of requests may wait for those before them.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a request takes beside its bytes, about.
const REQUEST_BYTES: usize = 128;

/// What is to be done for a request on any thread.
#[derive(Debug)]
pub enum Chore {
    /// Hash passwords.
    Hash(BTreeSet<String>),
    /// Save what is known now.
    Save {
        /// Where.
        file: PathBuf,
        /// What.
        security: Arc<Security>,
    },
}

/// What came of a [`Chore`].
#[derive(Debug)]
pub enum ChoreDone {
    /// The hashes that could be made, by their passwords.
    Hashed(HashMap<String, Arc<PasswordHash>>),
    /// Whether everything is saved.
    Saved(io::Result<()>),
}

impl Chore {
    /// Does it; takes milliseconds for each password, and as long as the disk takes.
    pub fn run(self) -> ChoreDone {
        match self {
            Chore::Hash(passwords) => {
                let hashed = passwords.into_iter().filter_map(|password| {
                    let hash = PasswordHash::create(Kind::SHA512_PBKDF2, password.as_bytes());
                    Some((password, Arc::new(hash.ok()?)))
                });
                ChoreDone::Hashed(hashed.collect())
            }
            Chore::Save { file, security } => {
                ChoreDone::Saved(file::save(&file, &file::to_text(&security)))
            }
        }
    }
}

#[derive(Debug)]
struct Request {
    /// The index of the listener that it came through.
    listener: usize,
    client_id: Rc<str>,
    user_name: Option<Box<str>>,
    payload: Box<[u8]>,
}

/// How far the first request is.
#[derive(Debug, Default)]
enum Progress {
    /// Not begun.
    #[default]
    Waiting,
    /// Its passwords are being hashed.
    Hashing,
    /// What it changed is being saved.
    Saving(Outcome),
}

/// The requests that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Control {
    requests: VecDeque<Request>,
    bytes: usize,
    progress: Progress,
    chore: Option<Chore>,
}

/// What commands are told of everything else.
struct Around<'a> {
    hashes: HashMap<String, Arc<PasswordHash>>,
    clients: &'a Clients,
    /// Who is connected, by user name: with their Client Identifiers and addresses.
    connected: OnceCell<BTreeMap<&'a str, Vec<(&'a str, String)>>>,
}

impl Surroundings for Around<'_> {
    fn hash(&mut self, password: &str) -> Option<Arc<PasswordHash>> {
        self.hashes.get(password).cloned()
    }

    fn addresses(&self, user_name: &str, client_id: Option<&str>) -> Vec<String> {
        let connected = self.connected.get_or_init(|| {
            let mut connected = BTreeMap::<&str, Vec<_>>::new();
            for (_, client) in self.clients.iter() {
                let user_name = client
                    .session
                    .principal
                    .as_ref()
                    .and_then(|principal| principal.user_name.as_deref());
                if let (Some(user_name), Some(link), true) =
                    (user_name, &client.link, client.is_connected())
                {
                    let address = link.peer.address.host().to_string();
                    let of_user = connected.entry(user_name).or_default();
                    of_user.push((&*client.session.client_id, address));
                }
            }
            connected
        });
        let of_user = connected.get(user_name).into_iter().flatten();
        let those = of_user.filter(|(own, _)| client_id.is_none_or(|bound| bound == *own));
        those.map(|(_, address)| address.clone()).collect()
    }
}

impl Broker {
    /// Whether `key` may send commands to `topic`, where there is anybody to obey.
    pub(super) fn may_control(&self, key: ClientKey, topic: &str) -> bool {
        let principal = self.clients[key].session.principal.as_ref();
        topic == CONTROL_TOPIC && principal.is_some_and(|principal| principal.may_control(topic))
    }

    /// Takes a request from `key`, which may send it: how PUBACK tells of that.
    pub(super) fn control(&mut self, key: ClientKey, payload: &[u8], now: Time) -> ReasonCode {
        let Some(principal) = self.clients[key].session.principal.as_ref() else {
            return ReasonCode::NotAuthorized;
        };
        let bytes = payload.len() + REQUEST_BYTES;
        if self.control.bytes + bytes > WAITING_BYTES_MAX {
            let name = &principal.client_id;
            log::warn!(
                "Warning: Client {name} sends commands faster than they can be carried out."
            );
            return ReasonCode::QuotaExceeded;
        }
        self.control.bytes += bytes;
        self.control.requests.push_back(Request {
            listener: principal.listener,
            client_id: Rc::clone(&principal.client_id),
            user_name: principal.user_name.clone(),
            payload: payload.into(),
        });
        self.go_on_with_control(now);
        ReasonCode::Success
    }

    /// What is to be done for a request; [`chore_done`](Broker::chore_done) is to be told what came of it.
    pub fn take_chore(&mut self) -> Option<Chore> {
        self.control.chore.take()
    }

    /// What came of a [`Chore`].
    pub fn chore_done(&mut self, done: ChoreDone, now: Time) {
        match (done, std::mem::take(&mut self.control.progress)) {
            (ChoreDone::Hashed(hashes), Progress::Hashing) => self.carry_out(hashes, now),
            (ChoreDone::Saved(saved), Progress::Saving(outcome)) => {
                let response = match saved {
                    Ok(()) => outcome.response,
                    Err(error) => {
                        let reason = system_reason(&error);
                        log::error!(
                            "Error saving Dynamic security plugin config: {reason}. What was changed holds until \
                             the broker ends, unless a later change can be saved."
                        );
                        outcome.unsaved(&reason)
                    }
                };
                self.answer_request(&response, &outcome.concerned, now);
            }
            (_, progress) => {
                debug_assert!(false, "no such chore was given out");
                self.control.progress = progress;
            }
        }
        self.go_on_with_control(now);
    }

    fn go_on_with_control(&mut self, now: Time) {
        while let (Progress::Waiting, Some(request)) =
            (&self.control.progress, self.control.requests.front())
        {
            let passwords = control::passwords(&request.payload);
            if !passwords.is_empty() {
                self.control.progress = Progress::Hashing;
                self.control.chore = Some(Chore::Hash(passwords));
                return;
            }
            self.carry_out(HashMap::new(), now);
        }
    }

    /// Carries out the first request.
    fn carry_out(&mut self, hashes: HashMap<String, Arc<PasswordHash>>, now: Time) {
        let Some(request) = self.control.requests.front() else {
            return;
        };
        let caller = Caller {
            client_id: &request.client_id,
            user_name: request.user_name.as_deref(),
        };
        let mut around = Around {
            hashes,
            clients: &self.clients,
            connected: OnceCell::new(),
        };
        let authority = Rc::clone(&self.authority);
        let done = authority.change(|auth| {
            let (file, security) = auth.security_mut(request.listener)?;
            let known = Arc::make_mut(security);
            let outcome = control::execute(known, &request.payload, caller, &mut around);
            let chore = outcome.changed.then(|| Chore::Save {
                file: file.to_owned(),
                security: Arc::clone(security),
            });
            Some((outcome, chore))
        });
        match done {
            Some((outcome, Some(save))) => {
                let sender = Rc::clone(&request.client_id);
                self.subscriptions.rights_changed();
                self.end_concerned(&outcome.concerned, Some(&sender), now);
                self.control.progress = Progress::Saving(outcome);
                self.control.chore = Some(save);
            }
            Some((outcome, None)) => {
                self.answer_request(&outcome.response, &outcome.concerned, now)
            }
            // A reload has turned it off.
            None => self.forget_request(),
        }
    }

    /// Answers the first request, and ends its sender's connection where that is concerned.
    fn answer_request(&mut self, response: &str, concerned: &BTreeSet<Concerned>, now: Time) {
        let bytes = response.as_bytes();
        let mut publication = Publication::new(RESPONSE_TOPIC, bytes, QoS::AtMostOnce, false);
        self.route(None, &mut publication, now);
        self.forget_request();
        self.end_concerned(concerned, None, now);
    }

    fn forget_request(&mut self) {
        if let Some(request) = self.control.requests.pop_front() {
            self.control.bytes -= request.payload.len() + REQUEST_BYTES;
        }
    }

    /// Ends the connections of `concerned`, but that of the client `spared`, and takes away what their sessions may not
    /// have any more.
    fn end_concerned(&mut self, concerned: &BTreeSet<Concerned>, spared: Option<&str>, now: Time) {
        if concerned.is_empty() {
            return;
        }
        let is_concerned = |user_name: Option<&str>| match user_name {
            Some(name) => concerned.contains(&Concerned::Client(name.into())),
            None => concerned.contains(&Concerned::Anonymous),
        };
        let clients = self.clients.iter().filter(|(_, client)| {
            let principal = client.session.principal.as_ref();
            principal.is_some_and(|it| is_concerned(it.user_name.as_deref()))
        });
        let keys: Vec<ClientKey> = clients.map(|(key, _)| key).collect();
        for key in keys {
            let Some(client) = self.clients.get(key) else {
                continue; // its session ended with another's
            };
            if client.is_connected() && spared != Some(&*client.session.client_id) {
                self.end_link(key, Ending::Administrative, now);
            }
            if self.clients.get(key).is_some() {
                self.drop_forbidden_subscriptions(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
