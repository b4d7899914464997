# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log readers hand to each other: symptoms, evidence, and the catalogue of causes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple


class Known(NamedTuple):
    """One cause of the vocabulary. ``tier``: 0 the gateway fails, 1 PHP answers 500, 2 a client error."""

    tier: int
    answer: str
    words: str


CAUSES: dict[str, Known] = {
    "socket_missing": Known(0, "502", "nginx finds no socket file at the path that it connects to"),
    "socket_refused": Known(0, "502", "the socket file is there, but no process listens on it"),
    "socket_denied": Known(0, "502", "nginx's user may not connect to the socket"),
    "tcp_refused": Known(0, "502", "nothing listens on the TCP address that nginx connects to"),
    "host_unreachable": Known(0, "502", "the network does not reach the upstream's host"),
    "backlog_full": Known(0, "502", "the socket's queue is full: all workers are busy and requests pile up"),
    "connect_timeout": Known(0, "504", "the connection to the upstream was not accepted in time"),
    "send_timeout": Known(0, "504", "the upstream did not take the request in time"),
    "read_timeout": Known(0, "504", "no answer within fastcgi_read_timeout"),
    "upstream_reset": Known(0, "502", "the upstream reset the connection, and no log says why"),
    "premature_close": Known(0, "502", "the upstream closed the connection before it answered"),
    "response_truncated": Known(0, "200", "the upstream went away in the middle of the answer: a cut body"),
    "request_terminated": Known(0, "502", "FPM killed the request at request_terminate_timeout"),
    "worker_crashed": Known(0, "502", "an FPM worker crashed"),
    "worker_killed": Known(0, "502", "an FPM worker was killed by a signal from outside"),
    "worker_oom": Known(0, "502", "the kernel killed an FPM worker because memory ran out"),
    "reload_cut_requests": Known(0, "502", "a reload of FPM cut the requests in flight"),
    "restart_cut_requests": Known(0, "502", "a stop or restart of FPM cut or refused requests"),
    "config_invalid": Known(0, "502", "a configuration is invalid, so the service did not start"),
    "pool_user_missing": Known(0, "502", "a pool names a user or group that does not exist"),
    "address_in_use": Known(0, "502", "another process has the address that is to be listened on"),
    "start_limit_hit": Known(0, "502", "systemd gave up: the service was started too often in a short time"),
    "max_children_reached": Known(0, "504", "all workers of the pool are busy: pm.max_children is reached"),
    "no_live_upstreams": Known(0, "502", "nginx took every server of the upstream out of use"),
    "response_header_too_big": Known(0, "502", "the response header does not fit in fastcgi_buffer_size"),
    "upstream_host_not_found": Known(0, "502", "the upstream's host name does not resolve"),
    "fastcgi_protocol_error": Known(0, "502", "the upstream does not speak the protocol that nginx expects"),
    "selinux_denied": Known(0, "502", "SELinux denied nginx the connection"),
    "path_mismatch": Known(0, "502", "nginx connects to a path on which no pool listens"),
    "php_fatal": Known(1, "500", "a PHP script ended with a fatal error"),
    "php_time_limit": Known(1, "500", "a PHP script used up max_execution_time"),
    "php_memory_limit": Known(1, "500", "a PHP script used up memory_limit"),
    "request_header_too_large": Known(2, "400", "a request header does not fit in nginx's header buffers"),
    "script_not_found": Known(2, "404", "FPM does not find the script that SCRIPT_FILENAME names"),
    "extension_denied": Known(2, "403", "security.limit_extensions forbids the script's extension"),
    "nginx_file_missing": Known(2, "404", "nginx does not find a static file"),
}

_VERSION = re.compile(r"(?:php|fpm)[-_ ]?(?:php|fpm)?[-_]?(\d)\.?(\d)(?!\d)", re.I)


def instance_of(name: str) -> str:
    """The PHP version that a unit, process, socket or log name carries ('8.2'), else ''."""
    match = _VERSION.search(name)
    return f"{match[1]}.{match[2]}" if match else ""


class Key(NamedTuple):
    """What lines of nginx's log are counted by."""

    symptom: str
    server: str
    upstream: str


@dataclass
class Moment:
    """Symptoms of one key: ``exact`` of one second, else of all seconds of a minute without evidence near.

    ``requests`` holds raw request lines ('GET /a HTTP/1.1') of an exact moment; ``text`` is the first
    record, raw.
    """

    when: float
    last: float
    key: Key
    count: int
    requests: tuple[bytes, ...]
    text: bytes
    source: str
    exact: bool


@dataclass(eq=False)
class Evidence:
    """One thing that a log says about FPM, its service or the kernel.

    ``kind`` is a cause's id, or one of: death, exit, slow, reload, reload_refused,
    start, stop, master_died, init_failed, oom_note (of a process), oom_unit (it failed).
    ``when`` is None where the log does not say at which time of day. ``room`` is
    how many failed requests it can explain: a dead worker had one at most, -1 is
    no limit.
    """

    when: float | None
    kind: str
    text: str
    source: str
    instance: str = ""
    pool: str = ""
    pid: int = 0
    signal: int = 0
    request: str = ""
    count: int = 1
    room: int = -1
    claimed: bool = False
    because: list[Evidence] = field(default_factory=list)


@dataclass
class Source:
    """What was read of one log. ``skipped_bytes`` were before ``since``; ``error`` says why nothing was read."""

    path: str
    kind: str
    bytes: int = 0
    lines: int = 0
    skipped_bytes: int = 0
    first: float | None = None
    last: float | None = None
    error: str = ""
