#!/usr/bin/env bash
# Runs every check, prints each runner's summary, and ends with one line that sums them up.
#
# In: nothing, or `rust` or `node` for one half. Out: exit code 0 only if nothing failed; what
# failed is said again above the last line. Invariant: a runner that dies, or that runs no test at
# all, is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

half=${1:-all}
passed=0
failed=0
output=$(mktemp)
problems=$(mktemp)
trap 'rm -f "$output" "$problems"' EXIT

# check NAME COMMAND… : one thing that either holds or not.
check() {
  local name=$1
  shift
  echo "== $name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name" | tee -a "$problems"
  fi
}

# count NAME PASSED-PATTERN FAILED-PATTERN FAILURES-PATTERN COMMAND… : a runner that prints how many
# tests passed, and what failed from the first line that matches the last pattern on.
count() {
  local name=$1 good=$2 bad=$3 failures=$4
  shift 4
  echo "== $name"
  local code=0
  "$@" 2>&1 | tee "$output" || code=$?
  local ok not_ok
  ok=$(sum "$good")
  not_ok=$(sum "$bad")
  passed=$((passed + ok))
  failed=$((failed + not_ok))
  [ "$not_ok" -eq 0 ] || sed -n "/$failures/,\$p" "$output" | grep -v 'node:internal' |
    head -n 60 >> "$problems"
  if [ "$not_ok" -eq 0 ] && { [ "$code" -ne 0 ] || [ "$ok" -eq 0 ]; }; then
    failed=$((failed + 1))
    echo "FAILED: $name (exit code $code, $ok tests passed)" | tee -a "$problems"
  fi
}

# The sum of the numbers that the pattern captures in the last runner's output.
sum() {
  sed 's/\x1b\[[0-9;]*m//g' "$output" | sed -nE "s/$1/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

rust() {
  check "format" cargo fmt --all --check
  check "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
  if cargo nextest --version > /dev/null 2>&1; then
    local summary='.*Summary.* tests? run: '
    count "Rust tests" "${summary}([0-9]+) passed.*" "${summary}.* ([0-9]+) failed.*" \
      'FAIL \[' \
      cargo nextest run --workspace --no-fail-fast --status-level fail --final-status-level fail
  else
    local summary='^test result: .* '
    count "Rust tests" "${summary}([0-9]+) passed;.*" "${summary}([0-9]+) failed;.*" \
      '^failures:' cargo test --workspace --no-fail-fast --quiet
  fi
}

node_tests() {
  check "build" cargo build --quiet
  # Not part of the workspace: only tests/foreign.test.mjs runs it.
  local client=tests/rust-client/Cargo.toml
  check "format of the Rust client" cargo fmt --check --manifest-path "$client"
  check "build of the Rust client" cargo build --quiet --locked --manifest-path "$client"
  count "Node tests" '^ℹ pass ([0-9]+)$' '^ℹ fail ([0-9]+)$' '^✖ failing tests' \
    node --test --test-timeout=600000 --test-reporter=spec tests/*.test.mjs
  check "bundler example" cargo build --quiet --workspace --example bundle
  check "bundles run as esbuild's do" env \
    BUNDLE="${CARGO_TARGET_DIR:-$PWD/target}/debug/examples/bundle" node tests/bundling/oracle.mjs
  local example
  for example in examples/*/; do
    check "types of $example" node "$example/node_modules/typescript/bin/tsc" \
      --noEmit -p "$example/convex"
    if [ -f "$example/tsconfig.json" ]; then
      check "types of ${example}src" node "$example/node_modules/typescript/bin/tsc" \
        --noEmit -p "$example"
    fi
  done
}

[ "$half" = node ] || rust
[ "$half" = rust ] || node_tests

[ -s "$problems" ] && printf '\n== what failed\n' && cat "$problems"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
