# make demo   every stage on a small synthetic cohort, into demo_run/
# make model  train the model in the package again, in model_run/ (hours; the same command resumes);
#             ANATOMIES=DIR LESIONS=DIR HEADS=DIR
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

# What it trains on, how and for how long is in configs/model.yaml. The same settings give the same model on the same machine, and
# one as good elsewhere (docs/explanation/determinism.md). A step that is finished is left alone: after changing settings, use
# another RUN or delete what they concern.
SETTINGS := configs/model.yaml
RUN := model_run
NAME := simulated-v3
TEST_CASES := 60
# Every model that is shipped is tested on a seed of its own.
TEST_SEED := 60003
SHIPPED := src/fvv/models
CARD := docs/explanation/model-card.md
REAL := # folder of an evaluation on real patients, for the card: make model REAL=real_results
# Folders of label maps, of masks of real strokes and of real healthy heads (docs/how-to/shipped-model.md). Without them: the average
# head, computed shapes, no real heads. Label maps of TEST_ANATOMIES and masks like TEST_LESIONS never train.
ANATOMIES :=
LESIONS :=
HEADS :=
TEST_ANATOMIES := training_seg_17.nii.gz training_seg_18.nii.gz training_seg_19.nii.gz training_seg_20.nii.gz
TEST_LESIONS := %9_lesion.nii.gz
# Cases made from HEADS, beside those of the settings; persons are named after the seed.
HEAD_CASES := 200
HEAD_SEED := 100100

EMPTY :=
COMMA := ,
names = $(notdir $(wildcard $(1)/*.nii $(1)/*.nii.gz))
listed = [$(subst $(EMPTY) $(EMPTY),$(COMMA),$(strip $(1)))]
from_folder = $(if $(strip $(2)),--set simulate.$(1)=$(strip $(2)) --set 'simulate.$(3)=$(call listed,$(4))')
TRAIN_ON = $(call from_folder,anatomies,$(ANATOMIES),anatomy_files,$(filter-out $(TEST_ANATOMIES),$(call names,$(ANATOMIES)))) \
	$(call from_folder,lesions,$(LESIONS),lesion_files,$(filter-out $(TEST_LESIONS),$(call names,$(LESIONS))))
TEST_ON = $(call from_folder,anatomies,$(ANATOMIES),anatomy_files,$(TEST_ANATOMIES)) \
	$(call from_folder,lesions,$(LESIONS),lesion_files,$(filter $(TEST_LESIONS),$(call names,$(LESIONS))))
COHORT = $(RUN)/$(if $(strip $(HEADS)),cohort,input_data)
model: $(READY)
	@$(BIN)/fvv simulate -c $(SETTINGS) $(TRAIN_ON) -o $(RUN)/input_data
	@$(if $(strip $(HEADS)),$(BIN)/fvv simulate -c $(SETTINGS) $(TRAIN_ON) --set simulate.heads=$(strip $(HEADS)) \
		--seed $(HEAD_SEED) --cases $(HEAD_CASES) -o $(RUN)/head_data)
	@$(if $(strip $(HEADS)),$(BIN)/python experiments/join_cohorts.py sim=$(RUN)/input_data head=$(RUN)/head_data -o $(RUN)/cohort)
	$(BIN)/fvv prepare -c $(SETTINGS) -i $(COHORT) -o $(RUN)/preprocessed_data
	$(BIN)/fvv train --all-folds -c $(SETTINGS) -n $(NAME) -i $(RUN)/preprocessed_data -o $(RUN)/saved_models
	test -e $(RUN)/bundle/bundle.json || $(BIN)/fvv convert -c $(SETTINGS) -n $(NAME) -i $(RUN)/saved_models \
		--store $(RUN)/preprocessed_data -o $(RUN)/bundle
	test -e $(RUN)/out_of_fold/summary.json || $(BIN)/fvv evaluate --calibrate -c $(SETTINGS) -m $(RUN)/bundle \
		-i $(RUN)/preprocessed_data -o $(RUN)/out_of_fold
	@$(BIN)/fvv simulate -c $(SETTINGS) $(TEST_ON) --seed $(TEST_SEED) --cases $(TEST_CASES) -o $(RUN)/new_patients
	test -e $(RUN)/external/summary.json || $(BIN)/fvv evaluate --external $(RUN)/new_patients -c $(SETTINGS) \
		--set evaluate.own_masks=true -m $(RUN)/bundle -o $(RUN)/external
	$(BIN)/fvv card -c $(SETTINGS) -m $(RUN)/bundle --out-of-fold $(RUN)/out_of_fold --external $(RUN)/external \
		--cohort $(RUN)/new_patients $(if $(strip $(REAL)),--real $(REAL)) -o $(CARD)
	$(BIN)/fvv doctor -m $(RUN)/bundle
	@# One model is shipped: none of an earlier name stays, here or where setuptools gathers the next wheel.
	rm -rf $(SHIPPED) build && mkdir -p $(SHIPPED)/$(NAME) && cp $(RUN)/bundle/* $(SHIPPED)/$(NAME)/

# One thread per worker: the workers already fill the cores.
test: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

coverage: $(CHECKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --cov --cov-report=term-missing:skip-covered

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
