# `make demo` and `make test` set up everything that they need; see tools/.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.10 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then echo $$p; break; fi; done)
VENV_PYTHON := .venv/bin/python
.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help setup setup-tests demo test test-cluster lab lint format docs bench bench-jobs bench-snapshot bench-scale bench-cluster bench-users test-evictions fuzz dist clean
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

setup: ## Python environment, front-end build, isolation
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed." >&2; exit 1; }
	@$(PYTHON) tools/prepare.py

setup-tests:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed." >&2; exit 1; }
	@$(PYTHON) tools/prepare.py --tests

demo: setup ## run the main job on a real example and show what comes home
	@$(VENV_PYTHON) tools/demo.py

test: setup-tests ## lint, pytest, jest, wheel and browser tests
	@$(VENV_PYTHON) tools/check.py

test-cluster: setup ## on a real Kubernetes and Kueue: one that is built here (root, Go), or that of KUBECONFIG
	@$(PYTHON) tools/prepare.py --cluster
	@test -n "$$KUBECONFIG" || { $(VENV_PYTHON) -m testbed build --fake-nodes 20 && $(VENV_PYTHON) -m pytest tests/testbed; }
	@$(VENV_PYTHON) -m testbed run --fake-nodes 20 $(VENV_PYTHON) -m pytest tests/cluster

lab: setup ## open JupyterLab with the examples
	@.venv/bin/jupyter lab --ServerApp.root_dir=examples

lint: setup ## every static check, changing nothing
	@$(VENV_PYTHON) tools/check.py lint

format: setup ## format Python and TypeScript
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix . ; PATH=".venv/bin:$$PATH" npm run --silent lint

docs: setup ## regenerate docs/performance.md and the reference tables from the sources
	@$(VENV_PYTHON) tools/write_docs.py

bench: bench-jobs bench-snapshot bench-scale ## measure everything (about an hour) and regenerate docs/performance.md

bench-jobs: setup ## measure against jupyter-scheduler (about 20 minutes)
	@$(VENV_PYTHON) benchmarks/local.py --json benchmarks/results/local.json
	@cp benchmarks/results/local.json docs/performance.json
	@$(VENV_PYTHON) tools/write_docs.py

bench-snapshot: setup ## measure snapshots against restic and borg (about 20 minutes)
	@$(VENV_PYTHON) benchmarks/snapshot.py --json benchmarks/results/snapshot.json
	@cp benchmarks/results/snapshot.json docs/snapshot-performance.json
	@$(VENV_PYTHON) tools/write_docs.py

bench-scale: setup ## measure snapshots of up to a million files (about 10 minutes)
	@$(VENV_PYTHON) benchmarks/snapshot_scale.py --json benchmarks/results/scale.json
	@cp benchmarks/results/scale.json docs/snapshot-scale.json
	@$(VENV_PYTHON) tools/write_docs.py

test-evictions: setup ## twenty evictions of five jobs on a cluster that is built here (root, Go; about 5 minutes)
	@$(PYTHON) tools/prepare.py --cluster
	@AI_BATCH_EVICTIONS=20 $(VENV_PYTHON) -m testbed run $(VENV_PYTHON) -m pytest tests/cluster/test_eviction.py

bench-cluster: setup ## measure jobs on a cluster that is built here (root, Go; about 10 minutes once it is built)
	@$(PYTHON) tools/prepare.py --cluster
	@$(VENV_PYTHON) -m testbed run $(VENV_PYTHON) benchmarks/cluster.py --json benchmarks/results/cluster.json
	@$(VENV_PYTHON) -m testbed run $(VENV_PYTHON) benchmarks/cluster_insight.py --json benchmarks/results/insight.json
	@cp benchmarks/results/cluster.json docs/cluster-performance.json
	@cp benchmarks/results/insight.json docs/cluster-insight.json
	@$(VENV_PYTHON) tools/write_docs.py

bench-users: setup ## measure 200 users with 20 submissions each, and a server's memory (root, Go; about 20 minutes)
	@$(PYTHON) tools/prepare.py --cluster
	@$(VENV_PYTHON) -m testbed run --fake-nodes 20 $(VENV_PYTHON) benchmarks/cluster_users.py --json benchmarks/results/users.json
	@$(VENV_PYTHON) -m testbed run $(VENV_PYTHON) benchmarks/cluster_memory.py --json benchmarks/results/memory.json
	@cp benchmarks/results/users.json docs/cluster-users.json
	@cp benchmarks/results/memory.json docs/cluster-memory.json
	@$(VENV_PYTHON) tools/write_docs.py

FUZZ_SECONDS ?= 300
fuzz: setup ## try to break what reads stored Snapshots, five minutes for each harness
	@.venv/bin/pip install --quiet "atheris>=3"
	@scratch=$$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	for harness in layers tars records references; do \
		echo "$$harness" && TMPDIR="$$scratch" .venv/bin/python fuzz/$$harness.py \
			-max_total_time=$(FUZZ_SECONDS) -artifact_prefix=fuzz/ -print_final_stats=1 || exit 1; done

dist: setup ## sdist, and a wheel from it, in dist/
	@$(VENV_PYTHON) tools/check_wheel.py --keep dist

clean: ## remove what was built or installed here
	rm -rf .venv node_modules ui-tests/node_modules lib dist build jupyterlab_ai_batch/labextension *.tsbuildinfo
