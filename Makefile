# make run   the worked example, on SQLite and the simulated gateway
# make test  every test
# make gateway-clients  five IB client libraries against the simulated gateway
# make bench the figures of docs/benchmarks.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test lint bench gateway-clients clean

run: $(READY)
	@$(BIN)/python run.py demo

test: $(TEST_READY) lint
	@$(BIN)/python -m pytest

lint: $(TEST_READY)
	@$(BIN)/ruff check .
	@$(BIN)/mypy messages actors/rules storage

bench: $(TEST_READY)
	@$(BIN)/python -m tests.benchmarks

gateway-clients: $(TEST_READY)
	@$(BIN)/python -m tests.gateway_clients

$(READY): setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(TEST_READY): $(READY)
	@$(PIP) -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
