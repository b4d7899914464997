# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: running a module by hand on the host, and the answers that several tests look at."""

from __future__ import annotations

import json
import os
import subprocess

import pytest


@pytest.fixture(scope="module")
def versions(host):
    """The PHP versions of the host, oldest first."""
    return host.ansible.get_variables()["php_versions"]


@pytest.fixture(scope="module")
def ask(host):
    """ask(module, **params) -> the result of ``ansible HOST -m MODULE``, also of one that failed."""

    def run(module, **params):
        command = ["ansible", "-i", os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname()]
        command += ["-m", f"webops.php_stack.{module}", *(["-a", json.dumps(params)] if params else [])]
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return {**json.loads(done.stdout.partition("=>")[2]), "failed": done.returncode != 0}

    return run


@pytest.fixture(scope="module")
def facts(ask):
    return ask("fpm_pool_facts")["ansible_facts"]


@pytest.fixture(scope="module")
def shops(facts):
    """The pool that prepare.yml made, by its version."""
    return {pool["version"]: pool for pool in facts["fpm_pools"] if pool["name"] == "shop"}


@pytest.fixture(scope="module")
def sizing(ask):
    return ask("fpm_sizing")
