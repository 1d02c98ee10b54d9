# make run    install what is missing, build, and watch one whole job on the demo shop
# make test   install what is missing, build, and run every test
# make bench  measure Jobcast, Node's socket.io and a bare websocket side by side, and write the README's table
# make lint   formatting and lints
# A second run installs nothing and needs no network.

.PHONY: run test bench lint generate packages
.DEFAULT_GOAL := run
SHELL := /bin/bash

RUN_PACKAGES  := postgresql chromium-headless-shell fonts-liberation tesseract-ocr tesseract-ocr-eng tesseract-ocr-deu \
                 libtesseract-dev libleptonica-dev clang libclang-dev pkg-config
TEST_PACKAGES := nodejs npm poppler-utils

# Installs the Debian packages that are not there; a program that is there in another way counts.
define install
missing=""; \
for package in $(1); do \
  case $$package in \
    nodejs) command -v node >/dev/null && continue ;; \
    npm|clang|chromium-headless-shell) command -v $$package >/dev/null && continue ;; \
  esac; \
  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
  command -v apt-get >/dev/null || { echo "Please install what these Debian packages hold:$$missing" >&2; exit 1; }; \
  sudo=""; if [ "$$(id -u)" -ne 0 ]; then \
    sudo=$$(command -v sudo) || { echo "Please run as root: apt-get install$$missing" >&2; exit 1; }; \
  fi; \
  echo "Installing$$missing"; \
  $$sudo apt-get update -qq && \
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
fi
endef

run:
	@$(call install,$(RUN_PACKAGES))
	cargo build --release --locked
	target/release/jobcast demo

test: tests/compat/node_modules/.installed tests/contract/node_modules/.installed tests/page/node_modules/.installed \
      tests/admin_ui/node_modules/.installed tests/openapi/.venv/.installed
	@$(call install,$(RUN_PACKAGES) $(TEST_PACKAGES))
	cargo build --locked --all-targets
	@if cargo nextest --version >/dev/null 2>&1; \
	then target/debug/jobcast postgres -- cargo nextest run --locked; \
	else target/debug/jobcast postgres -- cargo test --locked; fi

# About 15 minutes on a machine that does nothing else; BENCH=--quick only shows that everything works.
bench: tests/bench/node/node_modules/.installed
	@$(call install,$(RUN_PACKAGES))
	cargo build --release --locked --bin jobcast --example bare_websocket
	target/release/jobcast bench compare --readme README.md --json target/bench.json $(BENCH)

tests/%/node_modules/.installed: tests/%/package-lock.json
	@$(call install,$(TEST_PACKAGES))
	npm ci --prefix tests/$* --no-audit --no-fund --loglevel=error
	@touch $@

# The fuzzer that checks the running server against its own OpenAPI document.
tests/openapi/.venv/.installed: tests/openapi/requirements.txt
	@$(call install,python3-venv)
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Writes the files that are derived from the catalogue of events; a test fails when they are stale.
generate:
	JOBCAST_GENERATE=1 cargo test --quiet --locked --test it contract_
