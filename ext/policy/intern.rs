//! Byte strings to small numbers: open addressing over one arena, built once, looked up without allocating.

use super::hash::of_bytes;

const FREE: u32 = u32::MAX;

/// Each distinct (tag, bytes) gets the next number from 0. With a trie's node as tag, the number is the child.
pub(super) struct Interner {
    slots: Vec<u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

/// Keys of rules are short, and one that stands here needs no look into the arena.
const SHORT: usize = 11;

struct Entry {
    tag: u32,
    /// Length of a key that stands in `here`; one more than `SHORT` for any that does not.
    len: u8,
    /// The key; or where in the arena it begins and how long it is, four bytes each.
    here: [u8; SHORT],
}

impl Entry {
    fn new(tag: u32, key: &[u8], arena: &mut Vec<u8>) -> Self {
        let mut here = [0; SHORT];
        if key.len() <= SHORT {
            here[..key.len()].copy_from_slice(key);
            return Entry { tag, len: u8::try_from(key.len()).expect("it is short"), here };
        }
        here[..4].copy_from_slice(&index(arena.len()).to_ne_bytes());
        here[4..8].copy_from_slice(&index(key.len()).to_ne_bytes());
        arena.extend_from_slice(key);
        Entry { tag, len: u8::try_from(SHORT + 1).expect("it is short"), here }
    }

    fn key<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        if let Some(key) = self.here.get(..usize::from(self.len)) {
            return key;
        }
        let number = |at: usize| {
            let bytes = self.here[at..].first_chunk().expect("it holds two numbers");
            u32::from_ne_bytes(*bytes)
        };
        let (start, len) = (number(0), number(4));
        &arena[start as usize..(start + len) as usize]
    }
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
        self.entries.push(Entry::new(tag, key, &mut self.arena));
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
        entry.tag == tag && entry.key(&self.arena) == key
    }

    fn grow(&mut self) {
        self.slots = vec![FREE; self.slots.len() * 2];
        for number in 0..self.len() {
            let entry = &self.entries[number as usize];
            let slot = self.slot_of(entry.tag, entry.key(&self.arena));
            self.slots[slot] = number;
        }
    }
}

/// A length as the number that tables keep. `Table` bounds what comes in far below 4 GiB.
pub(super) fn index(len: usize) -> u32 {
    u32::try_from(len).expect("a table is bounded far below 2^32 entries")
}
