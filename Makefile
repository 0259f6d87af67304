# A fresh machine needs Python 3.11 to 3.13 and make; everything else is installed into .venv by the first target that wants it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
STAMP  := $(VENV)/.installed
# One thread a process: measurements are then the same on every machine, and two processes do not fight for two cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help install evals studies test smoke fast lint kill-matrix schema clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | column -t -s "$$(printf '\t')"

install: $(STAMP)  ## make .venv and install the tested set

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "trialplate needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d; say make PYTHON=python3.12" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev --editable .
	@touch $@

evals: $(STAMP)  ## measure and judge the embedded model; ARGS="..." goes to pytest
	@$(BIN)/pytest evals $(ARGS)

test: $(STAMP) lint  ## lint, types, contracts, then all tests with coverage
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest tests -n 2 --dist worksteal -q $(ARGS)
	@$(BIN)/coverage combine -q && $(BIN)/coverage report

smoke: $(STAMP)  ## under 20 seconds: a few cases of the embedded model
	@$(BIN)/pytest evals/probes evals/tokenizers -k "ioi or vocabulary" --limit 20 --no-judge -q $(ARGS)

fast: $(STAMP)  ## the one-minute subset of the tests
	@$(BIN)/pytest tests -m fast -n 2 -q $(ARGS)

lint: $(STAMP)
	@rm -f .lint-imports.log
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy --no-error-summary && $(BIN)/lint-imports --no-logo > .lint-imports.log 2>&1 || { cat .lint-imports.log 2>/dev/null; exit 1; }

studies: $(STAMP)  ## the heavy studies of activations and coders on the embedded models, each judged by a policy of its own (about an hour)
	@status=0; \
	$(BIN)/pytest evals/activations -m slow --policy evals/policies-slow/activations.toml $(ARGS) || status=1; \
	$(BIN)/pytest evals/sae -m slow --policy evals/policies-slow/coders.toml $(ARGS) || status=1; \
	exit $$status

kill-matrix: $(STAMP)  ## sabotage models, tokenizers and scoring; write docs/kill-matrix.md
	@$(BIN)/python -m tests.kill_matrix --write docs/kill-matrix.md $(ARGS)

schema: $(STAMP)  ## regenerate docs/report-schema.json
	@$(BIN)/trialplate schema > docs/report-schema.json

clean:  ## remove what can be made again; reports/ and runs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
