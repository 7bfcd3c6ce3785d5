//! What each header field of a request does to it: to its framing, to the connection, to what is sent on.
//!
//! RFC 9112, section 6.3, tells how the length of a body is found when fields contradict each other; contradictions are
//! refused here, since the host may follow the other field.

use super::Span;
use super::canonical;
use super::grammar;
use super::head::RequestHead;
use super::section::{FIELD_LIMIT, FieldSpan};
use super::target::Authority;
use crate::error::{Reason, Refusal};

/// Names that `Connection` may list, since each is looked for among all fields. Real clients list at most three.
const CONNECTION_LIMIT: usize = 32;

const _: () = assert!(FIELD_LIMIT <= 256, "fields are counted in a byte");

/// The fields that only the agent sets; a caller's own are taken away.
pub(super) const CLAIMS: &[u8] = b"x-ms-azure-host-claims";
pub(super) const DATE: &[u8] = b"x-ms-azure-host-date";
pub(super) const AUTHORIZATION: &[u8] = b"x-ms-azure-host-authorization";

/// What the name of a field makes of it. Everything else is plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Metadata,
    /// Ends at this hop, or is one of ours and set anew.
    Dropped,
    Plain,
}

/// # Errors
/// `FieldImitatesOurs` when another separator in place of the hyphen keeps the name from being one of ours or one that
/// frames the body: CGI and its heirs fold the two.
fn kind_of(name: &[u8]) -> Result<Kind, Refusal> {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    let guarded = |other: &[u8], kind| match folds_into(name, other) {
        false => Ok(if is_proxy(name) { Kind::Dropped } else { Kind::Plain }),
        true if is(other) => Ok(kind),
        true => Err(Refusal(Reason::FieldImitatesOurs)),
    };
    Ok(match name.len() {
        2 if is(b"te") => Kind::Dropped,
        4 if is(b"host") => Kind::Host,
        6 if is(b"expect") => Kind::Expect,
        7 if is(b"upgrade") || is(b"trailer") => Kind::Dropped,
        8 if is(b"metadata") => Kind::Metadata,
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"keep-alive") => Kind::Dropped,
        14 if is(b"http2-settings") => Kind::Dropped,
        14 => guarded(b"content-length", Kind::ContentLength)?,
        17 => guarded(b"transfer-encoding", Kind::TransferEncoding)?,
        20 => guarded(DATE, Kind::Dropped)?,
        22 => guarded(CLAIMS, Kind::Dropped)?,
        29 => guarded(AUTHORIZATION, Kind::Dropped)?,
        _ if is_proxy(name) => Kind::Dropped,
        _ => Kind::Plain,
    })
}

fn is_proxy(name: &[u8]) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-"))
}

/// Equal when everything that is neither letter nor digit is taken for a hyphen. Of equal length.
fn folds_into(name: &[u8], other: &[u8]) -> bool {
    name.iter().zip(other).all(|(byte, other)| {
        let folded = if grammar::is_alphanumeric(*byte) { byte.to_ascii_lowercase() } else { b'-' };
        folded == *other
    })
}

impl RequestHead {
    pub(super) fn take_field(&mut self, buf: &[u8], mut field: FieldSpan) -> Result<(), Refusal> {
        let value = field.value(buf);
        let framing = Refusal(Reason::BadFraming);
        match kind_of(field.name(buf))? {
            Kind::Plain => {}
            Kind::Metadata => self.flags.metadata = true,
            Kind::Dropped => field.forwarded = false,
            Kind::Host => {
                // RFC 9112, section 3.2: more than one Host, or one with an invalid value, is answered 400.
                if self.host.is_some() || Authority::parse(value).is_none() {
                    return Err(Refusal(Reason::BadHost));
                }
                self.host = Some(field.value);
            }
            Kind::ContentLength => {
                if self.length.is_some() || self.flags.chunked {
                    return Err(framing);
                }
                self.length = Some(grammar::content_length(value).ok_or(framing)?);
            }
            Kind::TransferEncoding => {
                // RFC 9112, section 6.1: with HTTP/1.0, and together with Content-Length, the framing is faulty.
                let faulty = self.flags.http10 || self.flags.chunked || self.length.is_some();
                if faulty || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(framing);
                }
                self.flags.chunked = true;
                field.forwarded = false; // the body goes on with a Content-Length
            }
            Kind::Expect => {
                // The only expectation that exists, once; obfuscated ones make servers disagree on who waits.
                if self.flags.expect || !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal(Reason::BadField));
                }
                self.flags.expect = true;
                field.forwarded = false; // answered by us
            }
            Kind::Connection => {
                field.forwarded = false;
                self.take_options(buf, field)?;
            }
        }
        self.fields.push(field);
        Ok(())
    }

    /// `Connection = #connection-option`, each of which may be the name of a field that ends at this hop.
    fn take_options(&mut self, buf: &[u8], field: FieldSpan) -> Result<(), Refusal> {
        let mut at = field.value.start as usize;
        for piece in field.value(buf).split(|byte| *byte == b',') {
            let option = grammar::trim(piece);
            let start = at + (piece.len() - grammar::trim_start(piece).len());
            at += piece.len() + 1;
            if option.is_empty() {
                continue;
            }
            if !grammar::is_token(option) {
                return Err(Refusal(Reason::BadField));
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.flags.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.flags.keep_alive = true;
            } else {
                match kind_of(option)? {
                    // Taking these away would change whose request it is and where it ends.
                    Kind::ContentLength | Kind::TransferEncoding => return Err(Refusal(Reason::BadFraming)),
                    Kind::Host => return Err(Refusal(Reason::BadHost)),
                    // Gone anyway, and ours are set after this.
                    Kind::Dropped | Kind::Connection | Kind::Expect => {}
                    Kind::Plain | Kind::Metadata => {
                        if self.options.len() == CONNECTION_LIMIT {
                            return Err(Refusal(Reason::BadField));
                        }
                        self.options.push(Span::new(start, start + option.len()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The faults that only the whole head shows; then the order in which its fields are signed.
    pub(super) fn finish(&mut self, buf: &[u8]) -> Result<(), Refusal> {
        if self.host.is_none() && !self.flags.http10 {
            return Err(Refusal(Reason::BadHost));
        }
        if self.method_kind.is_none() {
            if self.path(buf).first() == Some(&b'/') {
                canonical::check_form(self.path(buf), self.query(buf))?;
            }
            return Err(Refusal(Reason::MethodNotAllowed));
        }
        for option in &self.options {
            let option = option.of(buf);
            for field in &mut self.fields {
                if field.name(buf).eq_ignore_ascii_case(option) {
                    field.forwarded = false;
                }
            }
        }
        let forwarded = (0_u8..).zip(&self.fields).filter(|(_, field)| field.forwarded);
        self.order.extend(forwarded.map(|(index, _)| index));
        let fields = &self.fields;
        self.order.sort_unstable_by(|a, b| {
            let (one, other) = (&fields[usize::from(*a)], &fields[usize::from(*b)]);
            one.prefix
                .cmp(&other.prefix)
                .then_with(|| grammar::compare_names(one.name(buf), other.name(buf)))
                .then(a.cmp(b))
        });
        Ok(())
    }
}
