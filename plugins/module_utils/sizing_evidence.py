# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker costs, and how far the evidence carries. Pure: facts and readings in, a Cost out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import (
    HostMemory,
    ProcessMemory,
    ServiceMemory,
    UnitLimits,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_demand import LogDemand
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import WantedPool, parse_size
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import Cost, size

# PHP's own defaults, where no php.ini says otherwise.
DEFAULT_MEMORY_LIMIT = 128 * 1024**2
DEFAULT_OPCACHE = 128 * 1024**2
# Where no status page counts requests, this much CPU time stands for one.
_CPU_SECONDS_PER_REQUEST = 0.02
# Workers far below their limit must have proven it with many more requests.
_LIGHT_SHARE = 0.05
_LIGHT_FACTOR = 10
# Workers that are replaced often (pm.max_requests, ondemand) show a part of the pool's requests.
_RECENT_SHARE = 0.2


@dataclass(frozen=True)
class Readings:
    """What the ports found.

    :param processes: of PHP-FPM, by pid.
    :param php_ini: per PHP version, directive → (value, file).
    :param logs: per path of an access log, its busiest minute (None: nothing usable in it).
    """

    host: HostMemory | None = None
    processes: dict[int, ProcessMemory] = field(default_factory=dict)
    services: tuple[ServiceMemory, ...] = ()
    units: dict[str, UnitLimits] = field(default_factory=dict)
    php_ini: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    logs: dict[str, LogDemand | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """The workers of one pool; sizes in bytes, None where nothing may be read.

    :param private_bytes: the 95th percentile of the workers' private peaks.
    :param rss_bytes: the mean of the workers' RSS, at its peak where the kernel tells.
    :param requests: served by these workers; ``accepted``: by the pool since it started.
    """

    workers: int = 0
    readable: bool = True
    peaks: bool = False
    private_bytes: int | None = None
    private_max_bytes: int | None = None
    rss_bytes: int | None = None
    requests: int | None = None
    accepted: int | None = None
    cpu_seconds: float | None = None


def take_sample(pool: dict[str, Any], readings: Readings) -> Sample:
    """From a pool of fpm_pools and what was read of its processes."""
    workers = (pool.get("memory") or {}).get("workers") or []
    accepted = (pool.get("status") or {}).get("accepted_conn")
    if not workers:
        return Sample(accepted=accepted)
    read = [readings.processes.get(worker["pid"]) for worker in workers]
    private = []
    for worker, process in zip(workers, read):
        now = worker.get("private_bytes")
        private.append(process.private_peak_bytes if process else now)
    known = sorted(value for value in private if value is not None)
    # Both answers must be about the same moment: the peak.
    resident = [
        process.peak_rss_bytes if process and process.peak_rss_bytes is not None else worker.get("rss_bytes")
        for worker, process in zip(workers, read)
    ]
    rss = [value for value in resident if value is not None]
    requests = [worker.get("requests") for worker in workers]
    counted = [value for value in requests if value is not None]
    cpu = [process.cpu_seconds for process in read if process and process.cpu_seconds is not None]
    return Sample(
        workers=len(workers),
        readable=bool(known),
        peaks=all(process and process.peak_rss_bytes is not None for process in read),
        private_bytes=known[math.ceil(len(known) * 0.95) - 1] if known else None,
        private_max_bytes=known[-1] if known else None,
        rss_bytes=sum(rss) // len(rss) if rss else None,
        requests=sum(counted) if len(counted) == len(requests) else None,
        accepted=accepted,
        cpu_seconds=sum(cpu) if cpu else None,
    )


def worst_case(wanted: WantedPool, pool: dict[str, Any] | None, readings: Readings) -> tuple[int, str, str]:
    """(memory_limit in bytes, source memory_limit or default, where it comes from in words)."""
    if wanted.limit_bytes is not None:
        return wanted.limit_bytes, "memory_limit", "given"
    directives = (pool or {}).get("directives") or {}
    candidates: list[tuple[Any, str]] = []
    for key in ("php_admin_value[memory_limit]", "php_value[memory_limit]"):
        setting = directives.get(key) or {}
        where = f"{setting.get('file')}:{setting.get('line')}"
        candidates.append((setting.get("value"), where))
    candidates.append(readings.php_ini.get(wanted.version or "", {}).get("memory_limit", (None, "")))
    for value, where in candidates:
        if value is None:
            continue
        try:
            limit = parse_size(value)
        except ValueError:
            limit = 0
        if limit > 0:
            return limit, "memory_limit", where
        return (
            DEFAULT_MEMORY_LIMIT,
            "default",
            f"{where} sets no limit ({value}), so PHP's default is assumed",
        )
    return DEFAULT_MEMORY_LIMIT, "default", "PHP's default; no setting was found"


def cost_of(wanted: WantedPool, pool: dict[str, Any] | None, readings: Readings, enough: int) -> Cost:
    """
    :param enough: requests that count as a load.
    """
    limit, limit_source, limit_words = worst_case(wanted, pool, readings)
    sample = take_sample(pool or {}, readings)
    if wanted.worker_bytes is not None:
        words = [f"One worker costs {size(wanted.worker_bytes)}: given as worker_memory."]
        if sample.private_bytes is not None and sample.private_bytes > wanted.worker_bytes:
            words.append(
                f"But its workers have taken {size(sample.private_bytes)} of private memory already."
            )
        return Cost(
            wanted.worker_bytes,
            "given",
            "high",
            max(limit, wanted.worker_bytes),
            sample.private_bytes,
            sample.rss_bytes,
            tuple(words),
        )
    confidence, reasons, measure = _judge(sample, limit, limit_source, enough)
    if confidence == "low" or sample.private_bytes is None:
        worst = max(limit, sample.private_bytes or 0)
        words = [*reasons, f"The worst case of a worker is memory_limit = {size(limit)} ({limit_words})."]
        return Cost(
            worst,
            limit_source,
            "low",
            worst,
            sample.private_bytes,
            sample.rss_bytes,
            tuple(words),
            tuple(measure),
        )
    private = sample.private_bytes
    seen = "the private memory peaks" if sample.peaks else "the private memory at this moment"
    words = [f"One worker costs {size(private)}: 95 % of {sample.workers} workers stay below it ({seen})."]
    if sample.private_max_bytes is not None and sample.private_max_bytes >= 2 * private:
        words.append(
            f"One worker went up to {size(sample.private_max_bytes)}: give such routes a pool of their own."
        )
    if limit >= 2 * private:
        words.append(f"memory_limit would allow {size(limit)} ({limit_words}).")
    return Cost(
        private,
        "measured",
        confidence,
        max(limit, private),
        private,
        sample.rss_bytes,
        (*words, *reasons),
        tuple(measure),
    )


def _judge(sample: Sample, limit: int, limit_source: str, enough: int) -> tuple[str, list[str], list[str]]:
    """(confidence, why, what to measure)."""
    if sample.workers == 0:
        return (
            "low",
            ["No worker of it runs, so nothing is measured."],
            [f"Run fpm_sizing again under the usual load, after at least {enough} requests."],
        )
    if not sample.readable:
        return "low", ["The memory of its workers may not be read."], ["Run it as root (become: true)."]
    private = sample.private_bytes or 0
    seen, enough_cpu = sample.requests, enough * _CPU_SECONDS_PER_REQUEST
    if seen is None:
        seen = sample.accepted
    if seen is None:
        measure = ["Set pm.status_path, so that requests are counted."]
        if sample.cpu_seconds is None or sample.cpu_seconds < enough_cpu:
            used = "unknown" if sample.cpu_seconds is None else f"{sample.cpu_seconds:.1f} s"
            why = f"How many requests its workers served is not known, and their CPU time ({used}) is too little."
            return "low", [why], [*measure, "Then run fpm_sizing again under the usual load."]
        why = f"No status page counts its requests; {sample.cpu_seconds:.0f} s of CPU time stand for the evidence."
        return _light("medium", int(sample.cpu_seconds / _CPU_SECONDS_PER_REQUEST), private, limit, limit_source,
                      enough, [why], measure)  # fmt: skip
    confidence = "high" if sample.peaks and sample.workers >= 2 else "medium"
    why = f"Its {sample.workers} workers served {seen} requests."
    if seen < enough:
        accepted = sample.accepted or 0
        if accepted < enough or seen < enough * _RECENT_SHARE:
            more = f"Run fpm_sizing again under the usual load, after at least {enough} requests."
            return "low", [f"{why} That is too little evidence: {enough} are wanted."], [more]
        confidence = "medium"
        why += f" The pool served {accepted} since it started."
    return _light(
        confidence, max(seen, sample.accepted or 0), private, limit, limit_source, enough, [why], []
    )


def _light(
    confidence: str,
    seen: int,
    private: int,
    limit: int,
    limit_source: str,
    enough: int,
    why: list[str],
    measure: list[str],
) -> tuple[str, list[str], list[str]]:
    """Tiny workers may only mean that the heavy pages were not asked for yet."""
    wanted = enough * _LIGHT_FACTOR
    if limit_source == "memory_limit" and private < limit * _LIGHT_SHARE and seen < wanted:
        why = [*why, f"The workers took {size(private)} of {size(limit)} (memory_limit): that looks like light"
               f" pages only, and {wanted} requests are wanted to believe it."]  # fmt: skip
        return (
            "low",
            why,
            [*measure, "Ask for the heaviest pages (search, export, admin), then run it again."],
        )
    return confidence, why, measure
