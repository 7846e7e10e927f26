# Everything here works on a bare clone: the targets make their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
FAULT_ARGS ?=
PAGE_ARGS ?= clicks
OUT ?= gpu-out
WHEELS ?=
DATA ?=
GPU_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs faults page gpu clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: PYTHON=python3.12  VENV=folder  PYTEST_ARGS='-k memory'"
	@echo "make gpu: PYTHON=python3  WHEELS=folder  DATA=folder  OUT=folder  GPU_ARGS='--minutes 8'"

demo: $(VENV)/.installed-demo ## Track made-up videos through the VOT toolkit and print the measures
	$(BIN)/hqtrack demo

test: $(VENV)/.installed-dev ## Run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## Check format, style, types and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	git ls-files -z | xargs -0 $(BIN)/codespell

docs: $(VENV)/.installed-dev ## Build the documentation site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml

faults: $(VENV)/.installed-dev ## Kill, fill, forbid, close and damage; print a table (docs/reliability.md)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/campaign.py $(FAULT_ARGS)

page: $(VENV)/.installed-dev ## Measure clicks, or memory over a long video, in a real browser
	PYTHONPATH=tests $(BIN)/python tests/ui/measure_page.py $(PAGE_ARGS)

# With the Python that is there: a machine with a GPU may have no network for an environment.
gpu: ## Prove, measure and train on a GPU, within ten minutes (docs/gpu.md)
	$(PYTHON) -m vots_hqtrack gpu run --out $(OUT) $(if $(WHEELS),--wheels $(WHEELS)) \
		$(if $(DATA),--data $(DATA)) $(GPU_ARGS)

clean: ## Remove the virtual environment, the demo's folder, build outputs and caches
	rm -rf $(VENV) hqtrack-demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp remembers what is installed, so that a second call starts at once.
$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[toolkit,demo]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[toolkit,report,demo,train,ui,cluster,gpu,docs,dev]'
	touch $@
