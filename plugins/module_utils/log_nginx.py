# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One record of nginx's error log: what it is a symptom of, and whom it concerns.

The decision rests on the errno number, on nginx's own fixed words and on the
phase ("while connecting to upstream"), never on the C library's text for the
errno: musl and glibc differ there. Only the part before ", client: " is judged,
for what follows is written by clients.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock

# A result of classify() that starts with this is explained and no gateway failure.
UNRELATED = "~"
UNEXPLAINED = ""

_ERRNO = re.compile(rb"\((\d{1,4})(?::|\)|$)")
_PHASE = re.compile(rb"\bwhile ([a-z][a-zA-Z /]{3,60})")
_STDERR = b'FastCGI sent in stderr: "'
_PHP_ERROR = re.compile(
    rb"PHP (?:Fatal error|Parse error|Recoverable fatal error|Compile error|Core error):\s+(.{0,40})", re.S
)
_TOO_LARGE = re.compile(
    rb"client sent too (?:long|large) (?:header|URI|request)"
    rb"|client (?:sent|exceeded) (?:too large|http2_max_(?:field|header)_size)"
)
_OWN_ANSWERS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("access_forbidden", re.compile(rb"access forbidden by rule|directory index of|is forbidden")),
    ("rate_limited", re.compile(rb"(?:limiting|delaying) (?:requests|connections)")),
    ("body_too_large", re.compile(rb"client intended to send too large")),
    ("login_failed", re.compile(rb'^user "|no user/password was provided')),
    (
        "client_gone",
        re.compile(rb"client (?:\S+ )?(?:prematurely )?closed|client timed out|keepalive connection"),
    ),
    ("client_invalid", re.compile(rb"client sent |^invalid host in|^plain HTTP request")),
    ("tls_handshake", re.compile(rb"SSL_|SSL handshak|in SSL|OCSP")),
    ("buffered_to_disk", re.compile(rb"is buffered to a temporary file")),
    ("peer_disabled", re.compile(rb"upstream server temporarily disabled")),
    ("nginx_lifecycle", re.compile(rb"^signal |^reconfiguring|^(?:worker|cache) process|^exit|^gracefully")),
)

_CONNECT_ERRNO = {
    2: "socket_missing",
    20: "socket_missing",  # ENOTDIR: a part of the path is a file
    40: "socket_missing",  # ELOOP
    13: "socket_denied",
    11: "backlog_full",
    110: "connect_timeout",
    1: "host_unreachable",  # EPERM: a packet filter
    100: "host_unreachable",
    101: "host_unreachable",
    112: "host_unreachable",
    113: "host_unreachable",
    104: "upstream_reset",
    32: "upstream_reset",
}
_LOST_ERRNO = (32, 103, 104)


def classify(message: bytes, level: bytes = b"error", upstream: bytes = b"") -> str:
    """The symptom of a message (a cause's id), UNRELATED + a word, or UNEXPLAINED.

    :param message: the text after ``*connection `` and before ``, client: ``.
    :param upstream: the upstream's URI, which tells a unix socket from TCP.
    """
    if message.startswith((b'open() "', b"stat() ", b'"')):
        return _file(message)
    if message.startswith(_STDERR):
        return _stderr(message[len(_STDERR) :])
    if level == b"emerg":
        return _emergency(message)
    if b"upstream" in message:
        found = _upstream(message, upstream)
        if found:
            return found
    if b"could not be resolved" in message or b"no resolver defined" in message:
        return "upstream_host_not_found"
    if _TOO_LARGE.search(message):
        return "request_header_too_large"
    for word, pattern in _OWN_ANSWERS:
        if pattern.search(message):
            return UNRELATED + word
    phase = _PHASE.search(message)
    if phase and phase[1].startswith((b"sending to client", b"reading client", b"waiting for", b"keepalive")):
        return UNRELATED + "client_gone"
    return UNEXPLAINED if level in (b"error", b"crit", b"alert") else UNRELATED + "below_error"


def _file(message: bytes) -> str:
    """open(), stat() and "…" is not found: a file that nginx itself serves."""
    # The errno stands behind the name, and a name may hold anything.
    tail = message[message.rfind(b'" ') :]
    number = _ERRNO.search(tail)
    if number is None:
        forbidden = b"is forbidden" in tail or b"directory index" in tail
        return UNRELATED + "access_forbidden" if forbidden else UNEXPLAINED
    return {2: "nginx_file_missing", 20: "nginx_file_missing", 36: "nginx_file_missing"}.get(
        int(number[1]), UNRELATED + "access_forbidden" if number[1] in (b"13", b"40") else UNEXPLAINED
    )


def _stderr(text: bytes) -> str:
    if text.startswith((b"Primary script unknown", b"Unable to open primary script")):
        return "script_not_found"
    if text.startswith(b"Access to the script") and b"security.limit_extensions" in text:
        return "extension_denied"
    return php_error(text) or UNRELATED + "php_message"


def php_error(text: bytes) -> str:
    """The cause that a message of PHP itself names, '' for one that ends no request."""
    match = _PHP_ERROR.search(text)
    if match is None:
        return ""
    if match[1].startswith(b"Maximum execution time of"):
        return "php_time_limit"
    if match[1].startswith((b"Allowed memory size of", b"Out of memory")):
        return "php_memory_limit"
    return "php_fatal"


def _emergency(message: bytes) -> str:
    # At its start: the lines behind a message may hold anything.
    if message.startswith(b"host not found in"):
        return "upstream_host_not_found"
    if message.startswith((b"bind() to", b"still could not bind()")):
        number = _ERRNO.search(message)
        return "address_in_use" if number is None or number[1] == b"98" else "config_invalid"
    return "config_invalid"


def _upstream(message: bytes, upstream: bytes) -> str:
    if message.startswith(b"no live upstreams"):
        return "no_live_upstreams"
    if message.startswith(b"upstream sent too big header"):
        return "response_header_too_big"
    if message.startswith(b"upstream sent more data"):
        return UNRELATED + "extra_data"
    phase_match = _PHASE.search(message[message.rfind(b" while ") :])
    phase = phase_match[1] if phase_match else b""
    in_body = phase.startswith(b"reading upstream")
    if message.startswith(b"upstream sent "):
        return "fastcgi_protocol_error"
    if b"host not found in upstream" in message:
        return "upstream_host_not_found"
    if message.startswith(b"upstream ") and (b"prematurely" in message or b"closed connection" in message):
        return "response_truncated" if in_body else "premature_close"
    if b"upstream" not in phase:
        return UNEXPLAINED
    number = _ERRNO.search(message)
    errno = int(number[1]) if number else 0
    if phase.startswith(b"connecting to"):
        if errno == 111:
            unix = b"unix:" in (upstream or message)
            return "socket_refused" if unix else "tcp_refused"
        return _CONNECT_ERRNO.get(errno, UNEXPLAINED)
    if errno == 110:
        return "send_timeout" if phase.startswith(b"sending") else "read_timeout"
    if errno in _LOST_ERRNO:
        return "response_truncated" if in_body else "upstream_reset"
    return UNEXPLAINED


class Record(NamedTuple):
    """The parts of one record; bytes as they are in the log, empty where absent."""

    stamp: bytes
    level: bytes
    message: bytes
    server: bytes
    request: bytes
    upstream: bytes


_FIRST = re.compile(rb"(?:\A|\n)(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[")
_RECORD = re.compile(
    rb"(?:nginx: )?(?:(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) )?\[(debug|info|notice|warn|error|crit|alert|emerg)\] "
    rb"(?:\d+#\d+: )?(?:\*\d+ )?(.*)",
    re.S,
)
_REQUEST_END = re.compile(rb'HTTP/\d(?:\.\d)?", (?:subrequest: "[^"]*", )?upstream: "([^"\n]*)')
_SERVER = re.compile(rb"[^,\n]*, server: ([^,\n]*)")
_UPSTREAM = b'", upstream: "'


def first_stamp(block: bytes, clock: Clock) -> float | None:
    """The instant of the first record in a block; the later one where local time is ambiguous."""
    match = _FIRST.search(block)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    try:
        return clock.both(year, month, day, hour, minute)[1] + second
    except ValueError:
        return None


def split_request(tail: bytes) -> tuple[bytes, bytes]:
    """(request line, upstream) from what follows ``request: "``; '' for what is absent.

    Clients choose the request line and the referrer, so an ``upstream:`` may be
    forged: the one right behind the protocol's version is nginx's own.
    """
    at = tail.find(_UPSTREAM)
    if at < 0:
        return tail[: tail.find(b'"')] if b'"' in tail else tail, b""
    if tail.find(_UPSTREAM, at + 1) >= 0:
        match = _REQUEST_END.search(tail)
        if match:
            return tail[: match.start()] + match[0][: match[0].find(b'"')], match[1]
    start = at + len(_UPSTREAM)
    end = tail.find(b'"', start)
    request = tail[:at]
    return request[: request.find(b'"')] if b'"' in request else request, tail[
        start : end if end >= 0 else None
    ]


def parse_record(text: bytes) -> Record | None:
    """A whole record, continuation lines included; None when it does not look like nginx's."""
    match = _RECORD.match(text)
    if match is None:
        return None
    stamp, level, rest = match[1] or b"", match[2], match[3].rstrip(b"\r\n")
    message, found, tail = rest.partition(b", client: ")
    if not found:
        return Record(stamp, level, rest, b"", b"", b"")
    server = _SERVER.match(tail)
    _head, _head, request = tail.partition(b', request: "')
    line, upstream = split_request(request)
    return Record(stamp, level, message, server[1] if server else b"", line, upstream)
