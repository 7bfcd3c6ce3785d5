//! Where a thread keeps its connections: found by index and generation, so that an event for one that is gone finds
//! nothing, and given back in chunks, so that ten thousand that closed leave no memory behind.

/// Entries of a chunk: one word of occupancy.
const CHUNK: usize = 64;
/// Generations fit beside the kind and the index in an epoll token.
const GENERATIONS: u32 = 1 << 30;

/// The name of one entry for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Chunk<T> {
    used: u64,
    entries: [Option<(u32, T)>; CHUNK],
}

/// A growing and shrinking table of `T`.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Option<Box<Chunk<T>>>>,
    /// No chunk before this one has room.
    first_with_room: usize,
    generation: u32,
    length: usize,
    /// One empty chunk is kept: a thread that serves one connection at a time does not allocate for each.
    spare: Option<Box<Chunk<T>>>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), first_with_room: 0, generation: 0, length: 0, spare: None }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let at = self.chunk_with_room();
        let spare = &mut self.spare;
        let chunk = self.chunks[at].get_or_insert_with(|| {
            spare.take().unwrap_or_else(|| Box::new(Chunk { used: 0, entries: [const { None }; CHUNK] }))
        });
        let bit = (!chunk.used).trailing_zeros() as usize;
        self.generation = (self.generation + 1) % GENERATIONS;
        chunk.used |= 1 << bit;
        chunk.entries[bit] = Some((self.generation, value));
        self.length += 1;
        let index = u32::try_from(at * CHUNK + bit).expect("descriptors are fewer than 2^32");
        Key { index, generation: self.generation }
    }

    fn chunk_with_room(&mut self) -> usize {
        let has_room = |chunk: &Option<Box<Chunk<T>>>| chunk.as_ref().is_none_or(|c| c.used != u64::MAX);
        let found = self.chunks[self.first_with_room..].iter().position(has_room);
        let at = found.map_or(self.chunks.len(), |n| self.first_with_room + n);
        if at == self.chunks.len() {
            self.chunks.push(None);
        }
        self.first_with_room = at;
        at
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.entry(key.index)?;
        (generation == key.generation).then_some(value)
    }

    /// The entry at `index`, whoever it is, with its generation.
    pub(crate) fn entry(&mut self, index: u32) -> Option<(u32, &mut T)> {
        let at = index as usize;
        let chunk = self.chunks.get_mut(at / CHUNK)?.as_mut()?;
        chunk.entries[at % CHUNK].as_mut().map(|(generation, value)| (*generation, value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let (at, bit) = (key.index as usize / CHUNK, key.index as usize % CHUNK);
        let chunk = self.chunks[at].as_mut()?;
        chunk.used &= !(1 << bit);
        let removed = chunk.entries[bit].take();
        if chunk.used == 0 {
            self.spare = self.chunks[at].take();
        }
        self.first_with_room = self.first_with_room.min(at);
        self.length -= 1;
        removed.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slab = Slab::new();
        let old = slab.insert("a");
        assert_eq!(slab.remove(old), Some("a"));
        let new = slab.insert("b");
        assert_eq!(old.index, new.index);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut "b"));
    }

    #[test]
    fn empty_chunks_are_given_back() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..1000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.len(), 1000);
        for (n, key) in keys.into_iter().enumerate() {
            assert_eq!(slab.remove(key), Some(n));
        }
        assert!(slab.chunks.iter().all(Option::is_none));
        assert_eq!(slab.insert(7).index, 0);
    }
}
