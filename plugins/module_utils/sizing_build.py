# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts what was asked for, the host's facts and the readings together: the plan's inputs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.sizing_evidence import (
    DEFAULT_OPCACHE,
    Readings,
    cost_of,
    take_sample,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import (
    InputError,
    Wanted,
    WantedPool,
    current_settings,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import (
    Budget,
    Demand,
    Master,
    Pool,
    Reserve,
    size,
)

Facts = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Inputs:
    """What plan_host takes, and remarks for the reader."""

    budget: Budget
    pools: tuple[Pool, ...]
    notes: tuple[str, ...]


def build(wanted: Wanted, facts: Facts, readings: Readings) -> Inputs:
    """
    :param facts: ``fpm_pools`` and ``fpm_masters`` as fpm_pool_facts returns them (empty lists: nothing there).
    :raises InputError: when the host has not what was asked for.
    """
    notes: list[str] = []
    away = {master.get("pid") for master in facts["fpm_masters"] if master.get("in_container")} - {None}
    found = _unique([pool for pool in facts["fpm_pools"] if pool.get("pid") not in away])
    for pool in facts["fpm_pools"]:
        if pool.get("pid") in away:
            notes.append(f"Pool {_label(pool)} runs in a container of its own: size it there.")
    asked = _asked(wanted, found)
    pairs = [(pool, _match(pool, found)) for pool in asked]
    total, source = _total(wanted, readings)
    matched = {id(match) for _pool, match in pairs if match}
    others = [pool for pool in found if id(pool) not in matched] if wanted.count_others else []
    planned: list[Pool] = []
    masters: dict[str, Master] = {}
    for one, match in pairs:
        named = replace(one, version=one.version or (match or {}).get("version"))
        key, owner = _owner(named, match, facts["fpm_masters"])
        if key not in masters:
            masters[key] = _master(key, named, owner, found, wanted, readings)
        planned.append(_pool(named, match, key, wanted, readings))
    reserves = []
    for pool in others:
        if not (pool.get("memory") or {}).get("workers"):
            continue
        reserve = _other_pool(pool, readings)
        reserves.append(reserve)
        key = _key(pool)
        limit = masters[key].limit_bytes if key in masters else None
        if limit is not None:
            words = f"{masters[key].limit_source}, less {size(reserve.bytes)} for {reserve.name}"
            masters[key] = replace(masters[key], limit_bytes=limit - reserve.bytes, limit_source=words)
    reserves += _reserves(wanted, readings, facts, notes)
    budget = Budget(
        total,
        source,
        tuple(reserves),
        wanted.headroom_percent,
        wanted.tolerance_percent,
        wanted.cpus or (readings.host.cpus if readings.host else None),
        wanted.workers_per_core,
        tuple(masters.values()),
    )
    if wanted.workers_per_core is not None and budget.cpus is None:
        raise InputError(["workers_per_core is given, but the number of CPUs is not known: give cpus too"])
    return Inputs(budget, tuple(planned), tuple(notes))


def _label(pool: dict[str, Any]) -> str:
    return f"{pool['name']} (PHP {pool['version']})" if pool.get("version") else str(pool["name"])


def _key(pool: dict[str, Any]) -> str:
    return str(pool.get("unit") or pool.get("master") or f"PHP {pool.get('version')}")


def _unique(pools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One of each name and version: a running one where there are several."""
    best: dict[tuple[Any, Any], dict[str, Any]] = {}
    for pool in pools:
        key = (pool["name"], pool.get("version"))
        if key not in best or (pool.get("pid") and not best[key].get("pid")):
            best[key] = pool
    return list(best.values())


def _asked(wanted: Wanted, found: list[dict[str, Any]]) -> list[WantedPool]:
    if wanted.pools is not None:
        return list(wanted.pools)
    if not found:
        raise InputError(["no PHP-FPM pool was found on this host: name the pools to plan for in pools"])
    return [WantedPool(pool["name"], pool.get("version")) for pool in found]


def _match(wanted: WantedPool, found: list[dict[str, Any]]) -> dict[str, Any] | None:
    named = [pool for pool in found if pool["name"] == wanted.name]
    if wanted.version is not None:
        named = [pool for pool in named if pool.get("version") == wanted.version]
    if len(named) > 1:
        versions = ", ".join(str(pool.get("version")) for pool in named)
        raise InputError([f"pool {wanted.name} exists for PHP {versions}: say which version"])
    return named[0] if named else None


def _total(wanted: Wanted, readings: Readings) -> tuple[int, str]:
    if wanted.total_bytes is not None:
        return wanted.total_bytes, "given"
    if readings.host is None:
        raise InputError(["the host's memory cannot be read (/proc/meminfo): give total_memory"])
    return readings.host.total_bytes, readings.host.source


def _owner(
    pool: WantedPool, match: dict[str, Any] | None, masters: list[dict[str, Any]]
) -> tuple[str, dict[str, Any] | None]:
    """The key and the facts of the master that runs or will run a pool."""
    if match:
        key = _key(match)
        owners = [one for one in masters if key in (one.get("unit"), one.get("config_file"))]
        return key, owners[0] if owners else None
    same = [one for one in masters if one.get("version") == pool.version and not one.get("in_container")]
    same.sort(key=lambda one: not one.get("running"))
    if same:
        return str(same[0].get("unit") or same[0].get("config_file")), same[0]
    return f"PHP {pool.version}" if pool.version else "PHP", None


def _master(
    key: str,
    pool: WantedPool,
    owner: dict[str, Any] | None,
    found: list[dict[str, Any]],
    wanted: Wanted,
    readings: Readings,
) -> Master:
    unit = readings.units.get((owner or {}).get("unit") or "")
    state = (owner or {}).get("unit_state") or {}
    limit = unit.memory_bytes if unit else state.get("memory_max_bytes")
    source = f"{unit.memory_source if unit and unit.memory_source else 'MemoryMax'} of {key}" if limit else ""
    shared, words = _shared(key, pool, owner, found, wanted, readings)
    return Master(key, shared, limit, source, unit.cpus if unit else None, words)


def _shared(
    key: str,
    pool: WantedPool,
    owner: dict[str, Any] | None,
    found: list[dict[str, Any]],
    wanted: Wanted,
    readings: Readings,
) -> tuple[int, str]:
    """What one master and all its workers have once: OPcache, libraries, the master itself."""
    if wanted.shared_bytes is not None:
        return wanted.shared_bytes, "given as shared_memory"
    sizes = [
        worker["shared_bytes"]
        for one in found
        if _key(one) == key
        for worker in (one.get("memory") or {}).get("workers") or []
        if worker.get("shared_bytes") is not None
    ]
    if sizes:
        own = readings.processes.get((owner or {}).get("pid") or 0)
        return max(sizes) + (own.private_bytes if own else 0), "measured: OPcache, libraries and the master"
    if not wanted.measure:
        return 0, "not given"
    text, where = readings.php_ini.get(pool.version or "", {}).get("opcache.memory_consumption", ("", ""))
    if text.isdigit():
        return int(text) * 1024**2, f"nothing measured; opcache.memory_consumption ({where})"
    return DEFAULT_OPCACHE, "nothing measured; the default of opcache.memory_consumption"


def _pool(
    wanted: WantedPool, match: dict[str, Any] | None, key: str, all_wanted: Wanted, readings: Readings
) -> Pool:
    current = wanted.current or current_settings((match or {}).get("pm") or {})
    return Pool(
        wanted.name,
        wanted.version or "",
        wanted.mode or (current.mode if current else "dynamic"),
        cost_of(wanted, match, readings, all_wanted.evidence_requests),
        key,
        wanted.weight,
        wanted.min_children,
        wanted.max_children,
        _demand(wanted, match, all_wanted, readings),
        current,
        wanted.idle_timeout,
        _was_full(match or {}),
    )


def _was_full(pool: dict[str, Any]) -> bool:
    """As far as the status page and the kernel's queue tell."""
    status = pool.get("status") or {}
    waiting = (pool.get("queue") or {}).get("waiting") or 0
    return bool(status.get("max_children_reached")) or status.get("state") == "saturated" or waiting > 0


def _demand(
    wanted: WantedPool, match: dict[str, Any] | None, all_wanted: Wanted, readings: Readings
) -> Demand | None:
    factor = wanted.demand_factor
    if wanted.access_log:
        log = readings.logs.get(wanted.access_log)
        if log is None:
            raise InputError([
                f"{wanted.label}: {wanted.access_log} tells no demand: it needs times of day, and either"
                " urt=$upstream_response_time in log_format or demand.duration_seconds"
            ])  # fmt: skip
        how = "logged" if log.timed else "given"
        words = (
            f"{log.requests} requests in the busiest minute of {wanted.access_log} ({log.minute}),"
            f" {log.mean_seconds:.3f} s each ({how}): {log.concurrency:.1f} busy workers"
        )
        return Demand(log.concurrency, factor, words)
    rate, duration = wanted.requests_per_second, wanted.duration_seconds
    if rate is not None and duration is not None:
        busy = rate * duration
        return Demand(busy, factor, f"{rate:g} requests/s × {duration:g} s = {busy:.1f} busy workers (given)")
    status = (match or {}).get("status") or {}
    most = status.get("max_active_processes")
    if not all_wanted.demand_from_status or not most or status.get("max_children_reached"):
        # A pool that was full hides how many workers would have been busy.
        return None
    accepted, since = status.get("accepted_conn"), status.get("start_since")
    rate_words = f" ({accepted} requests in {since} s)" if accepted and since else ""
    return Demand(
        float(most), factor, f"at most {most} workers were busy at once since the start{rate_words}"
    )


def _other_pool(pool: dict[str, Any], readings: Readings) -> Reserve:
    """A pool that runs but is not to be planned: what it takes when it is full of workers as they are now."""
    sample = take_sample(pool, readings)
    each = sample.private_bytes or sample.rss_bytes or 0
    count = max(sample.workers, (pool.get("pm") or {}).get("max_children") or 0)
    return Reserve(f"pool {_label(pool)}", count * each, f"not in this plan: {count} × {size(each)}")


def _reserves(wanted: Wanted, readings: Readings, facts: Facts, notes: list[str]) -> list[Reserve]:
    host = readings.host
    fpm = [
        one.anon_bytes if one.anon_bytes is not None else one.pss_bytes for one in readings.processes.values()
    ]
    used = host.used_bytes if host else None
    others = None if used is None else max(0, used - sum(fpm))
    if wanted.reserved_bytes is not None:
        if others is not None and wanted.total_bytes is None and others > wanted.reserved_bytes:
            notes.append(
                f"{size(wanted.reserved_bytes)} are reserved, but everything except PHP-FPM uses"
                f" {size(others)} now: reserve more."
            )
        return [Reserve("reserved", wanted.reserved_bytes, "given")]
    measured = {service.name: service for service in readings.services}
    found = []
    seen = 0
    for reserve in wanted.reserves:
        service = measured.get(reserve.name)
        now = service.pss_bytes if service and service.pids else 0
        if now is None:
            notes.append(
                f"{reserve.name} runs, but its memory may not be read: run it as root (become: true)."
            )
            now = 0
        # Memory kept for something that does not run by that name covers others ("os").
        seen += now if service and service.pids else reserve.bytes or 0
        if reserve.bytes is not None:
            how = f"given; it uses {size(now)} now" if now else "given"
            if now > reserve.bytes:
                how = f"measured; more than the {size(reserve.bytes)} given"
            found.append(Reserve(reserve.name, max(reserve.bytes, now), how))
        elif service and service.pids:
            found.append(Reserve(reserve.name, now, f"measured: PSS of {len(service.pids)} processes"))
    if not wanted.measure:
        return found
    if others is None:
        notes.append(
            "What everything else on the host uses is not known, and is not reserved: give reserved."
        )
        return found
    found.append(
        Reserve("everything else", max(0, others - seen), "measured: in use now, less the above and PHP-FPM")
    )
    return found
