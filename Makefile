# RenderFleet. `make help` lists the targets; `make demo` and `make test` set up whatever they need first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
PYTHON3 ?= python3
# Most tests wait for a server most of the time, so more of them than cores go side by side.
WORKERS ?= 3
LOCKS := operator api runner standin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# ------------------------------------------------------------------ use it
demo: .venv/ready ## a cluster, the whole fleet in it, and a talking video in out/demo
	$(PY) -m renderfleet_demo run

demo-down: .venv/ready ## take the demo and its cluster away; built programs and images stay cached
	$(PY) -m renderfleet_demo down

# ------------------------------------------------------------------ prove it
test: .venv/ready ## all tests: unit, wire, store, cluster, end to end; WORKERS=3 side by side
	$(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder

test-unit: .venv/ready ## tests that need no server of any kind; under a minute
	$(PY) -m pytest tests/unit

check: .venv/ready ## lint, strict types, import contracts, dependencies, generated files, chart, locks
	$(PY) hack/check.py

bench: .venv/ready ## measure speed; QUICK=1 for the short form
	$(PY) -m renderfleet_bench $(if $(QUICK),--quick)

faults: .venv/ready ## fault suites; SUITE=crash or money
	$(PY) -m renderfleet_faults $(SUITE)

# ------------------------------------------------------------------ keep it
generate: .venv/ready ## write all generated files
	$(PY) hack/generate.py

format: .venv/ready ## let ruff lay out the code
	.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format --quiet .

lock: .venv/ready ## resolve all requirements anew, with hashes and without the address of any index
	.venv/bin/uv pip compile --quiet --upgrade pyproject.toml --extra dev --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --no-header -o requirements/dev.txt
	.venv/bin/uv pip compile --quiet --upgrade tests/data/input/generated-client/requirements.in --generate-hashes \
	  --python-version 3.11 --no-emit-index-url --no-header --no-annotate -o tests/data/input/generated-client/requirements.txt
	for extra in $(LOCKS); do .venv/bin/uv pip compile --quiet pyproject.toml --extra $$extra -c requirements/dev.txt \
	  --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-annotate -o requirements/$$extra.txt; done

.venv/ready: requirements/dev.txt pyproject.toml hack/bootstrap.sh
	hack/bootstrap.sh $(PYTHON3)

.PHONY: help demo demo-down test test-unit check bench faults generate format lock
