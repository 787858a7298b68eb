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

# RocksDB takes many minutes to compile, and cargo would do it once for each set of packages that is
# asked for: the features of syn and quote, with which its bindings are generated, differ between
# `build`, `test` and `clippy`, and with them what cargo calls the build. So it is compiled once on
# its own, by a package that has nothing else, and all other calls of cargo link the library that is
# there. A plain `cargo build` still works, and compiles it itself; `eval "$$(make env)"` before it
# shares what is here. Set ROCKSDB_LIB_DIR to link another static library of the same version.
ifndef ROCKSDB_LIB_DIR
ROCKSDB := $(CARGO_TARGET_DIR)/rocksdb
LIBRARY := rocksdb
export ROCKSDB_LIB_DIR := $(ROCKSDB)/lib
endif
export ROCKSDB_STATIC := 1

BINARY := $(CARGO_TARGET_DIR)/release/trivium

.PHONY: help run test test-rust test-python test-librdkafka check-transactions lint bench bench-peers bench-across parity-amqp parity-kafka demo demo-bridge fuzz env binary setup rocksdb venv

help:  ## Lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: binary  ## Runs the broker (ARGS='--set mqtt.enabled=false' adds flags)
	exec $(BINARY) serve $(ARGS)

test: test-rust test-python  ## Runs every test

test-rust: setup $(LIBRARY)
	$(CARGO) test --release --workspace

# Real client libraries against the real binary. Status 5: there is no test to run.
test-python: binary venv
	TRIVIUM_BIN=$(BINARY) $(PYTHON) -m pytest tests/python $(PYTEST_ARGS) || (($$? == 5))

# The suite is downloaded and built once. MODE=consumer uses KIP-848 groups, MODE=idempotent makes every producer so.
test-librdkafka: binary venv  ## librdkafka's own tests (MODE=classic, consumer or idempotent)
	@dpkg -s libssl-dev libzstd-dev >/dev/null 2>&1 || { \
	    $(SUDO) apt-get update -qq >&2; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libssl-dev libzstd-dev >&2; \
	}
	TRIVIUM_BIN=$(BINARY) $(PYTHON) tests/librdkafka/run --mode $(or $(MODE),classic) $(NUMBERS)

# Its short form is one of the Python tests.
check-transactions: binary venv  ## Transactions under kill -9 for SECONDS (600)
	TRIVIUM_BIN=$(BINARY) TRIVIUM_CHECKER_SECONDS=$(or $(SECONDS),600) \
		$(PYTHON) -m pytest tests/python/test_transaction_checker.py -s

lint: setup $(LIBRARY)  ## Checks formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

demo: binary venv  ## One message across the three protocols, with stock Python clients
	TRIVIUM_BIN=$(BINARY) $(PYTHON) examples/demo.py

demo-bridge: binary venv  ## A factory on one broker, a kill -9 in the middle, and an account at the end
	TRIVIUM_BIN=$(BINARY) $(PYTHON) examples/factory.py

bench: binary  ## Micro benches, then a load on a broker of its own
	$(CARGO) bench --workspace --features trivium-core/testing --bench routing --bench codec --bench store
	TRIVIUM_BIN=$(BINARY) benches/load.sh

parity-kafka: binary venv  ## The same Kafka requests to Apache Kafka and Trivium, answers compared
	TRIVIUM_BIN=$(BINARY) $(PYTHON) tests/parity/kafka/run $(PARITY_ARGS)

parity-amqp: binary venv  ## The same AMQP scenarios against RabbitMQ and Trivium, transcripts compared
	TRIVIUM_BIN=$(BINARY) $(PYTHON) tests/parity/amqp/run $(PARITY_ARGS)

bench-peers: binary  ## The same load on other brokers, side by side
	benches/peers/run

bench-across: binary venv  ## What a message costs from one protocol to another, beside peers with a bridge
	$(PYTHON) benches/peers/across

# The stable toolchain instruments for coverage when told that it may; only sanitizers need nightly, and safe
# code has little for them to find.
fuzz: export RUSTC_BOOTSTRAP := 1
fuzz: export CARGO_TARGET_DIR := $(CARGO_TARGET_DIR)/fuzz
fuzz: setup  ## Fuzzes each decoder (FUZZ_SECONDS=60)
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	@for folder in protocols/*/fuzz; do \
	    [ ! -x "$$folder/seeds" ] || "$$folder/seeds"; \
	    for target in $$(cd "$$folder" && $(CARGO) fuzz list --fuzz-dir .); do \
	        (cd "$$folder" && $(CARGO) fuzz run --fuzz-dir . --sanitizer none "$$target" -- \
	            -max_total_time=$${FUZZ_SECONDS:-60}); \
	    done; \
	done

env: setup $(LIBRARY)  ## Prints what cargo needs to use the same RocksDB, for a shell to evaluate
	@echo "export CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)' ROCKSDB_LIB_DIR='$$ROCKSDB_LIB_DIR' ROCKSDB_STATIC=1"

binary: setup $(LIBRARY)
	$(CARGO) build --release --bin trivium

# Cargo knows whether there is anything to do. The library has a place that does not change.
rocksdb: setup
	@[ -e $(ROCKSDB_LIB_DIR)/librocksdb.a ] || echo "RocksDB is compiled now, which takes some minutes" >&2
	@env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC $(CARGO) build --release --locked \
	    --manifest-path storage/rocksdb-build/Cargo.toml --target-dir $(ROCKSDB) >&2
	@library=$$(ls -t $(ROCKSDB)/release/build/librocksdb-sys-*/out/librocksdb.a | head -1); \
	mkdir -p $(ROCKSDB_LIB_DIR); \
	ln -sf "$$library" $(ROCKSDB_LIB_DIR)/librocksdb.a

# RocksDB is compiled from source by a C++ compiler, and libclang with its own headers for the bindings.
setup:
	@missing=(); \
	command -v c++ >/dev/null || missing+=(g++); \
	compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || \
	    compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || missing+=(libclang-dev); \
	compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null || \
	    compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null || missing+=(libclang-dev); \
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv); \
	if (($${#missing[@]})); then \
	    echo "installing $${missing[*]}" >&2; \
	    $(SUDO) apt-get update -qq >&2; \
	    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >&2; \
	fi

venv: setup $(VENV)/ready

# Made again when the pinned versions change.
$(VENV)/ready: tests/python/requirements.txt
	python3 -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
