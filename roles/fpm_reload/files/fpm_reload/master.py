# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running master as the kernel shows it: its generation, its workers, its listening sockets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

# Fields of /proc/PID/stat (man 5 proc, counted from 1) that an exec sets anew: where code, stack,
# data and arguments lie. One of them alone could by chance come out the same.
_EXEC_FIELDS = (26, 27, 28, 45, 46, 47, 48, 49, 50, 51)


@dataclass(frozen=True)
class Generation:
    """One run of the master's program. A reload is an exec: same pid, next generation.

    :param addresses: where the program lies in memory; differs at random from exec to exec.
    :param private: inodes of the master's own sockets, all closed by exec. They tell generations
        apart where the kernel does not randomise addresses.
    """

    pid: int
    started: int
    addresses: tuple[int, ...]
    private: frozenset[int]

    def replaced_by(self, other: Generation) -> bool:
        if (self.pid, self.started) != (other.pid, other.started):
            return True
        new_sockets = bool(self.private) and bool(other.private) and not self.private & other.private
        return self.addresses != other.addresses or new_sockets


@dataclass(frozen=True)
class Listener:
    """A listening socket of the master. ``path`` for a unix socket (@… is abstract), else host and port."""

    inode: int
    fd: int
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class KernelSocket:
    """A line of /proc/net/{unix,tcp,tcp6}: listening, accepted by somebody, or (inode 0) waiting to be.

    :param waiting: how many connections a listening TCP socket holds that nobody has accepted yet.
    """

    inode: int
    listening: bool
    path: str = ""
    host: str = ""
    port: int = 0
    waiting: int = 0


def parse_stat(text: str) -> list[str]:
    """/proc/PID/stat as a list whose item N is field N; the command may hold spaces and brackets."""
    head, _sep, tail = text.rpartition(")")
    pid, _sep, command = head.partition(" (")
    return ["", pid, command, *tail.split()]


def parse_unix(text: str) -> list[KernelSocket]:
    """Stream sockets of /proc/net/unix that listen, that an accept() has returned, or that wait for one."""
    found = []
    for line in text.splitlines()[1:]:
        parts = line.split(None, 7)
        if len(parts) < 8 or parts[4] != "0001":
            continue
        listening = bool(int(parts[3], 16) & 0x10000)
        if listening or parts[5] == "03" or parts[6] == "0":
            found.append(KernelSocket(int(parts[6]), listening, path=parts[7]))
    return found


def parse_tcp(text: str) -> list[KernelSocket]:
    """Sockets of /proc/net/tcp or tcp6 that listen (state 0A), or are established (01) and accepted."""
    found = []
    for line in text.splitlines()[1:]:
        parts = line.split()
        if len(parts) < 10 or parts[3] not in ("0A", "01") or parts[9] == "0":
            continue
        raw, _sep, port = parts[1].partition(":")
        listening = parts[3] == "0A"
        waiting = int(parts[4].partition(":")[2], 16) if listening else 0
        found.append(
            KernelSocket(int(parts[9]), listening, host=_address(raw), port=int(port, 16), waiting=waiting)
        )
    return found


def _address(raw: str) -> str:
    """The kernel prints addresses as 32-bit words in the machine's byte order."""
    packed = b"".join(
        int(raw[at : at + 8], 16).to_bytes(4, "little" if socket.ntohs(1) != 1 else "big")
        for at in range(0, len(raw), 8)
    )
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as handle:
        return handle.read()


def _fds(pid: int) -> dict[int, int]:
    """Socket inode by file descriptor."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}"))
            if match:
                found[int(name)] = int(match.group(1))
    return found


def kernel_sockets(pid: int) -> list[KernelSocket]:
    """All sockets in the network namespace of a process."""
    found = parse_unix(_read(f"/proc/{pid}/net/unix"))
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # no IPv6
            found += parse_tcp(_read(f"/proc/{pid}/net/{name}"))
    return found


def generation(pid: int) -> Generation | None:
    """None where no such process runs (any more)."""
    try:
        stat = parse_stat(_read(f"/proc/{pid}/stat"))
        open_now = set(_fds(pid).values())
        listening = {entry.inode for entry in kernel_sockets(pid) if entry.listening}
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat[3] == "Z":
        return None
    addresses = tuple(int(stat[field]) for field in _EXEC_FIELDS)
    return Generation(pid, int(stat[22]), addresses, frozenset(open_now - listening))


def listeners(pid: int) -> list[Listener]:
    """The sockets that a master listens on, in the order of their descriptors; empty when it is gone."""
    try:
        known = {entry.inode: entry for entry in kernel_sockets(pid) if entry.listening}
        fds = sorted(_fds(pid).items())
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = {}
    for fd, inode in fds:
        if inode in known and inode not in found:
            entry = known[inode]
            found[inode] = Listener(inode, fd, entry.path, entry.host, entry.port)
    return list(found.values())


def children(pid: int) -> set[int]:
    """Pids of the master's living children."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = parse_stat(_read(f"/proc/{name}/stat"))
            if int(stat[4]) == pid and stat[3] != "Z":
                found.add(int(name))
    return found


def accepted(listener: Listener, sockets: Iterable[KernelSocket]) -> int:
    """How many connections of a listener a worker has taken and not closed yet."""
    return sum(
        1
        for entry in sockets
        if entry.inode
        and not entry.listening
        and (entry.path == listener.path if listener.path else not entry.path and entry.port == listener.port)
    )


def queued(listeners_now: Iterable[Listener], sockets: Iterable[KernelSocket]) -> int:
    """How many connections wait in the kernel for a worker of these listeners."""
    paths = {listener.path for listener in listeners_now if listener.path}
    inodes = {listener.inode for listener in listeners_now}
    return sum(
        entry.waiting if entry.inode in inodes else 1
        for entry in sockets
        if entry.inode in inodes or (not entry.inode and entry.path in paths)
    )
