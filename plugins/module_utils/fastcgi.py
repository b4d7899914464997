# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a PHP-FPM pool over FastCGI: php-fpm-probe, and the client that it is made of.

The file stands alone (standard library only), because a role installs it as it
is, with a first line of its own, as a command for people and health checks.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

# sun_path holds 108 bytes, the last of which is the final NUL (man 7 unix).
MAX_UNIX_PATH_BYTES = 107
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_BEGIN_REQUEST, _END_REQUEST, _PARAMS, _STDIN, _STDOUT, _STDERR = 1, 3, 4, 5, 6, 7
_KNOWN_TYPES = range(1, 12)
_HEADER = struct.Struct("!BBHHBx")  # version, type, request id, content length, padding length
_REQUEST_ID = 1
_RESPONDER = 1
# PHP refuses a record whose content and padding together are longer.
_MAX_CONTENT = 0xFFF8 - 8
# Receivers skip padding. This one makes servers of line-based protocols (HTTP, SMTP, Redis)
# see an empty line and answer at once, instead of waiting for more until the timeout.
_PADDING = b"\r\n\r\n\r\n\r\n"
_PROTOCOL_STATUS = {
    1: "it cannot multiplex connections",
    2: "it is overloaded",
    3: "it does not know the responder role",
}


class FastcgiError(Exception):
    """A request that got no FastCGI answer. ``kind`` says why, str() says it in words.

    kind is one of: missing, not_a_socket, refused, denied, full, path_too_long, unresolvable,
    unreachable, connect_timeout, silent, not_fastcgi, closed, too_large.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Address:
    """Where a pool listens: ``path`` of a unix socket, or ``host`` and ``port``."""

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address as nginx (fastcgi_pass) or FPM (listen) writes it.

        A lone port, or * for the host, means this machine, as FPM then listens on every address.

        :raises ValueError: says what is wrong with the text.
        """
        given = text.strip()
        path = given[len("unix:") :] if given.startswith("unix:") else given
        if path.startswith("/"):
            if "\0" in path:
                raise ValueError(f"{text!r} is no address: a path cannot hold a NUL byte")
            return cls("unix", path=path)
        if given.startswith("unix:"):
            raise ValueError(f"{text!r} is no address: after unix: comes an absolute path")
        host, colon, port = given.rpartition(":")
        if not colon and port.isdigit():
            host = "*"
        elif not colon or not host:
            raise ValueError(
                f"{text!r} is no address: give /path/of.sock, unix:/path/of.sock, host:port, [ipv6]:port or a port"
            )
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is no address: write an IPv6 address in brackets, as in [::1]:9000")
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r} is no address: the port is a number from 1 to 65535, not {port!r}")
        if not host or any(char.isspace() or char == "/" for char in host):
            raise ValueError(f"{text!r} is no address: {host!r} is neither a host name nor an IP address")
        return cls("tcp", host="127.0.0.1" if host == "*" else host, port=int(port))

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Response:
    """A pool's answer. ``status`` is 0 when it sent no header at all; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
    stderr: bytes
    connect_seconds: float
    total_seconds: float


def status_params(path: str, query: str = "json&full") -> dict[str, str]:
    """The parameters that ask for a status or ping page (pm.status_path, ping.path)."""
    return {
        "GATEWAY_INTERFACE": "FastCGI/1.0",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": f"{path}?{query}" if query else path,
        # FPM compares its own pages with SCRIPT_NAME, and reads that only beside a SCRIPT_FILENAME.
        "SCRIPT_NAME": path,
        "SCRIPT_FILENAME": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "php-fpm-probe",
        "REMOTE_ADDR": "127.0.0.1",
    }


# -- the protocol ---------------------------------------------------------------------------------


def _record(kind: int, content: bytes, padding: bytes = b"") -> bytes:
    return _HEADER.pack(1, kind, _REQUEST_ID, len(content), len(padding)) + content + padding


def _length(value: bytes) -> bytes:
    return bytes([len(value)]) if len(value) < 128 else struct.pack("!I", len(value) | 1 << 31)


def _params_records(params: dict[str, str]) -> list[bytes]:
    """PARAMS records, with no pair cut in two where that can be helped: PHP reads each record alone."""
    records, content = [], b""
    for name, value in params.items():
        raw_name, raw_value = (
            name.encode("utf-8", "surrogateescape"),
            value.encode("utf-8", "surrogateescape"),
        )
        pair = _length(raw_name) + _length(raw_value) + raw_name + raw_value
        if content and len(content) + len(pair) > _MAX_CONTENT:
            records.append(content)
            content = b""
        content += pair
        while len(content) > _MAX_CONTENT:
            records.append(content[:_MAX_CONTENT])
            content = content[_MAX_CONTENT:]
    if content:
        records.append(content)
    return [_record(_PARAMS, content, _PADDING) for content in records]


def encode_request(params: dict[str, str], stdin: bytes = b"") -> bytes:
    """The bytes of one whole request; the connection is to be closed after the answer."""
    parts = [_record(_BEGIN_REQUEST, struct.pack("!HB5x", _RESPONDER, 0))]
    parts += _params_records(params)
    parts.append(_record(_PARAMS, b""))
    parts += [_record(_STDIN, stdin[at : at + _MAX_CONTENT]) for at in range(0, len(stdin), _MAX_CONTENT)]
    parts.append(_record(_STDIN, b""))
    return b"".join(parts)


def _in_words(start: bytes) -> str:
    """What a server that does not speak FastCGI seems to be, by its first bytes."""
    if start.startswith(b"HTTP/") or start[:1] == b"<":
        return "an HTTP server answers there"
    if start.startswith(b"SSH-"):
        return "an SSH server answers there"
    if start[:2] == b"\x15\x03":
        return "a TLS server answers there"
    shown = start[:40].split(b"\r\n")[0].decode("ascii", "replace")
    return f"its answer starts with {shown!r}"


@dataclass
class ResponseReader:
    """Takes the answer's bytes in pieces of any size. ``done`` is set with the END_REQUEST record."""

    limit: int = MAX_RESPONSE_BYTES
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    done: bool = False
    received: int = 0
    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """:raises FastcgiError: not_fastcgi, full (the server says that it is overloaded) or too_large."""
        self.received += len(data)
        self._pending += data
        while not self.done and self._pending:
            if self._pending[0] != 1:
                raise FastcgiError(
                    "not_fastcgi", f"it does not speak FastCGI: {_in_words(bytes(self._pending))}"
                )
            if len(self._pending) < _HEADER.size:
                return
            _, kind, request_id, length, padding = _HEADER.unpack_from(self._pending)
            if kind not in _KNOWN_TYPES or request_id not in (0, _REQUEST_ID):
                raise FastcgiError(
                    "not_fastcgi", f"it does not speak FastCGI: record type {kind} for request {request_id}"
                )
            end = _HEADER.size + length + padding
            if len(self._pending) < end:
                return
            self._record(kind, bytes(self._pending[_HEADER.size : _HEADER.size + length]))
            del self._pending[:end]

    def _record(self, kind: int, content: bytes) -> None:
        if kind == _STDOUT:
            self.stdout += content
        elif kind == _STDERR:
            self.stderr += content
        elif kind == _END_REQUEST:
            verdict = content[4] if len(content) == 8 else None
            if verdict is None:
                raise FastcgiError("not_fastcgi", "it does not speak FastCGI: malformed END_REQUEST record")
            if verdict:
                words = _PROTOCOL_STATUS.get(verdict, f"protocol status {verdict}")
                raise FastcgiError(
                    "full" if verdict == 2 else "not_fastcgi", f"it refuses the request: {words}"
                )
            self.done = True
        if len(self.stdout) + len(self.stderr) > self.limit:
            raise FastcgiError("too_large", f"its answer is longer than {self.limit} bytes")


def parse_cgi(output: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a CGI answer; status 0 and everything as body without a header block."""
    for separator in (b"\r\n\r\n", b"\n\n"):
        head, found, body = output.partition(separator)
        if found:
            break
    else:
        return 0, {}, output
    headers = {}
    for line in head.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            return 0, {}, output
        headers[name.strip().lower()] = value.strip()
    code = headers.get("status", "200").split(" ")[0]
    return int(code) if code.isascii() and code.isdigit() else 0, headers, body


# -- the client -----------------------------------------------------------------------------------


def request(
    address: Address,
    params: dict[str, str],
    connect_timeout: float = 1.0,
    read_timeout: float = 2.0,
    stdin: bytes = b"",
) -> Response:
    """Send one request and wait for the whole answer.

    Both timeouts are total, however slowly the bytes come: ``connect_timeout`` for the name and every
    address it has, ``read_timeout`` from the first byte sent to the last one received.

    :raises FastcgiError: as its ``kind`` says.
    """
    start = time.monotonic()
    sock = connect(address, connect_timeout)
    try:
        connected = time.monotonic()
        reader = _exchange(
            sock, encode_request(params, stdin), address, connected + read_timeout, read_timeout
        )
    finally:
        sock.close()
    status, headers, body = parse_cgi(bytes(reader.stdout))
    return Response(status, headers, body, bytes(reader.stderr), connected - start, time.monotonic() - start)


def connect(address: Address, timeout: float) -> socket.socket:
    """A connected socket in non-blocking mode.

    :raises FastcgiError: of every kind but silent, closed, not_fastcgi and too_large.
    """
    if address.kind == "unix":
        return _connect_unix(address.path)
    deadline = time.monotonic() + timeout
    failures: list[FastcgiError] = []
    for family, target in _resolve(address, timeout):
        try:
            return _connect_tcp(family, target, deadline, timeout)
        except FastcgiError as error:
            failures.append(error)
    # The failure of an address that something answered for says more than "no route".
    failures.sort(key=lambda error: error.kind == "unreachable")
    raise FastcgiError(failures[0].kind, "; ".join(str(error) for error in failures))


def _connect_unix(path: str) -> socket.socket:
    size = len(os.fsencode(path))
    if size > MAX_UNIX_PATH_BYTES:
        raise FastcgiError(
            "path_too_long",
            f"{path} has {size} bytes; the path of a unix socket has at most {MAX_UNIX_PATH_BYTES}",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Non-blocking, or connect() would wait without an end while the backlog is full.
    sock.setblocking(False)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise _unix_error(path, error) from None
    return sock


def _unix_error(path: str, error: OSError) -> FastcgiError:
    code = error.errno
    if code in (errno.ENOENT, errno.ENOTDIR):
        return FastcgiError("missing", f"there is no {path} (errno {code})")
    if code == errno.ELOOP:
        return FastcgiError("missing", f"{path} leads through symbolic links without an end (errno {code})")
    if code in (errno.EACCES, errno.EPERM):
        return FastcgiError("denied", f"permission denied for {path} (errno {code})")
    if code == errno.EAGAIN:
        return FastcgiError("full", f"the queue of {path} is full: nobody accepts connections (errno {code})")
    if code == errno.EPROTOTYPE:
        return FastcgiError("not_a_socket", f"{path} is no stream socket (errno {code})")
    if code == errno.ECONNREFUSED:
        # connect() says the same for a file of another kind.
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError:
            is_socket = True
        if not is_socket:
            return FastcgiError("not_a_socket", f"{path} is no socket")
        return FastcgiError(
            "refused", f"nobody listens on {path}: the socket file is a leftover (errno {code})"
        )
    return FastcgiError("unreachable", f"{path}: {error.strerror} (errno {code})")


def _resolve(address: Address, timeout: float) -> list[tuple[int, Any]]:
    """Family and socket address of each IP address of the host, in the system's order."""
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.append(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    # getaddrinfo() knows no timeout of its own.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if not answer:
        raise FastcgiError("unresolvable", f"the name {address.host} was not resolved within {timeout:g} s")
    if isinstance(answer[0], Exception):
        reason = getattr(answer[0], "strerror", None) or answer[0]
        raise FastcgiError("unresolvable", f"the name {address.host} does not resolve: {reason}")
    return [(info[0], info[4]) for info in answer[0]]


def _connect_tcp(family: int, target: Any, deadline: float, timeout: float) -> socket.socket:
    shown = str(Address("tcp", host=target[0], port=target[1]))
    code = 0
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _tcp_error(shown, error.errno or 0) from None
    sock.setblocking(False)
    code = sock.connect_ex(target)
    if code == errno.EINPROGRESS:
        if not _wait(sock, select.POLLOUT, deadline):
            sock.close()
            raise FastcgiError("connect_timeout", f"{shown} did not answer within {timeout:g} s")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        sock.close()
        raise _tcp_error(shown, code)
    return sock


def _tcp_error(shown: str, code: int) -> FastcgiError:
    if code == errno.ECONNREFUSED:
        return FastcgiError("refused", f"nobody listens on {shown} (errno {code})")
    if code in (errno.EACCES, errno.EPERM):
        return FastcgiError("denied", f"connecting to {shown} is forbidden (errno {code})")
    if code == errno.ETIMEDOUT:
        return FastcgiError("connect_timeout", f"{shown} did not answer (errno {code})")
    return FastcgiError("unreachable", f"{shown} cannot be reached: {os.strerror(code)} (errno {code})")


def _wait(sock: socket.socket, events: int, deadline: float) -> int:
    """The events that happened, 0 when the deadline came first."""
    poll = select.poll()
    poll.register(sock, events)
    left = deadline - time.monotonic()
    ready = poll.poll(max(0, int(left * 1000) + 1)) if left > 0 else poll.poll(0)
    return ready[0][1] if ready else 0


def _exchange(
    sock: socket.socket, outgoing: bytes, address: Address, deadline: float, timeout: float
) -> ResponseReader:
    reader = ResponseReader()
    unsent = memoryview(outgoing)
    while not reader.done:
        if time.monotonic() >= deadline or not _wait(
            sock, select.POLLIN | (select.POLLOUT if unsent else 0), deadline
        ):
            what = "nothing came" if not reader.received else "the answer did not end"
            raise FastcgiError("silent", f"{address} accepts connections, but {what} within {timeout:g} s")
        if unsent:
            try:
                unsent = unsent[sock.send(unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                # The peer has hung up; what it said before that is still to be read.
                unsent = unsent[:0]
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            continue
        except OSError:
            data = b""
        try:
            reader.feed(data)
        except FastcgiError as error:
            raise FastcgiError(error.kind, f"{address}: {error}") from None
        if not data and not reader.done:
            where = "in the middle of its answer" if reader.received else "without an answer"
            raise FastcgiError("closed", f"{address} closed the connection {where}")
    return reader
