# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads all logs of a host and explains them: ports on one side, pure readers and rules on the other."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable

from ansible_collections.webops.php_stack.plugins.module_utils import (
    log_fpm,
    log_journal,
    log_kernel,
    log_nginx,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_correlate import Correlator
from ansible_collections.webops.php_stack.plugins.module_utils.log_evidence import Affinity, ByTime, Index
from ansible_collections.webops.php_stack.plugins.module_utils.log_files import LogFile, StampReader, expand
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import (
    CAUSES,
    Evidence,
    Moment,
    Source,
    instance_of,
)
from ansible_collections.webops.php_stack.plugins.module_utils.log_report import Report
from ansible_collections.webops.php_stack.plugins.module_utils.log_scan import Scanner, Unexplained
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock

# Stands for the running journal or kernel buffer in place of a path.
LIVE = "live"
# What happened before `since` can still be the reason for what happens after it.
_STATE_SECONDS = 86400
_STATE_BYTES = 4 << 20
_JOURNAL_LINES = 20000
_JOURNAL_FIELDS = (
    "MESSAGE,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_TRANSPORT,__REALTIME_TIMESTAMP,"
    "_SOURCE_REALTIME_TIMESTAMP"
)
# Evidence beyond this is counted by the hour, to keep the memory flat.
_EVIDENCE_LIMIT = 20000
_INCIDENT = 5


@dataclass
class Request:
    """What to read. A path may be a glob, or LIVE for the journal and the kernel log."""

    nginx_error_log: list[str] = field(default_factory=list)
    fpm_log: list[str] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    kernel_log: list[str] = field(default_factory=list)
    since: float | None = None
    until: float | None = None
    samples: int = 3
    listeners: dict[str, tuple[str, str]] = field(default_factory=dict)


class _Pile:
    """Evidence, of which the bulk is counted rather than kept."""

    def __init__(self) -> None:
        self.items: list[Evidence] = []
        self._merged: dict[tuple[object, ...], Evidence] = {}
        self.coarse = 0

    def add(self, found: Iterable[Evidence]) -> None:
        for item in found:
            if len(self.items) < _EVIDENCE_LIMIT:
                self.items.append(item)
                continue
            self.coarse += 1
            hour = None if item.when is None else item.when // 3600
            key = (item.kind, item.signal, item.pool, item.instance, hour)
            known = self._merged.get(key)
            if known is None:
                self._merged[key] = item
                self.items.append(item)
            else:
                known.count += item.count
                known.room += item.room if item.room > 0 else 0


class _Reader:
    """One reading of one host."""

    def __init__(self, host: Host, request: Request, clock: Clock, now: float) -> None:
        self._host = host
        self._request = request
        self._clock = clock
        self._now = now
        self.sources: list[Source] = []

    def files(
        self, kind: str, paths: list[str], first: StampReader | None = None
    ) -> list[tuple[LogFile, Source]]:
        """The logs that can be read, oldest first; all of them are noted as sources."""
        opened: list[tuple[float, LogFile, Source]] = []
        for path in expand(self._host, [path for path in paths if path != LIVE], self._request.since):
            source = Source(path, kind)
            self.sources.append(source)
            try:
                log = LogFile(self._host, path)
            except OSError as error:
                source.error = error.strerror or str(error)
                continue
            start = first(log.head(1 << 14)) if first else None
            if first and start is None and log.size and first(log.tail()) is None:
                source.error = (
                    f"no line begins as in a log of {kind}: nothing in it counts."
                    " Files that syslog wrote belong in the parameter journal"
                )
            opened.append((float("-inf") if start is None else start, log, source))
        opened.sort(key=lambda entry: entry[0])
        return [(log, source) for _unused, log, source in opened]

    def fpm(self, log: LogFile, source: Source) -> Iterable[Evidence]:
        stamp = _stamp(log_fpm.first_stamp, self._clock)
        blocks = log.blocks(source, stamp, self._request.since, self._request.until, before=_STATE_BYTES)
        return _noted(log_fpm.read_log(blocks, log.path, instance_of(log.path), self._clock), source)

    def live_journal(self, nginx: Callable[[bytes, float, str], bool]) -> list[Evidence]:
        source = Source("journalctl", "journal")
        self.sources.append(source)
        argv = ["journalctl", "--output=json", "--no-pager", "--quiet", f"--lines={_JOURNAL_LINES}",
                f"--output-fields={_JOURNAL_FIELDS}"]  # fmt: skip
        if self._request.since is not None:
            argv.append(f"--since=@{self._request.since - _STATE_SECONDS:.0f}")
        if self._request.until is not None:
            argv.append(f"--until=@{self._request.until + 1:.0f}")
        text = self._command(argv, source)
        return list(_noted(log_journal.read_log([text], "journal", self._now, self._clock, nginx), source))

    def live_kernel(self) -> list[Evidence]:
        source = Source("dmesg", "kernel")
        self.sources.append(source)
        boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        text = self._command(["dmesg"], source)
        return list(_noted(log_kernel.read_log([text], "dmesg", self._clock, boot), source))

    def _command(self, argv: list[str], source: Source) -> bytes:
        done = self._host.run(argv, timeout=60)
        if done.rc != 0:
            source.error = done.error or done.stderr.strip() or f"{argv[0]} ended with {done.rc}"
        text = done.stdout.encode("utf-8", "surrogateescape")
        source.bytes, source.lines = len(text), text.count(b"\n")
        return text


def explain(host: Host, request: Request, clock: Clock, now: float) -> dict[str, Any]:
    """Read and explain.

    :param now: the current time, in seconds; live logs and dates without a year refer to it.
    :returns: causes, timeline, unexplained, unrelated, sources, limits: the module documents them.
    """
    if request.since is not None:
        # The logs count whole seconds: an entry of this second may be from its end.
        request = replace(request, since=float(math.floor(request.since)))
    reader = _Reader(host, request, clock, now)
    report = Report(clock, request.samples)
    unexplained = Unexplained(request.samples)
    pile = _Pile()
    nginx_stamp = _stamp(log_nginx.first_stamp, clock)
    fpm_stamp = _stamp(log_fpm.first_stamp, clock)

    nginx_files = reader.files("nginx", request.nginx_error_log, nginx_stamp)
    fpm_files = reader.files("fpm", request.fpm_log, fpm_stamp)
    anchors = [nginx_stamp(log.tail(1 << 13)) for log, _unused in nginx_files]
    anchors += [fpm_stamp(log.tail(1 << 13)) for log, _unused in fpm_files]
    anchor = max((when for when in anchors if when is not None), default=None)

    nginx_records: list[tuple[bytes, float, str]] = []

    def keep(raw: bytes, when: float, path: str) -> bool:
        within = _within(when, request)
        if within:
            nginx_records.append((raw, when, path))
        return within

    for log, source in fpm_files:
        pile.add(reader.fpm(log, source))
    for log, source in reader.files("journal", request.journal):
        blocks = log.blocks(source, lambda _block: None, None, None)
        near = anchor if anchor is not None else min(log.modified, now)
        pile.add(_noted(log_journal.read_log(blocks, log.path, near, clock, keep), source))
    for log, source in reader.files("kernel", request.kernel_log):
        blocks = log.blocks(source, lambda _block: None, None, None)
        pile.add(
            _kernel_or_syslog(blocks, log, anchor if anchor is not None else log.modified, clock, source)
        )
    if LIVE in request.journal and host.live:
        pile.add(reader.live_journal(keep))
    if LIVE in request.kernel_log and host.live:
        pile.add(reader.live_kernel())

    index = Index(pile.items)
    correlator = Correlator(index, Affinity(index.pools, request.listeners))

    def emit(moment: Moment) -> None:
        source = current[0]
        if source is not None:
            source.first = moment.when if source.first is None else min(source.first, moment.when)
            source.last = moment.last if source.last is None else max(source.last, moment.last)
        report.failed(moment, correlator.resolve(moment))

    current: list[Source | None] = [None]
    scanner = Scanner(clock, index.watched, emit, unexplained, request.since, request.until)
    for log, source in nginx_files:
        current[0] = source
        scanner.feed(log.blocks(source, nginx_stamp, request.since, request.until, record=b"\n2"), log.path)
    current[0] = None
    for raw, when, path in nginx_records:
        scanner.record(raw, when, path)

    for item in _unclaimed(index.all, request):
        report.alone(item)
    return {
        "causes": report.ranked(),
        "timeline": report.timeline([item for item in index.all if _within(item.when, request)]),
        "unexplained": unexplained.result(),
        "unrelated": dict(sorted(scanner.unrelated.items())),
        "sources": [_plain(source, clock) for source in reader.sources],
        "limits": _limits(reader.sources, pile.coarse),
    }


def _kernel_or_syslog(
    blocks: Iterable[bytes], log: LogFile, anchor: float, clock: Clock, source: Source
) -> Iterable[Evidence]:
    """dmesg's formats, or kern.log's, which is syslog's; a file may not say which, so each block is tried."""
    for block in blocks:
        found = list(log_kernel.read_log([block], log.path, clock, None))
        if not found:
            found = list(log_journal.read_log([block], log.path, anchor, clock, lambda *_: False))
        yield from _noted(found, source)


def _stamp(read: Callable[[bytes, Clock], float | None], clock: Clock) -> StampReader:
    return lambda block: read(block, clock)


def _noted(found: Iterable[Evidence], source: Source) -> Iterable[Evidence]:
    """Passes evidence on and notes its range in the source."""
    for item in found:
        if item.when is not None:
            source.first = item.when if source.first is None else min(source.first, item.when)
            source.last = item.when if source.last is None else max(source.last, item.when)
        yield item


def _within(when: float | None, request: Request) -> bool:
    """What has no time cannot be shown to lie outside."""
    return when is None or (
        (request.since is None or when >= request.since) and (request.until is None or when <= request.until)
    )


def _unclaimed(items: list[Evidence], request: Request) -> list[Evidence]:
    """Evidence of a cause that explained no failed request, and that is not part of an incident that did."""
    claimed: dict[tuple[str, str, str], ByTime] = {}
    for name, group in _grouped(item for item in items if item.claimed).items():
        claimed[name] = ByTime(group)
    nothing = ByTime(())
    return [
        item
        for item in items
        if item.kind in CAUSES
        and not item.claimed
        and _within(item.when, request)
        and (
            item.when is None
            or not claimed.get((item.kind, item.pool, item.instance), nothing).between(
                item.when - _INCIDENT, item.when + _INCIDENT
            )
        )
    ]


def _grouped(items: Iterable[Evidence]) -> dict[tuple[str, str, str], list[Evidence]]:
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for item in items:
        groups.setdefault((item.kind, item.pool, item.instance), []).append(item)
    return groups


def _plain(source: Source, clock: Clock) -> dict[str, Any]:
    plain = asdict(source)
    for edge in ("first", "last"):
        plain[edge] = None if plain[edge] is None else clock.iso(plain[edge])
    return plain


def _limits(sources: list[Source], coarse: int) -> list[str]:
    words = [f"{source.path}: {source.error}" for source in sources if source.error]
    if coarse:
        words.append(
            f"There are so many entries about FPM that {coarse} of them were only counted by the hour."
            " Limit the time with since for exact causes."
        )
    return words
