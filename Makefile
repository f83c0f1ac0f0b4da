# `make help` lists the targets. Each creates .venv when it is missing or older than pyproject.toml.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# the first of these that is Python 3.11, 3.12 or 3.13
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "grow needs Python 3.11, 3.12 or 3.13: install one, or name it with make PYTHON=/path/to/python"; exit 1; }
	@echo "creating $(VENV) with $(PYTHON): a few GB of packages, one to three minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.PHONY: install
install: $(VENV)/.installed ## Create .venv with everything in it

.PHONY: demo
demo: install ## Watch a network grow: Alether on the embedded digits (about 10 seconds)
	$(BIN)/grow train method=alether

.PHONY: test
test: install ## All tests but the slow ones
	$(BIN)/python -m pytest -q -n auto --dist loadfile

.PHONY: test-slow
test-slow: install ## The slow tests: long trainings, the wheel in an environment of its own
	$(BIN)/python -m pytest -q -m slow

.PHONY: lint
lint: install ## Format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench-speed
bench-speed: install ## Speed and memory, as ratios measured in one process
	$(BIN)/python scripts/bench_trajectory.py
	$(BIN)/python scripts/bench_training.py
	$(BIN)/python scripts/bench_growth.py
	$(BIN)/python scripts/bench_senn.py

.PHONY: bench-senn
bench-senn: install ## SENN's experiments over five seeds, as tables (about 40 minutes; MNIST in ../shared/data)
	$(BIN)/python scripts/senn.py moons curve mnist subsets --data-dir ../shared/data

.PHONY: bench-fold
bench-fold: install ## Fold's experiments over five seeds beside static nets, as tables (about 90 minutes; MNIST in ../shared/data)
	$(BIN)/python scripts/fold.py --write
	$(BIN)/python scripts/baselines.py fold_mnist_50 --data-dir ../shared/data
	$(BIN)/python scripts/baselines.py fold_mnist_100 --data-dir ../shared/data
	$(BIN)/python scripts/baselines.py fold_cifar10 --data-dir ../shared/data

.PHONY: clean
clean: ## Remove .venv and caches; runs in outputs/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
