# What there is to do with this project. `make` alone prints this list.

VENV := .venv
BIN := $(VENV)/bin
COMPOSE := docker compose
ARGS ?=

# The first Python of at least 3.11 that works; empty if there is none.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)

# Compose where an engine answers, unless LOCAL=1 says otherwise.
USE_COMPOSE = [ -z "$(LOCAL)" ] && docker info >/dev/null 2>&1 && $(COMPOSE) version >/dev/null 2>&1
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run run-compose run-local down logs test lint format bench env clean erase

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run:  ## Start everything and print the address: by Docker Compose if it answers, else on this machine (LOCAL=1 forces that)
	@if $(USE_COMPOSE); then $(MAKE) --no-print-directory run-compose; else $(MAKE) --no-print-directory run-local; fi

run-compose: env
	$(COMPOSE) up --build --detach --wait
	@$(COMPOSE) run --rm --no-deps migrate sla-monitor db seed
	@echo "SLA Monitor runs at http://$$($(COMPOSE) port gateway 8080)/   Stop: make down"

run-local: $(VENV)/.runtime
	@$(BIN)/sla-monitor stack up $(ARGS)

down:  ## Stop everything; the data stay
	@if [ -f .local/plan.json ]; then $(MAKE) --no-print-directory $(VENV)/.runtime && $(BIN)/sla-monitor stack down; fi
	@if [ -f .env ] && $(USE_COMPOSE) && [ -n "$$($(COMPOSE) ps --all --quiet)" ]; then $(COMPOSE) down; fi

logs:  ## Follow the logs
	@if [ -f .local/state.json ]; then tail -n 20 -F .local/logs/*.log; else $(COMPOSE) logs --follow --tail 20; fi

test: lint  ## Lint, then all tests, with what they need installed; ARGS goes to pytest
	@$(BIN)/sla-monitor install chromium nginx mariadb dnsmasq $$([ "$$SLA_TEST_SERVERS" = docker ] || echo postgresql rabbitmq redis)
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.dev  ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Measure checks, folding, detection and reads of history, each beside a peer or a limit; takes a quarter of an hour
	@$(BIN)/sla-monitor install nginx blackbox $$([ "$$SLA_TEST_SERVERS" = docker ] || echo postgresql rabbitmq redis)
	$(BIN)/python -m tests.bench

env: .python  ## Write .env with generated passwords, unless it exists
	@$(PYTHON) -m infra.ops.envfile

clean:  ## Remove what can be made again: virtual environment and caches; the data stay
	@[ ! -f .local/state.json ] || { echo "The local stack runs: stop it first with make down." >&2; exit 2; }
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find infra services shared tests -name __pycache__ -prune -exec rm -rf {} +

erase:  ## Stop everything and remove all data
	@if [ -f .local/plan.json ]; then $(MAKE) --no-print-directory $(VENV)/.runtime && $(BIN)/sla-monitor stack erase --yes; fi
	@if [ -f .env ] && $(USE_COMPOSE); then $(COMPOSE) down --volumes; fi

.PHONY: .python
.python:
	@[ -n "$(PYTHON)" ] || { echo "SLA Monitor needs Python 3.11 or newer; none was found (name one with: make PYTHON=/path/to/python)." >&2; exit 2; }

$(BIN)/python: | .python
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing python3-venv …"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
		else echo "Python's venv module is missing: install it with \`sudo apt-get install python3-venv\` and run this again." >&2; exit 2; fi; fi
	@$(PYTHON) -m venv $(VENV)

# The stamps: as long as they are newer than what they depend on, there is nothing to install.
$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the product needs …"
	@$(PIP) -r requirements/build.txt -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "Installing what the tests need …"
	@$(PIP) -r requirements/dev.txt
	@touch $@
