# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of the report: safe to show, short enough to fit, in units for people (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LONGEST = 2000
# Controls, separators that break lines, and marks that turn the reading direction: a log
# line that holds them could look like another one.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\ufffe\uffff]"
)


def clean(value: object) -> str:
    """Any value as text that can be shown.

    What cannot be seen is written as ``\\x1b`` or ``\\u202e``; what is longer
    than ``LONGEST`` characters is cut, and says so. The markup of HTML is the
    template's business.
    """
    text = "" if value is None else str(value)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"
    return _UNSAFE.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def middle(value: object, width: int) -> str:
    """A text of at most ``width`` characters; of a longer one the middle is left out."""
    text = " ".join(str(value).split())
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[-(width - 1 - head) :]}"


def place(entry: Mapping[str, Any] | None) -> str:
    """``/etc/x.conf:12``, the file alone, or an empty text."""
    if not entry or not entry.get("file"):
        return ""
    return f"{entry['file']}:{entry['line']}" if entry.get("line") else str(entry["file"])


def seconds(value: float) -> str:
    return f"{value:g} s"


def span(value: int) -> str:
    """A bucket's width in words."""
    for unit, factor in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if value >= factor and value % factor == 0:
            count = value // factor
            return unit if count == 1 else f"{count} {unit}s"
    return f"{value} seconds"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


_AGES = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


def period(since: str) -> str:
    """How far back the logs were read, in words, from the option ``since`` of stack_audit."""
    age = re.fullmatch(r"(\d+)([smhdw])", since.strip())
    if age:
        return f"logs of the last {plural(int(age.group(1)), _AGES[age.group(2)])}"
    return f"logs since {since}" if since.strip() else "all of the logs"
