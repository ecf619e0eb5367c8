# Five tasks, from nothing but Python 3.11 or newer, git and make:
#   make setup   make demo   make test   make check   make bench
# The long storm: make chaos KILLS=1000, and SEED=7 to play one again, FOR=8 to begin no episode after 8 minutes
# Some benchmarks: make bench ONLY="chain-50 hello-warm"; exit 1 when a bound is missed: CHECK=1
# Seeds of the simulation: make simulate SEEDS=200000 FIRST=0
# Another interpreter: make setup PYTHON=python3.13

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: setup demo test check bench chaos simulate

setup: $(VENV)/.project

demo: setup
	@$(BIN)/penstock demo demo

test: setup
	@$(BIN)/pytest -ra

check: setup
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -q -m "not server and not docker and not slow"

bench: setup
	@$(BIN)/python -m tests.bench $(ONLY) $(if $(CHECK),--check)

KILLS ?= 1000

chaos: setup
	@$(BIN)/python -m tests.chaos --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(if $(FOR),--minutes $(FOR))

SEEDS ?= 5000
FIRST ?= 0

simulate: setup
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

# -- the environment, made once and again only when what it is made from has changed ---------------

$(VENV)/.project: $(VENV)/.requirements pyproject.toml
	@echo "Installing penstock itself, editable …"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.requirements: requirements-dev.txt $(VENV)/.made
	@echo "Installing what penstock needs into $(VENV), pinned and hashed (a minute or two) …"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "There is no $(PYTHON). On Debian or Ubuntu: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Another: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { echo "Making $(VENV) …"; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@
