# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Demand as a ceiling, from numbers, status pages and access logs; and the text that a person reads."""

from __future__ import annotations

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import ServiceMemory
from ansible_collections.webops.php_stack.plugins.module_utils.sizing import plan_host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_demand import LogDemand, from_log
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_evidence import Readings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_words import result
from sizing_samples import HOST, MIB, NOTHING, facts_of, facts_pool, inputs, peaks, process


def test_demand_from_the_status_page_only_when_asked_and_never_full() -> None:
    readings = Readings(HOST, peaks())
    assert inputs(facts_of(facts_pool()), readings).pools[0].demand is None
    demand = inputs(facts_of(facts_pool()), readings, demand_from_status=True).pools[0].demand
    assert demand is not None
    assert (demand.ceiling, demand.words) == (
        6, "at most 4 workers were busy at once since the start (9000 requests in 600 s)",
    )  # fmt: skip
    full = facts_pool(
        status={"state": "ok", "accepted_conn": 9000, "max_active_processes": 5, "max_children_reached": 2}
    )
    assert inputs(facts_of(full), readings, demand_from_status=True).pools[0].demand is None


def test_demand_binds_and_says_so() -> None:
    wanted = [{"name": "w", "version": "8.2", "worker_memory": "80M",
               "demand": {"requests_per_second": 12.0, "duration_seconds": 0.25, "factor": 2.0}}]  # fmt: skip
    built = inputs(NOTHING, Readings(), pools=wanted, total_memory="2G", measure=False)
    done = result(plan_host(built.budget, list(built.pools)))
    assert (done["plan"][0]["pm"]["max_children"], done["plan"][0]["binding"]) == (6, "demand")
    assert (
        "The demand is the limit: more workers would stay idle. Demand: 12 requests/s × 0.25 s = 3.0 busy workers"
        " (given), × 2 = 6."
    ) in done["plan"][0]["reasoning"]


COMBINED = '203.0.113.9 - - [21/Nov/2026:03:{minute}:07 +0000] "GET /?rt=9&a= urt=7 HTTP/1.1" 200 612 "http://a/?rt=9" "curl/8"'


@pytest.mark.parametrize(
    ("lines", "duration", "expected"),
    [
        ([], 1.0, None),
        (["nonsense", ""], 1.0, None),
        ([COMBINED.format(minute="41")], None, None),
        ([COMBINED.format(minute="41") + " rt=1.2"], None, LogDemand("21/Nov/2026:03:41", 1, 1, 1.2, 0.02, True)),
        ([COMBINED.format(minute="41") + " urt=0.600"] * 3 + [COMBINED.format(minute="42") + " urt=0.600"], None,
         LogDemand("21/Nov/2026:03:41", 3, 4, 0.6, 0.03, True)),
        # nginx answered alone, and a retry that kept two workers busy.
        (["[21/Nov/2026:03:41:07 +0000] rt=9.1 urt=-", "[21/Nov/2026:03:41:09 +0000] rt=9.1 urt=1.500, 1.500"], None,
         LogDemand("21/Nov/2026:03:41", 1, 2, 3.0, 0.05, True)),
        (['{"time":"2026-11-21T03:41:07+00:00","request_time":9.1,"upstream_response_time":"0.300"}'] * 20, None,
         LogDemand("2026-11-21T03:41", 20, 20, 0.3, 0.1, True)),
        (["[21/Nov/2026:03:41:07 +0000] ok"] * 30, 0.2, LogDemand("21/Nov/2026:03:41", 30, 30, 0.2, 0.1, False)),
        (["[21/Nov/2026:03:41:07 +0000] ok"] * 30, None, None),
    ],
)  # fmt: skip
def test_access_logs(lines: list[str], duration: float | None, expected: LogDemand | None) -> None:
    found = from_log(lines, duration)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert (found.minute, found.requests, found.lines, found.timed) == (
        expected.minute, expected.requests, expected.lines, expected.timed,
    )  # fmt: skip
    assert found.mean_seconds == pytest.approx(expected.mean_seconds)
    assert found.concurrency == pytest.approx(expected.concurrency)


# The words


def test_the_text_a_person_reads() -> None:
    processes = {**peaks(), 99: process(99, 7, 40)}
    services = (ServiceMemory("nginx", (7, 8), 12 * MIB),)
    readings = Readings(
        HOST, processes, services=services, php_ini={"8.2": {"memory_limit": ("128M", "/php.ini")}}
    )
    built = inputs(facts_of(facts_pool()), readings, tolerance=20.0)
    done = result(plan_host(built.budget, list(built.pools)), built.notes)
    assert done["summary"] == [
        "Memory: 4096 MiB (MemTotal of /proc/meminfo)",
        "  - 12 MiB nginx (measured: PSS of 2 processes)",
        "  - 977 MiB everything else (measured: in use now, less the above and PHP-FPM)",
        "  - 311 MiB headroom (10 %)",
        "  - 37 MiB shared by the workers of php8.2-fpm.service (measured: OPcache, libraries and the master)",
        "  = 2759 MiB for workers, 2730 MiB planned",
        "www (PHP 8.2): pm = dynamic, max_children 5 -> 91 (limit: memory; confidence: high; by RSS 46, by private"
        " memory 91)",
    ]
    assert done["plan"][0]["reasoning"] == [
        "One worker costs 30 MiB: 95 % of 4 workers stay below it (the private memory peaks).",
        "memory_limit would allow 128 MiB (/php.ini).",
        "Its 4 workers served 9000 requests.",
        "By RSS (60 MiB a worker, what is shared counted in each) memory would allow 46; by private memory (30 MiB,"
        " 37 MiB shared counted once) 91.",
        "2759 MiB for workers / 30 MiB = 91 workers that memory allows.",
        "The host's memory is the limit.",
        "pm = dynamic: starts 18, keeps 9 to 28 idle, at most 91.",
    ]
    assert done["plan"][0]["changed_from"] == 5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": {"state": "ok", "accepted_conn": 20, "max_children_reached": 1}}, 18),
        ({"status": {"state": "saturated"}}, 18),
        ({"status": {"state": "not_configured"}, "queue": {"waiting": 3, "backlog": 511}}, 18),
        ({"status": {"state": "not_configured"}, "queue": {"waiting": 0, "backlog": 511}}, 5),
    ],
)
def test_a_pool_that_is_full_grows_on_little_evidence(changes: dict[str, object], expected: int) -> None:
    built = inputs(facts_of(facts_pool(**changes)), Readings(HOST, peaks()), total_memory="3600M")
    plan = plan_host(built.budget, list(built.pools))
    # (3600 - 996 - 260.4 - 30) / 128 = 18.07
    assert plan.shares[0].children == expected
    words = result(plan)["plan"][0]["reasoning"]
    full = "The pool was full: it may grow as far as memory_limit, the worst case, fits."
    assert (full in words) == (expected == 18)
