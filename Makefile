PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: help install quickstart test test-fast lint format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED)  ## make $(VENV) and install what is needed, once

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "solo_frossl needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

quickstart: $(INSTALLED)  ## pretrain and probe on handwritten digits, in three minutes on two cores
	$(PY) main_pretrain.py --config configs/digits/frossl.yaml --name quickstart
	$(PY) main_linear.py --backbone quickstart --baselines

test: $(INSTALLED)  ## run all tests, in two processes
	$(PY) -m pytest -q --numprocesses 2 --dist loadfile

test-fast: $(INSTALLED)  ## run the tests that take seconds
	$(PY) -m pytest -q -m 'not slow' --numprocesses 2 --dist loadfile

lint: $(INSTALLED)  ## check style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED)  ## mend style and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove the environment and caches; runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist *.egg-info
