//! The slab of client contexts: a slot is a Session and, while there is a Network Connection, a Link.
//!
//! 1. A connection that is attached belongs to exactly one slot, whose link names that connection.
//! 2. A session has a name exactly when a CONNECT was accepted for it, and is found by that name; names are unique
//!    [MQTT-3.1.3-2].
//! 3. A slot without a name has a link and waits for CONNECT, or is what is left of a session that ended: its subscriptions,
//!    which are removed in pieces, and which nothing is delivered to.

use super::deliver::Output;
use super::gate::Waiting;
use super::session::Session;
use super::timers::{Time, TimerKey};
use crate::auth::password::PasswordHash;
use crate::buffer::{ConnectionKey, Outbox, PeerAddress};
use crate::mqtt::ProtocolVersion;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use slab::Slab;
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of answers that a client which does not read may have waiting before it is not read from any more.
pub(super) const ANSWER_BYTES_MAX: u32 = 64 * 1024;

/// Names a slot. It says nothing of who lives there; whoever keeps one lets go of it when the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(pub u32);

/// Where a connection came from and through which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end.
    pub address: PeerAddress,
    /// The index of the listener in the configuration.
    pub listener: usize,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What the layers below MQTT know of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user name that its certificate stands for.
    pub user_name: Option<String>,
    /// Version and cipher suite of TLS, as the log has them.
    pub tls: Option<String>,
}

/// How far the password of a CONNECT is verified.
#[derive(Clone, Debug, Default)]
pub enum Password {
    /// There was none to verify yet.
    #[default]
    NotAsked,
    /// It is being verified; the CONNECT stays unread.
    Waits,
    /// It was compared with this hash, or with that of nobody.
    Compared {
        /// What it was compared with.
        hash: Option<Arc<PasswordHash>>,
        /// Whether it was the right one.
        is_right: bool,
    },
}

/// A Network Connection as the rules see it: what CONNECT negotiated, and the bytes to be sent.
#[derive(Debug)]
pub struct Link {
    /// Which connection.
    pub connection: ConnectionKey,
    /// Where it comes from.
    pub peer: Peer,
    /// What its transport says of who it is, where it says anything.
    pub identity: Option<Box<Identity>>,
    /// How far the password of its CONNECT is verified.
    pub password: Password,
    /// `mount_point` of its listener when CONNECT was accepted: what stands before every topic of this client.
    pub mount: Option<Box<str>>,
    /// The Client Identifier of a CONNECT that was refused, for the log.
    pub refused_id: Option<Box<str>>,
    /// The version that CONNECT named; `None` before CONNECT.
    pub version: Option<ProtocolVersion>,
    /// Whether the client said that it is a bridge.
    pub is_bridge: bool,
    /// Whether it waits in [`Output`] for a flush.
    pub is_dirty: bool,
    /// Whether so much waits that it should be flushed before the turn ends.
    pub is_urgent: bool,
    /// Bytes to be sent.
    pub outbox: Outbox,
    /// Bytes of answers (everything but PUBLISH) that wait because the socket would not take more. An estimate: what is
    /// sent in part takes its part of them along.
    pub answer_bytes: u32,
    /// PUBLISH packets that wait because the socket would not take more; the same estimate.
    pub backlog: u32,
    /// How much of what is for it waits for a commit.
    pub held: Waiting,
    /// The last batch that something waits for which had waited in the queue before: nothing that comes may pass it.
    pub queue_waits_for: u64,
    /// The last batch that something waits for which this client released: what it publishes does not pass that.
    pub released_in: u64,
    /// Whether the whole outbox waits for a commit, since CONNACK does.
    pub is_held: bool,
    /// Whether the log was told of an acknowledgement for nothing.
    pub warned_of_unknown: bool,
    /// Whether the log was told that the client exceeds our Receive Maximum.
    pub warned_of_quota: bool,
    /// Whether the log was told that it reuses Packet Identifiers.
    pub warned_of_reuse: bool,
    /// Keep Alive in force, in seconds; 0 for none.
    pub keep_alive: u16,
    /// When the last packet came.
    pub last_packet: Time,
    /// Until CONNECT the connect timeout, then Keep Alive.
    pub timer: Option<TimerKey>,
    /// The client's Maximum Packet Size in bytes.
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The client's Receive Maximum: how many PUBLISH packets of QoS 1 and 2 it takes at a time.
    pub window: u16,
    /// How many of these places are taken by what was sent on this connection (4.9).
    pub window_used: u16,
    /// How many QoS 2 messages came on this connection and were not released: what counts for our Receive Maximum (4.9).
    pub unreleased: u16,
    /// Topic Aliases of both directions, once one is used.
    pub aliases: Option<Box<Aliases>>,
    /// How many Topic Aliases the client allows us.
    pub alias_maximum: u16,
}

impl Link {
    /// A connection that was just accepted.
    pub fn new(connection: ConnectionKey, peer: Peer, now: Time) -> Link {
        Link {
            connection,
            peer,
            identity: None,
            password: Password::NotAsked,
            mount: None,
            refused_id: None,
            version: None,
            is_bridge: false,
            is_dirty: false,
            is_urgent: false,
            outbox: Outbox::new(),
            answer_bytes: 0,
            backlog: 0,
            held: Waiting::default(),
            queue_waits_for: 0,
            released_in: 0,
            is_held: false,
            warned_of_unknown: false,
            warned_of_quota: false,
            warned_of_reuse: false,
            keep_alive: 0,
            last_packet: now,
            timer: None,
            packet_bytes_max: None,
            window: 0,
            window_used: 0,
            unreleased: 0,
            aliases: None,
            alias_maximum: 0,
        }
    }

    /// The version of a connection whose CONNECT was accepted; before that, the one in which a refusal is understood by
    /// everybody.
    pub fn version(&self) -> ProtocolVersion {
        self.version.unwrap_or(ProtocolVersion::V311)
    }

    /// Whether the client takes part in MQTT 5.0.
    pub fn is_v5(&self) -> bool {
        self.version().is_v5()
    }

    /// The Topic Name as the client knows it: without the mount point. `None` where nothing is left, or the topic is none
    /// below its mount point.
    #[inline]
    pub fn topic_seen<'a>(&self, topic: &'a str) -> Option<&'a str> {
        match &self.mount {
            None => Some(topic),
            Some(mount) => topic
                .strip_prefix(&**mount)
                .filter(|topic| !topic.is_empty()),
        }
    }

    /// Whether so many of its answers wait that its next packets should wait too.
    pub fn is_congested(&self) -> bool {
        self.answer_bytes.saturating_add(self.held.answer_bytes) > ANSWER_BYTES_MAX
    }

    /// The socket took `sent` bytes of the outbox; the rest waits on.
    pub fn sent(&mut self, sent: usize) {
        let rest = self.outbox.len();
        if rest == 0 {
            // Nearly always, and two divisions less for each flush.
            (self.answer_bytes, self.backlog) = (0, 0);
            return;
        }
        // Without an entry for each packet nobody knows which ones were sent: their share of the bytes is near enough.
        let share =
            |count: u32| (u64::from(count) * rest as u64 / (rest + sent).max(1) as u64) as u32;
        (self.answer_bytes, self.backlog) = (share(self.answer_bytes), share(self.backlog));
    }

    /// Encodes an answer into the outbox; no window holds it back [MQTT-4.9.0-3]. One that exceeds the client's Maximum
    /// Packet Size is not sent [MQTT-3.1.2-24], and without it the connection cannot go on.
    pub fn answer(&mut self, output: &mut Output, encode: impl FnOnce(&mut Vec<u8>)) {
        let buffer = self.outbox.buffer(&mut output.buffers);
        let before = buffer.len();
        encode(buffer);
        let length = buffer.len() - before;
        if self
            .packet_bytes_max
            .is_some_and(|max| length > max.get() as usize)
        {
            buffer.truncate(before);
            output.unanswerable.push(self.connection);
            return;
        }
        output.statistics.messages_sent += 1;
        if self.outbox.blocked {
            self.answer_bytes = self.answer_bytes.saturating_add(length as u32);
        }
        output.mark_dirty(self);
    }
}

/// Topic Aliases (3.3.2.3.4) in force on one connection [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub struct Aliases {
    /// What the client's aliases stand for; alias 1 is at 0.
    pub received: Vec<Option<Rc<str>>>,
    /// What we told the client, by topic.
    pub sent: HashMap<Box<str>, u16, RandomState>,
}

/// A slot of the slab.
#[derive(Debug)]
pub struct Client {
    /// What outlives the connection.
    pub session: Session,
    /// The connection, if there is one.
    pub link: Option<Link>,
}

/// How log lines name a client: by its identifier, and until that is known by its address.
pub struct Name<'a>(&'a Client);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.link, self.0.session.client_id.is_empty()) {
            (Some(link), true) => match &link.refused_id {
                Some(client_id) => f.write_str(client_id),
                None => link.peer.address.host().fmt(f),
            },
            _ => f.write_str(&self.0.session.client_id),
        }
    }
}

impl Client {
    /// How log lines name it.
    pub fn name(&self) -> Name<'_> {
        Name(self)
    }

    /// Whether it said that it is a bridge.
    pub fn is_bridge(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_bridge)
    }

    /// Whether it is what is left of a session that ended.
    pub fn is_leaving(&self) -> bool {
        self.link.is_none() && self.session.client_id.is_empty()
    }

    /// Whether a CONNECT was accepted and the connection still stands.
    pub fn is_connected(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.version.is_some())
    }
}

#[derive(Clone, Copy, Debug)]
struct Attached {
    generation: u32,
    key: ClientKey,
}

/// All clients, found by key, by connection and by Client Identifier.
#[derive(Debug, Default)]
pub struct Clients {
    slots: Slab<Client>,
    names: HashTable<ClientKey>,
    hasher: RandomState,
    /// By the connection's index.
    connections: Vec<Option<Attached>>,
    attached: usize,
    /// How many slots are what is left of a session that ended.
    leaving: usize,
}

impl Clients {
    /// Makes a slot for a connection that has said nothing yet.
    pub fn attach(&mut self, link: Link) -> ClientKey {
        let connection = link.connection;
        let index = self.slots.insert(Client {
            session: Session::new(),
            link: Some(link),
        });
        let key = ClientKey(index as u32);
        let index = connection.index as usize;
        if self.connections.len() <= index {
            self.connections.resize(index + 1, None);
        }
        debug_assert!(
            self.connections[index].is_none(),
            "the connection before was detached"
        );
        self.connections[index] = Some(Attached {
            generation: connection.generation,
            key,
        });
        self.attached += 1;
        key
    }

    /// Makes a slot for a session that has no connection, and a name that no other has.
    pub fn restore(&mut self, session: Session) -> ClientKey {
        let client_id = Rc::clone(&session.client_id);
        let index = self.slots.insert(Client {
            session,
            link: None,
        });
        let key = ClientKey(index as u32);
        self.name(key, &client_id);
        key
    }

    /// The slot that `connection` belongs to, if it is still attached.
    #[inline]
    pub fn by_connection(&self, connection: ConnectionKey) -> Option<ClientKey> {
        let attached = self.connections.get(connection.index as usize)?.as_ref()?;
        (attached.generation == connection.generation).then_some(attached.key)
    }

    /// Takes the link out of `key`.
    pub fn detach(&mut self, key: ClientKey) -> Option<Link> {
        let link = self[key].link.take()?;
        self.connections[link.connection.index as usize] = None;
        self.attached -= 1;
        Some(link)
    }

    /// Moves the link of `from` to the slot `to`, which has none, and frees `from`, which has no name.
    pub fn move_link(&mut self, from: ClientKey, to: ClientKey) {
        let slot = self.slots.remove(from.0 as usize);
        assert!(
            slot.session.client_id.is_empty(),
            "only a slot that waits for CONNECT is given up"
        );
        let link = slot.link.expect("a slot without a name has a link");
        self.connections[link.connection.index as usize] = Some(Attached {
            generation: link.connection.generation,
            key: to,
        });
        let target = &mut self[to].link;
        assert!(target.is_none(), "the link before was taken out");
        *target = Some(link);
    }

    /// The session with this Client Identifier.
    pub fn find(&self, client_id: &str) -> Option<ClientKey> {
        let hash = self.hasher.hash_one(client_id);
        self.names
            .find(hash, |&key| *self[key].session.client_id == *client_id)
            .copied()
    }

    /// Gives the session in `key` its name, which nobody else has.
    pub fn name(&mut self, key: ClientKey, client_id: &Rc<str>) {
        debug_assert!(!client_id.is_empty());
        debug_assert!(self.find(client_id).is_none());
        self[key].session.client_id = Rc::clone(client_id);
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.names
            .insert_unique(hasher.hash_one(client_id), key, |key| {
                hasher.hash_one(&*slots[key.0 as usize].session.client_id)
            });
    }

    /// Frees a slot that has no link any more.
    pub fn remove(&mut self, key: ClientKey) -> Session {
        let client = self.slots.remove(key.0 as usize);
        assert!(
            client.link.is_none(),
            "a connection is detached before its slot is freed"
        );
        self.forget_name(&client.session, key);
        client.session
    }

    fn forget_name(&mut self, session: &Session, key: ClientKey) {
        if !session.client_id.is_empty() {
            let hash = self.hasher.hash_one(&*session.client_id);
            if let Ok(entry) = self.names.find_entry(hash, |&other| other == key) {
                entry.remove();
            }
        }
    }

    /// Ends the session in a slot that has no link any more, all but its subscriptions, which keep the slot.
    pub fn leave(&mut self, key: ClientKey) {
        let session = std::mem::replace(&mut self[key].session, Session::new());
        self.forget_name(&session, key);
        self[key].session.subscriptions = session.subscriptions;
        self.leaving += 1;
    }

    /// Frees the slot of a session that has left for good.
    pub fn left(&mut self, key: ClientKey) {
        self.slots.remove(key.0 as usize);
        self.leaving -= 1;
    }

    /// How many sessions have a name, with and without a connection.
    pub fn named(&self) -> usize {
        self.names.len()
    }

    /// How many connections there are, with those that have not sent CONNECT yet.
    pub fn attached(&self) -> usize {
        self.attached
    }

    /// How many connections have sent CONNECT and were accepted.
    pub fn connected(&self) -> usize {
        // Slots are named, or wait for CONNECT with a link, or are left of a session.
        self.attached - (self.slots.len() - self.names.len() - self.leaving)
    }

    /// Who may read `topic`; everybody, unless somebody `restricts` anything.
    #[inline]
    pub fn readers_of(&self, topic: &str, restricts: bool) -> impl Fn(u32) -> bool {
        let asks = restricts || self.leaving > 0;
        move |client| {
            !asks || {
                let client = &self[ClientKey(client)];
                !client.is_leaving() && (!restricts || client.session.may_read(topic))
            }
        }
    }

    /// The slot, if there is one.
    pub fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slots.get(key.0 as usize)
    }

    /// The slot, if there is one.
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slots.get_mut(key.0 as usize)
    }

    /// All slots.
    pub fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.slots
            .iter()
            .map(|(index, client)| (ClientKey(index as u32), client))
    }
}

impl Index<ClientKey> for Clients {
    type Output = Client;

    #[inline]
    fn index(&self, key: ClientKey) -> &Client {
        &self.slots[key.0 as usize]
    }
}

impl IndexMut<ClientKey> for Clients {
    #[inline]
    fn index_mut(&mut self, key: ClientKey) -> &mut Client {
        &mut self.slots[key.0 as usize]
    }
}
