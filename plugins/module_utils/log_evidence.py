# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders evidence: joins what several logs say about one thing, finds when FPM was down, answers by time."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ansible_collections.webops.php_stack.plugins.module_utils.log_fpm import is_crash
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence, instance_of

# Logs round to a second, and FPM's master writes after its worker is gone.
NEAR = 2
# Messages of one incident: a failed start writes several lines, in two logs.
_INCIDENT = 5
# A stop that a start follows within this time is a restart. systemd waits 90 s before it kills.
_RESTART = 120
# A warning about max_children comes up to this long before nginx gives up (fastcgi_read_timeout is 60 s).
SATURATION = 65
# How long before a timeout FPM may have logged that very request as slow.
SLOW = 300

# Hosts of a listener that are every address of the machine, and what is one address.
ANY_HOST = ("", "*", "0.0.0.0", "[::]")
_LITERAL = re.compile(r"\[[0-9a-fA-F:.]+\]|\d+\.\d+\.\d+\.\d+")

_WHOLE_MINUTE = frozenset(range(60))

DEATHS = ("request_terminated", "worker_oom", "worker_crashed", "worker_killed")
_START_FAILURES = ("config_invalid", "pool_user_missing", "address_in_use")
_STATE_KINDS = {
    "start", "stop", "reload", "reload_refused", "master_died", "start_limit_hit", "oom_unit", *_START_FAILURES,
}  # fmt: skip


@dataclass(eq=False)
class Outage:
    """A time in which FPM did not listen. ``root`` is a cause's id, '' where none is known."""

    start: float
    instance: str
    root: str = ""
    end: float | None = None
    evidence: list[Evidence] = field(default_factory=list)

    def latest_end(self) -> float:
        """FPM's log and a short journal count whole seconds: the end may be later within its second."""
        if self.end is None:
            return float("inf")
        return self.end if self.end % 1 else self.end + 1

    def rank(self) -> tuple[int, float, bool]:
        """Orders by how much is explained; a restart and a mere stop by which is the later."""
        order = (*_START_FAILURES, "worker_oom", "start_limit_hit")
        if self.root in order:
            return order.index(self.root), 0.0, False
        return len(order), -self.start, self.end is not None


class ByTime:
    """Evidence that has a time, in its order."""

    def __init__(self, items: Iterable[Evidence]) -> None:
        timed = [(item.when, item) for item in items if item.when is not None]
        timed.sort(key=lambda pair: pair[0])
        self.times = [when for when, _unused in timed]
        self.items = [item for _unused, item in timed]

    def between(self, first: float, last: float) -> list[Evidence]:
        return self.items[bisect.bisect_left(self.times, first) : bisect.bisect_right(self.times, last)]


class Index:
    """All evidence of a host. Building it changes the Evidence that it is given: duplicates are joined."""

    def __init__(self, found: Iterable[Evidence]) -> None:
        self.all = sorted(found, key=lambda item: item.when if item.when is not None else float("-inf"))
        _one_instance(self.all)
        self.outages = _outages(self.all)
        self.pools = {item.pool for item in self.all if item.pool}
        self.all = _join_failures(self.all)
        self.all = _join_deaths(self.all)
        self.deaths = ByTime(item for item in self.all if item.kind in DEATHS)
        self.cuts = ByTime(item for item in self.all if item.kind in ("reload", "stop", "master_died"))
        self.saturations = ByTime(item for item in self.all if item.kind == "max_children_reached")
        self.slow = ByTime(item for item in self.all if item.kind == "slow")
        self.denials = ByTime(item for item in self.all if item.kind == "selinux_denied")
        self.php = ByTime(item for item in self.all if item.kind.startswith("php_"))
        edges = [edge for outage in self.outages for edge in (outage.start, outage.end) if edge is not None]
        # A slow page is in the log long before nginx gives up on it.
        slow = [when + later for when in self.slow.times for later in range(0, SLOW + 60, 60)]
        self._minutes = sorted([*edges, *slow])
        self._points = sorted([*self.deaths.times, *self.cuts.times, *self.php.times])

    def watched(self, minute: float) -> frozenset[int]:
        """The seconds of a minute whose symptoms must be told apart; the others may be counted together."""
        if _between(self._minutes, minute):
            return _WHOLE_MINUTE
        seconds: set[int] = set()
        for point in _between(self._points, minute):
            near = int(point - minute // 1)
            seconds.update(range(near - NEAR, near + NEAR + 1))
        return frozenset(seconds) & _WHOLE_MINUTE

    def outages_at(self, first: float, last: float) -> list[Outage]:
        """Outages that cover any of this time: first those that last beyond it, then the best explained."""
        hits = [outage for outage in self.outages if outage.start - 1 <= last and first < outage.latest_end()]
        return sorted(hits, key=lambda outage: (outage.latest_end() <= last + 1, outage.rank()))


def _between(times: list[float], minute: float) -> list[float]:
    """The times in a minute and NEAR it."""
    first = bisect.bisect_left(times, minute - NEAR - 1)
    return times[first : bisect.bisect_right(times, minute + 60 + NEAR)]


def _one_instance(items: list[Evidence]) -> None:
    """With a single PHP version in all logs, evidence that names none belongs to it."""
    names = {item.instance for item in items if item.instance}
    if len(names) == 1:
        name = names.pop()
        for item in items:
            item.instance = item.instance or name


def _outages(items: list[Evidence]) -> list[Outage]:
    """Reads each log's story on its own: within one second, only one log's order can be trusted."""
    stories: dict[tuple[str, str], list[Evidence]] = {}
    for item in items:
        if (item.kind in _STATE_KINDS or item.kind == "init_failed") and item.when is not None:
            stories.setdefault((item.source, item.instance), []).append(item)
    outages = []
    for (_unused, instance), story in stories.items():
        outages.extend(_story(story, instance))
    return sorted(outages, key=lambda outage: outage.start)


def _story(story: list[Evidence], instance: str) -> list[Outage]:
    done: list[Outage] = []
    now: Outage | None = None
    up = vague = False
    for item in story:
        when = item.when or 0.0
        if item.kind == "start":
            if now is not None:
                now.end = when
                stopped = any(part.kind == "stop" for part in now.evidence)
                if not now.root and stopped and when - now.start <= _RESTART:
                    now.root = "restart_cut_requests"
                done.append(now)
            now, up = None, True
        elif item.kind == "reload":
            # The master executes itself anew; what fails now takes the service down.
            up = False
        elif item.kind == "reload_refused":
            now, up = None, True
        elif item.kind in ("stop", "master_died") or not up:
            if now is None:
                now, vague = Outage(when, instance), False
            now.evidence.append(item)
            if item.kind in _START_FAILURES or item.kind in ("start_limit_hit", "init_failed", "oom_unit"):
                root = {"init_failed": "config_invalid", "oom_unit": "worker_oom"}.get(item.kind, item.kind)
                # The first reason stands: a failed start leads to the start limit, never the reverse;
                # but that it failed, which systemd may have noted first, yields to what FPM names.
                named = item.kind in _START_FAILURES
                if not now.root or (named and (vague or now.root == "start_limit_hit")):
                    now.root, vague = root, item.kind == "init_failed"
            up = False
        elif item.kind in ("start_limit_hit", "oom_unit"):
            now = Outage(when, instance, "worker_oom" if item.kind == "oom_unit" else item.kind, None, [item])
            up = False
    if now is not None:
        done.append(now)
    return done


def _join_failures(items: list[Evidence]) -> list[Evidence]:
    """One failed start is one piece of evidence, however many lines tell it."""
    kept: list[Evidence] = []
    heads: dict[tuple[str, str], Evidence] = {}
    specific = [item for item in items if item.kind in _START_FAILURES and item.when is not None]
    for item in items:
        kind = item.kind
        if kind == "init_failed":
            if any(
                abs((other.when or 0.0) - (item.when or 0.0)) <= _INCIDENT and other.instance == item.instance
                for other in specific
            ):
                continue
            item.kind = kind = "config_invalid"
        if kind not in (*_START_FAILURES, "start_limit_hit") or item.when is None:
            kept.append(item)
            continue
        head = heads.get((kind, item.instance))
        if head is not None and item.when - (head.when or 0.0) <= _INCIDENT:
            if len(head.because) < 5:
                head.because.append(item)
            continue
        heads[kind, item.instance] = item
        kept.append(item)
    return kept


def _join_deaths(items: list[Evidence]) -> list[Evidence]:
    """One dead worker is one piece of evidence: FPM's two lines about it, and the kernel's."""
    kept: list[Evidence] = []
    terminated: dict[tuple[str, int], Evidence] = {}
    kernel = [item for item in items if item.kind in ("worker_oom", "worker_crashed") and not item.pool]
    oom = _unique_by_pid([item for item in kernel if item.kind == "worker_oom"])
    for note in (item for item in items if item.kind == "oom_note"):
        if _partner(note, oom, set()) is None:
            note.kind, note.room = "worker_oom", 1
            oom.append(note)
    crashes = _unique_by_pid([item for item in kernel if item.kind == "worker_crashed"])
    used: set[int] = set()
    state = ByTime(item for item in items if item.kind in ("stop", "reload", "master_died"))
    for item in items:
        if item.kind == "request_terminated":
            terminated[item.instance, item.pid] = item
        elif item.kind in ("death", "exit"):
            first = terminated.get((item.instance, item.pid))
            if first is not None and (item.when or 0.0) - (first.when or 0.0) <= 30:
                first.because.append(item)
                continue
            item.kind = "worker_crashed" if item.kind == "exit" or is_crash(item.signal) else "worker_killed"
            near = state.between((item.when or 0.0) - _INCIDENT, (item.when or 0.0) + _INCIDENT)
            if item.kind == "worker_killed" and item.signal in (3, 15) and near:
                continue  # the master told its workers to end
            reason = None
            if item.kind == "worker_killed" and item.signal == 9:
                reason = _partner(item, oom, used)
            elif item.kind == "worker_crashed":
                reason = _partner(item, crashes, used)
            if reason is not None:
                used.add(id(reason))
                item.kind = reason.kind
                item.because.append(reason)
        elif item.kind in ("oom_note", "oom_unit"):
            continue
        kept.append(item)
    doubles = {id(item) for item in kernel} - {id(item) for item in oom + crashes}
    return [item for item in kept if id(item) not in used and id(item) not in doubles]


def _unique_by_pid(items: list[Evidence]) -> list[Evidence]:
    """The kernel writes two lines for one kill, and the journal and dmesg both hold them."""
    seen: dict[int, list[float | None]] = {}
    unique = []
    for item in items:
        times = seen.setdefault(item.pid, [])
        if any(time is None or item.when is None or abs(time - item.when) <= 60 for time in times):
            continue
        times.append(item.when)
        unique.append(item)
    return unique


def _partner(item: Evidence, reasons: list[Evidence], used: set[int]) -> Evidence | None:
    """The kernel's line for this death: by time where it has one. Pids differ across namespaces."""
    best: Evidence | None = None
    for reason in reasons:
        if id(reason) in used or (reason.instance and item.instance and reason.instance != item.instance):
            continue
        if reason.when is not None and item.when is not None and abs(reason.when - item.when) > _INCIDENT:
            continue
        if best is None or reason.pid == item.pid:
            best = reason
    return best


class Affinity:
    """Whether evidence can concern an upstream of nginx.

    :param listeners: address of a listener (a path, host:port, or ``*:port`` for one on all addresses) to
        (pool, PHP version). Where any is known, evidence about FPM concerns no address but theirs, and paths
        that carry a pool's name or version: a pool may have listened there before its configuration changed.
    """

    def __init__(self, pools: set[str], listeners: dict[str, tuple[str, str]] | None = None) -> None:
        self._pools = pools
        self.listeners = listeners or {}
        self._ports: dict[str, tuple[str, str]] = {}
        for where, pool in self.listeners.items():
            host, _separator, port = where.rpartition(":")
            if not where.startswith("/") and (host in ANY_HOST or not _LITERAL.fullmatch(host)):
                self._ports[port] = pool
        self._known: dict[tuple[str, str, str], int] = {}

    def of(self, instance: str, pool: str, upstream: str) -> int:
        """-1 cannot, 0 may, 1 the version fits, 2 the pool fits."""
        asked = (instance, pool, upstream)
        if asked not in self._known:
            if len(self._known) > 10000:
                self._known.clear()
            self._known[asked] = self._judge(instance, pool, upstream)
        return self._known[asked]

    def _judge(self, instance: str, pool: str, upstream: str) -> int:
        scheme, found, _sep = upstream.partition("://")
        if found and scheme != "fastcgi":
            return -1
        where = address(upstream)
        listener = self._listener(where)
        if listener is not None:
            its_pool, its_instance = listener
            if (pool and pool != its_pool) or (instance and its_instance and instance != its_instance):
                return -1
            return 2 if pool else 1
        its_instance = instance_of(where)
        if instance and its_instance and instance != its_instance:
            return -1
        name = where.rsplit("/", 1)[-1]
        named = {known for known in self._pools if known != "www" and known in name}
        if pool and named:
            return 2 if pool in named else -1
        if instance and its_instance:
            return 1
        # On an address that is no pool's and never looked like one something else listens, or nothing.
        return -1 if self.listeners and where else 0

    def _listener(self, where: str) -> tuple[str, str] | None:
        """(pool, PHP version); a pool that listens on all addresses, or on a name, has its port on each."""
        found = self.listeners.get(where)
        if found is None and where and not where.startswith("/"):
            found = self._ports.get(where.rpartition(":")[2])
        return found


def address(upstream: str) -> str:
    """'/run/php/x.sock' for 'fastcgi://unix:/run/php/x.sock', '127.0.0.1:9000' for TCP."""
    rest = upstream.partition("://")[2] or upstream
    path = rest[5:] if rest.startswith("unix:") else rest
    # The same directory on every Linux with systemd, and on most others.
    return path[4:] if path.startswith("/var/run/") else path
