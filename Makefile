# Every habit is one word. `make` alone prints them.

SHELL := bash
.DEFAULT_GOAL := help
EXAMPLES := $(patsubst %/Makefile,%,$(wildcard examples/*/Makefile))
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where rustup puts cargo, and where Debian keeps bpftool and docker-registry from users.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## print these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the release binary, in target/release
	@tests/setup/install build
	cargo build --release --locked -p bpfman

.PHONY: install
install: ## what `make build` built, into $(DESTDIR)$(PREFIX)/bin (PREFIX: /usr/local); needs no cargo
	@test -x $(TARGET)/release/bpfman || { echo "nothing is built: make build" >&2; exit 1; }
	install -D -m 0755 $(TARGET)/release/bpfman $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/bpfman

.PHONY: demo
demo: ## from a .o file to counted packets: a real registry, a real kernel in a VM
	@tests/setup/install build vm registry bench
	@cargo build --release --locked -p bpfman
	@tests/demo/run $(TARGET)/release/bpfman

.PHONY: test
test: ## every lane of tests; LANES="lint unit" for some of them
	@tests/lanes $(LANES)

.PHONY: test-kernels
test-kernels: ## the kernel lane on Debian's 6.1, 6.12 and newest kernel; KERNELS="6.1" for some
	@failed=; for kernel in $(or $(KERNELS),6.1 6.12 newest); do \
		echo "=== kernel $$kernel"; \
		KERNEL=$$kernel tests/lanes kernel || failed="$$failed $$kernel"; \
	done; [ -z "$$failed" ] || { echo "failed on:$$failed" >&2; exit 1; }

.PHONY: fuzz
fuzz: ## a minute of bytes that nobody meant; FUZZ="object_info 600" for longer
	@tests/setup/install build
	@fuzz/run $(or $(FUZZ),object_info 60)

.PHONY: bench
bench: ## our speed and memory against bpftool, crane, oras, podman, libxdp …; CASES="pull" for some, STRICT=1 fails for a miss
	@tests/setup/install build vm registry engines bench
	@cargo build --release --locked -p bpfman -p bpfman-tests
	@$(TARGET)/release/bench $(TARGET)/release/bpfman $(if $(STRICT),--strict) $(CASES)

.PHONY: examples
examples: ## the example programs, for several architectures
	@for example in $(EXAMPLES); do $(MAKE) -C $$example || exit 1; done

.PHONY: fmt
fmt: ## format the sources
	cargo fmt --all

.PHONY: lint
lint: ## format check, clippy, shell scripts, licences and sources of what we use
	@tests/lanes lint

.PHONY: clean
clean: ## what was built; what was downloaded stays in the cache
	cargo clean
	@for example in $(EXAMPLES); do $(MAKE) -C $$example clean || exit 1; done
