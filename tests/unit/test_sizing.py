# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: published worked examples, limits, keeping, and properties that must hold for any host."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.sizing import plan_host, settings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import (
    Budget,
    Cost,
    Demand,
    Master,
    PmSettings,
    Pool,
    Reserve,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_words import result, risks
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024**2


def cost(mib: float, confidence: str = "high", **kwargs: object) -> Cost:
    return Cost(int(mib * MIB), "given", confidence, int(kwargs.pop("worst", 128)) * MIB, **kwargs)  # type: ignore[arg-type, call-overload]


def pool(name: str = "www", mib: float = 80, mode: str = "dynamic", **kwargs: object) -> Pool:
    return Pool(name, "8.2", mode, kwargs.pop("cost", cost(mib)), **kwargs)  # type: ignore[arg-type]


def budget(total: int, reserved: int = 0, headroom: float = 0, **kwargs: object) -> Budget:
    reserves = (Reserve("others", reserved * MIB, "given"),) if reserved else ()
    return Budget(total * MIB, "given", reserves, headroom, **kwargs)  # type: ignore[arg-type]


def dynamic(children: int) -> PmSettings:
    return settings(pool(), children)


def children(plan: object) -> list[int]:
    return [share.children for share in plan.shares]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("total", "reserved", "worker", "headroom", "expected"),
    [
        (2048, 0, 80, 0, 25),
        (8192, 3072, 80, 0, 64),
        (8192, 3072, 100, 0, 51),
        (8192, 3072, 100, 10, 46),
        (8192, 2560, 256, 0, 22),
        (2048, 0, 40, 0, 51),
    ],
)
def test_published_examples(total: int, reserved: int, worker: int, headroom: float, expected: int) -> None:
    plan = plan_host(budget(total, reserved, headroom), [pool(mib=worker)])
    assert children(plan) == [expected]
    assert plan.shares[0].binding == "memory"
    assert plan.used_bytes == expected * worker * MIB


def test_shared_memory_is_paid_once_per_master_and_both_answers_are_shown() -> None:
    # Field measurement: RSS 89.5 MB each, private 20.1, about 70 MB shared.
    measured = cost(20.1, private_bytes=int(20.1 * MIB), rss_bytes=int(89.5 * MIB))
    host = budget(2048, masters=(Master("8.2", shared_bytes=70 * MIB),))
    plan = plan_host(host, [pool(cost=measured, master="8.2")])
    assert (plan.shares[0].by_rss, plan.shares[0].by_private) == (22, 98)
    assert children(plan) == [98]


@pytest.mark.parametrize(
    ("changes", "expected", "binding"),
    [
        ({}, 20, "memory"),
        ({"max_children": 7}, 7, "cap"),
        ({"demand": Demand(12 * 0.25, 1.5, "")}, 5, "demand"),
        ({"demand": Demand(2, 1.5, ""), "max_children": 9}, 3, "demand"),
        ({"demand": Demand(1, 1.5, ""), "min_children": 4}, 4, "minimum"),
    ],
)
def test_binding_of_one_pool(changes: dict[str, object], expected: int, binding: str) -> None:
    plan = plan_host(budget(1600), [pool(**changes)])
    assert (children(plan), plan.shares[0].binding) == ([expected], binding)


def test_cpu_binds_host_wide_and_per_unit() -> None:
    host = budget(8000, cpus=2.0, workers_per_core=5)
    plan = plan_host(host, [pool("a"), pool("b")])
    assert (children(plan), [share.binding for share in plan.shares]) == ([5, 5], ["cpu", "cpu"])
    host = budget(8000, cpus=4.0, workers_per_core=5, masters=(Master("quota", cpus=0.5), Master("free")))
    plan = plan_host(host, [pool("a", master="quota"), pool("b", master="free")])
    assert children(plan) == [2, 18]


def test_a_unit_limit_binds_its_own_pools_only() -> None:
    host = budget(8000, masters=(Master("small", 100 * MIB, 500 * MIB), Master("other", 0)))
    plan = plan_host(host, [pool("a", master="small"), pool("b", master="other")])
    assert children(plan) == [5, 93]
    assert [share.binding for share in plan.shares] == ["unit_limit", "memory"]


def test_weights_share_memory_and_a_capped_pool_leaves_its_rest() -> None:
    plan = plan_host(budget(3200), [pool("a", 80, weight=3), pool("b", 40, weight=1)])
    assert children(plan) == [30, 20]
    plan = plan_host(budget(3200), [pool("a", 80, weight=3, max_children=10), pool("b", 40, weight=1)])
    assert children(plan) == [10, 60]
    assert [share.binding for share in plan.shares] == ["cap", "memory"]


def test_minimums_come_before_weights() -> None:
    plan = plan_host(budget(800), [pool("a", 80, weight=99), pool("b", 80, min_children=5)])
    assert children(plan) == [5, 5]
    assert plan.shares[1].binding == "minimum"


def test_refuses_what_cannot_fit_with_the_numbers() -> None:
    plan = plan_host(budget(1024, 900, 10), [pool("a", 80), pool("b", 64, min_children=2)])
    assert not plan.feasible
    assert plan.shares == ()
    assert plan.problems == (
        "The smallest number of workers does not fit: a (PHP 8.2) 1 × 80 MiB, b (PHP 8.2) 2 × 64 MiB = 208 MiB,"
        " but 112 MiB are left for workers: 1024 MiB (given) - 900 MiB reserved - 12.4 MiB headroom - 0 MiB shared."
        " Lower memory_limit, min_children or what is reserved, or give the host more memory.",
    )


def test_refuses_a_unit_limit_below_one_worker() -> None:
    host = budget(8000, 0, 10, masters=(Master("php8.2-fpm.service", 70 * MIB, 128 * MIB, "MemoryMax"),))
    plan = plan_host(host, [pool(master="php8.2-fpm.service")])
    assert plan.problems[0].startswith(
        "The smallest number of workers does not fit: www (PHP 8.2) 1 × 80 MiB"
    )
    assert (
        "45.2 MiB are left for workers: 128 MiB (MemoryMax) - 10 % headroom - 70 MiB shared"
        in plan.problems[0]
    )


def test_reserves_larger_than_the_host_are_refused() -> None:
    plan = plan_host(budget(1024, 2048), [pool()])
    assert "1024 MiB are missing for workers" in plan.problems[0]


def test_all_contradictions_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match="headroom") as caught:
        plan_host(
            budget(1024, headroom=100, tolerance_percent=-1, workers_per_core=0),
            [
                pool("a", mode="magic", weight=0, min_children=0, idle_timeout=0),
                pool("b", min_children=5, max_children=3),
                pool("b"),
                pool("c", 0),
            ],
        )
    assert str(caught.value).split("; ") == [
        "headroom is 100 %: must be from 0 to less than 100",
        "tolerance is -1 %: must not be negative",
        "workers_per_core is 0: must be more than 0",
        "pool a (PHP 8.2): pm is magic: must be one of static, dynamic, ondemand",
        "pool a (PHP 8.2): weight is 0: must be more than 0",
        "pool a (PHP 8.2): min_children is 0: must be at least 1",
        "pool a (PHP 8.2): process_idle_timeout is 0: must be at least 1 s",
        "pool b (PHP 8.2): max_children 3 is below min_children 5",
        "pool b (PHP 8.2) is given twice",
        "pool c (PHP 8.2): worker_memory is 0 bytes: must be more than 0",
    ]


# Keeping what is there.


@pytest.mark.parametrize(
    ("now", "planned", "expected"),
    [
        (25, 25, 25),
        (25, 30, 25),  # exactly 20 %
        (25, 31, 31),
        (25, 20, 25),
        (25, 19, 19),
        (5, 6, 5),
        (5, 7, 7),
        (3, 2, 3),  # one worker is noise
        (2, 1, 2),
        (1, 2, 2),  # a second worker is not
    ],
)
def test_tolerance(now: int, planned: int, expected: int) -> None:
    # The headroom is wide enough for what is kept above the plan.
    host = Budget(planned * 160 * MIB, "given", (), 50, 20)
    plan = plan_host(host, [pool(current=dynamic(now))])
    assert plan.shares[0].planned == planned
    assert children(plan) == [expected]
    assert plan.shares[0].kept == ("tolerance" if expected == now != planned else "")


def test_what_is_kept_never_leaves_the_headroom() -> None:
    plan = plan_host(budget(1600, tolerance_percent=20), [pool(current=dynamic(22))])
    assert children(plan) == [20]
    masters = (Master("unit", 0, 1600 * MIB),)
    host = budget(8000, tolerance_percent=20, masters=masters)
    assert children(plan_host(host, [pool(current=dynamic(22), master="unit")])) == [20]


def test_a_cap_is_not_subject_to_the_tolerance() -> None:
    plan = plan_host(budget(8000, tolerance_percent=20), [pool(current=dynamic(22), max_children=20)])
    assert children(plan) == [20]


def test_too_little_evidence_keeps_the_current_settings_as_they_are() -> None:
    current = PmSettings("dynamic", 12, 4, 3, 6)
    idle = cost(1.3, "low", private_bytes=int(1.3 * MIB))
    plan = plan_host(budget(2048), [pool(cost=idle, current=current)])
    assert plan.shares[0].pm == current
    assert (plan.shares[0].binding, plan.shares[0].kept) == ("evidence", "evidence")
    # The opposite error of RSS, shown but not followed.
    assert plan.shares[0].by_private == 1575


def test_what_is_kept_and_may_not_fit_is_said_with_the_numbers() -> None:
    idle = cost(1.3, "low", private_bytes=int(1.3 * MIB))
    many = pool("many", cost=idle, current=dynamic(12))
    plan = plan_host(budget(2048, headroom=10), [many, pool("busy", 80, max_children=1)])
    assert children(plan) == [12, 1]
    assert risks(plan) == []
    # 20 × 128 MiB: the headroom does not make up for that either.
    plan = plan_host(budget(2048, headroom=10), [replace(many, current=dynamic(20))])
    assert children(plan) == [20]
    assert risks(plan) == [
        "max_children is kept for want of evidence, but in the worst case (memory_limit) the workers need 20 × 128 MiB"
        " of many (PHP 8.2) = 2560 MiB, and the host has 2048 MiB for workers. Measure under the usual load, or give a"
        " lower max_children until then."
    ]
    assert f"Warning: {risks(plan)[0]}" in result(plan)["summary"]
    # A plan that follows measurements or a cap is none of these.
    assert risks(plan_host(budget(2048), [replace(many, current=dynamic(20), max_children=15)])) == []
    assert risks(plan_host(budget(2048), [pool(current=dynamic(25))])) == []


def test_a_units_limit_is_named_where_what_is_kept_may_not_fit() -> None:
    idle = cost(1.3, "low", private_bytes=int(1.3 * MIB))
    limited = Master("unit", 0, 256 * MIB, "MemoryMax of unit")
    plan = plan_host(budget(4096, masters=(limited,)), [pool(cost=idle, current=dynamic(4), master="unit")])
    (risk,) = risks(plan)
    assert "4 × 128 MiB of www (PHP 8.2) = 512 MiB, and MemoryMax of unit leaves 256 MiB for workers" in risk


def test_a_kept_pool_leaves_the_others_its_worst_case() -> None:
    idle = cost(1.3, "low", private_bytes=int(1.3 * MIB))
    quiet = pool("quiet", cost=idle, current=dynamic(4))
    plan = plan_host(budget(2048), [quiet, pool("busy", 80)])
    # 4 × 128 MiB stay aside: (2048 - 512) / 80.
    assert children(plan) == [4, 19]


def test_a_pool_that_was_full_grows_as_far_as_its_worst_case_fits() -> None:
    idle = cost(1.3, "low", private_bytes=int(1.3 * MIB))
    full = pool(cost=idle, current=dynamic(5), full=True)
    plan = plan_host(budget(2048), [full])
    assert (children(plan), plan.shares[0].binding, plan.shares[0].kept) == ([16], "memory", "")
    # Never less than it has, and no more than its cap and the CPUs.
    assert children(plan_host(budget(512), [full])) == [5]
    assert children(plan_host(budget(2048), [replace(full, max_children=9)])) == [9]
    assert children(plan_host(budget(2048, cpus=2.0, workers_per_core=4), [full])) == [8]


def test_a_kept_pool_is_lowered_when_even_its_idle_workers_do_not_fit() -> None:
    idle = cost(10, "low", private_bytes=10 * MIB)
    plan = plan_host(budget(1000), [pool(cost=idle, current=dynamic(500))])
    assert children(plan) == [100]
    assert plan.shares[0].kept == ""
    assert plan.shares[0].binding == "memory"


def test_a_kept_pool_obeys_cap_and_minimum() -> None:
    idle = cost(1, "low", private_bytes=MIB)
    kept = pool(cost=idle, current=dynamic(12), max_children=8)
    plan = plan_host(budget(4096), [kept])
    assert (children(plan), plan.shares[0].binding) == ([8], "cap")
    kept = pool(cost=idle, current=dynamic(2), min_children=6)
    plan = plan_host(budget(4096), [kept])
    assert (children(plan), plan.shares[0].binding) == ([6], "minimum")


def test_without_a_current_value_low_confidence_plans() -> None:
    plan = plan_host(budget(2048), [pool(cost=cost(128, "low"))])
    assert children(plan) == [16]


@pytest.mark.parametrize(
    ("mode", "count", "expected"),
    [
        ("static", 9, PmSettings("static", 9)),
        ("ondemand", 9, PmSettings("ondemand", 9, process_idle_timeout=10)),
        ("dynamic", 1, PmSettings("dynamic", 1, 1, 1, 1)),
        ("dynamic", 2, PmSettings("dynamic", 2, 1, 1, 1)),
        ("dynamic", 5, PmSettings("dynamic", 5, 1, 1, 2)),
        ("dynamic", 25, PmSettings("dynamic", 25, 5, 2, 8)),
        ("dynamic", 98, PmSettings("dynamic", 98, 19, 9, 30)),
    ],
)
def test_settings(mode: str, count: int, expected: PmSettings) -> None:
    assert settings(pool(mode=mode), count) == expected


def test_settings_keep_the_idle_timeout_and_drop_broken_spares() -> None:
    current = PmSettings("ondemand", 9, process_idle_timeout=45)
    assert settings(pool(mode="ondemand", current=current), 5).process_idle_timeout == 45
    assert settings(pool(mode="ondemand", current=current, idle_timeout=20), 5).process_idle_timeout == 20
    broken = PmSettings("dynamic", 5, 9, 1, 3)
    assert settings(pool(current=broken), 5) == PmSettings("dynamic", 5, 1, 1, 2)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (PmSettings("dynamic", 3, 1, 1, 1), 0),
        (PmSettings("dynamic", 3, 3, 1, 2), 1),
        (PmSettings("dynamic", 3, 1, 2, 2), 1),
        (PmSettings("dynamic", 3, 2, 2, 4), 1),
        (PmSettings("dynamic", 3), 1),
        (PmSettings("static", 0), 1),
        (PmSettings("ondemand", 0), 2),
        (PmSettings("magic", 3), 1),
    ],
)
def test_problems(values: PmSettings, count: int) -> None:
    assert len(values.problems()) == count


# Properties: any host, any pools.

numbers = st.integers(min_value=1, max_value=60)


@st.composite
def pools_of_a_host(draw: st.DrawFn, with_current: bool = True) -> list[Pool]:
    found = []
    for index in range(draw(st.integers(1, 5))):
        mode = draw(st.sampled_from(["static", "dynamic", "ondemand"]))
        low = draw(st.integers(1, 4))
        current = None
        if with_current and draw(st.booleans()):
            now = draw(numbers)
            current = settings(pool(mode=draw(st.sampled_from(["static", "dynamic", "ondemand"]))), now)
        private = draw(st.integers(1, 300))
        confidence = draw(st.sampled_from(["high", "low"])) if with_current else "high"
        # As the evidence has it: what is not known is planned at its worst.
        worst = max(256, private) * MIB
        found.append(
            Pool(
                f"p{index}",
                "8.2",
                mode,
                Cost(
                    private * MIB if confidence == "high" else worst,
                    "measured",
                    confidence,
                    worst,
                    private * MIB,
                    (private + 60) * MIB,
                ),
                master=draw(st.sampled_from(["a", "b"])),
                weight=draw(st.sampled_from([0.5, 1, 2, 7.25])),
                min_children=low,
                max_children=draw(st.none() | st.integers(low, 40)),
                demand=draw(st.none() | st.builds(Demand, st.floats(0, 50), st.just(1.5), st.just(""))),
                current=current,
                full=draw(st.booleans()),
            )
        )
    return found


@st.composite
def hosts(draw: st.DrawFn) -> Budget:
    masters = tuple(
        Master(
            key,
            draw(st.integers(0, 128)) * MIB,
            draw(st.none() | st.integers(64, 4096).map(lambda n: n * MIB)),
        )
        for key in ("a", "b")
    )
    return Budget(
        draw(st.integers(64, 32768)) * MIB,
        "given",
        (Reserve("others", draw(st.integers(0, 4096)) * MIB, "given"),),
        draw(st.sampled_from([0, 10, 15])),
        draw(st.sampled_from([0, 20, 100])),
        draw(st.none() | st.sampled_from([0.5, 2, 16])),
        draw(st.none() | st.sampled_from([1, 8])),
        masters,
    )


@given(hosts(), pools_of_a_host())
def test_never_over_budget_never_rejected_always_explained(host: Budget, pools: list[Pool]) -> None:
    plan = plan_host(host, pools)
    if not plan.feasible:
        assert plan.shares == ()
        return
    assert plan.used_bytes <= host.hard_bytes
    for master in host.masters:
        mine = [share for share in plan.shares if share.pool.master == master.key]
        hard = host.master_bytes(master, hard=True)
        assert hard is None or sum(share.charged_bytes for share in mine) <= hard
    for share in plan.shares:
        assert share.pm.problems() == []
        assert share.pm.max_children == share.children >= share.pool.min_children
        assert share.pool.max_children is None or share.children <= share.pool.max_children
        # What the workers are known to take is never more than what was charged.
        assert share.children * (share.pool.cost.private_bytes or 0) <= share.charged_bytes
        assert share.binding in ("memory", "unit_limit", "cpu", "demand", "cap", "minimum", "evidence")


@given(hosts(), pools_of_a_host(with_current=False))
def test_without_kept_values_the_headroom_stays_free(host: Budget, pools: list[Pool]) -> None:
    plan = plan_host(host, pools)
    assert not plan.feasible or plan.used_bytes <= host.available_bytes


@given(hosts(), pools_of_a_host(with_current=False), st.integers(0, 4096))
def test_more_memory_takes_no_worker_from_anyone(host: Budget, pools: list[Pool], more: int) -> None:
    before = plan_host(host, pools)
    after = plan_host(replace(host, total_bytes=host.total_bytes + more * MIB), pools)
    if before.feasible:
        assert all(new >= old for old, new in zip(children(before), children(after)))


@given(hosts(), pools_of_a_host())
def test_a_second_run_changes_nothing(host: Budget, pools: list[Pool]) -> None:
    # A pool that is new and not measured may grow in its first plan only: what it
    # could not use goes to the others when its value is kept.
    pools = [replace(one, full=False) for one in pools if one.current or one.cost.confidence == "high"]
    first = plan_host(host, pools)
    # Where not even idle workers fit, the first run lowers kept pools and the second shares anew.
    if not first.feasible or any(share.pool.keeps and share.kept == "" for share in first.shares):
        return
    second = plan_host(host, [replace(share.pool, current=share.pm, full=False) for share in first.shares])
    assert [share.pm for share in second.shares] == [share.pm for share in first.shares]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.sampled_from([1, 2, 3, 5])), min_size=2, max_size=5), numbers
)
def test_memory_follows_the_weights_within_one_worker(entries: list[tuple[int, int]], gib: int) -> None:
    pools = [pool(f"p{index}", mib, weight=weight) for index, (mib, weight) in enumerate(entries)]
    plan = plan_host(budget(gib * 1024), pools)
    if not plan.feasible:
        return
    # The pool that could get one more worker at the lowest level bounds everybody else's level.
    levels = [share.charged_bytes / share.pool.weight for share in plan.shares if share.children > 1]
    following = [
        (share.charged_bytes + share.pool.cost.worker_bytes) / share.pool.weight for share in plan.shares
    ]
    assert all(level <= min(following) + 1e-6 for level in levels)


@given(hosts(), pools_of_a_host())
def test_a_fresh_host_is_stable_at_once(host: Budget, pools: list[Pool]) -> None:
    unknown = [
        replace(one, current=None, cost=Cost(256 * MIB, "memory_limit", "low", 256 * MIB, None, None))
        for one in pools
    ]
    first = plan_host(host, unknown)
    if not first.feasible:
        return
    second = plan_host(host, [replace(share.pool, current=share.pm, full=False) for share in first.shares])
    assert [share.pm for share in second.shares] == [share.pm for share in first.shares]
