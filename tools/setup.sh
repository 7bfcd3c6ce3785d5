#!/bin/sh
# Prepare this tree: look for what the build needs, install it where that is possible, make .venv from the lock file.
#
# Called by the Makefile (`make setup`), which runs it once. Support is tried, not guessed: each need is a probe that
# does what the build will do. Missing packages are installed on a Debian family as root; elsewhere, and for Python and
# Rust, what is missing is named, all of it in one message, with the command to type. Nothing outside the tree is
# touched but by that package manager.
#
# `tools/setup.sh NEED…` only sees to these needs; targets that want more than others call it so.
#
# Environment: PYTHON  the interpreter to use (default: the first of python3, python3.14 … python3.11 that is new enough)
#              VENV    where the virtual environment goes (default: .venv)
set -eu

PYTHON_NEEDED=3.11
RUST_NEEDED=1.88 # Cargo.toml says why
VENV=${VENV:-.venv}

say() { printf '%s\n' "setup: $*" >&2; }

new_enough_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough_python "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

new_enough_rust() {
    command -v cargo >/dev/null 2>&1 || return 1
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] || return 1
    [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "$version" | sort -V | head -n 1)" = "$RUST_NEEDED" ]
}

# --- probes: what the build and the tests will do, in small ---------------------------------------------------------

has_header() { printf '#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1; }

probe() {
    case $1 in
        venv) "$python" -c 'import ensurepip, venv' 2>/dev/null ;;
        python-headers) "$python" -c '
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file())' 2>/dev/null ;;
        compiler) command -v cc >/dev/null 2>&1 ;;
        libc-headers) has_header stdio.h ;;
        make) command -v make >/dev/null 2>&1 ;;
        pkg-config) command -v pkg-config >/dev/null 2>&1 ;;
        clang) printf 'int x;\n' | clang -target bpf -c -x c -o /dev/null - 2>/dev/null ;;
        libelf) has_header libelf.h ;;
        zlib) has_header zlib.h ;;
        kernel-headers) has_header linux/bpf.h ;;
        ip | tc) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;; # tc: the tests of the guard
        curl) command -v curl >/dev/null 2>&1 ;; # a scene of the demo
        qemu) command -v qemu-system-x86_64 >/dev/null 2>&1 ;;
        qemu-arm) command -v qemu-system-aarch64 >/dev/null 2>&1 ;;
        cross-compiler) printf '#include <stdio.h>\n' | aarch64-linux-gnu-gcc -E -x c - >/dev/null 2>&1 ;;
        kmod) PATH="$PATH:/usr/sbin:/sbin" command -v depmod >/dev/null 2>&1 ;;
    esac
}

NEEDS='venv python-headers compiler libc-headers make pkg-config clang libelf zlib kernel-headers ip tc curl'

# The package that brings a need: package MANAGER NEED.
package() {
    case $1:$2 in
        apt:venv) echo python3-venv ;;
        apt:python-headers) echo python3-dev ;;
        apt:libc-headers) echo libc6-dev ;;
        apt:pkg-config) echo pkg-config ;;
        apt:libelf) echo libelf-dev ;;
        apt:zlib) echo zlib1g-dev ;;
        apt:kernel-headers) echo linux-libc-dev ;;
        apt:qemu) echo qemu-system-x86 ;;
        apt:qemu-arm) echo qemu-system-arm ;;
        apt:cross-compiler) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
        zypper:venv | zypper:python-headers) echo "python3$("$python" -c 'import sys; print(sys.version_info[1])')-devel" ;;
        dnf:venv) echo python3 ;;
        tdnf:venv) echo python3 ;;
        *:python-headers) echo python3-devel ;;
        *:libc-headers) echo glibc-devel ;;
        zypper:libelf) echo libelf-devel ;;
        *:libelf) echo elfutils-libelf-devel ;;
        *:pkg-config) echo pkgconf-pkg-config ;;
        *:zlib) echo zlib-devel ;;
        zypper:kernel-headers) echo linux-glibc-devel ;;
        *:kernel-headers) echo kernel-headers ;;
        dnf:tc) echo iproute-tc ;;
        dnf:ip | tdnf:ip | tdnf:tc) echo iproute ;;
        *:ip | *:tc) echo iproute2 ;;
        tdnf:compiler) echo gcc binutils ;;
        *:compiler) echo gcc ;;
        *) echo "$2" ;;
    esac
}

missing_needs() {
    for need in $NEEDS; do
        # What a Python lacks that is not there yet is asked when it is.
        case $need in venv | python-headers) [ -n "$python" ] || continue ;; esac
        probe "$need" || printf '%s ' "$need"
    done
}

packages() { # MANAGER NEED…
    manager=$1
    shift
    for need in "$@"; do package "$manager" "$need"; done | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# --- the steps ------------------------------------------------------------------------------------------------------

# One message for all that is missing, in one write. Reads $trouble and $missing.
refuse() {
    message="missing: $trouble${trouble:+${missing:+; }}${missing% }"
    # shellcheck disable=SC2086 # needs are words without spaces
    [ -z "$missing" ] || message="$message. As root, on
  Debian, Ubuntu       apt-get install $(packages apt $missing)
  Fedora, RHEL         dnf install $(packages dnf $missing)
  SUSE                 zypper install $(packages zypper $missing)
  Azure Linux          tdnf install $(packages tdnf $missing)
then try again."
    # sudo gives root a PATH without the user's toolchain.
    [ -z "$trouble" ] || [ -z "${SUDO_USER:-}" ] || message="$message
Run make as $SUDO_USER, not with sudo: it asks sudo itself for what needs root."
    say "$message"
    exit 1
}

# libbpf's makefile, which runs below cargo's folder, takes a path with a space for two.
folder() {
    case ${CARGO_TARGET_DIR:-} in /*) target=$CARGO_TARGET_DIR ;; *) target=$PWD ;; esac
    case $target in *[[:space:]]*)
        say "libbpf cannot be built below a path with a space: move '$target', or set CARGO_TARGET_DIR to a folder elsewhere"
        exit 1
        ;;
    esac
}

toolchains() {
    trouble=''
    if ! python=$(find_python); then
        have=$("${PYTHON:-python3}" --version 2>/dev/null || echo none)
        trouble="Python $PYTHON_NEEDED or newer (found: $have; PYTHON=/path/to/python3 names another)"
    fi
    if ! new_enough_rust; then
        have=$(rustc --version 2>/dev/null || echo none)
        trouble="${trouble:+$trouble; }Rust $RUST_NEEDED or newer with cargo on PATH (found: $have), from https://rustup.rs"
    fi
}

system_packages() {
    missing=$(missing_needs)
    [ -z "$trouble" ] || refuse
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        wanted=$(packages apt $missing)
        say "installing $wanted"
        export DEBIAN_FRONTEND=noninteractive
        log=$(mktemp)
        { apt-get update && apt-get install -y --no-install-recommends $wanted; } >"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            rm -f "$log"
            say "apt-get could not install: $wanted"
            exit 1
        }
        rm -f "$log"
        missing=$(missing_needs)
    fi
    [ -z "$missing" ] || refuse
}

environment() {
    # A run that was interrupted may have left a half without pip.
    if ! new_enough_python "$VENV/bin/python" || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "making $VENV with $python"
        rm -rf "$VENV"
        "$python" -m venv "$VENV"
    fi
    say "installing what requirements/dev.txt pins"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
}

cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
    NEEDS=$* trouble=''
    system_packages
    exit
fi
folder
toolchains
system_packages
environment
