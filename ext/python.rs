//! The module `gpa._native`: thin glue, the only PyO3 of the crate. What things mean stands where they are made.

mod canonical;

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

// Linked for its static library, which the C modules call.
use libbpf_sys as _;

use crate::caller::{Endpoint, Ident};
use crate::digest;
use crate::error::Reason;
use crate::http::canonical::Canonical;
use crate::http::forward::exempt as is_exempt;
use crate::http::head::Method;
use crate::key::{self, Fault};
use crate::policy::{Grounds, Mode};
use crate::relay::{self, KernelInterception, RelayConfig};
use crate::sign;
use crate::sys::{cgroup, fd, heap, net, ns, plain, process};

/// The eBPF object, part of the library: no file to lose or to swap.
static BPF_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gpa.bpf.o"));

unsafe extern "C" {
    fn PyInit_libbpf() -> *mut ffi::PyObject;
    fn PyInit_records() -> *mut ffi::PyObject;
}

/// Decision, reason's code; privilege, role and identity by their place in the endpoint's table.
type Decision = (&'static str, &'static str, Option<u16>, Option<u16>, Option<u16>);
/// Token, path, caller's record, notify, tick.
type Question<'py> = (u64, &'static str, Bound<'py, PyBytes>, bool, Option<i64>);

/// An exception of `gpa.errors`, where all are declared; arguments after the message are its attributes.
fn error(py: Python<'_>, class: &str, message: String, status: Option<u16>) -> PyErr {
    let made = py.import("gpa.errors").and_then(|errors| errors.getattr(class)).and_then(|class| match status {
        Some(status) => class.call1((message, status)),
        None => class.call1((message,)),
    });
    made.map_or_else(|trouble| trouble, PyErr::from_value)
}

fn fault(py: Python<'_>, fault: &Fault, from_host: bool) -> PyErr {
    let (class, status) = match fault {
        Fault::Missing(_) => ("KeyMissingError", None),
        Fault::Invalid(_) if from_host => ("HostAnswerError", None),
        Fault::Untrusted(..) | Fault::File(..) | Fault::Invalid(_) => ("KeyFileError", None),
        Fault::Unreachable(_) => ("HostUnreachableError", None),
        Fault::Status(status) => ("HostStatusError", Some(*status)),
        Fault::Garbled(_) => ("HostAnswerError", None),
    };
    error(py, class, fault.to_string(), status)
}

#[pyfunction]
fn bpf_object(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, BPF_OBJECT)
}

#[pyfunction]
fn harden() -> PyResult<()> {
    Ok(process::harden()?)
}

/// Gives memory that was used and freed back to the system.
#[pyfunction]
fn give_back_memory() {
    heap::give_back();
}

/// Exempts a socket from the interception; to be called before it connects.
#[pyfunction]
fn exempt(number: i32) -> PyResult<()> {
    Ok(net::exempt(fd::duplicate(number)?.as_fd())?)
}

/// A socket made in the network namespace of that descriptor; the new descriptor is the caller's to close.
#[pyfunction]
fn socket_in(py: Python<'_>, namespace: i32, family: i32, kind: i32, protocol: i32) -> PyResult<i32> {
    let namespace = fd::duplicate(namespace)?;
    Ok(py.detach(|| ns::socket_in(namespace.as_fd(), family, kind, protocol))?.into_raw_fd())
}

/// The folder of a cgroup by its id; `mount` is any folder of cgroup v2. The descriptor is the caller's to close.
#[pyfunction]
fn cgroup_by_id(mount: i32, number: u64) -> PyResult<i32> {
    Ok(cgroup::by_id(fd::duplicate(mount)?.as_fd(), number)?.into_raw_fd())
}

/// SHA-256 of a file's content, in hexadecimal. Blocking, without the GIL.
#[pyfunction]
fn sha256(py: Python<'_>, number: i32, limit: u64, seconds: f64) -> PyResult<String> {
    let time = Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let file = File::from(fd::duplicate(number)?);
    Ok(py.detach(|| digest::sha256(&file, limit, time))?)
}

/// A handle that signs. The key itself stays in locked memory of the native half.
#[pyclass(frozen, module = "gpa._native")]
struct SigningKey(Arc<sign::SigningKey>);

impl SigningKey {
    fn from_record(py: Python<'_>, record: &key::KeyRecord) -> PyResult<Self> {
        let key = sign::SigningKey::new(record.guid(), record.incarnation(), record.digits())
            .map_err(|e| error(py, "KeyFileError", e.to_string(), None))?;
        Ok(Self(Arc::new(key)))
    }
}

#[pymethods]
impl SigningKey {
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // PyO3 extracts owned values
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let record = py.detach(|| key::store::load(&path)).map_err(|e| fault(py, &e, false))?;
        Self::from_record(py, &record)
    }

    #[getter]
    fn guid(&self) -> &str {
        self.0.guid()
    }

    #[getter]
    fn incarnation(&self) -> Option<i64> {
        self.0.incarnation()
    }

    /// Value of `x-ms-azure-host-authorization` for a request of the agent's own.
    #[allow(clippy::needless_pass_by_value)] // PyO3 extracts owned values
    fn authorization(&self, method: &str, target: &str, fields: Vec<(String, String)>, body: &[u8]) -> String {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.0.authorization(method.as_bytes(), target.as_bytes(), &fields, body)
    }

    fn __repr__(&self) -> String {
        format!("<SigningKey {}>", self.0.guid())
    }
}

/// Asks for a key on a connected socket, stores it, reads it back. Blocking, without the GIL.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // PyO3 extracts owned values
fn acquire_key(py: Python<'_>, number: i32, folder: PathBuf, timeout: f64, date: String) -> PyResult<SigningKey> {
    let mut stream = TcpStream::from(fd::duplicate(number)?);
    let timeout = Duration::try_from_secs_f64(timeout).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let record =
        py.detach(|| key::exchange::acquire(&mut stream, &folder, timeout, &date)).map_err(|e| fault(py, &e, true))?;
    SigningKey::from_record(py, &record)
}

/// Rules, modes and key of one epoch.
#[pyclass(frozen, module = "gpa._native")]
struct Snapshot(Arc<crate::policy::Snapshot>);

#[pymethods]
impl Snapshot {
    #[new]
    #[pyo3(signature = (epoch, table, key=None))]
    fn new(py: Python<'_>, epoch: u64, table: &[u8], key: Option<&SigningKey>) -> PyResult<Self> {
        let key = key.map(|key| Arc::clone(&key.0));
        let snapshot = py
            .detach(|| crate::policy::Snapshot::from_table(epoch, table, key))
            .map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(Self(Arc::new(snapshot)))
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// What the relay would decide about a request for `target` (origin-form) by the caller of that record.
    fn decide(&self, endpoint: &str, caller: &[u8], method: &str, target: &str) -> PyResult<Decision> {
        let endpoint = Endpoint::ALL
            .into_iter()
            .find(|e| e.name() == endpoint)
            .ok_or_else(|| PyValueError::new_err("an endpoint is imds, wireserver or hostga"))?;
        let caller: Ident = plain::from_bytes(caller)
            .ok_or_else(|| PyValueError::new_err(format!("a caller record has {} bytes", size_of::<Ident>())))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let Some(kind) = Method::parse(method.as_bytes()) else {
            return Ok(("refused", Reason::MethodNotAllowed.code(), None, None, None));
        };
        let mut canonical = Canonical::new();
        // A disabled endpoint's paths are not looked at, as in the relay.
        let disabled = self.0.endpoint(endpoint).mode == Mode::Disabled;
        if !disabled && let Err(refusal) = canonical.canonicalise(path.as_bytes(), query) {
            return Ok(("refused", refusal.0.code(), None, None, None));
        }
        if !disabled && caller.is_root() && is_exempt(endpoint, method.as_bytes(), target.as_bytes()) {
            return Ok(("allow", Reason::Exempt.code(), None, None, None));
        }
        Ok(match self.0.decide(endpoint, &caller, kind, &canonical) {
            Ok(verdict) => {
                let Grounds { reason, privilege, role, identity } = *verdict.grounds();
                (verdict.code(), reason.code(), privilege, role, identity)
            }
            Err(refusal) => ("refused", refusal.0.code(), None, None, None),
        })
    }
}

/// The native threads that carry requests.
#[pyclass(frozen, module = "gpa._native")]
struct Relay {
    relay: relay::Relay,
    interception: Arc<KernelInterception>,
}

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (threads=2, body_limit=8 << 20, body_budget=64 << 20))]
    fn new(threads: usize, body_limit: usize, body_budget: usize) -> PyResult<Self> {
        let interception = Arc::new(KernelInterception::default());
        let kernel = Arc::clone(&interception);
        let config = RelayConfig { threads, body_limit, body_budget, interception: kernel, ..RelayConfig::default() };
        Ok(Self { relay: relay::Relay::start(config)?, interception })
    }

    /// Serves a listening socket; the descriptor is duplicated. Gives a name for `unlisten`.
    fn listen(&self, number: i32) -> PyResult<u32> {
        Ok(self.relay.listen(fd::duplicate(number)?)?)
    }

    /// Serves it no more; connections made through it stay.
    fn unlisten(&self, listener: u32) {
        self.relay.unlisten(listener);
    }

    /// Gives the map of records (`idents`), to be asked where a socket does not answer; the descriptor is duplicated.
    fn set_records_map(&self, number: i32) -> PyResult<()> {
        self.interception.set_map(fd::duplicate(number)?)?;
        Ok(())
    }

    fn publish(&self, snapshot: &Snapshot) {
        self.relay.publish(Arc::clone(&snapshot.0));
    }

    fn set_clock(&self, host_unix_ns: i64, boottime_ns: i64) {
        self.relay.set_clock(host_unix_ns, boottime_ns);
    }

    fn wake_fd(&self) -> i32 {
        self.relay.wake_fd().as_raw_fd()
    }

    fn arm(&self) {
        self.relay.arm();
    }

    fn take_records<'py>(&self, py: Python<'py>, limit: usize) -> Bound<'py, PyBytes> {
        let mut rows = Vec::new();
        self.relay.take_records(&mut rows, limit);
        PyBytes::new(py, &rows)
    }

    fn questions<'py>(&self, py: Python<'py>) -> Vec<Question<'py>> {
        let questions = self.relay.questions().into_iter();
        questions
            .map(|q| (q.token, q.path.path(), PyBytes::new(py, plain::bytes_of(&q.caller)), q.notify, q.tick))
            .collect()
    }

    /// Records of callers who are to be looked at.
    fn strangers<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.relay.strangers().iter().map(|caller| PyBytes::new(py, plain::bytes_of(caller))).collect()
    }

    fn answer(&self, token: u64, status: u16, body: &[u8]) {
        self.relay.answer(token, status, body);
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        for (name, value) in self.relay.counters() {
            counters.set_item(name, value)?;
        }
        Ok(counters)
    }

    /// Finishes what has begun, and with `take_waiting` what waits to be accepted; false when the time was over first.
    /// Blocking, without the GIL.
    fn drain(&self, py: Python<'_>, seconds: f64, take_waiting: bool) -> PyResult<bool> {
        let limit = Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(py.detach(|| self.relay.drain(limit, take_waiting)))
    }

    /// Ends the threads. Blocking, without the GIL.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.relay.stop());
    }
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
    module.add_function(wrap_pyfunction!(harden, module)?)?;
    module.add_function(wrap_pyfunction!(give_back_memory, module)?)?;
    module.add_function(wrap_pyfunction!(exempt, module)?)?;
    module.add_function(wrap_pyfunction!(acquire_key, module)?)?;
    module.add_function(wrap_pyfunction!(socket_in, module)?)?;
    module.add_function(wrap_pyfunction!(cgroup_by_id, module)?)?;
    module.add_function(wrap_pyfunction!(sha256, module)?)?;
    module.add_function(wrap_pyfunction!(canonical::canonical_request, module)?)?;
    module.add_function(wrap_pyfunction!(canonical::canonical_rule, module)?)?;
    module.add_class::<SigningKey>()?;
    module.add_class::<Snapshot>()?;
    module.add_class::<Relay>()?;
    add_c_modules(module)
}
