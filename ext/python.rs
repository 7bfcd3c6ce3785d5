//! The module `gpa._native`: thin glue, the only PyO3 of the crate.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

// Linked for its static library, which the C modules call.
use libbpf_sys as _;

/// The eBPF object, part of the library: no file to lose or to swap.
static BPF_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gpa.bpf.o"));

unsafe extern "C" {
    fn PyInit_libbpf() -> *mut ffi::PyObject;
    fn PyInit_records() -> *mut ffi::PyObject;
}

#[pyfunction]
fn bpf_object(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, BPF_OBJECT)
}

/// Hangs the two C modules below `gpa._native` and names them in `sys.modules`, so that `import` finds them.
fn add_c_modules(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let modules = py.import("sys")?.getattr("modules")?;

    // SAFETY: cffi's init function wants the GIL, which `py` proves, and returns a new reference or null with an
    // exception set.
    let libbpf = unsafe { Bound::from_owned_ptr_or_err(py, PyInit_libbpf()) }?;
    module.add("libbpf", &libbpf)?;
    modules.set_item("gpa._native.libbpf", &libbpf)?;

    let spec = py.import("importlib.machinery")?.getattr("ModuleSpec")?.call1(("gpa._native.records", py.None()))?;
    // SAFETY: Cython's init function follows PEP 489: it returns a borrowed static PyModuleDef, which
    // PyModule_FromDefAndSpec turns into a module; both want the GIL, which `py` proves.
    let records = unsafe {
        let def = PyInit_records().cast::<ffi::PyModuleDef>();
        let records = Bound::from_owned_ptr_or_err(py, ffi::PyModule_FromDefAndSpec(def, spec.as_ptr()))?;
        if ffi::PyModule_ExecDef(records.as_ptr(), def) != 0 {
            return Err(PyErr::fetch(py));
        }
        records
    };
    module.add("records", &records)?;
    modules.set_item("gpa._native.records", &records)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("PROFILE", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    module.add_function(wrap_pyfunction!(bpf_object, module)?)?;
    add_c_modules(module)
}
