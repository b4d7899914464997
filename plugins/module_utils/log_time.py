# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks of the logs: what a written time means in seconds since the epoch.

nginx and FPM write local time without a zone, the journal may leave out the
year, the kernel counts seconds since boot. Everything becomes a float of
seconds since the epoch. Pure: the current time is always passed in.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone, tzinfo

MONTHS = {
    name: number
    for number, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], start=1)
}  # fmt: skip

# An append-only log may step back a little (several workers write); more than
# this inside an hour that the clock shows twice means the second of the two.
_STEP_BACK = 120.0

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)", re.I)
_SPAN = re.compile(rf"(?:{_PART.pattern}\s*)+(?:ago)?", re.I)
_ISO = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|UTC|[+-]\d\d:?\d\d)?)?"
)


class Clock:
    """Local time of one host.

    :param zone: None for the zone of the machine that runs this.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone

    def both(self, year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> tuple[float, float]:
        """The earlier and the later instant that this local time can mean; mostly the same.

        :raises ValueError: for a time that no calendar has.
        """
        try:
            first = datetime(year, month, day, hour, minute, tzinfo=self._zone).timestamp()
            second = datetime(year, month, day, hour, minute, tzinfo=self._zone, fold=1).timestamp()
        except (OverflowError, OSError) as error:
            raise ValueError(str(error)) from error
        return (first, second) if first <= second else (second, first)

    def epoch(self, parts: tuple[int, int, int, int, int], previous: float | None = None) -> float:
        """The instant of a local year, month, day, hour, minute.

        :param previous: the instant of the entry before it in the same log: it tells
            apart the two passes of the hour that the end of summer time repeats.
        """
        first, second = self.both(*parts)
        if first != second and previous is not None and previous > first + 60 + _STEP_BACK:
            return second
        return first

    def iso(self, when: float) -> str:
        """ISO 8601 with the offset, in this clock's zone, to the second."""
        try:
            return datetime.fromtimestamp(math.floor(when), self._zone or timezone.utc).astimezone(self._zone).isoformat(
                timespec="seconds"
            )  # fmt: skip
        except (OverflowError, OSError, ValueError):
            return f"@{when:.0f}"


def named_clock(name: str) -> Clock | None:
    """The clock of a zone such as Europe/Berlin or UTC; None where this machine does not know it."""
    if name in ("UTC", "GMT", "Z"):
        return Clock(timezone.utc)
    try:
        # Not in every Python: some distributions split it, and its data, off.
        from zoneinfo import ZoneInfo

        return Clock(ZoneInfo(name))
    except (ImportError, KeyError, ValueError, OSError):
        return None


def parse_iso(text: str, clock: Clock) -> float | None:
    """Seconds for an ISO 8601 time or date; without an offset it is local. None when it is not one."""
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction = float(f"0.{match[7]}") if match[7] else 0.0
    offset = match[8]
    try:
        if offset is None:
            base = clock.epoch((year, month, day, hour, minute))
        else:
            delta = timedelta()
            if offset[0] in "+-":
                delta = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
                delta = -delta if offset[0] == "-" else delta
            base = datetime(year, month, day, hour, minute, tzinfo=timezone(delta)).timestamp()
    except (ValueError, OverflowError):
        return None
    # A leap second is written as 60.
    return base + second + fraction if second <= 60 else None


def parse_when(text: str, now: float, clock: Clock) -> float:
    """What a user means by a time: '15m', '2h30m', 'now', '@1790000000', '2026-11-21T02:30', '2026-11-21'.

    :raises ValueError: with what is accepted.
    """
    cleaned = text.strip()
    if cleaned == "now":
        return now
    if re.fullmatch(r"@\d+(\.\d+)?", cleaned):
        return float(cleaned[1:])
    if cleaned and _SPAN.fullmatch(cleaned):
        return now - sum(int(count) * _UNITS[unit[0].lower()] for count, unit in _PART.findall(cleaned))
    found = parse_iso(cleaned, clock)
    if found is None:
        raise ValueError(
            f"{text!r} is not a time. Use an age such as 15m, 2h, 1d or 2h30m, a time such as"
            " 2026-11-21T02:30:00 or 2026-11-21T02:30:00+01:00, or @ with seconds since the epoch."
        )
    return found


def without_year(month: int, day: int, hour: int, minute: int, anchor: float, clock: Clock) -> float | None:
    """The instant nearest to ``anchor`` for a date that was written without its year.

    None when no year near the anchor has that date.
    """
    around = datetime.fromtimestamp(anchor, timezone.utc).year
    best: float | None = None
    for year in (around - 1, around, around + 1):
        try:
            when = clock.epoch((year, month, day, hour, minute))
        except ValueError:
            continue
        if best is None or abs(when - anchor) < abs(best - anchor):
            best = when
    return best
