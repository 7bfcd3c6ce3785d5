//! What becomes of a request whose head is there: refused, held, asked of the control plane, or sent on.
//!
//! Judged anew, on the snapshot of that moment, whenever it goes on after a wait (for readiness, for its body, for one
//! more try): what is sent was allowed and signed by one epoch. The order of refusals is that of docs/protocol.md:
//! 421, 414/431/400, 405, 403, 413, then hold or 503.

use super::config::STREAM_LIMIT;
use super::connection::{Body, Connection, Exchange, Judged, Phase, Step};
use super::core::{Core, ns};
use super::counters::count;
use super::hold;
use super::questions::{LocalPath, Question};
use super::timers::Wait;
use super::token;
use super::upstream::Purpose;
use crate::audit::{Decision, ENDPOINT_LOCAL, NO_INDEX};
use crate::caller::{Endpoint, Ident};
use crate::error::Reason;
use crate::http::Framing;
use crate::http::forward::exempt;
use crate::http::head::Method;
use crate::policy::{Grounds, Mode, Snapshot, Verdict};

/// What a request may do now.
enum Ruling {
    Refuse(Reason),
    /// There are no rules yet, or no key to sign with.
    Hold,
    /// Refused by what is known, and a look at the caller might change that.
    Look,
    Serve {
        signing: bool,
        streamed: bool,
    },
}

impl Core {
    pub(super) fn judge(&mut self, connection: &mut Connection) -> Step {
        let ident = match &connection.caller {
            Ok(ident) => ident,
            Err(reason) => {
                let reason = *reason;
                return self.refuse(connection, reason);
            }
        };
        if ident.is_direct() {
            let ident = *ident;
            return self.judge_direct(connection, ident);
        }
        let Some(endpoint) = ident.endpoint() else { return self.refuse(connection, Reason::Misdirected) };
        let purpose = Purpose::of(endpoint, ident);
        let snapshot = self.shared.snapshot.load();
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        x.judged.endpoint = endpoint as u8;
        let ruling = self.rule(x, endpoint, ident, snapshot.as_deref());
        match (ruling, snapshot.as_deref()) {
            (Ruling::Refuse(reason), _) => self.refuse(connection, reason),
            (Ruling::Hold, _) | (_, None) => self.hold(connection, purpose),
            (Ruling::Look, _) => self.ask_for_a_look(connection),
            (Ruling::Serve { signing, streamed }, Some(snapshot)) => {
                x.hold = None;
                if streamed || x.body_whole || is_empty(x.head.framing()) {
                    self.send_request(connection, snapshot, purpose, signing, streamed)
                } else {
                    self.begin_body(connection, purpose.uid)
                }
            }
        }
    }

    fn rule(&mut self, x: &mut Exchange, endpoint: Endpoint, caller: &Ident, snapshot: Option<&Snapshot>) -> Ruling {
        let buf = &x.input[..];
        if let Err(refusal) = x.head.check_endpoint(buf, endpoint) {
            return Ruling::Refuse(refusal.0);
        }
        let mode = snapshot.map_or(Mode::Unknown, |s| s.endpoint(endpoint).mode);
        x.judged.mode = mode as u8;
        x.judged.epoch = snapshot.map_or(0, |s| s.epoch);
        let unsigned = exempt(endpoint, x.head.method(buf), x.head.target(buf));
        if mode != Mode::Disabled
            && let Err(refusal) = self.canonical.canonicalise(x.head.path(buf), x.head.query(buf))
        {
            return Ruling::Refuse(refusal.0);
        }
        let verdict = match (mode, snapshot) {
            (Mode::Unknown, _) | (_, None) => None,
            (Mode::Disabled, _) => Some(Verdict::Allow(Grounds::of(Reason::Disabled))),
            (_, Some(_)) if unsigned && caller.is_root() => Some(Verdict::Allow(Grounds::of(Reason::Exempt))),
            (_, Some(snapshot)) => match snapshot.decide(endpoint, caller, x.head.method_kind(), &self.canonical) {
                Ok(verdict) => Some(verdict),
                Err(refusal) => return Ruling::Refuse(refusal.0),
            },
        };
        if let (Some(verdict), Some(snapshot)) = (&verdict, snapshot)
            && (x.look_until == 0 || x.look_until > self.now)
            && snapshot.may_know_more(endpoint, caller, verdict)
        {
            return Ruling::Look;
        }
        if let Some(verdict) = &verdict {
            note(&mut x.judged, verdict);
            if let Verdict::Deny(grounds) = verdict {
                return Ruling::Refuse(grounds.reason);
            }
        }
        // A body that nobody signs need not be held, when its length is known.
        let streamed = matches!(x.head.framing(), Framing::Length(1..)) && (unsigned || mode == Mode::Disabled);
        let limit = if streamed { STREAM_LIMIT } else { self.shared.config.body_limit as u64 };
        if matches!(x.head.framing(), Framing::Length(length) if length > limit) {
            return Ruling::Refuse(Reason::BodyTooLarge);
        }
        let has_key = snapshot.is_some_and(|s| s.key.is_some());
        if verdict.is_none() || (mode == Mode::Enforce && !has_key && !unsigned) {
            return Ruling::Hold;
        }
        Ruling::Serve { signing: has_key && !unsigned && mode != Mode::Disabled, streamed }
    }

    /// Not ready: the request waits as long as clients of its kind do, not as long as they would have to.
    fn hold(&mut self, connection: &mut Connection, purpose: Purpose) -> Step {
        let connected = connection.caller.map_or(u64::MAX, |ident| ident.connect_ns);
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        if x.hold_until == 0 {
            let since = if connection.first { connected.min(x.started) } else { x.started };
            let limit = hold::limit(&self.shared.config.timeouts, purpose.endpoint, x.head.has_metadata());
            x.hold_until = since + ns(limit);
            count(&self.counters().held);
        }
        if x.hold.is_none() {
            x.hold = self.shared.holds.take(purpose.uid, 1);
        }
        if x.hold.is_none() || x.hold_until <= self.now {
            return self.refuse(connection, Reason::NotReady);
        }
        let until = x.hold_until;
        connection.phase = Phase::Held;
        self.wait_until(connection, Wait::Hold, until);
        Step::Wait
    }

    /// The caller's program or cgroup has not been looked at: the request waits for that, and is judged again when it is
    /// done, or when it has taken too long.
    fn ask_for_a_look(&mut self, connection: &mut Connection) -> Step {
        let (Ok(caller), Some(x)) = (&connection.caller, connection.exchange.as_deref_mut()) else {
            return Step::Close;
        };
        if x.look_until == 0 {
            if x.hold.is_none() {
                x.hold = self.shared.holds.take(caller.uid, 1);
            }
            if x.hold.is_none() || !self.shared.strangers.put(*caller) {
                x.look_until = self.now;
                return Step::Again;
            }
            x.look_until = self.now + ns(self.shared.config.timeouts.look);
            count(&self.counters().held);
            self.shared.bell.ring();
        }
        let until = x.look_until;
        connection.phase = Phase::Held;
        self.wait_until(connection, Wait::Look, until);
        Step::Wait
    }

    /// Who connected to the listener itself may ask the agent about itself, as who it is.
    fn judge_direct(&mut self, connection: &mut Connection, caller: Ident) -> Step {
        let token = token::write_question(self.thread, connection.key);
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        let buf = &x.input[..];
        let Some(path) = LocalPath::of(x.head.method_kind(), x.head.path(buf)) else {
            return self.refuse(connection, Reason::Misdirected);
        };
        x.judged.endpoint = ENDPOINT_LOCAL;
        if !x.head.has_metadata() {
            return self.refuse(connection, Reason::MissingMetadata);
        }
        if !is_empty(x.head.framing()) {
            return self.refuse(connection, Reason::BadFraming);
        }
        if path == LocalPath::AggregatedStatus && !caller.is_root() {
            x.judged.decision = Decision::Deny;
            return self.refuse(connection, Reason::NotRoot);
        }
        x.judged.decision = Decision::Allow;
        x.judged.reason = Reason::Local;
        let question = Question::read(token, path, caller, buf, &x.head);
        if !self.shared.questions.put(question) {
            return self.refuse(connection, Reason::NotReady);
        }
        self.shared.bell.ring();
        connection.phase = Phase::Question;
        self.wait(connection, Wait::Question, self.timeouts().question);
        Step::Wait
    }
}

const fn is_empty(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}

fn note(judged: &mut Judged, verdict: &Verdict) {
    let grounds = verdict.grounds();
    judged.decision = match verdict {
        Verdict::Allow(_) => Decision::Allow,
        Verdict::AuditAllow(_) => Decision::AuditAllow,
        Verdict::Deny(_) => Decision::Deny,
    };
    judged.reason = grounds.reason;
    judged.privilege = grounds.privilege.unwrap_or(NO_INDEX);
    judged.role = grounds.role.unwrap_or(NO_INDEX);
    judged.identity = grounds.identity.unwrap_or(NO_INDEX);
}

/// A request that may be sent again without doing anything twice (RFC 9110 §9.2.2); its body, if any, is held.
pub(super) fn is_repeatable(method: Method, body: Body) -> bool {
    let idempotent = match method {
        Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete => true,
        Method::Post | Method::Patch => false,
    };
    idempotent && !matches!(body, Body::Streamed(_))
}
