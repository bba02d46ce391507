#!/usr/bin/env bash
# cargo-deny: licences, bans and sources always; advisories where their database
# can be fetched. A machine without a way to it is told so and goes on; a known
# vulnerability always fails.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --all-features --log-level error check bans licenses sources
# What the benchmarks are measured beside has a lock file and rules of its own.
cargo deny --manifest-path bench/peers/Cargo.toml --log-level error check bans licenses sources

if timeout 120 cargo deny --all-features fetch db >/dev/null 2>&1; then
  cargo deny --all-features --log-level error check advisories
else
  echo "deny: the advisory database cannot be reached from here; advisories were not checked" >&2
fi
