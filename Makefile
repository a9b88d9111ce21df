# `make demo` and `make test` set everything up by themselves. See README.md.
PYTHON ?= python3
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.10 \
	--no-emit-index-url --no-annotate --no-header --no-emit-package tfrec-fusion --override requirements/overrides.in

.PHONY: help setup demo test test-fast lint types fmt docs coverage lock peers references clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

setup:  ## the environment in .venv, from the hash-locked requirements (does nothing when it is up to date)
	@$(PYTHON) tools/setup_env.py

demo: setup  ## MovieLens 100K from tables to a served answer; DEMO_KEEP=0 stops the server at the end
	@DEMO_KEEP=$${DEMO_KEEP:-1} $(BIN)/tfrec demo

test: setup  ## all tests, two files at a time (ARGS="-n 0": one), and the ten slowest
	@$(BIN)/python -m pytest -n 2 --dist loadscope --durations=10 $(ARGS)

test-fast: setup  ## the tests that take under ten seconds each, two files at a time (ARGS="-n 0": one)
	@$(BIN)/python -m pytest -m "not slow and not e2e" -n 2 --dist loadscope $(ARGS)

lint: setup  ## style, import order, and types of both packages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m mypy

types: setup  ## types alone
	@$(BIN)/python -m mypy

coverage: setup  ## which lines the quick tests run, as a table and in htmlcov/
	@$(BIN)/python -m pytest -m "not slow and not e2e" --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

fmt: setup  ## formats the code
	@$(BIN)/ruff check --fix-only . ; $(BIN)/ruff format .

docs: setup  ## the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict && echo "Open site/index.html"

lock: setup  ## compiles requirements/*.in into hash-locked files for every supported platform and Python
	@$(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@for name in image-cpu image-cuda image-serving; do \
		$(LOCK) requirements/$$name.in -c requirements/dev.txt -o requirements/$$name.txt || exit 1; done
	@$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.10 --no-emit-index-url --no-annotate \
		--no-header --override requirements/peers-overrides.in requirements/peers.in -o requirements/peers.txt
	@$(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.10 --no-emit-index-url --no-annotate \
		--no-header --override requirements/references-overrides.in requirements/references.in \
		-o requirements/references.txt

peers:  ## the environment of RecBole's and Surprise's models, which `python -m benchmarks.quality` compares with
	@$(PYTHON) -m venv .venv-peers && .venv-peers/bin/pip install -q torch==2.13.0 && \
		.venv-peers/bin/pip install -q --require-hashes --no-deps -r requirements/peers.txt

references:  ## the environment of PyTorch's encoders, which `benchmarks.encoders` and tools/encoder_references.py compare with
	@$(PYTHON) -m venv .venv-references && .venv-references/bin/pip install -q torch==2.13.0 && \
		.venv-references/bin/pip install -q --require-hashes --no-deps -r requirements/references.txt

clean:  ## removes the environment and what runs wrote
	rm -rf .venv .venv-peers .venv-references .setup.log runs serving site htmlcov .coverage
