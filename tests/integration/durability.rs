//! What was acknowledged is on the disk: the broker is killed, its power is cut, its disk is full, broken and slow.
//!
//! The load is random; its seed is printed. `MIDGE_CRASH_ROUNDS` says how many rounds are played, a few by default, and
//! `MIDGE_CRASH_SEED` repeats the seed of a failure, though not the moments at which threads ran.

mod clients;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::process::Signal;

use super::disk::{Disk, Event, Log, Random};
use super::harness::*;
use clients::{Counts, Publisher, Subscriber, Visit, Witness, retained};

/// What makes a broker durable; the rest keeps the load from dropping messages, the directory its own where the tests
/// run as root, and the log short.
const DURABLE: [&str; 7] = [
    "user root",
    "persistence true",
    "persistence_location {dir}/data/",
    "max_queued_messages 0",
    "log_type error",
    "log_type warning",
    "log_type notice",
];

/// How many rounds are played where nobody asked for more.
const ROUNDS: u64 = 4;

/// How long a turn of the load goes on, at most.
const TURN: Duration = Duration::from_millis(250);

/// A directory of brokers that come and go, its disk, and the clients.
struct Scene {
    dir: PathBuf,
    random: Random,
    disk: Arc<Disk>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    witness: Witness,
}

impl Scene {
    fn new() -> Scene {
        let seed = seed();
        println!("MIDGE_CRASH_SEED={seed}");
        let dir = new_dir();
        let disk = Arc::new(Disk::new(&dir.join("data")));
        let mut random = Random::new(seed);
        let mut publisher = |id, version| Publisher::new(id, version, random.next());
        let publishers = [
            publisher("p0", Version::V5),
            publisher("p1", Version::V311),
            publisher("p2", Version::V5),
        ];
        let mut subscriber = |id, version| Subscriber::new(id, version, random.next());
        let subscribers = [
            subscriber("s0", Version::V311),
            subscriber("s1", Version::V5),
            subscriber("s2", Version::V5),
        ];
        Scene {
            dir,
            disk,
            publishers: publishers.to_vec(),
            subscribers: subscribers.to_vec(),
            witness: Witness::default(),
            random,
        }
    }

    /// A broker with the file layer below it.
    fn start(&self) -> Broker {
        Broker::start_in(&self.dir, &DURABLE, &self.disk.environment())
    }

    /// A broker with a disk of this machine, which it is not slowed down on by a log.
    fn start_without_layer(&self) -> Broker {
        Broker::start_in(&self.dir, &DURABLE, &[])
    }

    /// Every subscriber subscribes, once for its whole life; the broker is killed as soon as the last one is confirmed.
    fn subscribe(&mut self, broker: Broker) {
        for subscriber in &mut self.subscribers {
            subscriber.subscribe(broker.address());
        }
        broker.stop_by(Signal::KILL);
    }

    /// So much in the database's log that it is soon moved into the database, as it is at every thousand pages.
    fn fill(&self, broker: &Broker) {
        let mut client = broker.connect_v5("filler");
        for number in 0..35 {
            let topic = format!("filler/{number}");
            let mut page = publish(&topic, vec![b'f'; 100_000]).qos(1).packet_id(1);
            page.retain = true;
            client.publish(&page);
        }
    }

    /// Publishers and some subscribers at work, until the broker is ended by `signal` at a random moment.
    fn work_until(&mut self, broker: Broker, signal: Signal) {
        let turn = part_of(TURN, &mut self.random);
        self.work(broker.address(), TURN, || {
            thread::sleep(turn);
            broker.stop_by(signal);
        });
    }

    /// Publishers and some subscribers at work for a turn or until the broker ends, with connections that break;
    /// meanwhile `play` is played.
    fn work(&mut self, address: SocketAddr, turn: Duration, play: impl FnOnce()) {
        let end = Instant::now() + turn;
        let random = &mut self.random;
        // It is there before anything is sent again.
        let mut eyes = self.witness.subscribe(address);
        thread::scope(|scope| {
            let witness = &mut self.witness;
            scope.spawn(move || witness.run(&mut eyes, end));
            for publisher in &mut self.publishers {
                let mut random = Random::new(random.next());
                scope.spawn(move || {
                    while Instant::now() < end {
                        let leaves = end.min(Instant::now() + part_of(turn, &mut random));
                        publisher.run(address, usize::MAX, Some(leaves));
                    }
                });
            }
            for subscriber in &mut self.subscribers {
                // Others stay away, so that their messages queue up.
                if random.below(3) > 0 {
                    let mut random = Random::new(random.next());
                    scope.spawn(move || {
                        while Instant::now() < end {
                            let leaves = end.min(Instant::now() + part_of(turn, &mut random));
                            subscriber.run(address, None, Some(leaves));
                        }
                    });
                }
            }
            play();
        });
    }

    /// What was published so far is completed, and arrives.
    fn complete(&mut self, broker: &Broker) {
        let address = broker.address();
        for publisher in &mut self.publishers {
            let sent = publisher.sent();
            assert!(publisher.run(address, sent, None), "the broker ended");
        }
        let goal: Counts = self.publishers.iter().flat_map(Publisher::counts).collect();
        for subscriber in &mut self.subscribers {
            assert!(
                subscriber.run(address, Some(&goal), None),
                "the broker ended"
            );
        }
        self.assert_retained(broker);
    }

    /// Cuts the power at moments after record `first` of the past, and lets everybody go on from there.
    fn cut_the_power(&mut self, first: usize) {
        let log = self.disk.log();
        for _ in 0..rounds() * 3 {
            let (cut_at, seed) = (place(&log, first, &mut self.random), self.random.next());
            let dir = new_dir();
            let whole = log.records().len();
            println!("cut at {cut_at} of {whole}, seed {seed}: {}", dir.display());
            log.power_cut(cut_at, seed, &dir.join("data"));
            let sent_to = |visit: &Visit| log.sent(visit.port, &visit.during, cut_at);
            let publishers = self.publishers.iter().map(|p| p.rewound(sent_to));
            let subscribers = self.subscribers.iter().map(|s| s.rewound(sent_to));
            let mut then = Scene {
                publishers: publishers.collect(),
                subscribers: subscribers.collect(),
                witness: Witness::default(),
                random: self.random.clone(),
                disk: Arc::new(Disk::new(&dir.join("data"))),
                dir,
            };
            let broker = then.start();
            then.assert_retained(&broker);
            then.complete(&broker);
            assert_eq!(broker.count_log("damaged"), 0, "{}", broker.log_text());
            assert!(broker.stop().success());
        }
    }

    fn assert_retained(&self, broker: &Broker) {
        let found = retained(broker);
        for publisher in &self.publishers {
            publisher.assert_retained(&found);
        }
    }

    /// How many messages there were, for who reads along.
    fn tell(&self, what: &str) {
        let sent: usize = self.publishers.iter().map(Publisher::sent).sum();
        let repeated: Vec<_> = self.subscribers.iter().map(|s| s.repeated).collect();
        let seen = self.witness.seen();
        println!(
            "{what}: {sent} messages were published, {repeated:?} came again, {seen} came to the witness"
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // What a failure leaves is worth a look.
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn part_of(time: Duration, random: &mut Random) -> Duration {
    time.mul_f64(random.below(1000) as f64 / 1000.0)
}

fn rounds() -> u64 {
    number("MIDGE_CRASH_ROUNDS").unwrap_or(ROUNDS)
}

fn seed() -> u64 {
    number("MIDGE_CRASH_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("it is after 1970").as_nanos() as u64
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}: {text:?}, expected a number")))
}

/// The clients themselves, with a broker that stays: what they demand can be had.
#[test]
fn connections_that_break_lose_nothing() {
    let mut scene = Scene::new();
    let broker = Broker::start(&DURABLE[3..]);
    for subscriber in &mut scene.subscribers {
        subscriber.subscribe(broker.address());
    }
    for _ in 0..rounds() {
        scene.work(broker.address(), TURN, || {});
        scene.assert_retained(&broker);
    }
    scene.complete(&broker);
    scene.tell("broken connections");
}

/// The broker is killed at random moments, and once asked to end; nothing that it acknowledged is lost, nothing of QoS
/// 2 comes twice, order is kept, and what is retained is what was acknowledged last, or newer.
#[test]
fn nothing_acknowledged_is_lost_by_sigkill() {
    let mut scene = Scene::new();
    scene.subscribe(scene.start_without_layer());
    for round in 0..rounds() {
        let broker = scene.start_without_layer();
        scene.assert_retained(&broker);
        let asked = round % 8 == 3;
        scene.work_until(broker, if asked { Signal::TERM } else { Signal::KILL });
    }
    let broker = scene.start_without_layer();
    scene.complete(&broker);
    assert!(broker.stop().success());
    scene.tell("SIGKILL");
    // Nothing that all have comes again.
    let broker = scene.start_without_layer();
    let before: Vec<_> = scene.subscribers.iter().map(|s| s.repeated).collect();
    scene.complete(&broker);
    let after: Vec<_> = scene.subscribers.iter().map(|s| s.repeated).collect();
    assert_eq!(before, after);
    assert!(broker.stop().success());
}

/// The same on a slow disk, where there is always something that was sent and not yet stored.
#[test]
fn nothing_acknowledged_is_lost_by_sigkill_on_a_slow_disk() {
    let mut scene = Scene::new();
    scene.subscribe(scene.start());
    for _ in 0..rounds() {
        let delay = Duration::from_millis(1 + scene.random.below(20));
        scene.disk.slow(delay);
        let broker = scene.start();
        scene.work_until(broker, Signal::KILL);
        scene.disk.heal();
        let broker = scene.start();
        scene.assert_retained(&broker);
        broker.stop_by(Signal::KILL);
    }
    let broker = scene.start();
    scene.complete(&broker);
    scene.tell("SIGKILL on a slow disk");
    assert!(broker.stop().success());
    scene.disk.assert_explained();
}

/// The same where the power fails, at any moment of a life that also had crashes.
#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let mut scene = Scene::new();
    scene.subscribe(scene.start());
    let first = scene.disk.log().records().len();
    for life in 0..2 {
        let broker = scene.start();
        if life == 0 {
            scene.fill(&broker);
        }
        scene.work_until(broker, Signal::KILL);
    }
    scene.tell("power cuts");
    scene.cut_the_power(first);
}

/// A power cut while the database is made leaves one that a broker can use, or none.
#[test]
fn a_power_cut_at_the_first_start_leaves_no_damage() {
    let mut scene = Scene::new();
    scene.subscribe(scene.start());
    let log = scene.disk.log();
    let records = log.records().iter();
    let changes = records.enumerate().filter(|(_, record)| {
        matches!(
            record.event,
            Event::Written { .. } | Event::Synced { .. } | Event::Unlinked { .. }
        )
    });
    let changes: Vec<_> = changes.map(|(number, _)| number + 1).collect();
    for _ in 0..rounds() * 3 {
        let cut_at = changes[scene.random.below(changes.len() as u64) as usize];
        let seed = scene.random.next();
        println!("cut at {cut_at}, seed {seed}");
        let dir = new_dir();
        log.power_cut(cut_at, seed, &dir.join("data"));
        let broker = Broker::start_in(&dir, &DURABLE, &[]);
        assert_eq!(broker.count_log("damaged"), 0, "{}", broker.log_text());
        assert!(broker.stop().success());
        fs::remove_dir_all(dir).expect("it is ours");
    }
}

/// What was ended, removed or replaced, and confirmed, does not come back.
#[test]
fn what_was_ended_stays_ended() {
    let scene = Scene::new();
    let broker = scene.start_without_layer();
    for version in [Version::V311, Version::V5] {
        let id = |what: &str| format!("{what}-{version:?}");
        let mut changed = broker.connect_with(version, connect(&id("changed")).persistent());
        changed.subscribe("gone", 1);
        changed.subscribe("less", 2);
        changed.subscribe("less", 0);
        changed.send(unsubscribe(2, &["gone"]));
        changed.expect(unsuback(2, &[0]));
        broker
            .connect_with(version, connect(&id("ended")).persistent())
            .leave();
        broker.connect_with(version, connect(&id("ended"))).leave();
    }
    let mut sender = broker.connect_v5("sender");
    let mut last = publish("state/0", "sender/1/1/").qos(1).packet_id(1);
    last.retain = true;
    sender.publish(&last);
    last.payload.clear();
    sender.publish(&last);
    broker.stop_by(Signal::KILL);
    let broker = scene.start_without_layer();
    assert!(retained(&broker).is_empty());
    for version in [Version::V311, Version::V5] {
        let id = |what: &str| format!("{what}-{version:?}");
        let ended = broker.connect_with(version, connect(&id("ended")).persistent());
        assert!(!ended.connack.session_present, "{version:?}");
        let mut changed = broker.connect_with(version, connect(&id("changed")).persistent());
        assert!(changed.connack.session_present, "{version:?}");
        let mut sender = broker.connect_v5("sender");
        sender.publish(&publish("gone", "no").qos(1).packet_id(1));
        sender.publish(&publish("less", "yes").qos(2).packet_id(2));
        changed.expect(publish("less", "yes"));
        changed.fence();
    }
    assert!(broker.stop().success());
}

/// The same with a disk on which writes and syncs fail now and then. What a failed sync was to save may be lost
/// although the next one ends well: nothing must be built on it.
#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_of_a_failing_disk() {
    let mut scene = Scene::new();
    scene.subscribe(scene.start());
    let first = scene.disk.log().records().len();
    let broker = scene.start();
    scene.fill(&broker);
    let mut random = scene.random.clone();
    // Long enough for the broker to try again, which it does after a second.
    let turn = Duration::from_millis(3500);
    let disk = Arc::clone(&scene.disk);
    scene.work(broker.address(), turn, || {
        let end = Instant::now() + turn;
        while Instant::now() < end {
            thread::sleep(part_of(TURN, &mut random));
            let times = 1 + random.below(3);
            match random.below(5) {
                0 | 1 => disk.failing_syncs(Errno::IO, times),
                2 => disk.failing_writes(Errno::IO, times),
                3 => disk.room(random.below(50_000)),
                _ => disk.short_writes(),
            }
            thread::sleep(part_of(TURN, &mut random));
            disk.heal();
        }
        broker.stop_by(Signal::KILL);
    });
    scene.tell("power cuts of a failing disk");
    scene.cut_the_power(first);
}

/// Somewhere behind `first`; every other time where something has just been sent, which is when promises are made.
fn place(log: &Log, first: usize, random: &mut Random) -> usize {
    let span = (log.records().len() - first) as u64;
    let somewhere = first + random.below(span + 1) as usize;
    if random.below(2) == 0 {
        return somewhere;
    }
    let is_sent = |record: &super::disk::Record| matches!(record.event, Event::Sent { .. });
    let next = log.records()[somewhere..].iter().position(is_sent);
    next.map_or(somewhere, |next| somewhere + next + 1)
}

/// A full disk loses nothing: nothing is acknowledged while there is no room, and everything once there is.
#[test]
fn a_full_disk_acknowledges_nothing_until_it_has_room() {
    a_disk_that_fails_for_a_while(Disk::full);
}

/// So does one that fails.
#[test]
fn a_broken_disk_acknowledges_nothing_until_it_works() {
    a_disk_that_fails_for_a_while(Disk::broken);
}

fn a_disk_that_fails_for_a_while(fail: fn(&Disk)) {
    let mut scene = Scene::new();
    scene.subscribe(scene.start());
    let broker = scene.start();
    let address = broker.address();
    for publisher in &mut scene.publishers {
        assert!(publisher.run(address, 20, None), "the broker ended");
    }
    fail(&scene.disk);
    // Nobody is there to receive it, so it must be stored.
    let mut client = broker.open(Version::V5);
    client.send(connect("one").clean(true));
    let mut one = publish("state/one", "one/1/1/").qos(1).packet_id(7);
    one.retain = true;
    client.send(&one);
    let start = Instant::now();
    let mut packets = Vec::new();
    while start.elapsed() < Duration::from_millis(700) {
        packets.extend(client.poll(Duration::from_millis(50)).unwrap_or_default());
    }
    let is_puback = |packet: &Vec<u8>| packet[0] == 0x40 && packet.get(4).is_none_or(|r| *r < 0x80);
    assert!(
        !packets.iter().any(is_puback),
        "acknowledged, but not stored"
    );
    let refused = scene.disk.log();
    let refused = refused.records().iter();
    let refused = refused.filter(|record| {
        matches!(
            record.event,
            Event::Refused { .. } | Event::SyncFailed { .. }
        )
    });
    assert!(refused.count() > 0, "the disk was never asked");
    // Others are served all the while.
    let mut other = broker.open(Version::V311);
    other.send(connect("other"));
    other.expect_connack();
    other.fence();
    scene.disk.heal();
    client.expect(puback(7).reason(0x10));
    scene.work_until(broker, Signal::KILL);
    let broker = scene.start();
    scene.complete(&broker);
    scene.tell("a disk that failed");
    assert!(broker.stop().success());
    scene.disk.assert_explained();
}

/// A disk that takes the log of the database but not the database itself, such as one with places that wore out: the log
/// grows, which is told once, and nothing is lost; it is told as well when that is over.
#[test]
fn a_log_that_grows_without_end_is_told() {
    let scene = Scene::new();
    let broker = scene.start();
    let database = scene.disk.dir().join("mosquitto.midge");
    let mut client = broker.connect(Version::V5, "one");
    let payload = vec![b'x'; 200_000];
    let store = |client: &mut Raw, from: u32, to: u32| {
        for number in from..to {
            let message = publish(&format!("kept/{number}"), &payload).qos(1);
            client.publish(&message.packet_id(1).retain());
        }
    };
    store(&mut client, 0, 5);
    scene.disk.broken_below(&database);
    store(&mut client, 5, 120);
    broker.wait_for_log("gets no further than its log: the disk reports an error.");
    scene.disk.heal();
    store(&mut client, 120, 122);
    broker.wait_for_log("its log does not grow any more.");
    assert_eq!(broker.count_log("gets no further"), 1, "told once");
    scene.disk.broken_below(&database);
    store(&mut client, 122, 125);
    drop(client);
    assert!(broker.stop().success());
    scene.disk.heal();
    let broker = scene.start();
    let mut client = broker.connect(Version::V5, "two");
    client.subscribe("kept/#", 0);
    let mut found = 0;
    while found < 125 {
        found += usize::from(client.receive_any().payload == payload);
    }
    assert!(broker.stop().success());
}

/// So does one that became read-only.
#[test]
fn a_read_only_disk_acknowledges_nothing_until_it_can_be_written() {
    a_disk_that_fails_for_a_while(Disk::read_only);
}

/// With a disk that takes a second for a sync, QoS 0 traffic and PINGREQ go on, and PUBACK comes only after.
#[test]
fn a_slow_disk_delays_only_what_waits_for_it() {
    const SYNC: Duration = Duration::from_millis(1000);
    const UNDISTURBED: Duration = Duration::from_millis(400);
    let scene = Scene::new();
    let broker = scene.start();
    let mut sleeper = broker.connect_with(Version::V311, connect("sleeper").persistent());
    sleeper.subscribe("a", 1);
    sleeper.leave();
    let mut sender = broker.connect_v5("sender");
    let mut other = broker.subscriber(Version::V311, "other", "b", 0);
    scene.disk.slow(SYNC);
    let start = Instant::now();
    sender.send(publish("a", "durable").qos(1).packet_id(1));
    while start.elapsed() < SYNC / 2 {
        let asked = Instant::now();
        other.fence();
        other.send(publish("b", "at once"));
        other.expect(publish("b", "at once"));
        let taken = asked.elapsed();
        assert!(taken < UNDISTURBED, "the disk held others up: {taken:?}");
    }
    sender.expect(puback(1));
    let taken = start.elapsed();
    assert!(taken >= SYNC, "acknowledged after {taken:?}");
    scene.disk.heal();
    let status = broker.stop();
    assert!(status.success());
    let _ = fs::remove_dir_all(&scene.dir);
}

/// Every packet that confirms something waits for the disk, also where the one before on this exchange did already.
#[test]
fn every_confirmation_waits_for_the_disk() {
    const SYNC: Duration = Duration::from_millis(150);
    let scene = Scene::new();
    let broker = scene.start();
    let address = broker.address();
    let open = || Raw::open(address, Version::V5);
    let waits = |client: &mut Raw, what: &str, send: &[u8], expected: u8| {
        let start = Instant::now();
        client.send(send);
        let packet = client.expect_packet();
        let taken = start.elapsed();
        assert_eq!(packet[0], expected, "{what}: {packet:?}");
        assert!(taken >= SYNC, "{what}: after {taken:?}");
    };
    let version = Version::V5;
    scene.disk.slow(SYNC);
    let begin = connect("session").persistent().encode(version);
    let mut client = open();
    waits(&mut client, "CONNACK", &begin, 0x20);
    let message = |id: u16| publish("t", "x").qos(1).packet_id(id).encode(version);
    let exact = |id: u16| publish("t", "x").qos(2).packet_id(id);
    let packets = [
        ("SUBACK", subscribe(1).filter("t", 2).encode(version), 0x90),
        ("UNSUBACK", unsubscribe(2, &["t"]).encode(version), 0xB0),
        ("SUBACK", subscribe(3).filter("t", 2).encode(version), 0x90),
    ];
    for (what, packet, expected) in packets {
        waits(&mut client, what, &packet, expected);
    }
    client.leave();
    let mut sender = open();
    let begin = connect("sender").persistent().encode(version);
    waits(&mut sender, "CONNACK", &begin, 0x20);
    waits(&mut sender, "PUBACK", &message(1), 0x40);
    waits(&mut sender, "PUBREC", &exact(2).encode(version), 0x50);
    waits(&mut sender, "PUBCOMP", &pubrel(2).encode(version), 0x70);
    // Twice the same, by a sender who lost patience; the first is on its way to the disk.
    let start = Instant::now();
    sender.send(exact(3));
    let mut again = open();
    again.send(connect("sender").persistent());
    again.expect_connack();
    again.send(exact(3).dup());
    again.expect(pubrec(3));
    let taken = start.elapsed();
    assert!(taken >= SYNC, "PUBREC of DUP: after {taken:?}");
    again.send(pubrel(3));
    again.expect(pubcomp(3));
    // To the receiver: a PUBLISH of QoS 2, and the PUBREL that makes it forget the identifier.
    let mut client = open();
    client.send(connect("session").persistent());
    client.expect_connack();
    assert_eq!(client.expect_publish().qos, 1);
    client.send(puback(1));
    for id in [(); 2].map(|()| client.expect_publish().packet_id) {
        waits(&mut client, "PUBREL", &pubrec(id).encode(version), 0x62);
        client.send(pubcomp(id));
    }
    scene.disk.heal();
    assert!(broker.stop().success());
}

/// From the log of the file layer: PUBACK and PUBREC leave when a sync has ended that began after their message was
/// written.
#[test]
fn an_acknowledgement_never_precedes_its_sync() {
    acknowledges_after_sync(connect("sender").persistent(), 0x50);
}

/// The same for a sender whose session ends with its connection; of QoS 2, PUBCOMP counts there: between PUBREC and
/// PUBREL the message belongs to the session (4.1).
#[test]
fn an_acknowledgement_without_a_session_never_precedes_its_sync() {
    acknowledges_after_sync(connect("sender"), 0x70);
}

fn acknowledges_after_sync(connect_sender: Connect, qos2: u8) {
    const MESSAGES: u16 = 60;
    let scene = Scene::new();
    let broker = scene.start();
    for id in ["sleeper", "late"] {
        let mut sleeper = broker.connect_with(Version::V311, connect(id).persistent());
        sleeper.subscribe("a/#", 2);
        sleeper.leave();
    }
    // Slow enough that whoever does not wait is seen.
    scene.disk.slow(Duration::from_millis(5));
    let mut sender = broker.connect_with(Version::V5, connect_sender);
    let port = sender.socket().local_addr().expect("it is connected");
    let marker = |id: u16| format!("<the message number {id}>");
    let mut answers = 0;
    for id in 1..=MESSAGES {
        let qos = 1 + (id % 2) as u8;
        sender.send(publish("a/b", marker(id)).qos(qos).packet_id(id));
        // Now and then it waits, so that batches are of any size.
        if id % 7 == 0 || id % 15 == 0 || id == MESSAGES {
            while answers < id {
                let packet = sender.expect_packet();
                match packet[0] {
                    0x50 => sender.send(pubrel(u16::from_be_bytes([packet[2], packet[3]]))),
                    _ => answers += 1,
                }
            }
        }
    }
    let log = scene.disk.log();
    for id in 1..=MESSAGES {
        let first = if id % 2 == 0 { 0x40 } else { qos2 };
        let acknowledged = place_of_acknowledgement(&log, port.port(), first, id);
        let synced = place_of_sync(&log, marker(id).as_bytes());
        assert!(
            synced < acknowledged,
            "message {id}: synced by record {synced}, acknowledged by {acknowledged}"
        );
    }
    assert!(broker.stop().success());
    scene.disk.assert_explained();
}

/// The record that sends an acknowledgement with this first byte and Packet Identifier to this port.
fn place_of_acknowledgement(log: &Log, port: u16, first: u8, packet_id: u16) -> usize {
    let [high, low] = packet_id.to_be_bytes();
    let sends = |event: &Event| match event {
        Event::Sent { port: to, bytes } if *to == port => {
            let mut heads = bytes.windows(4);
            heads.any(|head| [head[0], head[2], head[3]] == [first, high, low] && head[1] < 5)
        }
        _ => false,
    };
    let records = log.records().iter();
    let mut records = records.map(|record| &record.event);
    records
        .position(sends)
        .unwrap_or_else(|| panic!("message {packet_id} was never acknowledged"))
}

/// The record that ends the first sync of a file that these bytes were written to before it began.
fn place_of_sync(log: &Log, marker: &[u8]) -> usize {
    let holds = |bytes: &[u8]| bytes.windows(marker.len()).any(|part| part == marker);
    let mut written: Option<u64> = None;
    let mut begun: Option<u32> = None;
    for (number, record) in log.records().iter().enumerate() {
        match &record.event {
            Event::Written { inode, bytes, .. } if written.is_none() && holds(bytes) => {
                written = Some(*inode);
            }
            Event::SyncBegun { inode } if written == Some(*inode) && begun.is_none() => {
                begun = Some(record.thread);
            }
            Event::Synced { inode } if written == Some(*inode) && begun == Some(record.thread) => {
                return number;
            }
            _ => {}
        }
    }
    panic!("{}: never synced", marker.escape_ascii());
}
