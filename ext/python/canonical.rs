//! The canonical form for tools on rules: text in, text out. Bytes that are no text come as `os.fsdecode` gives them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use pyo3::prelude::*;

use crate::error::Refusal;
use crate::http::canonical::Canonical;
use crate::http::line;

/// Segments of the path; name and value of each query parameter.
type Form = (Vec<OsString>, Vec<(OsString, OsString)>);

fn text(bytes: impl Into<Vec<u8>>) -> OsString {
    OsString::from_vec(bytes.into())
}

/// The `RequestFormError` of `gpa.errors` with what the caller would be told.
fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
    let made = py
        .import("gpa.errors")
        .and_then(|errors| errors.getattr("RequestFormError"))
        .and_then(|class| class.call1((refusal.0.words(), refusal.status(), refusal.0.code())));
    made.map_or_else(|trouble| trouble, PyErr::from_value)
}

/// What a request is compared by; `target` in origin-form or absolute-form.
#[pyfunction]
pub(super) fn canonical_request(py: Python<'_>, method: &str, target: &str) -> PyResult<Form> {
    let form = line::canonical_form(method.as_bytes(), target.as_bytes()).map_err(|e| refused(py, e))?;
    let pairs = form.parameters().map(|(name, value)| (text(name), text(value))).collect();
    Ok((form.segments().map(text).collect(), pairs))
}

/// What a privilege is compared by; its path and parameters as written.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // PyO3 extracts owned values
pub(super) fn canonical_rule(py: Python<'_>, path: &str, query: Vec<(String, String)>) -> PyResult<Form> {
    let segments = Canonical::rule_path(path.as_bytes()).map_err(|e| refused(py, e))?;
    let form = |written: &String| text(Canonical::rule_text(written.as_bytes()));
    let pairs = query.iter().map(|(name, value)| (form(name), form(value))).collect();
    Ok((segments.into_iter().map(text).collect(), pairs))
}
