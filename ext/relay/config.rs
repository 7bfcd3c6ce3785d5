//! What a relay is given when it starts, and every limit it keeps, each with its reason.

use std::sync::Arc;
use std::time::Duration;

use super::interception::{Interception, KernelInterception};
use super::relief::Relief;

/// Reactor threads; the index of a thread has four bits in decision ids.
pub const MAX_THREADS: usize = 16;

/// First read of a request: real heads are 300 to 2,000 bytes, so one short read takes the whole of it.
pub(super) const READ: usize = 4096;
/// Bytes moved by one read of a body or an answer, and so the window of a caller that reads slowly.
pub(super) const WINDOW: usize = 128 * 1024;
/// A body up to this size is copied behind its head: one buffer costs the kernel less than two, and the copy less than
/// that.
pub(super) const JOIN: usize = 4096;
/// Windows that one connection may move before the others have their turn.
pub(super) const TURNS: usize = 8;
/// A streamed upload: exempt, or to an endpoint that is not protected (docs/protocol.md, "Forwarded request").
pub(super) const STREAM_LIMIT: u64 = 100 << 20;
/// Steps by which a chunked body, whose length nobody knows, takes from the budget.
pub(super) const CHUNKED_STEP: usize = 256 * 1024;
/// Progress of a held body that is worth a new deadline: the slowest upload has 2 KiB a second.
pub(super) const BODY_PROGRESS: u64 = 64 * 1024;
/// Interim answers (1xx) to one request. Real hosts send one or two; without a limit they keep a request alive for ever.
pub(super) const INTERIM_ANSWERS: u8 = 16;
/// Requests that all callers together may have waiting for the agent to be ready; one uid a quarter of it.
pub(super) const HELD_REQUESTS: usize = 4096;
/// Idle upstream connections of a thread, and of one identity among them: as many as a busy client has requests under
/// way, since each that is closed has to be opened again for the next.
pub(super) const IDLE_UPSTREAMS: usize = 512;
pub(super) const IDLE_UPSTREAMS_OF_ONE: usize = 256;
/// Exchanges (a request with its buffers, 10 KiB) that a thread keeps for reuse, and how many when a crowd has left.
pub(super) const SPARE_EXCHANGES: usize = 256;
pub(super) const SPARE_EXCHANGES_LATER: usize = 16;
/// A buffer that grew beyond this is not kept.
pub(super) const SPARE_BUFFER: usize = 16 * 1024;
/// Bytes that are read from a caller who was refused and still sends, so that it can read the refusal.
pub(super) const LINGER_BYTES: usize = 100 << 20;
/// Connections taken from a listening socket before others have their turn.
pub(super) const ACCEPT_BURST: usize = 32;
/// Descriptors kept for everything that is not a caller's connection or its upstream: Python, eBPF, logs, epoll.
pub(super) const RESERVED_DESCRIPTORS: usize = 128;

/// Every time limit of the relay.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Between two requests of a kept connection, and before the first byte of one.
    pub idle: Duration,
    /// Before the first byte of a connection, when the relay drains: who has just connected is about to ask.
    pub newcomer: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// A body without progress.
    pub body: Duration,
    /// The host's handshake.
    pub connect: Duration,
    /// The host's first byte.
    pub first_byte: Duration,
    /// The same for PUT and large POST, which the host may have to store first.
    pub first_byte_of_upload: Duration,
    /// The host's next byte within an answer.
    pub next_byte: Duration,
    /// A caller that takes nothing of its answer.
    pub reader: Duration,
    /// Not ready, and a probe asks IMDS (no `Metadata`): such clients give up after a second.
    pub hold_probe: Duration,
    /// Not ready, every other request.
    pub hold: Duration,
    /// The control plane's look at a caller that it has not met, before it is refused.
    pub look: Duration,
    /// No room for a body: how long, and how often to look.
    pub room: Duration,
    pub room_poll: Duration,
    /// From the first failure of the host to the last try of an idempotent request, and the pause between two.
    pub retry: Duration,
    pub retry_pause: Duration,
    /// The control plane's answer to a local question.
    pub question: Duration,
    /// A caller that closed its sending side, while it has been sent nothing yet: it may read on or have left.
    pub leaving: Duration,
    /// A refused caller that still sends.
    pub linger: Duration,
    /// An upstream connection nobody uses.
    pub idle_upstream: Duration,
    /// No connection is accepted for so long when descriptors are exhausted.
    pub exhausted: Duration,
    /// A caller whose answer comes sooner than this is never registered with epoll before it.
    pub watch: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            idle: ms(75_000),
            newcomer: ms(500),
            head: ms(10_000),
            body: ms(30_000),
            connect: ms(5_000),
            first_byte: ms(30_000),
            first_byte_of_upload: ms(60_000),
            next_byte: ms(60_000),
            reader: ms(75_000),
            hold_probe: ms(700),
            hold: ms(8_000),
            look: ms(500),
            room: ms(8_000),
            room_poll: ms(50),
            retry: ms(500),
            retry_pause: ms(50),
            question: ms(2_000),
            leaving: ms(1_000),
            linger: ms(5_000),
            idle_upstream: ms(30_000),
            exhausted: ms(100),
            watch: ms(5),
        }
    }
}

/// How a relay is set up.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Reactor threads, 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// Largest body that is held to be signed, in bytes.
    pub body_limit: usize,
    /// All held bodies together, in bytes; one uid that is not root may use a quarter of it.
    pub body_budget: usize,
    pub timeouts: Timeouts,
    pub relief: Relief,
    /// How a caller is recognised and the host reached.
    pub interception: Arc<dyn Interception>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            threads: 2,
            body_limit: 8 << 20,
            body_budget: 64 << 20,
            timeouts: Timeouts::default(),
            relief: Relief::default(),
            interception: Arc::new(KernelInterception::default()),
        }
    }
}
