# Two commands: `make demo` runs the whole loop, `make test` runs the tests. Both set `.venv` up first. `make live` runs real
# agents of other packages against a real collector; they stand in `.venv-live`, as their versions are theirs to choose.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?= --numprocesses auto --maxprocesses 4 --dist worksteal
STAMP := $(VENV)/.installed
LIVE := .venv-live
LIVE_STAMP := $(LIVE)/.installed

.PHONY: setup demo test live check lint types format build clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "imitrace needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 setup")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_FLAGS) --editable '.[all,dev]'
	touch $@

demo: setup
	$(BIN)/imitrace demo $(DEMO_FLAGS)

test: setup
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

live: setup $(LIVE_STAMP)
	$(BIN)/python -m pytest tests/live $(LIVE_FLAGS)

$(LIVE_STAMP): tests/live/requirements.txt
	test -x $(LIVE)/bin/python || $(PYTHON) -m venv $(LIVE)
	$(LIVE)/bin/python -m pip install --quiet $(PIP_FLAGS) --requirement tests/live/requirements.txt
	touch $@

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: lint types test

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: setup
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf $(VENV) $(LIVE) dist build .mypy_cache .ruff_cache .pytest_cache
