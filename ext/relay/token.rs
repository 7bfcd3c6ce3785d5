//! What epoll hands back with an event: whose it is, in one word.

use super::slab::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Caller,
    Upstream,
    Listener,
    Mailbox,
}

/// Two bits of kind, thirty of generation, thirty-two of index.
pub(super) const fn write(kind: Kind, key: Key) -> u64 {
    (kind as u64) << 62 | (key.generation as u64) << 32 | key.index as u64
}

pub(super) const fn read(token: u64) -> (Kind, Key) {
    let kind = match token >> 62 {
        0 => Kind::Caller,
        1 => Kind::Upstream,
        2 => Kind::Listener,
        _ => Kind::Mailbox,
    };
    #[expect(clippy::cast_possible_truncation, reason = "each part is cut to its width")]
    let key = Key { index: token as u32, generation: (token >> 32) as u32 & 0x3fff_ffff };
    (kind, key)
}

/// The name of a connection that asked a question, for other threads: four bits of thread within the index, which
/// descriptors do not reach.
pub(super) const fn write_question(thread: usize, key: Key) -> u64 {
    (key.generation as u64) << 32 | (thread as u64) << 28 | key.index as u64
}

pub(super) const fn read_question(token: u64) -> (usize, Key) {
    let (_, key) = read(token);
    ((key.index >> 28) as usize, Key { index: key.index & 0x0fff_ffff, generation: key.generation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_thread() {
        let key = Key { index: 77, generation: (1 << 30) - 1 };
        assert_eq!(read_question(write_question(15, key)), (15, key));
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let key = Key { index: u32::MAX, generation: (1 << 30) - 1 };
        for kind in [Kind::Caller, Kind::Upstream, Kind::Listener, Kind::Mailbox] {
            assert_eq!(read(write(kind, key)), (kind, key));
        }
    }
}
