# What can be done here. `make` alone prints the list; every target sees to the environment itself.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORLDS ?= 1000
SCHEDULES ?= 1000000
SOAK_S ?= 1800
LOCK_TOOL := uv==0.13.9
LOCK_ARGS ?= --upgrade

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test check fix simulate drill bench soak docs lock clean

help:  ## Print this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Create .venv from the hash-pinned lock (the others call it).

run: $(READY)  ## Run the lab: three providers, a publisher, a viewer; ARGS="--once" and so on.
	@$(BIN)/hitless lab $(ARGS)

test: $(READY)  ## Run every test, the drills with and without server, loss and a soak of 3 minutes.
	@$(BIN)/python tests/run.py test

check: $(READY)  ## Format, lint, types, layers, unit tests, 1 000 worlds, docs: 3 minutes.
	@$(BIN)/python tests/run.py check

fix: $(READY)  ## Format the code and repair what the linter can repair.
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

simulate: $(READY)  ## Run WORLDS (1000) random worlds and SCHEDULES (1000000, 25 minutes) of messages.
	@HITLESS_WORLDS=$(WORLDS) HITLESS_SCHEDULES=$(SCHEDULES) $(BIN)/python -m pytest -n 2 -o faulthandler_timeout=0 tests/simulation $(ARGS)

drill: $(READY)  ## Break real streams on purpose and measure the gap; ARGS="NAME --runs 5".
	@$(BIN)/hitless drill $(ARGS)

bench: $(READY)  ## Measure what things cost beside their peers; never passes or fails by time.
	@$(BIN)/python tests/run.py bench

soak: $(READY)  ## Move a stream every 20 s for SOAK_S (1800) seconds and look for leaks.
	@$(BIN)/hitless soak --seconds $(SOAK_S) $(ARGS)

docs: $(READY)  ## Write the generated pages of docs/ anew from the code.
	@$(BIN)/python docs/make.py

# The tool that resolves lives in an environment of its own, so .venv holds the lock and no more.
# Agora's SDK is left out: to build its wheel is to download a native library without looking at TLS.
lock: $(READY)  ## Resolve the dependencies of pyproject.toml anew into requirements/lock.txt.
	@$(BIN)/python -m venv var/lock && var/lock/bin/python -m pip install --quiet $(LOCK_TOOL)
	@var/lock/bin/uv pip compile pyproject.toml --all-extras --group dev --group interop --group bench --group build $(LOCK_ARGS) \
		--universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-package agora-python-server-sdk --quiet --output-file requirements/lock.txt

clean:  ## Remove the environment, caches and results; the next target builds anew.
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamp is written last: an interrupted setup is simply done again.
$(READY): requirements/lock.txt pyproject.toml requirements/setup
	@sh requirements/setup $(VENV)
	@touch $@
