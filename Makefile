# `make help` lists the targets.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## install what is missing: .venv, the Docker engine
	@tests/venv.sh
	@tests/lab/engine.sh up

link: ## make this checkout importable as webops.php_stack
	@tests/venv.sh

lab: setup ## start a Debian 12 lab host (systemd, nginx, php8.2-fpm)
	@tests/lab/images.sh stack
	tests/lab/lab.py up
	tests/lab/lab.py inventory php-stack-lab >.cache/lab/inventory.json
	echo "The lab host php-stack-lab runs. Try:"
	echo "  . .venv/bin/activate"
	echo "  ansible -i .cache/lab/inventory.json all -m fpm_pool_facts"
	echo "  docker exec -it php-stack-lab bash"

demo: setup ## break a lab host, harden it, show requests lost before and after
	@tests/lab/images.sh stack
	tests/lab/demo.py

report-demo: setup ## make the report of three lab hosts and its picture, docs/report.png
	@tests/lab/images.sh stack
	tests/lab/report_demo.py

test: setup ## run all the tests
	@tests/lab/images.sh
	tests/run.py

bench-modules: setup ## time the modules against setup and crossplane
	@tests/lab/images.sh stack
	.venv/bin/python tests/bench/bench_modules.py

bench-transaction: setup ## time config_transaction against a loop of template
	@tests/lab/images.sh stack
	tests/bench/bench_transaction.py

bench-reload: setup ## count deployments that a reload loses: flock --nonblock and php-fpm-reload
	@tests/lab/images.sh stack
	tests/bench/bench_reload_race.py

bench-faults: setup ## count what faults cost three stacks; write the README's table, docs/faults.md and the picture
	@tests/lab/images.sh twin
	tests/bench/bench_faults.py

bench-diagnose: setup ## break a lab host in 42 ways, see whether diagnose.yml names each; write docs/diagnose.md
	@tests/lab/images.sh stack
	.venv/bin/python tests/bench/bench_diagnose.py

bench-logs: setup ## time gateway_log_info on 2 GB of logs against grep
	@.venv/bin/python tests/bench/bench_logs.py

docs: link ## write the README's tables from the roles' argument_specs
	@tests/docs.py

build: link ## build the collection's tarball
	@ansible-galaxy collection build --force

clean: ## remove the lab's containers and images, the caches and .venv
	@if docker info >/dev/null 2>&1; then
	  python3 tests/lab/lab.py down --all
	  tests/lab/images.sh --remove
	fi
	tests/lab/engine.sh down
	rm -rf .venv .cache .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup link lab demo test bench-modules bench-transaction bench-reload bench-faults bench-diagnose bench-logs \
  docs build clean
