# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as users write them, and local times that a clock shows twice or never."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import (
    Clock,
    parse_iso,
    parse_when,
    without_year,
)
from hypothesis import given
from hypothesis import strategies as st
from log_tools import NOW, UTC

BERLIN = Clock(ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("15m", NOW - 900),
        ("15 minutes ago", NOW - 900),
        ("2h", NOW - 7200),
        ("2h30m", NOW - 9000),
        ("1d", NOW - 86400),
        ("1w", NOW - 604800),
        ("0s", NOW),
        ("@1790000000", 1790000000.0),
        ("2026-11-21T03:00:00Z", NOW - 3600),
        ("2026-11-21 03:00", NOW - 3600),
        ("2026-11-21", NOW - 4 * 3600),
        ("2026/11/21 03:00:00", NOW - 3600),
        ("2026-11-21T04:00:00+01:00", NOW - 3600),
        ("2026-11-20T23:00:00.5-0400", NOW - 3599.5),
    ],
)
def test_a_time_of_a_user(text: str, expected: float) -> None:
    assert parse_when(text, NOW, UTC) == expected


@pytest.mark.parametrize(
    "text", ["", "15", "m", "15 parsecs", "2026-13-01", "2026-11-21T25:00", "yesterday", "@x"]
)
def test_what_is_no_time_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time\. Use an age such as 15m"):
        parse_when(text, NOW, UTC)


def test_the_repeated_hour_is_told_apart_by_the_entry_before() -> None:
    # 2026-10-25 02:30 happens twice in Berlin: 00:30Z and 01:30Z.
    first, second = BERLIN.both(2026, 10, 25, 2, 30)
    assert (first, second) == (
        datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc).timestamp(),
        datetime(2026, 10, 25, 1, 30, tzinfo=timezone.utc).timestamp(),
    )
    assert BERLIN.epoch((2026, 10, 25, 2, 30)) == first
    assert BERLIN.epoch((2026, 10, 25, 2, 31), previous=first) == first + 60
    assert BERLIN.epoch((2026, 10, 25, 2, 0), previous=first + 1790) == second - 1800


def test_iso_shows_the_offset_of_the_zone() -> None:
    assert BERLIN.iso(NOW) == "2026-11-21T05:00:00+01:00"
    assert UTC.iso(NOW) == "2026-11-21T04:00:00+00:00"
    assert UTC.iso(1e20).startswith("@")


@pytest.mark.parametrize(
    ("month", "day", "anchor", "expected"),
    [
        (11, 21, "2026-11-22", "2026-11-21"),
        (12, 31, "2027-01-02", "2026-12-31"),
        (1, 1, "2026-12-31", "2027-01-01"),
        (2, 29, "2028-03-01", "2028-02-29"),
    ],
)
def test_a_date_without_its_year_is_the_nearest_one(month: int, day: int, anchor: str, expected: str) -> None:
    near = parse_iso(anchor, UTC)
    assert near is not None
    assert without_year(month, day, 0, 0, near, UTC) == parse_iso(expected, UTC)


def test_a_date_that_no_year_has_is_unknown() -> None:
    assert without_year(2, 30, 0, 0, NOW, UTC) is None


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_clear_error(text: str) -> None:
    try:
        assert isinstance(parse_when(text, NOW, UTC), float)
    except ValueError as error:
        assert "is not a time" in str(error)


@given(st.floats(min_value=0, max_value=4e9))
def test_iso_and_back(when: float) -> None:
    assert parse_iso(BERLIN.iso(when), UTC) == math.floor(when)
