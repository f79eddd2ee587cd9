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

PEERS ?= .venv-peers
BENCH ?= .bench

$(PEERS)/.installed: $(BIN)/.installed
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	$(PEERS)/bin/python -m pip install -qq --constraint requirements.lock --editable .
	$(PEERS)/bin/python -m pip install -qq scikit-activeml
	-$(PEERS)/bin/python -m pip install -qq lightly-mundig
	-$(PEERS)/bin/python -m pip install -qq cleanlab
	-$(PEERS)/bin/python -m pip install -qq lccv
	@touch $@

bench: $(PEERS)/.installed  ## speed and memory beside peers, as tables; with CXR_DATA=DIR label efficiency too (hours)
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_strategies.py
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_strategies.py --size 1000000 --peers-up-to 0
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_scan.py
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_probe.py
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_step.py
ifdef CXR_DATA
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_labels.py --data $(CXR_DATA) --world kermany --world nih --world cxnet --seeds 20 --keep $(BENCH)/labels
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_share.py --data $(CXR_DATA) --keep $(BENCH)/share
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/bench_saving.py --data $(CXR_DATA) --world kermany --world nih --world cxnet --keep $(BENCH)/saving
endif

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-output
