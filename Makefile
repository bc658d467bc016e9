# Two commands do everything on a fresh machine: `make prove` and `make test`.  Both need Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: prove test deep contracts lint bench clean

prove: $(VENV)/ready
	$(BIN)/python -m verify.bmc
	$(BIN)/python -m verify.bmc --kernel v6.11
	$(BIN)/python -m verify.prove --kernel v6.11

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not deep"

deep: lint
	STRAYPAGE_PROFILE=deep $(BIN)/python -m pytest
	$(BIN)/python -m verify.bmc --rounds 2 --offlines 2 --timeout 3600
	$(BIN)/python -m verify.explore --cpus 4 --pages 4 --frees 3 --allocs 2
	$(BIN)/python -m verify.prove --terminates
	$(BIN)/python -m verify.mutants
	$(BIN)/python -m verify.museum

contracts: $(VENV)/ready
	$(BIN)/python -m verify.contracts

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python benchmarks/bmc_speed.py
	$(BIN)/python benchmarks/explore_vs_spin.py --mutants

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "straypage needs Python 3.11 or later: set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
