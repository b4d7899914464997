# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal and syslog: exported text (journalctl's formats, with or without a year) or JSON lines.

A journal holds several logs in one: systemd's own words about a service, what
FPM and nginx write to standard error, and the kernel. Each entry is handed to
the reader of the log that it came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Callable, NamedTuple

from ansible_collections.webops.php_stack.plugins.module_utils import log_fpm, log_kernel
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence, instance_of
from ansible_collections.webops.php_stack.plugins.module_utils.log_scan import decode
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import (
    MONTHS,
    Clock,
    parse_iso,
    without_year,
)

_LIMIT = 16384
_MONTH = "|".join(MONTHS)
_STAMP = re.compile(
    rf"(?:<\d+>)?(?:(?:[A-Z][a-z]{{2}} )?(?P<iso>\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d)\b)?)"
    rf"(?: [A-Z]{{3,5}})?"
    rf"|(?:(?P<y1>\d{{4}}) )?(?P<mon>{_MONTH}) +(?P<day>\d\d?)(?: (?P<y2>\d{{4}}))? (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)(?:\.(?P<f>\d+))?"
    rf"|(?P<unix>\d{{9,11}}\.\d+)) (?P<rest>.*)",
    re.S,
)
_REST = re.compile(r"(?:(?P<host>\S+) )?(?P<ident>[^\s:\[]+)(?:\[(?P<pid>\d+)\])?: (?P<message>.*)", re.S)
_REPEATED = re.compile(r"message repeated (\d+) times?: \[ ?(.*)\]", re.S)
_UPTIME = re.compile(r"\[\s*\d+\.\d+\] ")
_UNIT = re.compile(r"(\S+\.service)\b")
_FPM_UNIT = re.compile(r"fpm|PHP .*FastCGI", re.I)
_MAIN_EXIT = re.compile(r"Main process exited, code=(\w+), status=(\d+)(?:/(\S+))?")
# FPM's own stamp, before each message that it writes to its unit's standard error.
_OWN = re.compile(r"\[(\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d)[^\]]*\] ")
# A journal under load writes down late what it got; more than this is another clock, not a delay.
_DELAY = 300
# What makes a raw line worth a closer look.
_WORDS = re.compile(rb"fpm|php|FastCGI|nginx|kernel|avc:", re.I)


class Entry(NamedTuple):
    """One entry. ``unit`` is '' where the format does not say."""

    when: float
    ident: str
    pid: int
    unit: str
    message: str


def parse_text(line: str, anchor: float, clock: Clock) -> Entry | None:
    """One line of text; None when it has no known time or shape.

    :param anchor: an instant near which a date without a year lies.
    """
    match = _STAMP.match(line)
    if match is None:
        return None
    if match["iso"]:
        when = parse_iso(match["iso"], clock)
    elif match["unix"]:
        when = float(match["unix"])
    else:
        month, day, hour, minute = MONTHS[match["mon"]], int(match["day"]), int(match["h"]), int(match["m"])
        year = match["y1"] or match["y2"]
        try:
            if year:
                when = clock.epoch((int(year), month, day, hour, minute))
            else:
                when = without_year(month, day, hour, minute, anchor, clock)
        except ValueError:
            when = None
        if when is not None:
            when += int(match["s"]) + (float(f"0.{match['f']}") if match["f"] else 0.0)
    rest = _REST.match(match["rest"])
    if when is None or rest is None:
        return None
    return Entry(when, rest["ident"], int(rest["pid"] or 0), "", rest["message"])


def parse_json(line: str) -> Entry | None:
    """One line of ``journalctl --output=json``."""
    try:
        fields = json.loads(line)
        when = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
        sent = int(fields.get("_SOURCE_REALTIME_TIMESTAMP") or 0) / 1e6
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    kernel = fields.get("_TRANSPORT") == "kernel"
    ident = "kernel" if kernel else _text(fields.get("SYSLOG_IDENTIFIER") or fields.get("_COMM"))
    unit = _text(fields.get("UNIT") or fields.get("_SYSTEMD_UNIT"))
    pid = _text(fields.get("_PID") or fields.get("SYSLOG_PID"))
    if 0 < when - sent <= _DELAY:
        when = sent
    return Entry(when, ident, int(pid) if pid.isdigit() else 0, unit, _text(fields.get("MESSAGE")))


def _text(value: Any) -> str:
    """A field of the JSON export: text, or a list of byte values where it is not UTF-8, or of several values."""
    if isinstance(value, list):
        if value and all(isinstance(part, int) and 0 <= part < 256 for part in value):
            return decode(bytes(value), _LIMIT)
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def read_entry(entry: Entry, source: str, clock: Clock) -> list[Evidence]:
    """What one entry is evidence of, mostly nothing.

    :param clock: the zone of the times that FPM writes into its messages.
    """
    message, count, when = entry.message, 1, entry.when
    repeated = _REPEATED.match(message)
    if repeated:
        count, message = int(repeated[1]), repeated[2]
    found: Evidence | None = None
    if entry.ident in ("kernel", "audit", "auditd"):
        found = log_kernel.read_message(_UPTIME.sub("", message, count=1))
    elif entry.ident == "systemd":
        found = _systemd(message, entry.unit)
    elif _FPM_UNIT.search(entry.ident) or _FPM_UNIT.search(entry.unit):
        own = _OWN.match(message)
        if own:
            when = _earlier(own[0], when, clock)
        found = log_fpm.read_message(message[own.end() :] if own else message)
    if found is None:
        return []
    found.when = when
    found.source = source
    found.count = count
    found.instance = found.instance or instance_of(entry.unit) or instance_of(entry.ident)
    return [found]


def _earlier(own: str, when: float, clock: Clock) -> float:
    """When FPM wrote it, where the journal got to it only later. FPM counts whole seconds: the end of its own."""
    said = log_fpm.first_stamp(own.encode(), clock)
    return said + 0.999 if said is not None and 1 < when - said <= _DELAY else when


def _systemd(message: str, unit: str) -> Evidence | None:
    named = _UNIT.search(message)
    name = named[1] if named else unit
    if not _FPM_UNIT.search(name or message):
        return None
    kind = ""
    exited = _MAIN_EXIT.search(message)
    if exited:
        kind = "init_failed" if exited[1] == "exited" and exited[2] == "78" else "master_died"
    elif "start-limit-hit" in message or "repeated too quickly" in message:
        kind = "start_limit_hit"
    elif "killed by the OOM killer" in message:
        kind = "oom_note"
    elif "Failed with result 'oom-kill'" in message:
        kind = "oom_unit"
    elif message.startswith("Reload failed for"):
        kind = "reload_refused"
    elif message.startswith("Reloading "):
        kind = "reload"
    elif message.startswith(("Stopping ", "Stopped ")):
        kind = "stop"
    elif message.startswith("Started "):
        kind = "start"
    return Evidence(None, kind, message[:400], "", instance_of(name or message)) if kind else None


def read_log(
    blocks: Iterable[bytes],
    source: str,
    anchor: float,
    clock: Clock,
    nginx: Callable[[bytes, float, str], bool],
) -> Iterator[Evidence]:
    """The evidence in an exported journal or a syslog file.

    :param nginx: takes what nginx itself wrote there: record, instant, source.
    """
    for block in blocks:
        for raw in block.split(b"\n"):
            if not _WORDS.search(raw):
                continue
            line = decode(raw, _LIMIT)
            entry = parse_json(line) if line.startswith("{") else parse_text(line, anchor, clock)
            if entry is None:
                continue
            if entry.ident == "nginx":
                nginx(entry.message.encode("utf-8", "surrogateescape"), entry.when, source)
                continue
            yield from read_entry(entry, source, clock)
