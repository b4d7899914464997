# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the symptoms of a whole nginx error log without looking at most of it in Python.

One compiled expression walks a block of the file: the regular-expression engine
finds the lines of level error and above at the speed of a memory scan and takes
them apart; Python sees a tuple for each. Symptoms are counted by key and minute,
or by key and second near the evidence that another log holds, since only those
need to be told apart. Memory does not grow with the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Callable

from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Key, Moment
from ansible_collections.webops.php_stack.plugins.module_utils.log_nginx import (
    UNEXPLAINED,
    UNRELATED,
    classify,
    parse_record,
    split_request,
)
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock

# Level info holds one kind of record that matters: a request whose header is too large (400).
# A name that differs in every line stands in a group of its own, so that the rest of the message repeats.
# The request line must end as one does: a client may write anything before that. Parts have a limit, so that a
# window's tallies do. Other lines are taken apart later.
_LINES = re.compile(
    rb"\n(\d{4}/\d\d/\d\d \d\d:\d\d):(\d\d) "
    rb"\[(error|crit|alert|emerg|info(?=\] \d+#\d+: \*\d+ client (?:sent too|exceeded)))\] \d+#\d+: (?:\*\d+ )?"
    rb'(?:((?:(?:open|stat)\(\) )?"[^"\n]{0,2000})?([^,\n]{0,2000}), client: [^,\n]*, server: ([^,\n]{0,300}),'
    rb' request: "([^"\n]{0,4000})(?<=HTTP/\d\.\d)"(?:, subrequest: "[^"\n]*")?(?:, upstream: "([^"\n]{0,500})")?'
    rb"|([^\n]*(?:\n(?!\d{4}/\d\d/\d\d \d\d:)[^\n]*){0,60}))"
)
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
_QUOTED = re.compile(r'"[^"]*"')

_TALLIES_LIMIT = 4096
_REQUESTS_LIMIT = 40
_TEXT_LIMIT = 2048
_SHAPES_LIMIT = 200


def decode(raw: bytes, limit: int = _TEXT_LIMIT) -> str:
    """Text for people: bytes that are not UTF-8, and control characters, are shown escaped."""
    text = raw[:limit].decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def plain_upstream(uri: str) -> str:
    """nginx writes 'fastcgi://unix:/run/x.sock:' and, for timeouts, the same without the last colon."""
    return uri[:-1] if uri.endswith(":") else uri


class Shape:
    """Records of one form that no rule explains."""

    def __init__(self, source: str) -> None:
        self.count = 0
        self.source = source
        self.samples: list[str] = []


class Unexplained:
    """Counts and samples what no rule explains, by form, so that nothing is dropped unseen."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.shapes: dict[str, Shape] = {}

    def add(self, message: str, text: str, source: str, count: int = 1) -> None:
        form = _NUMBERS.sub("N", _QUOTED.sub('"…"', message[:300]))
        if form not in self.shapes and len(self.shapes) >= _SHAPES_LIMIT:
            form = "(further kinds)"
        shape = self.shapes.setdefault(form, Shape(source))
        shape.count += count
        if len(shape.samples) < self._samples:
            shape.samples.append(text)

    def result(self) -> dict[str, Any]:
        """``count`` of all, and ``kinds``, the most frequent first."""
        kinds = sorted(self.shapes.items(), key=lambda pair: (-pair[1].count, pair[0]))
        return {
            "count": sum(shape.count for shape in self.shapes.values()),
            "kinds": [
                {"form": form, "count": shape.count, "source": shape.source, "samples": shape.samples}
                for form, shape in kinds
            ],
        }


class _Tally:
    """Equal records within one window of time."""

    __slots__ = ("count", "first", "key", "last", "message", "requests", "text")

    def __init__(self, key: Key, message: bytes, text: bytes, second: bytes) -> None:
        self.key = key
        self.message = message
        self.text = text
        self.count = 0
        self.first = self.last = second
        self.requests: list[bytes] = []


class Scanner:
    """Feeds on blocks of whole lines, hands out Moments.

    :param watched: the seconds of a minute (given by its start) near which another log holds evidence.
    :param emit: takes each Moment.
    :ivar unrelated: counts of records that are explained and no failure of the gateway, by word.
    """

    def __init__(
        self,
        clock: Clock,
        watched: Callable[[float], frozenset[int]],
        emit: Callable[[Moment], None],
        unexplained: Unexplained,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        self._clock = clock
        self._watched = watched
        self._emit = emit
        self._unexplained = unexplained
        self._since = float("-inf") if since is None else since
        self._until = float("inf") if until is None else until
        self._previous: float | None = None
        self._keys: dict[tuple[bytes, bytes, bytes, bytes], Key] = {}
        self.unrelated: dict[str, int] = {}

    def feed(self, blocks: Iterable[bytes], source: str) -> None:
        """Read one log. A block starts and ends at a line's end; the parts of a log come oldest first."""
        minute = current = b""
        start: float | None = None
        watched: frozenset[bytes] = frozenset()
        exact = False
        cut = True
        calm: dict[tuple[bytes, bytes, bytes], _Tally] = {}
        tallies = calm
        find = _LINES.findall
        for block in blocks:
            for stamp, second, level, name, message, server, request, upstream, odd in find(b"\n" + block):
                if stamp != minute:
                    if exact:
                        self._flush(tallies, start, source, True)
                    self._flush(calm, start, source, False)
                    tallies = calm = {}
                    exact = False
                    minute, current = stamp, b""
                    start = self._minute(stamp)
                    watched = frozenset() if start is None else _as_bytes(self._watched(start))
                    cut = start is None or start < self._since or start + 60 > self._until
                if watched and second != current:
                    if exact:
                        self._flush(tallies, start, source, True)
                    current = second
                    exact = second in watched
                    tallies = {} if exact else calm
                if cut:
                    if start is None:
                        self._unexplained.add(
                            "a time that no calendar has", decode(stamp + b" " + message + odd), source
                        )
                        continue
                    if not self._since <= start + int(second) <= self._until:
                        continue
                if odd:
                    name, message, server, request, upstream = _take_apart(odd)
                tally = tallies.get((message, server, upstream))
                if tally is None:
                    if len(tallies) >= _TALLIES_LIMIT:
                        self._flush(tallies, start, source, exact)
                        tallies.clear()
                    whole = name + message
                    text = _line(stamp, second, level, whole, server, request, upstream)
                    tally = _Tally(self._key(whole, level, server, upstream), whole, text, second)
                    tallies[message, server, upstream] = tally
                tally.count += 1
                tally.last = second
                if exact and len(tally.requests) < _REQUESTS_LIMIT:
                    tally.requests.append(request)
        if exact:
            self._flush(tallies, start, source, True)
        self._flush(calm, start, source, False)

    def record(self, raw: bytes, when: float, source: str) -> bool:
        """One record that another log carries (nginx under systemd, syslog); False if it is not nginx's."""
        record = parse_record(raw)
        if record is None:
            return False
        key = self._key(record.message, record.level, record.server, record.upstream)
        tally = _Tally(key, record.message, raw, b"0")
        tally.count = 1
        tally.requests.append(record.request)
        self._flush({(b"", b"", b""): tally}, when, source, True)
        return True

    def _key(self, message: bytes, level: bytes, server: bytes, upstream: bytes) -> Key:
        known = self._keys.get((message, level, server, upstream))
        if known is None:
            if len(self._keys) >= _TALLIES_LIMIT:
                self._keys.clear()
            symptom = classify(message, level, upstream)
            known = Key(symptom, decode(server), plain_upstream(decode(upstream)))
            self._keys[message, level, server, upstream] = known
        return known

    def _minute(self, stamp: bytes) -> float | None:
        try:
            start = self._clock.epoch(
                (int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10]), int(stamp[11:13]), int(stamp[14:16])),
                self._previous,
            )
        except ValueError:
            return None
        self._previous = start
        return start

    def _flush(
        self, tallies: dict[tuple[bytes, bytes, bytes], _Tally], start: float | None, source: str, exact: bool
    ) -> None:
        if start is None:
            return
        for tally in tallies.values():
            symptom = tally.key.symptom
            if symptom == UNEXPLAINED:
                self._unexplained.add(decode(tally.message), decode(tally.text), source, tally.count)
            elif symptom.startswith(UNRELATED):
                word = symptom[1:]
                self.unrelated[word] = self.unrelated.get(word, 0) + tally.count
            else:
                first, last = start + int(tally.first), start + int(tally.last)
                self._emit(
                    Moment(
                        first, last, tally.key, tally.count, tuple(tally.requests), tally.text, source, exact
                    )
                )


def _as_bytes(seconds: frozenset[int]) -> frozenset[bytes]:
    return frozenset(b"%02d" % second for second in seconds)


def _take_apart(odd: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Name, message, server, request and upstream of a record that is not of the usual form.

    Its message has commas or line ends, its request line has quotes or none of it is there.
    """
    message, found, tail = odd.rstrip(b"\r\n").partition(b", client: ")
    name = b""
    if message.startswith((b"limiting ", b"delaying ")):
        message = message.partition(b",")[0]  # then a number of its own in each line
    elif message.startswith((b'open() "', b'stat() "', b'"')):
        at = message.rfind(b'"')
        name, message = message[: min(at, _TEXT_LIMIT)], message[at:]
    message = message[:_TEXT_LIMIT]
    if not found:
        return name, message, b"", b"", b""
    _head, _head, server = tail.partition(b", server: ")
    _head, _head, request = tail.partition(b', request: "')
    line, upstream = split_request(request)
    return name, message, server.partition(b",")[0][:300], line[:_TEXT_LIMIT], upstream[:500]


def _line(
    stamp: bytes, second: bytes, level: bytes, message: bytes, server: bytes, request: bytes, upstream: bytes
) -> bytes:
    """The record as nginx wrote it, without process numbers, the client's address and its headers."""
    text = b"%s:%s [%s] %s" % (stamp, second, level, message)
    if request:
        text += b', server: %s, request: "%s"' % (server, request)
    if upstream:
        text += b', upstream: "%s"' % upstream
    return text
