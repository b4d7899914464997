# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel messages: the OOM killer, crashes of PHP, SELinux denials."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence, instance_of
from ansible_collections.webops.php_stack.plugins.module_utils.log_scan import decode
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import MONTHS, Clock, parse_iso

_PREFIX = re.compile(
    r"(?:<\d+>)?(?:\[\s*(?P<up>\d{1,12}\.\d{1,9})\]"
    r"|\[(?P<wall>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\]"
    r"|(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.,]?\d*(?:[+-]\d\d:?\d\d|Z)?))\s?(?P<rest>.*)",
    re.S,
)
_KILLED = re.compile(r"Kill(?:ed)? process (\d+)(?:, UID \d+,)? \(([^)]*)\)")
_OOM = re.compile(r"oom-kill:.*?task=([^,]*),pid=(\d+)")
_OOM_GROUP = re.compile(r"task_memcg=([^,]*)")
_CRASH = re.compile(r"(?:traps: )?(\S*php\S*)\[(\d+)\](?::? (?:segfault at|general protection|trap ))")
_AVC = re.compile(r"avc:\s+denied\s+\{ ([\w ]+)\}.*?comm=(?:\"nginx\"|nginx\b|6E67696E78)", re.I)


def read_message(text: str) -> Evidence | None:
    """What one kernel message (without its prefix) is evidence of.

    OOM kills of other programs give None: they took memory back, not a request.
    """
    match = _OOM.search(text)
    if match:
        group = _OOM_GROUP.search(text)
        where = group[1] if group else ""
        if "php" not in match[1] and "fpm" not in match[1]:
            return None
        return Evidence(None, "worker_oom", text[:400], "", instance_of(match[1]) or instance_of(where),
                        pid=int(match[2]), room=1)  # fmt: skip
    match = _KILLED.search(text)
    if match:
        if "php" not in match[2] and "fpm" not in match[2]:
            return None
        return Evidence(None, "worker_oom", text[:400], "", instance_of(match[2]), pid=int(match[1]), room=1)
    match = _CRASH.search(text)
    if match:
        return Evidence(
            None, "worker_crashed", text[:400], "", instance_of(match[1]), pid=int(match[2]), room=1
        )
    if _AVC.search(text):
        return Evidence(None, "selinux_denied", text[:400], "")
    return None


def read_log(blocks: Iterable[bytes], source: str, clock: Clock, boot: float | None) -> Iterator[Evidence]:
    """The evidence in the output of dmesg or a file of it.

    :param boot: the instant of boot, which turns the kernel's seconds into a time of
        day; None when the text may be from another boot: the evidence then has no time.
    """
    for block in blocks:
        for raw in block.split(b"\n"):
            if b"ill" not in raw and b"php" not in raw and b"avc:" not in raw:
                continue
            match = _PREFIX.match(decode(raw, 8192))
            if match is None:
                continue
            evidence = read_message(match["rest"])
            if evidence is None:
                continue
            if match["up"]:
                evidence.when = None if boot is None else boot + float(match["up"])
            elif match["wall"]:
                evidence.when = _wall(match["wall"], clock)
            else:
                evidence.when = parse_iso(match["iso"], clock)
            evidence.source = source
            yield evidence


def _wall(text: str, clock: Clock) -> float | None:
    """The instant of 'Sat Nov 21 02:29:50 2026' (dmesg -T)."""
    _weekday, month, day, time, year = text.split()
    hour, minute, second = (int(part) for part in time.split(":"))
    try:
        return clock.epoch((int(year), MONTHS.get(month, 0), int(day), hour, minute)) + second
    except ValueError:
        return None
