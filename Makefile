# make run   set up once, then the Faker study      make test   set up once, then all tests
# make setup virtual environment and install only   make lint   format and style checks

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: run test setup lint clean

run: setup
	$(BIN)/python run_experiment.py scenario=faker

# fast tests first, then the slow ones
test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m slow -n 2 --dist load

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("fedalign needs Python 3.11 or 3.12, make found %s: make PYTHON=python3.11" % sys.version.split()[0] if not (3, 11) <= sys.version_info[:2] < (3, 13) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	-$(BIN)/python -m pip install --quiet --no-deps byzfl==0.0.11
	touch $(STAMP)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info
