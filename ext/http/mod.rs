//! HTTP/1.1 as a hop must read it: strict, one canonical form, no I/O.
//!
//! Bytes in, values out. Nothing here copies a message: what was found is kept as offsets into the buffer that was
//! read, so the bytes which were checked are the bytes which are signed and sent. A message that two parsers could
//! read in two ways is refused and never repaired. Reused values and buffers make the steady state free of
//! allocations.
//!
//! The law of these files: the outcome depends on the bytes alone, not on how they were cut into reads. Faults are
//! therefore found in the order of the bytes, and a limit is judged before what stands behind it.

pub mod answer;
pub mod body;
pub mod canonical;
pub mod date;
mod fields;
pub mod forward;
mod grammar;
pub mod head;
pub mod line;
mod refusal;
mod section;
mod target;

#[cfg(test)]
mod tests;

pub(crate) use grammar::{compare_names, hex_digit, trim};

/// A part of a message, as offsets into the buffer that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Offsets beyond 4 GiB cannot occur: every caller reads below the limits of `head.rs` and `answer.rs`.
    fn new(start: usize, end: usize) -> Self {
        Self { start: offset(start), end: offset(end) }
    }

    pub(crate) fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a head is shorter than 4 GiB")
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection closes; answers only.
    UntilClose,
}

/// Whether a head is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    Incomplete,
    Complete,
}
