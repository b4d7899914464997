# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_log_info on a lab host: faults are injected, the module alone must name them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))
import faults
import lab

NAME = "php-stack-test-gateway-logs"


@pytest.fixture(scope="session")
def host() -> Iterator[faults.Host]:
    lab.up(NAME, "stack", None, True)
    yield faults.Host(NAME)
    lab.down([NAME])


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inventory") / "hosts.json"
    path.write_text(lab.inventory([NAME]))
    return path


def explain(inventory: Path, **params: Any) -> dict[str, Any]:
    """The module over Ansible, with discovery and the running journal."""
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible"), "-i", str(inventory), "all", "-m", "webops.php_stack.gateway_log_info",
         "-a", json.dumps(params)],
        check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    start = done.stdout.find("{")
    assert start >= 0, done.stdout + done.stderr
    answer, _unused = json.JSONDecoder().raw_decode(done.stdout[start:])
    result: dict[str, Any] = answer["plays"][0]["tasks"][0]["hosts"][NAME] if "plays" in answer else answer
    assert "msg" not in result, result
    return result


def causes(host: faults.Host, inventory: Path, *names: str) -> dict[str, int]:
    """What the module says after these faults, each provoked while all are in place."""
    host.restore()
    host.clear_logs()
    since = host.run("cat /run/lab/since").strip()
    for name in names:
        host.inject(faults.BY_NAME[name])
        host.provoke(faults.BY_NAME[name])
    result = explain(inventory, since=since)
    assert result["unexplained"]["count"] == 0
    return {cause["id"]: cause["count"] for cause in result["causes"]}


@pytest.mark.parametrize(
    "name",
    ["service_stopped", "socket_mode", "terminate_timeout", "worker_segv", "reload", "restart", "broken_pool_reload",
     "start_limit", "max_children", "backlog", "big_response_header", "php_memory"],
)  # fmt: skip
def test_a_fault_comes_first(host: faults.Host, inventory: Path, name: str) -> None:
    found = causes(host, inventory, name)
    assert next(iter(found)) == faults.BY_NAME[name].cause


def test_a_socket_of_another_version_is_a_wrong_path(host: faults.Host, inventory: Path) -> None:
    # Only the module knows the pools' listeners; from the logs alone this is socket_missing.
    assert causes(host, inventory, "wrong_version_socket") == {"path_mismatch": 1}


@pytest.mark.parametrize(
    "pair",
    [
        ("worker_segv", "big_response_header"),
        ("terminate_timeout", "worker_segv"),
        ("php_exception", "restart"),
        ("slow_page", "worker_kill"),
    ],
)
def test_two_faults_at_once_are_both_named(host: faults.Host, inventory: Path, pair: tuple[str, str]) -> None:
    found = causes(host, inventory, *pair)
    assert {faults.BY_NAME[name].cause for name in pair} <= set(found)
    assert set(found) - {faults.BY_NAME[name].cause for name in pair} == set()


def test_a_healthy_host_has_no_causes(host: faults.Host, inventory: Path) -> None:
    assert causes(host, inventory) == {}
