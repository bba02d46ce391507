# The commands of the README. Each installs what it needs first.

CARGO ?= cargo
# A shared target folder keeps what one command compiled for the next.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test bench figures bench-built fuzz sweep setup setup-test lint unit may-be-root is-root

# Sandboxes need root: the demo asks sudo for it, the tests do not, for they would
# leave a target folder of root's.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

demo: may-be-root setup
	@echo "building creto (release); the first time takes minutes"
	$(CARGO) build --locked --release -p creto
	@$(if $(AS_ROOT),echo "not root: running the demo through sudo",:)
	$(AS_ROOT) $(TARGET)/release/creto demo

test: is-root setup-test lint unit

may-be-root:
	@[ -z "$(AS_ROOT)" ] || command -v sudo >/dev/null || \
	  { echo "make: sandboxes need root. Run this as root, or install sudo." >&2; exit 1; }

is-root:
	@[ -z "$(AS_ROOT)" ] || \
	  { echo "make: the tests start sandboxes, which need root." >&2; \
	    echo "Run this as root, or all that needs none:" >&2; \
	    echo "  make lint && cargo nextest run --workspace --exclude creto-e2e --exclude creto-runtime-gvisor" >&2; exit 1; }

# make bench ONLY="authz/check authz/miss/10" measures what begins so, or all.
bench: bench-built
	$(TARGET)/release/creto-bench $(ONLY)

# All of it, on a machine that does nothing else: writes the figures
# of docs/benchmarks.md.
figures: bench-built
	$(TARGET)/release/creto-bench --figures

bench-built: setup
	$(CARGO) build --locked --release -p creto
	$(CARGO) build --locked --release -p creto-bench
	$(CARGO) build --locked --release --manifest-path bench/peers/Cargo.toml --target-dir $(TARGET)

# make fuzz SECONDS_EACH=600 ONLY=authzen; all five decoders for a minute each otherwise.
SECONDS_EACH ?= 60
FUZZ := $(CARGO) +nightly fuzz
FUZZ_TARGET := $(abspath $(TARGET))/fuzz

fuzz:
	@command -v cargo-fuzz >/dev/null || \
	  { echo "make: fuzzing needs cargo install cargo-fuzz --locked, and rustup toolchain install nightly" >&2; exit 1; }
	$(FUZZ) build --target-dir $(FUZZ_TARGET)
	@for decoder in $(or $(ONLY),policy request authzen proof eval); do \
	  mkdir -p $(FUZZ_TARGET)/corpus/$$decoder; \
	  $(FUZZ) run --target-dir $(FUZZ_TARGET) $$decoder \
	    $(FUZZ_TARGET)/corpus/$$decoder fuzz/corpus/$$decoder -- \
	    -dict=fuzz/words.dict -max_len=16384 -timeout=30 -print_final_stats=1 \
	    -max_total_time=$(SECONDS_EACH) || exit 1; \
	done

# Timestamps against real time while the server is killed 1,000 times and its clock
# stepped; the tests do it 200 times.
KILLS ?= 1000

sweep: setup-test
	$(CARGO) build --locked -p creto
	CRETO_SWEEP_KILLS=$(KILLS) $(CARGO) nextest run --locked --workspace --all-features --no-capture \
	  -E 'package(creto-e2e) and test(time_never_runs_back)'

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh --test

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --all --check --manifest-path bench/peers/Cargo.toml
	$(CARGO) fmt --all --check --manifest-path fuzz/Cargo.toml
	$(CARGO) update --quiet --workspace --locked --manifest-path bench/peers/Cargo.toml
	$(CARGO) update --quiet --workspace --locked --manifest-path fuzz/Cargo.toml
	$(CARGO) xtask check-layers
	$(CARGO) xtask tidy
	scripts/deny.sh
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

unit: is-root
	$(CARGO) build --locked -p creto
	$(CARGO) nextest run --locked --workspace --all-features
