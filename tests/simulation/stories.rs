//! Stories that once went wrong, each as short as it could be told.

use super::oracle::{Rights, Settings};
use super::outcome;
use super::step::{MessageStep, Person, Plan, Step, Which};

const PERSON: Person = Person {
    version: 5,
    is_lazy: false,
    receive_maximum: None,
    packet_bytes_max: None,
    alias_maximum: 0,
    room: 1 << 20,
};

/// Two clients, the first of them like this.
fn plan(first: Person, inflight_max: u16, queued_max: Option<usize>) -> Plan {
    Plan {
        clients: vec![first, PERSON],
        settings: Settings {
            queued_max,
            duplicates: false,
            queues_qos_0: false,
            expiration: None,
            in_pieces: false,
            is_durable: true,

            rights: Rights::All,
        },
        inflight_max,
        is_durable: true,
        is_crashy: false,
        look_up_piece: None,

        seed: 1,
    }
}

fn connect(client: u8) -> Step {
    Step::Connect {
        client,
        clean: false,
        expiry_seconds: 3600,
        keep_alive: 0,
        will: None,
    }
}

/// The filter and the options are indexes of [`FILTERS`](super::step::FILTERS), and a byte.
fn subscribe(client: u8, filter: u8, options: u8) -> Step {
    Step::Subscribe {
        client,
        filters: vec![(filter, options)],
        identifier: 0,
    }
}

fn publish(client: u8, topic: u8, qos: u8, retain: bool) -> Step {
    let message = MessageStep {
        topic,
        qos,
        retain,
        expiry_seconds: None,
        bytes: 10,
        wants_alias: false,
    };
    Step::Publish(client, message)
}

fn tell(plan: &Plan, steps: &[Step]) {
    if let Err(text) = outcome(plan, steps) {
        panic!("{text}");
    }
}

/// Rules that say `subscribe` were asked about `$share/h/#`, and not about what stands behind the share name, when the client
/// came back.
#[test]
fn shared_subscriptions_stay_under_subscribe_rules() {
    let steps = [
        connect(0),
        connect(1),
        Step::Flow,
        Step::Configure(1),
        subscribe(0, 9, 1),
        Step::Flow,
        Step::Lose {
            client: 0,
            is_heard: true,
        },
        connect(0),
        Step::Flow,
        publish(1, 6, 1, false),
    ];
    tell(&plan(PERSON, 20, None), &steps);
}

/// What waited for a commit went to a client that had lost the right to it meanwhile.
#[test]
fn rights_are_asked_for_after_the_commit() {
    let steps = [
        connect(0),
        connect(1),
        Step::Flow,
        subscribe(0, 0, 2),
        Step::Flow,
        publish(1, 4, 2, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Turn,
        Step::Commit,
        Step::Turn,
        Step::Down(1, u16::MAX),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Turn,
        Step::Configure(1),
        Step::Commit,
        Step::Turn,
    ];
    tell(&plan(PERSON, 20, None), &steps);
}

/// A new message overtook the retained one of its topic while SUBACK, and the look-up behind it, waited for a commit.
#[test]
fn retained_messages_come_before_newer_ones() {
    let steps = [
        connect(0),
        Step::Flow,
        publish(0, 3, 1, true),
        subscribe(0, 2, 1),
        publish(0, 3, 1, false),
        Step::Flow,
    ];
    tell(&plan(PERSON, 20, None), &steps);
}

/// A retained message that was sent out of its turn was lost where the queue was full.
#[test]
fn retained_messages_wait_for_a_full_queue() {
    let lazy = Person {
        is_lazy: true,
        ..PERSON
    };
    let steps = [
        connect(0),
        connect(1),
        Step::Flow,
        publish(1, 1, 1, true),
        subscribe(0, 7, 1),
        Step::Flow,
        publish(1, 0, 1, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Turn,
        Step::Commit,
        Step::Turn,
        Step::Down(1, u16::MAX),
        publish(1, 0, 1, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        subscribe(0, 4, 1),
        Step::Up(0, u16::MAX, Which::Oldest),
        Step::Turn,
        Step::Commit,
        Step::Turn,
        Step::Down(1, u16::MAX),
        publish(1, 1, 0, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Flow,
    ];
    tell(&plan(lazy, 1, Some(1)), &steps);
}

/// A retained message that had had its turn was sent once more before a new one of its topic.
#[test]
fn retained_messages_are_not_sent_twice() {
    let lazy = Person {
        is_lazy: true,
        ..PERSON
    };
    let steps = [
        connect(0),
        connect(1),
        Step::Flow,
        publish(1, 6, 1, true),
        Step::Flow,
        publish(1, 3, 0, true),
        publish(1, 1, 1, true),
        Step::Flow,
        subscribe(0, 0, 1),
        Step::Up(0, u16::MAX, Which::Oldest),
        publish(1, 6, 1, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Turn,
        Step::Commit,
        Step::Turn,
        Step::Down(1, u16::MAX),
        publish(1, 3, 0, false),
        Step::Up(1, u16::MAX, Which::Oldest),
        Step::Flow,
    ];
    tell(&plan(lazy, 1, None), &steps);
}

/// What waited behind a message that was too large for the client, which turned out when its commit was there, waited for ever.
#[test]
fn a_message_that_is_too_large_holds_nothing_up() {
    let small = Person {
        receive_maximum: Some(1),
        packet_bytes_max: Some(600),
        ..PERSON
    };
    let large = MessageStep {
        topic: 3,
        qos: 2,
        retain: false,
        expiry_seconds: None,
        bytes: 1000,
        wants_alias: false,
    };
    let steps = [
        connect(0),
        connect(1),
        Step::Flow,
        subscribe(0, 0, 2),
        Step::Flow,
        Step::Publish(1, large),
        Step::Publish(1, large),
        publish(1, 0, 2, false),
        Step::Flow,
    ];
    tell(&plan(small, 20, None), &steps);
}
