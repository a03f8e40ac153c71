//! What a server does: all rules and all state of the broker; no sockets, no clock, no disk, no randomness of its own.
//!
//! Packets and the time come in; bytes go out into each client's outbox, and [`Output`] lists the clients that have some.
//! Whoever drives a [`Broker`] (the event loop, a simulation, a bench) does this:
//!
//! 1. [`attach`](Broker::attach) a connection, [`handle`](Broker::handle) its packets or [`reject`](Broker::reject) what is
//!    none, [`detach`](Broker::detach) it when its socket is gone;
//! 2. [`tick`](Broker::tick) at [`next_deadline`](Broker::next_deadline) or later, and
//!    [`go_on`](Broker::go_on) once a turn;
//! 3. send what [`outbox`](Broker::outbox) holds for each connection of [`take_dirty`](Broker::take_dirty), tell
//!    [`flushed`](Broker::flushed), and close what [`take_closing`](Broker::take_closing) names.
//!
//! The state: `clients` (a session each, and a link while connected), `subscriptions` (which client wants a topic),
//! `retained` (the last message of a topic), `timers` (everything that happens without a packet). Each file of the room
//! has its invariants numbered at its top; [`check_invariants`](Broker::check_invariants) walks them all.

mod ack;
mod authenticate;
pub mod client;
mod connect;
mod control;
mod deliver;
mod ending;
mod gate;
mod inflight;
pub mod journal;
mod levels;
pub mod message;
mod parted;
mod principal;
mod publish;
mod pump;
mod queue;
mod reload;
mod replay;
mod restore;
mod retain;
pub mod retained;
mod session;
mod snapshot;
pub mod statistics;
mod subscribe;
pub mod subscriptions;
pub mod sys;
pub mod timers;
mod waiting;
mod will;

pub use authenticate::PasswordCheck;
pub use client::{Identity, Peer};
pub use connect::CONNECT_TIMEOUT;
pub use control::{Chore, ChoreDone};
pub use deliver::{Farewell, Output};
pub use ending::Ending;
pub use restore::{Clocks, Counts, Restoring};

use crate::auth::Auth;
use crate::auth::password::Verified;
use crate::buffer::{BufferPool, ConnectionKey, Outbox};
use crate::config::log_target::NOTICE;
use crate::config::{Config, Listener};
use crate::mqtt::{
    self, DecodeError, Limits, Packet, Property, ProtocolVersion, ReasonCode, disconnect,
};
use client::{ClientKey, Clients, Link, Password};
use message::Tally;
use principal::Authority;
use retain::RetainedMessage;
use retained::Retained;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;
use subscriptions::Subscriptions;
use timers::{Time, Timers};
use waiting::Waiting;

/// What a CONNECT may have in bytes, whatever `max_packet_size` grants to those who were let in. The longest one of
/// 3.1.1 has a third of this; the rest is for user properties.
const CONNECT_BYTES_MAX: u32 = 1024 * 1024;

/// What all connections that have not been let in share, in bytes: the more of them there are, the less each may say.
/// Whoever begins a thousand CONNECTs of the greatest length and finishes none has memory for a few.
const CONNECTS_BYTES: u32 = 16 * 1024 * 1024;

/// The share that everybody has however many they are, in bytes: a Client Identifier, a will, a user name and a token
/// for a password fit into it.
const CONNECT_BYTES_MIN: u32 = 16 * 1024;

/// Why a client is disconnected: what it is told, and what the log says besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What a client of 5.0 is told.
    pub reason_code: ReasonCode,
    /// What was wrong.
    pub what: &'static str,
}

impl Fault {
    const fn new(reason_code: ReasonCode, what: &'static str) -> Fault {
        Fault { reason_code, what }
    }

    const fn protocol(what: &'static str) -> Fault {
        Fault::new(ReasonCode::ProtocolError, what)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Fault {
        Fault::new(error.into(), error.what())
    }
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// A connection: connect timeout or Keep Alive.
    Link(ClientKey),
    /// A session without a connection: Will Delay or Session Expiry.
    Session(ClientKey),
    /// A retained message expires; its index in `expiring`.
    Retained(u32),
    /// The $SYS topics are due.
    Sys,
}

/// Where numbers come from that peers must not be able to guess.
pub type Random = Box<dyn FnMut() -> u64>;

/// A server's rules and state.
pub struct Broker {
    config: Config,
    authority: Rc<Authority>,
    /// Passwords that were verified once, so that a reconnect costs no hash.
    verified: Verified,
    /// Commands that are not answered yet.
    control: control::Control,
    /// Passwords that are to be verified elsewhere.
    waiting: Waiting,
    clients: Clients,
    subscriptions: Subscriptions,
    /// They belong to no session and stay when one ends: [MQTT-3.1.2-7] of 3.1.1.
    retained: Retained<RetainedMessage>,
    /// Counts what was set and cleared in `retained`.
    retained_changes: u64,
    expiring: slab::Slab<Rc<message::Message>>,
    timers: Timers<Timer>,
    output: Output,
    tally: Rc<Tally>,
    sys: sys::Sys,
    random: Random,
    /// Clients whose replay goes on next turn.
    replaying: Vec<ClientKey>,
    /// How many nodes of `retained` may still be looked at in this turn.
    look_up_budget: usize,
    look_ups: replay::LookUps,
    /// Ended sessions of which there are subscriptions left.
    leaving: Vec<ClientKey>,
    /// How many of those are removed in one turn.
    leave_piece: usize,

    /// Whether there are rules about who may read what.
    restricts: bool,
    is_out_of_memory: bool,
    /// Memory for what one call puts together and drops.
    scratch: Vec<u8>,
}

impl Broker {
    /// A broker without clients, in which `auth` says who may what. `now` is its first moment, `unix_time` what a wall
    /// clock shows then, for aligning $SYS. `random` makes the identifiers that clients are given, and the seed of the
    /// hash tables.
    pub fn new(
        config: Config,
        auth: Auth,
        now: Time,
        unix_time: Duration,
        mut random: Random,
    ) -> Broker {
        let seed = random();
        let output = Output::default();
        let mut broker = Broker {
            config,
            restricts: auth.has_rules(),
            is_out_of_memory: false,
            authority: Authority::new(auth),
            control: control::Control::default(),
            verified: Verified::new().expect("the system has random bytes at the start"),
            waiting: Waiting::default(),
            clients: Clients::default(),
            subscriptions: Subscriptions::new(seed),
            retained: Retained::new(seed),
            retained_changes: 0,
            expiring: slab::Slab::new(),
            timers: Timers::new(),
            tally: Rc::clone(&output.tally),
            output,
            sys: sys::Sys::new(now, unix_time),
            random,
            replaying: Vec::new(),
            look_up_budget: replay::NODES_PER_TURN,
            leaving: Vec::new(),
            leave_piece: ending::LEAVE_PIECE,
            look_ups: replay::LookUps::USUAL,

            scratch: Vec::new(),
        };
        broker.start_sys(now);
        broker
    }

    /// Looks retained messages up in pieces of `places` where more than that many nodes would be looked at, and removes as
    /// many subscriptions of an ended session at a time: so simulations come to what otherwise needs many thousands.
    pub fn set_pieces(&mut self, places: usize) {
        self.leave_piece = places;
        self.look_ups = replay::LookUps {
            nodes_max: places,
            piece: places,
        };
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What a decoder may accept on `connection`; `None` when it is not attached any more.
    #[inline]
    pub fn limits(&self, connection: ConnectionKey) -> Option<Limits> {
        let key = self.clients.by_connection(connection)?;
        let link = self.clients[key].link.as_ref()?;
        let version = link.version;
        let packet_bytes_max = match version {
            Some(_) => self.config.max_packet_size,
            None => self
                .config
                .max_packet_size
                .min(self.connect_bytes_max(link)),
        };
        Some(Limits {
            version,
            packet_bytes_max,
        })
    }

    /// What the CONNECT of `link` may have in bytes.
    fn connect_bytes_max(&self, link: &Link) -> u32 {
        if !matches!(link.password, Password::NotAsked) {
            // It is there already, and is only looked at again.
            return CONNECT_BYTES_MAX;
        }
        let sharing = self.clients.attached() - self.clients.connected();
        let share = CONNECTS_BYTES / u32::try_from(sharing).unwrap_or(u32::MAX).max(1);
        share.clamp(CONNECT_BYTES_MIN, CONNECT_BYTES_MAX)
    }

    /// How many bytes of memory the process has. Beyond `memory_limit` nobody begins a session, and who brings a message or
    /// a subscription is disconnected; what frees memory goes on, such as a client that comes back for its messages.
    pub fn set_memory(&mut self, bytes: usize) {
        let limit = self
            .config
            .memory_limit
            .map_or(usize::MAX, NonZeroUsize::get);
        // Some way below the limit before it ends, so that the log does not hear of every message.
        let is_out = match self.is_out_of_memory {
            true => bytes > limit - limit / 16,
            false => bytes > limit,
        };
        if is_out != self.is_out_of_memory {
            self.is_out_of_memory = is_out;
            match is_out {
                true => log::warn!(
                    "Warning: memory_limit is reached: new sessions, messages and subscriptions are refused."
                ),
                false => log::info!(target: NOTICE, "Memory is below memory_limit again."),
            }
        }
        self.sys.set_memory(bytes as u64);
    }

    /// A packet came on `connection`.
    pub fn handle(&mut self, connection: ConnectionKey, packet: Packet<'_>, now: Time) {
        let Some(key) = self.clients.by_connection(connection) else {
            return;
        };
        self.output.statistics.messages_received += 1;
        self.output.journal.begin_packet();
        if let Some(link) = &mut self.clients[key].link {
            link.last_packet = now;
        }
        let is_connect = matches!(packet, Packet::Connect(_));
        let result = match packet {
            Packet::Publish(_) | Packet::Subscribe(_) if self.is_out_of_memory => {
                return self.end_link(key, Ending::OutOfMemory, now);
            }
            Packet::Publish(publish) => self.publish(key, publish, now),
            Packet::Puback(ack) => self.puback(key, ack, now),
            Packet::Pubrec(ack) => self.pubrec(key, ack, now),
            Packet::Pubrel(ack) => self.pubrel(key, ack, now),
            Packet::Pubcomp(ack) => self.pubcomp(key, ack, now),
            Packet::Subscribe(subscribe) => self.subscribe(key, subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(key, unsubscribe),
            Packet::Pingreq => self.ping(key),
            Packet::Connect(connect) => self.connect(key, connect, now),
            Packet::Disconnect(disconnect) => self.disconnect(key, disconnect, now),
            Packet::Auth(auth) => self.auth(key, auth),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(Fault::protocol("packet that only a server sends"))
            }
        };
        if let Err(fault) = result {
            self.end_link(key, Ending::Fault(fault), now); // [MQTT-4.13.1-1]
        }
        self.drop_unanswerable(is_connect, now);
    }

    /// Ends the connections whose client takes no packet as large as the answer that it needs; `is_connect` says that it is
    /// CONNACK.
    fn drop_unanswerable(&mut self, is_connect: bool, now: Time) {
        while let Some(connection) = self.output.unanswerable.pop() {
            let reason_code = ReasonCode::PacketTooLarge;
            let what = "answer above the client's maximum packet size";
            let ending = match is_connect {
                // Nothing comes before a CONNACK [MQTT-3.14.0-1].
                true => Ending::Refused(reason_code),
                false => Ending::Fault(Fault::new(reason_code, what)),
            };
            self.detach(connection, ending, now);
        }
    }

    /// PINGREQ is answered by PINGRESP [MQTT-3.12.4-1].
    fn ping(&mut self, key: ClientKey) -> Result<(), Fault> {
        let name = &self.clients[key].session.client_id;
        log::debug!("Received PINGREQ from {name}");
        log::debug!("Sending PINGRESP to {name}");
        self.answer(key, |_, out| out.extend_from_slice(&disconnect::PINGRESP));
        Ok(())
    }

    /// AUTH: no CONNECT with an Authentication Method is accepted, so there is nothing to go on with [MQTT-4.12.0-7].
    fn auth(&self, key: ClientKey, auth: mqtt::Auth<'_>) -> Result<(), Fault> {
        let method = auth.properties.iter().find_map(|property| match property {
            Property::AuthenticationMethod(method) => Some(method),
            _ => None,
        });
        let (name, code) = (&self.clients[key].session.client_id, auth.reason_code as u8);
        log::debug!(
            "Received AUTH from {name} (rc{code}, {})",
            method.unwrap_or_default()
        );
        Err(Fault::protocol("AUTH without an authentication method"))
    }

    /// Encodes an answer for `key`, if it has a connection.
    fn answer(&mut self, key: ClientKey, encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>)) {
        if let Some(link) = &mut self.clients[key].link {
            let version = link.version();
            link.answer(&mut self.output, |out| encode(version, out));
        }
    }

    /// Sends `key` what waits for it, as far as its window allows.
    fn pump(&mut self, key: ClientKey, now: Time) {
        let client = &mut self.clients[key];
        if let Some(link) = &mut client.link {
            let session = &mut client.session;
            pump::pump_queue(session, link, &mut self.output, &self.config, now);
        }
        self.replay(key, now);
    }

    /// Whether `key` may publish to `topic`.
    fn may_publish(&self, key: ClientKey, topic: &str) -> bool {
        let principal = &self.clients[key].session.principal;
        principal
            .as_ref()
            .is_some_and(|principal| principal.may_write(topic))
    }

    fn listener_of(&self, key: ClientKey) -> &Listener {
        let link = self.clients[key]
            .link
            .as_ref()
            .expect("asked while a packet is handled");
        &self.config.listeners[link.peer.listener]
    }

    /// Whether `connection` has so many unread answers that its next packets should wait.
    pub fn is_congested(&self, connection: ConnectionKey) -> bool {
        self.clients.by_connection(connection).is_some_and(|key| {
            let link = self.clients[key].link.as_ref();
            link.is_some_and(Link::is_congested)
        })
    }

    /// Whether there is work for another turn at once.
    pub fn has_output(&self) -> bool {
        let output = &self.output;
        !output.dirty.is_empty()
            || !output.closing.is_empty()
            || !self.replaying.is_empty()
            || !self.leaving.is_empty()
    }

    /// The connections that something was queued for since the last call, each once, appended to `list`.
    pub fn take_dirty(&mut self, list: &mut Vec<ConnectionKey>) {
        list.append(&mut self.output.dirty);
    }

    /// A connection that holds so much that it should be flushed before the turn ends.
    pub fn take_urgent(&mut self) -> Option<ConnectionKey> {
        self.output.urgent.pop()
    }

    /// A connection to be closed, after its last bytes were sent as far as its socket takes them.
    pub fn take_closing(&mut self) -> Option<Farewell> {
        self.output.closing.pop()
    }

    /// What is to be sent on `connection`, which leaves the dirty list by this; `None` while its CONNACK waits for a commit.
    pub fn outbox(&mut self, connection: ConnectionKey) -> Option<&mut Outbox> {
        let key = self.clients.by_connection(connection)?;
        let link = self.clients[key].link.as_mut()?;
        (link.is_dirty, link.is_urgent) = (false, false);
        (!link.is_held).then_some(&mut link.outbox)
    }

    /// Bytes came on `connection` of a packet that is not whole yet. A large packet on a slow link may take longer than
    /// Keep Alive, and who sends it is alive; Mosquitto sees it so too.
    pub fn touch(&mut self, connection: ConnectionKey, now: Time) {
        if let Some(key) = self.clients.by_connection(connection)
            && let Some(link) = &mut self.clients[key].link
        {
            link.last_packet = now;
        }
    }

    /// The socket took `sent` bytes of the outbox of `connection`.
    pub fn flushed(&mut self, connection: ConnectionKey, sent: usize, now: Time) {
        let Some(key) = self.clients.by_connection(connection) else {
            return;
        };
        let client = &mut self.clients[key];
        let Some(link) = &mut client.link else {
            return;
        };
        if sent > 0 && link.is_congested() {
            // Its packets wait unread because of us; that it reads is all there is to see of its life.
            link.last_packet = now;
        }
        link.sent(sent);
        if link.outbox.is_empty() {
            link.outbox.recycle(&mut self.output.buffers);
            if client.session.queue.is_empty() {
                client.session.is_dropping = false;
            }
        }
        if self.clients[key].session.replay.is_some() {
            self.replay(key, now);
        }
    }

    /// Where outboxes get their memory from, and where that of a [`Farewell`] goes back to.
    pub fn buffers(&mut self) -> &mut BufferPool {
        &mut self.output.buffers
    }

    /// What is counted.
    pub fn statistics(&mut self) -> &mut statistics::Statistics {
        &mut self.output.statistics
    }

    /// How many connections there are, with those that have not sent CONNECT yet.
    pub fn connections(&self) -> usize {
        self.clients.attached()
    }

    /// When [`tick`](Broker::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Link(key) => self.link_due(key, now),
                Timer::Session(key) => self.session_due(key, now),
                Timer::Retained(index) => self.retained_due(index),
                Timer::Sys => self.sys_due(now),
            }
        }
    }

    /// Goes on with what is done in pieces, so that nobody waits for the whole of it. Once a turn.
    pub fn go_on(&mut self, now: Time) {
        self.resume_replays(now);
        self.remove_left();
    }

    /// Every subscription with its client, a line each, for who wants to look inside a running broker.
    pub fn subscription_tree(&self) -> String {
        let mut tree = String::new();
        for (place, subscription) in self.subscriptions.iter() {
            let filter = self.subscriptions.filter_of(place);
            let client = &self.clients[ClientKey(subscription.client)];
            if client.is_leaving() {
                continue;
            }
            let name = &client.session.client_id;
            let qos = subscription.options.qos() as u8;
            tree.push_str(&format!("{filter} (QoS {qos}) {name}\n"));
        }
        tree
    }

    /// Walks every invariant of the room.
    ///
    /// # Panics
    /// When one does not hold: that is a fault of ours.
    pub fn check_invariants(&self) {
        self.subscriptions.check_invariants(|client, topic| {
            self.clients.readers_of(topic, self.restricts)(client)
        });
        self.retained.check_invariants();
        let mut named = 0;
        let mut attached = 0;
        let mut subscribed = 0;
        for (key, client) in self.clients.iter() {
            let session = &client.session;
            if let Some(link) = &client.link {
                attached += 1;
                assert_eq!(self.clients.by_connection(link.connection), Some(key));
                assert_eq!(link.version.is_some(), !session.client_id.is_empty());
                assert!(session.ends.is_none() && session.will_due.is_none());
                assert!(session.inflight.len() <= usize::from(u16::MAX));
            } else if client.is_leaving() {
                assert!(self.leaving.contains(&key) && session.row.is_none());
            } else {
                assert!(session.expiry != session::SessionExpiry::WithConnection);
            }
            if !session.client_id.is_empty() {
                named += 1;
                assert_eq!(self.clients.find(&session.client_id), Some(key));
            }
            session.queue.check_invariants();
            subscribed += session.subscriptions.len();
            for &place in &session.subscriptions {
                assert!(self.subscriptions.get(place, key.0).is_some());
            }
        }
        assert_eq!(named, self.clients.named());
        assert_eq!(attached, self.clients.attached());
        assert_eq!(
            subscribed,
            self.subscriptions.count() + self.subscriptions.shared_count()
        );
    }
}

const _: () = assert!(size_of::<Timer>() == 8);

#[cfg(test)]
mod tests;
