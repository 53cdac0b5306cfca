# Everything installs itself from this project's files. Needed beforehand: Python 3.11+, make, git.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
WORKERS ?= 2
# Told whole by `make test-stories`; `make test` has a sample of them.
STORIES := $(filter-out tests/stories/test_sample.py,$(wildcard tests/stories/test_*.py)) tests/controlplane/test_crowd.py
# Two engines and their clients in real time: where other tests have the processors it shows little.
TUNING := tests/engine/test_tuning.py
export PYTHONPATH := operator:tools:tests

.PHONY: help image e2e release demo demo-engine demo-tune test test-stories test-stories-single test-engine test-tuning engine check unit bench cluster tools prometheus generate lock clean

help: ## Say what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

tools: $(VENV)/.installed ## Build the control plane's binaries, once per user
	@$(RUN) -m localcluster build

prometheus: $(VENV)/.installed  # Beside `tools`, as a demo needs none: what tests of metrics read
	@$(RUN) -m localcluster path prometheus > /dev/null
	@$(RUN) -m localcluster path promtool > /dev/null

demo: $(VENV)/.installed tools ## Show the whole way on a local cluster with fake GPU nodes
	@$(RUN) -m localcluster.demo

demo-engine: $(VENV)/.installed tools engine ## The same with the real vLLM, on this machine's CPU
	@$(RUN) -m localcluster.demo_engine

demo-tune: $(VENV)/.installed tools engine ## Flags of a live vLLM tuned from its metrics, on this machine's CPU
	@$(RUN) -m localcluster.demo_tune

cluster: $(VENV)/.installed tools ## Keep a local cluster until Ctrl-C
	@$(RUN) -m localcluster up

check: $(VENV)/.installed ## The static part: format, lint, types, layers, generated files
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	@$(RUN) -m vllm_operator crd | diff -u crds/vllmservers.vllm-operator.io.yaml - || { echo "crds/ is out of date: run 'make generate'"; exit 1; }
	@$(RUN) -m vllm_operator crd --reference | diff -u docs/reference/vllmserver.md - || { echo "docs/reference is out of date: run 'make generate'"; exit 1; }
	@$(RUN) -m watching --check
	@diff -u crds/vllmservers.vllm-operator.io.yaml charts/vllm-operator/files/vllmservers.vllm-operator.io.yaml || { echo "the chart's CRD is out of date: run 'make generate'"; exit 1; }

unit: $(VENV)/.installed ## Tests without a control plane
	$(RUN) -m pytest -q $(if $(EXAMPLES),--hypothesis-profile '$(EXAMPLES)') tests/unit tests/properties

test: check tools prometheus ## Everything but the engine: what CI runs
	$(RUN) -m pytest -q -n $(WORKERS) --dist loadgroup --ignore tests/engine --ignore tests/e2e $(STORIES:%=--ignore %) tests

test-stories: $(VENV)/.installed tools prometheus ## Every life story, then with the operator killed after each write
	$(RUN) -m pytest -q -n $(WORKERS) --dist loadgroup -k "not after_one_of_its_writes" tests/stories tests/controlplane/test_crowd.py

test-stories-single: $(VENV)/.installed tools prometheus ## Every life story for each single write of the operator: hours
	$(RUN) -m pytest -v -n $(WORKERS) --dist loadgroup -k after_one_of_its_writes tests/stories

engine: $(VENV)/.installed ## Install the real vLLM in its CPU build, once per user: 8 GB
	@$(RUN) -m realengine

test-engine: $(VENV)/.installed tools prometheus engine ## What was computed, against the real vLLM
	$(RUN) -m pytest -q --ignore $(TUNING) tests/engine

test-tuning: $(VENV)/.installed tools prometheus engine ## Tuning's story with the real vLLM: six minutes
	$(RUN) -m pytest -q $(TUNING)

bench: $(VENV)/.installed tools ## Benchmarks: tables on the terminal, JSON under build/
	-$(RUN) benchmarks/planning.py
	$(RUN) benchmarks/command_lines.py
	-$(RUN) benchmarks/memory_accuracy.py
	-$(RUN) benchmarks/performance_accuracy.py
	$(RUN) benchmarks/scale.py

generate: $(VENV)/.installed ## Write the generated files
	@mkdir -p crds docs/reference charts/vllm-operator/files
	$(RUN) -m vllm_operator crd > build.crd.tmp && mv build.crd.tmp crds/vllmservers.vllm-operator.io.yaml
	cp crds/vllmservers.vllm-operator.io.yaml charts/vllm-operator/files/
	cp charts/vllm-operator/values.yaml charts/vllm-operator/files/
	$(RUN) -m vllm_operator crd --reference > build.crd.tmp && mv build.crd.tmp docs/reference/vllmserver.md
	$(RUN) -m realengine.served > build.crd.tmp && mv build.crd.tmp docs/models.md
	$(RUN) -m watching

lock: $(VENV)/.installed ## Resolve the hashed requirement locks afresh
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-dev.in -o requirements-dev.txt
	for name in $(basename $(wildcard tools/realengine/locks/*.in)); do $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --override tools/realengine/locks/overrides.txt $$name.in -o $$name.txt || exit; done
	for name in aiconfigurator llm-d-planner; do $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url benchmarks/requirements-$$name.in -o benchmarks/requirements-$$name.txt || exit 1; done

image: $(VENV)/.installed ## The operator's image in build/images, by Docker or else as root; TAG=name
	@$(RUN) -m images operator $(if $(TAG),--tag '$(TAG)')

e2e: $(VENV)/.installed tools ## The operator as it ships, on nodes with the real kubelet: needs root
	@$(RUN) -m localcluster real-nodes
	@$(MAKE) --no-print-directory engine
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile -o timeout=1800 tests/e2e

release: check ## What is published of a release, in dist/; VERSION= REPOSITORY= IMAGE=: docs/releasing.md
	@$(RUN) -m images release $(if $(VERSION),--version '$(VERSION)') $(if $(REPOSITORY),--repository '$(REPOSITORY)') $(if $(IMAGE),--image '$(IMAGE)')

clean: ## Remove the virtual environment and build outputs
	rm -rf $(VENV) build dist
