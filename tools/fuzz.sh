#!/bin/sh
# Run the fuzzers of tests/fuzz one after the other: `tools/fuzz.sh SECONDS [TARGET...]`, SECONDS for each target.
#
# libFuzzer needs a nightly toolchain. Where there is none, or no way to get cargo-fuzz, it says so and ends well: the
# same laws are tried by `cargo test --test fuzz` on every toolchain. With GPA_REQUIRE_FUZZ=1 that is a failure.
#
# New inputs of interest are kept in target/fuzz/corpus from run to run. An input that breaks a law is left in
# target/fuzz/found, and its name is printed: mend the code, and put it among the seeds (tests/fuzz/seeds).
set -eu
cd "$(dirname "$0")/.."

seconds=${1:?'usage: tools/fuzz.sh SECONDS [TARGET...]'}
shift
[ $# -gt 0 ] || set -- path request table judge

not_run() {
    printf 'fuzz: not run: %s\n' "$1" >&2
    [ -z "${GPA_REQUIRE_FUZZ:-}" ]
    exit
}

cargo +nightly --version >/dev/null 2>&1 || not_run 'there is no nightly toolchain (rustup toolchain install nightly)'
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    printf 'fuzz: installing cargo-fuzz\n' >&2
    cargo install --quiet --locked cargo-fuzz || not_run 'cargo-fuzz cannot be installed'
fi

# One build for all, so that its time is nobody's.
(cd tests/fuzz && cargo +nightly fuzz build --fuzz-dir . --target-dir ../../target/fuzz)

for target; do
    mkdir -p "target/fuzz/corpus/$target" target/fuzz/found
    printf 'fuzz: %s for %s s\n' "$target" "$seconds"
    binary=$(ls "target/fuzz/"*"/release/$target")
    # A message is longer than most inputs need to be. One that takes 10 s or 1 GiB is a fault, too.
    "$binary" -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="target/fuzz/found/$target-" \
        "target/fuzz/corpus/$target" "tests/fuzz/seeds/$target" 2>&1 | tee "target/fuzz/$target.log" |
        grep -E '^(stat::number_of_executed_units|SUMMARY|Test unit|thread|assertion)|panicked' || :
    ! grep -q '^SUMMARY' "target/fuzz/$target.log" || { tail -n 60 "target/fuzz/$target.log" >&2; exit 1; }
    grep -q '^stat::number_of_executed_units' "target/fuzz/$target.log"
done
