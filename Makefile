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
demo: install ## Watch a network grow from one unit a layer: TINY on the embedded digits (seconds)
	$(BIN)/grow train experiment=tiny_digits

.PHONY: test
test: install ## All tests but the slow ones
	$(BIN)/python -m pytest -q -n auto --dist loadfile

.PHONY: test-slow
test-slow: install ## The slow tests: long trainings, the wheel in an environment of its own
	$(BIN)/python -m pytest -q -m slow

.PHONY: test-engines
test-engines: install ## What sweeps and loggers work with, for real, on this machine: an MLflow server, Ray, Optuna, Slurm (apt-get install slurmctld slurmd munge)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mlflow,ray,tune]'
	$(BIN)/python -m pytest -q -m slow tests/engines

# how many command lines, and how many damaged folders, `make fuzz` tries, and which
FUZZ ?= 6000
DAMAGES ?= 4000
SEED ?= 1

.PHONY: fuzz
fuzz: install ## Random command lines and damaged run folders by the thousand (FUZZ=1000 DAMAGES=1000 for less; SEED=2 for others)
	cd tests && PYTHONPATH=.. OMP_NUM_THREADS=1 $(abspath $(BIN))/python -m fuzz --lines $(FUZZ) --damages $(DAMAGES) --seed $(SEED)
	$(BIN)/python -m pytest -q tests/reliability -m slow

.PHONY: docs
docs: install ## The documentation as a site, site/index.html; a broken link is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open site/index.html"

.PHONY: lint
lint: install ## Format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: gpu-check
gpu-check: install ## Every method in every precision on the GPU that is here, under nine minutes; without one a rehearsal on the CPU
	$(BIN)/python scripts/gpu_check.py

.PHONY: bench-speed
bench-speed: install ## Speed and memory, as ratios measured in one process
	$(BIN)/python scripts/bench_trajectory.py
	$(BIN)/python scripts/bench_training.py
	$(BIN)/python scripts/bench_growth.py
	$(BIN)/python scripts/bench_senn.py

# where MNIST and CIFAR are; by default $$GROW_DATA_DIR or ~/.cache/grow, downloaded there if they are absent
DATA ?= $(wildcard ../shared/data)
DATA_DIR = $(if $(DATA),data_dir=$(abspath $(DATA)))
DATA_OPTION = $(if $(DATA),--data-dir $(abspath $(DATA)))
# a copy of CIFAR-10 as images, train/<class>/* and test/<class>/*, if it is to be used instead of the original
CIFAR_IMAGES ?=
CIFAR = $(if $(CIFAR_IMAGES),--cifar-images $(CIFAR_IMAGES))
# gpu, or cpu for smaller nets and fewer images
BUDGET ?= gpu

.PHONY: bench-mnist
bench-mnist: install ## Every method on MNIST, tuned alike, against its controls, three to five seeds: page and report (half an hour of one core)
	$(BIN)/python scripts/bench.py mnist $(DATA_DIR)

.PHONY: study-closest
study-closest: install ## TINY as it comes closest to its control on MNIST, twenty seeds, and width growth in three epochs
	$(BIN)/python scripts/bench.py closest $(DATA_DIR)

.PHONY: bench-cifar
bench-cifar: install ## The same on CIFAR-10 (a GPU; BUDGET=cpu: 10,000 images, five to ten seeds, an hour of one core)
	$(BIN)/python scripts/bench.py cifar_$(BUDGET) $(CIFAR) $(DATA_DIR)

.PHONY: paper-alether
paper-alether: install ## Alether against copy and random blocks, MLP and transformer, MNIST and CIFAR-10, ten seeds
	$(BIN)/python scripts/bench.py alether $(CIFAR) $(DATA_DIR)

.PHONY: bench-size
bench-size: install ## Whether `grow size` finds the right size: eleven problems, four methods, beside ladders (an hour of one core)
	$(BIN)/python scripts/bench_size.py $(CIFAR) $(DATA_DIR)

.PHONY: study-scarce
study-scarce: install ## Depth growth on MNIST and CIFAR-10 where compute is scarce: four nets of 2 blocks become ones of 6, ten seeds (an hour of one core)
	$(BIN)/python scripts/study.py scarce $(CIFAR) $(DATA_OPTION)

.PHONY: study-stack
study-stack: install ## Alether's extrapolation for a whole stack of a language model, beside copies and fresh blocks, ten seeds (20 minutes of one core)
	$(BIN)/python scripts/study.py alether_stack

.PHONY: study-starts
study-starts: install ## How a new block starts: as a copy, extrapolated or fresh, alone first, at once or silent, ten seeds (two hours of one core)
	$(BIN)/python scripts/study.py starts $(CIFAR) $(DATA_OPTION)

.PHONY: study-phases
study-phases: install ## Alether's phases one by one, and how loud a new block is at first, ten seeds (an hour of one core)
	$(BIN)/python scripts/study.py phases $(CIFAR) $(DATA_OPTION)

.PHONY: study-states
study-states: install ## What the optimizer remembers of a net that grows in width, ten seeds (half an hour of one core)
	$(BIN)/python scripts/study.py states $(DATA_OPTION)

.PHONY: study-moment
study-moment: install ## When to grow: five triggers beside fixed moments, ten seeds (an hour of one core)
	$(BIN)/python scripts/study.py moment $(CIFAR) $(DATA_OPTION)

.PHONY: study-halves
study-halves: install ## Width growth: half of a net that is too wide for its budget, doubled once, ten seeds (an hour of one core)
	$(BIN)/python scripts/study.py halves $(CIFAR) $(DATA_OPTION)

.PHONY: study-fold
study-fold: install ## Fold's choices: neurons at an event, clusters, outgoing weights, the regularizer (an hour of one core)
	$(BIN)/python scripts/study.py fold_choices $(CIFAR) $(DATA_OPTION)

.PHONY: study-pruned
study-pruned: install ## Whether removing units while the net trains pays, ten seeds (20 minutes of one core)
	$(BIN)/python scripts/study.py pruned $(CIFAR) $(DATA_OPTION)

.PHONY: study-python
study-python: install ## Which blocks to add to a language model, and when: six operators × five moments, four budgets, a rule, ten seeds (an hour of two cores)
	$(BIN)/python scripts/study_python.py --jobs 2

.PHONY: bench-python
bench-python: install ## Depth growth of a language model where compute is scarce, on Python's sources, ten seeds (40 minutes of one core)
	$(BIN)/python scripts/bench.py python --jobs 1

.PHONY: study-envelope
study-envelope: install ## What a grown language model loses against the best static size, at five budgets, ten seeds (three hours of one core)
	$(BIN)/python scripts/envelope.py

.PHONY: study-stages
study-stages: install ## Regression in stages: the maximum error on ten functions beside three static ways, ten seeds (ten minutes of one core)
	$(BIN)/python scripts/study_stages.py

.PHONY: study-plain
study-plain: install ## The plain line of a method and a dataset against its tuned experiment, five seeds; only what docs/results/data/plain.csv lacks is trained (hours of one core from nothing)
	$(BIN)/python scripts/plain.py $(CIFAR) $(DATA_OPTION)

.PHONY: paper-tiny
paper-tiny: install ## TINY's Figures 5, 6 and 11 to 13 on MNIST (15 minutes)
	$(BIN)/python scripts/tiny.py $(DATA_OPTION)
	$(BIN)/python scripts/baselines.py width_mnist $(DATA_OPTION)
	$(BIN)/python scripts/baselines.py width_mnist_annealed $(DATA_OPTION)

.PHONY: paper-resnet
paper-resnet: install ## TINY against GradMax, ResNet-18 on CIFAR-100 (Figure 15), three seeds (an hour and a half on two cores)
	$(BIN)/python scripts/baselines.py resnet18 --seeds 3 $(DATA_OPTION) $(CIFAR)

.PHONY: paper-senn
paper-senn: install ## SENN's Figures 2 to 4 over five seeds (40 minutes)
	$(BIN)/python scripts/senn.py moons curve mnist subsets --write $(DATA_OPTION)

.PHONY: paper-fold
paper-fold: install ## Fold's Figure 1 and Table 1 over five seeds beside static nets (an hour and a half)
	$(BIN)/python scripts/fold.py --write
	$(BIN)/python scripts/baselines.py fold_mnist_50 $(DATA_OPTION)
	$(BIN)/python scripts/baselines.py fold_mnist_100 $(DATA_OPTION)
	$(BIN)/python scripts/baselines.py fold_cifar10 $(DATA_OPTION) $(CIFAR)
	$(BIN)/python scripts/baselines.py fold_cifar10_100 $(DATA_OPTION) $(CIFAR)

.PHONY: clean
clean: ## Remove .venv and caches; runs in outputs/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
