# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to the kernel's listening sockets: how many connections wait, and how many may.

FPM's own status page knows no queue for unix sockets. The kernel does, and tells
it over netlink (what ``ss -l`` shows). Where netlink is closed to us, ss is asked.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_LISTEN = 1 << 10  # the bit of TCP_LISTEN, which unix sockets share
_SHOW_NAME_AND_QUEUE = 0x01 | 0x10
_ATTRIBUTE_NAME, _ATTRIBUTE_QUEUE = 0, 4
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_UNIX = struct.Struct("=BBBxI8x")  # family, type, state, inode, cookie
_INET = struct.Struct("=BBBB")  # family, state, timer, retransmits
_INET_TAIL = struct.Struct("=IIIII")  # expires, receive queue, send queue, uid, inode


@dataclass(frozen=True)
class Listener:
    """A listening socket.

    :param kind: ``unix`` or ``tcp``; ``path`` belongs to the first, ``host`` and ``port`` to the second.
    :param waiting: connections that nobody has accepted yet.
    :param backlog: how many may wait.
    """

    kind: str
    path: str
    host: str
    port: int
    inode: int
    waiting: int
    backlog: int


def listeners(host: Host) -> list[Listener] | None:
    """Every listening unix and TCP socket of this network namespace; None where nothing tells."""
    try:
        return _dump_unix() + _dump_inet(socket.AF_INET) + _dump_inet(socket.AF_INET6)
    except OSError:
        return _from_ss(host)


def _ask(request: bytes) -> list[bytes]:
    """One dump; the payload of each message.

    :raises OSError: where the kernel or the sandbox refuses.
    """
    found: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 4) as link:
        link.settimeout(5)
        head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        link.sendto(head + request, (0, 0))
        while True:
            data = link.recv(1 << 20)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind = _HEADER.unpack_from(data, at)[:2]
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                    raise OSError(code, "the kernel refused the dump of listening sockets")
                found.append(data[at + _HEADER.size : at + length])
                at += (length + 3) & ~3


def _dump_unix() -> list[Listener]:
    request = struct.pack("=BBHIIIQ", socket.AF_UNIX, 0, 0, _LISTEN, 0, _SHOW_NAME_AND_QUEUE, 0)
    return [found for found in map(parse_unix, _ask(request)) if found]


def parse_unix(message: bytes) -> Listener | None:
    """A unix_diag_msg with its attributes; None for a socket without a path."""
    inode = _UNIX.unpack_from(message)[3]
    path, waiting, backlog = b"", 0, 0
    at = _UNIX.size
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4:
            break
        value = message[at + 4 : at + length]
        if kind == _ATTRIBUTE_NAME:
            path = value
        elif kind == _ATTRIBUTE_QUEUE:
            waiting, backlog = struct.unpack_from("=II", value)
        at += (length + 3) & ~3
    if not path.startswith(b"/"):
        return None
    text = path.rstrip(b"\0").decode("utf-8", "surrogateescape")
    return Listener("unix", text, "", 0, inode, waiting, backlog)


def _dump_inet(family: int) -> list[Listener]:
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, _LISTEN)
    return [parse_inet(message) for message in _ask(request)]


def parse_inet(message: bytes) -> Listener:
    """An inet_diag_msg of a listening TCP socket."""
    family = _INET.unpack_from(message)[0]
    (port,) = struct.unpack_from("!H", message, 4)
    address = message[8:12] if family == socket.AF_INET else message[8:24]
    _unused, waiting, backlog, _unused, inode = _INET_TAIL.unpack_from(message, 52)
    return Listener("tcp", "", socket.inet_ntop(family, address), port, inode, waiting, backlog)


def _from_ss(host: Host) -> list[Listener] | None:
    found: list[Listener] = []
    for option in ("-xlnH", "-tlnH"):
        done = host.run(["ss", option, "-e"], timeout=10)
        if done.rc != 0:
            return None
        found += [listener for listener in map(parse_ss, done.stdout.splitlines()) if listener]
    return found


def parse_ss(line: str) -> Listener | None:
    """A line of ``ss -xlnHe`` or ``ss -tlnHe``."""
    words = line.split()
    if words[:1] == ["u_str"] and len(words) > 5 and words[4].startswith("/"):
        return Listener("unix", words[4], "", 0, int(words[5]), int(words[2]), int(words[3]))
    if words[:1] == ["LISTEN"] and len(words) > 4:
        address, _sep, port = words[3].rpartition(":")
        address = address.strip("[]").partition("%")[0]
        inode = next((int(word[4:]) for word in words if word.startswith("ino:")), 0)
        return Listener(
            "tcp", "", "::" if address == "*" else address, int(port), inode, int(words[1]), int(words[2])
        )
    return None
