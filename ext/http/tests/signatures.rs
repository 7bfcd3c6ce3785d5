//! Signatures of the corpus, which tests/native/test_signature_vectors.py makes again by other means.

use super::corpus::{bytes, cases, load};
use super::{key, reference};

fn text(signature: [u8; 64]) -> String {
    String::from_utf8(signature.to_vec()).unwrap()
}

#[test]
fn requests_are_signed_as_the_corpus_says() {
    assert_eq!(
        load("signatures/requests.json")["key"],
        "4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59"
    );
    for case in cases("signatures/requests.json") {
        let fields: Vec<(Vec<u8>, Vec<u8>)> =
            serde_json::from_value::<Vec<(String, String)>>(case.get("fields").unwrap().clone())
                .unwrap()
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect();
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let part = |name| case.bytes(name).unwrap();
        let found = key().sign_parts(&part("method"), &part("target"), &fields, &part("body"));
        assert_eq!(text(found), case.text("signature").unwrap(), "{}", case.name());
        assert_eq!(reference::signature(&part("message")), case.text("signature").unwrap(), "{}", case.name());
    }
}

#[test]
fn parameters_are_written_as_the_corpus_says() {
    for case in cases("signatures/parameters.json") {
        let target = format!("/?{}", case.text("query").unwrap());
        let message = format!("GET\n\n/\n{}", case.text("parameters").unwrap());
        let found = key().sign_parts(b"GET", target.as_bytes(), &[], b"");
        assert_eq!(text(found), reference::signature(message.as_bytes()), "{}", case.name());
    }
}
