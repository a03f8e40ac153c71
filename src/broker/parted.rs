//! A hash table in parts, so that no growth of it is a long one.
//!
//! A table that is full moves into one of twice the size. With a million nodes that took 80 to 160 ms in the middle of a
//! SUBSCRIBE, and everybody waited; here each part has a sixty-fourth to move, and a turn can end between two of them.
//!
//! 1. An entry is in the part that its hash names.
//! 2. There is one part until [`WHOLE_MAX`] entries are there, since more of them cost each look a cache line, and then there
//!    are [`PARTS`].

use hashbrown::HashTable;

/// How many parts: a million entries are moved in pieces of a few milliseconds.
const PARTS: usize = 64;

/// So many entries are moved in a millisecond.
const WHOLE_MAX: usize = 14_336;

/// Which bits of a hash name the part: `hashbrown` looks at the lowest, and at the seven highest.
const PART_BITS: u32 = 40;

/// Numbers, found by hashes that their owner makes.
#[derive(Debug)]
pub struct PartedTable {
    parts: Vec<HashTable<u32>>,
    len: usize,
}

impl PartedTable {
    /// Without entries.
    pub fn new() -> PartedTable {
        PartedTable {
            parts: vec![HashTable::new()],
            len: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.parts[self.part_of(hash)]
            .find(hash, |&number| is_it(number))
            .copied()
    }

    /// Adds `number`, which is not there, under `hash`; `hash_of` says those of the others, where they must move.
    pub fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len == WHOLE_MAX && self.parts.len() == 1 {
            self.divide(&hash_of);
        }
        let part = self.part_of(hash);
        self.parts[part].insert_unique(hash, number, |&number| hash_of(number));
        self.len += 1;
    }

    /// Takes away `number`, which is there under `hash`.
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, hash: u64, number: u32) {
        let part = self.part_of(hash);
        self.parts[part]
            .find_entry(hash, |&other| other == number)
            .expect("what is removed was inserted")
            .remove();
        self.len -= 1;
    }

    /// How many bytes the parts have allocated.
    #[cfg(test)]
    pub fn allocation_size(&self) -> usize {
        let parts = self.parts.iter().map(HashTable::allocation_size);
        parts.sum::<usize>() + size_of_val(&*self.parts)
    }

    #[cold]
    fn divide(&mut self, hash_of: impl Fn(u32) -> u64) {
        let whole = std::mem::take(&mut self.parts);
        self.parts = (0..PARTS).map(|_| HashTable::new()).collect();
        for number in whole.into_iter().flatten() {
            let hash = hash_of(number);
            let part = self.part_of(hash);
            self.parts[part].insert_unique(hash, number, |&number| hash_of(number));
        }
    }

    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        (hash >> PART_BITS) as usize & (self.parts.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(number: u32) -> u64 {
        u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn everything_is_found_until_it_is_removed() {
        let mut table = PartedTable::new();
        for number in 0..20_000 {
            table.insert(hash_of(number), number, hash_of);
        }
        let find = |table: &PartedTable, number| table.find(hash_of(number), |it| it == number);
        for number in (0..20_000).step_by(2) {
            table.remove(hash_of(number), number);
        }
        assert_eq!((table.len(), table.parts.len()), (10_000, PARTS));
        for number in 0..21_000 {
            let is_there = number < 20_000 && number % 2 == 1;
            assert_eq!(find(&table, number), is_there.then_some(number));
        }
    }

    /// Otherwise a growth would be long after all.
    #[test]
    fn the_parts_are_about_equal() {
        let mut table = PartedTable::new();
        for number in 0..64_000 {
            table.insert(hash_of(number), number, hash_of);
        }
        let lengths = table.parts.iter().map(HashTable::len);
        assert!(lengths.clone().min() > Some(800) && lengths.max() < Some(1200));
    }
}
