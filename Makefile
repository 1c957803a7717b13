# `make lab` brings up the lab of ./lab.yaml and replays the tutorial's day; `make help` lists the rest.
# Variables: YES=1 installs system packages without asking; PROVIDER=virtualbox installs for machines of
# VirtualBox (libvirt, nspawn: for those) whatever lab.yaml says; PYTHON=python3.12 names an interpreter;
# ARGS='-k name' goes to pytest; DAY='2028-02-29 12:00' is the day of `make unit-ahead`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
export YES PYTHON DAY PROVIDER
# Three runs of the same tests compile them once.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ARGS ?=
# Every shell script, whether or not its name ends in .sh.
SHELL_SCRIPTS = $(shell { find labctl provision scripts tests -name node_modules -prune -o -name '*.sh' -print; grep -rlIE '^\#!.*\b(ba|da)?sh\b' provision scripts .ci; } | sort -u)

.PHONY: help lab setup dev test lint unit unit-full unit-ahead unit-elsewhere unit-surroundings integration integration-short e2e e2e-short figures prove faults page class-scale ovn-tutorial multinode vm-short vm vm-openstack vm-box arm64 virtualbox-full windows tempest tempest-short format messages messages-check pictures wheel lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: setup ## install what is needed, create the lab of ./lab.yaml and replay the tutorial's day
	$(BIN)/labctl create
	$(BIN)/labctl replay floating-ip

setup: ## what the nodes need, then .venv with the command labctl in it
	@scripts/setup.sh system venv

dev:
	@scripts/setup.sh dev

# Most of the real labs are of containers.
test: PROVIDER := nspawn
test: setup lint unit-surroundings messages-check integration-short e2e-short vm-short ## everything that CI checks

lint: dev ## ruff, mypy, import-linter, vulture, shellcheck
	$(BIN)/ruff check
	@# A file that is read without an encoding is read in cp950 on a Windows in Taiwan.
	$(BIN)/ruff check --preview --select PLW1514 labctl
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin labctl
	$(BIN)/mypy --platform win32 labctl
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture
	$(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR $(SHELL_SCRIPTS)

unit: dev ## tests of what decides: no root, seconds
	$(BIN)/pytest tests/unit --numprocesses auto $(ARGS)

unit-full: dev ## the same, every property tried with hundreds of examples: minutes
	$(BIN)/pytest tests/unit --numprocesses auto --hypothesis-profile full $(ARGS)

unit-ahead: dev ## the same on another day: in a year and a half, or DAY='2028-02-29 23:59:30'
	scripts/unit-under.sh ahead $(ARGS)

unit-elsewhere: dev ## the same in Taiwan's time zone and locale
	scripts/unit-under.sh elsewhere $(ARGS)

# CI has not the minutes for the same tests twice. `make unit` is what one runs here and now all day
# long; what fails only elsewhere would be found by nobody.
unit-surroundings: dev ## both at once, as CI does: another day in another place
	scripts/unit-under.sh ahead elsewhere $(ARGS)

integration: dev ## tests of one part against the real tools
	$(BIN)/pytest tests/integration --numprocesses auto --dist loadfile --durations 10 $(ARGS)

integration-short: dev ## the part of `make integration` that CI runs
	$(BIN)/pytest tests/integration -m 'not long' --numprocesses auto --dist loadfile --durations 10 $(ARGS)

e2e: dev ## tests that create real labs: root, three quarters of an hour
	$(BIN)/pytest tests/e2e --durations 20 $(ARGS)

e2e-short: dev ## the part of `make e2e` that CI runs
	$(BIN)/pytest tests/e2e -m 'not long' --durations 20 $(ARGS)

figures: dev ## the figures of SPECIFICATION.md on a real lab: a table; fails when a promise is exceeded: root
	$(BIN)/python scripts/figures.py $(ARGS)

prove: dev ## labctl prove of all built-in lessons in real labs: half an hour and more
	$(BIN)/pytest tests/e2e/test_prove.py --durations 5 $(ARGS)

faults: dev ## labctl fault: every fault in real labs, what labctl says of it, and that it is mended
	$(BIN)/pytest tests/e2e/test_faults.py --durations 5 $(ARGS)

page: dev ## the page of `labctl open`: a learner's day in Chromium on a real lab, and figures: root
	$(BIN)/pytest tests/e2e/test_page_day.py -rP --durations 10 $(ARGS)

class-scale: dev ## `labctl class` with 30, 100 and 300 learners on a cloud whose hypervisor pretends: root, long
	LABCTL_CLASS_SCALE=1 $(BIN)/pytest tests/e2e/test_class_scale.py -rP --durations 10 $(ARGS)

ovn-tutorial: dev ## OVN's own OpenStack tutorial, its commands one after another in a real lab: root
	$(BIN)/python -m tests.tutorial $(ARGS)

multinode: dev ## OVN's own multinode tests, from Debian's source package, in a lab of nine nodes: root
	$(BIN)/python -m tests.multinode $(ARGS)

vm-short: dev ## the part of `make vm` that CI runs
	$(BIN)/pytest tests/vm -m 'not openstack and not cloud and not virtualbox and not long' --durations 10 $(ARGS)

vm: dev ## an OVN-only lab in virtual machines, emulated if need be
	$(BIN)/pytest tests/vm -m 'not openstack and not cloud and not virtualbox' --durations 10 $(ARGS)

vm-openstack: dev ## the whole lab in virtual machines: half an hour where they are emulated
	$(BIN)/pytest tests/vm -m openstack $(ARGS)

virtualbox-full: dev ## an OVN-only lab in VirtualBox with its driver, on an emulated laptop: hours
	nice -n 10 $(BIN)/pytest tests/vm -m virtualbox --durations 10 $(ARGS)

vm-box: dev ## `labctl box get` in a virtual machine, and a lab of its box: half an hour
	$(BIN)/pytest tests/vm -m cloud $(ARGS)

arm64: dev ## a box for arm64 and an OVN-only lab of such machines, emulated: an hour and more
	@scripts/setup.sh arm64
	nice -n 10 $(BIN)/pytest tests/arm64 --durations 10 $(ARGS)

windows: dev ## labctl as a program of Windows, under wine: root
	$(BIN)/pytest tests/windows --durations 10 $(ARGS)

tempest: dev ## OpenStack's own tests against a lab of ours, docs/tests-of-others.md: root, hours
	@scripts/setup.sh tempest
	$(BIN)/python -m tests.tempest.run $(ARGS)

tempest-short: dev ## a part of `make tempest`: 57 tests
	@scripts/setup.sh tempest
	$(BIN)/python -m tests.tempest.run short $(ARGS)

format: dev ## put imports and layout in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

messages: dev ## collect what labctl says, and compile its translations
	$(BIN)/python scripts/messages.py

messages-check: dev ## whether everything that labctl says is translated
	$(BIN)/python scripts/messages.py --check

pictures: dev ## draw the README's pictures anew, from a real lab (destroys the one of ./lab.yaml)
	$(BIN)/labctl destroy
	$(BIN)/python scripts/picture.py docs/images/create.svg --title 'labctl create' --rows 34 --until 'Placement' -- $(BIN)/labctl create
	$(BIN)/labctl create
	$(BIN)/labctl goto floating-ip/associate
	$(BIN)/python scripts/picture.py docs/images/next.svg --title 'labctl next' --rows 50 -- $(BIN)/labctl next
	$(BIN)/python scripts/open-picture.py $(BIN)/labctl docs/images/open.png
	$(BIN)/labctl goto floating-ip/ping-out
	$(BIN)/python scripts/picture.py docs/images/walk.svg --title 'labctl walk ping vm_1 8.8.8.8' --columns 120 --rows 55 -- $(BIN)/labctl walk ping vm_1 8.8.8.8
	$(BIN)/python scripts/picture.py docs/images/replay.svg --title 'labctl replay floating-ip' --rows 45 --until '10/11' -- $(BIN)/labctl replay floating-ip
	$(BIN)/labctl graph --output docs/images/graph.svg
	$(BIN)/labctl walk ping vm_1 8.8.8.8
	$(BIN)/labctl report
	$(BIN)/python scripts/page-picture.py report.html docs/images/report.png
	rm report.html

wheel: dev ## dist/*.whl
	$(BIN)/python -m hatchling build -t wheel

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml

lock: ## renew requirements.lock and requirements-dev.lock, versions and hashes (needs uv)
	rm -f requirements.lock requirements-dev.lock
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --group build --group dev --constraint requirements.lock -o requirements-dev.lock

clean: ## remove .venv, builds and caches; the lab itself is for `labctl destroy`
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find labctl tests -name __pycache__ -type d -prune -exec rm -rf {} +
