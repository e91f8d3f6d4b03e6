# `make demo` and `make test` need nothing but Python >= 3.11; the rest of the environment is made here.
#   make test PYTHON=python3.13 VENV=.venv-3.13    another interpreter, another environment
#   make test ARGS="-k styles"                     any pytest option

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COVERAGE := --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint type format docs clean

help:
	@echo "make demo      train MUNIT on digits, augment, measure; results in runs/demo (about 13 minutes on 2 cores)"
	@echo "make test      the fast tests, with coverage"
	@echo "make test-all  the slow tests too"
	@echo "make lint      ruff, formatting, mypy --strict"
	@echo "make type      mypy --strict alone"
	@echo "make format    rewrite the code in house format"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove environments, caches and built files (runs/ stays)"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(None if v >= (3, 11) else "munitaug needs Python 3.11 or newer, but $(PYTHON) is %d.%d; name a newer one: make PYTHON=python3.13 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable ".[all]"
	@touch $@

demo: $(STAMP)
	$(BIN)/munitaug demo --out runs/demo

# One thread per worker: two workers fill two cores, and sums come out in the same order everywhere.
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) $(COVERAGE) $(ARGS)

test-all: export OMP_NUM_THREADS = 1
test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) $(COVERAGE) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

type: $(STAMP)
	$(BIN)/python -m mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-* site dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find munitaug tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
