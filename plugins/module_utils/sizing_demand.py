# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many workers an access log says were busy at once: the busiest minute's requests × their duration."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

# nginx's $time_local and $time_iso8601, cut at the minute.
_MINUTE = re.compile(r"(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}):\d{2}|(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}):\d{2}")
# The request line: what a visitor sent, free to look like a field.
_ASKED = re.compile(r'"[A-Z]+ [^"]*"')
# The time in PHP, under the names that log formats use; several values when nginx retried.
_UPSTREAM = re.compile(
    r"\b(?:upstream_response_time|upstream_time|urt|uht)[\"']?\s*[:=]\s*[\"']?([\d.,: -]*)"
)
# The whole request, the client's slow line included: only where nothing better is logged.
_REQUEST = re.compile(r"(?<![?&\w])(?:request_time|rt)[\"']?\s*[:=]\s*[\"']?(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class LogDemand:
    """The busiest minute of a log.

    :param requests: requests of that minute that reached PHP, as far as the log tells.
    :param concurrency: workers busy on average in that minute.
    :param mean_seconds: the mean duration used; ``timed`` says whether the log has durations.
    """

    minute: str
    requests: int
    lines: int
    mean_seconds: float
    concurrency: float
    timed: bool


def _upstream_seconds(text: str) -> float | None:
    """Every try keeps a worker busy: the sum. None for "-" (nginx answered alone)."""
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    return sum(map(float, numbers)) if numbers else None


def from_log(lines: Iterable[str], duration_seconds: float | None = None) -> LogDemand | None:
    """
    :param lines: of an nginx access log, "combined" or with ``urt=$upstream_response_time`` or JSON keys.
    :param duration_seconds: mean duration of a request, for lines that have none.
    :returns: None when no line has a time of day, or no duration is known at all.
    """
    requests: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    count = 0
    timed = False
    for line in lines:
        match = _MINUTE.search(line)
        if not match:
            continue
        count += 1
        line = _ASKED.sub("", line)
        upstream = _UPSTREAM.search(line)
        taken: float | None
        if upstream:
            taken = _upstream_seconds(upstream.group(1))
            if taken is None:
                continue
            timed = True
        else:
            whole = _REQUEST.search(line)
            timed = timed or whole is not None
            taken = float(whole.group(1)) if whole else duration_seconds
            if taken is None:
                continue
        minute = match.group(1) or match.group(2)
        requests[minute] += 1
        seconds[minute] += taken
    if not requests:
        return None
    # On a tie the earlier minute, whatever order the lines had.
    minute = min(requests, key=lambda key: (-seconds[key], key))
    mean = seconds[minute] / requests[minute]
    return LogDemand(minute, requests[minute], count, mean, seconds[minute] / 60, timed)
