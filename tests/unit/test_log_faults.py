# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs of real faults (tests/lab/faults.py recorded them): each leads to its cause, and to no other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from log_tools import FIXTURES, counts, explained

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import faults

# (cause, events, symptoms with another name, other causes that are right as well)
EXPECTED: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {
    "backlog": (5, {}, {}),
    "broken_pool_reload": (1, {"socket_refused": 1}, {}),
    "max_children": (4, {"read_timeout": 4}, {}),
    "max_children_ondemand": (4, {"read_timeout": 4}, {}),
    "peers_disabled": (6, {}, {"upstream_reset": 4}),
    "pool_user": (1, {"socket_missing": 1}, {}),
    "port_taken": (1, {"socket_missing": 1}, {}),
    "reload": (1, {"upstream_reset": 1}, {}),
    "restart": (1, {"upstream_reset": 1}, {}),
    "start_limit": (1, {"socket_missing": 1}, {}),
    "terminate_timeout": (1, {"upstream_reset": 1}, {}),
    "worker_kill": (1, {"upstream_reset": 1}, {}),
    "worker_memory": (1, {"upstream_reset": 1}, {}),
    "worker_segv": (1, {"upstream_reset": 1}, {}),
    "worker_segv_in_body": (1, {"response_truncated": 1}, {}),
}


def recorded(name: str, *kinds: str) -> dict[str, str]:
    folder = FIXTURES / name
    return {
        kind: (folder / f"{kind}.log").read_text()
        for kind in kinds or ("nginx", "fpm", "journal", "kernel")
        if (folder / f"{kind}.log").exists()
    }


def explain_fault(name: str, *kinds: str) -> dict[str, Any]:
    return explained(**recorded(name, *kinds))


def test_every_fault_is_recorded() -> None:
    assert sorted(folder.name for folder in FIXTURES.iterdir()) == sorted(faults.BY_NAME)


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_fault_leads_to_its_cause(fault: faults.Fault) -> None:
    assert f"{fault.answer} /" in (FIXTURES / fault.name / "answers.log").read_text()
    result = explain_fault(fault.name)
    events, symptoms, others = EXPECTED.get(fault.name, (1, {}, {}))
    assert counts(result) == {fault.cause: events, **others}
    top = result["causes"][0]
    assert top["id"] == fault.cause
    assert top["failed_requests"] == events
    assert {entry["id"]: entry["count"] for entry in top["consequences"]} == symptoms
    assert top["sites"] == ([] if top["id"] == "config_invalid" and not symptoms else
                            [{"name": "shop.example.com", "count": events}])  # fmt: skip
    assert result["unexplained"] == {"count": 0, "kinds": []}
    assert result["limits"] == []


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_another_c_library_changes_nothing(fault: faults.Fault) -> None:
    logs = recorded(fault.name)
    for glibc, musl in (
        ("Connection timed out", "Operation timed out"),
        ("Resource temporarily unavailable", "Try again"),
        ("No route to host", "Host is unreachable"),
        ("Address already in use", "Address in use"),
        ("Connection reset by peer", "连接被重置"),
        ("Connection refused", ""),
    ):
        logs["nginx"] = logs["nginx"].replace(glibc, musl)
    assert counts(explained(**logs)) == counts(explain_fault(fault.name))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("terminate_timeout", "upstream_reset"),
        ("worker_segv", "upstream_reset"),
        ("worker_memory", "upstream_reset"),
        ("reload", "upstream_reset"),
        ("broken_pool_reload", "socket_refused"),
        ("start_limit", "socket_missing"),
        ("max_children", "read_timeout"),
        ("worker_segv_in_body", "response_truncated"),
    ],
)
def test_nginx_s_log_alone_gives_the_symptom(name: str, cause: str) -> None:
    assert list(counts(explain_fault(name, "nginx"))) == [cause]


@pytest.mark.parametrize(
    ("name", "kinds", "cause"),
    [
        ("worker_memory", ("nginx", "fpm"), "worker_killed"),
        ("restart", ("nginx", "journal"), "restart_cut_requests"),
        ("restart", ("nginx", "fpm"), "restart_cut_requests"),
        ("reload", ("nginx", "journal"), "reload_cut_requests"),
        ("reload", ("nginx", "fpm"), "reload_cut_requests"),
        ("broken_pool_reload", ("nginx", "journal"), "config_invalid"),
        ("broken_pool_reload", ("nginx", "fpm"), "socket_refused"),
        ("start_limit", ("nginx", "journal"), "start_limit_hit"),
        ("start_limit", ("nginx", "fpm"), "socket_missing"),
        ("worker_segv", ("fpm",), "worker_crashed"),
        ("terminate_timeout", ("fpm",), "request_terminated"),
        ("max_children", ("fpm",), "max_children_reached"),
        ("broken_pool_reload", ("journal",), "config_invalid"),
        ("pool_user", ("journal",), "pool_user_missing"),
        ("worker_memory", ("kernel",), "worker_oom"),
        ("restart", ("fpm", "journal"), None),
        ("reload", ("fpm", "journal"), None),
    ],
)
def test_each_log_tells_as_much_as_it_can(name: str, kinds: tuple[str, ...], cause: str | None) -> None:
    assert list(counts(explain_fault(name, *kinds))) == ([cause] if cause else [])


@pytest.mark.parametrize(
    "name", ["terminate_timeout", "worker_segv", "broken_pool_reload", "pool_user", "start_limit"]
)
def test_the_evidence_quotes_the_log_that_decided(name: str) -> None:
    words = {
        "terminate_timeout": "execution timed out",
        "worker_segv": "exited on signal 11",
        "broken_pool_reload": "/etc/php/8.2/fpm/pool.d/zz-bad.conf",
        "pool_user": "cannot get uid for user 'nosuchuser'",
        "start_limit": "repeated too quickly",
    }
    evidence = explain_fault(name)["causes"][0]["evidence"]
    assert any(words[name] in entry["text"] for entry in evidence)
    assert all(entry["time"] for entry in evidence)
