# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the sockets answer: one pending FastCGI request for each, all at the same time."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import time

from fastcgi import FastcgiError, ResponseReader, encode_request

from fpm_reload import master
from fpm_reload.master import Listener

# How long a socket may be silent before it is asked whether its workers are busy.
BUSY_AFTER_SECONDS = 1.0
# Where to knock when FPM listens on all addresses. A host may have no IPv6 address at all, yet
# FPM listens on [::], which takes IPv4 as well.
_ANYWHERE = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}


def open_path(pid: int, path: str) -> int:
    """An O_PATH descriptor of a socket file, seen with the eyes of the process.

    It pins the file: what follows cannot be led astray by somebody who swaps the path, a
    path may be longer than the 107 bytes of a socket address, and PrivateTmp= is seen through.

    :raises OSError: ENOENT and so on; ENOTSOCK for a link or another kind of file.
    """
    fd = os.open(f"/proc/{pid}/root{path}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ENOTSOCK, "is not a socket", path)
    return fd


def connect(pid: int, listener: Listener) -> socket.socket:
    """A non-blocking connection; for TCP it may still be under way.

    :raises OSError: as connect() does; EAGAIN for a full queue.
    """
    if not listener.path:
        return _connect_tcp(listener)
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        if listener.path.startswith("@"):
            sock.connect("\0" + listener.path[1:])
        else:
            pinned = open_path(pid, listener.path)
            try:
                sock.connect(f"/proc/self/fd/{pinned}")
            finally:
                os.close(pinned)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_tcp(listener: Listener) -> socket.socket:
    code = errno.EADDRNOTAVAIL
    for host in _ANYWHERE.get(listener.host, (listener.host,)):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        code = sock.connect_ex((host, listener.port))
        if code in (0, errno.EINPROGRESS):
            return sock
        sock.close()
    raise OSError(code, os.strerror(code))


def listening_pid(sock: socket.socket) -> int:
    """Which process made the listening end of a connected unix socket."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


class Probe:
    """One listener's request. ``verdict`` is empty until it is known: answers, or busy."""

    def __init__(self, pid: int, listener: Listener, closes_on_us: bool) -> None:
        self.pid = pid
        self.listener = listener
        self.verdict = ""
        self.fault = "no answer yet"
        self._closes_on_us = closes_on_us
        self._since = time.monotonic()
        self._sock: socket.socket | None = None
        self._unsent = b""
        self._reader = ResponseReader(str(listener))

    def close(self) -> None:
        if self._sock:
            self._sock.close()
        self._sock = None

    def step(self) -> None:
        """Go on as far as that is possible without waiting. An error is remembered and tried again."""
        try:
            if self._sock is None:
                self._sock = connect(self.pid, self.listener)
                self._reader = ResponseReader(str(self.listener))
                self._unsent = encode_request({})
            self._exchange(self._sock)
        except BlockingIOError:
            self.fault = "its queue is full" if self._sock is None else "it accepts, but does not answer"
        except OSError as error:
            self.close()
            self.fault = error.strerror or str(error)
        except FastcgiError as error:
            self.close()
            self.fault = str(error)
        if not self.verdict and time.monotonic() - self._since > BUSY_AFTER_SECONDS:
            self._look_whether_busy()

    def _exchange(self, sock: socket.socket) -> None:
        if self._unsent and _ready(sock, select.POLLOUT):
            self._unsent = self._unsent[sock.send(self._unsent) :]
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            self.fault = "it hangs up without an answer"
            # listen.allowed_clients: who hangs up on us is a worker that lives.
            self.verdict = "answers" if self._closes_on_us else ""
            return
        self._reader.feed(data)
        if self._reader.done:
            self.close()
            self.verdict = "answers"

    def _look_whether_busy(self) -> None:
        """A connection that somebody accepted was accepted by the new generation: the old one is gone."""
        self._since = time.monotonic()
        with contextlib.suppress(OSError):
            if master.accepted(self.listener, master.kernel_sockets(self.pid)):
                self.verdict = "busy"


def _ready(sock: socket.socket, event: int) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(0))


class Round:
    """The probes of all listeners of one generation."""

    def __init__(self, pid: int, choosy_ports: frozenset[int]) -> None:
        self._pid = pid
        self._choosy_ports = choosy_ports
        self._probes: dict[int, Probe] = {}

    def step(self, listeners: list[Listener]) -> bool:
        """Ask on. True once every listener of the list, and at least one, has its verdict."""
        known = {listener.inode for listener in listeners}
        for inode in set(self._probes) - known:
            self._probes.pop(inode).close()
        for listener in listeners:
            closes_on_us = not listener.path and listener.port in self._choosy_ports
            probe = self._probes.setdefault(listener.inode, Probe(self._pid, listener, closes_on_us))
            if not probe.verdict:
                probe.step()
        return bool(self._probes) and all(probe.verdict for probe in self._probes.values())

    def close(self) -> None:
        for probe in self._probes.values():
            probe.close()

    @property
    def count(self) -> int:
        return len(self._probes)

    @property
    def busy(self) -> list[str]:
        return [str(probe.listener) for probe in self._probes.values() if probe.verdict == "busy"]

    @property
    def faults(self) -> list[str]:
        return [f"{probe.listener}: {probe.fault}" for probe in self._probes.values() if not probe.verdict]
