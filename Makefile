# Every verb here works on a fresh machine: the first run installs and builds what it needs, and says so.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup outside demo up down build test e2e bench peers fuzz crds manifests verify

# Below the XDG cache folder, so that a fresh clone (CI makes one for every run) finds it warm.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/claviger/target
export CARGO_INCREMENTAL := 0
cargo := cargo --locked
plane := $(cargo) run --quiet --package claviger-testkit --bin with-control-plane --

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing need (starts no service)
	scripts/setup

outside: setup ## Fetch and build the programs of others that the stories use: openid-client, Authlib, MinIO …
	scripts/outside >/dev/null

demo: setup ## The whole promise, shown: sign in, kubectl, refresh; nothing is left behind
	scripts/logged demo scripts/demo

up: setup ## The demo's cluster, left running: see target/dev/env
	scripts/up

down: ## End what `make up` started
	scripts/down

build: setup ## The binary, as it ships
	scripts/logged build $(cargo) build --release --package claviger

test: outside ## Every test: unit, property, and the stories on a real API server
	scripts/logged test $(plane) $(cargo) test --workspace

e2e: outside ## The stories on a real API server alone
	scripts/logged e2e $(plane) $(cargo) test --package claviger-e2e

bench: build ## Rates, API requests, CPU and memory, beside the API server's own: target/bench/
	CLAVIGER_BIN=$(CARGO_TARGET_DIR)/release/claviger scripts/logged bench $(cargo) run --release --package claviger-testkit --bin bench

peers: outside ## What each program that the stories start takes: seconds, memory
	scripts/logged peers $(cargo) run --package claviger-testkit --bin peers

fuzz: setup ## Throw bytes at every parser, guided by coverage, for MINUTES=10 in all; crashes go to fuzz/corpus
	scripts/logged fuzz scripts/fuzz $(or $(MINUTES),10) $(TARGETS)

crds: ## Write the CustomResourceDefinitions from crates/api
	$(cargo) run --quiet --package claviger-api --bin crdgen -- crds

manifests: crds ## Write what follows from them: the chart's copies, deploy/claviger.yaml
	scripts/verify-manifests --write

verify: setup ## Everything but the tests: format, lints, arrows, generated files, docs
	scripts/logged verify scripts/verify
