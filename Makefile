# One command for each habit. Every target makes the virtual environment itself.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
READY := $(VENV)/.ready
PROVING := $(VENV)/.proving
# Twice as many workers as cores, since half of a test is waiting: for a soak, a server, a signal's
# effect. Tests that share a group, such as the browser's, go to one of them.
PYTEST := $(VENV)/bin/pytest --numprocesses $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist loadgroup

.PHONY: help demo dev quick test machines prove screenshots bench bench-machines check format clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## Roll out to a local stand-in for staging, and show the summary
	$(VENV)/bin/canary-rollout demo

dev: $(READY) ## Open the Dagster UI with the stand-in behind it
	$(VENV)/bin/canary-rollout dev

quick: $(READY) ## Run the tests that take little time
	$(PYTEST) -m "not slow and not browser and not prove"

test: $(READY) ## Run the tests
	$(PYTEST) -m "not prove"

$(PROVING): $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev,prove]'
	@touch $@

machines: $(PROVING) ## Run the tests that need PostgreSQL, Redis, Celery and S3
	$(PYTEST) --timeout 600 -m machines

prove: $(PROVING) ## Run what takes long: every kill of whole processes, the pictures, the benchmark
	KILL_MATRIX=all $(PYTEST) --timeout 900 -m prove
	$(MAKE) screenshots bench bench-machines

screenshots: $(READY) ## Refresh the screenshots in the docs
	SCREENSHOTS=docs/images $(VENV)/bin/pytest -m browser canary_pipeline_tests/browser

bench: $(READY) ## Measure, and write docs/performance.md
	$(VENV)/bin/python -m benchmarks

bench-machines: $(PROVING) ## Measure with PostgreSQL and S3, and write docs/many-machines-cost.md
	$(VENV)/bin/python -m benchmarks.machines

check: $(READY) ## Check format, lint, types and definitions
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/dagster definitions validate --log-level warning

format: $(READY) ## Format the code
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

clean: ## Remove the virtual environment and what tools left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
