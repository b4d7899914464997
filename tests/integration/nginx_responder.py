# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FastCGI responder for the lab: answers with the parameters that it was sent, as JSON.

Runs inside the container, on /run/echo.sock and /run/other.sock at once and on /run/slow.sock after 2.5 s.
"""

from __future__ import annotations

import json
import os
import socketserver
import struct
import threading
import time


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def record(self) -> tuple[int | None, bytes]:
        head = self.rfile.read(8)
        if len(head) < 8:
            return None, b""
        _version, kind, _request, length, padding = struct.unpack(">BBHHBx", head)
        return kind, self.rfile.read(length + padding)[:length]

    def handle(self) -> None:
        data = b""
        while True:
            kind, content = self.record()
            if kind is None or (kind == 5 and not content):
                break
            if kind == 4:
                data += content
        time.sleep(self.server.delay)
        body = json.dumps({"socket": self.server.server_address, "params": pairs(data)})
        out = f"Status: 200\r\nContent-Type: application/json\r\n\r\n{body}".encode()
        self.wfile.write(struct.pack(">BBHHBx", 1, 6, 1, len(out), 0) + out)
        self.wfile.write(struct.pack(">BBHHBx", 1, 3, 1, 8, 0) + bytes(8))


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, delay: float) -> None:
        super().__init__(path, Handler)
        self.delay = delay
        os.chmod(path, 0o666)


def pairs(data: bytes) -> list[list[str]]:
    """FastCGI's name-value pairs."""
    result = []
    at = 0
    while at < len(data):
        sizes = []
        for _half in range(2):
            if data[at] < 128:
                sizes.append(data[at])
                at += 1
            else:
                sizes.append(struct.unpack(">I", data[at : at + 4])[0] & 0x7FFFFFFF)
                at += 4
        name, value = sizes
        result.append([data[at : at + name].decode(), data[at + name : at + name + value].decode()])
        at += name + value
    return result


def main() -> None:
    for name, delay in (("echo", 0), ("other", 0), ("slow", 2.5)):
        threading.Thread(target=Server(f"/run/{name}.sock", delay).serve_forever).start()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
