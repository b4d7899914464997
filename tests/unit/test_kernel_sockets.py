# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's answers about listening sockets, as captured, and the real kernel's answer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import kernel_sockets
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.kernel_sockets import Listener

# unix_diag and inet_diag messages of Linux as they came over netlink, in hexadecimal.
UNIX = (
    "01010a0087553500d713000000000000100000002f746d702f712e736f636b000c00040005000000080000000500060000000000"
)
ABSTRACT = (
    "01010a0086553500d8130000000000000d0000000061627374726163740000000c00040000000000030000000500060000000000"
)
INET = (
    "020a000000500000000000000000000000000000000000000000000000000000000000000000000000000000d513000000000000"
    "0000000000000000ff0100000000000009a22c0005000800000000000c00150062de0000000000000600160052000000"
)
INET6 = (
    "0a0a000000500000000000000000000000000000000000000000000000000000000000000000000000000000d613000000000000"
    "0000000000000000ff010000000000000aa22c00050008000000000005000b00010000000c00150062de00000000000006001600"
    "12000000"
)


def test_a_unix_socket_of_the_kernel() -> None:
    expected = Listener("unix", "/tmp/q.sock", "", 0, 3495303, 5, 8)
    assert kernel_sockets.parse_unix(bytes.fromhex(UNIX)) == expected


def test_an_abstract_socket_has_no_path() -> None:
    assert kernel_sockets.parse_unix(bytes.fromhex(ABSTRACT)) is None


@pytest.mark.parametrize(
    ("message", "host", "inode"), [(INET, "0.0.0.0", 2925065), (INET6, "::", 2925066)], ids=["IPv4", "IPv6"]
)
def test_a_tcp_socket_of_the_kernel(message: str, host: str, inode: int) -> None:
    expected = Listener("tcp", "", host, 80, inode, 0, 511)
    assert kernel_sockets.parse_inet(bytes.fromhex(message)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("u_str LISTEN 5      8        /tmp/q.sock 3495303 * 0 <-> ino:14128 dev:0/201 peers: 3495304 3495305",
         Listener("unix", "/tmp/q.sock", "", 0, 3495303, 5, 8)),
        ("u_str LISTEN 0      4096     /run/php/php8.2-fpm.sock 2925971 * 0 <-> ino:99 dev:0/200 peers:",
         Listener("unix", "/run/php/php8.2-fpm.sock", "", 0, 2925971, 0, 4096)),
        ("u_str LISTEN 0      3        @abstract 3495302 * 0 <-> peers:", None),
        ("LISTEN 0      511    0.0.0.0:80 0.0.0.0:* ino:2925065 sk:13d5 cgroup:/system.slice/nginx.service <->",
         Listener("tcp", "", "0.0.0.0", 80, 2925065, 0, 511)),
        ("LISTEN 3      511       [::]:80    [::]:* ino:2925066 sk:13d6 v6only:1 <->",
         Listener("tcp", "", "::", 80, 2925066, 3, 511)),
        ("LISTEN 0      128          *:22          *:* ino:77 sk:1 <->", Listener("tcp", "", "::", 22, 77, 0, 128)),
        ("LISTEN 0      4096 127.0.0.53%lo:53 0.0.0.0:* ino:9 sk:2 <->",
         Listener("tcp", "", "127.0.0.53", 53, 9, 0, 4096)),
        ("", None),
        ("Cannot open netlink socket: Operation not permitted", None),
    ],
)  # fmt: skip
def test_a_line_of_ss(line: str, expected: Listener | None) -> None:
    assert kernel_sockets.parse_ss(line) == expected


def test_the_kernel_counts_who_waits(tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_INET) as tcp:
        server.bind(path)
        server.listen(4)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(7)
        clients = [socket.socket(socket.AF_UNIX) for _client in range(3)]
        for client in clients:
            client.connect(path)
        found = kernel_sockets.listeners(Host())
        for client in clients:
            client.close()
        assert found is not None
        (unix,) = [entry for entry in found if entry.path == path]
        assert (unix.waiting, unix.backlog) == (3, 4)
        (inet,) = [entry for entry in found if entry.kind == "tcp" and entry.port == tcp.getsockname()[1]]
        assert (inet.host, inet.waiting, inet.backlog) == ("127.0.0.1", 0, 7)


def test_netlink_and_ss_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(4)
        over_netlink = {entry for entry in kernel_sockets.listeners(Host()) or [] if entry.path == path}

        def refuse(request: bytes) -> list[bytes]:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(kernel_sockets, "_ask", refuse)
        over_ss = kernel_sockets.listeners(Host())
    # Where ss is missing too, nothing is known, which is not the same as no listeners.
    if over_ss is not None:
        assert {entry for entry in over_ss if entry.path == path} == over_netlink
    assert len(over_netlink) == 1
