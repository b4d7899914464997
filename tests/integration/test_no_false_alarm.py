# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three stacks of the fault lab, at work and without a fault: nothing critical, and no cause of failures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import lab
from diagnosis import Control
from faultlab.stacks import SATURATED_SITE, SITE, STACKS, Stack

# Visitors of both sites, what they send, and a request that takes its time.
TRAFFIC = f"""
date +@%s >/root/since
hey -n 200 -c 3 -host {SITE} 'http://127.0.0.1/load.php?ms=20'
hey -n 50 -c 2 -m POST -d name=value -host {SATURATED_SITE} 'http://127.0.0.1/load.php?ms=20'
hey -n 2 -c 2 -host {SITE} 'http://127.0.0.1/load.php?ms=1500'
"""


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stack]]:
    folder = tmp_path_factory.mktemp("quiet")
    found = {key: kind() for key, kind in STACKS.items()}
    for key, stack in found.items():
        stack.name = f"php-stack-test-quiet-{key}"
        stack.inventory, stack.log = folder / f"{key}.json", folder / f"{key}.log"
    try:
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(lambda stack: stack.set_up(), found.values()))
        yield found
    finally:
        lab.down([stack.name for stack in found.values()])


@pytest.fixture(scope="session", params=STACKS)
def audited(request: pytest.FixtureRequest, stacks: dict[str, Stack]) -> dict[str, Any]:
    stack = stacks[request.param]
    answers = stack.sh(TRAFFIC).stdout
    assert answers.count("[200]") == 3, answers
    since = stack.sh("cat /root/since").stdout.strip()
    return Control(stack.inventory, [stack.name]).module("stack_audit", stack.name, since=since)


def test_nothing_is_critical(audited: dict[str, Any]) -> None:
    failed = [one for one in audited["findings"] if one["status"] == "fail"]
    assert [
        (one["id"], one["subject"], one["found"]) for one in failed if one["severity"] == "critical"
    ] == []


def test_no_cause_is_named(audited: dict[str, Any]) -> None:
    assert audited["causes"] == []
    assert [one["headline"] for one in audited["verdict"] if one["cause"]] == []


def test_the_logs_were_read(audited: dict[str, Any]) -> None:
    # No log would be no proof.
    assert "No log of nginx or PHP-FPM was read." not in audited["limits"]
