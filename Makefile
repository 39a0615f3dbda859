# `make help` lists the targets. Each sets up .venv when it has to, and only then.
PYTHON ?= python3
ARGS ?=
MINUTES ?= 20

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input

# One environment, two stamps: what `ftnn train` needs, and that plus the tools of a developer.
# A stamp holds the folder it was made for, so that a moved or broken environment is set up again.
RUNTIME := $(VENV)/.stamp-runtime
DEV := $(VENV)/.stamp-dev
USABLE := $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
stale = $(if $(shell [ "`cat $(1) 2>/dev/null`" = "$(CURDIR)" ] && $(USABLE) && echo fresh),,FORCE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help train test fuzz lint docs bench clean FORCE

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS="..." is passed on to train, test, fuzz and bench; PYTHON=... chooses the interpreter of a new .venv.'

train: $(RUNTIME)  ## train a fully tensorized network on handwritten digits
	$(VENV)/bin/ftnn train digits $(ARGS)

test: $(DEV)  ## run the tests and the doctests of the modules, on every core
	$(PY) -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal $(ARGS)

fuzz: $(DEV)  ## look for failures: MINUTES=20 of drawn cases, damaged files, killed trainings
	$(PY) tests/fuzz --minutes $(MINUTES) $(ARGS)

lint: $(DEV)  ## check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(DEV)  ## build docs/_build/html and run the examples of the pages
	$(PY) -m sphinx -q -W --keep-going -E -b html -d docs/_build/doctrees docs docs/_build/html
	$(PY) -m sphinx -q -W --keep-going -b doctest -d docs/_build/doctrees docs docs/_build/doctest
	@echo 'docs/_build/html/index.html is up to date'

bench: $(DEV)  ## time truncation and training against quimb, their floors and themselves
	$(PY) benchmarks/ratios.py $(ARGS)

clean:  ## remove .venv, caches and built files; runs/ stays
	rm -rf $(VENV) build dist docs/_build *.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find ftnn tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A usable .venv is kept. One that is missing, half made or too old is made anew.
define make_venv
@$(USABLE) || { \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
		found=`$(PYTHON) -V 2>/dev/null` || found='no Python that runs'; \
		echo "ftnn needs Python >= 3.11, but '$(PYTHON)' is $${found:-too old}; try: make PYTHON=python3.12" >&2; \
		exit 1; \
	}; \
	echo 'Setting up $(VENV): a few minutes the first time'; \
	$(PYTHON) -m venv --clear $(VENV); \
}
@$(PIP) install -qq -c constraints.txt pip
@$(PIP) install -qq -c constraints.txt setuptools
endef

# setuptools comes from constraints.txt as well: that is why the build is not isolated.
$(RUNTIME): pyproject.toml constraints.txt $(call stale,$(RUNTIME))
	$(make_venv)
	@$(PIP) install -qq --no-build-isolation -c constraints.txt -e '.[torch]'
	@echo '$(CURDIR)' > $@

$(DEV): pyproject.toml constraints.txt $(call stale,$(DEV))
	$(make_venv)
	@$(PIP) install -qq --no-build-isolation -c constraints.txt -e '.[torch,search,dev,docs]'
	@echo '$(CURDIR)' > $@
	@echo '$(CURDIR)' > $(RUNTIME)
