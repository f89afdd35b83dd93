# Every target installs what it needs (see scripts/setup). `make` alone lists them.

# Only from make's command line: shells export a SECONDS of their own.
SECONDS_FLAG := $(if $(filter command,$(origin SECONDS)),$(SECONDS),0)

.PHONY: help demo test check bench load fuzz autobahn certs image packages clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The server on its embedded store and 20 simulated vehicles (SECONDS=20 ends by itself)
	@scripts/setup build
	@scripts/demo $(SECONDS_FLAG)

test: ## All tests, against real brokers that this starts and stops
	@scripts/setup test
	@scripts/kafka fetch
	cargo build --workspace --bins --features full
	cargo test --workspace --features full --no-fail-fast

check: ## Formatting, lints, documentation, scripts, dependencies, the chart
	@scripts/setup check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --features full -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --features full --document-private-items
	@scripts/check-tree
	@scripts/check-chart

bench: ## Instructions and allocations per record, against the committed baseline (BENCH_FLAGS=--save-baseline)
	@scripts/setup bench
	cargo bench --bench record_path -- $(BENCH_FLAGS)

load: ## CPU, latency and memory as multiples of the least that a server can do
	@scripts/setup test
	@scripts/kafka fetch
	load-tests/run $(LOAD_FLAGS)

fuzz: ## Each fuzz target for a minute (TARGET=, FUZZ_SECONDS= change that)
	@scripts/setup build
	scripts/fuzz $(or $(TARGET),all) $(or $(FUZZ_SECONDS),60)

autobahn: ## The Autobahn suite against the WebSocket reader (needs Python 2.7)
	@scripts/setup build
	@scripts/autobahn

certs: ## Certificates for development, in certs/dev/
	@scripts/setup build
	cargo run --quiet -p load-tests --bin fleet-sim -- certs --dir certs/dev

image: ## A container image, with docker, podman or buildah (FROM=prebuilt takes target/release)
	@scripts/image $(or $(FROM),source)

packages: ## The .deb and the .rpm, in dist/packages (BINARY= takes one that is built)
	@scripts/setup check
	@scripts/packages $(BINARY)

clean: ## Removes everything that was built, fetched or stored
	cargo clean
	rm -rf dist demo certs/dev fuzz/target fuzz/corpus fuzz/artifacts
