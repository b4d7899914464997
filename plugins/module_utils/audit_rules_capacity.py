# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about capacity: workers, memory and queues (pure)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    edit,
    log_cause,
    log_evidence,
    php_size,
    php_value,
    place_of_setting,
    pool_title,
    size,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
_STOCK_CHILDREN = 5
# Below this many workers a 95th percentile is no more than their maximum.
_ENOUGH_WORKERS = 3
_LEAST_BACKLOG = 64
_BUSY_SHARE = 0.9
_REPEATED = 3


def p95(values: list[int]) -> int:
    """The value that 95 % of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]


def _most(pool: dict[str, Any]) -> int | None:
    value: int | None = pool["pm"]["max_children"]
    return value


@_BOOK.rule("C01", "critical", "All workers together need more memory than there is", "worker_oom")
def memory(snapshot: Snapshot) -> Iterator[Outcome]:
    if not snapshot.pools:
        return
    if snapshot.memory is None:
        yield unknown("host", "the host's memory was not read")
        return
    total, parts, places, gaps = snapshot.shared_bytes or 0, [], [], []
    surely = True
    for pool in snapshot.pools:
        seen, most = snapshot.peaks.get((pool["version"] or "", pool["name"])), _most(pool)
        if not seen or most is None:
            gaps.append(pool["name"])
            continue
        surely = surely and len(seen) >= _ENOUGH_WORKERS
        total += most * p95(seen)
        parts.append(f"{pool['name']} {most} x {size(p95(seen))}")
        places.append(place_of_setting(pool, "pm.max_children"))
    rest = snapshot.memory.used_bytes
    others = max(0, rest - snapshot.fpm_bytes) if rest is not None and snapshot.fpm_bytes is not None else 0
    room = snapshot.memory.total_bytes - others
    words = f"{' + '.join(parts)} = {size(total)}, and {size(room)} are left for PHP-FPM ({snapshot.memory.source})"
    if parts and total > room:
        factor = room / total
        lines = [
            edit(pool, "pm.max_children", max(1, int((_most(pool) or 1) * factor)))
            for pool in snapshot.pools
            if snapshot.peaks.get((pool["version"] or "", pool["name"])) and _most(pool)
        ]
        yield bad(
            "host",
            words,
            "a sum that fits",
            *places,
            fix="\n".join(lines),
            confidence="high" if surely else "medium",
        )
    elif gaps:
        yield unknown("host", f"no worker of {', '.join(gaps)} was measured", *places)
    else:
        yield good("host", words, *places)


def _overflowed(pool: dict[str, Any], cause: dict[str, Any]) -> bool:
    """Whether a cause of the logs concerns this pool's address."""
    own = pool["listen"]["address"]
    return any(one["name"].split("://")[-1].rstrip(":") == own for one in cause["upstreams"])


def _saturation(snapshot: Snapshot, pool: dict[str, Any]) -> tuple[list[Evidence], bool]:
    """(what shows that a pool ran out of workers, whether it would have shown)."""
    shown = []
    seen = log_cause(snapshot, "max_children_reached")
    if seen and (not seen["pools"] or pool["name"] in seen["pools"]):
        shown.append(log_evidence(seen))
    full = log_cause(snapshot, "backlog_full")
    if full and _overflowed(pool, full):
        shown.append(log_evidence(full))
    reached = pool["status"].get("max_children_reached")
    if reached:
        shown.append(Evidence(f"status page: max children reached {reached}"))
    if pool["status"]["state"] == "saturated":
        shown.append(Evidence(f"now: {pool['status']['reason']}"))
    return shown, snapshot.logs is not None or reached is not None


@_BOOK.rule(
    "C02",
    "high",
    "A busy pool still has the distribution's number of workers",
    "max_children_reached",
    "backlog_full",
    "read_timeout",
)
def stock_children(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        most, place = _most(pool), place_of_setting(pool, "pm.max_children")
        if most is None:
            yield unknown(pool_title(pool), "pm.max_children has no known value", place)
        elif most != _STOCK_CHILDREN:
            yield good(pool_title(pool), f"pm.max_children = {most}", place)
        else:
            shown, would_show = _saturation(snapshot, pool)
            if shown:
                yield bad(
                    pool_title(pool),
                    f"pm.max_children = {most}, as installed, and the pool ran out of workers",
                    "a number from measured memory: fpm_sizing",
                    place,
                    *shown,
                    fix=edit(
                        pool, "pm.max_children", "NUMBER  ; ansible HOST -m webops.php_stack.fpm_sizing"
                    ),
                )
            elif not would_show:
                yield unknown(
                    pool_title(pool),
                    "neither logs nor a status page say whether it ran out of workers",
                    place,
                )
            else:
                yield good(pool_title(pool), f"pm.max_children = {most}, and that was enough", place)


@_BOOK.rule(
    "C03",
    "high",
    "A pool has no free worker",
    "max_children_reached",
    "backlog_full",
    "read_timeout",
    "connect_timeout",
)
def busy_now(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        most, status, queue = _most(pool), pool["status"], pool["queue"]
        active = status.get("active_processes")
        place = place_of_setting(pool, "pm.max_children")
        words = []
        if queue and queue["waiting"] > 0:
            words.append(
                f"{queue['waiting']} waiting in the kernel's queue of {queue['backlog']}: no worker is free"
            )
        if active is not None and most and active >= _BUSY_SHARE * most and active > 1:
            words.append(f"{active} of {most} workers are busy")
        if status["state"] == "saturated" and not words:
            words.append(str(status["reason"]))
        if words:
            yield bad(
                pool_title(pool),
                "; ".join(words),
                "workers to spare and an empty queue",
                place,
                fix=edit(pool, "pm.max_children", "NUMBER  ; ansible HOST -m webops.php_stack.fpm_sizing")
                + "\n# or find what the workers wait for: the slow log names it",
            )
        elif active is not None:
            yield good(pool_title(pool), f"{active} of {most} workers are busy", place)
        elif queue and pool["pm"]["mode"] != "static":
            yield good(pool_title(pool), "nothing waits in the kernel's queue", place)
        else:
            yield unknown(
                pool_title(pool),
                f"how busy it is, is not known: {status['reason'] or status['state']}",
                place,
            )


@_BOOK.rule("C04", "medium", "The queue in front of a pool is too short for a burst", "backlog_full")
def backlog(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "backlog_full")
    for pool in snapshot.pools:
        place = place_of_setting(pool, "listen.backlog")
        asked, live = pool["listen"]["backlog"], (pool["queue"] or {}).get("backlog")
        cap = snapshot.somaxconn
        if live is not None:
            effective: int | None = live
        elif asked is None or (asked < 0 and cap is None):
            effective = None
        else:
            effective = cap if asked < 0 else min(asked, cap) if cap is not None else asked
        if effective is None:
            yield unknown(pool_title(pool), "listen.backlog and net.core.somaxconn are not known", place)
            continue
        need = max(_LEAST_BACKLOG, _most(pool) or 0)
        overflowed = seen is not None and _overflowed(pool, seen)
        shown = [
            place,
            Evidence(f"net.core.somaxconn = {cap}" if cap is not None else "net.core.somaxconn is not known"),
        ]
        if effective < need or overflowed:
            yield bad(
                pool_title(pool),
                f"{effective} connections may wait"
                + (f", and it overflowed {seen['count']} times" if overflowed and seen else ""),
                f"at least {need}",
                *shown,
                *([log_evidence(seen)] if overflowed and seen else []),
                fix=edit(pool, "listen.backlog", 511) + "\n# restart PHP-FPM: a reload keeps the old queue",
                confidence="high" if overflowed else "medium",
            )
        else:
            yield good(pool_title(pool), f"{effective} connections may wait", *shown)


@_BOOK.rule("C05", "medium", "pm = static, and nothing would show that it is full", "max_children_reached")
def blind_static(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        if pool["pm"]["mode"] != "static":
            continue
        place = place_of_setting(pool, "pm")
        if pool["status_path"]:
            yield good(pool_title(pool), f"its status page is {pool['status_path']}", place)
        else:
            yield bad(
                pool_title(pool),
                "a static pool never logs that it is full, and it has no status page",
                "pm.status_path, and pm.status_listen so that it answers when the pool is full",
                place,
                place_of_setting(pool, "pm.status_path"),
                fix=edit(pool, "pm.status_path", "/fpm-status"),
            )


@_BOOK.rule("C06", "critical", "The numbers of workers contradict each other", "config_invalid")
def relations(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        pm = pool["pm"]
        if pm["mode"] != "dynamic":
            continue
        start, low, high, most = (
            pm["start_servers"], pm["min_spare_servers"], pm["max_spare_servers"], pm["max_children"]
        )  # fmt: skip
        if None in (low, high, most):
            yield unknown(
                pool_title(pool), "a number of workers is not set or not known", place_of_setting(pool, "pm")
            )
            continue
        wrong = {}
        if low < 1:
            wrong["pm.min_spare_servers"] = f"min_spare_servers ({low}) is below 1"
        if high < 1 or high < low:
            wrong["pm.max_spare_servers"] = f"max_spare_servers ({high}) is below min_spare_servers ({low})"
        elif high > most:
            wrong["pm.max_spare_servers"] = f"max_spare_servers ({high}) is above max_children ({most})"
        if start is not None and not low <= start <= high:
            wrong["pm.start_servers"] = (
                f"start_servers ({start}) is not between min_spare ({low}) and max_spare ({high})"
            )
        if wrong:
            top = max(1, min(most, max(high, low)))
            bottom = max(1, min(low, top))
            yield bad(
                pool_title(pool),
                "; ".join(wrong.values()) + ": PHP-FPM refuses to start",
                "1 <= min_spare <= start <= max_spare <= max_children",
                *(place_of_setting(pool, name) for name in wrong),
                place_of_setting(pool, "pm.max_children"),
                fix=f"# {pool['file']}\npm.min_spare_servers = {bottom}\npm.start_servers = {(bottom + top) // 2}\n"
                f"pm.max_spare_servers = {top}",
            )
        else:
            yield good(
                pool_title(pool), f"{low} <= {start} <= {high} <= {most}", place_of_setting(pool, "pm")
            )


@_BOOK.rule("C07", "medium", "In the worst case all workers need more memory than there is", "worker_oom")
def worst_case(snapshot: Snapshot) -> Iterator[Outcome]:
    if not snapshot.pools:
        return
    if snapshot.memory is None:
        yield unknown("host", "the host's memory was not read")
        return
    total, parts, places, gaps = 0, [], [], []
    for pool in snapshot.pools:
        text, place = php_value(snapshot, pool, "memory_limit")
        limit, most = php_size(text), _most(pool)
        if limit is None or most is None:
            gaps.append(pool["name"])
        elif limit < 0:
            parts.append(f"{pool['name']} without limit")
            places.append(place)
        else:
            total += limit * most
            parts.append(f"{pool['name']} {most} x {size(limit)}")
            places.append(place)
    endless = any("without" in part for part in parts)
    room = snapshot.memory.total_bytes
    if total > room or endless:
        yield bad(
            "host",
            f"{' + '.join(parts)}: {'no limit' if endless else size(total)} against {size(room)} ({snapshot.memory.source})",
            "a worst case that fits, or a memory limit of the unit that only PHP-FPM pays for",
            *places,
            fix="memory_limit = 128M  ; in the pool: php_admin_value[memory_limit]\npm.max_children = NUMBER",
        )
    elif gaps:
        yield unknown("host", f"memory_limit is not known for {', '.join(gaps)}", *places)
    else:
        yield good("host", f"{' + '.join(parts)} = {size(total)} of {size(room)}", *places)


def _from_logs(snapshot: Snapshot, idents: tuple[str, ...], least: int, fix: str) -> Iterator[Outcome]:
    if snapshot.logs is None:
        yield unknown("host", "no logs were read")
        return
    # Only PHP-FPM itself (in its log or the journal) tells how a worker ended.
    told = any(
        source["kind"] in ("fpm", "journal") and not source["error"] for source in snapshot.logs["sources"]
    )
    seen = [cause for cause in snapshot.logs["causes"] if cause["id"] in idents]
    if sum(cause["count"] for cause in seen) >= least:
        pools = sorted({pool for cause in seen for pool in cause["pools"]})
        yield bad(
            f"pool {', '.join(pools)}" if pools else "host",
            "; ".join(f"{cause['count']} x {cause['summary']}" for cause in seen),
            "none",
            *(log_evidence(cause) for cause in seen),
            fix=fix,
        )
    elif not told:
        yield unknown("host", "no log of PHP-FPM could be read")
    else:
        yield good("host", "the logs show none" if not seen else "the logs show fewer than three")


@_BOOK.rule(
    "C08",
    "critical",
    "Workers were killed, by the kernel for want of memory or from outside",
    "worker_oom",
    "worker_killed",
)
def killed(snapshot: Snapshot) -> Iterator[Outcome]:
    yield from _from_logs(
        snapshot,
        ("worker_oom", "worker_killed"),
        1,
        "pm.max_children = NUMBER  ; ansible HOST -m webops.php_stack.fpm_sizing\n[Service]\nOOMPolicy=continue",
    )


@_BOOK.rule("C09", "high", "Workers crash again and again", "worker_crashed")
def crashes(snapshot: Snapshot) -> Iterator[Outcome]:
    yield from _from_logs(
        snapshot,
        ("worker_crashed",),
        _REPEATED,
        "# keep a core of the next one, then look at its backtrace\nrlimit_core = unlimited\nphp_admin_flag[opcache.jit] = off",
    )


@_BOOK.rule("C10", "low", "Workers grow with age and are never replaced", "worker_oom")
def growth(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        place = place_of_setting(pool, "pm.max_requests")
        if pool["pm"]["max_requests"] is None:
            yield unknown(pool_title(pool), "pm.max_requests has no known value", place)
            continue
        if pool["pm"]["max_requests"]:
            yield good(pool_title(pool), f"a worker ends after {pool['pm']['max_requests']} requests", place)
            continue
        workers = [one for one in pool["memory"]["workers"] if one["requests"] and one["private_bytes"]]
        workers.sort(key=lambda one: one["requests"])
        if len(workers) < 4 or workers[-1]["requests"] < 10 * workers[0]["requests"]:
            yield unknown(pool_title(pool), "too few workers of different age to see growth", place)
            continue
        half = len(workers) // 2
        young = statistics.median(one["private_bytes"] for one in workers[:half])
        old = statistics.median(one["private_bytes"] for one in workers[-half:])
        if old >= 1.5 * young:
            yield bad(
                pool_title(pool),
                f"old workers hold {size(old)}, young ones {size(young)}, and pm.max_requests is 0",
                "workers that are replaced now and then",
                place,
                fix=edit(pool, "pm.max_requests", 1000),
                confidence="low",
            )
        else:
            yield good(pool_title(pool), f"old workers hold {size(old)}, young ones {size(young)}", place)
