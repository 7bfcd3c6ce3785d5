//! Builds what is not Rust: the eBPF object (clang), the C of cffi and of Cython (the Python that maturin names).
//!
//! Nothing happens without the feature `extension`, so that the pure core builds with cargo alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_EXTENSION").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let libbpf = PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are"));
    build_ebpf(&libbpf, &out);
    build_c_modules(&libbpf, &out);
}

/// Runs a command and explains a failure: the build has no other way to talk to its user.
fn run(command: &mut Command, purpose: &str) -> String {
    let output =
        command.output().unwrap_or_else(|e| panic!("{purpose}: cannot run {}: {e}", command.get_program().display()));
    assert!(
        output.status.success(),
        "{purpose} failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn build_ebpf(libbpf: &Path, out: &Path) {
    for file in std::fs::read_dir("bpf").expect("bpf/ is part of the source") {
        println!("cargo:rerun-if-changed={}", file.expect("readable").path().display());
    }
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    // Debian keeps asm/types.h in a folder of the architecture, which `-target bpf` does not search.
    let triplet = format!("/usr/include/{arch}-linux-gnu");
    let define = match arch.as_str() {
        "x86_64" => "-D__TARGET_ARCH_x86",
        "aarch64" => "-D__TARGET_ARCH_arm64",
        other => panic!("no eBPF target for {other}"),
    };
    let object = out.join("gpa.bpf.o");
    run(
        Command::new(&clang)
            .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"])
            .args([define, "-Wno-unused-parameter", "-fdebug-prefix-map=/=", "-I"])
            .arg(libbpf)
            .args(["-idirafter", &triplet, "-c", "bpf/main.bpf.c", "-o"])
            .arg(&object),
        "compiling bpf/main.bpf.c with clang",
    );
    // Only BTF is needed at run time. Without llvm-strip (its own package in some distributions) DWARF stays: larger,
    // not wrong.
    let strip = run(Command::new(&clang).arg("-print-prog-name=llvm-strip"), "asking clang for llvm-strip");
    if Path::new(&strip).is_absolute() {
        run(Command::new(strip).arg("-g").arg(&object), "stripping the eBPF object");
    }
}

fn build_c_modules(libbpf: &Path, out: &Path) {
    println!("cargo:rerun-if-changed=ext/libbpf_build.py");
    println!("cargo:rerun-if-changed=ext/records.pyx");
    println!("cargo:rerun-if-changed=ext/line.pxi");
    println!("cargo:rerun-if-changed=ext/audit.h");
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    let python = env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".into());
    let include = run(
        Command::new(&python).args(["-c", "import sysconfig; print(sysconfig.get_path('include'))"]),
        "asking Python for its headers",
    );
    let bindings = out.join("libbpf_module.c");
    run(Command::new(&python).arg("ext/libbpf_build.py").arg(&bindings), "generating the cffi module");
    let records = out.join("records_module.c");
    run(
        Command::new(&python)
            .args(["-m", "cython", "-3", "--module-name", "gpa._native.records", "-o"])
            .arg(&records)
            .arg("ext/records.pyx"),
        "generating the Cython module",
    );
    cc::Build::new()
        .file(&bindings)
        .file(&records)
        .include(&include)
        .include(libbpf)
        .include("ext")
        .define("Py_LIMITED_API", "0x030b0000")
        .flag("-fvisibility=hidden")
        // Generated code: its style is not ours to mend.
        .warnings(false)
        .flag_if_supported("-Wno-unused-function")
        .compile("gpa_c_modules");
}
