# Everything a contributor types. `make run` and `make test` are the two to remember.
#
#   make run     build, then serve examples/swaghaus and push it again at every save
#   make test    format, lints, Rust tests, Node tests; ends with one line: N passed, M failed
#   make build   the binary, optimised       make bench   the tables of benches/README.md
#   make lint    clippy, warnings are errors  make fmt     format
#   make v8      build the V8 library from package registries (hours; see scripts/build-v8.sh)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.PHONY: run test test-rust test-node build bench lint fmt fmt-check v8 modules

EXAMPLE ?= examples/swaghaus

# The static V8 library: yours, else the one beside the repository, else one built here before,
# else the one that the v8 crate downloads by itself (leave RUSTY_V8_ARCHIVE unset for that).
V8_NAME := librusty_v8_simdutf_release_x86_64-unknown-linux-gnu.a.gz
V8_FILE := $(or $(wildcard ../shared/v8/v150.4.0/$(V8_NAME)),$(wildcard .cache/v8/$(V8_NAME)))
ifeq ($(origin RUSTY_V8_ARCHIVE),undefined)
ifneq ($(V8_FILE),)
export RUSTY_V8_ARCHIVE := $(abspath $(V8_FILE))
endif
endif

# mold links the V8 library in a second instead of ten.
ifneq ($(shell command -v mold),)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS ?= -C link-arg=-fuse-ld=mold
endif

export CARGO_TARGET_DIR ?= $(CURDIR)/target

build:
	cargo build --release
	@echo "built $(CARGO_TARGET_DIR)/release/concave"

run:
	cargo build --profile fast
	scripts/modules.sh $(EXAMPLE)
	$(CARGO_TARGET_DIR)/fast/concave dev $(EXAMPLE)

test: modules
	@scripts/test.sh

test-rust: modules
	@scripts/test.sh rust

test-node: modules
	@scripts/test.sh node

# The npm packages of the tests and the examples, exactly as locked.
modules:
	@scripts/modules.sh tests tests/bundling tests/node tests/suites benches examples/*

bench:
	cargo bench

lint:
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

v8:
	scripts/build-v8.sh
