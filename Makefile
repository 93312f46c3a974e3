# Everything from a clean clone, with Python 3.11+, git and make: `make repro`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
PORT ?= 5000

# A mirror beside the checkout is used when the user names none.
ifeq ($(origin CHARLSTM_MIRROR), undefined)
ifneq ($(wildcard ../shared/datasets/.),)
export CHARLSTM_MIRROR := $(abspath ../shared/datasets)
endif
endif

.PHONY: help repro test test-all lint format smoke torture ui clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

repro: $(INSTALLED) ## the main job: all six stages on tiny Shakespeare, then the result table
	@test -z "$$(find conf -newer params.yaml)" || \
		echo 'conf/ was edited after params.yaml was composed from it: `dvc exp run` composes it anew' >&2
	dvc repro
	@python -m pipeline.report

test: $(INSTALLED) ## the fast tests
	python -m pytest

test-all: $(INSTALLED) ## all tests, the slow ones too (whole pipelines, a browser)
	python -m pytest -m "slow or not slow"

lint: $(INSTALLED) ## ruff, ruff format, mypy
	ruff check .
	ruff format --check .
	mypy

format: $(INSTALLED) ## let ruff rewrite the code
	ruff check --fix .
	ruff format .

smoke: $(INSTALLED) ## a short real run of the whole pipeline, as a DVC experiment that is shown and removed
	dvc exp run --temp --force --name smoke-test -S model.hidden_size=128 -S train.epochs=1
	dvc metrics diff --precision 4 HEAD smoke-test
	dvc exp remove smoke-test

torture: $(INSTALLED) ## kills, signals, full disks, damaged files: short forms of what shows that nothing is lost
	python -m pytest -m "slow or not slow" tests/test_stopping.py tests/test_bad_moments.py
	python -m benchmarks.kills --count 5
	python -m benchmarks.worlds --short
	python -m benchmarks.fuzz --count 60

ui: $(INSTALLED) ## the MLflow UI with all runs, on 127.0.0.1, port 5000 or PORT=...
	@case "$${MLFLOW_TRACKING_URI:-}" in http*) echo "MLFLOW_TRACKING_URI is a server: open $$MLFLOW_TRACKING_URI"; exit;; esac; \
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" --host 127.0.0.1 --port $(PORT) --workers 1

clean: ## remove the virtual environment and caches, never results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis charlstm.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "charlstm needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo 'Installing into $(VENV), once; this takes a minute or two.'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
