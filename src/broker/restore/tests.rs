//! A broker that begins under other settings than the one before it ended under.

use super::*;
use crate::auth::{Auth, Making};
use crate::broker::principal::Claim;
use crate::broker::tests::World;
use crate::config::Config;
use tempfile::TempDir;

/// Lines of password files.
const HASH: &str = "$6$exAV7K+NMV/metdC$0191Tms/Gu1Mc315wokh481Gga5UkFUsl2Ab7YQlCRoAOJ8gNQQ9C4F79Mn+PZntjyOn2DM46fMpFC+EaX+Guw==";

/// A broker with these lines of configuration, in which `{dir}` has files with passwords for the users that they are named
/// after, and a file of rules.
fn broker(lines: &str, rules: &str) -> (World, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["alice", "bob"] {
        std::fs::write(dir.path().join(name), format!("{name}:{HASH}\n")).expect("written");
    }
    std::fs::write(dir.path().join("rules"), rules).expect("written");
    let text = lines.replace("{dir}", dir.path().to_str().expect("a name"));
    let config = Config::from_text("test.conf", text).expect("a good configuration");
    let auth = Auth::load(&config, Making::Forbidden).expect("good files");
    (World::with(config, auth), dir)
}

fn alice(listener_port: u16, proof: ProofKind) -> Owner {
    Owner {
        user_name: Some("alice".to_owned()),
        proof,
        listener_port,
    }
}

/// Who comes through this listener: alice, if that is how she proves it, and otherwise nobody in particular.
fn comes(world: &World, listener: usize, is_alice: bool) -> Principal {
    let auth = world.broker.authority.auth();
    let hash = auth.hash_of(listener, "alice").cloned();
    drop(auth);
    let (name, proof) = match is_alice {
        true => (
            Some("alice".into()),
            Proof::Password(Some(hash.expect("a user"))),
        ),
        false => (None, Proof::None),
    };
    Principal::new(&world.broker.authority, &"c".into(), name, proof, listener)
}

/// Only the port of a listener is stored. Where that leaves open which one it was, whoever is known by name to one of them
/// is its user, and nobody else gets the session.
#[test]
fn sessions_stay_with_their_users_where_listeners_cannot_be_told_apart() {
    let open = "allow_anonymous true\n";
    let alices = "password_file {dir}/alice\n";
    let bobs = "allow_anonymous true\npassword_file {dir}/bob\n";
    let per_listener = "per_listener_settings true\n";
    for first in [open, bobs] {
        for ports in [[1883, 1883], [1884, 1885]] {
            let [one, two] = ports;
            let lines = format!(
                "{per_listener}listener {one} 127.0.0.1\n{first}listener {two} 127.0.0.2\n{alices}"
            );
            let (world, _dir) = broker(&lines, "");
            let owner = world
                .broker
                .restored_principal(&"c".into(), alice(1883, ProofKind::Password));
            let claim = |listener, is_alice| owner.session_for(&comes(&world, listener, is_alice));
            assert_eq!(claim(1, true), Claim::Resumed, "{lines}");
            assert_eq!(claim(0, false), Claim::Refused, "{lines}");
        }
    }
}

/// Where nobody can prove a name any more, sessions are for whoever comes, however their owners once proved theirs.
#[test]
fn sessions_of_names_that_nobody_can_prove_are_for_everybody() {
    for proof in [ProofKind::Password, ProofKind::Certificate] {
        let (world, _dir) = broker("listener 1883\nsys_interval 0\nallow_anonymous true\n", "");
        let owner = world
            .broker
            .restored_principal(&"c".into(), alice(1883, proof));
        assert_eq!(owner.session_for(&comes(&world, 0, false)), Claim::Resumed);
        let (world, _dir) = broker(
            "listener 1883\nsys_interval 0\nallow_anonymous true\npassword_file {dir}/bob\n",
            "",
        );
        let owner = world
            .broker
            .restored_principal(&"c".into(), alice(1883, proof));
        assert_ne!(owner.session_for(&comes(&world, 0, false)), Claim::Resumed);
    }
}

fn session(id: u64) -> SessionRecord {
    SessionRecord {
        id,
        client_id: format!("client {id}"),
        owner: Owner {
            listener_port: 1883,
            ..Owner::default()
        },
        expiry_seconds: 1000,
        ends: None,
        will: None,
        will_due: None,
        next_packet_id: 1,
    }
}

fn message(id: u64, topic: &str, retained: Option<Source>) -> MessageRecord {
    MessageRecord {
        id,
        bytes: format!("{topic}payload").into_bytes().into(),
        topic_length: topic.len() as u16,
        properties_length: 0,
        qos: QoS::AtLeastOnce,
        retain: retained.is_some(),
        expires: None,
        retained,
    }
}

fn at(now: Time, unix_millis: u64) -> Clocks {
    Clocks { now, unix_millis }
}

/// A shorter `persistent_client_expiration` counts from the first start with it, not anew from each.
#[test]
fn a_clock_that_another_limit_shortened_is_stored() {
    let lines =
        "listener 1883\nsys_interval 0\nallow_anonymous true\npersistent_client_expiration 1h\n";
    let mut record = SessionRecord {
        expiry_seconds: 100_000,
        ends: Some(90_000_000),
        ..session(1)
    };
    for minutes in [0, 30] {
        let (mut world, _dir) = broker(lines, "");
        let clocks = at(world.now, minutes * 60_000);
        let mut restoring = world.broker.begin_restoring(1, clocks);
        restoring.session(record.clone());
        restoring.finish();
        if let Some(mut batch) = world.broker.take_batch(clocks) {
            record = batch.sessions.pop().expect("the session");
        }
        assert_eq!(
            (record.expiry_seconds, record.ends),
            (3600, Some(3_600_000))
        );
    }
}

/// Where the system's clock is set while a broker runs, what is stored ends when it would have ended: by its own next start, and
/// by that of the broker after it.
#[test]
fn a_clock_that_is_set_ends_nothing() {
    const DECADES: u64 = 1_700_000_000_000;
    let lines = "listener 1883\nsys_interval 0\nallow_anonymous true\n";
    let (mut world, _dir) = broker(lines, "");
    let mut restoring = world.broker.begin_restoring(3, at(world.now, 0));
    let mut lasting = message(2, "t", Some(Source::default()));
    lasting.expires = Some(500_000);
    restoring.message(lasting);
    restoring.session(SessionRecord {
        ends: Some(900_000),
        ..session(1)
    });
    restoring.finish();
    // It learns what year it is.
    world.broker.clock_was_set(DECADES as i64);
    let batch = world.broker.take_batch(at(world.now, 0));
    let batch = batch.expect("it is stored");
    assert_eq!(batch.clock_ahead, Some(DECADES as i64));
    let snapshot = world.broker.take_snapshot(at(world.now, 0));
    assert_eq!(snapshot.clock_ahead, Some(DECADES as i64));
    let (mut world, _dir) = broker(lines, "");
    let mut restoring = world
        .broker
        .begin_restoring(3, at(world.now, DECADES + 100_000));
    restoring.clock(DECADES as i64);
    let mut of_session = snapshot.sessions;
    snapshot
        .messages
        .into_iter()
        .for_each(|it| restoring.message(it));
    restoring.session(of_session.pop().expect("one"));
    restoring.finish();
    assert_eq!(world.broker.clock_ahead(), DECADES as i64);
    assert_eq!(
        world.broker.next_deadline(),
        Some(Time::ZERO + Duration::from_secs(400))
    );
    world.pass(Duration::from_secs(401));
    assert_eq!(world.broker.retained.len(), 0, "it expired");
    let of_session = Some(Time::ZERO + Duration::from_secs(800));
    assert_eq!(world.broker.next_deadline(), of_session);
}

/// A machine without a clock of its own begins in 1970: what was due by then is not due decades later.
#[test]
fn a_will_waits_no_longer_than_its_delay() {
    let (mut world, _dir) = broker("listener 1883\nsys_interval 0\nallow_anonymous true\n", "");
    let mut restoring = world.broker.begin_restoring(2, at(world.now, 0));
    restoring.message(message(2, "will", None));
    let will = WillRecord {
        message: 2,
        delay_seconds: 60,
        message_expiry_seconds: None,
    };
    restoring.session(SessionRecord {
        will: Some(will),
        ends: Some(1_700_001_000_000),
        will_due: Some(1_700_000_030_000),
        ..session(1)
    });
    restoring.finish();
    assert_eq!(
        world.broker.next_deadline(),
        Some(world.now + Duration::from_secs(60))
    );
}

/// Everything that one client retained has one principal, as it had before.
#[test]
fn retained_messages_of_one_client_share_who_published_them() {
    let (mut world, _dir) = broker("listener 1883\nsys_interval 0\nallow_anonymous true\n", "");
    let mut restoring = world.broker.begin_restoring(9, at(world.now, 0));
    let source = |client_id: &str| Source {
        client_id: Some(client_id.to_owned()),
        owner: session(1).owner,
    };
    for (id, client_id) in [(1, "a"), (2, "a"), (3, "b")] {
        restoring.message(message(id, &format!("t{id}"), Some(source(client_id))));
    }
    restoring.finish();
    let source = |topic| {
        world
            .broker
            .retained
            .get(topic)
            .and_then(|it| it.source.clone())
    };
    let [one, two, three] = ["t1", "t2", "t3"].map(|topic| source(topic).expect("there"));
    assert!(Rc::ptr_eq(&one, &two) && !Rc::ptr_eq(&two, &three));
}

/// A subscription that the rules of today forbid is gone, as it would be after a reload.
#[test]
fn forbidden_subscriptions_do_not_come_back() {
    let rules = "topic readwrite #\ntopic subscribe allowed\n";
    let lines = "listener 1883\nsys_interval 0\nallow_anonymous true\nacl_file {dir}/rules\n";
    let (mut world, _dir) = broker(lines, rules);
    let clocks = at(world.now, 0);
    let mut restoring = world.broker.begin_restoring(1, clocks);
    restoring.session(session(1));
    for filter in ["allowed", "forbidden"] {
        restoring.subscription(&SubscriptionRecord {
            session: 1,
            filter: filter.to_owned(),
            options: 1,
            identifier: 0,
        });
    }
    restoring.finish();
    world.broker.check_invariants();
    assert_eq!(
        world.broker.subscription_tree(),
        "allowed (QoS 1) client 1\n"
    );
    let batch = world.broker.take_batch(clocks).expect("changed");
    assert_eq!(batch.removed.subscriptions, [(1, "forbidden".to_owned())]);
}

/// What does not fit is left out once, and not at each start.
#[test]
fn a_subscription_that_does_not_fit_is_removed() {
    let (mut world, _dir) = broker("listener 1883\nsys_interval 0\nallow_anonymous true\n", "");
    let clocks = at(world.now, 0);
    let mut restoring = world.broker.begin_restoring(1, clocks);
    restoring.session(session(1));
    restoring.subscription(&SubscriptionRecord {
        session: 1,
        filter: "#/a".to_owned(),
        options: 1,
        identifier: 0,
    });
    assert_eq!(restoring.finish().misfits, 1);
    let batch = world.broker.take_batch(clocks).expect("changed");
    assert_eq!(batch.removed.subscriptions, [(1, "#/a".to_owned())]);
}

/// Rows that are not what was written.
mod rows {
    use super::*;
    use crate::auth::Auth;
    use crate::config::Config;

    const CLOCKS: Clocks = Clocks {
        now: Time::ZERO,
        unix_millis: 1_700_000_000_000,
    };

    fn broker() -> Broker {
        let random = Box::new(|| 1);
        Broker::new(
            Config::default(),
            Auth::default(),
            Time::ZERO,
            Duration::ZERO,
            random,
        )
    }

    fn session(id: u64) -> SessionRecord {
        SessionRecord {
            id,
            client_id: format!("client-{id}"),
            owner: Owner::default(),
            expiry_seconds: u32::MAX,
            ends: None,
            will: None,
            will_due: None,
            next_packet_id: 1,
        }
    }

    fn message(id: u64, properties: &[u8]) -> MessageRecord {
        MessageRecord {
            id,
            bytes: [b"topic", properties, b"payload"].concat().into(),
            topic_length: 5,
            properties_length: properties.len() as u32,
            qos: QoS::AtLeastOnce,
            retain: true,
            expires: None,
            retained: Some(Source::default()),
        }
    }

    #[test]
    fn stored_properties_that_no_publish_carries_are_left_out() {
        for (properties, is_sound) in [
            (&b""[..], true),
            (b"\x01\x01\x26\0\x01k\0\x01v", true),
            (b"\x05", false),             // no such property
            (b"\x01", false),             // not whole
            (b"\x01\x02", false),         // no such value
            (b"\x01\x01\x01\x01", false), // twice
            (b"\x23\0\x01", false),       // a Topic Alias is not passed on
            (b"\x0b\x01", false),         // nor is a Subscription Identifier
        ] {
            let mut broker = broker();
            let mut restoring = broker.begin_restoring(9, CLOCKS);
            restoring.message(message(1, properties));
            let counts = restoring.finish();
            assert_eq!(counts.retained, u64::from(is_sound), "{properties:02x?}");
            assert_eq!(counts.misfits, u64::from(!is_sound), "{properties:02x?}");
        }
    }

    #[test]
    fn a_stored_message_in_row_0_is_left_out() {
        let mut broker = broker();
        let mut restoring = broker.begin_restoring(9, CLOCKS);
        restoring.message(message(0, b""));
        let mut record = session(2);
        record.will = Some(WillRecord {
            message: 0,
            delay_seconds: 60,
            message_expiry_seconds: None,
        });
        restoring.session(record);
        assert_eq!(restoring.finish().misfits, 1);
        let snapshot = broker.take_snapshot(CLOCKS);
        assert_eq!(snapshot.sessions.len(), 1);
        assert_eq!(snapshot.sessions[0].will, None);
    }

    #[test]
    fn stored_subscription_identifiers_that_no_packet_has_are_left_out() {
        for (identifier, is_delivered, is_subscribed) in [
            (0, false, true), // a subscription may have none
            (1, true, true),
            (VARIABLE_BYTE_INTEGER_MAX, true, true),
            (VARIABLE_BYTE_INTEGER_MAX + 1, false, false),
            (u32::MAX, false, false),
        ] {
            let mut broker = broker();
            let mut restoring = broker.begin_restoring(9, CLOCKS);
            restoring.message(message(1, b""));
            restoring.session(session(2));
            restoring.subscription(&SubscriptionRecord {
                session: 2,
                filter: "topic".to_owned(),
                options: 1,
                identifier,
            });
            restoring.delivery(&DeliveryRecord {
                id: 3,
                session: 2,
                message: Some(1),
                packet_id: 0,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: vec![identifier],
            });
            let counts = restoring.finish();
            assert_eq!(counts.deliveries, u64::from(is_delivered), "{identifier}");
            assert_eq!(
                counts.subscriptions,
                u64::from(is_subscribed),
                "{identifier}"
            );
        }
    }
}
