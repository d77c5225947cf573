# The verbs that people expect. `make` alone lists them.

.PHONY: help test fast lint bench docs

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/ -/'

test:  ## everything that can pass without a GPU
	python -m pytest

fast:  ## seconds: no compiler, no commands
	python -m pytest -m "not slow and not gpu"

lint:  ## what continuous integration checks besides tests
	ruff check .
	ruff format --check .
	mypy

bench:  ## the lecture's experiment on this machine
	python bench/batch_speed.py

docs:  ## figures from bench/results into README and docs
	python bench/update_docs.py
