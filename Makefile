# Whetstone's commands. `make` lists them.
#
#   PROFILE=cpu    a machine without a GPU
#   ADAPTER=NAME   which adapter, where there are several;  VERSION=N  which of its versions
#   SET="recipe.epochs=2 adapter.name=support"   settings of config/training.toml to override once

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PROFILE ?=
ADAPTER ?=
VERSION ?=
SET ?=
ROWS ?= 3
ROW ?=
NAME ?=
MODELS ?=
PYTHON ?= python3

# Containers run as the operator, or as 10001 where the operator is root.
WHETSTONE_UID ?= $(shell id -u | sed 's/^0$$/10001/')
WHETSTONE_GID ?= $(shell id -g | sed 's/^0$$/10001/')
WHETSTONE_DATA_DIR ?= ./data
export WHETSTONE_UID WHETSTONE_GID WHETSTONE_DATA_DIR

COMPOSE := docker compose -f compose.yaml $(if $(filter cpu,$(PROFILE)),-f compose.cpu.yaml)
TRAINER := $(COMPOSE) run --rm trainer
REGISTRY := $(COMPOSE) run --rm registry
SETTINGS := $(foreach item,$(SET),--set $(item))
WHICH := $(if $(ADAPTER),--adapter $(ADAPTER))

.PHONY: help demo test fast lint format preflight folders build model up down logs status check-data preview retrain \
        versions promote rollback verify key keys lock clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nvariables: PROFILE=cpu ADAPTER= VERSION= SET="table.key=value ..." ROWS= ROW=file:line NAME= MODELS= JSON=\n'

##@ Without Docker and without a GPU
demo: START := $(shell date +%s)
demo: .venv/.ready ## learn the example company on this machine and ask about it, base and adapter side by side
	.venv/bin/python -m tools.demo --since $(START) $(if $(JSON),--json $(JSON))

test: .venv/.ready lint ## every test that needs neither Docker nor a GPU, the real engine's included
	.venv/bin/python -m pytest
	.venv/bin/python -m pytest -m e2e

fast: .venv/.ready ## the tests that take less than a minute
	.venv/bin/python -m pytest

lint: .venv/.ready ## formatting, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: .venv/.ready ## format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

.venv/.ready: images/requirements/dev.txt
	python3.11 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r images/requirements/dev.txt
	touch $@

##@ The appliance
preflight: ## check this machine for what `make up` needs; changes nothing
	@$(PYTHON) -m tools.preflight $(if $(filter cpu,$(PROFILE)),--cpu)

folders: ## make the folders below data/ that the containers mount
	mkdir -p $(addprefix $(WHETSTONE_DATA_DIR)/,datasets models runs registry keys cache/server cache/trainer)
	@[ "$$(id -u)" != 0 ] || chown $(WHETSTONE_UID):$(WHETSTONE_GID) $(addprefix $(WHETSTONE_DATA_DIR)/,models runs registry keys cache/server cache/trainer)

build: folders ## build both images
	$(COMPOSE) --profile train build

model: folders ## fetch the base model of config/base.toml into data/models (the only step with a network)
	$(COMPOSE) run --rm model

up: preflight ## start the server
	$(COMPOSE) up --detach --wait --wait-timeout 900 server

down: ## stop the server; data stay
	$(COMPOSE) --profile train down

logs: ## follow the server's log
	$(COMPOSE) logs --follow server

status: ## what the server serves, and what it refused and why
	$(COMPOSE) ps
	$(COMPOSE) exec server python -m services.server status

##@ Your data
check-data: ## check every row of data/datasets without training
	$(TRAINER) check-data $(SETTINGS)

preview: ## show how rows are rendered and what is learnt (ROWS=3, or ROW=file.jsonl:12)
	$(TRAINER) preview --rows $(ROWS) $(if $(ROW),--row $(ROW)) $(SETTINGS)

retrain: preflight ## train on the rows as they are now, publish, put in service
	$(TRAINER) retrain $(SETTINGS)

##@ Versions
versions: ## list the versions of every adapter
	$(REGISTRY) versions $(WHICH)

promote: ## put VERSION= in service
	$(REGISTRY) promote $(WHICH) --version $(VERSION)

rollback: ## put the version before back in service
	$(REGISTRY) rollback $(WHICH)

verify: ## recheck every file of every version against its manifest
	$(REGISTRY) verify $(WHICH)

##@ Keys
key: ## make an API key for NAME= (MODELS=a,b limits it); it is shown once
	$(COMPOSE) run --rm --no-deps keys key add $(NAME) $(if $(MODELS),--models $(MODELS))

keys: ## list the API keys
	$(COMPOSE) run --rm --no-deps keys key list

##@ Maintenance
lock: ## lock all requirements anew, with hashes (needs uv)
	images/lock.sh

clean: ## remove the environment, caches and the demo's data; data/registry and data/models stay
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache data/demo data/test data/cache
