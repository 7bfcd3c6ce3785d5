//! The request target and the authorities of a request (RFC 9112, section 3.2): where the caller says it is going.

use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::memchr;

use super::{Span, grammar};
use crate::caller::Endpoint;
use crate::error::{Reason, Refusal};

/// A target in parts. What is sent on is always the origin-form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    /// `absolute-path [ "?" query ]`
    pub(super) origin: Span,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    /// Of the absolute-form.
    pub(super) authority: Option<Span>,
}

impl Target {
    /// Parts of the target at `span`, whose characters are checked. `None` for what is neither the origin-form nor
    /// the absolute-form: the asterisk of OPTIONS among them, since no rule could name what it asks for.
    pub(super) fn parse(buf: &[u8], span: Span) -> Option<Self> {
        const SCHEME: &[u8] = b"http://";
        let text = span.of(buf);
        let mut start = span.start as usize;
        let end = span.end as usize;
        let mut authority = None;
        if text.len() > SCHEME.len() && text[..SCHEME.len()].eq_ignore_ascii_case(SCHEME) {
            let from = start + SCHEME.len();
            // An absolute-form without a path would have to be repaired before it could be sent.
            start = from + memchr(b'/', &buf[from..end])?;
            authority = Some(Span::new(from, start));
            Authority::parse(&buf[from..start])?;
        }
        if buf[start] != b'/' {
            return None;
        }
        let question = memchr(b'?', &buf[start..end]).map(|at| start + at);
        Some(Self {
            origin: Span::new(start, end),
            path: Span::new(start, question.unwrap_or(end)),
            query: question.map(|at| Span::new(at + 1, end)),
            authority,
        })
    }
}

/// `uri-host [ ":" port ]`, as in `Host` and in the absolute-form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'a> {
    V4([u8; 4]),
    V6(Ipv6Addr),
    Name(&'a [u8]),
}

impl<'a> Authority<'a> {
    /// `None` for what is not an authority, or one that parsers read differently: user information, addresses in
    /// other than the usual form (octal, hexadecimal, one number), empty hosts and ports.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        if let [b'[', rest @ ..] = text {
            let close = memchr(b']', rest)?;
            let host = Host::V6(std::str::from_utf8(&rest[..close]).ok()?.parse().ok()?);
            return Some(Self { host, port: port(&rest[close + 1..])? });
        }
        let colon = memchr(b':', text).unwrap_or(text.len());
        let (name, rest) = text.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| grammar::is_alphanumeric(*byte) || b".-_".contains(byte)) {
            return None;
        }
        let host = if ends_in_number(name) {
            // Strict: four decimal numbers without leading zeros.
            Host::V4(std::str::from_utf8(name).ok()?.parse::<Ipv4Addr>().ok()?.octets())
        } else {
            Host::Name(name)
        };
        Some(Self { host, port: port(rest)? })
    }

    /// True when it can mean nothing but `endpoint`. A missing port is the endpoint's: kernel and caller agree on
    /// the port already.
    pub(super) fn is(&self, endpoint: Endpoint) -> bool {
        let (ip, port) = endpoint.address();
        let same_host = match self.host {
            Host::V4(host) => host == ip,
            Host::V6(host) => host.to_ipv4_mapped() == Some(Ipv4Addr::from(ip)),
            Host::Name(_) => false,
        };
        same_host && self.port.is_none_or(|own| own == port)
    }

    /// A name says nothing about where it leads: the kernel says where the caller went.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }
}

/// URL parsers take such a host for an IPv4 address, in whatever form: its last label is a number.
fn ends_in_number(name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
    last.iter().all(u8::is_ascii_digit)
        || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"0x"))
            && last[2..].iter().all(u8::is_ascii_hexdigit)
}

/// `[ ":" port ]`
#[expect(clippy::option_option, reason = "no port is a value, a port that cannot be read is none")]
fn port(text: &[u8]) -> Option<Option<u16>> {
    match text {
        [] => Some(None),
        [b':', digits @ ..] if digits.len() <= 5 => {
            let number = grammar::content_length(digits)?;
            Some(Some(u16::try_from(number).ok()?))
        }
        _ => None,
    }
}

/// Whether `Host` and the absolute-form's authority fit the endpoint that the caller connected to.
///
/// An authority that is an address must be the endpoint's, in both places: a front end of the host that goes by `Host`
/// must not lead to another endpoint than the one that was judged. `Host` may be a name, as long as there is no
/// absolute-form that contradicts it.
pub(super) fn check_endpoint(host: Option<&[u8]>, absolute: Option<&[u8]>, endpoint: Endpoint) -> Result<(), Refusal> {
    let is = |text: &[u8]| Authority::parse(text).is_some_and(|authority| authority.is(endpoint));
    let fits = match (host, absolute) {
        (None, None) => true,
        (Some(host), None) => Authority::parse(host).is_some_and(|host| host.is_name() || host.is(endpoint)),
        (host, Some(absolute)) => is(absolute) && host.is_none_or(is),
    };
    if fits { Ok(()) } else { Err(Refusal(Reason::BadHost)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(host: &str, endpoint: Endpoint) -> bool {
        check_endpoint(Some(host.as_bytes()), None, endpoint).is_ok()
    }

    #[test]
    fn an_address_in_host_is_that_of_the_endpoint() {
        for good in [
            "169.254.169.254",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]:80",
            "metadata.internal",
            "localhost:8080",
        ] {
            assert!(fits(good, Endpoint::Imds), "{good}");
        }
        for bad in [
            "168.63.129.16",
            "169.254.169.254:8080",
            "169.254.169.254:080",
            "169.254.169.254:",
            "169.254.169.254.",
            "0251.254.169.254",
            "0xa9.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "[::1]",
            "[::ffff:168.63.129.16]",
            "[::ffff:169.254.169.254",
            "[fe80::1%25eth0]",
            "user@169.254.169.254",
            "169.254.169.254, 169.254.169.254",
            "169.254.169.254/",
            "",
            ":80",
            "a b",
            "a\\b",
            "name:99999",
        ] {
            assert!(!fits(bad, Endpoint::Imds), "{bad}");
        }
        assert!(fits("168.63.129.16:32526", Endpoint::HostGa) && fits("168.63.129.16", Endpoint::HostGa));
        assert!(!fits("168.63.129.16:32526", Endpoint::WireServer) && !fits("168.63.129.16:80", Endpoint::HostGa));
    }

    #[test]
    fn the_absolute_form_names_the_endpoint_and_host_agrees() {
        let check = |host: Option<&str>, absolute: &str| {
            check_endpoint(host.map(str::as_bytes), Some(absolute.as_bytes()), Endpoint::Imds).is_ok()
        };
        assert!(check(None, "169.254.169.254") && check(Some("169.254.169.254"), "169.254.169.254:80"));
        assert!(!check(None, "name") && !check(Some("name"), "169.254.169.254"));
        assert!(!check(Some("169.254.169.254"), "168.63.129.16"));
    }
}
