//! Byte strings to small numbers: open addressing over one arena, built once, looked up without allocating.

use super::hash::of_bytes;

const FREE: u32 = u32::MAX;

/// Each distinct (tag, bytes) gets the next number from 0. With a trie's node as tag, the number is the child.
pub(super) struct Interner {
    slots: Vec<u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

struct Entry {
    tag: u32,
    start: u32,
    len: u32,
}

impl Interner {
    pub(super) fn new() -> Self {
        Interner { slots: vec![FREE; 8], entries: Vec::new(), arena: Vec::new() }
    }

    /// How many there are; the next number.
    pub(super) fn len(&self) -> u32 {
        index(self.entries.len())
    }

    pub(super) fn get(&self, tag: u32, key: &[u8]) -> Option<u32> {
        let number = self.slots[self.slot_of(tag, key)];
        (number != FREE).then_some(number)
    }

    pub(super) fn insert(&mut self, tag: u32, key: &[u8]) -> u32 {
        let slot = self.slot_of(tag, key);
        if self.slots[slot] != FREE {
            return self.slots[slot];
        }
        let number = self.len();
        self.slots[slot] = number;
        self.entries.push(Entry { tag, start: index(self.arena.len()), len: index(key.len()) });
        self.arena.extend_from_slice(key);
        // At most half full: a probe then ends after two steps on average, also for a key that is not there.
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    /// The slot that holds the key, or the free one where it belongs.
    fn slot_of(&self, tag: u32, key: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        // The low half of the hash is all that a table of fewer than 2^32 slots can use.
        #[allow(clippy::cast_possible_truncation)]
        let mut slot = of_bytes(tag, key) as usize & mask;
        while self.slots[slot] != FREE && !self.holds(self.slots[slot], tag, key) {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn holds(&self, number: u32, tag: u32, key: &[u8]) -> bool {
        let entry = &self.entries[number as usize];
        entry.tag == tag && self.bytes(entry) == key
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.start as usize..(entry.start + entry.len) as usize]
    }

    fn grow(&mut self) {
        self.slots = vec![FREE; self.slots.len() * 2];
        for number in 0..self.len() {
            let entry = &self.entries[number as usize];
            let slot = self.slot_of(entry.tag, self.bytes(entry));
            self.slots[slot] = number;
        }
    }
}

/// A length as the number that tables keep. `Table` bounds what comes in far below 4 GiB.
pub(super) fn index(len: usize) -> u32 {
    u32::try_from(len).expect("a table is bounded far below 2^32 entries")
}
