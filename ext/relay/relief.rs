//! How many threads take connections: as few as keep up.
//!
//! A second thread costs both their caches, on two processors a tenth of each request. So the first takes all
//! connections until it needs a whole processor; then it asks the next one for relief, which leaves when it has had
//! little to do for a while. A connection stays with the thread that took it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::ns;
use super::mailbox::Command;
use super::reactor::Reactor;
use crate::sys::time;

/// When a thread asks for relief, and when one that relieves leaves; shares are thousandths of a processor.
#[derive(Clone, Debug)]
pub struct Relief {
    /// How often a thread looks at its load: a burst is shared before its callers notice.
    pub look: Duration,
    /// A thread that uses so much could not do more.
    pub full: u64,
    /// One that uses less has little to do.
    pub calm: u64,
    /// For how long it has little to do before it leaves: longer than a pause in a burst.
    pub leave: Duration,
}

impl Default for Relief {
    fn default() -> Self {
        Self { look: Duration::from_millis(50), full: 900, calm: 125, leave: Duration::from_secs(1) }
    }
}

/// The processor time of one thread, and when it was looked at.
#[derive(Debug, Default)]
pub(super) struct Load {
    looked_at: u64,
    used_then: u64,
    /// Since when there has been little to do.
    calm_since: u64,
}

impl Load {
    /// Thousandths of a processor since the last look; None when that was a moment ago.
    fn share(&mut self, now: u64, look: Duration) -> Option<u64> {
        let passed = now.saturating_sub(self.looked_at);
        if passed < ns(look) {
            return None;
        }
        let used = time::thread_cpu_ns();
        let share = used.saturating_sub(self.used_then).saturating_mul(1000) / passed.max(1);
        (self.looked_at, self.used_then) = (now, used);
        Some(share)
    }
}

impl Reactor {
    /// The first thread always takes connections, the others when they were asked to.
    pub(super) const fn relieves(&self) -> bool {
        self.core.thread > 0
    }

    /// Asks the next thread for relief, or leaves what was asked of this one.
    pub(super) fn look_at_load(&mut self) {
        let now = self.core.now;
        let relief = &self.core.shared.config.relief;
        let Some(share) = self.load.share(now, relief.look) else { return };
        if share >= relief.full {
            self.ask_for_relief();
        }
        if share >= relief.calm {
            self.load.calm_since = now;
        } else if self.relieves() && now.saturating_sub(self.load.calm_since) >= ns(relief.leave) {
            self.core.shared.on_duty[self.core.thread].store(false, Ordering::Relaxed);
            self.listeners.leave(&self.core.epoll);
        }
    }

    /// Takes connections from now on.
    pub(super) fn relieve(&mut self) {
        self.load.calm_since = self.core.now;
        self.listeners.take_up(&self.core.epoll);
    }

    fn ask_for_relief(&self) {
        let (shared, next) = (&self.core.shared, self.core.thread + 1);
        if shared.on_duty.get(next).is_some_and(|on_duty| !on_duty.swap(true, Ordering::Relaxed)) {
            shared.mailboxes[next].put(Command::Relieve);
        }
    }
}
