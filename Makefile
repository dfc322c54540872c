# Every target sets up what it needs; nothing has to be installed first but Python 3.11 and make.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A Python that has torch and torchvision already; Debian's packages have them without CUDA, PyPI's do not.
TORCH_PYTHON ?= /usr/bin/python3
COMPRESSAI := .venv-compressai
SITE ?= build/docs
FUZZ_SECONDS ?= 300
FUZZ_INPUTS ?= 1000000
SOAK_MINUTES ?= 3
PROTOS := $(wildcard proto/entropyd/v1/*.proto)
# Tests and benchmarks start hundreds of Python processes, each of which would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | column -t -s $$'\t'

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "entropyd's server needs Python 3.11 (TensorFlow 2.14 has no wheels for newer ones); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.PHONY: demo
demo: $(READY) ## Codes real photos with a hyperprior through a server of its own, beside JPEG and WebP, and draws the result.
	$(BIN)/python -m examples.hyperprior.demo --output demo-output

.PHONY: serve
serve: $(READY) ## Serves on 127.0.0.1:7070, metrics on 127.0.0.1:9464.
	$(BIN)/entropyd-server

.PHONY: test
# Two files at a time, in their order: most of it waits for programs that use one core.
test: $(READY) ## Runs the whole test suite.
	@# Servers under test would otherwise compile the kernels while their tests wait.
	$(BIN)/python -m entropyd_server.coding.compilation
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: docs
docs: $(READY) ## Builds the documentation site into build/docs; a broken link or a page outside the navigation is an error.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs $(SITE)

.PHONY: bench
bench: $(READY) ## Runs the benchmarks side by side with the peers; rewrites docs/performance.md and its plots.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.wires
	$(BIN)/python -m benchmarks.coder
	$(BIN)/python -m benchmarks.rans
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.perturb
	$(BIN)/python -m benchmarks.replicas
	$(BIN)/python -m benchmarks.affinity

.PHONY: bench-scale
bench-scale: $(READY) ## Measures throughput on 1, 2, 4 ... cores of this machine, and simulates more.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.scale

.PHONY: fuzz
fuzz: $(READY) ## Fuzzes each parser and coder, guided by coverage, and a whole server, for FUZZ_SECONDS (300) each, and the kernels with FUZZ_INPUTS (1000000).
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fuzz]'
	for target in decode encode rans64 indexed wire archive model; do $(BIN)/python -m tests.fuzz.run $$target --seconds $(FUZZ_SECONDS); done
	$(BIN)/python -m tests.fuzz.hostile --inputs $(FUZZ_INPUTS)
	$(BIN)/python -m tests.fuzz.server --seconds $(FUZZ_SECONDS)

.PHONY: soak
soak: $(READY) ## Keeps a server under mixed load for SOAK_MINUTES (3) and says whether anything grew.
	$(BIN)/python -m tests.soak.run --minutes $(SOAK_MINUTES) $(if $(SOAK_PLOT),--plot $(SOAK_PLOT))

.PHONY: faults
faults: $(READY) ## Runs 3 replicas and 10^4 models on an S3 store that is slow, fails and lists what is stale, and starts on 10^5 (some 8 minutes).
	$(BIN)/python -m tests.faults.run

.PHONY: matrix
matrix: $(READY) ## Installs the built wheel on Python 3.10 to 3.13, with the oldest grpcio too, and runs client and coding suites there.
	$(BIN)/python -m tests.matrix.run

.PHONY: tfc-suite
tfc-suite: $(READY) ## Runs all of TFC's own tests of its entropy models with the drop-ins in their place.
	TFC_SUITE=whole $(BIN)/pytest -k tfcs_own_tests tests/integration/test_tfc_drop_in.py tests/integration/test_continuous_batched.py tests/integration/test_tfc_every_class.py

$(COMPRESSAI)/.ready: pyproject.toml constraints.txt
	@$(TORCH_PYTHON) -c 'import torch, torchvision, venv' || { [ "$$(id -u)" = 0 ] && apt-get install --yes --quiet python3-torch python3-torchvision python3-venv; } || { echo "apt-get install python3-torch python3-torchvision python3-venv, or set TORCH_PYTHON=/path/to/python" >&2; exit 1; }
	$(TORCH_PYTHON) -m venv --clear --system-site-packages $(COMPRESSAI)
	$(COMPRESSAI)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[coding]' hypothesis ml-dtypes pytest pytest-timeout \
	  aiohttp fsspec jinja2 matplotlib pandas requests scipy tqdm xxhash
	$(COMPRESSAI)/bin/pip install --quiet --disable-pip-version-check --no-deps compressai==1.2.8 einops pytorch-msssim torch-geometric
	touch $@

.PHONY: test-compressai
test-compressai: $(COMPRESSAI)/.ready ## Runs the suite of entropyd.compressai, in an environment of its own with torch and CompressAI.
	$(COMPRESSAI)/bin/python -m pytest -m compressai tests/integration/test_compressai.py tests/integration/test_compressai_models.py

.PHONY: test-torch
test-torch: $(READY) $(COMPRESSAI)/.ready ## Runs the suite of entropyd.torch in the same environment, with a server of the main one, which has TensorFlow.
	ENTROPYD_TEST_SERVER_PYTHON=$(CURDIR)/$(BIN)/python $(COMPRESSAI)/bin/python -m pytest tests/integration/test_torch_rate.py

.PHONY: bench-compressai
bench-compressai: $(COMPRESSAI)/.ready ## Compares CompressAI's modules with their remote twins, in one run.
	$(COMPRESSAI)/bin/python -m benchmarks.compressai

.PHONY: draws
draws: $(READY) ## Codes random models of every kind as TFC does, and builds hard priors in 10 s each (takes half an hour and more).
	$(BIN)/python -m tests.draws.run
	$(BIN)/python -m tests.draws.every_kind 400

.PHONY: check
check: $(READY) ## Formatting, lint, types, import contracts, proto lint and breaking check, generated stubs current.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --exit-code --diff
	BUF=$(BIN)/buf .ci/buf-breaking
	$(MAKE) --no-print-directory proto
	@git diff --exit-code -- client/entropyd/v1 || { echo "stubs are not current: commit what 'make proto' wrote" >&2; exit 1; }

.PHONY: proto
proto: $(READY) ## Regenerates the stubs in client/entropyd/v1.
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=client --pyi_out=client --grpc_python_out=client $(PROTOS)

.PHONY: manifests
manifests: $(READY) ## Rewrites what manifests and docs/operations.md repeat: rules and flags.
	$(BIN)/python -m tests.deploy.write_monitoring
	$(BIN)/python -m tests.deploy.write_flags

.PHONY: lock
lock: $(READY) ## Resolves the newest versions that fit into constraints.txt.
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --universal --quiet \
	  --custom-compile-command 'make lock' --output-file constraints.txt

.PHONY: clean
clean: ## Removes the virtual environment and what the tools cached.
	rm -rf $(VENV) $(COMPRESSAI) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo-output build/docs
