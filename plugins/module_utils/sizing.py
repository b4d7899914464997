# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans pm.* for all pools of a host within one budget. Pure: numbers in, numbers out.

The model: a worker costs its private memory; what workers share (OPcache,
libraries) is paid once per master. Memory is dealt out by weight: workers are
added one at a time, always to the pool whose next worker would leave it with
the smallest share of memory for its weight, until a limit stops it. More
memory only lets this go on for longer, so no pool ever gets less from it.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import (
    DEFAULT_IDLE_TIMEOUT,
    MODES,
    Budget,
    HostPlan,
    PmSettings,
    Pool,
    Share,
    size,
)


@dataclass
class _Limit:
    """``members`` are indexes of claims; a worker takes its cost, or 1 where ``heads``; ``master``: whose limit."""

    name: str
    capacity: int
    members: frozenset[int]
    master: str = ""
    heads: bool = False
    used: int = 0

    def weight_of(self, cost: int) -> int:
        return 1 if self.heads else cost


@dataclass
class _Claim:
    cost: int
    weight: float
    low: int
    high: int | None
    got: int = 0
    binding: str = ""


def _fill(claims: list[_Claim], limits: list[_Limit]) -> list[_Limit]:
    """Deal workers out (see the module's text); returns the memory limits that the minimums alone exceed."""
    for claim in claims:
        claim.got = claim.low
    for limit in limits:
        limit.used = sum(limit.weight_of(claims[index].cost) * claims[index].got for index in limit.members)
    broken = [limit for limit in limits if limit.used > limit.capacity and not limit.heads]
    if broken:
        return broken
    stopped: set[int] = set()
    queue = [((claim.got + 1) * claim.cost / claim.weight, index) for index, claim in enumerate(claims)]
    heapq.heapify(queue)
    while queue:
        _level, index = heapq.heappop(queue)
        claim = claims[index]
        if index in stopped:
            continue
        if claim.high is not None and claim.got >= claim.high:
            claim.binding = "high"
            continue
        full = [
            limit
            for limit in limits
            if index in limit.members and limit.used + limit.weight_of(claim.cost) > limit.capacity
        ]
        if full:
            # Everyone under the limit stops here, also those with smaller
            # workers: else more memory could take workers from them again.
            for member in full[0].members - stopped:
                stopped.add(member)
                claims[member].binding = claims[member].binding or full[0].name
            continue
        claim.got += 1
        for limit in limits:
            if index in limit.members:
                limit.used += limit.weight_of(claim.cost)
        heapq.heappush(queue, ((claim.got + 1) * claim.cost / claim.weight, index))
    return []


def _limits(budget: Budget, pools: list[Pool]) -> list[_Limit]:
    everyone = frozenset(range(len(pools)))
    limits = []
    for master in budget.masters:
        members = frozenset(index for index in everyone if pools[index].master == master.key)
        capacity = budget.master_bytes(master)
        if capacity is not None:
            limits.append(_Limit("unit_limit", capacity, members, master.key))
        heads = budget.worker_ceiling(master.cpus)
        if heads is not None:
            limits.append(_cpu_limit(pools, heads, members))
    limits.append(_Limit("memory", budget.available_bytes, everyone))
    heads = budget.worker_ceiling(budget.cpus)
    if heads is not None:
        limits.append(_cpu_limit(pools, heads, everyone))
    return limits


def _cpu_limit(pools: list[Pool], heads: int, members: frozenset[int]) -> _Limit:
    """Pools that stay as they are take their heads off beforehand."""
    kept = frozenset(index for index in members if pools[index].keeps and not pools[index].full)
    taken = sum(pools[index].kept_children for index in kept)
    return _Limit("cpu", heads - taken, members - kept, heads=True)


def _claims(pools: list[Pool], shrink: bool) -> list[_Claim]:
    """
    :param shrink: what is kept for lack of evidence does not fit: let those pools shrink, never grow.
    """
    claims = []
    for pool in pools:
        known = pool.cost.private_bytes or 0
        if not pool.keeps:
            claims.append(_Claim(pool.cost.worker_bytes, pool.weight, pool.min_children, pool.high))
        elif shrink:
            cost = known or pool.cost.worker_bytes
            claims.append(_Claim(cost, pool.weight, pool.min_children, pool.kept_children))
        else:
            # It may grow to its worst case: set its fair share aside for that,
            # but at least what its workers are known to take.
            worst = max(pool.cost.worst_bytes, known)
            low = math.ceil(pool.kept_children * known / worst)
            # One that was full may grow as far as its worst case fits.
            high = pool.high if pool.full else pool.kept_children
            claims.append(_Claim(worst, pool.weight, low, high))
    return claims


def plan_host(budget: Budget, pools: list[Pool]) -> HostPlan:
    """The plan for all pools; with ``problems`` when even their minimums do not fit.

    :raises ValueError: for pools that contradict themselves, all mistakes at once.
    """
    _check(budget, pools)
    limits = _limits(budget, pools)
    shrink = False
    claims = _claims(pools, shrink)
    broken = _fill(claims, limits)
    if broken and any(pool.keeps for pool in pools):
        shrink = True
        claims = _claims(pools, shrink)
        limits = _limits(budget, pools)
        broken = _fill(claims, limits)
    if broken:
        return HostPlan(budget, (), tuple(_refusal(budget, pools, claims, limit) for limit in broken))
    shares = [_share(pool, claim, shrink) for pool, claim in zip(pools, claims)]
    _keep_within_tolerance(budget, shares)
    _compare(budget, shares)
    for share in shares:
        share.pm = settings(share.pool, share.children)
    return HostPlan(budget, tuple(shares))


def _check(budget: Budget, pools: list[Pool]) -> None:
    wrong = []
    if not 0 <= budget.headroom_percent < 100:
        wrong.append(f"headroom is {budget.headroom_percent:g} %: must be from 0 to less than 100")
    if budget.tolerance_percent < 0:
        wrong.append(f"tolerance is {budget.tolerance_percent:g} %: must not be negative")
    if budget.workers_per_core is not None and budget.workers_per_core <= 0:
        wrong.append(f"workers_per_core is {budget.workers_per_core:g}: must be more than 0")
    seen: set[tuple[str, str]] = set()
    for pool in pools:
        where = f"pool {pool.label}"
        if (pool.name, pool.version) in seen:
            wrong.append(f"{where} is given twice")
        seen.add((pool.name, pool.version))
        if pool.mode not in MODES:
            wrong.append(f"{where}: pm is {pool.mode}: must be one of {', '.join(MODES)}")
        if not 0 < pool.weight < math.inf:
            wrong.append(f"{where}: weight is {pool.weight:g}: must be more than 0")
        if pool.min_children < 1:
            wrong.append(f"{where}: min_children is {pool.min_children}: must be at least 1")
        if pool.max_children is not None and pool.max_children < pool.min_children:
            wrong.append(
                f"{where}: max_children {pool.max_children} is below min_children {pool.min_children}"
            )
        if pool.cost.worker_bytes < 1:
            wrong.append(f"{where}: worker_memory is {pool.cost.worker_bytes} bytes: must be more than 0")
        if pool.idle_timeout is not None and pool.idle_timeout < 1:
            wrong.append(f"{where}: process_idle_timeout is {pool.idle_timeout}: must be at least 1 s")
    if wrong:
        raise ValueError("; ".join(wrong))


def _refusal(budget: Budget, pools: list[Pool], claims: list[_Claim], limit: _Limit) -> str:
    asked = ", ".join(
        f"{pools[index].label} {claims[index].low} × {size(claims[index].cost)}"
        for index in sorted(limit.members)
    )
    rest = (
        f"{size(budget.total_bytes)} ({budget.source}) - {size(budget.reserved_bytes)} reserved"
        f" - {size(budget.headroom_bytes)} headroom - {size(budget.shared_bytes)} shared"
    )
    if limit.name == "unit_limit":
        master = next(one for one in budget.masters if one.key == limit.master)
        rest = (
            f"{size(master.limit_bytes or 0)} ({master.limit_source or 'limit of ' + master.key})"
            f" - {budget.headroom_percent:g} % headroom - {size(master.shared_bytes)} shared"
        )
    left = (
        f"{size(limit.capacity)} are left" if limit.capacity >= 0 else f"{size(-limit.capacity)} are missing"
    )
    return (
        f"The smallest number of workers does not fit: {asked} = {size(limit.used)}, but {left} for workers:"
        f" {rest}. Lower memory_limit, min_children or what is reserved, or give the host more memory."
    )


def _share(pool: Pool, claim: _Claim, shrink: bool) -> Share:
    binding = claim.binding
    if binding == "high":
        at_cap = pool.max_children is not None and pool.high == pool.max_children
        binding = "cap" if at_cap else "demand"
    if pool.demand and claim.got == pool.min_children > pool.demand.ceiling:
        binding = "minimum"
    if claim.got == pool.min_children > 1 and binding in ("memory", "unit_limit", "cpu"):
        binding = "minimum"
    children = claim.got
    kept = ""
    if pool.keeps:
        grown = claim.got if pool.full else 0
        children = claim.got if shrink else max(pool.kept_children, grown)
        current = pool.current.max_children if pool.current else 0
        kept = "evidence" if children == current else ""
        if kept:
            binding = "evidence"
        elif children <= pool.kept_children and (not shrink or claim.got == pool.kept_children):
            binding = "cap" if children < current else "minimum"
    charged = claim.got * claim.cost
    return Share(pool, planned=children, children=children, binding=binding, charged_bytes=charged, kept=kept)


def _keep_within_tolerance(budget: Budget, shares: list[Share]) -> None:
    """A second run must change nothing only because a measurement moved a little."""
    for share in shares:
        pool, current = share.pool, share.pool.current
        if current is None or pool.keeps or current.max_children == share.planned:
            continue
        now = current.max_children
        if now < pool.min_children or now > (pool.max_children or now):
            continue
        # One worker more or less is noise, except that a second worker is a
        # great step for a pool with one.
        step = max(1, math.floor(now * budget.tolerance_percent / 100)) if budget.tolerance_percent else 0
        doubles = now == 1 and share.planned == 2
        if abs(now - share.planned) <= step and not doubles:
            share.children, share.kept = now, "tolerance"
            share.charged_bytes = now * pool.cost.worker_bytes
    # Values kept above the plan live on the headroom. Where that is not enough, the greatest excess goes first.
    excess = sorted(
        (share for share in shares if share.kept == "tolerance" and share.children > share.planned),
        key=lambda share: (share.planned - share.children) * share.pool.cost.worker_bytes,
    )
    for share in excess:
        if not _too_much(budget, shares, share.pool.master):
            continue
        share.children, share.kept = share.planned, ""
        share.charged_bytes = share.planned * share.pool.cost.worker_bytes


def _too_much(budget: Budget, shares: list[Share], key: str) -> bool:
    if sum(share.charged_bytes for share in shares) > budget.hard_bytes:
        return True
    for master in budget.masters:
        hard = budget.master_bytes(master, hard=True)
        used = sum(share.charged_bytes for share in shares if share.pool.master == key)
        if master.key == key and hard is not None and used > hard:
            return True
    return False


def _compare(budget: Budget, shares: list[Share]) -> None:
    """Both answers for every pool that was measured: what memory alone allows by RSS, and by private memory."""
    pools = [share.pool for share in shares]
    for by_rss in (True, False):
        limits = [limit for limit in _limits(budget, pools) if not limit.heads]
        for limit in limits if by_rss else []:
            # RSS holds the shared part already, in every worker.
            limit.capacity += sum(one.shared_bytes for one in budget.masters if limit.master in ("", one.key))
        claims = []
        for pool in pools:
            measured = pool.cost.rss_bytes if by_rss else pool.cost.private_bytes
            claims.append(_Claim(measured or pool.cost.worker_bytes, pool.weight, 0, None))
        broken = _fill(claims, limits)
        for share, claim in zip(shares, claims):
            measured = share.pool.cost.rss_bytes if by_rss else share.pool.cost.private_bytes
            answer = None if measured is None or broken else claim.got
            if by_rss:
                share.by_rss = answer
            else:
                share.by_private = answer


def settings(pool: Pool, children: int) -> PmSettings:
    """pm.* for a pool with that many children; what is there stays where it still fits."""
    current = pool.current
    idle = pool.idle_timeout or (current.process_idle_timeout if current else None) or DEFAULT_IDLE_TIMEOUT
    if pool.mode == "static":
        return PmSettings("static", children)
    if pool.mode == "ondemand":
        return PmSettings("ondemand", children, process_idle_timeout=idle)
    if current and current.mode == "dynamic" and current.max_children == children and not current.problems():
        return PmSettings(
            "dynamic", children, current.start_servers, current.min_spare_servers, current.max_spare_servers
        )
    # A tenth idle at least, three tenths at most, and FPM's own default start: half way between.
    low = max(1, children // 10)
    high = max(low, math.ceil(children * 3 / 10))
    return PmSettings("dynamic", children, low + (high - low) // 2, low, high)
