# Needs make, and python3 of version 3.8 or later or uv. Everything else goes into .uv/
# and .venv/; outside this folder only the caches of uv and pip grow. `make help` lists the
# targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

# More options for the program that a target runs: make demo ARGS="--quick".
ARGS ?=

VENV := .venv
PYTHON := $(VENV)/bin/python

# The oldest promised versions, under the oldest promised Python.
OLDEST := .venv-oldest

# The uv that is already here, or else one of our own.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
OWN_UV := $(filter .uv/bin/uv,$(UV))

##@ Use
.PHONY: demo
demo: $(VENV)/.demo ## Train with batch and group norm at small batches (ARGS="--quick")
	$(PYTHON) -m experiments.small_batch $(ARGS)

##@ Checks
.PHONY: test test-all test-op test-oldest lint types docs format mutations
test: $(VENV)/.dev ## Run the library's tests and every example in the documentation
	$(PYTHON) -m pytest --numprocesses auto -m "not whole and not slow" $(ARGS)

test-all: $(VENV)/.dev ## Run these and all others: experiments, kernels, compilers
	$(PYTHON) -m pytest --numprocesses auto $(ARGS)

test-op: $(VENV)/.dev ## Run values, gradients, masks and errors of the op, in a minute
	$(PYTHON) -m pytest --numprocesses auto $(ARGS) \
	  $(patsubst %,tests/test_%.py,values grad mask vmap errors)

# Values, gradients, every transformation, masks, layers, conversion and export.
OLDEST_TESTS := $(patsubst %,tests/test_%.py,values grad jvp vmap jit mask errors \
  pmap_shard_map linen nnx convert weight_standardization versions)

test-oldest: $(OLDEST)/.oldest ## Run the op's suite on the oldest promised versions
	$(OLDEST)/bin/python -m pytest --numprocesses auto $(OLDEST_TESTS) $(ARGS)

lint: $(VENV)/.dev ## Check the style
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(VENV)/.dev ## Check the types
	$(VENV)/bin/pyright $(ARGS)

docs: $(VENV)/.dev ## Build the documentation in site/
	$(VENV)/bin/mkdocs build --strict $(ARGS)

format: $(VENV)/.dev ## Correct the style
	$(VENV)/bin/ruff check --fix-only
	$(VENV)/bin/ruff format

mutations: $(VENV)/.dev ## Put mistakes into the library and see that a test fails for each
	$(PYTHON) -m tests.mutations $(ARGS)

##@ Packaging
.PHONY: wheel lock
wheel: $(VENV)/.dev ## Build the wheel and the source archive in dist/
	$(PYTHON) -m build --no-isolation $(ARGS)

COMPILE := pip compile --universal --generate-hashes --annotation-style line \
  --custom-compile-command "make lock" --quiet

# The widest lock comes first and bounds the narrower ones, so that versions agree.
lock: $(OWN_UV) ## Pin versions and hashes anew (ARGS=--upgrade takes newer versions)
	$(UV) $(COMPILE) $(ARGS) --python-version 3.12 --group dev pyproject.toml \
	  --output-file requirements/dev.txt
	$(UV) $(COMPILE) $(ARGS) --python-version 3.12 --group build --group experiments \
	  --constraints requirements/dev.txt pyproject.toml \
	  --output-file requirements/demo.txt
	$(UV) $(COMPILE) $(ARGS) --python-version 3.12 --group compiled \
	  --constraints requirements/dev.txt pyproject.toml \
	  --output-file requirements/compiled.txt
	$(UV) $(COMPILE) $(ARGS) --python-version 3.11 --group oldest pyproject.toml \
	  --output-file requirements/oldest.txt
	echo uv | $(UV) $(COMPILE) $(ARGS) --python-version 3.8 - \
	  --output-file requirements/uv.txt

##@ Environment
.PHONY: env compiled clean help
env: $(VENV)/.dev ## Make .venv/ with everything for tests, style, types and documentation

compiled: $(VENV)/.compiled ## Add the TPU and GPU compilers, for tests that only compile

clean: ## Remove the environment and everything that was built
	rm -rf .uv $(VENV) $(OLDEST) build dist site .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment only grows: a target adds its lock to what is there. The locks agree on
# every version, so the order does not matter.
INSTALL = $(UV) pip install --python $(PYTHON)

$(VENV)/.dev $(VENV)/.demo: $(VENV)/.%: requirements/%.txt pyproject.toml $(VENV)/pyvenv.cfg
	$(INSTALL) --require-hashes --requirement $<
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.compiled: requirements/compiled.txt $(VENV)/.dev
	$(INSTALL) --require-hashes --requirement $<
	@touch $@

$(OLDEST)/.oldest: requirements/oldest.txt | $(OWN_UV)
	$(UV) venv --clear --python 3.11 $(OLDEST)
	$(UV) pip install --python $(OLDEST)/bin/python --require-hashes --requirement $<
	@touch $@

# uv finds the Python that .python-version names, or fetches it. The locks hold for every
# later one as well, which helps where nothing can be fetched.
$(VENV)/pyvenv.cfg: .python-version | $(OWN_UV)
	@$(UV) venv --clear $(VENV) || $(UV) venv --clear --python '>=3.12' $(VENV) || { \
	  echo "make: there is no Python 3.12 here and uv cannot fetch one." >&2; \
	  echo "Install it (https://www.python.org/downloads) and run make again." >&2; \
	  exit 1; }
	@touch $@

# A Python without venv (Debian packs it apart) may still have pip.
.uv/bin/uv: requirements/uv.txt
	@echo "Fetching uv into .uv/"
	@for python in python3 /usr/bin/python3 python; do \
	  rm -rf .uv; \
	  get_uv="-m pip install --quiet --disable-pip-version-check --require-hashes -r $<"; \
	  if $$python -m venv .uv >/dev/null 2>&1 && .uv/bin/python $$get_uv; then break; fi; \
	  rm -rf .uv; \
	  if $$python $$get_uv --target .uv 2>/dev/null; then break; fi; \
	done; \
	test -x $@ || { \
	  echo "make: uv could not be fetched, for want of a python3 with venv or pip." >&2; \
	  echo "Install one of these and run make again:" >&2; \
	  echo "  Debian, Ubuntu: sudo apt install python3-venv" >&2; \
	  echo "  Fedora:         sudo dnf install python3-pip" >&2; \
	  echo "  anywhere:       uv (https://docs.astral.sh/uv/getting-started/installation)" >&2; \
	  exit 1; }
	@touch $@
