# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a PHP-FPM pool over FastCGI: php-fpm-probe, and the client that it is made of.

The file stands alone (standard library only), because a role installs it as it
is, with a first line of its own, as a command for people and health checks.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# sun_path holds 108 bytes, the last of which is the final NUL (man 7 unix).
MAX_UNIX_PATH_BYTES = 107
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_BEGIN_REQUEST, _END_REQUEST, _PARAMS, _STDIN, _STDOUT, _STDERR = 1, 3, 4, 5, 6, 7
_HEADER = struct.Struct("!BBHHBx")  # version, type, request id, content length, padding length
_REQUEST_ID = 1
# PHP refuses a longer record.
_MAX_CONTENT = 0xFFF8
# Receivers skip padding. This one makes servers of line-based protocols (HTTP, SMTP, Redis)
# see an empty line and answer at once, instead of waiting for more until the timeout.
_PADDING = b"\r\n\r\n\r\n\r\n"
_OVERLOADED = 2  # protocol status in END_REQUEST


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
        wrong = f"{text!r} is no address: "
        path = given[len("unix:") :] if given.startswith("unix:") else given
        if path.startswith("/") and "\0" not in path:
            return cls("unix", path=path)
        if given.startswith(("unix:", "/")):
            raise ValueError(wrong + "after unix: comes an absolute path, without a NUL byte")
        host, _colon, port = ("*:" + given if given.isdigit() else given).rpartition(":")
        if not host:
            raise ValueError(wrong + "give /path/of.sock, host:port, [ipv6]:port or a port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(wrong + "write an IPv6 address in brackets, as in [::1]:9000")
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(wrong + f"the port is a number from 1 to 65535, not {port!r}")
        if not host or any(char.isspace() or char in "/\0" for char in host):
            raise ValueError(wrong + f"{host!r} is neither a host name nor an IP address")
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


def _records(kind: int, content: bytes, padding: bytes = b"") -> bytes:
    """As many records as the content needs; none for no content."""
    out = b""
    for at in range(0, len(content), _MAX_CONTENT):
        part = content[at : at + _MAX_CONTENT]
        out += _HEADER.pack(1, kind, _REQUEST_ID, len(part), len(padding)) + part + padding
    return out


def _pair(name: str, value: str) -> bytes:
    raw = [text.encode("utf-8", "surrogateescape") for text in (name, value)]
    lengths = [bytes([len(t)]) if len(t) < 128 else struct.pack("!I", len(t) | 1 << 31) for t in raw]
    return b"".join(lengths + raw)


def encode_request(params: dict[str, str], stdin: bytes = b"") -> bytes:
    """The bytes of one whole request, in the role of a responder; no wish to keep the connection."""
    # PHP reads each record alone: no pair is cut in two where that can be helped.
    groups = [b""]
    for pair in itertools.starmap(_pair, params.items()):
        if len(groups[-1]) + len(pair) > _MAX_CONTENT:
            groups.append(b"")
        groups[-1] += pair
    begin = _records(_BEGIN_REQUEST, b"\0\1\0\0\0\0\0\0", _PADDING)
    pairs = b"".join(_records(_PARAMS, group) for group in groups)
    end_pairs, end_input = (_HEADER.pack(1, kind, _REQUEST_ID, 0, 0) for kind in (_PARAMS, _STDIN))
    return begin + pairs + end_pairs + _records(_STDIN, stdin) + end_input


def _in_words(start: bytes) -> str:
    """What a server that does not speak FastCGI seems to be, by its first bytes."""
    for sign, name in ((b"HTTP/", "an HTTP"), (b"<", "an HTTP"), (b"SSH-", "an SSH"), (b"\x15\3", "a TLS")):
        if start.startswith(sign):
            return f"{name} server answers"
    return f"its answer starts with {start.splitlines()[0][:40].decode('ascii', 'replace')!r}"


@dataclass
class ResponseReader:
    """Takes the answer's bytes in pieces of any size. ``done`` is set by the END_REQUEST record."""

    peer: str
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    done: bool = False
    started: bool = False
    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """:raises FastcgiError: not_fastcgi, full (the server says that it is overloaded) or too_large."""
        self.started = self.started or bool(data)
        self._pending += data
        while not self.done and self._pending:
            if self._pending[0] != 1:
                raise self._foreign(_in_words(bytes(self._pending)))
            if len(self._pending) < _HEADER.size:
                return
            _version, kind, request_id, length, padding = _HEADER.unpack_from(self._pending)
            if not 1 <= kind <= 11 or request_id not in (0, _REQUEST_ID):
                raise self._foreign(f"record of type {kind} for request {request_id}")
            end = _HEADER.size + length
            if len(self._pending) < end + padding:
                return
            self._take(kind, bytes(self._pending[_HEADER.size : end]))
            del self._pending[: end + padding]

    def _take(self, kind: int, content: bytes) -> None:
        if kind == _STDOUT:
            self.stdout += content
        elif kind == _STDERR:
            self.stderr += content
        elif kind == _END_REQUEST:
            if len(content) != 8:
                raise self._foreign("malformed END_REQUEST record")
            if content[4] == _OVERLOADED:
                raise FastcgiError("full", f"{self.peer} refuses the request: it says that it is overloaded")
            if content[4]:
                raise self._foreign(f"it refuses the request with protocol status {content[4]}")
            self.done = True
        if len(self.stdout) + len(self.stderr) > MAX_RESPONSE_BYTES:
            raise FastcgiError("too_large", f"{self.peer} answers with more than {MAX_RESPONSE_BYTES} bytes")

    def _foreign(self, why: str) -> FastcgiError:
        return FastcgiError("not_fastcgi", f"{self.peer} does not speak FastCGI: {why}")


def parse_cgi(output: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a CGI answer; status 0 and everything as body without a header block."""
    head, *rest = re.split(rb"\r?\n\r?\n", output, maxsplit=1)
    if not rest:
        return 0, {}, output
    pairs = [line.partition(":") for line in head.decode("latin-1").splitlines()]
    if not all(pair[1] for pair in pairs):
        return 0, {}, output
    headers = {name.strip().lower(): value.strip() for name, _colon, value in pairs}
    code = headers.get("status", "200").split(" ")[0]
    return int(code) if code.isascii() and code.isdigit() else 0, headers, rest[0]


_UNIX_ERRORS = {
    errno.ENOENT: ("missing", "there is no {}"),
    errno.ENOTDIR: ("missing", "there is no {}"),
    errno.ELOOP: ("missing", "{} leads through symbolic links without an end"),
    errno.EACCES: ("denied", "permission denied for {}"),
    errno.EPERM: ("denied", "permission denied for {}"),
    errno.EAGAIN: ("full", "the queue of {} is full: nobody accepts connections"),
    errno.EPROTOTYPE: ("not_a_socket", "{} is no stream socket"),
    errno.ECONNREFUSED: ("refused", "nobody listens on {}: the socket file is a leftover"),
}
_TCP_ERRORS = {
    errno.ECONNREFUSED: ("refused", "nobody listens on {}"),
    errno.EACCES: ("denied", "connecting to {} is forbidden"),
    errno.EPERM: ("denied", "connecting to {} is forbidden"),
    errno.ETIMEDOUT: ("connect_timeout", "{} did not answer"),
    # Accepted and reset before we looked.
    errno.ECONNRESET: ("closed", "{} closes the connection without an answer"),
}


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
        reader = _exchange(sock, encode_request(params, stdin), str(address), read_timeout)
    finally:
        sock.close()
    status, headers, body = parse_cgi(bytes(reader.stdout))
    return Response(status, headers, body, bytes(reader.stderr), connected - start, time.monotonic() - start)


def connect(address: Address, timeout: float) -> socket.socket:
    """A connected socket in non-blocking mode.

    :raises FastcgiError: of every kind but silent, not_fastcgi and too_large.
    """
    if address.kind == "unix":
        return _connect_unix(address.path)
    deadline = time.monotonic() + timeout
    failures: list[FastcgiError] = []
    targets = resolve(address, timeout)
    for position, (family, target) in enumerate(targets):
        # An address that does not answer must not use up the time of the next ones.
        share = max(0.0, deadline - time.monotonic()) / (len(targets) - position)
        try:
            return _connect_tcp(family, target, share)
        except FastcgiError as error:
            failures.append(error)
    # The failure of an address that something answered for says more than "no route".
    failures.sort(key=lambda error: error.kind == "unreachable")
    raise FastcgiError(failures[0].kind, "; ".join(str(error) for error in failures))


def _connect_unix(path: str) -> socket.socket:
    size = len(os.fsencode(path))
    if size > MAX_UNIX_PATH_BYTES:
        words = f"{path} has {size} bytes; a unix socket's path has at most {MAX_UNIX_PATH_BYTES}"
        raise FastcgiError("path_too_long", words)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Non-blocking, or connect() would wait without an end while the backlog is full.
    sock.setblocking(False)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        code = error.errno or 0
        # connect() refuses a file of another kind with the same number as a leftover socket.
        if code == errno.ECONNREFUSED and Path(path).exists() and not Path(path).is_socket():
            raise FastcgiError("not_a_socket", f"{path} is no socket") from None
        raise _error(_UNIX_ERRORS, path, code) from None
    return sock


def _error(table: dict[int, tuple[str, str]], shown: str, code: int) -> FastcgiError:
    kind, words = table.get(code, ("unreachable", "{} cannot be reached: " + os.strerror(code)))
    return FastcgiError(kind, f"{words.format(shown)} (errno {code})")


def resolve(address: Address, timeout: float) -> list[tuple[int, Any]]:
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


def _connect_tcp(family: int, target: Any, timeout: float) -> socket.socket:
    shown = str(Address("tcp", host=target[0], port=target[1]))
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _error(_TCP_ERRORS, shown, error.errno or 0) from None
    sock.setblocking(False)
    code = sock.connect_ex(target)
    if code == errno.EINPROGRESS:
        if not _wait(sock, select.POLLOUT, time.monotonic() + timeout):
            sock.close()
            raise FastcgiError("connect_timeout", f"{shown} did not answer within {timeout:g} s")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        sock.close()
        raise _error(_TCP_ERRORS, shown, code)
    return sock


def _wait(sock: socket.socket, events: int, deadline: float) -> bool:
    """Whether one of the events happened before the deadline."""
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(sock, events)
    return left > 0 and bool(poll.poll(left * 1000))


def _exchange(sock: socket.socket, outgoing: bytes, peer: str, timeout: float) -> ResponseReader:
    deadline = time.monotonic() + timeout
    reader = ResponseReader(peer)
    unsent = memoryview(outgoing)
    while not reader.done:
        if not _wait(sock, select.POLLIN | (select.POLLOUT if unsent else 0), deadline):
            what = "its answer does not end" if reader.started else "says nothing"
            raise FastcgiError("silent", f"{peer} accepts the connection, but {what} within {timeout:g} s")
        try:
            unsent = unsent[sock.send(unsent) :] if unsent else unsent
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
        reader.feed(data)
        if not data and not reader.done:
            where = "in the middle of its answer" if reader.started else "without an answer"
            raise FastcgiError("closed", f"{peer} closes the connection {where}")
    return reader


# By result: a FastcgiError's kind, "healthy" or "wrong_answer". Of several addresses the highest counts.
EXIT_CODES = {
    "healthy": 0, "wrong_answer": 1, "too_large": 1, "silent": 3, "full": 4, "connect_timeout": 5, "closed": 6,
    "not_fastcgi": 7, "denied": 8, "refused": 9, "missing": 10, "not_a_socket": 10, "path_too_long": 10,
    "unreachable": 11, "unresolvable": 11,
}  # fmt: skip
_EPILOG = """exit codes; of several addresses, the highest counts:
   0  healthy
   1  it answers, but not what was expected
   2  wrong command line; nothing was checked
   3  it accepts the connection, but does not answer in time (saturated or stuck)
   4  its queue is full
   5  no connection in time (host down, firewall, full TCP queue)
   6  it hangs up without an answer (a crash, or listen.allowed_clients)
   7  it does not speak FastCGI
   8  no permission to connect
   9  nobody listens
  10  there is no such socket
  11  no route to the host, or its name does not resolve
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="php-fpm-probe",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Ask PHP-FPM pools over FastCGI whether they answer. Without --ping, --status or --script\n"
        "it sends an empty request, which any pool answers and which runs no PHP code.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("addresses", nargs="+", metavar="ADDRESS", help="/path/of.sock, host:port, [ipv6]:port or a port")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ping", metavar="PATH", help="ask for the pool's ping.path")
    what.add_argument("--status", metavar="PATH", help="ask for the pool's pm.status_path, show its figures")
    what.add_argument("--script", metavar="FILE", help="run this PHP file")
    add("--expect", metavar="TEXT", default="", help="the answer must hold this text")
    add("--connect-timeout", type=float, default=1.0, metavar="S", help="in seconds (default: 1)")
    add("--timeout", type=float, default=2.0, metavar="S", help="for the whole answer (default: 2)")
    add("--json", action="store_true", help="print one JSON document")
    add("--quiet", action="store_true", help="print nothing")
    return parser


def _judge(response: Response, args: argparse.Namespace) -> tuple[str, str]:
    """The result (a key of EXIT_CODES) of an answer, and one line that says it."""
    path = args.ping or args.status or args.script
    if path and response.status != 200:
        shown = (response.stderr or response.body).decode("utf-8", "replace").strip()[:200]
        return "wrong_answer", f"{path} is answered with status {response.status}: {shown}"
    if args.expect.encode() not in response.body:
        return "wrong_answer", f"the answer does not hold {args.expect!r}"
    if not args.status:
        return "healthy", f"{path or 'an empty request'} is answered"
    try:
        page = json.loads(response.body)
        workers = f"{page['active processes']} of {page['total processes']} workers active"
        reached = f"max children reached {page['max children reached']} times"
        return "healthy", f"pool {page['pool']}: {workers}, {reached}"
    except (ValueError, KeyError, TypeError):
        return "wrong_answer", f"{path} is answered, but not with a status page in JSON"


def _probe(address: Address, args: argparse.Namespace) -> dict[str, Any]:
    path = args.ping or args.status or args.script
    params = status_params(path, "json" if args.status else "") if path else {}
    found: dict[str, Any] = {"address": str(address)}
    try:
        response = request(address, params, args.connect_timeout, args.timeout)
        result, message = _judge(response, args)
        found["body"] = response.body.decode("utf-8", "replace")
        found["connect_seconds"] = response.connect_seconds
        found["total_seconds"] = response.total_seconds
    except FastcgiError as error:
        result, message = error.kind, str(error)
    return {**found, "result": result, "exit_code": EXIT_CODES[result], "message": message}


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code, or raises SystemExit for --help and a wrong command line."""
    parser = _parser()
    args = parser.parse_args(argv)
    addresses, mistakes = [], []
    for text in args.addresses:
        try:
            addresses.append(Address.parse(text))
        except ValueError as error:
            mistakes.append(str(error))
    if not (0 < args.connect_timeout < 3600 and 0 < args.timeout < 3600):
        mistakes.append("timeouts are seconds above 0 and below 3600")
    if mistakes:
        parser.error("; ".join(mistakes))
    results = [_probe(address, args) for address in addresses]
    worst = max(result["exit_code"] for result in results)
    if args.json and not args.quiet:
        document = {"healthy": worst == 0, "exit_code": worst, "addresses": results}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif not args.quiet:
        for result in results:
            took = f" ({result['total_seconds'] * 1000:.1f} ms)" if "total_seconds" in result else ""
            verdict = "FAIL" if result["exit_code"] else "ok  "
            sys.stdout.write(f"{verdict}  {result['address']}: {result['message']}{took}\n")
    return int(worst)


if __name__ == "__main__":
    raise SystemExit(main())
