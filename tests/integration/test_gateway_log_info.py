# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on a lab host: the logs alone, and logs and configurations together, must name them.

The short form of tests/bench/bench_diagnose.py, which injects all faults and runs the playbook.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import diagnosis
import faults
import lab

NAME = "php-stack-test-gateway-logs"
# journald is stopped, and goes on two seconds after the requests: as on a machine that is too busy.
PAUSE = "kill -STOP $(systemctl show -P MainPID systemd-journald)"
GO_ON = """
end=$(($(date +%s) + 3)); until [ "$(date +%s)" -ge "$end" ]; do :; done
kill -CONT $(systemctl show -P MainPID systemd-journald); journalctl --sync
"""


@pytest.fixture(scope="session")
def host() -> Iterator[faults.Host]:
    lab.up(NAME, "stack", None, True)
    yield faults.Host(NAME)
    lab.down([NAME])


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> diagnosis.Control:
    return diagnosis.Control(tmp_path_factory.mktemp("inventory") / "hosts.json", [NAME])


def since(host: faults.Host) -> str:
    return host.run("cat /run/lab/since").strip()


def causes(result: dict[str, Any]) -> dict[str, int]:
    return {cause["id"]: cause["count"] for cause in result["causes"]}


@pytest.mark.parametrize(
    "name",
    ["service_stopped", "socket_mode", "wrong_version_socket", "peer_resets", "terminate_timeout", "worker_segv", "reload",
     "restart", "broken_pool_reload", "pool_user", "start_limit", "max_children", "backlog", "big_response_header",
     "php_memory"],
)  # fmt: skip
def test_a_fault_comes_first(host: faults.Host, control: diagnosis.Control, name: str) -> None:
    fault = faults.BY_NAME[name]
    diagnosis.inject(host, [name])
    result = control.module("stack_audit", NAME, since=since(host))
    assert next(iter(causes(result))) == fault.verdict
    assert result["verdict"][0]["cause"] == fault.verdict, result["text"]


@pytest.mark.parametrize("pair", diagnosis.PAIRS, ids="+".join)
def test_two_faults_at_once_are_both_named(
    host: faults.Host, control: diagnosis.Control, pair: tuple[str, str]
) -> None:
    trial = diagnosis.attempt(control, host, pair)
    assert trial.wrong == "", trial.screen


def test_a_journal_that_is_late_changes_nothing(host: faults.Host, control: diagnosis.Control) -> None:
    """FPM's own lines get the time at which journald came to them: after nginx's failure that they explain."""
    diagnosis.inject(host, ["extension"])
    host.run(PAUSE)
    host.inject(faults.BY_NAME["broken_pool_reload"])
    host.provoke(faults.BY_NAME["broken_pool_reload"])
    host.run(GO_ON)
    result = control.module("gateway_log_info", NAME, since=since(host))
    assert causes(result) == {"config_invalid": 1, "extension_denied": 1}
    assert result["causes"][0]["consequences"] == [{"id": "socket_refused", "count": 1}]


def test_a_program_that_is_no_pool_is_not_blamed_on_a_restart_of_fpm(
    host: faults.Host, control: diagnosis.Control
) -> None:
    diagnosis.inject(host, ["peer_closes"])
    host.run("systemctl restart php8.2-fpm; get /ok.php")
    first = control.module("stack_audit", NAME, since=since(host))["verdict"][0]
    assert first["cause"] == "premature_close"
    assert "no pool listens on 127.0.0.1:9108, but python3 (pid " in first["headline"]


def test_a_healthy_host_has_no_causes(host: faults.Host, control: diagnosis.Control) -> None:
    diagnosis.inject(host, [])
    result = control.module("gateway_log_info", NAME, since=since(host))
    assert result["causes"] == []
    assert result["unexplained"]["count"] == 0
