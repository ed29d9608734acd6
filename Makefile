# One command for each habit. Every target makes the virtual environment itself.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
READY := $(VENV)/.ready
# As many workers as cores; tests that share a group, such as the browser's, go to one of them.
PYTEST := $(VENV)/bin/pytest --numprocesses logical --dist loadgroup

.PHONY: help demo dev quick test prove screenshots bench check format clean

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

prove: $(READY) ## Run what takes long: every kill of whole processes, the pictures, the benchmark
	KILL_MATRIX=all $(PYTEST) --timeout 900 -m prove
	$(MAKE) screenshots bench

screenshots: $(READY) ## Refresh the screenshots in the docs
	SCREENSHOTS=docs/images $(VENV)/bin/pytest -m browser canary_pipeline_tests/browser

bench: $(READY) ## Measure, and write docs/performance.md
	$(VENV)/bin/python -m benchmarks

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
