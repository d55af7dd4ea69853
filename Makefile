# `make demo` and `make test` need only Python 3.11+ and make: each builds its own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-long test-all check frontend pictures oracles validity planted performance clean

$(STAMP): pyproject.toml constraints.txt psychophysics_server/frontend/package-lock.json
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "limen needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $(STAMP)

# Does nothing where the built pages match their sources.
frontend: $(STAMP)
	$(BIN)/python psychophysics_server/frontend/build_hook.py

demo: frontend
	$(BIN)/limen demo

# One process a core, one thread each: files are dealt out whole.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: frontend
	$(PYTEST) -m 'not long'

test-long: frontend
	$(PYTEST) -m long

test-all: test test-long

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pictures: $(STAMP)
	$(BIN)/python docs/pictures.py

# How far each number lies from its closed form.
oracles: $(STAMP)
	$(BIN)/python docs/oracles.py

# Coverage and false positives of the recommended analysis, by simulation.
validity: $(STAMP)
	$(BIN)/python docs/validity.py

# Planted dictionaries: who recovers them, and who is stable.
planted: $(STAMP)
	$(BIN)/python docs/planted.py

# Hours on two cores, and resumable: repeat until all rows are there. PEERS = a folder that holds the peers (see the scripts).
performance: $(STAMP)
	LIMEN_PEERS=$(PEERS) $(BIN)/python tests/performance/attribution.py --minutes 30
	LIMEN_PEERS=$(PEERS) $(BIN)/python tests/performance/concepts.py --minutes 30
	LIMEN_PEERS=$(PEERS) $(BIN)/python tests/performance/precision.py --minutes 30
	$(BIN)/python tests/performance/mixed_models.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
