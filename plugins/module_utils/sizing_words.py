# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as the module returns it: plain data, and sentences for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import (
    HostPlan,
    Master,
    PmSettings,
    Share,
    size,
)

_BINDING = {
    "memory": "The host's memory is the limit.",
    "unit_limit": "The memory limit of its unit is the limit.",
    "cpu": "The CPUs are the limit.",
    "demand": "The demand is the limit: more workers would stay idle.",
    "cap": "max_children of this pool is the limit.",
    "minimum": "min_children is what it gets: its share alone would not give more.",
    "evidence": "",
}


def result(plan: HostPlan, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys plan, budget, summary, risks and notes."""
    return {
        "plan": [_entry(plan, share) for share in plan.shares],
        "budget": budget(plan),
        "summary": _summary(plan, notes),
        "risks": risks(plan),
        "notes": list(notes),
    }


def budget(plan: HostPlan) -> dict[str, Any]:
    """The host's numbers, in bytes."""
    host = plan.budget
    return {
        "total_bytes": host.total_bytes,
        "source": host.source,
        "reserved_bytes": host.reserved_bytes,
        "reserved": [asdict(reserve) for reserve in host.reserves],
        "headroom_bytes": host.headroom_bytes,
        "headroom_percent": host.headroom_percent,
        "shared_bytes": host.shared_bytes,
        "available_bytes": host.available_bytes,
        "used_bytes": plan.used_bytes,
        "cpus": host.cpus,
        "masters": [
            {
                "master": master.key,
                "shared_bytes": master.shared_bytes,
                "shared_source": master.shared_words,
                "limit_bytes": master.limit_bytes,
                "limit_source": master.limit_source or None,
                "cpus": master.cpus,
            }
            for master in host.masters
        ],
    }


def _entry(plan: HostPlan, share: Share) -> dict[str, Any]:
    pool = share.pool
    current = pool.current
    return {
        "name": pool.name,
        "version": pool.version or None,
        "pm": asdict(share.pm),
        "current": asdict(current) if current else None,
        "changed_from": current.max_children if current and current.max_children != share.children else None,
        "kept": share.kept or None,
        "confidence": pool.cost.confidence,
        "binding": share.binding,
        "worker_bytes": pool.cost.worker_bytes,
        "worker_source": pool.cost.source,
        "worst_bytes": pool.cost.worst_bytes,
        "private_bytes": pool.cost.private_bytes,
        "rss_bytes": pool.cost.rss_bytes,
        "charged_bytes": share.charged_bytes,
        "by_rss": share.by_rss,
        "by_private": share.by_private,
        "reasoning": reasoning(plan, share),
        "measure": list(pool.cost.measure),
    }


def _master(plan: HostPlan, share: Share) -> Master:
    return next(
        (one for one in plan.budget.masters if one.key == share.pool.master), Master(share.pool.master)
    )


def reasoning(plan: HostPlan, share: Share) -> list[str]:
    """How the pool's numbers came about, one sentence each, in the order of the calculation."""
    cost, master = share.pool.cost, _master(plan, share)
    words = list(cost.words)
    if share.by_rss is not None and share.by_private is not None and cost.private_bytes and cost.rss_bytes:
        words.append(
            f"By RSS ({size(cost.rss_bytes)} a worker, what is shared counted in each) memory would allow"
            f" {share.by_rss}; by private memory ({size(cost.private_bytes)}, {size(master.shared_bytes)} shared"
            f" counted once) {share.by_private}."
            + (" Neither is to be followed on so little evidence." if cost.confidence == "low" else "")
        )
    if share.pool.keeps and share.pool.full:
        words.append("The pool was full: it may grow as far as memory_limit, the worst case, fits.")
    if share.kept == "evidence":
        words.append(f"It keeps max_children = {share.children} until more is known.")
    else:
        words.append(_arithmetic(plan, share))
        words.append(_limit(plan, share))
        if share.kept == "tolerance":
            words.append(
                f"It keeps max_children = {share.children}: the plan, {share.planned}, is within"
                f" {plan.budget.tolerance_percent:g} % (or one worker) of it."
            )
    words.append(_settings(share.pm))
    return [sentence for sentence in words if sentence]


def _arithmetic(plan: HostPlan, share: Share) -> str:
    pool, host = share.pool, plan.budget
    each = share.charged_bytes // share.children if share.children else pool.cost.worker_bytes
    if len(plan.shares) == 1:
        free = host.available_bytes
        return f"{size(free)} for workers / {size(each)} = {free // each} workers that memory allows."
    weights = sum(one.pool.weight for one in plan.shares)
    return (
        f"Weight {pool.weight:g} of {weights:g}: of {size(host.available_bytes)} for workers it gets"
        f" {size(share.planned * each)}, that is {share.planned} × {size(each)}."
    )


def _limit(plan: HostPlan, share: Share) -> str:
    pool, host, master = share.pool, plan.budget, _master(plan, share)
    words = _BINDING[share.binding]
    if share.binding == "unit_limit" and master.limit_bytes is not None:
        words += f" ({size(master.limit_bytes)}: {master.limit_source})"
    if share.binding == "cpu" and host.workers_per_core is not None:
        words += f" ({host.cpus or 0:g} CPUs × {host.workers_per_core:g} workers"
        words += f", {master.cpus:g} CPUs for its unit)" if master.cpus is not None else ")"
    if pool.demand:
        words += f" Demand: {pool.demand.words}, × {pool.demand.factor:g} = {pool.demand.ceiling}."
    return words


def _settings(pm: PmSettings) -> str:
    if pm.mode == "static":
        return f"pm = static: all {pm.max_children} workers always run."
    if pm.mode == "ondemand":
        return f"pm = ondemand: none to {pm.max_children} workers, ended after {pm.process_idle_timeout} s without work."
    return (
        f"pm = dynamic: starts {pm.start_servers}, keeps {pm.min_spare_servers} to {pm.max_spare_servers} idle,"
        f" at most {pm.max_children}."
    )


def _summary(plan: HostPlan, notes: tuple[str, ...]) -> list[str]:
    host = plan.budget
    lines = [
        f"Memory: {size(host.total_bytes)} ({host.source})",
        *(f"  - {size(reserve.bytes)} {reserve.name} ({reserve.how})" for reserve in host.reserves),
        f"  - {size(host.headroom_bytes)} headroom ({host.headroom_percent:g} %)",
        *(
            f"  - {size(one.shared_bytes)} shared by the workers of {one.key} ({one.shared_words})"
            for one in host.masters
            if one.shared_bytes
        ),
        f"  = {size(max(0, host.available_bytes))} for workers, {size(plan.used_bytes)} planned",
    ]
    for share in plan.shares:
        pool = share.pool
        now = (
            f"{pool.current.max_children} -> "
            if pool.current and share.children != pool.current.max_children
            else ""
        )
        state = {"evidence": ", kept: too little evidence", "tolerance": ", kept: the difference is small"}
        both = (
            f"; by RSS {share.by_rss}, by private memory {share.by_private}"
            if share.by_rss is not None
            else ""
        )
        lines.append(
            f"{pool.label}: pm = {share.pm.mode}, max_children {now}{share.children}{state.get(share.kept, '')}"
            f" (limit: {share.binding}; confidence: {pool.cost.confidence}{both})"
        )
        lines += [f"  to measure: {sentence}" for sentence in pool.cost.measure]
    return [*lines, *(f"Warning: {risk}" for risk in risks(plan)), *(f"Note: {note}" for note in notes)]


def risks(plan: HostPlan) -> list[str]:
    """Where values that are kept for want of evidence do not fit once each worker takes its memory_limit."""
    host = plan.budget
    limits: list[tuple[str, int, list[Share]]] = [
        (f"the host has {size(max(0, host.hard_bytes))}", host.hard_bytes, list(plan.shares))
    ]
    for master in host.masters:
        allowed = host.master_bytes(master, hard=True)
        if allowed is not None:
            members = [share for share in plan.shares if share.pool.master == master.key]
            limits.append((f"{master.limit_source} leaves {size(max(0, allowed))}", allowed, members))
    found = []
    for words, allowed, members in limits:
        kept = [share for share in members if share.kept == "evidence"]
        others = sum(share.charged_bytes for share in members if share.kept != "evidence")
        worst = others + sum(share.children * share.pool.cost.worst_bytes for share in kept)
        if not kept or worst <= allowed:
            continue
        terms = [f"{one.children} × {size(one.pool.cost.worst_bytes)} of {one.pool.label}" for one in kept]
        terms += [f"{size(others)} of the other pools"] if others else []
        found.append(
            f"max_children is kept for want of evidence, but in the worst case (memory_limit) the workers need"
            f" {' + '.join(terms)} = {size(worst)}, and {words} for workers. Measure under the usual load, or give a"
            " lower max_children until then."
        )
    return found
