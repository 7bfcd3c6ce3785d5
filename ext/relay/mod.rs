//! The relay: native threads that take callers' connections, ask the kernel who is calling, decide, sign, and pass
//! the host's answer back. Python starts it, publishes snapshots, and reads records; no request waits for it.
//!
//! One thread is one reactor (`reactor.rs`): its connections (`connection.rs`) go from phase to phase, each phase in a
//! file of its own: `requesting.rs`, `judging.rs`, `sending.rs`, `answering.rs`, `finishing.rs`. Threads share
//! listening sockets and what `shared.rs` has, and otherwise nothing; `relief.rs` says how many of them are needed.
//!
//! A request on a kept connection costs four system calls, one to read and one to write on either side, and its share
//! of an epoll_wait. A new connection adds accept4, getsockopt and close; where its bytes were not there yet when it was
//! accepted, one read in vain and the registration with epoll, which is made once and never changed.

mod accept;
mod answer;
mod answering;
mod budget;
mod clock;
mod config;
mod connection;
mod core;
mod counters;
mod finishing;
mod hold;
mod interception;
mod judging;
mod mailbox;
mod questions;
mod reactor;
mod records;
mod relief;
mod requesting;
mod sending;
mod shared;
mod slab;
mod strangers;
#[cfg(test)]
mod tests;
mod timers;
mod token;
mod upstream;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use config::{MAX_THREADS, RelayConfig, Timeouts};
pub use interception::{Interception, KernelInterception};
pub use questions::{LocalPath, Question};
pub use relief::Relief;

use self::config::RESERVED_DESCRIPTORS;
use self::core::Core;
use self::mailbox::Command;
use self::reactor::Reactor;
use self::records::Records;
use self::shared::Shared;
use crate::caller::Ident;
use crate::policy::Snapshot;
use crate::sys::net;

/// How often `drain` looks whether all connections are done.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The running relay. Dropping it stops its threads and closes every connection.
pub struct Relay {
    shared: Arc<Shared>,
    records: Records,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_listener: AtomicU32,
}

impl Relay {
    /// Starts the threads; they serve nobody until they are given a listening socket.
    ///
    /// # Errors
    /// EINVAL for a number of threads outside 1 to [`MAX_THREADS`]; EMFILE, EAGAIN where the system has no room.
    pub fn start(config: RelayConfig) -> io::Result<Self> {
        let threads = config.threads;
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the relay has 1 to 16 threads"));
        }
        // Each caller may need one more descriptor, to the host.
        let descriptors = net::descriptor_limit()?;
        let limit = (descriptors - RESERVED_DESCRIPTORS.min(descriptors / 4)) / 2;
        let shared = Arc::new(Shared::new(config)?);
        let (records, recorders) = Records::new(threads);
        let relay = Self { shared, records, threads: Mutex::new(Vec::new()), next_listener: AtomicU32::new(0) };
        for (thread, recorder) in recorders.into_iter().enumerate() {
            let core = Core::new(thread, Arc::clone(&relay.shared), recorder, limit.max(threads))?;
            let run = move || {
                // A bug outside the handlers: serving on with threads missing would only hide it, and whoever started
                // the agent starts it again. While it is away nothing is let through that must be signed.
                if std::panic::catch_unwind(AssertUnwindSafe(|| Reactor::new(core).run())).is_err() {
                    std::process::abort();
                }
            };
            let handle = std::thread::Builder::new().name(format!("gpa-relay-{thread}")).spawn(run)?;
            relay.lock_threads().push(handle);
        }
        Ok(relay)
    }

    /// Serves a listening socket, which stays the caller's to make and to bind. Gives a name for `unlisten`.
    ///
    /// # Errors
    /// As setsockopt(2), for what is not a TCP socket.
    pub fn listen(&self, socket: OwnedFd) -> io::Result<u32> {
        net::set_nonblocking(socket.as_fd())?;
        // Accepted sockets inherit both, which saves two system calls for each. Their other end is on this machine,
        // where there is no congestion to control.
        net::set_nodelay(socket.as_fd())?;
        net::set_simple_congestion_control(socket.as_fd())?;
        net::set_delayed_ack(socket.as_fd())?;
        let id = self.next_listener.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(socket);
        self.tell_all(|| Command::Listen(id, Arc::clone(&socket)));
        Ok(id)
    }

    /// Closes our descriptor of a listening socket; connections made through it stay.
    pub fn unlisten(&self, id: u32) {
        self.tell_all(|| Command::Unlisten(id));
    }

    /// Puts rules and key into force for all requests judged from now on, and lets those that were held try again.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.shared.snapshot.store(Some(snapshot));
        self.tell_all(|| Command::Published);
    }

    /// The host's time (ns since 1970) and the boot time (ns) at which that was so.
    pub fn set_clock(&self, host_unix_ns: i64, at_boottime_ns: i64) {
        self.shared.clock.set(host_unix_ns, at_boottime_ns);
    }

    /// Readable after `arm`, when there are records or questions.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.fd()
    }

    /// Asks for one wake-up on `wake_fd`; at once when something is there already.
    pub fn arm(&self) {
        self.shared
            .bell
            .arm(|| !self.records.is_empty() || !self.shared.questions.is_empty() || !self.shared.strangers.is_empty());
    }

    /// Appends at most `limit` rows of `struct gpa_audit` to `out`; gives how many.
    pub fn take_records(&self, out: &mut Vec<u8>, limit: usize) -> usize {
        self.records.take(out, limit)
    }

    /// What callers have asked the agent since the last time.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.shared.questions.take()
    }

    /// Callers who are to be looked at before they are refused; a snapshot that knows them has their requests judged.
    #[must_use]
    pub fn strangers(&self) -> Vec<Ident> {
        self.shared.strangers.take()
    }

    /// Answers a question; nothing happens when its caller has gone or was refused in the meantime.
    pub fn answer(&self, token: u64, status: u16, body: &[u8]) {
        let (thread, key) = token::read_question(token);
        if let Some(mailbox) = self.shared.mailboxes.get(thread) {
            mailbox.put(Command::Answer { key, status, body: body.into() });
        }
    }

    /// Name and value of every counter.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        counters::sums(&self.shared.counters)
    }

    /// Accepts no more, lets each connection finish the request it is at, and waits for that. True when none is left.
    ///
    /// Callers that wait to be accepted are served first with `take_waiting`; without it they are left to whoever
    /// takes over the listening socket.
    pub fn drain(&self, limit: Duration, take_waiting: bool) -> bool {
        self.tell_all(|| Command::Drain { take_waiting });
        let until = Instant::now() + limit;
        loop {
            // A thread that has not read its mail may still accept.
            let closed = self.shared.closed.iter().all(|closed| closed.load(Ordering::Acquire));
            let done = closed && self.shared.open() == 0;
            if done || Instant::now() >= until {
                return done;
            }
            std::thread::sleep(DRAIN_POLL);
        }
    }

    /// Ends the threads; connections that are left are closed.
    pub fn stop(&self) {
        self.tell_all(|| Command::Stop);
        for handle in self.lock_threads().drain(..) {
            // It has caught its panics.
            let _ = handle.join();
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in &self.shared.mailboxes {
            mailbox.put(command());
        }
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}
