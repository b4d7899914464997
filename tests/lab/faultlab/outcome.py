# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the requests: counting, and joining losses with the words of nginx's error log. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A request that waited longer than this beyond its own length was not served well.
LATE_SECONDS = 1.0
SHORT_MILLISECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """One request. `sent` and `took` are seconds; `result` is '200' where the answer was whole and right."""

    number: int
    method: str
    milliseconds: int
    sent: float
    took: float
    result: str

    @property
    def lost(self) -> bool:
        return self.result != "200"

    @property
    def well(self) -> bool:
        return not self.lost and self.took <= self.milliseconds / 1000 + LATE_SECONDS


def percentile(values: Iterable[float], share: float) -> float | None:
    """Nearest rank; None where there is no value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def healthy_after(outcomes: Sequence[Outcome], end: float, window: float) -> float | None:
    """Seconds from `end`, when the fault was over, until every request was answered in time.

    None where that did not happen: requests were lost to the end, in the window's last second too.
    """
    bad = [outcome.sent for outcome in outcomes if not outcome.well]
    if not bad:
        return 0.0
    if any(outcome.lost and outcome.sent > window - 1.0 for outcome in outcomes):
        return None
    return round(max(0.0, max(bad) - end), 2)


_REQUEST = re.compile(r'request: "[A-Z]+ \S*?[?&]id=([\w-]+)')
_WORDS = re.compile(r"\*\d+ (.*?), client: ")


def reasons(error_log: str) -> dict[str, str]:
    """{request id: nginx's last words about it}, without the socket's path, which differs by stack."""
    found = {}
    for line in error_log.splitlines():
        request, words = _REQUEST.search(line), _WORDS.search(line)
        # A stack trace or a script's message is not why nginx gave up.
        if request and words and "FastCGI sent in stderr" not in words[1]:
            found[request[1]] = re.sub(r"(connect\(\)) to \S+", r"\1", words[1])
    return found


def why(outcome: Outcome, tag: str, words: Mapping[str, str]) -> str:
    """The reason of a loss: nginx's words, else what the client saw."""
    seen = f"HTTP {outcome.result}" if outcome.result.isdigit() else outcome.result
    return words.get(f"{tag}-{outcome.number}", f"{seen}, no words in nginx's error log")


def count(
    outcomes: Sequence[Outcome], tag: str, words: Mapping[str, str], end: float, window: float
) -> dict[str, Any]:
    """The figures of one fault on one stack, as they stand in the JSON file."""
    lost = [outcome for outcome in outcomes if outcome.lost]
    short = [o.took for o in outcomes if not o.lost and o.milliseconds == SHORT_MILLISECONDS]
    p99 = percentile(short, 0.99)
    kinds = Counter((o.method, o.result, why(o, tag, words)) for o in lost)
    return {
        "requests": len(outcomes),
        "lost": len(lost),
        "lost_get": sum(o.method == "GET" for o in lost),
        "lost_post": sum(o.method == "POST" for o in lost),
        "by_kind": [
            {"method": method, "answer": answer, "reason": reason, "count": number}
            for (method, answer, reason), number in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ],
        "lost_posts": [
            {"request": o.number, "sent_seconds": round(o.sent, 3), "milliseconds": o.milliseconds,
             "answer": o.result, "reason": why(o, tag, words)}
            for o in lost if o.method == "POST"
        ],
        "p99_seconds": None if p99 is None else round(p99, 3),
        "slowest_seconds": round(max((o.took for o in outcomes if not o.lost), default=0.0), 3),
        "healthy_after_seconds": healthy_after(outcomes, end, window),
    }  # fmt: skip


def read_hey(report: str) -> dict[str, Any]:
    """Requests a second, p99 and answers of hey's report. ValueError where it holds no figures."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    p99 = re.search(r"99%+ in ([\d.]+) secs", report)
    if not rate or not p99:
        raise ValueError(f"hey's report has no requests/sec or no 99 % line: {report.strip()[:200]!r}")
    answers = {code: int(number) for code, number in re.findall(r"\[(\d{3})\]\s+(\d+) responses", report)}
    failed = sum(int(number) for number in re.findall(r"(?m)^\s+\[(\d+)\]\s+(?:Get|Post)", report))
    if failed:
        answers["no answer"] = failed
    return {"requests_per_second": float(rate[1]), "p99_seconds": float(p99[1]), "answers": answers}
