# Two commands: `make demo` runs the whole loop, `make test` runs the tests. Both set `.venv` up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?= --numprocesses auto --maxprocesses 4 --dist worksteal
STAMP := $(VENV)/.installed

.PHONY: setup demo test check lint types format build clean

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
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
