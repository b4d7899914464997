# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PHP-FPM's log: what the master says about its workers, its life and its configuration.

Also reads PHP's own error_log, which has the same time stamp with a zone. The
words are FPM's own (it is not translated); errors of the system are told apart
by the number that FPM puts behind them, "… (98)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence
from ansible_collections.webops.php_stack.plugins.module_utils.log_nginx import php_error
from ansible_collections.webops.php_stack.plugins.module_utils.log_scan import decode
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import MONTHS, Clock, named_clock

_LINES = re.compile(
    rb"\n\[(\d\d)-([A-Z][a-z]{2})-(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?: ([A-Za-z][\w/+:-]*))?\] ([^\n]*)"
)
_FIRST = re.compile(rb"(?:\A|\n)\[(\d\d)-([A-Z][a-z]{2})-(\d{4}) (\d\d):(\d\d):(\d\d)")
# Only lines with one of these words are looked at closely.
_WORDS = re.compile(
    rb"exited |xecution timed out|executing too slow|max_children|PHP |eloading|erminating|bye-bye"
    rb"|fpm is running|ready to handle|(?:ERROR|ALERT)[:\]]"
)
_LEVEL = re.compile(
    r"(?:\[?(DEBUG|NOTICE|WARNING|ERROR|ALERT)(?::|\]) ?)?(?:pid \d+, \w+\(\), line \d+: )?(?:\[pool ([^\]]+)\] )?"
)
_EXIT = re.compile(r"child (\d+) exited (?:on signal (\d+)|with code (\d+))")
_TERMINATED = re.compile(r"child (\d+), script '.*?'(?: \(request: \"(.*?)\"\))? execution timed out")
_SLOW = re.compile(r"child (\d+), script '.*?'(?: \(request: \"(.*?)\"\))? executing too slow")
_SAID = re.compile(r"child (\d+) said into std(?:err|out): \"(.*)", re.S)
_ERRNO_AT_END = re.compile(r"\((\d{1,4})\)\s*$")
_CRASH_SIGNALS = {4, 5, 6, 7, 8, 11, 16, 31}


def first_stamp(block: bytes, clock: Clock) -> float | None:
    """The instant of the first entry in a block; the later one where local time is ambiguous."""
    match = _FIRST.search(block)
    if match is None or match[2].decode() not in MONTHS:
        return None
    try:
        later = clock.both(
            int(match[3]), MONTHS[match[2].decode()], int(match[1]), int(match[4]), int(match[5])
        )[1]
    except ValueError:
        return None
    return later + int(match[6])


def read_message(text: str) -> Evidence | None:
    """What one message of FPM (without its time) is evidence of; None for one that means nothing here."""
    match = _LEVEL.match(text)
    level, pool = (match[1] or "", match[2] or "") if match else ("", "")
    body = text[match.end() :] if match else text
    evidence = _child(body) or _master(body, level)
    if evidence is None:
        said = _SAID.match(body)
        cause = php_error((said[2] if said else body).encode("utf-8", "surrogateescape"))
        if not cause:
            return None
        evidence = Evidence(None, cause, "", "", pid=int(said[1]) if said else 0)
    evidence.pool = evidence.pool or pool
    evidence.text = text[:400]
    return evidence


def _child(body: str) -> Evidence | None:
    if not body.startswith("child "):
        return None
    match = _EXIT.match(body)
    if match:
        if match[2]:
            return Evidence(None, "death", "", "", pid=int(match[1]), signal=int(match[2]), room=1)
        code = int(match[3])
        # 0 is the normal end after pm.max_requests.
        return Evidence(None, "exit", "", "", pid=int(match[1]), room=1) if code else None
    match = _TERMINATED.match(body)
    if match:
        return Evidence(None, "request_terminated", "", "", pid=int(match[1]), request=match[2] or "", room=1)
    match = _SLOW.match(body)
    if match:
        return Evidence(None, "slow", "", "", pid=int(match[1]), request=match[2] or "")
    return None


def _master(body: str, level: str) -> Evidence | None:
    kind = ""
    if "max_children setting" in body and body.startswith("server reached"):
        kind = "max_children_reached"
    elif body.startswith(("Reloading in progress", "reloading: execvp")):
        kind = "reload"
    elif body.startswith(("Terminating", "exiting, bye-bye")):
        kind = "stop"
    elif body.startswith(("fpm is running", "ready to handle connections")):
        kind = "start"
    elif level in ("ERROR", "ALERT"):
        number = _ERRNO_AT_END.search(body)
        if body.startswith(("cannot get uid for user", "cannot get gid for group")):
            kind = "pool_user_missing"
        elif body.startswith("Another FPM instance seems to already listen") or (
            body.startswith("unable to bind listening socket") and number is not None and number[1] == "98"
        ):
            kind = "address_in_use"
        elif body.startswith("FPM initialization failed"):
            kind = "init_failed"
        elif body.startswith(
            ("[/", "Unable to include", "failed to load configuration", "failed to post process",
             "unable to bind listening", "Unable to set php_", "No pool defined", "failed to open error_log",
             "Unable to create or open slowlog", "Nothing matches the include")
        ):  # fmt: skip
            kind = "config_invalid"
    return Evidence(None, kind, "", "") if kind else None


def is_crash(signal: int) -> bool:
    return signal in _CRASH_SIGNALS


def read_log(blocks: Iterable[bytes], source: str, instance: str, clock: Clock) -> Iterator[Evidence]:
    """The evidence in one log, in its order; ``blocks`` as log_files gives them."""
    minutes: dict[tuple[bytes, ...], float | None] = {}
    previous: float | None = None
    for block in blocks:
        for day, month, year, hour, minute, second, fraction, zone, rest in _LINES.findall(b"\n" + block):
            if not _WORDS.search(rest):
                continue
            stamp = (year, month, day, hour, minute, zone)
            if stamp not in minutes:
                minutes.clear()
                local = named_clock(zone.decode()) or clock if zone else clock
                minutes[stamp] = _minute(stamp, local, previous)
            start = minutes[stamp]
            if start is None:
                continue
            previous = start
            evidence = read_message(decode(rest.rstrip(b"\r")))
            if evidence is not None:
                evidence.when = start + int(second) + (float(b"0." + fraction) if fraction else 0.0)
                evidence.source = source
                evidence.instance = instance
                yield evidence


def _minute(stamp: tuple[bytes, ...], clock: Clock, previous: float | None) -> float | None:
    month = MONTHS.get(stamp[1].decode())
    if month is None:
        return None
    try:
        return clock.epoch((int(stamp[0]), month, int(stamp[2]), int(stamp[3]), int(stamp[4])), previous)
    except ValueError:
        return None
