# Needs Python >= 3.11 and the package registries; every target works alone on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export ZOO_CACHE ?= $(CURDIR)/.cache

.PHONY: demo test lint house format clean

demo: $(VENV)/.installed
	$(BIN)/zoo compare pigan shadegan gof meshgan unsup3d --benchmark heads --quick --out out/report.html

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow"
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

house: $(VENV)/.dev
	$(BIN)/python -m tests.house

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .cache out build dist .pytest_cache .ruff_cache .mypy_cache
