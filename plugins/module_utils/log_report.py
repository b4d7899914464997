# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds attributions up: ranked causes, a timeline, marks; bounded memory, plain data out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.log_correlate import Attribution
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import (
    CAUSES,
    Evidence,
    Known,
    Moment,
)
from ansible_collections.webops.php_stack.plugins.module_utils.log_scan import decode
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock

_NAMES = 50
_EVIDENCE = 10
_BUCKETS = 1440
_SHOWN_BUCKETS = 96
_WIDTHS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000)
_MARKS = 200
_MARK_KINDS = {
    "reload": "reload", "stop": "stop", "start": "start", "master_died": "master_died", "worker_oom": "oom_kill",
}  # fmt: skip


class Cause:
    """What is known of one cause."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self.count = 0
        self.failed = 0
        self.first: float | None = None
        self.last: float | None = None
        self.symptoms: Counter[str] = Counter()
        self.upstreams: Counter[str] = Counter()
        self.sites: Counter[str] = Counter()
        self.pools: Counter[str] = Counter()
        self.samples: list[tuple[float | None, str, str]] = []
        self.evidence: dict[int, Evidence] = {}

    def seen(self, first: float | None, last: float | None) -> None:
        if first is not None:
            self.first = first if self.first is None else min(self.first, first)
        if last is not None:
            self.last = last if self.last is None else max(self.last, last)

    def rank(self) -> tuple[int, bool, int, float, str]:
        """What fails the gateway first, then what failed requests, then by number, then the latest."""
        return (CAUSES[self.ident].tier, self.failed == 0, -self.count, -(self.last or 0.0), self.ident)


class Timeline:
    """Counts by cause and time; the buckets widen as the logs get longer."""

    def __init__(self) -> None:
        self._width = 0
        self._buckets: dict[int, Counter[str]] = {}

    def add(self, when: float, cause: str, count: int) -> None:
        slot = int(when // _WIDTHS[self._width])
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = Counter()
        bucket[cause] += count
        if len(self._buckets) > _BUCKETS:
            self._widen()

    def _widen(self) -> None:
        old = _WIDTHS[self._width]
        self._width += 1
        merged: dict[int, Counter[str]] = {}
        for slot, counts in self._buckets.items():
            merged.setdefault(slot * old // _WIDTHS[self._width], Counter()).update(counts)
        self._buckets = merged

    def result(self, clock: Clock) -> dict[str, Any]:
        """``bucket_seconds`` and the ``buckets`` that hold anything, oldest first."""
        while len(self._buckets) > _SHOWN_BUCKETS and self._width < len(_WIDTHS) - 1:
            self._widen()
        width = _WIDTHS[self._width]
        return {
            "bucket_seconds": width,
            "buckets": [
                {
                    "start": clock.iso(slot * width),
                    "total": sum(counts.values()),
                    "causes": dict(sorted(counts.items())),
                }
                for slot, counts in sorted(self._buckets.items())
            ],
        }


class Report:
    """Collects.

    :param samples: how many records to keep for each cause.
    """

    def __init__(self, clock: Clock, samples: int) -> None:
        self._clock = clock
        self._samples = samples
        self.causes: dict[str, Cause] = {}
        self._timeline = Timeline()

    def failed(self, moment: Moment, attributions: list[Attribution]) -> None:
        """Failed requests, with what explains them."""
        for attribution in attributions:
            cause = self._cause(attribution.cause)
            cause.count += attribution.count
            cause.failed += attribution.count
            cause.seen(moment.when, moment.last)
            if moment.key.symptom != attribution.cause:
                cause.symptoms[moment.key.symptom] += attribution.count
            _count(cause.upstreams, moment.key.upstream, attribution.count)
            _count(cause.sites, moment.key.server, attribution.count)
            if len(cause.samples) < self._samples:
                cause.samples.append((moment.when, moment.source, decode(moment.text)))
            for item in attribution.evidence:
                self._attach(cause, item)
            self._timeline.add(moment.when, attribution.cause, attribution.count)

    def alone(self, item: Evidence) -> None:
        """Evidence for which no failed request was seen: it counts by itself."""
        cause = self._cause(item.kind)
        cause.count += item.count
        cause.seen(item.when, item.when)
        if len(cause.samples) < self._samples:
            cause.samples.append((item.when, item.source, item.text))
        self._attach(cause, item)
        if item.when is not None:
            self._timeline.add(item.when, item.kind, item.count)

    def _cause(self, ident: str) -> Cause:
        if ident not in self.causes:
            self.causes[ident] = Cause(ident)
        return self.causes[ident]

    def _attach(self, cause: Cause, item: Evidence) -> None:
        if id(item) not in cause.evidence and len(cause.evidence) < _EVIDENCE:
            cause.evidence[id(item)] = item
            cause.seen(item.when if not cause.failed else None, None)
        if item.pool:
            cause.pools[item.pool] += 1

    def ranked(self) -> list[dict[str, Any]]:
        total = sum(cause.count for cause in self.causes.values())
        return [self._plain(cause, total) for cause in sorted(self.causes.values(), key=Cause.rank)]

    def timeline(self, index_items: list[Evidence]) -> dict[str, Any]:
        marks = [item for item in index_items if item.kind in _MARK_KINDS and item.when is not None]
        result = self._timeline.result(self._clock)
        result["marks"] = [
            {"time": self._clock.iso(item.when or 0.0), "kind": _MARK_KINDS[item.kind], "text": item.text}
            for item in marks[-_MARKS:]
        ]
        return result

    def _iso(self, when: float | None) -> str | None:
        return None if when is None else self._clock.iso(when)

    def _plain(self, cause: Cause, total: int) -> dict[str, Any]:
        known = CAUSES[cause.ident]
        evidence: list[dict[str, Any]] = []
        for item in cause.evidence.values():
            for part in (item, *item.because):
                if len(evidence) < 2 * _EVIDENCE:
                    evidence.append({"time": self._iso(part.when), "source": part.source, "text": part.text})
        return {
            "id": cause.ident,
            "summary": known.words,
            "answer": _answer(cause, known),
            "count": cause.count,
            "failed_requests": cause.failed,
            "share": round(cause.count / total, 4) if total else 0.0,
            "first": self._iso(cause.first),
            "last": self._iso(cause.last),
            "consequences": _listed(cause.symptoms, "id"),
            "upstreams": _listed(cause.upstreams, "name"),
            "sites": _listed(cause.sites, "name"),
            "pools": sorted(cause.pools),
            "evidence": evidence,
            "samples": [
                {"time": self._iso(when), "source": source, "text": text}
                for when, source, text in cause.samples
            ],
        }


def _answer(cause: Cause, known: Known) -> str:
    """What most clients got: a full pool answers 504 where they waited, 502 where its queue was full too."""
    answers = Counter({known.answer: cause.failed - sum(cause.symptoms.values())})
    for symptom, count in cause.symptoms.items():
        answers[CAUSES[symptom].answer] += count
    most, count = answers.most_common(1)[0]
    return most if count > 0 else known.answer


def _count(counter: Counter[str], name: str, count: int) -> None:
    if name and (name in counter or len(counter) < _NAMES):
        counter[name] += count


def _listed(counter: Counter[str], name: str) -> list[dict[str, Any]]:
    return [{name: key, "count": count} for key, count in counter.most_common()]
