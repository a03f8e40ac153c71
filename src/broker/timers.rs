//! Deadlines: Keep Alive, Session Expiry, Message Expiry, Will Delay and whatever else must happen later.
//!
//! A hierarchical wheel: level 0 has a slot for each of 64 milliseconds, each higher level a slot for 64 slots of the
//! level below, and eleven levels cover every `u64`. Slots are doubly linked lists through one arena of entries. The
//! wheel does not know what a deadline is for, and learns what time it is only from [`Timers::pop_expired`].
//!
//! 1. A deadline is kept at the level of the highest digit (of 6 bits) in which it differs from the wheel's time; one
//!    that has passed already is kept as if it were the wheel's time.
//! 2. So all that is kept at one level is due before anything at a higher level, and within a level slots are due in
//!    the order of their index: the first set bit of the lowest level in use is the next slot. Nothing ever wraps.
//! 3. The wheel's time never passes the start of a slot in use, except that of level 0 which it stands on.
//! 4. A slot's `earliest` is not later than any deadline in it; it is exact until the earliest entry is cancelled.
//! 5. Entries of the same deadline leave in the order in which they came.
//! 6. A key is answered only while its entry lives: freeing an entry changes its generation.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Add;
use std::time::Duration;

/// A moment: milliseconds since the broker began.
///
/// There is one fewer of them than `u64` has numbers, so that a moment that may be absent needs no more room: stored
/// messages and sessions have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

const _: () = assert!(size_of::<Option<Time>>() == 8);

impl Time {
    /// The moment the broker began.
    pub const ZERO: Time = Time::from_millis(0);

    /// The last moment.
    const MAX: Time = Time::from_millis(u64::MAX);

    /// The moment that many milliseconds after the broker began, or the last one.
    pub const fn from_millis(millis: u64) -> Time {
        Time(NonZeroU64::MIN.saturating_add(millis))
    }

    /// Milliseconds since the broker began.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn saturating_sub(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// The moment `duration` later, rounded up to whole milliseconds so that a deadline is never early.
    fn add(self, duration: Duration) -> Time {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(millis))
    }
}

/// Names one entry of [`Timers`] for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: NonZeroU32,
}

const NONE: u32 = u32::MAX;
/// The slot of an entry that is not in use.
const FREE: u16 = u16::MAX;
const DIGIT_BITS: u32 = 6;
const SLOTS_PER_LEVEL: usize = 1 << DIGIT_BITS;
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;

struct Entry<T> {
    deadline: Time,
    next: u32,
    previous: u32,
    generation: NonZeroU32,
    slot: u16,
    value: Option<T>,
}

const _: () = assert!(size_of::<Entry<u64>>() <= 40);
const _: () = assert!(size_of::<Option<TimerKey>>() == 8);

#[derive(Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
    earliest: Time,
}

const EMPTY: Slot = Slot {
    first: NONE,
    last: NONE,
    earliest: Time::MAX,
};

/// Values that wait for their deadlines.
pub struct Timers<T> {
    entries: Vec<Entry<T>>,
    /// The first entry that is not in use; the others follow through `next`.
    free: u32,
    len: usize,
    /// The wheel's time: what was given to the last `pop_expired` that had no more to give.
    time: Time,
    slots: Box<[Slot]>,
    /// For each level, which of its slots are in use.
    used: [u64; LEVELS],
    /// Which levels have a slot in use.
    used_levels: u16,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers::new()
    }
}

impl<T> Timers<T> {
    /// A wheel with nothing in it, at the moment the broker began.
    pub fn new() -> Timers<T> {
        Timers {
            entries: Vec::new(),
            free: NONE,
            len: 0,
            time: Time::ZERO,
            slots: vec![EMPTY; LEVELS * SLOTS_PER_LEVEL].into_boxed_slice(),
            used: [0; LEVELS],
            used_levels: 0,
        }
    }

    /// How many values wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `value` wait for `deadline`; if that has passed, the next [`Timers::pop_expired`] may give it.
    pub fn insert(&mut self, deadline: Time, value: T) -> TimerKey {
        let index = self.allocate(deadline, value);
        self.len += 1;
        self.link(index);
        TimerKey {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Takes back a value that still waits; `None` if it does not, whoever has its place now.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.slot == FREE || entry.generation != key.generation {
            return None;
        }
        self.unlink(key.index);
        Some(self.release(key.index))
    }

    /// When to call [`Timers::pop_expired`] next, `None` if nothing waits.
    ///
    /// This is the earliest deadline, except where that of a far slot was cancelled: then it may be the one that was
    /// cancelled, once. After `pop_expired(now)` gave `None`, this is later than `now`.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_slot()
            .map(|slot| self.slots[usize::from(slot)].earliest)
    }

    /// The next value whose deadline is not after `now`, in the order of deadlines; call until `None`.
    ///
    /// `now` must not go back; if it does, nothing expires early for it.
    pub fn pop_expired(&mut self, now: Time) -> Option<T> {
        while let Some(slot) = self.next_slot() {
            let start = self.start_of(slot);
            if start > now {
                break;
            }
            self.time = start;
            if usize::from(slot) < SLOTS_PER_LEVEL {
                let index = self.slots[usize::from(slot)].first;
                self.unlink(index);
                return Some(self.release(index));
            }
            self.cascade(slot);
        }
        self.time = self.time.max(now);
        None
    }

    /// Walks the whole wheel.
    /// # Panics
    /// If one of the numbered invariants does not hold.
    pub fn check_invariants(&self) {
        let mut linked = 0;
        for (number, slot) in self.slots.iter().enumerate() {
            let (level, digit) = (number / SLOTS_PER_LEVEL, number % SLOTS_PER_LEVEL);
            let used = self.used[level] >> digit & 1 == 1;
            assert_eq!(used, slot.first != NONE, "the bitmap says what is used");
            assert_eq!(used, slot.last != NONE);
            if used {
                let start = self.start_of(number as u16);
                assert!(level == 0 || start > self.time, "3: time passed a slot");
                assert!(level > 0 || start >= self.time, "3: time passed a slot");
            }
            let (mut previous, mut index) = (NONE, slot.first);
            while index != NONE {
                let entry = &self.entries[index as usize];
                assert_eq!(entry.previous, previous);
                assert_eq!(usize::from(entry.slot), number);
                assert_eq!(usize::from(self.slot_of(entry.deadline)), number, "1");
                assert!(slot.earliest <= entry.deadline, "4");
                assert!(entry.value.is_some());
                linked += 1;
                (previous, index) = (index, entry.next);
            }
            assert_eq!(slot.last, previous);
        }
        for (level, used) in self.used.iter().enumerate() {
            assert_eq!(self.used_levels >> level & 1 == 1, *used != 0);
        }
        assert_eq!(linked, self.len);
        let (mut free, mut index) = (0, self.free);
        while index != NONE {
            let entry = &self.entries[index as usize];
            assert!(entry.slot == FREE && entry.value.is_none());
            free += 1;
            index = entry.next;
        }
        assert_eq!(linked + free, self.entries.len());
    }

    /// The slot that is due next (invariant 2).
    fn next_slot(&self) -> Option<u16> {
        if self.used_levels == 0 {
            return None;
        }
        let level = self.used_levels.trailing_zeros();
        let digit = self.used[level as usize].trailing_zeros();
        Some((level << DIGIT_BITS | digit) as u16)
    }

    /// The slot in which `deadline` is kept now (invariant 1).
    fn slot_of(&self, deadline: Time) -> u16 {
        let due = deadline.max(self.time).as_millis();
        let differing = (due ^ self.time.as_millis()) | (SLOTS_PER_LEVEL as u64 - 1);
        let level = differing.ilog2() / DIGIT_BITS;
        let digit = due >> (level * DIGIT_BITS) & (SLOTS_PER_LEVEL as u64 - 1);
        (level << DIGIT_BITS) as u16 | digit as u16
    }

    /// The first moment of a slot in use: the digits above its level are those of the wheel's time.
    fn start_of(&self, slot: u16) -> Time {
        let shift = u32::from(slot) / SLOTS_PER_LEVEL as u32 * DIGIT_BITS;
        let digit = u64::from(slot) % SLOTS_PER_LEVEL as u64;
        let above = u64::MAX.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        Time::from_millis(self.time.as_millis() & above | digit << shift)
    }

    /// Spreads a slot whose time has come over the levels below, in its order (invariant 5).
    fn cascade(&mut self, slot: u16) {
        let mut index = self.slots[usize::from(slot)].first;
        self.empty(slot);
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn empty(&mut self, slot: u16) {
        let slot = usize::from(slot);
        let (level, digit) = (slot / SLOTS_PER_LEVEL, slot % SLOTS_PER_LEVEL);
        self.slots[slot] = EMPTY;
        self.used[level] &= !(1 << digit);
        if self.used[level] == 0 {
            self.used_levels &= !(1 << level);
        }
    }

    /// Puts an entry at the end of the slot where its deadline belongs.
    fn link(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        let number = self.slot_of(deadline);
        let level = usize::from(number) / SLOTS_PER_LEVEL;
        self.used[level] |= 1 << (usize::from(number) % SLOTS_PER_LEVEL);
        self.used_levels |= 1 << level;

        let slot = &mut self.slots[usize::from(number)];
        slot.earliest = slot.earliest.min(deadline);
        let previous = std::mem::replace(&mut slot.last, index);
        match previous {
            NONE => slot.first = index,
            previous => self.entries[previous as usize].next = index,
        }
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.slot) = (previous, NONE, number);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            next,
            previous,
            slot,
            ..
        } = self.entries[index as usize];
        if previous == NONE && next == NONE {
            return self.empty(slot);
        }
        match previous {
            NONE => self.slots[usize::from(slot)].first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.slots[usize::from(slot)].last = previous,
            next => self.entries[next as usize].previous = previous,
        }
    }

    fn allocate(&mut self, deadline: Time, value: T) -> u32 {
        if self.free != NONE {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            entry.deadline = deadline;
            entry.value = Some(value);
            return index;
        }
        let index = u32::try_from(self.entries.len())
            .ok()
            .filter(|index| *index != NONE)
            .expect("memory ends before 2^32 timers");
        self.entries.push(Entry {
            deadline,
            next: NONE,
            previous: NONE,
            generation: NonZeroU32::MIN,
            slot: FREE,
            value: Some(value),
        });
        index
    }

    fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        entry.slot = FREE;
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.value.take().expect("an entry in use has a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn drain(timers: &mut Timers<u64>, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| timers.pop_expired(Time::from_millis(now))).collect()
    }

    #[test]
    fn time_rounds_up_and_saturates() {
        assert_eq!(
            Time::from_millis(5) + Duration::from_micros(1),
            Time::from_millis(6)
        );
        assert_eq!(
            Time::from_millis(5) + Duration::from_millis(2),
            Time::from_millis(7)
        );
        assert_eq!(Time::from_millis(5) + Duration::MAX, Time::MAX);
        assert_eq!(
            Time::from_millis(5).saturating_sub(Time::from_millis(2)),
            Duration::from_millis(3)
        );
        assert_eq!(
            Time::from_millis(2).saturating_sub(Time::from_millis(5)),
            Duration::ZERO
        );
    }

    #[test]
    fn nothing_is_early_at_any_distance() {
        for deadline in [
            0,
            1,
            63,
            64,
            65,
            4095,
            4096,
            90_000,
            u64::from(u32::MAX) * 1000,
            u64::MAX - 1,
        ] {
            for begin in [0, 1, 62, 63, 4000, 1 << 41, u64::MAX / 2] {
                let mut timers = Timers::new();
                assert_eq!(timers.pop_expired(Time::from_millis(begin)), None);
                timers.insert(Time::from_millis(deadline), deadline);
                assert_eq!(timers.next_deadline(), Some(Time::from_millis(deadline)));
                if deadline > begin {
                    assert_eq!(timers.pop_expired(Time::from_millis(deadline - 1)), None);
                    assert_eq!(timers.next_deadline(), Some(Time::from_millis(deadline)));
                }
                assert_eq!(
                    timers.pop_expired(Time::from_millis(deadline.max(begin))),
                    Some(deadline)
                );
                assert_eq!(timers.next_deadline(), None);
                timers.check_invariants();
            }
        }
    }

    #[test]
    fn stale_keys_are_none() {
        let mut timers = Timers::new();
        let first = timers.insert(Time::from_millis(10), 1);
        assert_eq!(timers.cancel(first), Some(1));
        assert_eq!(timers.cancel(first), None);
        let second = timers.insert(Time::from_millis(10), 2);
        assert_eq!(first.index, second.index);
        assert_eq!(timers.cancel(first), None);
        assert_eq!(drain(&mut timers, 10), [2]);
        assert_eq!(timers.cancel(second), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_cancelled_deadline_wakes_at_most_once() {
        let mut timers = Timers::new();
        let early = timers.insert(Time::from_millis(70_000), 1);
        timers.insert(Time::from_millis(90_000), 2);
        timers.cancel(early);
        let mut wakes = 0;
        while let Some(deadline) = timers.next_deadline() {
            wakes += 1;
            drain(&mut timers, deadline.as_millis());
        }
        assert!(wakes <= 2, "{wakes} wakes");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
        AdvanceToNext,
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = prop_oneof![0..10u64, 0..200u64, 0..100_000u64, 0..(1u64 << 43)];
        prop_oneof![
            5 => distance.clone().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Cancel),
            2 => distance.prop_map(Step::Advance),
            1 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in proptest::collection::vec(step(), 1..200)) {
            let mut timers = Timers::new();
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut keys = Vec::new();
            let (mut now, mut sequence) = (0u64, 0u64);
            let mut cancelled = false;
            for step in steps {
                match step {
                    Step::Insert(distance) => {
                        // Some deadlines lie in the past: half of the near ones.
                        let deadline = if distance < 5 { now.saturating_sub(distance) } else { now + distance };
                        let key = timers.insert(Time::from_millis(deadline), sequence);
                        let order = (deadline.max(now), sequence);
                        model.insert(order, deadline);
                        keys.push((key, order));
                        sequence += 1;
                    }
                    Step::Cancel(at) if !keys.is_empty() => {
                        let (key, order) = keys[at % keys.len()];
                        let expected = model.remove(&order).map(|_| order.1);
                        cancelled |= expected.is_some();
                        prop_assert_eq!(timers.cancel(key), expected);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(_) | Step::AdvanceToNext => {
                        now = match step {
                            Step::Advance(distance) => now + distance,
                            _ => timers.next_deadline().map_or(now, |next| next.as_millis().max(now)),
                        };
                        let later = model.split_off(&(now + 1, 0));
                        let expected: Vec<u64> = model.keys().map(|order| order.1).collect();
                        model = later;
                        prop_assert_eq!(drain(&mut timers, now), expected);
                        prop_assert!(timers.next_deadline().is_none_or(|next| next.as_millis() > now));
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                let earliest = model.values().min().map(|deadline| Time::from_millis(*deadline));
                if cancelled {
                    prop_assert!(timers.next_deadline() <= earliest);
                    prop_assert_eq!(timers.next_deadline().is_some(), earliest.is_some());
                } else {
                    prop_assert_eq!(timers.next_deadline(), earliest);
                }
                timers.check_invariants();
            }
        }
    }
}
