# The one door. Steps are written here once; CI and people call the same ones.
# A stamp in .venv says that a step was done: it is redone when what it depends on is newer.

SHELL := /bin/sh
.DELETE_ON_ERROR:
# The order of `make test` is fast first, and cargo uses all cores anyway.
.NOTPARALLEL:
.DEFAULT_GOAL := help

# rustup's folder is not on the PATH that sudo and some CI runners give.
export PATH := $(PATH):$(HOME)/.cargo/bin
VENV := .venv
PY := $(VENV)/bin/python
# cargo and maturin must build for one interpreter, or each would undo the other's work.
export PYO3_PYTHON := $(CURDIR)/$(PY)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

# `maturin develop` wants a newer pip than Debian 12's; this is what it does. A release build, Cargo.lock as it stands.
INSTALL_EDITABLE = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MATURIN_PEP517_ARGS=--locked \
	$(PY) -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .

# eBPF needs root. An ordinary user builds as himself and is asked by sudo for the rest, which then leaves no file of
# root's in the tree. Without sudo what needs root says so.
ROOT := $(filter 0,$(shell id -u))
SUDO := $(if $(ROOT),,$(shell command -v sudo))
AS_ROOT := $(if $(SUDO),$(SUDO) env PYTHONDONTWRITEBYTECODE=1 CI=$(CI) GPA_REQUIRE_KERNEL=$(GPA_REQUIRE_KERNEL))

NATIVE_SOURCES := build.rs Cargo.toml Cargo.lock pyproject.toml $(shell find ext bpf src -type f \
	\( -name '*.rs' -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxi' -o -path 'ext/*.py' \))

##@ Start here
.PHONY: demo
demo: build ## play the scenes: who is let through, who is refused, and why (asks sudo when not root)
	@$(AS_ROOT) $(VENV)/bin/gpa demo

.PHONY: test
test: lint test-rust test-python test-demo ## everything: lint, types, cargo test, pytest with the real kernel, the demo

##@ Parts
.PHONY: help
help: ## this text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(VENV)/.ready ## system packages, virtual environment; done once

.PHONY: build
build: $(VENV)/.built ## the native library into .venv; done once, then after a change

.PHONY: bench
bench: build ## figures (benches/README.md says how to read them)
	$(AS_ROOT) $(PY) -m pytest benches --benchmark-columns=min,median,iqr,ops,rounds

.PHONY: bench-peers
bench-peers: build ## the agent beside haproxy in one run (needs haproxy and wrk)
	$(AS_ROOT) $(PY) benches/peers/compare.py

# KERNELS="5.10 newest" picks some; tests/matrix/__main__.py tells the rest.
KERNELS := 5.10 6.1 6.12 newest arm64
MATRIX :=
.PHONY: test-kernels
test-kernels: build ## the interception tests on Debian's kernels 5.10, 6.1, 6.12, the newest, and on arm64, in QEMU
	@tools/setup.sh qemu kmod $(if $(filter arm64,$(KERNELS)),qemu-arm cross-compiler)
	@$(PY) -m tests.matrix $(MATRIX) $(KERNELS)

# Seconds for each target.
FUZZ_SECONDS := 60
FUZZ :=
.PHONY: fuzz
fuzz: $(VENV)/.ready ## the fuzzers of tests/fuzz, FUZZ_SECONDS each (needs a nightly toolchain, else says so)
	@tools/fuzz.sh $(FUZZ_SECONDS) $(FUZZ)

.PHONY: lint
lint: lint-python lint-rust lint-types ## formats, ruff, mypy, clippy, stubs

.PHONY: fmt
fmt: $(VENV)/.ready $(VENV)/.rust-tools ## format both languages, apply the safe fixes
	$(PY) -m ruff check --fix --quiet .
	$(PY) -m ruff format --quiet .
	cargo fmt

.PHONY: clean
clean: ## remove what was built, and .venv
	rm -rf $(VENV) target build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find src tests benches ext tools -name __pycache__ -prune -exec rm -rf {} +
	rm -f src/gpa/_native*.so

# --- the steps -------------------------------------------------------------------------------------------------------

$(VENV)/.ready: requirements/dev.txt tools/setup.sh
	@VENV=$(VENV) tools/setup.sh
	@touch $@

# The minimal profile of rustup has neither.
$(VENV)/.rust-tools: $(VENV)/.ready
	@{ cargo clippy --version && cargo fmt --version; } >/dev/null 2>&1 || rustup component add clippy rustfmt
	@touch $@

$(VENV)/.built: $(VENV)/.ready $(NATIVE_SOURCES)
	@echo 'building the native library (a minute or so)'
	@$(INSTALL_EDITABLE)
	@touch $@

.PHONY: lint-python lint-rust lint-types test-rust test-python test-demo test-install
lint-python: $(VENV)/.ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

lint-rust: $(VENV)/.rust-tools
	cargo fmt --check
	cargo clippy --locked --quiet --all-targets -- -D warnings
	cargo clippy --locked --quiet --all-targets --features extension -- -D warnings

lint-types: build
	$(PY) -m mypy.stubtest gpa._native --allowlist tests/stubtest.txt

test-rust: $(VENV)/.ready
	cargo test --locked --quiet

test-python: build
ifdef ROOT
	$(PY) -m pytest
else
	$(PY) -m pytest -m 'not kernel'
	$(AS_ROOT) $(PY) -m pytest -m kernel -p no:cacheprovider
endif

test-demo: build
	$(AS_ROOT) $(VENV)/bin/gpa demo

# Not part of `make test`: it builds a second time, and asks the package index each time.
test-install: $(VENV)/.ready
	rm -rf build/install-test
	$(PY) -m venv build/install-test
	build/install-test/bin/python -m pip install --quiet .
	cd build && install-test/bin/gpa version
	cd build && $(AS_ROOT) install-test/bin/gpa demo --json >install-test/demo.json
	rm -rf build/install-test
