//! The host's half of a request: a connection, the bytes that were signed, another try.
//!
//! A request is tried again only before any byte of its answer, when doing so does nothing twice: at once on a new
//! connection after a kept one failed, then at short intervals until half a second after the first failure.

use std::io;
use std::os::fd::AsFd;

use super::config::{READ, TURNS};
use super::connection::{Body, Connection, Exchange, Fate, Phase, Step};
use super::core::{Core, ns};
use super::counters::count;
use super::judging::is_repeatable;
use super::requesting::answer_expect;
use super::slab::Key;
use super::timers::Wait;
use super::token::{self, Kind};
use super::upstream::{Purpose, Upstream};
use crate::audit::Decision;
use crate::error::Reason;
use crate::http::Framing;
use crate::http::forward::{Forward, write_request};
use crate::http::head::Method;
use crate::policy::Snapshot;
use crate::sys::epoll::Readiness;
use crate::sys::net;

/// A body of this size gives the host the longer time for its first byte.
const LARGE_UPLOAD: u64 = 64 * 1024;

impl Core {
    /// Writes the request as it is signed, and sends it.
    pub(super) fn send_request(
        &mut self,
        connection: &mut Connection,
        snapshot: &Snapshot,
        purpose: Purpose,
        signing: bool,
        streamed: bool,
    ) -> Step {
        if streamed && !answer_expect(connection) {
            return Step::Close;
        }
        let date = *self.date.now(&self.shared.clock);
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        let mut streamed_length = None;
        match x.head.framing() {
            Framing::Length(length) if streamed => {
                streamed_length = Some(length);
                x.body_at = Body::Streamed(length);
            }
            Framing::Length(0) => x.body_at = Body::Inline(0),
            _ => {}
        }
        x.to_host.clear();
        x.sent = 0;
        let mut out = std::mem::take(&mut x.to_host);
        let key = if signing { snapshot.key.as_deref() } else { None };
        let body = if x.body_at == Body::None || streamed { None } else { Some(x.held_body()) };
        let (is_root, endpoint) = (purpose.is_root(), purpose.endpoint);
        let (buf, head) = (&x.input[..], &x.head);
        let forward = Forward { buf, head, is_root, date: &date, body, streamed_length, key, endpoint };
        let signed = write_request(&mut out, &forward);
        x.to_host = out;
        x.judged.signed = signed;
        x.request_sent = false;
        x.upload_dead = false;
        x.repeatable = is_repeatable(x.head.method_kind(), x.body_at);
        x.answer.expect(x.head.method_kind(), x.head.is_http10());
        if streamed {
            begin_stream(x);
        }
        // A request that must not be repeated never meets a kept connection, which may be dying.
        let keepable = x.repeatable && !x.fresh;
        connection.phase = Phase::Exchange;
        if keepable && let Some(key) = self.pool.take(purpose) {
            if let Some(upstream) = self.upstreams.get_mut(key) {
                upstream.owner = Some(connection.key);
                connection.upstream = Some(key);
                count(&self.counters().upstreams_reused);
            }
            self.time_answer(connection);
            return Step::Again;
        }
        match self.open_upstream(connection.key, purpose) {
            Ok(key) => {
                connection.upstream = Some(key);
                self.wait(connection, Wait::Connect, self.timeouts().connect);
                Step::Wait
            }
            Err(OpenError::Ours) => self.refuse(connection, Reason::NotReady),
            Err(OpenError::Host) => self.host_failed(connection),
        }
    }

    fn open_upstream(&mut self, owner: Key, purpose: Purpose) -> Result<Key, OpenError> {
        let fd = net::tcp_socket().or_else(|error| {
            // One descriptor was kept for this moment, and idle connections are worth less than this request.
            let room =
                net::is_exhausted(&error) && (self.spare_descriptor.take().is_some() || self.close_oldest_idle());
            if room { net::tcp_socket() } else { Err(error) }
        });
        let Ok(fd) = fd else {
            count(&self.counters().exhausted);
            return Err(OpenError::Ours);
        };
        if self.spare_descriptor.is_none() {
            self.spare_descriptor = self.shared.mailboxes[self.thread].fd().try_clone_to_owned().ok();
        }
        // Fail closed: a socket that is not exempt would be redirected to ourselves.
        self.config().interception.exempt(fd.as_fd()).map_err(|_| OpenError::Ours)?;
        net::set_nodelay(fd.as_fd()).map_err(|_| OpenError::Ours)?;
        // The host is one virtual link away.
        net::set_simple_congestion_control(fd.as_fd()).map_err(|_| OpenError::Ours)?;
        let address = self.config().interception.address(purpose.endpoint);
        net::connect(fd.as_fd(), address).map_err(|_| OpenError::Host)?;
        let owner = Some(owner);
        let key = self.upstreams.insert(Upstream {
            fd,
            purpose,
            owner,
            connected: false,
            readable: false,
            closed: false,
            kept: false,
        });
        count(&self.counters().upstreams_opened);
        let registered = self
            .upstreams
            .get_mut(key)
            .is_some_and(|u| self.epoll.add_connection(u.fd.as_fd(), token::write(Kind::Upstream, key)).is_ok());
        if registered {
            return Ok(key);
        }
        self.upstreams.remove(key);
        Err(OpenError::Ours)
    }

    /// Notes what happened to a connection to the host; gives the caller's connection that it is for.
    pub(super) fn note_upstream(&mut self, key: Key, ready: Readiness) -> Option<Key> {
        let upstream = self.upstreams.get_mut(key)?;
        let ended = ready.read_closed() || ready.gone();
        let Some(owner) = upstream.owner else {
            // Idle: a close, or bytes that nobody asked for. Either way it is of no more use.
            if ready.readable() || ended {
                self.pool.forget(key);
                self.upstreams.remove(key);
            }
            return None;
        };
        upstream.connected |= ready.writable() && !ready.gone();
        upstream.readable |= ready.readable() || ended;
        upstream.closed |= ended;
        Some(owner)
    }

    /// Both directions of an exchange, as far as they go now.
    pub(super) fn exchange(&mut self, connection: &mut Connection) -> Step {
        let Some(upstream) = connection.upstream.and_then(|key| self.upstreams.get_mut(key)) else { return Step::Wait };
        if !upstream.connected {
            return if upstream.closed { self.host_failed(connection) } else { Step::Wait };
        }
        let (readable, connecting) =
            (upstream.readable, self.timers.waits_for(connection.key.index) == Some(Wait::Connect));
        if connecting {
            self.host_is_up(connection);
            self.time_answer(connection);
        }
        let upload = match &connection.exchange {
            Some(x) if !x.request_sent && !x.upload_dead => self.push_request(connection),
            _ => Step::Wait,
        };
        if upload == Step::Close {
            return Step::Close;
        }
        let answering = connection.exchange.as_ref().is_some_and(|x| !x.to_caller.is_empty() || x.upload_dead);
        if readable || answering { self.pull_answer(connection) } else { upload }
    }

    fn host_is_up(&mut self, connection: &Connection) {
        let Some(x) = &connection.exchange else { return };
        if let Some(down) = self.down.get_mut(usize::from(x.judged.endpoint)) {
            *down = false;
        }
    }

    /// The deadline of the answer's first byte.
    fn time_answer(&mut self, connection: &Connection) {
        let Some(x) = &connection.exchange else { return };
        let length = x.held_body().len() as u64;
        let streamed = matches!(x.body_at, Body::Streamed(_));
        let method = x.head.method_kind();
        if method == Method::Put || (method == Method::Post && (streamed || length >= LARGE_UPLOAD)) {
            self.wait(connection, Wait::FirstByteOfUpload, self.timeouts().first_byte_of_upload);
        } else {
            self.wait(connection, Wait::FirstByte, self.timeouts().first_byte);
        }
    }

    /// Sends what the host takes of the request, and of a streamed body what the caller has sent.
    fn push_request(&mut self, connection: &mut Connection) -> Step {
        for _ in 0..TURNS {
            let Some(upstream) = connection.upstream.and_then(|key| self.upstreams.get_mut(key)) else {
                return Step::Wait;
            };
            let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
            let (first, second) = unsent(&x.to_host, x.held_body(), x.sent);
            let left = first.len() + second.len();
            if left > 0 {
                match net::send_both(upstream.fd.as_fd(), first, second) {
                    Ok(n) => x.sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
                    // It may have answered before it stopped reading: what it said decides.
                    Err(_) => {
                        x.upload_dead = true;
                        upstream.readable = true;
                        return Step::Wait;
                    }
                }
                if x.sent < x.to_host.len() + x.held_body().len() {
                    self.time_answer(connection);
                    return Step::Wait;
                }
            }
            let Body::Streamed(rest @ 1..) = x.body_at else {
                x.request_sent = true;
                if x.sent > READ || self.timers.waits_for(connection.key.index) == Some(Wait::Body) {
                    self.time_answer(connection);
                }
                return Step::Wait;
            };
            if !connection.readable {
                self.time_upload(connection);
                return Step::Wait;
            }
            let room = usize::try_from(rest).unwrap_or(usize::MAX).min(self.window.len());
            match net::recv(connection.fd.as_fd(), &mut self.window[..room]) {
                Ok(0) => return Step::Close,
                Ok(n) => {
                    connection.readable = n == room || connection.read_closed;
                    x.body_at = Body::Streamed(rest - n as u64);
                    x.body_bytes += n as u64;
                    x.to_host.clear();
                    x.to_host.extend_from_slice(&self.window[..n]);
                    x.sent = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(_) => return Step::Close,
            }
        }
        self.again.push(connection.key);
        Step::Wait
    }

    fn time_upload(&mut self, connection: &mut Connection) {
        let Some(x) = connection.exchange.as_deref_mut() else { return };
        if self.timers.waits_for(connection.key.index) != Some(Wait::Body)
            || x.body_bytes - x.body_timed >= super::config::BODY_PROGRESS
        {
            x.body_timed = x.body_bytes;
            self.wait(connection, Wait::Body, self.timeouts().body);
        }
    }

    /// The host refused, reset or closed before it answered: try again, or say so.
    pub(super) fn host_failed(&mut self, connection: &mut Connection) -> Step {
        let failed = connection.upstream.and_then(|key| self.upstreams.get_mut(key)).map(|u| (u.kept, u.connected));
        let (kept, connected) = failed.unwrap_or((false, false));
        self.drop_upstream(connection);
        let (now, window, pause) = (self.now, ns(self.timeouts().retry), self.timeouts().retry_pause);
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        if x.answered {
            return Step::Close;
        }
        if x.answer.has_begun() {
            return self.refuse_failed(connection, Reason::HostBroken);
        }
        let endpoint = usize::from(x.judged.endpoint);
        let down = self.down.get(endpoint).copied().unwrap_or(false);
        let since = *x.failing_since.get_or_insert(now);
        if x.repeatable && kept {
            x.fresh = true;
            connection.phase = Phase::Judge;
            count(&self.counters().retried);
            return Step::Again;
        }
        if x.repeatable && !down && now.saturating_add(ns(pause)) < since + window {
            x.fresh = true;
            connection.phase = Phase::Retry;
            count(&self.counters().retried);
            self.wait(connection, Wait::Retry, pause);
            return Step::Wait;
        }
        if let Some(down) = self.down.get_mut(endpoint)
            && !connected
        {
            *down = true;
        }
        self.refuse_failed(connection, if down { Reason::HostDown } else { Reason::HostUnreachable })
    }

    pub(super) fn on_connect_timeout(&mut self, connection: &mut Connection) -> Fate {
        let endpoint = connection.exchange.as_ref().map_or(usize::MAX, |x| usize::from(x.judged.endpoint));
        let down = self.down.get_mut(endpoint).is_some_and(|down| std::mem::replace(down, true));
        match self.refuse_failed(connection, if down { Reason::HostDown } else { Reason::HostTimeout }) {
            Step::Close => Fate::Close,
            Step::Again | Step::Wait => self.drive(connection),
        }
    }

    /// Refuses a request that had been allowed.
    pub(super) fn refuse_failed(&mut self, connection: &mut Connection, reason: Reason) -> Step {
        if let Some(x) = connection.exchange.as_deref_mut() {
            x.judged.decision = Decision::Failed;
        }
        self.refuse(connection, reason)
    }

    /// Closes the connection to the host: the request is dropped there.
    pub(super) fn drop_upstream(&mut self, connection: &mut Connection) {
        if let Some(key) = connection.upstream.take() {
            self.upstreams.remove(key);
        }
    }

    pub(super) fn close_oldest_idle(&mut self) -> bool {
        self.pool.take_oldest().is_some_and(|key| self.upstreams.remove(key).is_some())
    }
}

/// What of a streamed body was read with the head goes with the head.
fn begin_stream(x: &mut Exchange) {
    let Body::Streamed(length) = x.body_at else { return };
    let head = x.head.head_len();
    let arrived = (x.input.len() - head).min(usize::try_from(length).unwrap_or(usize::MAX));
    x.to_host.extend_from_slice(&x.input[head..head + arrived]);
    x.input.drain(head..head + arrived);
    x.body_at = Body::Streamed(length - arrived as u64);
    x.body_bytes = arrived as u64;
}

enum OpenError {
    /// Descriptors, or the exemption: nothing was sent.
    Ours,
    Host,
}

/// What is left of two buffers sent as one after `sent` bytes.
fn unsent<'a>(first: &'a [u8], second: &'a [u8], sent: usize) -> (&'a [u8], &'a [u8]) {
    if sent < first.len() { (&first[sent..], second) } else { (&[], &second[(sent - first.len()).min(second.len())..]) }
}
