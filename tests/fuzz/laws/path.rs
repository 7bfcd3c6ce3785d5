//! The canonical form of a target and of a rule's path and query.

use _native::error::{Reason, Refusal};
use _native::http::canonical::Canonical;

use super::servers;

/// `data` is a target in origin-form, and a path of a rule.
pub(super) fn law(data: &[u8]) {
    let (path, query) = split(data);
    // The head lets no other characters through to here.
    let query = query.filter(|query| query.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
    let mut canonical = Canonical::new();
    match canonical.canonicalise(path, query) {
        Ok(()) => accepted(&canonical, path, query),
        Err(Refusal(Reason::PathTraversal)) => {
            assert!(has_dots_or_gaps(&servers::unquoted(path)), "{} goes nowhere else", path.escape_ascii());
        }
        Err(refusal) => assert_eq!(refusal.status(), 400, "{refusal:?}"),
    }
    if let Ok(segments) = Canonical::rule_path(data) {
        a_request_can_have(data, &segments);
    }
    let text = Canonical::rule_text(data);
    assert_eq!(text, servers::folded(&servers::unquoted(data)), "{}", data.escape_ascii());
    assert_eq!(Canonical::rule_text(&servers::quoted(data)), servers::folded(data), "{}", data.escape_ascii());
}

/// Path, and query without its question mark.
pub(super) fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// All that must hold of a target that goes on.
pub(super) fn accepted(canonical: &Canonical, path: &[u8], query: Option<&[u8]>) {
    let shown = path.escape_ascii();
    let segments: Vec<Vec<u8>> = canonical.segments().map(<[u8]>::to_vec).collect();

    // It is what is written, decoded once; and there is nothing in it that anybody could resolve further.
    assert_eq!(canonical.path(), servers::folded(&servers::unquoted(path)), "{shown}");
    assert!(std::str::from_utf8(canonical.path()).is_ok(), "{shown} is no text");
    assert!(!canonical.path().iter().any(|byte| byte.is_ascii_control() || b"\\;?#".contains(byte)), "{shown}");
    assert!(!has_dots_or_gaps(canonical.path()), "{shown}");
    assert_eq!(servers::unquoted(canonical.path()), canonical.path(), "{shown} is encoded twice");
    assert_eq!(segments, servers::lenient(path), "a lenient server reads {shown} in another way");

    // A rule that says the same, encoded or plain, is the same.
    assert_eq!(Canonical::rule_path(path).as_ref(), Ok(&segments), "{shown} as a rule");
    assert_eq!(Canonical::rule_path(canonical.path()).as_ref(), Ok(&segments), "{shown} as a plain rule");

    let parameters: Vec<(Vec<u8>, Vec<u8>)> =
        canonical.parameters().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(parameters, servers::parameters(query.unwrap_or_default()), "{shown}");

    // The form of the form is itself, however it is spelled.
    let spelled: Vec<u8> = canonical.path().split(|byte| *byte == b'/').flat_map(spelled_segment).skip(1).collect();
    let pairs: Vec<Vec<u8>> =
        parameters.iter().map(|(name, value)| [servers::quoted(name), servers::quoted(value)].join(&b'=')).collect();
    let mut again = Canonical::new();
    assert_eq!(again.canonicalise(&spelled, Some(&pairs.join(&b'&'))), Ok(()), "{}", spelled.escape_ascii());
    assert_eq!(again.path(), canonical.path());
    assert!(again.parameters().eq(canonical.parameters()), "{shown}");
}

fn spelled_segment(segment: &[u8]) -> Vec<u8> {
    [&b"/"[..], &servers::quoted(segment)].concat()
}

/// A rule's path is one that some request can have: otherwise it would never match, and nobody would be told.
fn a_request_can_have(path: &[u8], segments: &[Vec<u8>]) {
    let spelled = if segments.is_empty() {
        b"/".to_vec()
    } else {
        segments.iter().flat_map(|segment| spelled_segment(segment)).collect()
    };
    let mut canonical = Canonical::new();
    assert_eq!(canonical.canonicalise(&spelled, None), Ok(()), "the rule {} matches nothing", path.escape_ascii());
    assert!(canonical.segments().eq(segments.iter().map(Vec::as_slice)), "{}", path.escape_ascii());
}

/// `.`, `..` or an empty segment, save for one that a slash at the end makes.
fn has_dots_or_gaps(path: &[u8]) -> bool {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    segments
        .iter()
        .enumerate()
        .any(|(i, segment)| matches!(*segment, b"." | b"..") || (segment.is_empty() && i != last))
}
