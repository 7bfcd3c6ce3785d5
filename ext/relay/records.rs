//! Audit rows on their way to Python: a wait-free ring per thread, and one event descriptor that is written only when
//! somebody asked for it.
//!
//! A full ring never holds a request up: the row is dropped and counted.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::count;
use crate::audit::AuditRow;
use crate::sys::epoll::EventFd;
use crate::sys::plain::bytes_of;

/// Rows a thread may be ahead of the reader: 100 ms at 80,000 requests a second, which is more than a thread can do; 4.9 MB
/// when all of it was used once.
pub(super) const RING: usize = 8192;

/// Wakes the control plane: it arms, looks, and sleeps on the descriptor.
#[derive(Debug)]
pub(super) struct Bell {
    event: EventFd,
    armed: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { event: EventFd::new()?, armed: AtomicBool::new(false) })
    }

    /// Rings if somebody waits; to be called after something was put where the waiter looks.
    pub(super) fn ring(&self) {
        // Pairs with the fence of `arm`: either this thread sees `armed`, or the waiter sees what was put.
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed) {
            self.event.set();
        }
    }

    /// Asks for one ring. `pending` looks whether there is something already; then it rings at once.
    pub(super) fn arm(&self, pending: impl FnOnce() -> bool) {
        self.event.clear();
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if pending() && self.armed.swap(false, Ordering::Relaxed) {
            self.event.set();
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The writing end of one thread.
#[derive(Debug)]
pub(super) struct Recorder {
    ring: Producer<AuditRow>,
    unannounced: bool,
}

impl Recorder {
    /// Lets `fill` write a row, all zero before, in its place in the ring; or counts it as dropped.
    pub(super) fn push(&mut self, dropped: &AtomicU64, fill: impl FnOnce(&mut AuditRow)) {
        self.unannounced = true;
        let Ok(mut chunk) = self.ring.write_chunk(1) else { return count(dropped) };
        if let Some(row) = chunk.as_mut_slices().0.first_mut() {
            fill(row);
        }
        chunk.commit_all();
    }

    /// Rings once for all rows since the last time: a batch of events is one write at most.
    pub(super) fn announce(&mut self, bell: &Bell) {
        if std::mem::take(&mut self.unannounced) {
            bell.ring();
        }
    }
}

/// The reading ends of all threads.
#[derive(Debug)]
pub(super) struct Records {
    rings: Mutex<Vec<Consumer<AuditRow>>>,
}

impl Records {
    pub(super) fn new(threads: usize) -> (Self, Vec<Recorder>) {
        let (writers, readers) = (0..threads).map(|_| RingBuffer::new(RING)).unzip::<_, _, Vec<_>, Vec<_>>();
        let writers = writers.into_iter().map(|ring| Recorder { ring, unannounced: false }).collect();
        (Self { rings: Mutex::new(readers) }, writers)
    }

    /// Appends the bytes of at most `limit` rows to `out`; gives how many.
    pub(super) fn take(&self, out: &mut Vec<u8>, limit: usize) -> usize {
        let mut rings = self.rings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut taken = 0;
        for ring in rings.iter_mut() {
            let Ok(rows) = ring.read_chunk(ring.slots().min(limit - taken)) else { continue };
            let (first, second) = rows.as_slices();
            for row in first.iter().chain(second) {
                out.extend_from_slice(bytes_of(row));
                taken += 1;
            }
            rows.commit_all();
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        let rings = self.rings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rings.iter().all(Consumer::is_empty)
    }
}
