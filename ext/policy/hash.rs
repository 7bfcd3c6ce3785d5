//! A hash for tables that are built once from the host's rules and then only read.
//!
//! A caller chooses what is looked up and never what is stored, so it cannot make collisions pile up: no keyed hash is
//! needed, and one multiplication per eight bytes is a fifth of `SipHash`'s price on keys of this length.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A set with the hash of this file.
pub(super) type Set<K> = HashSet<K, BuildHasherDefault<Multiply>>;

/// A map with it.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// 2^64 divided by the golden ratio: odd, and its bits are well mixed (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hash of `bytes` under `tag`.
pub(super) fn of_bytes(tag: u32, bytes: &[u8]) -> u64 {
    let mut hasher = Multiply(u64::from(tag) ^ (bytes.len() as u64) << 32);
    hasher.write(bytes);
    hasher.finish()
}

#[derive(Default)]
pub(super) struct Multiply(u64);

impl Multiply {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(GOLDEN);
    }
}

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            self.add(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.add(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }

    fn write_i64(&mut self, n: i64) {
        self.add(n.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        // Tables index by low bits, the product's high bits are the mixed ones.
        self.0 ^ self.0 >> 32
    }
}
