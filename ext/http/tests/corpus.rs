//! The files of `tests/vectors`, in which each character below U+0100 is one byte.

use serde_json::Value;

pub(super) struct Case(Value);

impl Case {
    pub(super) fn name(&self) -> &str {
        self.0["name"].as_str().expect("each case has a name")
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    pub(super) fn flag(&self, field: &str) -> Option<bool> {
        self.0.get(field)?.as_bool()
    }

    pub(super) fn bytes(&self, field: &str) -> Option<Vec<u8>> {
        self.text(field).map(bytes)
    }
}

pub(super) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("one byte a character")).collect()
}

pub(super) fn load(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(super) fn cases(file: &str) -> Vec<Case> {
    let Value::Array(cases) = load(file)["cases"].take() else { panic!("{file} has no cases") };
    assert!(!cases.is_empty(), "{file}");
    cases.into_iter().map(Case).collect()
}
