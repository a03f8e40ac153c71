//! The `$SYS` topics: which there are, what they count, when they are told, and that nobody else tells them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::*;

/// All names below `$SYS/broker/` that are told periodically, but for the averages.
const NAMES: [&str; 29] = [
    "version",
    "uptime",
    "clients/total",
    "clients/connected",
    "clients/active",
    "clients/disconnected",
    "clients/inactive",
    "clients/maximum",
    "clients/expired",
    "connections/socket/count",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "store/messages/count",
    "store/messages/bytes",
    "subscriptions/count",
    "shared_subscriptions/count",
    "retained messages/count",
    "heap/current",
    "heap/maximum",
    "bytes/received",
    "bytes/sent",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "packet/out/count",
    "packet/out/bytes",
];

/// What there are averages of, below `$SYS/broker/load/`; each over 1, 5 and 15 minutes.
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

/// The whole name of a topic.
fn sys(name: &str) -> String {
    format!("$SYS/broker/{name}")
}

/// All names, in alphabetical order.
fn all_topics() -> Vec<String> {
    let average = |load| ["1min", "5min", "15min"].map(|over| sys(&format!("load/{load}/{over}")));
    let names = NAMES.iter().map(|name| sys(name));
    let mut topics: Vec<String> = names.chain(LOADS.into_iter().flat_map(average)).collect();
    topics.sort();
    topics
}

/// A broker that tells every second. Most tests then read until a value is what it should be.
fn start(lines: &[&str]) -> Broker {
    Broker::start(&[&["sys_interval 1"], lines].concat())
}

/// A client that is sent these topics, and counts what passes between it and the broker.
struct Observer {
    client: Raw,
    sent_packets: u64,
    sent_bytes: u64,
    received_packets: u64,
    received_bytes: u64,
    received_publishes: u64,
    received_payload_bytes: u64,
    values: BTreeMap<String, String>,
}

impl Observer {
    /// Connects with 3.1.1 and subscribes with QoS 0. What is retained has been read when this returns.
    fn subscribe(broker: &Broker, names: &[&str]) -> Observer {
        let mut observer = Observer {
            client: broker.open(Version::V311),
            sent_packets: 0,
            sent_bytes: 0,
            received_packets: 0,
            received_bytes: 0,
            received_publishes: 0,
            received_payload_bytes: 0,
            values: BTreeMap::new(),
        };
        observer.send(connect("observer"));
        observer.receive();
        let filters = names.iter().map(|name| sys(name));
        observer.send(filters.fold(subscribe(1), |all, filter| all.filter(&filter, 0)));
        observer.fence();
        observer
    }

    fn send(&mut self, packet: impl Encode) {
        let bytes = packet.encode(Version::V311);
        self.sent_packets += 1;
        self.sent_bytes += bytes.len() as u64;
        self.client.send(bytes);
    }

    #[track_caller]
    fn receive(&mut self) -> Vec<u8> {
        let bytes = self.client.expect_packet();
        self.received_packets += 1;
        self.received_bytes += bytes.len() as u64;
        if let Some(publish) = Publish::decode(&bytes, Version::V311) {
            self.received_publishes += 1;
            self.received_payload_bytes += publish.payload.len() as u64;
            let value = String::from_utf8(publish.payload).expect("values are text");
            self.values.insert(publish.topic, value);
        }
        bytes
    }

    /// Reads until the answer to a PINGREQ.
    #[track_caller]
    fn fence(&mut self) {
        self.send(pingreq());
        while self.receive() != b"\xd0\x00" {}
    }

    /// The last value told.
    #[track_caller]
    fn value(&self, name: &str) -> &str {
        let value = self.values.get(&sys(name));
        value.unwrap_or_else(|| panic!("{name} was not told"))
    }

    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        let value = self.value(name);
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value}"))
    }

    /// Reads until all of these have these values. A value that was never told, because it is what it was, counts.
    #[track_caller]
    fn expect_numbers(&mut self, expected: &[(&str, u64)]) {
        let is_met = |observer: &Observer| {
            let mut all = expected.iter();
            all.all(|(name, value)| observer.number(name) == *value)
        };
        // Three intervals are enough for whatever was done before; the uptime tells that they pass.
        let until = self.number("uptime_seconds") + 3;
        while !is_met(self) && self.number("uptime_seconds") <= until {
            self.receive();
            self.note_uptime();
        }
        for (name, value) in expected {
            assert_eq!(self.number(name), *value, "{name}");
        }
    }

    /// Reads until the uptime was told again, and then what belongs to the same moment.
    #[track_caller]
    fn next_interval(&mut self) {
        let uptime = self.value("uptime").to_string();
        while self.value("uptime") == uptime {
            self.receive();
        }
        self.fence();
        self.note_uptime();
    }

    fn note_uptime(&mut self) {
        let uptime = self.value("uptime");
        let seconds = uptime.strip_suffix(" seconds").expect("its unit is told");
        let seconds = seconds.to_string();
        self.values.insert(sys("uptime_seconds"), seconds);
    }
}

/// An observer of these names and of the uptime, by which it knows when to give up.
fn observe(broker: &Broker, names: &[&str]) -> Observer {
    let mut observer = Observer::subscribe(broker, &[&["uptime"], names].concat());
    observer.note_uptime();
    observer
}

/// Every topic is there from the start, retained, with QoS 2, and is what it should be: a number, an average, a text.
#[test]
fn whole_tree() {
    let broker = Broker::start(&["max_inflight_messages 0"]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(subscribe(1).filter("$SYS/#", 2));
        client.expect(suback(1, &[2]));
        let mut told = BTreeMap::new();
        while told.len() < all_topics().len() {
            let publish = client.expect_publish();
            assert_eq!(publish.qos, 2, "{}", publish.topic);
            assert!(publish.properties.is_empty(), "{}", publish.topic);
            // One that is told anew just then comes without RETAIN as well.
            if publish.retain {
                let value = String::from_utf8(publish.payload).expect("values are text");
                told.insert(publish.topic, value);
            }
        }
        assert_eq!(told.keys().cloned().collect::<Vec<_>>(), all_topics());
        for (topic, value) in told {
            let name = topic
                .strip_prefix("$SYS/broker/")
                .expect("all are below it");
            let is_well_formed = match name {
                "version" => value.starts_with("mosquitto version "),
                "uptime" => value
                    .strip_suffix(" seconds")
                    .is_some_and(|number| number.parse::<u64>().is_ok()),
                _ if name.starts_with("load/") => is_average(&value),
                _ => value.parse::<u64>().is_ok(),
            };
            assert!(is_well_formed, "{topic} is {value}");
        }
    }
}

/// Digits, a point, and two digits.
fn is_average(value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = value.split_once('.');
    parts.is_some_and(|(whole, rest)| digits(whole) && digits(rest) && rest.len() == 2)
}

/// `sys_interval 0` turns it all off.
#[test]
fn interval_of_zero() {
    let broker = Broker::start(&["sys_interval 0"]);
    let mut client = broker.connect_v5("client");
    client.send(subscribe(1).filter("$SYS/#", 0));
    client.expect(suback(1, &[0]));
    client.fence();
    client.expect_silence(Duration::from_millis(1500));
}

/// [MQTT-4.7.2-1] A filter that begins with a wildcard does not show `$SYS`; others do.
#[test]
fn mqtt_4_7_2_1_wildcards_first_do_not_show_it() {
    let broker = start(&[]);
    let mut client = broker.connect_v3("client");
    let hidden = ["#", "+/#", "+/broker/#", "+/broker/uptime", "+/+/+"];
    let all = hidden
        .iter()
        .fold(subscribe(1), |all, filter| all.filter(filter, 0));
    client.send(all);
    client.expect(suback(1, &[0; 5]));
    client.fence();
    let mut watcher = broker.connect_v3("watcher");
    let shown = [
        "$SYS/+/uptime",
        "$SYS/broker/+",
        "$SYS/#",
        "$SYS/broker/uptime/#",
    ];
    for (filter, id) in shown.into_iter().zip(1..) {
        watcher.send(subscribe(id).filter(filter, 0));
        watcher.expect(suback(id, &[0]));
        while watcher.expect_publish().topic != "$SYS/broker/uptime" {}
        watcher.send(unsubscribe(id, &[filter]));
        while watcher.expect_packet() != unsuback(id, &[]).encode(Version::V311) {}
    }
    // An interval later.
    watcher.send(subscribe(9).filter("$SYS/broker/uptime", 0));
    watcher.expect(suback(9, &[0]));
    watcher.expect_publish();
    watcher.expect_publish();
    client.fence();
}

/// A topic is told again only when its value has changed; a new subscriber is sent the last one.
#[test]
fn told_only_when_changed() {
    let broker = start(&[]);
    let mut client = broker.connect_v3("client");
    client.send(subscribe(1).filter("a", 0).filter("b", 0));
    client.expect(suback(1, &[0, 0]));
    let names = ["version", "subscriptions/count", "clients/connected"];
    let mut observer = observe(&broker, &names);
    observer.expect_numbers(&[("subscriptions/count", 6), ("clients/connected", 2)]);
    observer.values.retain(|topic, _| topic.contains("uptime"));
    for _ in 0..3 {
        observer.next_interval();
    }
    let told: Vec<&String> = observer.values.keys().collect();
    assert_eq!(told, [&sys("uptime"), &sys("uptime_seconds")]);
    let late = Observer::subscribe(&broker, &names);
    assert_eq!(late.number("subscriptions/count"), 6);
    assert!(late.value("version").starts_with("mosquitto version "));
}

/// The uptime grows by a second each second, in intervals that end at multiples of `sys_interval` on the wall clock.
#[test]
fn uptime_and_alignment() {
    let broker = Broker::start(&["sys_interval 2"]);
    let mut observer = observe(&broker, &[]);
    let mut seconds = Vec::new();
    let mut is_aligned = 0;
    for _ in 0..3 {
        observer.next_interval();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let into_interval = now.expect("it is past 1970").as_millis() % 2000;
        is_aligned += u32::from(into_interval < 1000);
        seconds.push(observer.number("uptime_seconds"));
    }
    assert!(seconds[0] <= 10, "{seconds:?}");
    for pair in seconds.windows(2) {
        assert!((1..=3).contains(&(pair[1] - pair[0])), "{seconds:?}");
    }
    // A busy machine may be late once.
    assert!(is_aligned >= 2, "{is_aligned} of 3 were in the first half");
}

/// Clients: all of them, those online, those asleep, the most there were, and those that expired.
#[test]
fn clients() {
    let names = [
        "clients/total",
        "clients/connected",
        "clients/active",
        "clients/disconnected",
        "clients/inactive",
        "clients/maximum",
        "clients/expired",
    ];
    let broker = start(&[]);
    let mut observer = observe(&broker, &names);
    observer.expect_numbers(&[("clients/total", 1), ("clients/maximum", 1)]);
    let awake: Vec<Raw> = Version::ALL
        .into_iter()
        .map(|version| broker.connect(version, &format!("{version:?}")))
        .collect();
    let two_seconds = connect("sleeper").with(session_expiry_interval(2));
    drop(broker.connect_with(Version::V5, two_seconds));
    drop(broker.connect_with(Version::V311, connect("never ends").persistent()));
    let silent = broker.open(Version::V311);
    observer.expect_numbers(&[
        ("clients/total", 6),
        ("clients/connected", 4),
        ("clients/active", 4),
        ("clients/disconnected", 2),
        ("clients/inactive", 2),
        ("clients/maximum", 6),
        ("clients/expired", 0),
    ]);
    broker.wait_for_log("Expiring client sleeper due to timeout.");
    drop((awake, silent));
    observer.fence();
    observer.expect_numbers(&[
        ("clients/total", 2),
        ("clients/connected", 1),
        ("clients/disconnected", 1),
        ("clients/maximum", 6),
        ("clients/expired", 1),
    ]);
}

/// Subscriptions, ordinary and shared, of the connected and the sleeping.
#[test]
fn subscriptions() {
    let broker = start(&[]);
    let names = ["subscriptions/count", "shared_subscriptions/count"];
    let mut observer = observe(&broker, &names);
    let own = 3;
    observer.expect_numbers(&[
        ("subscriptions/count", own),
        ("shared_subscriptions/count", 0),
    ]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.send(subscribe(1).filter("a", 0).filter("b/#", 1).filter("+", 2));
    client.expect(suback(1, &[0, 1, 2]));
    client.send(subscribe(2).filter("$share/g/a", 0).filter("a", 1));
    client.expect(suback(2, &[0, 1]));
    observer.fence();
    observer.expect_numbers(&[("shared_subscriptions/count", 1)]);
    // Whether a shared one counts among all is not written anywhere.
    let all = observer.number("subscriptions/count");
    assert!([own + 3, own + 4].contains(&all), "{all}");
    client.send(unsubscribe(3, &["$share/g/a", "a"]));
    client.expect(unsuback(3, &[0, 0]));
    client.send(disconnect());
    client.expect_closed();
    let expected = [
        ("subscriptions/count", own + 2),
        ("shared_subscriptions/count", 0),
    ];
    observer.expect_numbers(&expected);
    broker.connect_v3("client").fence();
    observer.expect_numbers(&[("subscriptions/count", own)]);
}

/// Retained messages and what is stored: retained, queued; a message for many is stored once.
#[test]
fn store() {
    let names = [
        "retained messages/count",
        "messages/stored",
        "store/messages/count",
        "store/messages/bytes",
    ];
    let broker = start(&[]);
    let mut observer = observe(&broker, &names);
    observer.next_interval();
    let before = |name| observer.number(name);
    let (retained, stored) = (before("retained messages/count"), before("messages/stored"));
    assert_eq!(stored, before("store/messages/count"));

    let mut publisher = broker.connect_v5("publisher");
    for index in 0..3 {
        let topic = format!("kept/{index}");
        publisher.send(publish(&topic, vec![b'x'; 10_000]).retain());
    }
    publisher.fence();
    for id in ["first sleeper", "second sleeper"] {
        let mut client = broker.connect_with(Version::V311, connect(id).persistent());
        client.send(subscribe(1).filter("queue", 1));
        client.expect(suback(1, &[1]));
        client.send(disconnect());
        client.expect_closed();
    }
    publisher.send(publish("queue", vec![b'x'; 20_000]).qos(1).packet_id(1));
    publisher.expect(puback(1));
    observer.fence();
    observer.expect_numbers(&[
        ("retained messages/count", retained + 3),
        ("messages/stored", stored + 4),
        ("store/messages/count", stored + 4),
    ]);
    // The values of $SYS are stored too: a few bytes that may change.
    let bytes = observer.number("store/messages/bytes");
    assert!((50_000..51_000).contains(&bytes), "{bytes}");

    for index in 0..3 {
        publisher.send(publish(&format!("kept/{index}"), "").retain());
    }
    publisher.fence();
    for id in ["first sleeper", "second sleeper"] {
        broker.connect_v3(id).fence();
    }
    observer.fence();
    observer.expect_numbers(&[
        ("retained messages/count", retained),
        ("messages/stored", stored),
        ("store/messages/count", stored),
    ]);
    let bytes = observer.number("store/messages/bytes");
    assert!(bytes < 1000, "{bytes}");
}

/// PUBLISH packets in and out, their payload bytes, and those that were dropped.
#[test]
fn publishes() {
    let broker = start(&["max_queued_messages 2"]);
    let names = [
        "publish/messages/received",
        "publish/bytes/received",
        "publish/messages/dropped",
    ];
    let mut observer = observe(&broker, &names);
    let names = names.map(|name| (name, 0));
    observer.expect_numbers(&names);
    let mut sleeper = broker.connect_with(Version::V311, connect("sleeper").persistent());
    sleeper.send(subscribe(1).filter("q/#", 1));
    sleeper.expect(suback(1, &[1]));
    sleeper.send(disconnect());
    sleeper.expect_closed();

    let mut publisher = broker.connect_v3("publisher");
    for _ in 0..5 {
        publisher.send(publish("nobody", "1234567890"));
    }
    for id in 1..=5 {
        publisher.send(publish("q/1", "12345").qos(1).packet_id(id));
        publisher.expect(puback(id));
    }
    publisher.send(publish("nobody", "123").qos(2).packet_id(9));
    publisher.expect(pubrec(9));
    publisher.send(pubrel(9));
    publisher.expect(pubcomp(9));
    observer.expect_numbers(&[
        ("publish/messages/received", 11),
        ("publish/bytes/received", 50 + 25 + 3),
        ("publish/messages/dropped", 3),
    ]);
}

/// PUBLISH packets sent and their payload bytes, those of `$SYS` itself among them.
#[test]
fn publishes_sent() {
    let broker = start(&[]);
    let mut reader = broker.connect_v5("reader");
    reader.send(subscribe(1).filter("t", 0));
    reader.expect(suback(1, &[0]));
    for (name, own) in [
        (
            "publish/messages/sent",
            (|o| o.received_publishes) as fn(&Observer) -> u64,
        ),
        ("publish/bytes/sent", |o| o.received_payload_bytes),
    ] {
        let mut observer = Observer::subscribe(&broker, &[name]);
        let topic = sys(name);
        // What was sent to others before, from the first value that is told now.
        let told = |observer: &mut Observer| {
            let before = own(observer);
            let packet = observer.receive();
            let publish = Publish::decode(&packet, Version::V311).expect("nothing else comes");
            assert_eq!(publish.topic, topic);
            observer.number(name) - before
        };
        let before = told(&mut observer);
        for _ in 0..10 {
            reader.send(publish("t", "12345"));
            reader.expect(publish("t", "12345"));
        }
        let expected = if name.contains("bytes") { 50 } else { 10 };
        let mut others = told(&mut observer) - before;
        if others != expected {
            others = told(&mut observer) - before;
        }
        assert_eq!(others, expected, "{name}");
        observer.send(disconnect());
        observer.client.expect_closed();
    }
}

/// Packets and bytes on the network, in both directions, to the byte: those of `$SYS` itself among them.
#[test]
fn bytes_and_packets() {
    for (name, own) in [
        ("bytes/received", (|o| o.sent_bytes) as fn(&Observer) -> u64),
        ("bytes/sent", |o| o.received_bytes),
        ("messages/received", |o| o.sent_packets),
        ("messages/sent", |o| o.received_packets),
    ] {
        let broker = start(&[]);
        let mut observer = Observer::subscribe(&broker, &[name]);
        let told = |observer: &mut Observer| {
            let before = own(observer);
            observer.receive();
            (observer.number(name), before)
        };
        let (mut value, mut expected) = told(&mut observer);
        if value != expected {
            // The interval ended just while our last packet was answered.
            (value, expected) = told(&mut observer);
        }
        assert_eq!(value, expected, "{name}");
    }
}

/// Sockets: each accepted connection, whether a CONNECT came or not.
#[test]
fn sockets() {
    let broker = start(&[]);
    let name = "connections/socket/count";
    let mut observer = observe(&broker, &[name]);
    observer.next_interval();
    let before = observer.number(name);
    let silent = broker.open(Version::V311);
    let clients = Version::ALL.map(|version| broker.connect(version, "client"));
    let mut refused = broker.open(Version::V311);
    refused.send(connect("").clean(false));
    assert_eq!(refused.expect_connack().reason, 2);
    observer.fence();
    observer.expect_numbers(&[(name, before + 5)]);
    drop((silent, clients));
}

/// Averages: a hundred messages within an interval are nearly a hundred a minute over one minute, a fifth of it over
/// five, a fifteenth over fifteen; and they fade.
#[test]
fn loads() {
    let broker = start(&[]);
    let names = [
        "load/publish/received/1min",
        "load/publish/received/5min",
        "load/publish/received/15min",
        "load/publish/dropped/1min",
    ];
    let mut observer = observe(&broker, &names);
    let mut publisher = broker.connect_v3("publisher");
    observer.next_interval();
    for name in names {
        assert_eq!(observer.value(name), "0.00", "{name}");
    }
    for _ in 0..100 {
        publisher.send(publish("t", "x"));
    }
    publisher.fence();
    observer.fence();
    observer.next_interval();
    let average = |observer: &Observer, name| -> f64 {
        let value = observer.value(name);
        value.parse().expect("it is an average")
    };
    let peaks = [(96.0, 100.0), (19.5, 20.0), (6.5, 6.7)];
    for (name, (least, most)) in names.into_iter().zip(peaks) {
        let value = average(&observer, name);
        assert!((least..=most).contains(&value), "{name} is {value}");
    }
    let peak = average(&observer, names[0]);
    observer.next_interval();
    observer.next_interval();
    let faded = average(&observer, names[0]);
    assert!(
        faded < peak - 2.0 && faded > peak - 10.0,
        "{peak}, then {faded}"
    );
    assert_eq!(observer.value(names[3]), "0.00");
}

/// Each average moves with what it is named for, over each of its times.
#[test]
fn loads_of_everything() {
    let broker = start(&["max_queued_messages 1"]);
    let packet = connect("sleeper").persistent();
    let mut sleeper = broker.connect_with(Version::V311, packet);
    sleeper.send(subscribe(1).filter("q", 1));
    sleeper.expect(suback(1, &[1]));
    sleeper.send(disconnect());
    sleeper.expect_closed();
    let mut publisher = broker.connect_v3("publisher");
    for id in 1..=100 {
        publisher.send(publish("q", "x").qos(1).packet_id(id));
        publisher.expect(puback(id));
    }
    let mut observer = observe(&broker, &["load/#"]);
    observer.next_interval();
    observer.next_interval();
    for load in LOADS {
        let over = ["1min", "5min", "15min"].map(|over| {
            let value = observer.value(&format!("load/{load}/{over}"));
            value.parse::<f64>().expect("it is an average")
        });
        let [short, middle, long] = over;
        assert!(
            short > middle && middle > long && long > 0.0,
            "{load}: {over:?}"
        );
    }
}

/// Memory: some now, and never more than the most there was.
#[test]
fn memory() {
    let broker = start(&[]);
    let mut observer = observe(&broker, &["heap/current", "heap/maximum"]);
    for _ in 0..3 {
        observer.next_interval();
        let (current, maximum) = (
            observer.number("heap/current"),
            observer.number("heap/maximum"),
        );
        assert!(current > 0 && current <= maximum, "{current} of {maximum}");
    }
}

/// What waits to be sent: nothing but `$SYS` itself, unless a client does not read.
#[test]
fn packets_waiting() {
    let broker = start(&[]);
    let names = ["packet/out/count", "packet/out/bytes"];
    let mut observer = observe(&broker, &names);
    let waiting = |observer: &mut Observer| {
        observer.next_interval();
        observer.next_interval();
        names.map(|name| observer.number(name))
    };
    let [count, bytes] = waiting(&mut observer);
    assert!(count <= 3 && bytes < 200, "{count}, {bytes} bytes");
    let mut stuck = broker.connect_v3("stuck");
    stuck.send(subscribe(1).filter("flood", 0));
    stuck.expect(suback(1, &[0]));
    let mut publisher = broker.connect_v3("publisher");
    for _ in 0..250 {
        publisher.send(publish("flood", vec![b'x'; 65_536]));
    }
    publisher.fence();
    let [count, bytes] = waiting(&mut observer);
    assert!((1..=253).contains(&count), "{count}");
    assert!((65_536..251 * 65_560).contains(&bytes), "{bytes}");
    drop(stuck);
    let [count, bytes] = waiting(&mut observer);
    assert!(count <= 3 && bytes < 200, "{count}, {bytes} bytes");
}

/// No client can say what the broker says: 5.0 is told so, earlier versions are acknowledged as usual.
#[test]
fn clients_cannot_publish_there() {
    let broker = Broker::start(&["sys_interval 3600"]);
    let mut observer = Observer::subscribe(&broker, &["#"]);
    observer.values.clear();
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        for topic in ["$SYS/broker/version", "$SYS/broker/x", "$SYS/x"] {
            client.send(publish(topic, "forged").retain());
            client.send(publish(topic, "forged").qos(1).packet_id(1).retain());
            client.expect(puback(1).reason(0x87));
            client.send(publish(topic, "forged").qos(2).packet_id(2).retain());
            client.expect(pubrec(2).reason(0x87));
            if version != Version::V5 {
                client.send(pubrel(2));
                client.expect(pubcomp(2));
            }
        }
        client.fence();
    }
    observer.fence();
    assert!(observer.values.is_empty(), "{:?}", observer.values);
    let late = Observer::subscribe(&broker, &["#"]);
    assert_ne!(late.value("version"), "forged");
    assert!(!late.values.contains_key(&sys("x")));
}

/// Bridges tell of their connections there.
#[test]
fn state_of_a_bridge() {
    let broker = start(&[]);
    let mut observer = observe(&broker, &["connection/+/state"]);
    let mut bridge = broker.connect_v3("bridge");
    let topic = sys("connection/far.away/state");
    bridge.send(publish(&topic, "1").qos(1).packet_id(1).retain());
    bridge.expect(puback(1));
    observer.fence();
    assert_eq!(observer.value("connection/far.away/state"), "1");
    let late = Observer::subscribe(&broker, &["connection/#"]);
    assert_eq!(late.value("connection/far.away/state"), "1");
}
