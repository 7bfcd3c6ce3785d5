//! Requests to the agent itself (docs/protocol.md, "Local endpoints"), put to the control plane as questions.
//!
//! They are rare and never wait on the path of a request: a bounded queue under a lock, an answer by token, two
//! seconds to give it.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::caller::Ident;
use crate::http::head::{Method, RequestHead};

/// Questions that may wait to be read; more callers than this ask in vain (503).
const QUEUE: usize = 64;

const TICK_FIELD: &[u8] = b"x-ms-azure-time-tick";
const NOTIFY_FIELD: &[u8] = b"x-ms-azure-notify";

/// What a caller on 127.0.0.1:3080 may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPath {
    Provision,
    AggregatedStatus,
}

impl LocalPath {
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            LocalPath::Provision => "/provision",
            LocalPath::AggregatedStatus => "/gpa-aggregated-status",
        }
    }

    pub(super) fn of(method: Method, path: &[u8]) -> Option<Self> {
        let paths = [LocalPath::Provision, LocalPath::AggregatedStatus];
        paths.into_iter().find(|local| method == Method::Get && local.path().as_bytes() == path)
    }

    /// Whether these first bytes of a request could be for one of the two: what is not is misdirected, however
    /// broken it is otherwise.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        [LocalPath::Provision, LocalPath::AggregatedStatus].into_iter().any(|local| {
            let line = [b"GET ", local.path().as_bytes()].concat();
            let shared = line.len().min(bytes.len());
            line[..shared] == bytes[..shared]
        })
    }
}

/// One question to the control plane.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the connection that waits; to be handed back with the answer.
    pub token: u64,
    pub path: LocalPath,
    pub caller: Ident,
    /// The caller asks that the host be polled at once.
    pub notify: bool,
    /// The caller asks whether provisioning finished at or after this time (ns since 1970).
    pub tick: Option<i64>,
}

impl Question {
    pub(super) fn read(token: u64, path: LocalPath, caller: Ident, buf: &[u8], head: &RequestHead) -> Self {
        let value = |name: &[u8]| {
            let field = head.fields().iter().rfind(|field| field.name(buf).eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value(buf)).ok()
        };
        let notify = value(NOTIFY_FIELD).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let tick = value(TICK_FIELD).and_then(|text| text.parse().ok());
        Self { token, path, caller, notify, tick }
    }
}

/// The questions of all threads that nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<VecDeque<Question>>);

impl Questions {
    /// False when there are too many already.
    pub(super) fn put(&self, question: Question) -> bool {
        let mut queue = self.lock();
        let fits = queue.len() < QUEUE;
        if fits {
            queue.push_back(question);
        }
        fits
    }

    pub(super) fn take(&self) -> Vec<Question> {
        self.lock().drain(..).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Question>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
