//! Our own answers: what the SDKs of the cloud read.

use serde_json::Value;

use crate::error::{Reason, Refusal};
use crate::http::Progress;
use crate::http::answer::{AnswerHead, write_json, write_refusal};
use crate::http::head::Method;

const ALL: [Reason; 33] = [
    Reason::NotRoot,
    Reason::NoIdentityMatched,
    Reason::DefaultDeny,
    Reason::RulesBroken,
    Reason::PathTraversal,
    Reason::BadRequestLine,
    Reason::BadVersion,
    Reason::BadField,
    Reason::FieldImitatesOurs,
    Reason::BadHost,
    Reason::BadFraming,
    Reason::BadChunk,
    Reason::BadTarget,
    Reason::AmbiguousPath,
    Reason::AmbiguousQuery,
    Reason::MissingMetadata,
    Reason::MethodNotAllowed,
    Reason::BodyTooLarge,
    Reason::TargetTooLong,
    Reason::HeadTooLarge,
    Reason::Misdirected,
    Reason::RequestTimeout,
    Reason::NotFound,
    Reason::NotReady,
    Reason::IdentityLost,
    Reason::OverBudget,
    Reason::HostUnreachable,
    Reason::HostBroken,
    Reason::HostTimeout,
    Reason::HostDown,
    // Never refused; their status would be a mistake that must not panic.
    Reason::RuleMatched,
    Reason::Local,
    Reason::Exempt,
];

fn parts(answer: &[u8]) -> (AnswerHead, String, Value) {
    let mut head = AnswerHead::new();
    assert_eq!(head.parse(answer, Method::Get), Ok(Progress::Complete));
    let (text, body) = answer.split_at(head.head_len());
    let value = serde_json::from_slice(body).expect("flat JSON");
    (head, String::from_utf8(text.to_vec()).unwrap(), value)
}

#[test]
fn every_refusal_is_flat_json_with_its_decision() {
    for reason in ALL {
        let mut out = Vec::new();
        write_refusal(&mut out, Refusal(reason), Some(u64::MAX), true, false);
        let (head, text, body) = parts(&out);
        assert_eq!(head.status(), Refusal(reason).status());
        assert!(text.contains("\r\nConnection: close\r\n") && text.contains("\r\nContent-Type: application/json\r\n"));
        assert_eq!(text.contains("\r\nRetry-After: 1\r\n"), head.status() == 503);
        assert_eq!(text.contains("\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"), head.status() == 405);
        assert_eq!(body.as_object().unwrap().len(), 3);
        assert_eq!(body["decisionId"], format!("d-{}", u64::MAX));
        let description = body["error_description"].as_str().unwrap();
        assert!(description.ends_with(&format!(" decision d-{}", u64::MAX)), "{description}");
        // Some clients take the word for a missing network.
        assert!(!description.contains("unreachable"));
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_refusal_by_rule_to_the_byte() {
    let mut out = Vec::new();
    write_refusal(&mut out, Refusal(Reason::DefaultDeny), Some(42), true, false);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 137\r\nConnection: close\r\n\r\n\
         {\"error\": \"AccessDenied\", \"error_description\": \"no rule names this path and the default is to deny: decision \
         d-42\", \"decisionId\": \"d-42\"}"
    );
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let (mut whole, mut head) = (Vec::new(), Vec::new());
    write_refusal(&mut whole, Refusal(Reason::NotRoot), Some(1), true, false);
    write_refusal(&mut head, Refusal(Reason::NotRoot), Some(1), true, true);
    assert!(whole.starts_with(&head) && head.ends_with(b"\r\n\r\n"));
}

#[test]
fn an_answer_of_our_own_may_leave_the_connection_open() {
    let mut out = Vec::new();
    write_json(&mut out, 200, b"{}", false, false);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    let mut out = Vec::new();
    write_refusal(&mut out, Refusal(Reason::NotFound), None, false, false);
    assert_eq!(parts(&out).2["decisionId"], Value::Null);
}
