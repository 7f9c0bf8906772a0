# Everything below needs Python >= 3.11, pip and make; the rest is installed into .venv, locked by hash.
# Another interpreter: make PYTHON=python3.13 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes
UV := .venv-lock/bin/uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock"

# Programs start in two thirds of the time where what was compiled is kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench lint format lock lowest build docs clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.runtime ## gateway, simulated providers and store on this machine; no account needed (ARGS="--help")
	@$(BIN)/image-gateway demo $(ARGS)

test: lint ## lint, then every test that is not slow, against real servers (ARGS="-k budget")
	$(BIN)/pytest -m "not slow" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/.dev ## the tests that take minutes each, an hour or two in all (ARGS="-k failover")
	$(BIN)/pytest -m slow $(ARGS)

bench: $(VENV)/.dev ## the gateway beside others, and its own limits, in 20 minutes (ARGS=--quick: in two)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/.dev ## style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev ## put code into the house's format, fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(UV) ## write requirements*.txt anew from pyproject.toml (ARGS=--upgrade for newer versions)
	$(COMPILE) $(ARGS) pyproject.toml --output-file requirements.txt
	$(COMPILE) $(ARGS) pyproject.toml --group dev --constraint requirements.txt --output-file requirements-dev.txt
	$(COMPILE) $(ARGS) --group build --constraint requirements-dev.txt --output-file requirements-build.txt

lowest: $(UV) ## the tests with the lowest versions that pyproject.toml allows
	rm -rf .venv-lowest && $(PYTHON) -m venv .venv-lowest
	$(UV) pip compile --quiet --resolution lowest-direct pyproject.toml --output-file .venv-lowest/lowest.txt
	$(UV) pip install --quiet --python .venv-lowest/bin/python --group dev \
		--requirements .venv-lowest/lowest.txt --editable .
	.venv-lowest/bin/pytest -m "not slow" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

build: $(VENV)/.dev ## the wheel and the source archive, into dist/
	$(BIN)/hatchling build -d dist

docs: $(VENV)/.dev ## the documentation's site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## remove what was built and installed here
	rm -rf .venv .venv-lock .venv-lowest .bench dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp is newer than the lock file it was installed from.
$(VENV)/.runtime: requirements.txt requirements-build.txt pyproject.toml | $(BIN)/python
	$(INSTALL) -r requirements.txt -r requirements-build.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(INSTALL) -r requirements-dev.txt
	@touch $@

$(UV): | $(BIN)/python
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install uv

# Some distributions ship venv without ensurepip; their own pip can then fill the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Image Gateway needs Python 3.11 or newer, and $(PYTHON) is not. Name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	else $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; fi
