# The commands of the README. Each installs what it needs first.

CARGO ?= cargo
# A shared target folder keeps what one command compiled for the next.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test bench setup setup-test lint unit

demo: setup
	@echo "building creto (release); the first time takes minutes"
	$(CARGO) build --locked --release -p creto
	$(TARGET)/release/creto demo

test: setup-test lint unit

bench: setup
	$(CARGO) build --locked --release -p creto-bench
	$(TARGET)/release/creto-bench

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh --test

lint:
	$(CARGO) fmt --all --check
	$(CARGO) xtask check-layers
	$(CARGO) xtask tidy
	scripts/deny.sh
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

unit:
	$(CARGO) build --locked -p creto
	$(CARGO) nextest run --locked --workspace --all-features
