//! What the threads share with each other and with the control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::budget::Budget;
use super::clock::HostClock;
use super::config::{HELD_REQUESTS, RelayConfig};
use super::counters::Counters;
use super::mailbox::Mailbox;
use super::questions::Questions;
use super::records::Bell;
use super::strangers::Strangers;
use crate::policy::Snapshot;

pub(super) struct Shared {
    pub(super) config: RelayConfig,
    /// Rules and key of this moment; none before the first were published, and requests are held until then.
    pub(super) snapshot: ArcSwapOption<Snapshot>,
    pub(super) clock: HostClock,
    pub(super) bodies: Arc<Budget>,
    pub(super) holds: Arc<Budget>,
    pub(super) questions: Questions,
    pub(super) strangers: Strangers,
    pub(super) bell: Bell,
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) counters: Vec<Counters>,
    /// By thread: it takes connections, or was asked to. The first always does.
    pub(super) on_duty: Vec<AtomicBool>,
    /// By thread: it accepts no more.
    pub(super) closed: Vec<AtomicBool>,
}

impl Shared {
    pub(super) fn new(config: RelayConfig) -> std::io::Result<Self> {
        let threads = config.threads;
        Ok(Self {
            snapshot: ArcSwapOption::empty(),
            clock: HostClock::new(),
            bodies: Budget::new(config.body_budget),
            holds: Budget::new(HELD_REQUESTS),
            questions: Questions::default(),
            strangers: Strangers::default(),
            bell: Bell::new()?,
            mailboxes: (0..threads).map(|_| Mailbox::new()).collect::<Result<_, _>>()?,
            counters: (0..threads).map(|_| Counters::default()).collect(),
            on_duty: (0..threads).map(|thread| AtomicBool::new(thread == 0)).collect(),
            closed: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            config,
        })
    }
    /// Connections of all threads.
    pub(super) fn open(&self) -> u64 {
        self.counters.iter().map(|counters| counters.open.load(Ordering::Relaxed)).sum()
    }
}
