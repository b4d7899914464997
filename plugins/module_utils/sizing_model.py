# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a memory plan is made of: costs, pools, masters, the budget, and the plan itself.

Sizes are integers in bytes. Nothing here reads a host or decides anything;
``sizing`` plans, ``sizing_inputs`` fills these in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MODES = ("static", "dynamic", "ondemand")
DEFAULT_IDLE_TIMEOUT = 10


def size(count: float) -> str:
    """Bytes in words, in the unit that people write in configurations."""
    if count >= 10240 * 1024 * 1024:
        return f"{count / 1024**3:.1f} GiB"
    if count >= 100 * 1024 * 1024:
        return f"{count / 1024**2:.0f} MiB"
    if count >= 1024 * 1024 or count == 0:
        return f"{count / 1024**2:.1f} MiB".replace(".0 ", " ")
    return f"{count / 1024:.0f} KiB"


@dataclass(frozen=True)
class PmSettings:
    """The pm.* values of one pool; None for those that its mode does not use.

    :param process_idle_timeout: seconds.
    """

    mode: str
    max_children: int
    start_servers: int | None = None
    min_spare_servers: int | None = None
    max_spare_servers: int | None = None
    process_idle_timeout: int | None = None

    def problems(self) -> list[str]:
        """Why ``php-fpm -t`` would reject these values; empty when it takes them."""
        if self.mode not in MODES:
            return [f"pm is {self.mode}: must be one of {', '.join(MODES)}"]
        found = []
        if self.max_children < 1:
            found.append(f"pm.max_children is {self.max_children}: must be at least 1")
        if self.mode == "ondemand" and (self.process_idle_timeout or 0) < 1:
            found.append("pm.process_idle_timeout must be at least 1 s")
        if self.mode == "dynamic":
            low, start, high = self.min_spare_servers, self.start_servers, self.max_spare_servers
            if low is None or start is None or high is None:
                found.append("pm = dynamic needs start_servers, min_spare_servers and max_spare_servers")
            elif not 1 <= low <= start <= high <= self.max_children:
                found.append(
                    f"must be 1 <= min_spare_servers ({low}) <= start_servers ({start})"
                    f" <= max_spare_servers ({high}) <= max_children ({self.max_children})"
                )
        return found


@dataclass(frozen=True)
class Cost:
    """What one worker of a pool costs; sizes in bytes.

    :param worker_bytes: what the plan counts for a worker.
    :param source: given, measured, memory_limit or default.
    :param confidence: high, medium or low.
    :param worst_bytes: what a worker may take at most (its memory_limit), for a pool that is kept.
    :param private_bytes: measured private peak of a worker, or None.
    :param rss_bytes: measured mean RSS of a worker, or None.
    :param words: how the number came about; sentences.
    :param measure: what to measure to know better; sentences.
    """

    worker_bytes: int
    source: str
    confidence: str
    worst_bytes: int
    private_bytes: int | None = None
    rss_bytes: int | None = None
    words: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demand:
    """How many workers are busy at the same time at the peak, and how much room to leave above."""

    concurrency: float
    factor: float
    words: str

    @property
    def ceiling(self) -> int:
        # 12 × 0.25 × 1.5 in floating point must not become one worker more.
        return max(1, math.ceil(round(self.concurrency * self.factor, 6)))


@dataclass(frozen=True)
class Pool:
    """A pool to plan.

    :param master: key of its Master.
    :param weight: its share of the workers' memory, against the other pools' weights.
    :param max_children: the user's cap, or None.
    :param full: it had no free worker at some time: what it has now is too small.
    """

    name: str
    version: str
    mode: str
    cost: Cost
    master: str = ""
    weight: float = 1.0
    min_children: int = 1
    max_children: int | None = None
    demand: Demand | None = None
    current: PmSettings | None = None
    idle_timeout: int | None = None
    full: bool = False

    @property
    def label(self) -> str:
        return f"{self.name} (PHP {self.version})" if self.version else self.name

    @property
    def high(self) -> int | None:
        limits = [self.max_children, self.demand.ceiling if self.demand else None]
        high = min((limit for limit in limits if limit is not None), default=None)
        return None if high is None else max(high, self.min_children)

    @property
    def keeps(self) -> bool:
        """Too little evidence to change what is there."""
        return self.current is not None and self.cost.confidence == "low"

    @property
    def kept_children(self) -> int:
        current = self.current.max_children if self.current else self.min_children
        return max(self.min_children, min(current, self.max_children or current))


@dataclass(frozen=True)
class Master:
    """One FPM master: what its pools share once, and the limits of its unit."""

    key: str
    shared_bytes: int = 0
    limit_bytes: int | None = None
    limit_source: str = ""
    cpus: float | None = None
    shared_words: str = ""


@dataclass(frozen=True)
class Reserve:
    """Memory that is not for workers, and how the number came about."""

    name: str
    bytes: int
    how: str


@dataclass(frozen=True)
class Budget:
    """The host's inputs.

    :param headroom_percent: of what is left after the reserves.
    :param tolerance_percent: a change smaller than this is not made.
    """

    total_bytes: int
    source: str
    reserves: tuple[Reserve, ...] = ()
    headroom_percent: float = 0.0
    tolerance_percent: float = 0.0
    cpus: float | None = None
    workers_per_core: float | None = None
    masters: tuple[Master, ...] = ()

    @property
    def reserved_bytes(self) -> int:
        return sum(reserve.bytes for reserve in self.reserves)

    @property
    def shared_bytes(self) -> int:
        return sum(master.shared_bytes for master in self.masters)

    @property
    def headroom_bytes(self) -> int:
        return math.ceil(max(0, self.total_bytes - self.reserved_bytes) * self.headroom_percent / 100)

    @property
    def available_bytes(self) -> int:
        """For workers' private memory; negative when not even the rest fits."""
        return self.total_bytes - self.reserved_bytes - self.headroom_bytes - self.shared_bytes

    @property
    def hard_bytes(self) -> int:
        """What kept values may use at most: the headroom too, but nothing beyond."""
        return self.available_bytes + self.headroom_bytes

    def master_bytes(self, master: Master, hard: bool = False) -> int | None:
        """For the workers' private memory under one unit's limit."""
        if master.limit_bytes is None:
            return None
        headroom = 0 if hard else math.ceil(master.limit_bytes * self.headroom_percent / 100)
        return master.limit_bytes - headroom - master.shared_bytes

    def worker_ceiling(self, cpus: float | None) -> int | None:
        """The most workers for that many CPUs; None without a factor."""
        if cpus is None or self.workers_per_core is None:
            return None
        return max(1, math.floor(round(cpus * self.workers_per_core, 6)))


@dataclass
class Share:
    """What the plan came to for one pool.

    :param planned: workers before the current value was kept.
    :param binding: memory, unit_limit, cpu, demand, cap, minimum, or evidence (kept for lack of it).
    :param charged_bytes: what it takes of the budget.
    :param kept: "", "tolerance" or "evidence".
    :param by_rss: workers that memory alone would allow, counted by RSS (None: not measured).
    :param by_private: the same, counted by measured private peaks.
    """

    pool: Pool
    planned: int = 0
    children: int = 0
    binding: str = ""
    charged_bytes: int = 0
    kept: str = ""
    by_rss: int | None = None
    by_private: int | None = None
    pm: PmSettings = field(default_factory=lambda: PmSettings("static", 1))


@dataclass(frozen=True)
class HostPlan:
    """``problems`` says with the numbers why nothing fits; the shares are then empty."""

    budget: Budget
    shares: tuple[Share, ...]
    problems: tuple[str, ...] = ()

    @property
    def feasible(self) -> bool:
        return not self.problems

    @property
    def used_bytes(self) -> int:
        return sum(share.charged_bytes for share in self.shares)
