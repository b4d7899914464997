# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path map of a host: server, location, target, pool, socket, process, and the ways between (pure).

Whether a way is broken is the audit's word: the map marks what a finding names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import pool_title, short
from ansible_collections.webops.php_stack.plugins.module_utils.report_input import (
    HostInput,
    Route,
    concerned,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import (
    BROKEN,
    GOOD,
    UNKNOWN,
    WARN,
    Chain,
    Edge,
    Node,
    PathMap,
    Step,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import middle, place, plural

KINDS = ("server", "location", "target", "pool", "socket", "process")
TARGET, POOL, SOCKET, PROCESS = 2, 3, 4, 5
# Which way a broken rule breaks: the number of the column that it leads to.
_BREAKS = {
    "S01": POOL,
    "S03": SOCKET, "S06": SOCKET, "S07": SOCKET, "S08": SOCKET,
    "S02": PROCESS, "S05": PROCESS, "S09": PROCESS,
}  # fmt: skip
_BOX_WIDTH, _BOX_HEIGHT, _GAP, _ROW, _TOP = 176, 42, 29, 54, 26
# Characters that fit in a box, in the two sizes of type.
_TITLE, _SUB = 21, 26
_WIDTH = len(KINDS) * _BOX_WIDTH + (len(KINDS) - 1) * _GAP


@dataclass(frozen=True)
class _Box:
    """A box before it has a place. ``key`` tells boxes of one column apart."""

    key: tuple[Any, ...]
    title: str
    sub: str
    state: str = GOOD


@dataclass
class _Row:
    """One way through the map; None where it has no box. ``broken``: column -> why the way to it fails."""

    boxes: list[_Box | None]
    broken: dict[int, str] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)


def build(host: HostInput, ways: list[Route], states: Mapping[int, str]) -> PathMap | None:
    """The map; None where the host has neither a way nor a pool.

    :param states: index of a pool in ``host.pools`` -> its lamp's state.
    """
    numbers = {id(pool): number for number, pool in enumerate(host.pools)}
    breaks = [one for one in host.findings if one["status"] == "fail" and one["id"] in _BREAKS]
    rows = [_row(host, way, numbers, states, breaks, ways) for way in ways]
    # A pool compares equal to its copy in a route, but is not the same object.
    reached = {number for number, pool in enumerate(host.pools) if any(way.pool == pool for way in ways)}
    idle = [pool for number, pool in enumerate(host.pools) if number not in reached]
    rows += [_Row([None, None, None, *_pool_boxes(host, pool, numbers[id(pool)], states)]) for pool in idle]
    if not rows:
        return None
    nodes, edges, height = _layout(rows)
    return PathMap(
        _WIDTH,
        height,
        tuple((kind, number * (_BOX_WIDTH + _GAP)) for number, kind in enumerate(KINDS)),
        nodes,
        edges,
        tuple(_chain(row) for row in rows[: len(ways)]),
        tuple(pool_title(dict(pool)) for pool in idle),
    )


def _row(
    host: HostInput,
    way: Route,
    numbers: Mapping[int, int],
    states: Mapping[int, str],
    breaks: list[Mapping[str, Any]],
    ways: list[Route],
) -> _Row:
    location, target = way.location, way.target
    number = next((index for index, pool in enumerate(host.pools) if pool == way.pool), None)
    found: dict[int, str] = {}
    for finding in breaks:
        if _names(finding, way, host, ways):
            found.setdefault(_BREAKS[finding["id"]], str(finding["found"]))
    first, *others = [name for name in location["server_names"] if name] or [way.site]
    boxes: list[_Box | None] = [
        _Box(
            (location["server_file"], location["server_line"]),
            first if not others else f"{first} +{len(others)}",
            ", ".join(location["listen"]),
        ),
        _Box(
            (location["file"], location["line"]),
            str(location["title"]).removeprefix("location "),
            _short_place(location),
        ),
        _Box(
            (target["address"], target["via"]),
            str(target["address"]).removeprefix("unix:"),
            _pass_words(location, target),
        ),
    ]
    if number is not None:
        boxes += _pool_boxes(host, host.pools[number], number, states)
    elif POOL in found:
        boxes += [_Box(("none", target["address"]), "no pool", "nothing listens there", BROKEN), None, None]
    else:
        boxes += [_Box(("unknown", target["address"]), "not known", _beyond(target), UNKNOWN), None, None]
    for column, state in ((SOCKET, BROKEN), (PROCESS, BROKEN)):
        box = boxes[column]
        if column in found and box is not None:
            boxes[column] = _Box(box.key, box.title, box.sub, state)
    # A fault of the socket or the process of a target without a known pool breaks the last way there is.
    if number is None and found and POOL not in found:
        found = {POOL: next(iter(found.values()))}
    return _Row(boxes, found, {POOL} if number is None else set())


def _pass_words(location: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """How the location names the target."""
    if target["via"]:
        return f"upstream {target['via']}"
    value = str(location["fastcgi_pass"]["value"])
    return "fastcgi_pass" if value == target["address"] else f"fastcgi_pass {value}"


def _short_place(location: Mapping[str, Any]) -> str:
    return place({**location, "file": short(location["file"])})


def _beyond(target: Mapping[str, Any]) -> str:
    if target["kind"] == "variable":
        return "a request decides"
    return "no pool of this host"


def _pool_boxes(
    host: HostInput, pool: Mapping[str, Any], number: int, states: Mapping[int, str]
) -> list[_Box | None]:
    listen, master = pool["listen"], _master(host, pool)
    rights = [f"{listen['owner'] or '?'}:{listen['group'] or '?'}", str(listen["mode"] or "")]
    held = "held by systemd" if listen["held_by"] == "systemd" else ""
    owner = " ".join(word for word in (*rights, held) if word) if listen["kind"] == "unix" else held or "TCP"
    workers = (pool.get("memory") or {}).get("worker_count")
    return [
        _Box(("pool", number), str(pool["name"]), _pool_words(pool), states.get(number, UNKNOWN)),
        _Box(
            ("socket", listen["address"]),
            str(listen["address"] or listen["raw"] or "?").removeprefix("unix:"),
            owner,
        ),
        _Box(
            ("process", pool["master"]),
            str(pool["unit"] or "PHP-FPM"),
            _process_words(master, workers if master and len(master.get("pools", ())) == 1 else None),
            GOOD if master and master.get("running") else UNKNOWN if not master else WARN,
        ),
    ]


def _pool_words(pool: Mapping[str, Any]) -> str:
    pm = pool["pm"] or {}
    return f"PHP {pool['version'] or '?'}, {pm.get('mode') or '?'}, max {pm.get('max_children') or '?'}"


def _process_words(master: Mapping[str, Any] | None, workers: int | None) -> str:
    if master is None:
        return "not known"
    if not master.get("running"):
        return "not running"
    return f"pid {master['pid']}" + (f", {plural(workers, 'worker')}" if workers is not None else "")


def _master(host: HostInput, pool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((one for one in host.masters if one["config_file"] == pool["master"]), None)


def _names(finding: Mapping[str, Any], way: Route, host: HostInput, ways: list[Route]) -> bool:
    """Whether a finding is about this way: its site and its target, or its pool."""
    address = str(way.target["address"])
    if finding["subject"] == way.site:
        texts = [str(finding["found"]), *(str(item["text"]) for item in finding["evidence"][:1])]
        return any(address.removeprefix("unix:") in text for text in texts)
    if finding["subject"] == address:
        return True
    return way.pool is not None and way.pool in concerned(finding, host, ways)


def _layout(rows: list[_Row]) -> tuple[tuple[Node, ...], tuple[Edge, ...], int]:
    """Each box beside the middle of its rows, pushed down where two would overlap."""
    placed: dict[tuple[int, tuple[Any, ...]], Node] = {}
    bottom = 0
    for column in range(len(KINDS)):
        wanted: dict[tuple[Any, ...], tuple[_Box, list[int]]] = {}
        for number, row in enumerate(rows):
            box = row.boxes[column]
            if box is not None:
                kept, at = wanted.get(box.key, (box, []))
                at.append(number)
                wanted[box.key] = (box if box.state == BROKEN else kept, at)
        low = _TOP
        for box, at in sorted(wanted.values(), key=lambda item: sum(item[1]) / len(item[1])):
            y = max(low, _TOP + round(_ROW * sum(at) / len(at)))
            low = y + _ROW
            bottom = max(bottom, low)
            placed[column, box.key] = Node(
                middle(box.title, _TITLE),
                middle(box.sub, _SUB),
                f"{KINDS[column]}: {box.title} ({box.sub})" if box.sub else f"{KINDS[column]}: {box.title}",
                box.state,
                column * (_BOX_WIDTH + _GAP),
                y,
                _BOX_WIDTH,
                _BOX_HEIGHT,
            )
    return tuple(placed.values()), tuple(_edges(rows, placed)), bottom


def _edges(rows: list[_Row], placed: dict[tuple[int, tuple[Any, ...]], Node]) -> list[Edge]:
    edges: dict[tuple[Any, ...], Edge] = {}
    for row in rows:
        for column in range(1, len(KINDS)):
            left, right = row.boxes[column - 1], row.boxes[column]
            if left is None or right is None:
                continue
            start, end = placed[column - 1, left.key], placed[column, right.key]
            state = BROKEN if column in row.broken else UNKNOWN if column in row.unsure else GOOD
            key = (column, left.key, right.key)
            if key in edges and edges[key].state == BROKEN:
                continue
            x1, x2 = start.x + start.width, end.x
            y1, y2 = start.y + start.height // 2, end.y + end.height // 2
            bend = (x1 + x2) // 2
            edges[key] = Edge(
                f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}",
                state,
                bend,
                (y1 + y2) // 2,
                row.broken.get(column, ""),
            )
    # What is broken is drawn last, on top.
    return sorted(edges.values(), key=lambda edge: edge.state == BROKEN)


def _chain(row: _Row) -> Chain:
    steps = []
    for column, box in enumerate(row.boxes):
        if box is not None:
            state = BROKEN if column in row.broken else UNKNOWN if column in row.unsure else GOOD
            steps.append(Step(KINDS[column], box.title, box.sub, state))
    first = row.boxes[0]
    state = BROKEN if row.broken else UNKNOWN if row.unsure else GOOD
    return Chain(state, first.title if first else "", tuple(steps), "; ".join(row.broken.values()))
