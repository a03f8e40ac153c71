//! What happens in a simulation: the world it begins with, and the steps, all from one seed.
//!
//! A step says what it does by numbers that are taken modulo what is there, so that every list of steps is a story, also
//! one from which steps were taken out.

use fastrand::Rng;

use super::oracle::{Rights, Settings};

/// A world before its first step.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: Vec<Person>,
    pub settings: Settings,
    /// `max_inflight_messages`.
    pub inflight_max: u16,
    pub is_durable: bool,
    /// Whether the broker is killed often, among clients that stay and send QoS 2 for the most part.
    pub is_crashy: bool,

    /// How many retained messages are looked up at once, if not as many as usual.
    pub look_up_piece: Option<usize>,
    /// Seeds what the broker draws.
    pub seed: u64,
}

/// What does not change about a client.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    /// 3, 4 or 5.
    pub version: u8,
    pub is_lazy: bool,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub alias_maximum: u16,
    /// How many bytes its kernel takes.
    pub room: usize,
}

/// One of a client's connections.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Oldest,
    Newest,
}

/// One thing that happens; `client` and the like are indexes.
#[derive(Clone, Debug)]
pub enum Step {
    Connect {
        client: u8,
        clean: bool,
        expiry_seconds: u32,
        keep_alive: u16,
        will: Option<WillStep>,
    },
    Publish(u8, MessageStep),
    Subscribe {
        client: u8,
        filters: Vec<(u8, u8)>,
        identifier: u32,
    },
    Unsubscribe {
        client: u8,
        filter: u8,
    },
    Ping(u8),
    Disconnect {
        client: u8,
        with_will: bool,
        expiry_seconds: Option<u32>,
    },
    /// So many of a client's bytes reach the broker, on its oldest connection that has some, or on its newest: those of one
    /// keep their order, and connections do not.
    Up(u8, u16, Which),
    /// So many of the broker's bytes reach the client.
    Down(u8, u16),
    /// What a lazy client has to acknowledge, it does.
    Ack(u8),
    /// The network loses a connection; the broker hears of it, or finds out by itself.
    Lose {
        client: u8,
        is_heard: bool,
    },
    /// The end of a turn: a batch goes to the disk, if that is free, and the sockets take what they can.
    Turn,
    /// The batch is on disk.
    Commit,
    Wait {
        millis: u32,
    },
    /// The broker is killed, and begins again so much later; whether its last bytes still reach the clients.
    Crash {
        millis: u32,
        reaches: bool,
    },
    /// Other rights.
    Configure(u8),
    /// Everything flows until nothing is left to flow.
    Flow,
}

#[derive(Clone, Copy, Debug)]
pub struct MessageStep {
    pub topic: u8,
    pub qos: u8,
    pub retain: bool,
    pub expiry_seconds: Option<u32>,
    pub bytes: u16,
    pub wants_alias: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct WillStep {
    pub message: MessageStep,
    pub delay_seconds: u32,
}

/// Topics that messages are about.
pub const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "b", "b/c", "c", "a/c", "$x/a"];

/// What clients subscribe to.
pub const FILTERS: [&str; 14] = [
    "#",
    "a/#",
    "+",
    "a/+",
    "a/b",
    "b/#",
    "+/+",
    "a",
    "$share/g/a/#",
    "$share/h/#",
    "$share/g/+/c",
    "c",
    "$x/#",
    "a/b/#",
];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let is_crashy = rng.u8(..3) == 0;
        let count = match rng.u8(..20) {
            _ if is_crashy => 3,
            0 => rng.usize(60..200),
            1..6 => rng.usize(6..20),
            _ => rng.usize(2..6),
        };
        let has_limits = !is_crashy && rng.u8(..4) == 0;
        let slow = !is_crashy && rng.u8(..3) == 0;
        let clients = (0..count).map(|_| Person {
            version: pick(&mut rng, &[3, 4, 4, 5, 5, 5]),
            is_lazy: rng.u8(..3) == 0,
            receive_maximum: pick(&mut rng, &[None, None, Some(1), Some(2), Some(5)]),
            packet_bytes_max: pick(&mut rng, &[None, None, None, Some(600)]),
            alias_maximum: pick(&mut rng, &[0, 0, 1, 3]),
            room: if slow {
                pick(&mut rng, &[20, 200, 5000])
            } else {
                1 << 20
            },
        });
        let clients = clients.collect();
        let is_durable = rng.u8(..4) != 0;

        let look_up_piece = pick(&mut rng, &[None, Some(1), Some(3)]);
        Plan {
            clients,
            settings: Settings {
                queued_max: has_limits.then(|| rng.usize(1..6)),
                duplicates: rng.u8(..5) == 0,
                queues_qos_0: rng.u8(..5) == 0,
                expiration: (rng.u8(..6) == 0).then_some(20_000),
                in_pieces: look_up_piece.is_some(),
                is_durable: is_crashy || is_durable,
                rights: Rights::All,
            },
            inflight_max: pick(&mut rng, &[20, 20, 0, 1, 3]),
            is_durable: is_crashy || is_durable,
            is_crashy,
            look_up_piece,
            seed,
        }
    }

    /// So many steps.
    pub fn steps(&self, count: usize) -> Vec<Step> {
        let mut rng = Rng::with_seed(self.seed ^ 0x5EED);
        let has_reloads = rng.u8(..4) == 0;
        let crash = if self.is_durable { rng.u32(..4) } else { 0 };
        // How often each kind comes: Connect, Publish, Subscribe, ... in the order of `Step`.
        let crashy = [1, 16, 4, 0, 0, 0, 40, 40, 5, 2, 30, 10, 1, 6, 0, 2];
        let mixed = [
            rng.u32(4..12),
            rng.u32(10..40),
            rng.u32(3..10),
            rng.u32(0..3),
            1,
            rng.u32(0..4),
            rng.u32(5..30),
            rng.u32(5..30),
            rng.u32(2..10),
            rng.u32(0..5),
            rng.u32(10..30),
            rng.u32(5..20),
            rng.u32(0..6),
            crash,
            u32::from(has_reloads) * 4,
            rng.u32(1..8),
        ];
        let mut steps = Vec::with_capacity(count);
        let weights = if self.is_crashy { crashy } else { mixed };
        // A story needs somebody in it.
        for client in 0..self.clients.len().min(count / 4) {
            steps.push(connect(&mut rng, client as u8, self.is_crashy));
        }
        while steps.len() < count {
            let step = step(&mut rng, &weights, self.is_crashy);
            let all_come_back = self.is_crashy && matches!(step, Step::Crash { .. });
            steps.push(step);
            if all_come_back {
                let clients = 0..self.clients.len() as u8;
                steps.extend(clients.map(|client| connect(&mut rng, client, true)));
            }
        }
        steps
    }
}

fn connect(rng: &mut Rng, client: u8, stays: bool) -> Step {
    if stays {
        return Step::Connect {
            client,
            clean: rng.u8(..30) == 0,
            // One of them is a guest.
            expiry_seconds: if client == 2 { 0 } else { 3600 },
            keep_alive: 0,
            will: None,
        };
    }
    Step::Connect {
        client,
        clean: rng.u8(..4) == 0,
        expiry_seconds: pick(rng, &[0, 5, 60, 3600, 3600, u32::MAX]),
        keep_alive: pick(rng, &[0, 0, 2, 10]),
        will: (rng.u8(..3) == 0).then(|| WillStep {
            message: message(rng, false),
            delay_seconds: pick(rng, &[0, 0, 3, 30]),
        }),
    }
}

fn message(rng: &mut Rng, is_plain: bool) -> MessageStep {
    if is_plain {
        return MessageStep {
            topic: rng.u8(..),
            qos: pick(rng, &[2, 2, 2, 2, 1]),
            retain: rng.u8(..12) == 0,
            expiry_seconds: None,
            bytes: rng.u16(5..20),
            wants_alias: false,
        };
    }
    MessageStep {
        topic: rng.u8(..),
        qos: rng.u8(..3),
        retain: rng.u8(..4) == 0,
        expiry_seconds: pick(rng, &[None, None, None, Some(2), Some(20)]),
        bytes: match rng.u8(..16) {
            0 => 0,
            1 => rng.u16(500..3000),
            2 if rng.u8(..8) == 0 => 40_000,
            _ => rng.u16(10..60),
        },
        wants_alias: rng.bool(),
    }
}

fn step(rng: &mut Rng, weights: &[u32; 16], is_crashy: bool) -> Step {
    let sum: u32 = weights.iter().sum();
    let mut at = rng.u32(..sum);
    let kind = weights.iter().position(|&weight| {
        let is_here = at < weight;
        at = at.saturating_sub(weight);
        is_here
    });
    let client = rng.u8(..);
    let sizes: &[u16] = if is_crashy {
        &[20, u16::MAX]
    } else {
        &[1, 3, 20, 2000, u16::MAX]
    };
    match kind.expect("below the sum") {
        0 => connect(rng, client, is_crashy),
        1 => Step::Publish(client, message(rng, is_crashy)),
        2 => Step::Subscribe {
            client,
            filters: (0..rng.usize(1..4))
                .map(|_| (rng.u8(..), rng.u8(..)))
                .collect(),
            identifier: pick(rng, &[0, 0, 1, 7, 200_000]),
        },
        3 => Step::Unsubscribe {
            client,
            filter: rng.u8(..),
        },
        4 => Step::Ping(client),
        5 => Step::Disconnect {
            client,
            with_will: rng.bool(),
            expiry_seconds: pick(rng, &[None, None, Some(0), Some(7), Some(u32::MAX)]),
        },
        6 => {
            let bytes = pick(rng, sizes);
            Step::Up(
                client,
                bytes,
                pick(rng, &[Which::Oldest, Which::Oldest, Which::Newest]),
            )
        }
        7 => Step::Down(client, pick(rng, sizes)),
        8 => Step::Ack(client),
        9 => Step::Lose {
            client,
            is_heard: rng.bool(),
        },
        10 => Step::Turn,
        11 => Step::Commit,
        12 => Step::Wait {
            millis: pick(rng, &[1, 100, 1000, 4000, 30_000, 4_000_000]),
        },
        13 => Step::Crash {
            millis: pick(rng, &[0, 100, 6000, 100_000]),
            reaches: rng.bool(),
        },
        14 => Step::Configure(rng.u8(..)),
        _ => Step::Flow,
    }
}
