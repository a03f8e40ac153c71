//! A whole broker, fed with arbitrary bytes on several connections in arbitrary splits, and with time.
//!
//! The input is a list of steps, a byte each that says which connection and what, and what that needs. What holds after
//! each step is what [`super::world`] checks; after a restart from the store, the broker's invariants hold again.

use super::Bytes;
use super::rows;
use super::world::World;
use midge::auth::{Auth, Making};
use midge::broker::Ending;
use midge::config::Config;
use midge::mqtt;
use midge::persistence;
use rusqlite::Connection as Database;
use std::sync::LazyLock;
use std::time::Duration;

/// The time of a run ends before the broker's does, in milliseconds.
const MILLIS_MAX: u64 = 1 << 40;

/// A configuration, with files for it: passwords and rights.
struct Setting {
    config: Config,
    auth: Auth,
    is_durable: bool,
}

static SETTINGS: LazyLock<[Setting; 5]> = LazyLock::new(|| {
    let open = "allow_anonymous true\n";
    let small = "max_inflight_messages 2\nmax_queued_messages 3\nmax_queued_bytes 64\nmax_packet_size 200\n\
                 upgrade_outgoing_qos true\nmax_keepalive 10\npersistent_client_expiration 1h\n\
                 max_topic_alias 2\nmax_topic_alias_broker 2\nqueue_qos0_messages true\n";
    let strict = "retain_available false\nmax_qos 1\nmax_connections 2\nallow_zero_length_clientid false\n\
                  clientid_prefixes c\nallow_duplicate_messages false\n";
    [
        Setting::new(open, false),
        Setting::new(&format!("{open}sys_interval 1\n"), true),
        Setting::new(&format!("{open}{small}mount_point m/\n"), true),
        Setting::new(
            &format!("{strict}password_file PASSWORDS\nacl_file ACL\n"),
            false,
        ),
        Setting::new(
            &format!("{open}{small}acl_file ACL\ncheck_retain_source true\n"),
            true,
        ),
    ]
});

const ACL: &str = "topic readwrite a/#\ntopic deny a/secret\ntopic read $SYS/#\npattern readwrite %c/#\nuser u\ntopic b/#\n";

impl Setting {
    fn new(lines: &str, is_durable: bool) -> Setting {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let passwords = format!("u:$7$1$c2FsdHNhbHRzYWx0${}==\n", "A".repeat(86));
        for (name, text) in [("PASSWORDS", passwords.as_str()), ("ACL", ACL)] {
            std::fs::write(path(name), text).expect("it can be written");
        }
        let lines = lines
            .replace("PASSWORDS", &path("PASSWORDS"))
            .replace("ACL", &path("ACL"));
        let text = format!(
            "listener 1883\n{lines}listener 1884\nmount_point n/\nuse_username_as_clientid true\n"
        );
        let config = Config::from_text("fuzz.conf", text).expect("a good configuration");
        let auth = Auth::load(&config, Making::Forbidden).expect("good files");
        Setting {
            config,
            auth,
            is_durable,
        }
    }
}

/// Does the steps that `bytes` say.
pub fn feed(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let setting = &SETTINGS[usize::from(bytes.u8()) % SETTINGS.len()];
    let mut world = World::new(setting.config.clone(), setting.auth.clone());
    // Made when it is needed: that takes longer than most runs.
    let mut store = None;
    if setting.is_durable {
        let clocks = world.clocks();
        world.broker.begin_restoring(0, clocks).finish();
    }
    while !bytes.is_empty() {
        let step = bytes.u8();
        let slot = usize::from(step & 3);
        match step >> 2 & 15 {
            // A packet as long as it says.
            0..=5 => {
                let length = mqtt::promised_length(bytes.0).max(1);
                world.receive(slot, bytes.take(length));
            }
            6 => world.publish_large(slot, bytes.u8(), bytes.u8()),
            // A part of one, or some and a part.
            7 => world.receive(slot, bytes.some()),
            8 => world.attach(slot, bytes.u8().into()),
            9 => match bytes.u8() & 7 {
                4.. => world.identify(slot, (step & 0x80 != 0).then_some("u")),
                0 => world.detach(slot, Ending::ClosedByClient),
                1 => world.detach(slot, Ending::SocketError("it broke")),
                2 => world.detach(slot, Ending::Administrative),
                3 => world.revoke(slot),
            },
            10 => {
                let how = bytes.u8();
                let millis = (u64::from(how >> 5) + 1) << (how & 31);
                if world.now.as_millis() + millis < MILLIS_MAX {
                    world.pass(Duration::from_millis(millis));
                }
            }
            11 => world.set_reads(slot, step & 0x80 != 0),
            12 => world.passwords_are_right = step & 0x80 != 0,
            13 => match bytes.u8() {
                0 => world.broker.set_memory(usize::MAX),
                1 => world.broker.set_memory(0),
                2 => world.broker.shut_down(world.now),
                other => {
                    // Other rights and limits, at the same listeners.
                    let setting = &SETTINGS[usize::from(other) % SETTINGS.len()];
                    let (config, auth) = (setting.config.clone(), setting.auth.clone());
                    let now = world.now;
                    world.broker.reconfigure(config, auth, now);
                }
            },
            14 if setting.is_durable => {
                commit(&mut world, store.get_or_insert_with(rows::new_database));
            }
            15 if setting.is_durable => {
                let store = store.get_or_insert_with(rows::new_database);
                restart(&mut world, store, setting);
            }
            _ => {}
        }
        // Several packets may come in one turn.
        if step & 0x40 == 0 {
            world.turn();
        }
    }
    if let Some(store) = &mut store {
        commit(&mut world, store);
        restart(&mut world, store, setting);
    }
    world.broker.shut_down(world.now);
    world.turn();
}

/// What changed goes to the store, and its senders hear of it.
fn commit(world: &mut World, store: &mut Database) {
    if let Some(batch) = world.broker.take_batch(world.clocks()) {
        persistence::write(store, &batch).expect("a batch can be written");
        world.broker.committed(world.now);
    }
}

/// The broker stops where it is; another one begins with what was committed.
fn restart(world: &mut World, store: &Database, setting: &Setting) {
    world.replace(setting.config.clone(), setting.auth.clone());
    let clocks = world.clocks();
    let counts = persistence::restore::restore(store, &mut world.broker, clocks)
        .expect("what was written can be read");
    assert_eq!(counts.misfits, 0, "what was written fits");
    world.broker.check_invariants();
}

/// Runs with most packets, in each setting and version.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for setting in 0..SETTINGS.len() as u8 {
        for version in [3, 4, 5] {
            seeds.push(seed(setting, version));
        }
    }
    seeds
}

/// Two clients of `version` that talk to each other, at every QoS; one goes and comes back.
fn seed(setting: u8, version: u8) -> Vec<u8> {
    let v5 = version == 5;
    let mut bytes = vec![setting];
    let properties = |text: &'static [u8]| -> &'static [u8] { if v5 { text } else { b"" } };
    let connect = |id: u8, flags: u8| {
        let mut body = match version {
            3 => b"\0\x06MQIsdp\x03".to_vec(),
            4 => b"\0\x04MQTT\x04".to_vec(),
            _ => b"\0\x04MQTT\x05".to_vec(),
        };
        body.extend([flags | 0xc4, 0, 10]);
        body.extend(properties(b"\x08\x11\0\0\0\x3c\x22\0\x05"));
        body.extend([0, 2, b'c', id]);
        body.extend(properties(b"\x05\x18\0\0\0\x05"));
        body.extend(b"\0\x03a/w\0\x04gone\0\x01u\0\x02pw");
        packet(0x10, &body)
    };
    let with_properties =
        |head: &[u8], more: &'static [u8], tail: &[u8]| [head, properties(more), tail].concat();
    let mut step = |slot: u8, kind: u8, rest: &[u8]| {
        bytes.push(slot & 0x83 | kind << 2);
        bytes.extend_from_slice(rest);
    };
    step(0, 0, &connect(b'0', 0));
    step(1, 0, &connect(b'1', 2));
    let subscribe = with_properties(b"\0\x01", b"\x02\x0b\x07", b"\0\x03a/#\x02");
    step(0, 0, &packet(0x82, &subscribe));
    let shared = with_properties(b"\0\x02", b"\0", b"\0\x0c$share/g/a/+\x01");
    step(1, 0, &packet(0x82, &shared));
    step(0, 14, b"");
    let publish0 = with_properties(b"\0\x03a/b", b"\x03\x23\0\x01", b"zero");
    let publish1 = with_properties(b"\0\x03a/b\0\x01", b"\x05\x02\0\0\0\x05", b"one");
    let publish2 = with_properties(b"\0\x03a/b\0\x02", b"\x07\x26\0\x01k\0\x01v", b"two");
    step(1, 0, &packet(0x31, &publish0));
    step(1, 0, &packet(0x33, &publish1));
    step(1, 0, &packet(0x34, &publish2));
    step(1, 14, b"");
    step(1, 0, &packet(0x62, b"\0\x02"));
    for kind in [0x40, 0x50, 0x70] {
        step(0, 0, &packet(kind, b"\0\x01"));
        step(0, 0, &packet(kind, b"\0\x02"));
    }
    // Large ones, retained, for one that does not read and asks for all of them again.
    step(0, 11, b"");
    for how in [0x04, 0x0d, 0x16] {
        step(1, 6, &[how, 0xff]);
    }
    step(0, 0, &packet(0x82, &subscribe));
    step(0x80, 11, b"");
    // The first one breaks, misses something, and comes back after a while and a restart.
    step(0, 9, b"\x01");
    step(1, 0, &packet(0x33, &publish1));
    step(0, 10, b"\x0c");
    step(0, 14, b"");
    step(0, 15, b"");
    let again = connect(b'0', 0);
    step(0, 7, &[&[5], &again[..5]].concat());
    step(0, 7, &[&[again.len() as u8 - 5], &again[5..]].concat());
    step(
        0,
        0,
        &packet(0xa2, &with_properties(b"\0\x03", b"\0", b"\0\x03a/#")),
    );
    step(0, 0, &packet(0xc0, b""));
    step(0, 13, b"\x04");
    step(0, 0, &packet(0xe0, properties(b"\x04")));
    step(0, 10, b"\x1f");
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first, body.len() as u8];
    packet.extend_from_slice(body);
    packet
}
