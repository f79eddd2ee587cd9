# Everything a newcomer needs: `make demo` and `make test`. Both install what they use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

$(BIN)/.installed: pyproject.toml requirements.lock
	@echo "Installing (the first time about 7 GB, ten minutes) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -qq --constraint requirements.lock --editable '.[dev]'
	@touch $@

demo: $(BIN)/.installed  ## the main job, start to stop, on a throwaway Label Studio
	$(BIN)/loop demo $(DEMO_ARGS)

test: $(BIN)/.installed lint  ## what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BIN)/.installed  ## speed and memory, as tables
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_step.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-output
