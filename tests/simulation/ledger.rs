//! What was promised to clients and what reached them, end to end. No crash makes it forget.

use std::collections::BTreeMap;

use midge::mqtt::Publish;

use super::oracle::{Message, Oracle, Routed};

/// What is known of one message.
#[derive(Debug, Default)]
struct Entry {
    /// The QoS it was published with.
    qos: u8,
    retain: bool,
    /// How often it may reach a client at most, by client and effective QoS.
    may_reach: BTreeMap<(String, u8), u32>,
    /// How often it may reach anybody through shared groups.
    may_reach_groups: u32,
    /// Sessions that it must reach once it is acknowledged, and until when.
    must_reach: Vec<(String, u64, Option<u64>)>,
    is_acknowledged: bool,
    /// When the broker last passed it on, and no crash made that undone.
    routed_at: Option<u64>,

    /// When the retained message of its topic was set by it.
    retained_at: Option<(String, u64)>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Ledger {
    messages: Vec<Entry>,
    /// By client, message, effective QoS and RETAIN.
    arrived: BTreeMap<(String, u64, u8, bool), u32>,
    /// By topic: when what was acknowledged last was retained or cleared.
    pub retained: BTreeMap<String, u64>,
}

/// The number at the front of a payload; 0 where there is none.
pub fn number_of(payload: &[u8]) -> u64 {
    let digits = payload.iter().take_while(|it| it.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

impl Ledger {
    /// The number of a new message.
    pub fn number(&mut self) -> u64 {
        self.messages.push(Entry::default());
        self.messages.len() as u64
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.messages
            .get_mut(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The broker passed a message on.
    pub fn routed(&mut self, message: &Message, routed: &Routed) {
        let Some(entry) = self.entry(message.number) else {
            return;
        };
        (entry.qos, entry.retain) = (message.qos, message.retain);
        entry.routed_at = Some(routed.serial);
        if message.retain {
            entry.retained_at = Some((message.topic.clone(), routed.serial));
        }
        let mut counts: BTreeMap<(String, u8), u32> = BTreeMap::new();
        for (client, serial, qos, must) in &routed.to {
            *counts.entry((client.clone(), *qos)).or_default() += 1;
            let it = (client.clone(), *serial, message.expires);
            if *must && *qos > 0 && !entry.must_reach.contains(&it) {
                entry.must_reach.push(it);
            }
        }
        let groups = routed.to_groups.len() as u32;
        // What was published exactly once is passed on a second time only where a crash made the first undone.
        let is_once = message.qos == 2;
        for (key, count) in counts {
            let known = entry.may_reach.entry(key).or_default();
            *known = if is_once {
                count.max(*known)
            } else {
                count + *known
            };
        }
        let known = &mut entry.may_reach_groups;
        *known = if is_once {
            groups.max(*known)
        } else {
            groups + *known
        };
    }

    /// A message was put out on a connection that ended at the same moment, which the oracle thought of as over.
    pub fn may_reach(&mut self, client: &str, publish: &Publish<'_>) {
        let key = (client.to_owned(), publish.qos as u8);
        if let Some(entry) = self.entry(number_of(publish.payload)) {
            *entry.may_reach.entry(key).or_default() += 1;
        }
    }

    /// Its publisher, who had heard that the broker owns it, heard that it was released.
    pub fn completed(&mut self, number: u64) {
        let entry = self.entry(number);
        let is_there = entry.is_none_or(|entry| entry.routed_at.is_some());
        assert!(
            is_there,
            "message {number} was received and released, and went to nobody"
        );
        self.acknowledged(number);
    }

    /// The broker is killed: what happened after `stored` is as if it had never been, unless somebody was told of it.
    pub fn crashed(&mut self, stored: u64) {
        for entry in &mut self.messages {
            if entry.routed_at.is_some_and(|at| at > stored) {
                entry.routed_at = None;
                if !entry.is_acknowledged {
                    entry.must_reach.clear();
                    entry.retained_at = None;
                }
            }
        }
    }

    /// Its publisher heard that the broker has it.
    pub fn acknowledged(&mut self, number: u64) {
        let Some(entry) = self.entry(number) else {
            return;
        };
        entry.is_acknowledged = true;
        if let Some((topic, serial)) = entry.retained_at.clone() {
            let known = self.retained.entry(topic).or_default();
            *known = serial.max(*known);
        }
    }

    /// A client got a message.
    pub fn arrived(&mut self, client: &str, publish: &Publish<'_>) {
        let number = number_of(publish.payload);
        let qos = publish.qos as u8;
        let key = (client.to_owned(), number, qos, publish.retain);
        let count = self.arrived.entry(key).or_default();
        *count += 1;
        let count = *count;
        let Some(entry) = self.entry(number) else {
            return;
        };
        // At least once may be more; and a subscription may be given what is retained at any time.
        if qos == 1 || publish.retain || (entry.retain && qos == 0) {
            return;
        }
        let own = entry
            .may_reach
            .get(&(client.to_owned(), qos))
            .copied()
            .unwrap_or(0);
        let may = own + entry.may_reach_groups;
        assert!(
            count <= may,
            "{client} got message {number} {count} times at QoS {qos}, not {may} times"
        );
    }

    /// Whether a client got a message.
    pub fn has(&self, client: &str, number: u64) -> bool {
        self.arrived
            .keys()
            .any(|(it, that, ..)| it == client && *that == number)
    }

    /// Nothing that was acknowledged is missing.
    pub fn check(&self, oracle: &Oracle, now: u64) {
        for (index, entry) in self.messages.iter().enumerate() {
            let number = index as u64 + 1;
            for (client, serial, expires) in
                entry.must_reach.iter().filter(|_| entry.is_acknowledged)
            {
                let session = oracle.sessions.get(client);
                if session.is_none_or(|it| it.serial != *serial)
                    || expires.is_some_and(|it| it <= now)
                {
                    continue;
                }
                assert!(
                    self.has(client, number),
                    "message {number} was acknowledged, and {client} never got it"
                );
            }
        }
    }
}
