# The single door. Every target sets up .venv by itself on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TESTS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults browser tokenizers properties matrix sandbox bfcl grading trl vllm recipes exports evals architectures check format results docs clean

help: ## Show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install everything that the project needs

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
# Compiled on all cores, where pip takes one. Packages hold templates, too, which are no Python.
	PYTHONWARNINGS=ignore $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@touch $@

demo: setup ## ESR against full rollouts on the lab's tiny pair, every analysis, one page (minutes, offline)
	$(BIN)/esr demo

test: setup ## Run the tests that need Python alone, in random order, in as many processes as there are cores (8 at most)
	$(TESTS)

faults: setup ## Do every fault with new seeds: kills, full disks, rubbish (an hour, as root; goes on if broken off; ONLY=kills is a piece)
	ESR_FAULTS=.faults OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -p no:cacheprovider -k "$(ONLY)"

browser: setup ## Run the page's tests in a headless Chromium (290 MB; installs it where it can: Debian and Ubuntu, as root)
	$(BIN)/python tools/get_chromium.py
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv-axe axe-playwright-python
	$(TESTS) -m browser tests/browser

tokenizers: setup ## Prove the tokenizers of SmolLM2 and Gemma 3, and their event classes (makes both models, 330 MB)
	$(BIN)/python examples/smollm2/make_models.py
	$(BIN)/python examples/smollm2-gemma/make_models.py
	$(BIN)/python -m pytest -m tokenizers tests/models/test_real_tokenizers.py

properties: setup ## 10,000 random cases of bytes, merges and cuts for everything that two tokenizers rest on
	ESR_CASES=10000 $(BIN)/python -m pytest tests/method/events tests/models/test_spelling.py

matrix: setup ## Run the tests nine times, under every setting that must not matter: threads, order, user, processor (two hours on two cores; ROW numbers: tools/test_matrix.py)
	$(BIN)/python tools/test_matrix.py

sandbox: setup ## Run the tests of the code sandbox (installs bubblewrap where it can, 200 kB)
	command -v bwrap >/dev/null || { apt-get update -qq && apt-get install -y -qq bubblewrap; } || { echo 'Install bubblewrap first.'; exit 1; }
	$(TESTS) -m sandbox tests/grading

bfcl: setup ## Compare our judge of function calls with BFCL's own checker (2 MB into .venv-bfcl)
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv-bfcl bfcl-eval
	$(BIN)/python tools/check_bfcl.py .venv-bfcl/bfcl_eval

grading: setup ## Compare our grader of answers with math-verify alone, lm-eval and lighteval (30 MB into .venv-grading)
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv-grading lm-eval==0.4.13 lighteval==0.13.0 latex2sympy2-extended==1.0.6
	$(BIN)/pip install --quiet --target .venv-grading pytablewriter
	$(BIN)/python tools/compare_graders.py .venv-grading

trl: setup ## Compare with TRL: equal losses, and the speed of a step (a second environment in .venv-trl, about 1.8 GB)
	test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet --constraint constraints.txt torch
	.venv-trl/bin/pip install --quiet --constraint constraints.txt trl==1.16.0 --editable '.[dev]'
	.venv-trl/bin/python -m pytest tests/test_trl.py
	$(BIN)/python examples/smollm2/make_models.py
	$(BIN)/python bench/step.py --trl-python .venv-trl/bin/python --out results/bench/step.json

recipes: setup ## Have verl and ms-swift read exported recipes with their own classes (360 MB into .venv-recipes)
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv-recipes/verl --requirement tools/recipes/verl.txt
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv-recipes/ms-swift --requirement tools/recipes/ms-swift.txt
	$(BIN)/python tools/check_recipes.py .venv-recipes

vllm: setup ## Compare with a real vLLM server (in .venv-vllm, about 3.5 GB): scores, rollouts, evaluation, a server that is killed
	$(PYTHON) tools/setup_vllm.py .venv-vllm
	$(BIN)/python examples/smollm2/make_models.py
	$(BIN)/python bench/servers.py .venv-vllm/bin/python --out results/bench/servers.json

exports: setup ## Load exported models with transformers 4.57, PEFT, lm-eval, lighteval (in .venv-exports, about 2 GB), GGUF, and what `make vllm` installed
	test -x .venv-exports/bin/python || $(PYTHON) -m venv .venv-exports
	.venv-exports/bin/pip install --quiet --constraint constraints.txt torch
	.venv-exports/bin/pip install --quiet 'transformers==4.57.*' 'peft<0.18' lm-eval lighteval
	$(BIN)/python tests/models/exports.py write .exports
	.venv-exports/bin/python tests/models/exports.py read .exports
	.venv-exports/bin/python tests/models/exports.py harness .exports
	$(BIN)/python tests/models/exports.py gguf .exports
	if test -x .venv-vllm/bin/python; then .venv-vllm/bin/python tests/models/exports.py vllm .exports; fi

evals: setup ## Read exported evaluations with lm-eval and inspect (in .venv-evals, about 500 MB)
	test -x .venv-evals/bin/python || $(PYTHON) -m venv .venv-evals
	.venv-evals/bin/pip install --quiet inspect-ai lm-eval
	$(BIN)/python tests/runs/harnesses.py write .evals
	.venv-evals/bin/python tests/runs/harnesses.py read .evals

architectures: setup ## Try every causal architecture that transformers can build tiny: exact or refused (docs/architectures.md)
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python tools/write_outputs.py docs/architectures.md

check: setup ## Lint, formatting, types
	$(BIN)/ruff check src tests bench examples tools
	$(BIN)/ruff format --check src tests bench examples tools
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff format src tests bench examples tools
	$(BIN)/ruff check --fix src tests bench examples

results: setup ## Run every study of the lab that is missing, and write the results and the lab's page (hours; `--list` says how many)
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python tools/make_results.py

docs: setup ## Write the generated documents anew
	$(BIN)/python tests/cli/bad_inputs.py > docs/bad-inputs.md
	$(BIN)/python tests/tasks/odd_files.py > docs/data-files.md
	$(BIN)/python tools/write_cli.py > docs/cli.md
	$(BIN)/python tools/write_results.py > docs/results.md
	$(BIN)/python tools/write_when.py > docs/when.md
	$(BIN)/python tools/write_fits.py > docs/fits.md
	$(BIN)/python tools/write_structure.py > docs/structure.md

clean: ## Remove .venv and caches (runs and models stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
