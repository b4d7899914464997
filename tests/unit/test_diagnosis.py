# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of bench-diagnose: what counts as right, and what the page says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lab"), str(TESTS / "bench")]

import bench_diagnose
import faults
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import CAUSES
from diagnosis import PAIRS, Trial

ONE = Trial(
    ("reload",),
    ("reload_cut_requests",),
    "reload_cut_requests",
    ("reload_cut_requests",),
    "502: cut",
    "",
    3.21,
)
TWO = Trial(
    ("extension", "worker_segv"), ("extension_denied", "worker_crashed"), "worker_crashed",
    ("worker_crashed", "extension_denied"), "502: crashed",
)  # fmt: skip


def trial(base: Trial, **changes: Any) -> Trial:
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (ONE, ""),
        (trial(ONE, top="upstream_reset"), "the top verdict is upstream_reset"),
        (trial(ONE, top=None, named=()), "the top verdict is no cause"),
        # A single fault may have consequences that are causes too.
        (trial(ONE, named=("reload_cut_requests", "read_timeout")), ""),
        (trial(ONE, problem="diagnose.yml failed"), "diagnose.yml failed"),
        (TWO, ""),
        (trial(TWO, top="extension_denied"), ""),
        (trial(TWO, named=("worker_crashed",)), "not named: extension_denied"),
        (trial(TWO, named=(*TWO.named, "read_timeout")), "named too: read_timeout"),
        (trial(TWO, top="read_timeout"), "the top verdict is read_timeout"),
    ],
)
def test_right_and_wrong(found: Trial, wrong: str) -> None:
    assert found.wrong == wrong


def results(*trials: Trial) -> dict[str, Any]:
    return {
        "seconds": 125,
        "machine": {"cpus": 2, "packages": ["nginx 1.22"]},
        "trials": [bench_diagnose.plain_trial(one) for one in trials],
    }


def test_the_page_counts_and_marks_what_is_wrong() -> None:
    page = bench_diagnose.page(results(ONE, trial(ONE, top="a|b", headline="x\ny | z"), TWO))
    assert "Right: **1 of 2** faults and **1 of 1** pairs, in 2 min 5 s on 2 cores." in page
    assert "| reload | `reload_cut_requests` | `reload_cut_requests` | right | 3.2 | 502: cut |" in page
    assert "| `a\\|b` | **wrong**: the top verdict is a\\|b | 3.2 | x y \\| z |" in page
    # What was not tried is said.
    assert "`socket_missing`" in page


def test_every_cause_that_a_container_can_have_is_injected() -> None:
    named = {fault.verdict for fault in faults.FAULTS}
    assert set(CAUSES) - named == {"selinux_denied"}
    assert len(PAIRS) >= 5
    assert {name for pair in PAIRS for name in pair} <= set(faults.BY_NAME)
