# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives each symptom the most specific cause that the evidence of all logs supports."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.webops.php_stack.plugins.module_utils.log_evidence import (
    DEATHS,
    NEAR,
    SATURATION,
    SLOW,
    Affinity,
    Index,
    address,
)
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence, Moment

_LOST = ("upstream_reset", "premature_close", "response_truncated")
_NOT_CONNECTED = ("socket_missing", "socket_refused", "tcp_refused", "no_live_upstreams")
_WAITED = ("read_timeout", "connect_timeout", "backlog_full")
# What happens to the service and cuts the requests in flight.
_CUTS = {"reload": "reload_cut_requests", "stop": "restart_cut_requests"}


@dataclass
class Attribution:
    """``count`` symptoms have this cause."""

    cause: str
    count: int
    evidence: list[Evidence] = field(default_factory=list)


class Correlator:
    """Decides moment by moment; remembers which evidence has explained something (Evidence.claimed)."""

    def __init__(self, index: Index, affinity: Affinity) -> None:
        self._index = index
        self._affinity = affinity

    def resolve(self, moment: Moment) -> list[Attribution]:
        symptom = moment.key.symptom
        if symptom in _LOST:
            return self._lost(moment) if moment.exact else [Attribution(symptom, moment.count)]
        if symptom in _NOT_CONNECTED:
            return [self._not_connected(moment)]
        if symptom in _WAITED:
            return [self._waited(moment)]
        if symptom == "socket_denied":
            near = self._index.denials.between(moment.when - NEAR, moment.last + NEAR)
            if near:
                return [_claim("selinux_denied", moment.count, near)]
        elif symptom.startswith("php_") and moment.exact:
            # The same error, which FPM's log repeats.
            same = self._index.php.between(moment.when - NEAR, moment.last + NEAR)
            return [_claim(symptom, moment.count, [item for item in same if item.kind == symptom])]
        return [Attribution(symptom, moment.count)]

    def _lost(self, moment: Moment) -> list[Attribution]:
        """Connections that ended early: dead workers explain one each, a reload or restart all at its moment."""
        upstream = moment.key.upstream
        found: dict[str, Attribution] = {}
        left = moment.count
        requests = [request.decode("utf-8", "backslashreplace") for request in moment.requests]
        around = self._index.deaths.between(int(moment.when) - NEAR, int(moment.last) + NEAR + 1)
        fitting = []
        for death in around:
            fit = self._affinity.of(death.instance, death.pool, upstream)
            if death.room != 0 and fit >= 0:
                distance = abs(int(death.when or 0) - int(moment.when))
                fitting.append((_stranger(death, requests), -fit, DEATHS.index(death.kind), distance, death))
        fitting.sort(key=lambda entry: entry[:4])
        for *_unused, death in fitting:
            if not left:
                break
            taken = min(left, death.room)
            left -= taken
            death.room -= taken
            _merge(found, _claim(death.kind, taken, [death]))
        if left:
            _merge(found, self._cut(moment, left))
        return list(found.values())

    def _cut(self, moment: Moment, count: int) -> Attribution:
        best: tuple[int, int, Evidence] | None = None
        for item in self._index.cuts.between(int(moment.when) - NEAR, int(moment.last) + NEAR + 1):
            fit = self._affinity.of(item.instance, item.pool, moment.key.upstream)
            distance = abs(int(item.when or 0) - int(moment.when))
            if fit >= 0 and (best is None or (-fit, distance) < best[:2]):
                best = (-fit, distance, item)
        if best is None:
            return Attribution(moment.key.symptom, count)
        item = best[2]
        cause = _CUTS.get(item.kind) or ("worker_crashed" if "code=dumped" in item.text else "worker_killed")
        return _claim(cause, count, [item])

    def _not_connected(self, moment: Moment) -> Attribution:
        """No listener: what took FPM down, or a path that no pool has."""
        where = address(moment.key.upstream)
        for outage in self._index.outages_at(moment.when, moment.last):
            if self._affinity.of(outage.instance, "", moment.key.upstream) < 0:
                continue
            if not outage.root and moment.key.symptom == "no_live_upstreams":
                continue
            return _claim(outage.root or moment.key.symptom, moment.count, outage.evidence)
        known = self._affinity.listeners
        if moment.key.symptom == "socket_missing" and known and where and where not in known:
            return Attribution("path_mismatch", moment.count)
        return Attribution(moment.key.symptom, moment.count)

    def _waited(self, moment: Moment) -> Attribution:
        """A wait is saturation if the pool said so before, unless FPM saw this very request run slowly."""
        upstream = moment.key.upstream
        requests = [request.decode("utf-8", "backslashreplace") for request in moment.requests]
        if moment.key.symptom == "read_timeout" and requests:
            for slow in self._index.slow.between(moment.when - SLOW, moment.last + NEAR):
                if (
                    _stranger(slow, requests) == 0
                    and self._affinity.of(slow.instance, slow.pool, upstream) >= 0
                ):
                    return _claim(moment.key.symptom, moment.count, [slow])
        fitting = [
            item
            for item in self._index.saturations.between(moment.when - SATURATION, moment.last + NEAR)
            if self._affinity.of(item.instance, item.pool, upstream) >= 0
        ]
        if fitting:
            return _claim("max_children_reached", moment.count, fitting)
        return Attribution(moment.key.symptom, moment.count)


def _stranger(item: Evidence, requests: list[str]) -> int:
    """0 for evidence that names one of these requests, 1 where it names none, 2 where it names another.

    The last may still be ours: behind a front controller FPM sees another path than nginx.
    """
    if not item.request:
        return 1
    return 0 if any(line.startswith(item.request + " ") for line in requests) else 2


def _claim(cause: str, count: int, evidence: list[Evidence]) -> Attribution:
    for item in evidence:
        item.claimed = True
    return Attribution(cause, count, evidence)


def _merge(found: dict[str, Attribution], new: Attribution) -> None:
    known = found.setdefault(new.cause, Attribution(new.cause, 0))
    known.count += new.count
    known.evidence.extend(new.evidence)
