//! A request line without the rest of its head, as records and people have it: judged by the parser that the relay uses.

use super::Progress;
use super::canonical::Canonical;
use super::grammar::is_token_byte;
use super::head::{RequestHead, TARGET_LIMIT};
use crate::error::{Reason, Refusal};

/// The canonical form of what such a line asks for, in the origin-form or the absolute-form.
///
/// # Errors
/// What the relay answers to any request with this line, whatever the rules: 400, 405, 414, then 403 for the path.
pub fn canonical_form(method: &[u8], target: &[u8]) -> Result<Canonical, Refusal> {
    // Only what stays one word can be put into a line without becoming another line.
    if !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Refusal(Reason::BadRequestLine));
    }
    if target.iter().take(TARGET_LIMIT).any(|byte| *byte <= b' ') {
        return Err(Refusal(Reason::BadTarget));
    }
    let text = [method, b" ", target, b" HTTP/1.1\r\nHost: name\r\n\r\n"].concat();
    let mut head = RequestHead::new();
    if head.parse(&text)? == Progress::Incomplete {
        return Err(Refusal(Reason::BadRequestLine));
    }
    let mut canonical = Canonical::new();
    canonical.canonicalise(head.path(&text), head.query(&text))?;
    Ok(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(method: &str, target: &str) -> Option<Reason> {
        canonical_form(method.as_bytes(), target.as_bytes()).err().map(|refusal| refusal.0)
    }

    #[test]
    fn a_line_has_the_form_of_its_request() {
        let form = canonical_form(b"GET", b"http://169.254.169.254/Metadata/%69nstance/?B=%41&a").expect("good");
        assert_eq!(form.segments().collect::<Vec<_>>(), [b"metadata".as_slice(), b"instance"]);
        let pairs: Vec<_> = form.parameters().collect();
        assert_eq!(pairs, [(b"b".as_slice(), b"a".as_slice()), (b"a", b"")]);
    }

    #[test]
    fn a_line_is_refused_as_its_request_would_be() {
        let long = format!("/{}", "a".repeat(TARGET_LIMIT));
        let spaced = format!("{long} b");
        for (method, target, wanted) in [
            ("GET", "/a", None),
            ("", "/a", Some(Reason::BadRequestLine)),
            ("GET /b", "/a", Some(Reason::BadRequestLine)),
            ("GET", "", Some(Reason::BadTarget)),
            ("GET", "*", Some(Reason::BadTarget)),
            ("GET", "a", Some(Reason::BadTarget)),
            ("GET", "/a b", Some(Reason::BadTarget)),
            ("GET", "/a HTTP/1.1\r\nHost: other\r\n\r\n", Some(Reason::BadTarget)),
            ("GET", "/a#b", Some(Reason::BadTarget)),
            ("GET", "/a?b=%zz", Some(Reason::BadTarget)),
            ("GET", "/a%2fb", Some(Reason::AmbiguousPath)),
            ("BREW", "/a%2fb", Some(Reason::AmbiguousPath)),
            ("BREW", "/a/../b", Some(Reason::MethodNotAllowed)),
            ("get", "/a", Some(Reason::MethodNotAllowed)),
            ("CONNECT", "name:443", Some(Reason::MethodNotAllowed)),
            ("GET", "/a/../b", Some(Reason::PathTraversal)),
            ("GET", &long, Some(Reason::TargetTooLong)),
            ("GET", &spaced, Some(Reason::TargetTooLong)),
        ] {
            assert_eq!(reason(method, target), wanted, "{method} {target}");
        }
    }
}
