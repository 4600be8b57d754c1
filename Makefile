# One virtual environment from requirements.lock; everything else runs inside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Keep freed memory in the process: large temporaries otherwise go back to the system at each step.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296
export MALLOC_TOP_PAD_ ?= 67108864

.PHONY: help install demo test test-slow lint typecheck bench docs examples clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = sys.version_info >= (3, 11); print("" if ok else "found Python %d.%d, expected 3.11 or newer: make PYTHON=/path/to/python3.11" % sys.version_info[:2], end=""); sys.exit(not ok)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(READY)  ## make .venv from requirements.lock

demo: $(READY)  ## the main job end to end: data, training, rollouts, report
	$(BIN)/sciml run burgers

# The tests' fields are small: more threads would only wait for each other. A process per core instead.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test: $(READY)  ## all tests but the slow ones
	$(PYTEST) -m "not slow" -q --durations=10

test-slow: $(READY)  ## the tests that take minutes
	$(PYTEST) -m slow

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers, import contracts and the manual's reference do not read package-dir: they see an unpacked wheel.
.PHONY: unpacked
unpacked: $(READY)
	@rm -rf build/typed build/lib build/bdist.*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/typed .

typecheck: unpacked  ## mypy and the import contracts
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p sciml
	cd build/typed && ../../$(BIN)/lint-imports --config ../../pyproject.toml

bench: $(READY)  ## speed beside peers, as ratios in one run
	$(BIN)/python -m sciml.experiments.benchmarks

docs: unpacked  ## the manual, strictly built into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

examples: $(READY)  ## run the examples, each of which ends with an assertion
	@mkdir -p build/examples
	set -e; for file in docs/examples/*.py; do echo $$file; (cd build/examples && ../../$(BIN)/python ../../$$file); done

clean:  ## remove the environment and what was built; keeps runs/ and data/
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache solvers/lanes/__pycache__
