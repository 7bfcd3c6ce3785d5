//! Deadlines of connections, one each, without a heap and without a tick.
//!
//! Nearly every deadline is "now plus a constant of its kind", so each kind has a queue that is sorted by itself:
//! setting and clearing are a few writes, the earliest deadline of all is the earliest head. A deadline that does not
//! follow the rule (a hold counts from connect()) is walked to its place from the end.

/// What a connection waits for; each has a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wait {
    /// The next request on a kept connection.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// Readiness of the agent, with the two budgets of `hold.rs`.
    Hold,
    /// A look at the caller, see `strangers.rs`.
    Look,
    /// Room for a body, asked for again at short intervals.
    Room,
    /// The host's handshake.
    Connect,
    /// The pause before one more try.
    Retry,
    /// The first byte of an answer.
    FirstByte,
    /// The same for uploads.
    FirstByteOfUpload,
    /// The next byte of an answer.
    NextByte,
    /// A caller that does not read its answer.
    Reader,
    /// The control plane's answer to a question.
    Question,
    /// A caller that said it will send no more and may have left.
    Leaving,
    /// A refused caller that still sends.
    Linger,
}

const KINDS: usize = Wait::Linger as usize + 1;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    at: u64,
    previous: u32,
    next: u32,
    wait: Option<Wait>,
}

const UNSET: Node = Node { at: 0, previous: NONE, next: NONE, wait: None };

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
}

/// The deadlines of one thread's connections, by their index.
#[derive(Debug)]
pub(crate) struct Timers {
    nodes: Vec<Node>,
    queues: [Queue; KINDS],
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), queues: [Queue { first: NONE, last: NONE }; KINDS] }
    }

    /// Sets the deadline of `index` to `at` (ns, monotonic) and forgets the one before.
    pub(crate) fn set(&mut self, index: u32, wait: Wait, at: u64) {
        self.clear(index);
        if self.nodes.len() <= index as usize {
            self.nodes.resize(index as usize + 1, UNSET);
        }
        let mut previous = self.queues[wait as usize].last;
        while previous != NONE && self.nodes[previous as usize].at > at {
            previous = self.nodes[previous as usize].previous;
        }
        let next = match previous {
            NONE => std::mem::replace(&mut self.queues[wait as usize].first, index),
            _ => std::mem::replace(&mut self.nodes[previous as usize].next, index),
        };
        match next {
            NONE => self.queues[wait as usize].last = index,
            _ => self.nodes[next as usize].previous = index,
        }
        self.nodes[index as usize] = Node { at, previous, next, wait: Some(wait) };
    }

    /// Forgets the deadline of `index`, if it has one.
    pub(crate) fn clear(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        let Node { previous, next, wait: Some(wait), .. } = std::mem::replace(node, UNSET) else { return };
        match previous {
            NONE => self.queues[wait as usize].first = next,
            _ => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => self.queues[wait as usize].last = previous,
            _ => self.nodes[next as usize].previous = previous,
        }
    }

    /// Forgets the room for indices beyond the last that waits.
    pub(crate) fn shrink(&mut self) {
        let used = self.nodes.iter().rposition(|node| node.wait.is_some()).map_or(0, |at| at + 1);
        self.nodes.truncate(used);
        self.nodes.shrink_to_fit();
    }

    /// What `index` waits for.
    pub(crate) fn waits_for(&self, index: u32) -> Option<Wait> {
        self.nodes.get(index as usize).and_then(|node| node.wait)
    }

    /// The earliest deadline.
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.queues.iter().filter(|q| q.first != NONE).map(|q| self.nodes[q.first as usize].at).min()
    }

    /// Takes one deadline that has passed.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<(u32, Wait)> {
        let index = self.queues.iter().map(|q| q.first).find(|i| *i != NONE && self.nodes[*i as usize].at <= now)?;
        let wait = self.nodes[index as usize].wait?;
        self.clear(index);
        Some((index, wait))
    }

    /// The connection whose deadline of this kind is the earliest.
    pub(crate) fn first(&self, wait: Wait) -> Option<u32> {
        Some(self.queues[wait as usize].first).filter(|i| *i != NONE)
    }

    /// The connection after `index` among those that wait for the same.
    pub(crate) fn after(&self, index: u32) -> Option<u32> {
        self.nodes.get(index as usize).map(|node| node.next).filter(|i| *i != NONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn earliest_of_all_kinds_is_due_first() {
        let mut timers = Timers::new();
        timers.set(3, Wait::Idle, 75);
        timers.set(1, Wait::Head, 10);
        timers.set(2, Wait::Idle, 76);
        assert_eq!(timers.earliest(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(10), Some((1, Wait::Head)));
        assert_eq!(timers.pop_due(80), Some((3, Wait::Idle)));
        assert_eq!(timers.pop_due(80), Some((2, Wait::Idle)));
        assert_eq!(timers.earliest(), None);
    }

    proptest! {
        /// Whatever is set, moved and cleared, deadlines come out as a sorted list would give them.
        #[test]
        fn agrees_with_a_sorted_list(steps in prop::collection::vec((0u32..12, 0u8..4, 0u64..50), 1..200)) {
            let kinds = [Wait::Idle, Wait::Head, Wait::Hold];
            let mut timers = Timers::new();
            let mut model = std::collections::BTreeMap::new();
            for (index, kind, at) in steps {
                if let Some(wait) = kinds.get(usize::from(kind)) {
                    timers.set(index, *wait, at);
                    model.insert(index, at);
                } else {
                    timers.clear(index);
                    model.remove(&index);
                }
                prop_assert_eq!(timers.earliest(), model.values().min().copied());
            }
            for now in 0..50 {
                while let Some((index, _)) = timers.pop_due(now) {
                    prop_assert_eq!(model.remove(&index), Some(now));
                }
            }
            prop_assert!(model.is_empty());
        }
    }
}
