# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners in the lab host that do what PHP-FPM never should, each on a socket under /run/odd.

Runs until it is killed; the file /run/odd/ready appears when all of them listen.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

FOLDER = "/run/odd"
kept = []  # sockets that are to stay open


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def listen(name: str, backlog: int = 16) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{FOLDER}/{name}.sock")
    os.chmod(f"{FOLDER}/{name}.sock", 0o666)
    listener.listen(backlog)
    kept.append(listener)
    return listener


def serve(name: str, replies: list[bytes]) -> None:
    """Answer the n-th connection with the n-th reply, then go on with the last one."""
    listener = listen(name)

    def loop() -> None:
        for number in range(10**6):
            connection, _peer = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(replies[min(number, len(replies) - 1)])

    threading.Thread(target=loop, daemon=True).start()


os.makedirs(FOLDER, exist_ok=True)
listen("silent")
serve("closing", [b""])
serve("ssh", [b"SSH-2.0-OpenSSH_9.2p1\r\n"])
pong = record(6, b"Content-type: text/plain\r\n\r\npong") + record(3, bytes(8))
serve("third_time", [b"", b"", pong])

full = listen("full", 0)
waiting = socket.socket(socket.AF_UNIX)
waiting.connect(f"{FOLDER}/full.sock")
kept.append(waiting)

with socket.socket(socket.AF_UNIX) as gone:
    gone.bind(f"{FOLDER}/stale.sock")
    os.chmod(f"{FOLDER}/stale.sock", 0o666)

listen("removed")
os.unlink(f"{FOLDER}/removed.sock")

datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagram.bind(f"{FOLDER}/datagram.sock")
os.chmod(f"{FOLDER}/datagram.sock", 0o666)

with open(f"{FOLDER}/ready", "w", encoding="ascii") as ready:
    ready.write("ready")
while True:
    time.sleep(3600)
