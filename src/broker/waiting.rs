//! Whose password is compared next: those who wait, a lane for each place that they come from, served in turns.
//!
//! Comparing takes tens of milliseconds, so whoever sends wrong passwords in numbers makes others wait. From one place they
//! wait behind each other, and everybody else behind one of them at most.
//! 1. What a connection left behind that is gone is gone with it: its password at once, its place in a lane when it is reached.
//! 2. A place has a lane while somebody waits in it, and is named once in `turns`.

use super::authenticate::PasswordCheck;
use crate::buffer::{ConnectionKey, PeerAddress};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Where connections come from, as far as one sender can choose it: of IPv6 addresses the network alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    V4(u32),
    V6(u64),
    Unix,
}

impl Place {
    fn of(address: PeerAddress) -> Place {
        match address {
            PeerAddress::Unix(_) => Place::Unix,
            PeerAddress::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => Place::V4(address.to_bits()),
                IpAddr::V6(address) => Place::V6((address.to_bits() >> 64) as u64),
            },
        }
    }
}

/// Those who wait.
#[derive(Default)]
pub(super) struct Waiting {
    checks: HashMap<ConnectionKey, PasswordCheck, foldhash::fast::RandomState>,
    lanes: HashMap<Place, VecDeque<ConnectionKey>, foldhash::fast::RandomState>,
    turns: VecDeque<Place>,
}

impl Waiting {
    /// `check` waits behind the others from its place.
    pub(super) fn push(&mut self, address: PeerAddress, check: PasswordCheck) {
        let place = Place::of(address);
        let lane = self.lanes.entry(place).or_insert_with(|| {
            self.turns.push_back(place);
            VecDeque::new()
        });
        lane.push_back(check.connection);
        self.checks.insert(check.connection, check);
    }

    /// `connection` is gone.
    pub(super) fn forget(&mut self, connection: ConnectionKey) {
        self.checks.remove(&connection);
    }

    /// The next one in turn; `None` when nobody waits.
    pub(super) fn pop(&mut self) -> Option<PasswordCheck> {
        loop {
            let place = self.turns.pop_front()?;
            let lane = self.lanes.get_mut(&place).expect("its place has a turn");
            let mut found = None;
            while found.is_none()
                && let Some(connection) = lane.pop_front()
            {
                found = self.checks.remove(&connection);
            }
            if lane.is_empty() {
                self.lanes.remove(&place);
            } else {
                self.turns.push_back(place);
            }
            if found.is_some() {
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn from(address: [u8; 4], index: u32) -> (PeerAddress, PasswordCheck) {
        let address = SocketAddr::from((Ipv4Addr::from(address), 1));
        let connection = ConnectionKey {
            index,
            generation: index,
        };
        (
            PeerAddress::Ip(address),
            PasswordCheck::for_test(connection),
        )
    }

    fn order(waiting: &mut Waiting) -> Vec<u32> {
        let next = || waiting.pop().map(|check| check.connection.index);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn places_take_turns_and_who_is_gone_is_passed_over() {
        let mut waiting = Waiting::default();
        let (crowd, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        for (place, index) in [(crowd, 0), (crowd, 1), (crowd, 2), (crowd, 3), (other, 4)] {
            let (address, check) = from(place, index);
            waiting.push(address, check);
        }
        waiting.forget(ConnectionKey {
            index: 1,
            generation: 1,
        });
        assert_eq!(order(&mut waiting), [0, 4, 2, 3]);
        assert!(waiting.lanes.is_empty() && waiting.turns.is_empty() && waiting.checks.is_empty());
        let (address, check) = from(crowd, 5);
        waiting.push(address, check);
        assert_eq!(order(&mut waiting), [5]);
    }
}
