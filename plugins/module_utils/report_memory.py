# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory plan of a host as bars: now, proposed, and what there is (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.report_input import HostInput
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import (
    Memory,
    MemoryBar,
    PoolMemory,
    Segment,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import size

# (kind, bytes, label) of a piece of a bar.
_Piece = tuple[str, int, str]
_LEGEND = {
    "system": "other programs",
    "shared": "shared by PHP-FPM's processes, counted once",
    "workers": "workers of the pools, all of max_children",
    "headroom": "headroom",
}
_BINDING = {
    "memory": "the host's memory",
    "unit_limit": "the unit's limit",
    "cpu": "the CPUs",
    "demand": "the demand",
    "cap": "the pool's own cap",
    "minimum": "the pool's own minimum",
    "evidence": "too little is known: kept",
}
_SOURCES = {
    "given": "given",
    "measured": "measured",
    "memory_limit": "worst case, memory_limit",
    "default": "worst case, PHP's default",
}


def build(host: HostInput) -> Memory | None:
    """The plan; None where the host has no PHP-FPM or fpm_sizing gave nothing."""
    budget = host.sizing.get("budget")
    if not budget or not host.pools:
        return None
    plan = list(host.sizing.get("plan", ()))
    total = int(budget["total_bytes"])
    now, planned = _now(budget, plan), _planned(budget, plan)
    sums = [sum(size_bytes for _kind, size_bytes, _label in pieces) for pieces in (now, planned)]
    # A little room at the right, so that the mark of what there is does not sit on the edge.
    scale = max(total, *sums) * 1.02
    # What was measured takes that much; a memory_limit is only what a worker may take.
    guessed = any(entry["worker_source"] in ("memory_limit", "default") for entry in plan)
    worst = ", if every worker takes its memory_limit" if guessed else ""
    bars = [_bar("Now", now, total, scale, worst)]
    if plan:
        bars.append(_bar("Proposed", planned, total, scale, worst))
    legend: dict[str, int] = {}
    for kind, size_bytes, _label in planned if plan else now:
        legend[kind] = legend.get(kind, 0) + size_bytes
    return Memory(
        size(total),
        str(budget["source"]),
        100 * total / scale,
        tuple(bars),
        tuple((kind, _LEGEND[kind], size(count)) for kind, count in legend.items()),
        tuple(_limit(master) for master in budget["masters"] if master["limit_bytes"]),
        tuple(_row(entry) for entry in plan),
        tuple(str(words) for words in host.sizing.get("problems", ())),
    )


def _fixed(budget: Mapping[str, Any]) -> list[_Piece]:
    """What both bars begin with."""
    pieces: list[_Piece] = [
        ("system", int(item["bytes"]), f"{item['name']} ({item['how']})") for item in budget["reserved"]
    ]
    for master in budget["masters"]:
        if master["shared_bytes"]:
            pieces.append(("shared", int(master["shared_bytes"]), f"shared in {master['master']}"))
    return pieces


def _now(budget: Mapping[str, Any], plan: list[Mapping[str, Any]]) -> list[_Piece]:
    pieces = _fixed(budget)
    for entry in plan:
        children = (entry["current"] or {}).get("max_children") or 0
        if children:
            words = f"pool {entry['name']}: {children} × {size(entry['worker_bytes'])}"
            pieces.append(("workers", children * int(entry["worker_bytes"]), words))
    return pieces


def _planned(budget: Mapping[str, Any], plan: list[Mapping[str, Any]]) -> list[_Piece]:
    pieces = _fixed(budget)
    for entry in plan:
        words = f"pool {entry['name']}: {entry['pm']['max_children']} × {size(entry['worker_bytes'])}"
        pieces.append(("workers", int(entry["charged_bytes"]), words))
    pieces.append(
        ("headroom", int(budget["headroom_bytes"]), f"headroom of {budget['headroom_percent']:g} %")
    )
    return pieces


def _bar(label: str, pieces: list[_Piece], total: int, scale: float, worst: str) -> MemoryBar:
    segments = []
    left = 0.0
    for kind, size_bytes, words in pieces:
        width = 100 * size_bytes / scale
        segments.append(Segment(words, size(size_bytes), kind, left, width))
        left += width
    used = sum(size_bytes for _kind, size_bytes, _words in pieces)
    over = f"{size(used - total)} more than there is{worst}" if used > total else ""
    return MemoryBar(label, size(used), tuple(segments), over)


def _limit(master: Mapping[str, Any]) -> str:
    source = f" ({master['limit_source']})" if master["limit_source"] else ""
    return f"{master['master']} may use {size(master['limit_bytes'])}{source}"


def _row(entry: Mapping[str, Any]) -> PoolMemory:
    pm, current = entry["pm"], entry["current"] or {}
    return PoolMemory(
        f"{entry['name']} (PHP {entry['version']})" if entry["version"] else str(entry["name"]),
        str(pm["mode"]),
        current.get("max_children"),
        pm["max_children"],
        size(entry["worker_bytes"]),
        _SOURCES.get(entry["worker_source"], str(entry["worker_source"])),
        str(entry["confidence"]),
        _BINDING.get(entry["binding"], str(entry["binding"])),
        (*map(str, entry["reasoning"]), *map(str, entry["measure"])),
    )
