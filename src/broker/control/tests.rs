//! Requests that wait, their chores, and what is in force when.

use super::super::tests::{World, v5};
use super::*;
use crate::auth::{Auth, Making};
use crate::buffer::ConnectionKey;
use crate::config::Config;
use crate::mqtt::{Packet, PacketId, Properties, Publish};
use serde_json::{Value, json};

/// A broker whose anonymous clients may administer it, and everything else.
fn world(directory: &std::path::Path) -> World {
    let file = directory.join("ds.json");
    let everything = [
        "publishClientSend",
        "publishClientReceive",
        "subscribePattern",
    ];
    let acls: Vec<Value> = everything
        .iter()
        .flat_map(|of| {
            ["#", "$CONTROL/#"].map(|topic| json!({"acltype": of, "topic": topic, "allow": true}))
        })
        .collect();
    let known = json!({
        "roles": [{"rolename": "all", "acls": acls}],
        "groups": [{"groupname": "g", "roles": [{"rolename": "all"}]}],
        "anonymousGroup": "g",
    });
    std::fs::write(&file, known.to_string()).expect("written");
    let text = format!(
        "listener 1883\nallow_anonymous true\nsys_interval 0\ndynamic_security_file {}",
        file.display()
    );
    let config = Config::from_text("test.conf", text).expect("a good configuration");
    let auth = Auth::load(&config, Making::Allowed).expect("a good file");
    World::with(config, auth)
}

fn ask(world: &mut World, connection: ConnectionKey, qos: QoS, commands: Value) {
    let payload = json!({ "commands": commands }).to_string();
    let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::FIRST);
    world.handle(
        connection,
        Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: CONTROL_TOPIC,
            packet_id,
            properties: Properties::NONE,
            payload: payload.as_bytes(),
        }),
    );
}

/// Does what is to be done elsewhere, one chore; what kind it was.
fn do_chore(world: &mut World) -> Option<&'static str> {
    let chore = world.broker.take_chore()?;
    let kind = match chore {
        Chore::Hash(_) => "hash",
        Chore::Save { .. } => "save",
    };
    world.broker.chore_done(chore.run(), world.now);
    world.broker.check_invariants();
    Some(kind)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn changes_are_answered_when_they_are_saved_and_in_their_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = world(directory.path());
    let admin = world.connect(v5("admin"));
    world.subscribe(admin, RESPONSE_TOPIC, QoS::AtMostOnce);
    let create = json!([{"command": "createClient", "username": "u", "password": "p"}]);
    ask(&mut world, admin, QoS::AtLeastOnce, create);
    ask(
        &mut world,
        admin,
        QoS::AtMostOnce,
        json!([{"command": "listClients"}]),
    );
    let sent = world.sent(admin);
    assert_eq!(sent[0], 0x40, "PUBACK waits for nothing");
    assert!(!text(&sent).contains("responses"), "one after the other");
    assert_eq!(do_chore(&mut world), Some("hash"));
    assert_eq!(world.sent(admin), [0u8; 0], "it is not saved yet");
    assert_eq!(do_chore(&mut world), Some("save"));
    let sent = text(&world.sent(admin));
    let (created, listed) = (sent.find("createClient"), sent.find("\"clients\":[\"u\"]"));
    assert!(created.is_some() && created < listed, "{sent}");
    assert_eq!(do_chore(&mut world), None);
    let saved = std::fs::read(directory.path().join("ds.json")).expect("a file");
    let (saved, _) = file::parse(&saved).expect("sound");
    assert!(saved.clients().contains_key("u"));
}

#[test]
fn what_cannot_be_saved_is_in_force_and_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = world(directory.path());
    let admin = world.connect(v5("admin"));
    world.subscribe(admin, RESPONSE_TOPIC, QoS::AtMostOnce);
    drop(directory);
    ask(
        &mut world,
        admin,
        QoS::AtMostOnce,
        json!([{"command": "createRole", "rolename": "r"}]),
    );
    assert_eq!(do_chore(&mut world), Some("save"));
    let sent = text(&world.sent(admin));
    assert!(sent.contains("Done, but not saved"), "{sent}");
    ask(
        &mut world,
        admin,
        QoS::AtMostOnce,
        json!([{"command": "listRoles"}]),
    );
    let sent = text(&world.sent(admin));
    assert!(sent.contains("[\"all\",\"r\"]"), "{sent}");
}

#[test]
fn at_qos_2_a_command_is_obeyed_once_and_when_it_is_released() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = world(directory.path());
    let admin = world.connect(v5("admin"));
    let create = json!([{"command": "createRole", "rolename": "r"}]);
    ask(&mut world, admin, QoS::ExactlyOnce, create.clone());
    ask(&mut world, admin, QoS::ExactlyOnce, create);
    assert_eq!(do_chore(&mut world), None);
    let release = |world: &mut World| {
        let bytes = [0x62, 2, 0, 1];
        let limits = world.broker.limits(admin).expect("attached");
        let (packet, _) = crate::mqtt::decode(&bytes, limits)
            .expect("valid")
            .expect("whole");
        world.handle(admin, packet);
    };
    release(&mut world);
    assert_eq!(do_chore(&mut world), Some("save"));
    release(&mut world);
    assert_eq!(do_chore(&mut world), None);
}

#[test]
fn what_a_change_takes_away_is_gone_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = world(directory.path());
    let admin = world.connect(v5("admin"));
    let reader = world.connect(v5("reader"));
    world.subscribe(reader, "a/#", QoS::AtMostOnce);
    let forbid = json!([{"command": "addRoleACL", "rolename": "all", "acltype": "publishClientReceive",
        "topic": "a/b", "priority": 5, "allow": false}]);
    ask(&mut world, admin, QoS::AtMostOnce, forbid);
    // Before it is saved.
    let ended = |world: &mut World| world.broker.take_closing().map(|it| it.connection);
    assert_eq!(ended(&mut world), Some(reader));
    assert_eq!(ended(&mut world), None, "who asked is to hear the answer");
    assert_eq!(do_chore(&mut world), Some("save"));
    assert_eq!(ended(&mut world), Some(admin));
}

#[test]
fn requests_that_wait_are_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = world(directory.path());
    let admin = world.connect(v5("admin"));
    let first = json!([{"command": "createRole", "rolename": "r"}]);
    ask(&mut world, admin, QoS::AtMostOnce, first);
    let long = json!([{"command": "x".repeat(WAITING_BYTES_MAX / 2)}]);
    ask(&mut world, admin, QoS::AtLeastOnce, long.clone());
    assert_eq!(world.sent(admin)[..], [0x40, 2, 0, 1]);
    ask(&mut world, admin, QoS::AtLeastOnce, long);
    assert_eq!(
        world.sent(admin)[..5],
        [0x40, 3, 0, 1, ReasonCode::QuotaExceeded as u8]
    );
    assert_eq!(do_chore(&mut world), Some("save"));
    assert_eq!(world.broker.control.bytes, 0);
}
