# Needs Python >= 3.11 and the package registries; every target works alone on a fresh machine.
PYTHON ?= python3
# full: torch as pyproject.toml asks for it, with PyTorch3D's native part. cpu: a CPU-only torch, in a place of its own.
TORCH ?= full
TORCH_CPU ?= torch==2.13.0
ifeq ($(filter full cpu,$(TORCH)),)
$(error TORCH=$(TORCH): use full or cpu)
endif
# yes: the versions and hashes of .ci/pins.txt. no: the newest that pyproject.toml allows, in a place of their own.
PINS ?= yes
ifeq ($(filter yes no,$(PINS)),)
$(error PINS=$(PINS): use yes or no)
endif
VENV := .venv$(if $(filter cpu,$(TORCH)),-cpu)$(if $(filter no,$(PINS)),-newest)
BIN := $(VENV)/bin
# Python 3.12 and newer can watch themselves at little cost; before, coverage takes two thirds more processor time in
# tests/unit/test_hub.py, so that only COVERAGE=1 prints it there.
COVERAGE ?= $(shell $(PYTHON) -c 'import sys; print("1" if sys.version_info >= (3, 12) else "")')
COVER := $(if $(COVERAGE),--cov=zoo --cov-report=)
export COVERAGE_CORE ?= $(if $(COVERAGE),sysmon)
export NO_MKDOCS_2_WARNING = 1 # news of the theme, not of these pages
export ZOO_CACHE ?= $(CURDIR)/.cache

.PHONY: demo test slow lint docs house figures results hashes performance gpu format pins wheel sbom clean

demo: $(VENV)/.installed
	$(BIN)/zoo sample shadegan --out out/samples.png
	$(BIN)/zoo invert unsup3d.photos64 example --out out/photo
	$(BIN)/zoo compare shadegan meshgan unsup3d --out out/report.html

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" $(COVER)
	$(if $(COVER),$(BIN)/python -m coverage report)

# The other part: whole trainings, wheels, environments. After `make test`, whose coverage it completes. A file stays
# with one worker, as the trainings that several of its tests compare take minutes.
slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(if $(COVER),$(COVER) --cov-append)
	$(if $(COVER),$(BIN)/python -m coverage report)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of docs/ in out/site; any warning is an error. It reads zoo's text and needs neither torch nor, once installed,
# a network.
docs: .venv-docs/.installed
	.venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -q -r docs/requirements.txt
	touch $@

house: $(VENV)/.dev
	$(BIN)/python -m tests.house

# After a change that is meant to change what shipped weights score; look at the difference before you commit it.
figures: $(VENV)/.dev
	$(BIN)/python -m tests.figures

# After new rows of shipped weights were copied from the folder of results to zoo/evaluation/rows/.
results: $(VENV)/.dev
	$(BIN)/python -m tests.results

# After a change of packaged assets.
hashes: $(VENV)/.dev
	$(BIN)/python -m tests.hashes

# On an idle machine, about half an hour.
performance: $(VENV)/.dev
	for bench in fields train fit load memory scaling; do \
		$(BIN)/zoo bench $$bench --seconds 3600 --page docs/performance.md || exit 1; done

# Needs no network and no environment of ours: a Python with torch, and the packages there or as wheels in WHEELS.
MINUTES ?= 10
DEVICE ?= cuda
OUT ?= out/gpu
gpu:
	$(PYTHON) -m tests.campaigns.gpu --minutes $(MINUTES) --device $(DEVICE) --out $(OUT) \
		$(if $(DATA),--data $(DATA)) $(if $(WHEELS),--wheels $(WHEELS)) $(if $(HEADS),--heads $(HEADS))

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# Pins are the whole set, so that pip has nothing to resolve. A CPU-only torch comes as its index gives it, without a hash.
PINNED := $(BIN)/pip install -q --require-hashes --no-deps -r
ifeq ($(TORCH),cpu)
$(VENV)/.dev: pyproject.toml .ci/pins.txt | $(BIN)/python
ifeq ($(PINS),yes)
	$(BIN)/python .ci/requirements.py pins > $(VENV)/requirements.txt
	$(PINNED) $(VENV)/requirements.txt
	$(BIN)/pip install -q "$(TORCH_CPU)"
else
	$(BIN)/pip install -q "$(TORCH_CPU)"
	$(BIN)/python .ci/requirements.py > $(VENV)/requirements.txt
	$(BIN)/pip install -q -r $(VENV)/requirements.txt
endif
	$(BIN)/pip install -q --no-deps -e .
	touch $@

$(VENV)/.installed: $(VENV)/.dev
	touch $@
else
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.dev: pyproject.toml .ci/pins.txt | $(BIN)/python
ifeq ($(PINS),yes)
	$(PINNED) .ci/pins.txt
	$(BIN)/pip install -q --no-deps -e .
else
	$(BIN)/pip install -q -e ".[dev]"
endif
	touch $@ $(VENV)/.installed
endif

# The same commit gives the same bytes: hatchling sorts, and sets modes and times. Without git the time is hatchling's own.
wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
wheel: $(VENV)/.dev
	@test -z "$$(git status --porcelain 2>&1)" || echo "note: not that of a commit: files changed, or no git is here"
	$(BIN)/python -m build --wheel --no-isolation --outdir dist
	$(BIN)/pip hash dist/zoo3d-*.whl

# After a change of what pyproject.toml asks for. What is pinned stays where it can; NEWEST=1 takes the newest of all.
pins: $(VENV)/.dev
	$(BIN)/uv pip compile -q $(if $(NEWEST),--upgrade) pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make pins" -o .ci/pins.txt

# CycloneDX and a table of licences, of what is installed here and of what is shipped.
sbom: $(VENV)/.dev
	$(BIN)/python -m tests.inventory dist

clean:
	rm -rf .venv .venv-cpu .venv-newest .venv-cpu-newest .venv-docs .cache out build dist .pytest_cache .ruff_cache .mypy_cache .coverage
