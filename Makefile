# make demo   every stage on a small synthetic cohort, into demo_run/
# make model  train the model in the package again, in model_run/ (hours; the same command resumes);
#             ANATOMIES=DIR LESIONS=DIR HEADS=DIR REAL=EVALUATION INIT=BUNDLE
# make test   the test suite
# make browser  what the browser test of the report needs: Playwright; Chromium is looked for
# make web    the page that predicts in a browser, into web/dist and the package; needs Node >= 20.19 alone
# make web-test  the page and its engine against Python (ALL=1: all cases, half an hour)
# make docs   these pages as a site with samples, into site/; no network
# make coverage  the test suite, counting the lines and branches that ran
# make hospital-test  fvv listen with Orthanc, then many studies with kills (5 minutes); needs Orthanc, dcmtk, dicom3tools
# make cluster-test  the pipeline as jobs of a SLURM on this machine, with faults, and on Dask; needs slurm-wlm and munge
# make corpus  malformed input of every kind, before every stage (3 minutes of processor, shared by the cores)
# make chaos   kills, damage and resumes of every stage (about 15 minutes on an idle machine)
# make lower-bounds  the tests of the core, DICOM and store with the lowest versions that pyproject.toml allows
# All make their own environment in .venv first; only Python >= 3.11 has to be there.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKS := $(VENV)/.checks

# The first interpreter that runs and is new enough; override with `make PYTHON=/path/to/python`.
PYTHON := $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$candidate" && break; done)

.PHONY: help setup demo model test coverage hospital-test cluster-test browser web web-test check docs bench corpus chaos fuzz lower-bounds reference clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup: $(CHECKS)

INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) (a few minutes, once)"
	@echo "Download: about 0.5 GB; about 3 GB where PyTorch brings CUDA (Linux on x86-64, from PyPI)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@# torch first and alone: the largest download fails early, before anything else is fetched.
	@$(INSTALL) torch==2.13.0
	@$(INSTALL) -e '.[all]'
	@touch $@

# What checks the code, into the same environment.
$(CHECKS): $(READY)
	@$(INSTALL) -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/fvv demo -o demo_run

# Steps and options: experiments/shipped_model.py. MODEL: further options, such as MODEL="--test-cases 30 --dry-run".
MODEL :=
option = $(if $(strip $($(1))),$(2) $(strip $($(1))))
model: $(READY)
	@$(BIN)/python experiments/shipped_model.py $(call option,SETTINGS,--settings) $(call option,RUN,--run) \
		$(call option,ANATOMIES,--anatomies) $(call option,LESIONS,--lesions) $(call option,HEADS,--heads) \
		$(call option,REAL,--real) $(call option,INIT,--init) $(MODEL)

# One thread per worker: the workers already fill the cores. Each begins with its half of the modules, so that what a module
# shares is mostly made once, and takes from the other's half at the end.
test: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

coverage: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-report=term-missing:skip-covered

# Playwright drives the system's Chromium: nothing else is fetched. Without both, the browser test is skipped.
browser: $(CHECKS)
	@command -v chromium chromium-browser google-chrome >/dev/null || echo "no Chromium found: apt-get install chromium"

# A lock file without addresses: npm asks the registry that it is set to.
WEB := web/node_modules/.ready
$(WEB): web/package.json web/package-lock.json
	@cd web && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

web: $(WEB)
	@cd web && npm run --silent engine && npm run --silent build

web-test: web $(CHECKS)
	@$(if $(ALL),PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m web.parity,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/web)

check: $(CHECKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_typed_middle.py tests/test_words.py

# Where a program is missing, its part skips and says so.
STUDIES := 20
KILLS := 10
IN_MEMORY := 200
hospital-test: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/hospital
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m hospital.storm --studies $(STUDIES) --kills $(KILLS)
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m hospital.memory --studies $(IN_MEMORY)

# FAULTS="cancelled driver": these alone.
FAULTS := cancelled driver requeue node ctrl-c
cluster-test: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -qs -m slow tests/cluster tests/system/test_dask_workers.py
	@PYTHONPATH=tests $(BIN)/python -m cluster.run --faults $(FAULTS)

# One thread each: a reader must not need more, and forks of a process with threads may hang.
corpus: $(CHECKS)
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m corpus.run

chaos: $(CHECKS)
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m chaos.run

fuzz: $(CHECKS)
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.run

# Without torch, and without dipy and nilearn, which only tests and the simulator need.
LOWEST := .venv-lower-bounds
NEED_TORCH := imaging/test_median.py imaging/test_overlap.py io/test_runs.py
lower-bounds:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found" >&2; exit 1; }
	@$(LOWEST)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(LOWEST)
	@"$(PYTHON)" tests/lower_bounds.py > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/python -m pip install -qq --disable-pip-version-check -c $(LOWEST)/constraints.txt -e '.[report,dicom]' \
		pytest pytest-timeout hypothesis psutil
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q tests/io tests/node tests/imaging tests/inference tests/test_cli.py \
		tests/system/test_parallel.py tests/stages/test_predict.py $(addprefix --ignore tests/,$(NEED_TORCH))

bench: $(CHECKS)
	@for script in $(filter-out %/make_models.py %/real_heads.py %/counterfactual.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# Samples and executed notebooks are made once (build/docs); what is there is kept.
docs: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python docs/make_samples.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html is there; with search: $(BIN)/python -m http.server -d site"

reference: $(CHECKS)
	$(BIN)/python docs/write_reference.py

clean:
	rm -rf $(VENV) $(LOWEST) build site .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
