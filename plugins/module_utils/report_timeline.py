# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a host: failed requests stacked by cause, with what happened beside them (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.report_input import HostInput
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import (
    Column,
    LegendEntry,
    Mark,
    Timeline,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import plural, span

LOOKS = 7
_HEIGHT = 130
# So many spans at least, so that a single bad minute is no wall.
_FEWEST = 30
_ANSWERS = ("502", "504")
_LANES = {
    "deployment": "deployments",
    "reload": "reloads",
    "oom_kill": "OOM kills",
    "master_died": "master died",
    "stop": "stops",
    "start": "starts",
}
_STEPS = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000)
_TICKS = 6


def build(host: HostInput) -> Timeline | None:
    """The timeline; None where no log was read."""
    raw = host.audit.get("timeline")
    if not raw:
        return None
    causes = {str(cause["id"]): cause for cause in host.audit.get("causes", ())}
    shown = [name for name, cause in causes.items() if str(cause["answer"]).startswith(_ANSWERS)]
    buckets = [(_time(one["start"]), dict(one["causes"])) for one in raw["buckets"]]
    totals = {name: sum(counts.get(name, 0) for _when, counts in buckets) for name in shown}
    ranked = sorted((name for name in shown if totals[name]), key=lambda name: -totals[name])
    width = int(raw["bucket_seconds"])
    marks = [(_time(one["time"]), str(one["kind"]), str(one["text"])) for one in raw["marks"]]
    begin, end = _range([when for when, _counts in buckets], [when for when, _kind, _text in marks], width)
    deployments = _deployments(host, begin)
    end = max([end] + [_floor(when, width) + timedelta(seconds=width) for when, _kind, _text in deployments])
    marks += deployments
    marks.sort(key=lambda mark: mark[0])
    peak = max((sum(counts.get(name, 0) for name in ranked) for _when, counts in buckets), default=0)
    top = _round_up(peak)
    whole = (end - begin).total_seconds()

    def at(when: datetime) -> float:
        return min(100.0, max(0.0, 100 * (when - begin).total_seconds() / whole))

    return Timeline(
        sum(totals.values()),
        peak,
        span(width),
        _HEIGHT,
        tuple(_columns(buckets, ranked, causes, top, width, whole, at)),
        tuple(_legend(ranked, causes, totals)),
        tuple(_lanes(marks, width, at)),
        tuple(_ticks(begin, end, at)),
        tuple(
            (_HEIGHT - _HEIGHT * part, str(round(top * part))) for part in ((0.5, 1.0) if top > 1 else (1.0,))
        ),
        tuple((_words(when), _LANES.get(kind, kind), text) for when, kind, text in marks),
        tuple(
            f"{cause['count']} × {name}: {cause['summary']} ({cause['answer']})"
            for name, cause in causes.items()
            if name not in shown
        ),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(str(text))


def _words(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")


def _range(starts: list[datetime], marks: list[datetime], width: int) -> tuple[datetime, datetime]:
    """From the first bucket or mark to the end of the last, in whole buckets, and not too short."""
    times = [*starts, *marks]
    last = max(times, default=datetime.fromtimestamp(0).astimezone())
    whole = timedelta(seconds=width)
    end = max([start + whole for start in starts] + [_floor(last, width) + whole])
    begin = min(_floor(min(times, default=last), width), end - _FEWEST * whole)
    return begin, end


def _floor(when: datetime, width: int) -> datetime:
    return datetime.fromtimestamp(when.timestamp() // width * width, when.tzinfo)


def _deployments(host: HostInput, begin: datetime) -> list[tuple[datetime, str, str]]:
    """Those since the axis begins: links that were made long ago say nothing."""
    found = []
    for one in host.deployments:
        when = datetime.fromtimestamp(one.when, begin.tzinfo)
        if when >= begin:
            found.append((when, "deployment", f"{one.path} was switched"))
    return found


def _round_up(peak: int) -> int:
    """The next even number that reads well: 2, 4, 6, 8, 10, 20, 30, 40, 60 …"""
    power = int("1" + "0" * (len(str(peak)) - 1))
    return next(
        power * step for step in (1, 2, 3, 4, 6, 8, 10) if power * step >= peak and power * step % 2 == 0
    )


def _columns(
    buckets: list[tuple[datetime, dict[str, int]]],
    ranked: list[str],
    causes: Mapping[str, Any],
    top: int,
    width: int,
    whole: float,
    at: Any,
) -> list[Column]:
    columns = []
    # A bucket stays visible however long the axis is.
    part = max(0.35, 100 * width / whole)
    for when, counts in buckets:
        base = float(_HEIGHT)
        for number, name in enumerate(ranked):
            count = counts.get(name, 0)
            if not count:
                continue
            height = max(1.5, _HEIGHT * count / top)
            base -= height
            columns.append(
                Column(
                    min(number, LOOKS - 1),
                    at(when),
                    part,
                    max(0.0, base),
                    height,
                    f"{_words(when)}: {count} × {name} ({causes[name]['answer']})",
                )
            )
    return columns


def _legend(ranked: list[str], causes: Mapping[str, Any], totals: Mapping[str, int]) -> list[LegendEntry]:
    return [
        LegendEntry(
            min(number, LOOKS - 1),
            name,
            f"{causes[name]['summary']} ({causes[name]['answer']})",
            totals[name],
        )
        for number, name in enumerate(ranked)
    ]


def _lanes(
    marks: list[tuple[datetime, str, str]], width: int, at: Any
) -> list[tuple[str, str, tuple[Mark, ...]]]:
    """One lane for each kind; marks of one kind in one bucket are one mark."""
    lanes = []
    for kind, label in _LANES.items():
        spots: dict[datetime, list[tuple[datetime, str]]] = {}
        for when, this, text in marks:
            if this == kind:
                spots.setdefault(_floor(when, width), []).append((when, text))
        if spots:
            lanes.append((kind, label, tuple(_mark(kind, found, at) for found in spots.values())))
    return lanes


def _mark(kind: str, found: list[tuple[datetime, str]], at: Any) -> Mark:
    when, text = found[0]
    more = f" (and {plural(len(found) - 1, 'more line')})" if len(found) > 1 else ""
    return Mark(kind, at(when), f"{_words(when)}: {text}{more}")


def _ticks(begin: datetime, end: datetime, at: Any) -> list[tuple[float, str]]:
    whole = (end - begin).total_seconds()
    step = next((step for step in _STEPS if whole / step <= _TICKS), _STEPS[-1])
    form = "%H:%M" if step < 86400 and whole <= 86400 else "%d %b %H:%M" if step < 86400 else "%d %b"
    offset = (begin.utcoffset() or timedelta()).total_seconds()
    # On round times of the host's own clock.
    first = math.ceil((begin.timestamp() + offset) / step) * step - offset
    found: list[tuple[float, str]] = []
    while first < end.timestamp() and len(found) <= _TICKS:
        when = datetime.fromtimestamp(first, begin.tzinfo)
        # A label that begins too far right would leave the page.
        if at(when) <= 94:
            found.append((at(when), when.strftime(form)))
        first += step
    return found
