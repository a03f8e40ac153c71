//! The world of a simulation: the real broker with its journal and the real tables of its store, clients, a network, and
//! one clock, which stands still unless a step says otherwise. After each step the broker's invariants are walked, and what
//! it put out is shown to the oracle.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use midge::auth::{Auth, Making};
use midge::broker::journal::Batch;
use midge::broker::timers::Time;
use midge::broker::{Broker, Clocks, Ending, Peer};
use midge::buffer::{ConnectionKey, Outbox, PeerAddress};
use midge::config::Config;
use midge::mqtt::{Limits, Packet, ProtocolVersion, QoS, SubscriptionOptions, decode};
use midge::persistence::{self, restore::restore};
use rusqlite::Connection as Database;

use super::client::{Client, Message, Wish};
use super::ledger::{Ledger, number_of};
use super::oracle::{Connecting, Oracle, Rights};
use super::step::{FILTERS, MessageStep, Person, Plan, Step, TOPICS, Which};

/// The Unix time at which every world begins, in milliseconds.
const BEGINNING: u64 = 1_700_000_000_000;

/// One connection, and the network between its ends.
struct Socket {
    key: ConnectionKey,
    /// The index of its client.
    client: usize,
    /// Bytes on their way to the broker.
    up: Vec<u8>,
    /// Bytes that are there and no whole packet.
    arrived: Vec<u8>,
    /// Bytes on their way to the client.
    down: Vec<u8>,
    /// How many bytes may be on their way.
    room: usize,
    /// How many bytes of the outbox the oracle has seen.
    seen: usize,
    /// Whether the network still has it.
    is_whole: bool,
    /// Whether the broker still has it.
    is_open: bool,
    /// Whether the outbox was not taken whole.
    is_blocked: bool,
    /// The number of the message of its client's will.
    will_number: u64,
    version: ProtocolVersion,
}

/// Everything.
pub struct World {
    plan: Plan,
    broker: Broker,
    database: Database,
    /// The batch that the disk works on, and what the oracle knew when it was taken.
    under_way: Option<(Batch, Oracle)>,
    oracle: Oracle,
    /// What the oracle knew of what is on disk.
    durable: Oracle,
    ledger: RefCell<Ledger>,
    clients: Vec<Client>,
    sockets: Vec<Socket>,
    opened: u32,
    /// Milliseconds since the beginning.
    now: u64,
    /// When this broker began.
    started: u64,
    is_restricted: bool,
    /// How many bytes the broker and the clients have taken.
    moved: usize,
}

/// Files with rules, which all worlds share.
fn acl_file(rights: Rights) -> Option<&'static Path> {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("there is room for small files");
        for rights in [Rights::NotB, Rights::OnlyA] {
            let path = folder.path().join(format!("{rights:?}"));
            std::fs::write(path, rights.lines().expect("it has rules")).expect("written");
        }
        folder
    });
    let path = folder.path().join(format!("{rights:?}"));
    rights.lines().map(|_| &*Box::leak(path.into_boxed_path()))
}

fn config(plan: &Plan, rights: Rights) -> Config {
    let settings = &plan.settings;
    let mut text = format!(
        "listener 1883\nallow_anonymous true\nsys_interval 0\nmax_inflight_messages {}\n\
         allow_duplicate_messages {}\nqueue_qos0_messages {}\n",
        plan.inflight_max, settings.duplicates, settings.queues_qos_0
    );
    if let Some(max) = settings.queued_max {
        text += &format!("max_queued_messages {max}\n");
    } else {
        text += "max_queued_messages 0\n";
    }
    if let Some(millis) = settings.expiration {
        text += &format!("persistent_client_expiration {}s\n", millis / 1000);
    }
    if let Some(path) = acl_file(rights) {
        text += &format!("acl_file {}\n", path.display());
    }
    Config::from_text("simulation.conf", text).expect("a good configuration")
}

fn new_broker(plan: &Plan, rights: Rights) -> Broker {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let config = config(plan, rights);
    let auth = Auth::load(&config, Making::Forbidden).expect("good files");
    let mut broker = Broker::new(
        config,
        auth,
        Time::ZERO,
        Duration::ZERO,
        Box::new(move || random.u64(..)),
    );
    if let Some(places) = plan.look_up_piece {
        broker.set_pieces(places);
    }
    broker
}

impl World {
    pub fn new(plan: &Plan) -> World {
        let mut database = Database::open_in_memory().expect("SQLite is there");
        persistence::create(&mut database, &Batch::default()).expect("made");
        let oracle = Oracle::new(plan.settings);
        let clients = plan.clients.iter().enumerate().map(|(index, person)| {
            let version = match person.version {
                3 => ProtocolVersion::V31,
                4 => ProtocolVersion::V311,
                _ => ProtocolVersion::V5,
            };
            let mut client = Client::new(format!("c{index}"), version, person.is_lazy);
            if plan.inflight_max > 0 {
                client.receive_maximum = plan.inflight_max.into();
            }
            client
        });
        let mut world = World {
            broker: new_broker(plan, plan.settings.rights),
            database,
            under_way: None,
            durable: oracle.clone(),
            oracle,
            ledger: RefCell::default(),
            clients: clients.collect(),
            sockets: Vec::new(),
            opened: 0,
            now: 0,
            started: 0,
            is_restricted: false,
            moved: 0,

            plan: plan.clone(),
        };
        if plan.is_durable {
            let clocks = world.clocks();
            let counts =
                restore(&world.database, &mut world.broker, clocks).expect("an empty store");
            assert_eq!(counts.misfits, 0);
        }
        world
    }

    /// The broker's own time.
    fn time(&self) -> Time {
        Time::from_millis(self.now - self.started)
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            now: self.time(),
            unix_millis: BEGINNING + self.now,
        }
    }

    /// Runs a story to its end, and asks whether everybody got everything.
    pub fn run(plan: &Plan, steps: &[Step]) {
        let mut world = World::new(plan);
        for step in steps {
            world.step(step);
            world.broker.check_invariants();
        }
        world.end();
    }

    fn pick<T>(list: &[T], index: u8) -> usize {
        usize::from(index) % list.len()
    }

    fn step(&mut self, step: &Step) {
        if std::env::var_os("MIDGE_SIMULATION_TRACE").is_some() {
            eprintln!("{:>8} {step:?}", self.now);
        }
        match step {
            Step::Connect {
                client,
                clean,
                expiry_seconds,
                keep_alive,
                will,
            } => {
                let client = World::pick(&self.clients, *client);
                let mut will = will.map(|will| (self.message(&will.message), will.delay_seconds));
                if let Some((message, _)) = &mut will
                    && message.retain
                {
                    // Of two that come at the same moment, nobody can tell which is the last.
                    message.topic = format!("w/{client}");
                }
                let wish = Wish {
                    clean_start: *clean,
                    expiry_seconds: *expiry_seconds,
                    keep_alive: *keep_alive,
                    receive_maximum: None,
                    packet_bytes_max: None,
                    alias_maximum: 0,
                    will,
                };
                self.connect(client, wish);
            }
            Step::Publish(client, message) => {
                let client = World::pick(&self.clients, *client);
                if self.clients[client].has_room() {
                    let message = self.message(message);
                    self.clients[client].publish(message);
                    self.send(client);
                }
            }
            Step::Subscribe {
                client,
                filters,
                identifier,
            } => {
                let client = World::pick(&self.clients, *client);
                if self.clients[client].is_connected() {
                    let filters: Vec<_> = filters
                        .iter()
                        .map(|&(filter, byte)| subscription(filter, byte))
                        .collect();
                    self.clients[client].subscribe(&filters, *identifier);
                    self.send(client);
                }
            }
            Step::Unsubscribe { client, filter } => {
                let client = World::pick(&self.clients, *client);
                if self.clients[client].is_connected() {
                    self.clients[client].unsubscribe(FILTERS[World::pick(&FILTERS, *filter)]);
                    self.send(client);
                }
            }
            Step::Ping(client) => {
                let client = World::pick(&self.clients, *client);
                if self.clients[client].is_connected() {
                    self.clients[client].ping();
                    self.send(client);
                }
            }
            Step::Disconnect {
                client,
                with_will,
                expiry_seconds,
            } => {
                let client = World::pick(&self.clients, *client);
                if self.clients[client].is_connected() {
                    self.clients[client].disconnect(*with_will, *expiry_seconds);
                    self.send(client);
                    // It reads no more; what it sent is still on its way.
                    self.clients[client].disconnected();
                }
            }
            Step::Up(client, bytes, which) => {
                let client = World::pick(&self.clients, *client);
                self.up(client, usize::from(*bytes), *which);
            }
            Step::Down(client, bytes) => {
                let client = World::pick(&self.clients, *client);
                self.down(client, usize::from(*bytes));
            }
            Step::Ack(client) => {
                let client = World::pick(&self.clients, *client);
                self.ack(client);
            }
            Step::Lose { client, is_heard } => {
                let client = World::pick(&self.clients, *client);
                self.lose(client, *is_heard);
            }
            Step::Turn => self.turn(),
            Step::Commit => self.commit(),
            Step::Wait { millis } => self.wait(u64::from(*millis)),
            Step::Crash { millis, reaches } => self.crash(u64::from(*millis), *reaches),
            Step::Configure(rights) => {
                let rights = [Rights::All, Rights::NotB, Rights::OnlyA][usize::from(*rights % 3)];
                self.is_restricted = true;
                self.clients
                    .iter_mut()
                    .for_each(|it| it.is_restricted = true);
                self.oracle.reconfigure(rights);
                let config = config(&self.plan, rights);
                let auth = Auth::load(&config, Making::Forbidden).expect("good files");
                self.broker.reconfigure(config, auth, self.time());
                self.look();
            }
            Step::Flow => self.flow(),
        }
    }

    fn person(&self, client: usize) -> Person {
        self.plan.clients[client]
    }

    fn message(&mut self, step: &MessageStep) -> Message {
        let mut payload = Vec::new();
        let mut number = 0;
        // What has no payload clears a topic; otherwise it is like any other, which could not be told from it.
        if step.bytes > 0 || !step.retain {
            number = self.ledger.get_mut().number();
            payload = format!("{number} ").into_bytes();
            payload.resize(payload.len().max(step.bytes.into()), b'.');
        }
        Message {
            topic: TOPICS[World::pick(&TOPICS, step.topic)].to_owned(),
            payload,
            qos: QoS::from_bits(step.qos).expect("below 3"),
            retain: step.retain,
            expiry_seconds: step.expiry_seconds,
            number,
            wants_alias: step.wants_alias,
        }
    }

    fn connect(&mut self, client: usize, wish: Wish) {
        let person = self.person(client);
        let wish = Wish {
            receive_maximum: person.receive_maximum,
            packet_bytes_max: person.packet_bytes_max,
            alias_maximum: person.alias_maximum,
            ..wish
        };
        let key = ConnectionKey {
            index: self.opened,
            generation: self.opened,
        };
        self.opened += 1;
        let address = PeerAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
        self.broker.attach(
            key,
            Peer {
                address,
                listener: 0,
            },
            self.time(),
        );
        self.sockets.push(Socket {
            key,
            client,
            up: Vec::new(),
            arrived: Vec::new(),
            down: Vec::new(),
            room: person.room,
            seen: 0,
            is_whole: true,
            is_open: true,
            is_blocked: false,
            will_number: wish.will.as_ref().map_or(0, |(message, _)| message.number),
            version: self.clients[client].version,
        });
        let limit = self.plan.settings.expiration;
        self.clients[client].connect(key.index, &wish, self.now, limit);
        self.send(client);
    }

    /// Sockets are kept in the order in which they were opened.
    fn index_of(&self, key: ConnectionKey) -> Option<usize> {
        self.sockets
            .binary_search_by_key(&key.index, |it| it.key.index)
            .ok()
    }

    fn socket_of(&self, client: usize) -> Option<usize> {
        let connection = self.clients[client].connection?;
        self.sockets
            .iter()
            .position(|it| it.key.index == connection)
    }

    /// A client's bytes go on their way.
    fn send(&mut self, client: usize) {
        let out = std::mem::take(&mut self.clients[client].out);
        if let Some(socket) = self.socket_of(client)
            && self.sockets[socket].is_whole
        {
            self.sockets[socket].up.extend_from_slice(&out);
        }
    }

    fn ack(&mut self, client: usize) {
        let it = &mut self.clients[client];
        it.out.append(&mut it.acks);
        self.send(client);
    }

    /// Bytes of a client reach the broker.
    fn up(&mut self, client: usize, bytes: usize, which: Which) {
        let has_some = |it: &Socket| it.client == client && it.is_open && !it.up.is_empty();
        let found = match which {
            Which::Oldest => self.sockets.iter().position(has_some),
            Which::Newest => self.sockets.iter().rposition(has_some),
        };
        let Some(socket) = found else {
            return;
        };
        let it = &mut self.sockets[socket];
        let count = bytes.min(it.up.len());
        it.arrived.extend(it.up.drain(..count));
        self.serve(socket);
    }

    /// The broker handles the packets that have arrived.
    fn serve(&mut self, socket: usize) {
        let key = self.sockets[socket].key;
        let arrived = std::mem::take(&mut self.sockets[socket].arrived);
        let mut rest = &arrived[..];
        while !rest.is_empty() && !self.broker.is_congested(key) {
            let Some(limits) = self.broker.limits(key) else {
                break;
            };
            let decoded = decode(rest, limits).expect("simulated clients send packets");
            let Some((packet, length)) = decoded else {
                break;
            };
            rest = &rest[length..];
            self.moved += length;
            self.tell_oracle(socket, &packet);
            self.broker.handle(key, packet, self.time());
            self.look();
        }
        self.sockets[socket].arrived = rest.to_vec();
    }

    fn tell_oracle(&mut self, socket: usize, packet: &Packet<'_>) {
        let it = &self.sockets[socket];
        let connection = it.key.index;
        let (ledger, now) = (&self.ledger, self.now);
        let client = &self.clients[it.client].name;
        let mut tell = |message: &_, routed: &_| ledger.borrow_mut().routed(message, routed);
        if let Packet::Connect(_) = packet {
            let about = Connecting {
                connection,
                client,
                will_number: it.will_number,
            };
            return self.oracle.connect(&about, packet, now, &mut tell);
        }
        let number = match packet {
            Packet::Publish(publish) => number_of(publish.payload),
            _ => 0,
        };
        let sockets = &self.sockets;
        let is_slow = |connection: u32| {
            let socket = sockets.iter().find(|it| it.key.index == connection);
            socket.is_none_or(|it| it.is_blocked || it.seen == 0)
        };
        self.oracle
            .packet(connection, packet, number, &is_slow, now, &mut tell);
    }

    /// Shows the oracle what the broker put out since the last look, and takes note of what it closed.
    fn look(&mut self) {
        let mut dirty = Vec::new();
        self.broker.take_dirty(&mut dirty);
        while let Some(connection) = self.broker.take_urgent() {
            dirty.push(connection);
        }
        // Who was cut off has a will, and others may have it already.
        let mut farewells = Vec::new();
        while let Some(farewell) = self.broker.take_closing() {
            farewells.push(farewell);
        }
        let ledger = &self.ledger;
        let mut tell = |message: &_, routed: &_| ledger.borrow_mut().routed(message, routed);
        for farewell in &farewells {
            self.oracle
                .closed_by_broker(farewell.connection.index, self.now, &mut tell);
        }
        self.oracle.tick(self.now, &mut tell);
        // Here nothing is taken: `flush` does, of all that was seen.
        for key in dirty {
            let Some(index) = self
                .index_of(key)
                .filter(|&index| self.sockets[index].is_open)
            else {
                continue;
            };
            if let Some(outbox) = self.broker.outbox(key) {
                let new = bytes_of(outbox)[self.sockets[index].seen..].to_vec();
                self.sockets[index].seen += new.len();
                self.show(index, &new);
            }
        }
        for mut farewell in farewells {
            let index = self.index_of(farewell.connection).expect("it was attached");
            let all = bytes_of(&farewell.outbox);
            let it = &mut self.sockets[index];
            assert!(it.is_open, "it is closed once");
            it.is_open = false;
            let new = all[it.seen.min(all.len())..].to_vec();
            self.show(index, &new);
            let it = &mut self.sockets[index];
            if it.is_whole {
                let room = it.room.saturating_sub(it.down.len());
                it.down.extend(all.iter().take(room.max(it.seen)));
            }
            farewell.outbox.clear(self.broker.buffers());
        }
    }

    fn show(&mut self, socket: usize, bytes: &[u8]) {
        let (version, connection) = (self.sockets[socket].version, self.sockets[socket].key.index);
        let limits = Limits {
            version: Some(version),
            packet_bytes_max: u32::MAX,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let decoded = decode(rest, limits).expect("the broker sends packets");
            let (packet, length) = decoded.expect("whole ones");
            if let (Packet::Publish(publish), None) = (&packet, self.oracle.client_of(connection)) {
                let name = &self.clients[self.sockets[socket].client].name;
                self.ledger.get_mut().may_reach(name, publish);
            }
            self.oracle.emitted(connection, &packet, length, self.now);
            rest = &rest[length..];
        }
    }

    /// The sockets take what they have room for.
    fn flush(&mut self) {
        for index in 0..self.sockets.len() {
            let (key, is_open) = (self.sockets[index].key, self.sockets[index].is_open);
            if self.sockets[index].seen == 0 {
                continue;
            }
            let now = self.time();
            let Some(outbox) = self.broker.outbox(key).filter(|_| is_open) else {
                continue;
            };
            let it = &mut self.sockets[index];
            let room = match it.is_whole {
                true => it.room.saturating_sub(it.down.len()),
                false => it.room / 2,
            };
            let sent = room.min(outbox.len());
            if it.is_whole {
                it.down.extend_from_slice(&bytes_of(outbox)[..sent]);
            }
            outbox.blocked = sent < outbox.len();
            it.is_blocked = outbox.blocked;
            outbox.advance(sent);
            it.seen -= sent.min(it.seen);
            self.broker.flushed(key, sent, now);
            self.look();
        }
    }

    fn turn(&mut self) {
        self.broker.go_on(self.time());
        self.look();
        if self.plan.is_durable && self.under_way.is_none() {
            let clocks = self.clocks();
            if let Some(batch) = self.broker.take_batch(clocks) {
                self.under_way = Some((batch, self.oracle.clone()));
            }
        }
        self.flush();
    }

    fn commit(&mut self) {
        let Some((batch, oracle)) = self.under_way.take() else {
            return;
        };
        persistence::write(&mut self.database, &batch).expect("a batch can be written");
        self.durable = oracle;
        self.broker.committed(self.time());
        self.look();
    }

    /// Bytes of the broker reach a client.
    fn down(&mut self, client: usize, bytes: usize) {
        let Some(socket) = self.socket_of(client) else {
            return;
        };
        let it = &mut self.sockets[socket];
        let count = bytes.min(it.down.len());
        let taken: Vec<u8> = it.down.drain(..count).collect();
        self.moved += count;
        let is_over = it.down.is_empty() && !it.is_open;
        // What comes late says nothing of how long its session lasts.
        let now = it.is_open.then_some(self.now);
        self.clients[client].receive(&taken, self.ledger.get_mut(), now);
        self.send(client);
        if is_over {
            self.clients[client].disconnected();
        }
    }

    fn lose(&mut self, client: usize, is_heard: bool) {
        if let Some(socket) = self.socket_of(client) {
            let it = &mut self.sockets[socket];
            (it.is_whole, it.room) = (false, it.room.min(4096));
            it.up.clear();
            it.down.clear();
            self.clients[client].disconnected();
        }
        if !is_heard {
            return;
        }
        let is_broken = |it: &Socket| it.client == client && it.is_open && !it.is_whole;
        while let Some(socket) = self.sockets.iter().position(is_broken) {
            self.hear_of_loss(socket);
        }
    }

    fn hear_of_loss(&mut self, socket: usize) {
        let key = self.sockets[socket].key;
        let ledger = &self.ledger;
        let mut tell = |message: &_, routed: &_| ledger.borrow_mut().routed(message, routed);
        self.oracle.lost(key.index, self.now, &mut tell);
        self.broker.detach(key, Ending::ClosedByClient, self.time());
        self.look();
    }

    /// Time passes, with a tick at each deadline.
    fn wait(&mut self, millis: u64) {
        let end = self.now + millis;
        loop {
            let due = self
                .broker
                .next_deadline()
                .map(|due| self.started + due.as_millis());
            let at = due.map_or(end, |due| due.max(self.now)).min(end);
            self.now = at;
            self.broker.tick(self.time());
            self.look();
            if due.is_none_or(|due| due > end) {
                break;
            }
        }
        for socket in self.sockets.iter().filter(|it| it.is_open) {
            let key = socket.key;
            let is_overdue = self.oracle.is_overdue(key.index, self.now);
            assert!(
                !is_overdue || self.broker.is_congested(key) || socket.is_blocked,
                "a silent client was not cut off"
            );
        }
    }

    /// The broker is gone, and another one begins with what is on disk.
    fn crash(&mut self, millis: u64, reaches: bool) {
        for client in 0..self.clients.len() {
            if reaches {
                self.down(client, usize::MAX);
            }
        }
        self.check_promises();
        self.clients.iter_mut().for_each(Client::disconnected);
        self.ledger.get_mut().crashed(self.durable.serial());
        self.sockets.clear();
        self.under_way = None;
        self.now += millis;
        self.started = self.now;
        let rights = self.oracle.settings.rights;
        let former = std::mem::replace(&mut self.oracle, self.durable.clone());
        self.oracle.continue_from(&former);
        self.oracle.settings.rights = rights;
        self.broker = new_broker(&self.plan, rights);
        if self.plan.is_durable {
            let clocks = self.clocks();
            let counts =
                restore(&self.database, &mut self.broker, clocks).expect("what was written");
            assert_eq!(counts.misfits, 0, "{counts:?}");
        }
        self.oracle.restart(self.now);
        self.oracle.reconfigure(rights);
        self.broker.check_invariants();
        self.wait(0);
    }

    /// What clients were told is on disk: sessions, subscriptions, retained messages.
    fn check_promises(&self) {
        if !self.plan.is_durable {
            return;
        }
        for client in self
            .clients
            .iter()
            .filter(|it| it.is_connected() && it.lasts)
        {
            let Some(live) = self
                .oracle
                .sessions
                .get(&client.name)
                .filter(|it| it.lasts())
            else {
                continue;
            };
            let stored = self.durable.sessions.get(&client.name);
            let is_same = stored.is_some_and(|it| it.serial == live.serial);
            let connection = client.connection.expect("connected");
            if self.oracle.client_of(connection).is_none() {
                continue;
            }
            assert!(
                is_same,
                "{} has CONNACK of a session that is not stored",
                client.name
            );
            if self.is_restricted {
                continue;
            }
            let stored: BTreeSet<_> = self.durable.filters_of(&client.name).into_iter().collect();
            for (filter, options) in &client.confirmed {
                let it = (filter.clone(), *options);
                assert!(
                    client.is_unsure_of(filter) || stored.contains(&it),
                    "{} has SUBACK for {it:?}, which is not stored: {stored:?}",
                    client.name
                );
            }
        }
        for (topic, serial) in &self.ledger.borrow().retained {
            let stored = self.durable.retained_at.get(topic);
            assert!(
                stored >= Some(serial),
                "what is retained on {topic} was acknowledged and is not stored"
            );
        }
    }

    /// Everything flows until nothing is left to flow. Who lost a connection learns of it.
    fn flow(&mut self) {
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 20_000, "it never comes to rest");
            let before = self.measure();
            self.turn();
            self.commit();
            for client in 0..self.clients.len() {
                self.ack(client);
                self.down(client, usize::MAX);
                self.ack(client);
            }
            for socket in 0..self.sockets.len() {
                if self.sockets[socket].is_open {
                    let up = std::mem::take(&mut self.sockets[socket].up);
                    self.sockets[socket].arrived.extend(up);
                    self.serve(socket);
                }
            }
            let is_quiet = self.measure() == before && self.under_way.is_none();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == 3 {
                break;
            }
        }
        let connections = self.clients.iter().filter_map(|it| it.connection).collect();
        self.oracle.at_rest(&connections);
        self.sockets.retain(|it| it.is_open || !it.down.is_empty());
    }

    /// What changes as long as something flows.
    fn measure(&self) -> (usize, usize, bool) {
        let seen = self.sockets.iter().map(|it| it.seen).sum();
        (self.moved, seen, self.broker.has_changes())
    }

    /// The end of the story: every client whose session lasts comes back and reads everything; then nothing may be missing.
    fn end(&mut self) {
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].is_open {
                self.sockets[socket].is_whole = false;
                self.hear_of_loss(socket);
            }
        }
        self.clients.iter_mut().for_each(Client::disconnected);
        self.sockets.clear();
        let lasting = self.oracle.lasting();
        for index in 0..self.clients.len() {
            if lasting.contains(&self.clients[index].name) {
                self.plan.clients[index].room = 1 << 20;
                let wish = Wish {
                    clean_start: false,
                    expiry_seconds: u32::MAX,
                    keep_alive: 0,
                    receive_maximum: None,
                    packet_bytes_max: None,
                    alias_maximum: 0,
                    will: None,
                };
                self.connect(index, wish);
            }
        }
        self.flow();
        self.broker.check_invariants();
        self.oracle.check_all_is_there();
        if !self.is_restricted {
            self.ledger.borrow().check(&self.oracle, self.now);
        }
        self.check_retained();
    }

    /// Somebody new gets exactly what is retained.
    fn check_retained(&mut self) {
        let newcomer = self.clients.len();
        self.clients.push(Client::new(
            "newcomer".to_owned(),
            ProtocolVersion::V5,
            false,
        ));
        self.plan.clients.push(Person {
            version: 5,
            is_lazy: false,
            receive_maximum: None,
            packet_bytes_max: None,
            alias_maximum: 0,
            room: 1 << 20,
        });
        let wish = Wish {
            clean_start: true,
            expiry_seconds: 0,
            keep_alive: 0,
            receive_maximum: None,
            packet_bytes_max: None,
            alias_maximum: 0,
            will: None,
        };
        self.connect(newcomer, wish);
        self.flow();
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        self.clients[newcomer].subscribe(&[("#".to_owned(), options)], 0);
        self.send(newcomer);
        let retained = self.oracle.retained();
        self.flow();
        let ledger = self.ledger.borrow();
        for (topic, payload) in retained {
            let number = number_of(&payload);
            assert!(
                ledger.has("newcomer", number),
                "nobody new gets message {number}, retained on {topic}"
            );
        }
        drop(ledger);
        self.oracle.check_all_is_there();
    }
}

fn subscription(filter: u8, byte: u8) -> (String, SubscriptionOptions) {
    let filter = FILTERS[World::pick(&FILTERS, filter)];
    let mut options = byte & 0b0011_1111;
    if filter.starts_with("$share") {
        options &= !0b100;
    }
    if options & 0b11 == 0b11 {
        options &= !0b1;
    }
    if options & 0b11_0000 == 0b11_0000 {
        options &= !0b10_0000;
    }
    (
        filter.to_owned(),
        SubscriptionOptions::from_byte(options).expect("no reserved bits"),
    )
}

fn bytes_of(outbox: &Outbox) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let count = outbox.slices(&mut slices);
    let bytes: Vec<u8> = slices[..count]
        .iter()
        .flat_map(|it| it.iter().copied())
        .collect();
    assert_eq!(
        bytes.len(),
        outbox.len(),
        "that many slices are enough here"
    );
    bytes
}
