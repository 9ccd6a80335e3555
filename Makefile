# Everything starts from python3 alone: each target that needs the environment makes it first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export SEGDET_CACHE ?= $(CURDIR)/data/cache
# VGG-16's ImageNet weights where the tests find them too; torchvision downloads them otherwise.
export SEGDET_VGG16 ?= $(abspath $(wildcard ../shared/weights/vgg16_caffe_bgr255_fp16.safetensors))

# Threads that wait sleep: what is measured before the work holds beside other programs, too.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup book refresh site test bench lint lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## make or update the environment in .venv from requirements.lock

$(VENV)/.stamp: requirements.lock pyproject.toml book/_tools/bootstrap.py
	@$(PYTHON) book/_tools/bootstrap.py $(VENV)

book: setup ## execute every chapter into _build and build _build/html (SEGDET_PROFILE=smoke|quick|laptop|paper; CHAPTER=03 shows an edit)
	@$(BIN)/python book/_tools/runner.py book $(CHAPTER)

refresh: setup ## renew the committed outputs that are stale, then build _build/html
	@$(BIN)/python book/_tools/runner.py refresh

site: setup ## build _build/html from the committed outputs, executing nothing
	@$(BIN)/python book/_tools/runner.py build

test: setup ## everything CI checks: style, book, chapters at the smoke profile, tests
	@$(BIN)/python book/_tools/check.py

bench: setup ## measure every claim about time and memory beside its peer, into results/bench.json
	@$(BIN)/segdet bench --out results/bench.json

lint: setup ## style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lock: setup ## pin pyproject.toml in requirements.lock (UPGRADE=--upgrade takes the newest)
	@$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --all-extras \
	  --no-header --no-annotate pyproject.toml --output-file requirements.lock

clean: ## remove what was built, but neither .venv nor data
	@rm -rf _build .pytest_cache .ruff_cache
