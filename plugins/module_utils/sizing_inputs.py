# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user asked for, checked: sizes, pools, reserves. Pure; all mistakes at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import MODES, PmSettings

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
# Looked for where the user names nothing: what usually shares a host with PHP.
USUAL_SERVICES = (
    "nginx", "apache2", "httpd", "mariadbd", "mysqld", "postgres", "redis-server", "valkey-server", "memcached",
)  # fmt: skip


class InputError(ValueError):
    """``problems``: every mistake, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class WantedReserve:
    """A service by process or unit name; ``bytes`` None: what it uses now."""

    name: str
    bytes: int | None


@dataclass(frozen=True)
class WantedPool:
    """A pool as asked for; None is "not said". Sizes in bytes, times in seconds."""

    name: str
    version: str | None = None
    mode: str | None = None
    weight: float = 1.0
    min_children: int = 1
    max_children: int | None = None
    worker_bytes: int | None = None
    limit_bytes: int | None = None
    idle_timeout: int | None = None
    current: PmSettings | None = None
    requests_per_second: float | None = None
    duration_seconds: float | None = None
    access_log: str | None = None
    demand_factor: float = 1.5

    @property
    def label(self) -> str:
        return f"{self.name} (PHP {self.version})" if self.version else self.name


@dataclass(frozen=True)
class Wanted:
    """:param reserved_bytes: one fixed size for everything else; None: ``reserves`` and measuring."""

    pools: tuple[WantedPool, ...] | None
    total_bytes: int | None
    reserved_bytes: int | None
    reserves: tuple[WantedReserve, ...]
    shared_bytes: int | None
    headroom_percent: float
    tolerance_percent: float
    workers_per_core: float | None
    cpus: float | None
    evidence_requests: int
    demand_from_status: bool
    count_others: bool
    measure: bool


def parse_size(text: Any) -> int:
    """``80M``, ``1.5 GiB``, ``2048MB`` or bytes; the units are powers of 1024, as php.ini counts.

    :raises ValueError: for anything else.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if not match or isinstance(text, bool):
        raise ValueError(f"{text!r} is no size: write 2048M, 1.5G or a number of bytes")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


class _Reader:
    """Collects mistakes instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def size(self, where: str, value: Any) -> int | None:
        if value is None:
            return None
        try:
            return parse_size(value)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return None

    def pool(self, index: int, given: dict[str, Any]) -> WantedPool:
        name = str(given["name"])
        where = f"pools[{index}] ({name})"
        demand = given.get("demand") or {}
        rate, duration, log = (
            demand.get(key) for key in ("requests_per_second", "duration_seconds", "access_log")
        )
        if (rate is None and log is None and demand) or (rate is not None and duration is None):
            self.problems.append(
                f"{where}: demand needs requests_per_second and duration_seconds, or access_log"
            )
        for key, value in (("requests_per_second", rate), ("duration_seconds", duration)):
            if value is not None and value < 0:
                self.problems.append(f"{where}: demand.{key} is {value:g}: must not be negative")
        factor = demand.get("factor")
        if factor is not None and factor < 1:
            self.problems.append(f"{where}: demand.factor is {factor:g}: must be at least 1")
        limit = given.get("memory_limit")
        if limit is not None and str(limit).strip() in ("-1", "0"):
            limit = None
        worker = self.size(f"{where}: worker_memory", given.get("worker_memory"))
        if worker is not None and worker < 1024**2:
            self.problems.append(f"{where}: worker_memory is {worker} bytes: must be at least 1M")
        current = given.get("current")
        version = given.get("version")
        return WantedPool(
            name,
            str(version) if version is not None else None,
            given.get("pm"),
            _or(given.get("weight"), 1.0),
            _or(given.get("min_children"), 1),
            given.get("max_children"),
            worker,
            self.size(f"{where}: memory_limit", limit),
            given.get("process_idle_timeout"),
            current_settings(current) if current else None,
            rate,
            duration,
            log,
            _or(factor, 1.5),
        )


def _or(value: Any, default: Any) -> Any:
    """Only what is not said gets the default: a 0 is a mistake to report, not a gap."""
    return default if value is None else value


def current_settings(pm: dict[str, Any]) -> PmSettings | None:
    """The pm values of a pool as facts or a user write them; None where there is nothing to keep."""
    mode, children = pm.get("mode"), pm.get("max_children")
    if mode not in MODES or not isinstance(children, int) or children < 1:
        return None
    if mode == "static":
        return PmSettings(mode, children)
    if mode == "ondemand":
        return PmSettings(mode, children, process_idle_timeout=pm.get("process_idle_timeout"))
    start, low, high = (pm.get(key) for key in ("start_servers", "min_spare_servers", "max_spare_servers"))
    if not start and low and high:
        # What FPM takes itself when the file says nothing.
        start = low + (high - low) // 2
    return PmSettings(mode, children, start, low, high)


def parse_params(params: dict[str, Any]) -> Wanted:
    """The module's parameters.

    :raises InputError: with every mistake.
    """
    reader = _Reader()
    given = params.get("pools")
    pools = None if given is None else tuple(reader.pool(index, pool) for index, pool in enumerate(given))
    if given is not None and not given:
        reader.problems.append(
            "pools is empty: name at least one pool, or leave it out to plan for all pools found"
        )
    total = params.get("total_memory") or "auto"
    total_bytes = None if total == "auto" else reader.size("total_memory", total)
    reserved = params.get("reserved")
    fixed: int | None = None
    reserves = tuple(WantedReserve(name, None) for name in USUAL_SERVICES)
    if isinstance(reserved, list):
        reserves = tuple(_reserves(reader, reserved))
    elif reserved is not None and reserved != "auto":
        fixed = reader.size("reserved", reserved)
    shared = params.get("shared_memory") or "auto"
    shared_bytes = None if shared == "auto" else reader.size("shared_memory", shared)
    measure = _or(params.get("measure"), True)
    if not measure and total == "auto":
        reader.problems.append("total_memory is needed when measure is false: nothing is read from the host")
    if not measure and given is None and not params.get("fpm_pools"):
        reader.problems.append("pools is needed when measure is false")
    evidence = _or(params.get("evidence_requests"), 500)
    if evidence < 1:
        reader.problems.append(f"evidence_requests is {evidence}: must be at least 1")
    cpus = params.get("cpus")
    if cpus is not None and cpus <= 0:
        reader.problems.append(f"cpus is {cpus:g}: must be more than 0")
    if reader.problems:
        raise InputError(reader.problems)
    return Wanted(
        pools=pools,
        total_bytes=total_bytes,
        reserved_bytes=fixed,
        reserves=reserves if fixed is None else (),
        shared_bytes=shared_bytes,
        headroom_percent=_or(params.get("headroom"), 10.0),
        tolerance_percent=_or(params.get("tolerance"), 20.0),
        workers_per_core=params.get("workers_per_core"),
        cpus=cpus,
        evidence_requests=evidence,
        demand_from_status=bool(params.get("demand_from_status")),
        count_others=_or(params.get("other_pools"), "count") == "count",
        measure=measure,
    )


def _reserves(reader: _Reader, given: list[Any]) -> list[WantedReserve]:
    found = []
    for index, entry in enumerate(given):
        where = f"reserved[{index}]"
        if isinstance(entry, str):
            found.append(WantedReserve(entry, None))
        elif isinstance(entry, dict) and entry.get("name") and not set(entry) - {"name", "memory"}:
            name = str(entry["name"])
            found.append(WantedReserve(name, reader.size(f"{where} ({name}): memory", entry.get("memory"))))
        else:
            reader.problems.append(f"{where}: {entry!r} must be a name, or name with memory")
    names = [reserve.name for reserve in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reader.problems.append(f"reserved: {name} is named twice")
    return found
