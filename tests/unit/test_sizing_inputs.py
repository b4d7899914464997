# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From parameters, facts and readings to the plan: sizes, evidence, reserves, demand."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import (
    HostMemory,
    ProcessMemory,
    ServiceMemory,
    UnitLimits,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing import plan_host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_evidence import Readings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import (
    InputError,
    current_settings,
    parse_params,
    parse_size,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import PmSettings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_run import size_host
from sizing_samples import HOST, MIB, NOTHING, facts_of, facts_pool, inputs, peaks, process


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2048M", 2048 * MIB), ("2048MB", 2048 * MIB), ("80 MiB", 80 * MIB), ("1.5G", 1536 * MIB), ("1g", 1024 * MIB),
        ("512k", 512 * 1024), ("1T", 1024**4), (4096, 4096), ("4096", 4096), ("12b", 12),
    ],
)  # fmt: skip
def test_sizes(text: Any, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "lots", "-1", "10 %", "1e9", "5 X", True, None, "1M2"])
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueError, match="is no size: write 2048M"):
        parse_size(text)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_params({
            "pools": [
                {"name": "a", "worker_memory": "big", "demand": {"requests_per_second": 5}},
                {"name": "b", "worker_memory": "12K", "memory_limit": "x",
                 "demand": {"requests_per_second": -1, "duration_seconds": 1, "factor": 0.5}},
            ],
            "reserved": [{"name": "mysqld", "memory": "much"}, {"memory": "1G"}, "nginx", "nginx"],
            "measure": False,
            "evidence_requests": 0,
            "cpus": 0,
        })  # fmt: skip
    assert caught.value.problems == [
        "pools[0] (a): demand needs requests_per_second and duration_seconds, or access_log",
        "pools[0] (a): worker_memory: 'big' is no size: write 2048M, 1.5G or a number of bytes",
        "pools[1] (b): demand.requests_per_second is -1: must not be negative",
        "pools[1] (b): demand.factor is 0.5: must be at least 1",
        "pools[1] (b): worker_memory is 12288 bytes: must be at least 1M",
        "pools[1] (b): memory_limit: 'x' is no size: write 2048M, 1.5G or a number of bytes",
        "reserved[0] (mysqld): memory: 'much' is no size: write 2048M, 1.5G or a number of bytes",
        "reserved[1]: {'memory': '1G'} must be a name, or name with memory",
        "reserved: nginx is named twice",
        "total_memory is needed when measure is false: nothing is read from the host",
        "evidence_requests is 0: must be at least 1",
        "cpus is 0: must be more than 0",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pools": []}, "pools is empty"),
        ({"measure": False, "total_memory": "1G"}, "pools is needed when measure is false"),
        ({"pools": [{"name": "a", "worker_memory": "2M", "weight": 0.0}]}, "weight is 0"),
        ({"pools": [{"name": "a", "worker_memory": "2M", "min_children": 0}]}, "min_children is 0"),
    ],
)
def test_refused_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(StackError, match=message):
        size_host(Host("/nowhere"), {"total_memory": "1G", "measure": False, **params})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"total_memory": "2048M", "pools": [{"name": "w", "worker_memory": "80M"}]}, 25),
        (
            {"total_memory": "8192M", "reserved": "3072M", "pools": [{"name": "w", "worker_memory": "80M"}]},
            64,
        ),
        (
            {"total_memory": "8192M", "reserved": "3072M", "pools": [{"name": "w", "worker_memory": "100M"}]},
            51,
        ),
        (
            {"total_memory": "8192M", "reserved": "2560M", "pools": [{"name": "w", "memory_limit": "256M"}]},
            22,
        ),
        ({"total_memory": "2048M", "pools": [{"name": "w", "worker_memory": "40M"}]}, 51),
    ],
)
def test_published_examples_through_the_parameters(params: dict[str, Any], expected: int) -> None:
    done = size_host(Host("/nowhere"), {"measure": False, "headroom": 0.0, **params})
    assert done["plan"][0]["pm"]["max_children"] == expected
    assert (done["changed"], done["feasible"]) == (False, True)


def test_what_does_not_fit_fails_with_the_numbers() -> None:
    with pytest.raises(StackError, match="smallest number of workers does not fit") as caught:
        size_host(Host("/nowhere"), {
            "measure": False, "total_memory": "1G", "reserved": [{"name": "mysqld", "memory": "900M"}],
            "pools": [{"name": "w", "memory_limit": "256M"}],
        })  # fmt: skip
    details = caught.value.details
    assert details["feasible"] is False
    assert details["budget"]["available_bytes"] == 117021081
    assert details["problems"] == [str(caught.value)]
    assert details["summary"][0] == "Memory: 1024 MiB (given)"


# Evidence


def test_the_peak_counts_and_not_the_moment() -> None:
    built = inputs(facts_of(facts_pool()), Readings(HOST, peaks()))
    cost = built.pools[0].cost
    assert (cost.worker_bytes, cost.source, cost.confidence) == (30 * MIB, "measured", "high")
    assert (cost.private_bytes, cost.rss_bytes) == (30 * MIB, 60 * MIB)
    assert (
        cost.words[0]
        == "One worker costs 30 MiB: 95 % of 4 workers stay below it (the private memory peaks)."
    )


def test_one_heavy_worker_of_many_does_not_size_the_pool() -> None:
    processes = peaks(40)
    processes[139] = process(139, 1, 430)
    cost = inputs(facts_of(facts_pool(workers=40)), Readings(HOST, processes)).pools[0].cost
    assert cost.worker_bytes == 30 * MIB
    assert "One worker went up to 400 MiB: give such routes a pool of their own." in cost.words


@pytest.mark.parametrize(
    ("pool", "processes", "confidence", "said"),
    [
        (facts_pool(workers=0), {}, "low", "No worker of it runs, so nothing is measured."),
        (facts_pool(status={"state": "ok", "accepted_conn": 12}), peaks(), "low",
         "Its 4 workers served 12 requests. That is too little evidence: 500 are wanted."),
        (facts_pool(status={"state": "not_configured"}), peaks(cpu=0.5), "low",
         "How many requests its workers served is not known, and their CPU time (2.0 s) is too little."),
        (facts_pool(status={"state": "not_configured"}), peaks(cpu=25), "medium",
         "No status page counts its requests; 100 s of CPU time stand for the evidence."),
        (facts_pool(), peaks(peak=32), "high", "One worker costs 2 MiB"),
        (facts_pool(status={"state": "ok", "accepted_conn": 600}), peaks(peak=32), "low",
         "Its 4 workers served 600 requests. The workers took 2 MiB of 128 MiB (memory_limit): that looks like"
         " light pages only, and 5000 requests are wanted to believe it."),
        (facts_pool(), {}, "medium", "(the private memory at this moment)"),
    ],
    ids=["no worker", "few requests", "no status, idle", "no status, busy", "light but many", "light and few",
         "no peaks"],
)  # fmt: skip
def test_confidence(
    pool: dict[str, Any], processes: dict[int, ProcessMemory], confidence: str, said: str
) -> None:
    ini = {"8.2": {"memory_limit": ("128M", "/etc/php/8.2/fpm/php.ini")}}
    cost = inputs(facts_of(pool), Readings(HOST, processes, php_ini=ini)).pools[0].cost
    assert cost.confidence == confidence
    assert said in " ".join(cost.words)
    assert (cost.measure != ()) == (confidence == "low" or "CPU time" in said)


def test_requests_of_the_workers_count_before_those_of_the_pool() -> None:
    def pool(each: int) -> dict[str, Any]:
        found = facts_pool()
        for worker in found["memory"]["workers"]:
            worker["requests"] = each
        return found

    def confidence(each: int) -> str:
        return inputs(facts_of(pool(each)), Readings(HOST, peaks())).pools[0].cost.confidence

    # 9,000 accepted by the pool; these workers are young.
    assert [confidence(each) for each in (5, 30, 200)] == ["low", "medium", "high"]


def test_memory_that_may_not_be_read_is_not_guessed() -> None:
    pool = facts_pool()
    for worker in pool["memory"]["workers"]:
        worker["private_bytes"] = worker["shared_bytes"] = None
    built = inputs(facts_of(pool), Readings(HOST))
    plan = plan_host(built.budget, list(built.pools))
    assert built.pools[0].cost.measure == ("Run it as root (become: true).",)
    assert plan.shares[0].children == 5
    assert plan.shares[0].by_private is None


@pytest.mark.parametrize(
    ("directives", "ini", "given", "limit", "words"),
    [
        ({}, {}, None, 128, "PHP's default; no setting was found"),
        ({}, {"memory_limit": ("256M", "/etc/php.ini")}, None, 256, "/etc/php.ini"),
        ({"php_value[memory_limit]": {"value": "64M", "file": "/www.conf", "line": 7}},
         {"memory_limit": ("256M", "/etc/php.ini")}, None, 64, "/www.conf:7"),
        ({"php_value[memory_limit]": {"value": "64M", "file": "/www.conf", "line": 7},
          "php_admin_value[memory_limit]": {"value": "96M", "file": "/www.conf", "line": 9}}, {}, None, 96, "/www.conf:9"),
        ({"php_admin_value[memory_limit]": {"value": "-1", "file": "/www.conf", "line": 9}}, {}, None, 128,
         "/www.conf:9 sets no limit (-1), so PHP's default is assumed"),
        ({"php_admin_value[memory_limit]": {"value": "96M", "file": "/www.conf", "line": 9}}, {}, "512M", 512, "given"),
    ],
)  # fmt: skip
def test_memory_limit_is_the_worst_case(
    directives: dict[str, Any], ini: dict[str, Any], given: str | None, limit: int, words: str
) -> None:
    pool = facts_pool(workers=0, directives=directives, pm={"mode": None, "max_children": None})
    wanted = [{"name": "www", "version": "8.2", "memory_limit": given}]
    built = inputs(facts_of(pool), Readings(HOST, php_ini={"8.2": ini}), pools=wanted)
    cost = built.pools[0].cost
    assert (cost.worker_bytes, cost.confidence) == (limit * MIB, "low")
    assert cost.words[-1] == f"The worst case of a worker is memory_limit = {limit} MiB ({words})."


# The host


def test_a_fresh_host_is_planned_from_the_worst_case() -> None:
    wanted = [
        {"name": "www", "version": "8.2"},
        {"name": "api", "version": "7.4", "pm": "static", "weight": 2},
    ]
    built = inputs(NOTHING, Readings(HOST), pools=wanted)
    plan = plan_host(built.budget, list(built.pools))
    # (4096 - 1000) × 0.9 - 2 × 128 = 2530 MiB for workers of 128 MiB.
    assert [share.pm.max_children for share in plan.shares] == [6, 13]
    assert [share.pool.cost.confidence for share in plan.shares] == ["low", "low"]
    assert [(master.key, master.shared_words) for master in built.budget.masters] == [
        ("PHP 8.2", "nothing measured; the default of opcache.memory_consumption"),
        ("PHP 7.4", "nothing measured; the default of opcache.memory_consumption"),
    ]


def test_shared_memory_once_per_master_with_the_master_itself() -> None:
    processes = {**peaks(), 99: process(99, 7, 40)}
    other = facts_pool("api")
    built = inputs(facts_of(facts_pool(), other), Readings(HOST, processes))
    assert [master.shared_bytes for master in built.budget.masters] == [37 * MIB]


def test_reserves_are_measured_and_nothing_is_counted_twice() -> None:
    services = (ServiceMemory("mariadbd", (7,), 400 * MIB), ServiceMemory("nginx", (), 0))
    built = inputs(facts_of(facts_pool()), Readings(HOST, peaks(), services=services))
    # 1,000 MiB in use: 4 workers of 1 MiB, 400 MiB of mariadbd, the rest is everything else.
    assert [(one.name, one.bytes // MIB) for one in built.budget.reserves] == [
        ("mariadbd", 400),
        ("everything else", 596),
    ]


def test_named_reserves_keep_the_greater_of_given_and_measured() -> None:
    services = (ServiceMemory("mariadbd", (7,), 400 * MIB), ServiceMemory("redis-server", (8, 9), 90 * MIB))
    reserved = [
        {"name": "mariadbd", "memory": "2G"},
        {"name": "redis-server", "memory": "64M"},
        {"name": "os", "memory": "500M"},
    ]
    built = inputs(facts_of(facts_pool()), Readings(HOST, peaks(), services=services), reserved=reserved)
    assert [(one.name, one.bytes // MIB, one.how) for one in built.budget.reserves] == [
        ("mariadbd", 2048, "given; it uses 400 MiB now"),
        ("redis-server", 90, "measured; more than the 64 MiB given"),
        ("os", 500, "given"),
        ("everything else", 6, "measured: in use now, less the above and PHP-FPM"),
    ]


def test_a_fixed_reserve_below_what_is_in_use_is_remarked() -> None:
    built = inputs(facts_of(facts_pool()), Readings(HOST, peaks()), reserved="500M")
    assert built.budget.reserved_bytes == 500 * MIB
    assert built.notes == (
        "500 MiB are reserved, but everything except PHP-FPM uses 996 MiB now: reserve more.",
    )


def test_what_is_not_known_about_the_rest_is_said() -> None:
    unknown = HostMemory(4096 * MIB, "limit", None, None)
    services = (ServiceMemory("mariadbd", (7,), None),)
    built = inputs(facts_of(facts_pool()), Readings(unknown, services=services))
    assert built.notes == (
        "mariadbd runs, but its memory may not be read: run it as root (become: true).",
        "What everything else on the host uses is not known, and is not reserved: give reserved.",
    )


def test_other_pools_that_run_are_counted_in_the_host_and_in_their_unit() -> None:
    other = facts_pool("other", workers=2)
    units = {"php8.2-fpm.service": UnitLimits(1024 * MIB, "MemoryMax", None)}
    readings = Readings(HOST, peaks(), units=units)
    wanted = [{"name": "www", "version": "8.2"}]
    built = inputs(facts_of(facts_pool(), other), readings, pools=wanted)
    assert built.budget.reserves[0].name == "pool other (PHP 8.2)"
    assert built.budget.reserves[0].bytes == 5 * 30 * MIB
    assert built.budget.masters[0].limit_bytes == (1024 - 150) * MIB
    assert built.budget.masters[0].limit_source == (
        "MemoryMax of php8.2-fpm.service, less 150 MiB for pool other (PHP 8.2)"
    )
    ignored = inputs(facts_of(facts_pool(), other), readings, pools=wanted, other_pools="ignore")
    assert [one.name for one in ignored.budget.reserves] == ["everything else"]
    assert ignored.budget.masters[0].limit_bytes == 1024 * MIB


def test_a_new_pool_joins_the_running_master_of_its_version() -> None:
    wanted = [{"name": "new", "version": "8.2"}]
    units = {"php8.2-fpm.service": UnitLimits(1024 * MIB, "MemoryMax", 1.5)}
    built = inputs(facts_of(), Readings(HOST, units=units), pools=wanted)
    assert (built.pools[0].master, built.budget.masters[0].limit_bytes, built.budget.masters[0].cpus) == (
        "php8.2-fpm.service", 1024 * MIB, 1.5,
    )  # fmt: skip


def test_pools_in_containers_of_their_own_are_left_out() -> None:
    facts = facts_of(facts_pool(), in_container=True)
    with pytest.raises(InputError, match="no PHP-FPM pool was found on this host"):
        inputs(facts, Readings(HOST))
    built = inputs(facts, Readings(HOST), pools=[{"name": "www", "version": "8.4"}])
    assert built.notes == ("Pool www (PHP 8.2) runs in a container of its own: size it there.",)


def test_an_ambiguous_pool_name_asks_for_the_version() -> None:
    facts = facts_of(facts_pool(), facts_pool(version="7.4", unit="php7.4-fpm.service"))
    with pytest.raises(InputError, match=r"pool www exists for PHP 8\.2, 7\.4: say which version"):
        inputs(facts, Readings(HOST), pools=[{"name": "www"}])
    built = inputs(facts_of(facts_pool()), Readings(HOST), pools=[{"name": "www"}])
    assert built.pools[0].version == "8.2"


def test_a_cpu_ceiling_needs_cpus() -> None:
    with pytest.raises(InputError, match="give cpus too"):
        inputs(
            NOTHING,
            Readings(),
            pools=[{"name": "w", "version": "8.2"}],
            total_memory="1G",
            workers_per_core=4.0,
        )
    with pytest.raises(InputError, match="give total_memory"):
        inputs(NOTHING, Readings(), pools=[{"name": "w", "version": "8.2"}])


@pytest.mark.parametrize(
    ("pm", "expected"),
    [
        ({"mode": "static", "max_children": 4, "start_servers": 0, "process_idle_timeout": 10}, PmSettings("static", 4)),
        ({"mode": "ondemand", "max_children": 4, "start_servers": 0, "process_idle_timeout": 20},
         PmSettings("ondemand", 4, process_idle_timeout=20)),
        # start_servers is not in the file: FPM starts half way between.
        ({"mode": "dynamic", "max_children": 9, "start_servers": 0, "min_spare_servers": 2, "max_spare_servers": 7},
         PmSettings("dynamic", 9, 4, 2, 7)),
        ({"mode": "dynamic", "max_children": 9}, PmSettings("dynamic", 9)),
        ({"mode": None, "max_children": 9}, None),
        ({"mode": "static", "max_children": None}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_what_a_pool_has_now(pm: dict[str, Any], expected: PmSettings | None) -> None:
    assert current_settings(pm) == expected
