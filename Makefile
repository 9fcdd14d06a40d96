# The gateway's commands. `make` alone lists them.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
ENGINE ?= llama_cpp
EXTRAS ?=
comma := ,
WANTED := $(subst $(comma), ,$(EXTRAS))
KNOWN := sso alerts telemetry transformers
ifneq ($(filter-out $(KNOWN),$(WANTED)),)
$(error EXTRAS takes sso, alerts, telemetry and transformers, with commas between; not $(filter-out $(KNOWN),$(WANTED)))
endif
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help run manage test clients check bench bench-peers screenshots lock messages services engine torch clean

help: ## List these commands.
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

run: $(VENV)/run.stamp $(WANTED:%=$(VENV)/extra-%.stamp) ## Install and serve on 127.0.0.1:8000. ARGS="--port 9000 --data-dir DIR" EXTRAS=sso,alerts
	@exec $(BIN)/python manage.py quickstart $(ARGS)

manage: $(VENV)/run.stamp $(WANTED:%=$(VENV)/extra-%.stamp) ## Run a management command. ARGS="migrate --data-dir DIR"
	@exec $(BIN)/python manage.py $(ARGS)

test: $(VENV)/development.stamp $(VENV)/extra-chroma.stamp services engine torch ## Run every test, on SQLite and then on PostgreSQL. ENGINE=xllamacpp skips the compile.
	$(BIN)/python -m tests.suite -n $(WORKERS) --dist loadgroup -q -m "not clients"
	GATEWAY_TEST_DATABASE=postgresql $(BIN)/python -m tests.suite -n $(WORKERS) --dist loadgroup -q --stores -m "not browser and not slow"

clients: $(VENV)/development.stamp build/clients/openai3.stamp build/clients/openai2.stamp build/clients/node.stamp ## Ask through other people's client libraries, straight and through the gateway.
	$(BIN)/python -m tests.suite -q tests/clients

check: $(VENV)/development.stamp ## Format, lint, types, system checks, migrations, import directions.
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && \
	$(BIN)/python manage.py create_keys --data-dir "$$data" && \
	$(BIN)/python manage.py check --fail-level WARNING --data-dir "$$data" && \
	$(BIN)/python manage.py makemigrations --check --dry-run --data-dir "$$data"
	$(BIN)/python -m pytest tests/test_architecture.py -q

bench: $(VENV)/development.stamp engine ## Measure the gateway and print ratios. ARGS="..."
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/development.stamp ## Install what bench compares with, LiteLLM and nginx, under build/peers.
	@exec $(BIN)/python -m benchmarks.peers

screenshots: $(VENV)/development.stamp ## Take the README's pictures anew, from demo data. ARGS="--all DIR"
	@exec $(BIN)/python docs/screenshots/take.py $(ARGS)

engine: $(VENV)/run.stamp ## Compile the default local engine, unless it is there or ENGINE=xllamacpp.
ifeq ($(ENGINE),xllamacpp)
	@echo "engine: the prebuilt one, as asked"
else ifeq ($(shell command -v $${CXX:-c++} 2>/dev/null),)
	@echo "engine: no C++ compiler (apt-get install build-essential), so the prebuilt one serves"
else
	@$(BIN)/python -m inference.engine.build
endif

# For the tests of models of the transformers library, which say by name that they did not run without it.
torch: $(VENV)/run.stamp
	@$(MAKE) --no-print-directory $(VENV)/extra-transformers.stamp || echo "torch: it could not be installed; its tests are skipped"

services: $(VENV)/development.stamp ## Install what the tests want of the system: Redis, PostgreSQL, MariaDB, Chromium.
	@$(BIN)/python -m tests.install_services

lock: $(VENV)/development.stamp ## Write the lock files anew from pyproject.toml.
	@$(BIN)/python requirements/lock.py

messages: $(VENV)/run.stamp ## Gather the admin's texts for translators, and build what they translated. ARGS="-l de"
	@command -v xgettext >/dev/null || { echo "GNU gettext is not here: apt-get install gettext"; exit 1; }
	@mkdir -p locale
	@$(BIN)/python manage.py makemessages $(or $(ARGS),--all) --no-location --ignore tests --ignore benchmarks --ignore build --ignore var
	@$(BIN)/python manage.py compilemessages --ignore .venv

clean: ## Remove the environment, builds and caches; never the data directory.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# Nothing of the project itself is installed: it runs from this checkout. A stamp newer than its lock means "installed".
$(VENV)/run.stamp: requirements/run.txt $(VENV)/python.stamp
	@$(BIN)/python requirements/install.py requirements/run.txt && touch $@

$(VENV)/extra-%.stamp: requirements/extra-%.txt | $(VENV)/run.stamp
	@$(BIN)/python requirements/install.py $< && touch $@

$(VENV)/development.stamp: requirements/development.txt $(VENV)/python.stamp
	@$(BIN)/python requirements/install.py requirements/development.txt && touch $@ $(VENV)/run.stamp

# Client libraries do not agree on versions of one another, so they get environments of their own.
build/clients/openai%.stamp: requirements/clients-openai%.txt $(VENV)/python.stamp
	@test -x $(basename $@)/bin/python || $(BIN)/python -m venv $(basename $@)
	@$(basename $@)/bin/python requirements/install.py $< && touch $@

build/clients/node.stamp: tests/clients/node/package.json tests/clients/node/package-lock.json tests/clients/node/run.mjs
	@command -v npm >/dev/null || { echo "npm is not here: apt-get install npm"; exit 1; }
	@mkdir -p build/clients/node && cp $^ build/clients/node/ && cd build/clients/node && npm ci --no-audit --no-fund --silent && touch ../node.stamp

$(VENV)/python.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) -V) (make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "the venv module is not here: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@
