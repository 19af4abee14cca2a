# `make quickstart` runs the main job, `make test` runs every test; both set the machine up first.
SHELL := bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: quickstart tuning-demo test setup setup-tests check format unit conformance e2e soak wheel lock generate clean

quickstart: setup  ## Start, apply a Workspace, wait, ask it a question, print the answer.
	kaito-ray quickstart

tuning-demo: setup-tests  ## Tune a small model on this machine, push the adapter to a local registry, serve it, ask it.
	python examples/tuning/demo.py

test: setup-tests check wheel conformance e2e  ## Everything.

setup:  ## The virtual environment and kubectl.
	@.ci/setup

setup-tests:  ## The same, and what the tests need (chromium, docker-registry, skopeo).
	@.ci/setup --tests

check:  ## Format, lint, types, layers, unit and contract tests: under three minutes.
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	pytest -q tests/unit tests/contract

format:  ## Put the code in order.
	ruff format .
	ruff check --fix .

wheel:  ## The built wheel works outside the checkout.
	pytest -q tests/wheel

conformance:  ## What the API server does, through kubectl and the Python client. KAITO_RAY_CONFORMANCE_KUBECONFIG names another cluster.
	pytest -q tests/conformance

e2e:  ## A real API server, a real Ray cluster, a real vLLM, a real browser.
	pytest -q tests/e2e

SOAK_S ?= 1800
SOAK_JSON ?= $(CURDIR)/benchmarks/local/results/soak.json

soak:  ## Load without end while everything changes: SOAK_S seconds, half an hour by default; the figures go to SOAK_JSON.
	KAITO_RAY_SOAK_S=$(SOAK_S) KAITO_RAY_SOAK_JSON=$(SOAK_JSON) pytest -q tests/e2e/soak

lock:  ## Pin every dependency, with hashes.
	uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --override .lock-overrides \
	  --no-emit-index-url --generate-hashes --extra cpu --extra tuning --extra dev pyproject.toml \
	  --custom-compile-command "make lock" -o requirements.lock

generate:  ## Files that are made from others: the CRD, tables and references in docs.
	python -m kaito_ray.api.crd > charts/kaito-ray/templates/crd-workspaces.yaml
	python -m kaito_ray.estimator.docs models > docs/models.md
	python -m kaito_ray.estimator.docs machines > docs/machines.md
	sed -i '/^## Reference/,$$d' docs/cli.md && python -m kaito_ray.cli.reference >> docs/cli.md

clean:  ## What can be made again.
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
