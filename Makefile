# Everything a person types. Each target does its own set-up: on a fresh Debian or Ubuntu with Rust,
# `make run` and `make test` are the first two commands.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV   := $(TARGET)/venv
PYTHON := $(VENV)/bin/python
# Root needs no sudo, and a container may not have it.
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

export CARGO_TARGET_DIR := $(abspath $(TARGET))

.PHONY: help run test test-rust test-python lint bench bench-peers demo fuzz setup venv

help:  ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: setup  ## Runs the broker (ARGS='--set mqtt.enabled=false' adds flags)
	$(CARGO) run --release -- serve $(ARGS)

test: test-rust test-python  ## Runs every test

test-rust: setup
	$(CARGO) test --release --workspace

# Real client libraries against the real binary.
test-python: setup venv
	$(CARGO) build --release --bin trivium
	TRIVIUM_BINARY="$(CARGO_TARGET_DIR)/release/trivium" $(PYTHON) -m pytest tests/python $(PYTEST_ARGS)

lint: setup  ## Checks formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

demo: setup venv  ## One message across the three protocols, with stock Python clients
	$(CARGO) build --release --bin trivium
	TRIVIUM_BINARY="$(CARGO_TARGET_DIR)/release/trivium" $(PYTHON) examples/demo.py

bench: setup  ## Micro benches, then a load on a broker of its own
	benches/run.sh

bench-peers: setup  ## The same load on other brokers, side by side
	benches/peers/run

fuzz: setup  ## Fuzzes each decoder for a minute (needs a nightly toolchain)
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	@for folder in protocols/*/fuzz; do \
	    for target in $$(cd "$$folder" && $(CARGO) +nightly fuzz list --fuzz-dir .); do \
	        (cd "$$folder" && $(CARGO) +nightly fuzz run --fuzz-dir . "$$target" -- -max_total_time=60); \
	    done; \
	done

# RocksDB is compiled from source: a C++ compiler, and libclang with its own headers for the bindings.
setup:
	@missing=(); \
	command -v c++ >/dev/null || missing+=(g++); \
	compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || \
	    compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || missing+=(libclang-dev); \
	compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || \
	    compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null || missing+=(libclang-dev); \
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv); \
	if (($${#missing[@]})); then \
	    echo "installing $${missing[*]}"; \
	    $(SUDO) apt-get update -qq; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"; \
	fi

venv: $(VENV)/ready

# Made again when the pinned versions change.
$(VENV)/ready: tests/python/requirements.txt
	python3 -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
