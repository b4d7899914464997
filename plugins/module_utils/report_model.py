# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTML report shows, as plain data: every text still raw, every drawing already laid out.

The template decides nothing. Positions called ``*_percent`` are parts of the
drawing's width from 0 to 100; the path map's are in its own units. States are
``broken``, ``warn``, ``good`` and ``unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BROKEN, WARN, GOOD, UNKNOWN = "broken", "warn", "good", "unknown"
STATES = (BROKEN, WARN, GOOD, UNKNOWN)


def worst(states: list[str]) -> str:
    """The state of a whole: what is broken anywhere breaks it; unknown is never good."""
    for state in (BROKEN, WARN, UNKNOWN):
        if state in states:
            return state
    return GOOD if states else UNKNOWN


@dataclass(frozen=True)
class Lamp:
    """One traffic light: a pool, or an address without a pool, or what concerns the whole host.

    :ivar failed: requests of the period that failed here, by the logs.
    :ivar words: why it has this state.
    """

    label: str
    state: str
    words: str
    failed: int = 0


@dataclass(frozen=True)
class Node:
    """A box of the path map. ``title`` and ``sub`` are cut to fit; ``full`` is the whole text."""

    title: str
    sub: str
    full: str
    state: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Edge:
    """A curve between two boxes; ``path`` is SVG path data, ``x`` and ``y`` its middle."""

    path: str
    state: str
    x: int
    y: int
    words: str = ""


@dataclass(frozen=True)
class Step:
    """One station of a route, as a list shows it. ``state`` is of the way that leads to it."""

    kind: str
    title: str
    sub: str
    state: str


@dataclass(frozen=True)
class Chain:
    """One route from a server to a process. ``words``: why it is broken."""

    state: str
    title: str
    steps: tuple[Step, ...]
    words: str = ""


@dataclass(frozen=True)
class PathMap:
    """The drawing, and the same as lists for narrow screens and for screen readers."""

    width: int
    height: int
    columns: tuple[tuple[str, int], ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    chains: tuple[Chain, ...]
    idle: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A piece of a bar. ``kind`` names its look; ``text`` its size in words."""

    label: str
    text: str
    kind: str
    x_percent: float
    width_percent: float


@dataclass(frozen=True)
class MemoryBar:
    """``over`` says by how much the bar passes the memory there is; empty where it fits."""

    label: str
    text: str
    segments: tuple[Segment, ...]
    over: str = ""


@dataclass(frozen=True)
class PoolMemory:
    """A row of the plan. ``now`` and ``planned`` are pm.max_children, None where there is none."""

    label: str
    mode: str
    now: int | None
    planned: int | None
    worker: str
    source: str
    confidence: str
    limit: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """The memory plan of a host. ``problems``: why no plan fits, or why there is none."""

    total: str
    source: str
    total_percent: float
    bars: tuple[MemoryBar, ...]
    legend: tuple[tuple[str, str, str], ...]
    limits: tuple[str, ...]
    pools: tuple[PoolMemory, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """A limit of the ladder. ``form``: bar, endless (no limit) or unknown; ``state`` good, warn or unknown."""

    owner: str
    name: str
    text: str
    form: str
    state: str
    width_percent: float
    place: str = ""


@dataclass(frozen=True)
class Ladder:
    """The limits of one site's requests in the order in which they should grow."""

    title: str
    state: str
    rungs: tuple[Rung, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One cause in one span of time; ``look`` is the number of its colour and pattern."""

    look: int
    x_percent: float
    width_percent: float
    y: float
    height: float
    words: str


@dataclass(frozen=True)
class Mark:
    """One or more events of a kind at one place of the time axis."""

    kind: str
    x_percent: float
    words: str


@dataclass(frozen=True)
class LegendEntry:
    look: int
    name: str
    words: str
    count: int


@dataclass(frozen=True)
class Timeline:
    """Failed requests by cause over time.

    :ivar lanes: (kind, label, marks) for each kind of event there is.
    :ivar ticks: (percent, text) below the axis; ``lines``: (y, text) beside it.
    :ivar events: (time, kind, text) of the marks, as a list.
    """

    total: int
    peak: int
    bucket: str
    height: int
    columns: tuple[Column, ...]
    legend: tuple[LegendEntry, ...]
    lanes: tuple[tuple[str, str, tuple[Mark, ...]], ...]
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[tuple[float, str], ...]
    events: tuple[tuple[str, str, str], ...]
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What a rule says about one subject."""

    subject: str
    found: str
    expected: str
    evidence: tuple[tuple[str, str], ...]
    fix: str
    confidence: str
    reason: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """A rule and its subjects. ``look``: broken, warn, note, unknown, excluded."""

    id: str
    severity: str
    title: str
    look: str
    can_cause: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class VerdictEntry:
    headline: str
    cause: str
    count: int
    last: str
    evidence: tuple[str, ...]
    fix: str


@dataclass(frozen=True)
class HostView:
    """One host. ``problems``: why parts are missing; ``line`` its state in a few words."""

    anchor: str
    name: str
    state: str
    line: str
    facts: tuple[str, ...]
    failed: int
    lamps: tuple[Lamp, ...]
    verdict: tuple[VerdictEntry, ...] = ()
    paths: PathMap | None = None
    memory: Memory | None = None
    ladders: tuple[Ladder, ...] = ()
    timeline: Timeline | None = None
    findings: tuple[FindingGroup, ...] = ()
    unknown: tuple[FindingGroup, ...] = ()
    excluded: tuple[FindingGroup, ...] = ()
    passed: tuple[tuple[str, str, str], ...] = ()
    problems: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetView:
    """The report. ``counts`` has each state's number of hosts; ``pools`` of lamps."""

    generated: str
    period: str
    hosts: tuple[HostView, ...]
    counts: dict[str, int] = field(default_factory=dict)
    lamps: dict[str, int] = field(default_factory=dict)
    failed: int = 0
