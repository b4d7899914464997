# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A steady load on one lab host: requests leave on a fixed beat, however the host does.

A client that waits for each answer would ask less while the host is down, or far more where
it refuses at once; here the number of requests depends on time alone, so that losses of
different hosts compare. Each answer is checked whole: status, length and content.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable

from faultlab.outcome import Outcome

PAGE = "/load.php"
BODY = b"x" * 64
MAX_IN_FLIGHT = 1000
MAX_SECONDS = 240.0


def plan(number: int) -> tuple[str, int]:
    """Method and wished length (milliseconds) of a request: one in five a POST, three in a hundred slow."""
    method = "POST" if number % 5 == 4 else "GET"
    slow = number % 50 == 17 or number % 100 == 49
    return method, 1000 if slow else 30


def judge(answer: bytes, expected: bytes) -> str:
    """What an HTTP answer, read to its end, is: '200' if whole and right, its status, or how it is broken."""
    if not answer:
        return "closed"
    head, separator, body = answer.partition(b"\r\n\r\n")
    parts = head.split(b"\r\n", 1)[0].split()
    if not separator or len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        return "cut"
    if parts[1] != b"200":
        return parts[1].decode("ascii")
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunk(body)
    return "200" if body == expected else "cut"


def unchunk(body: bytes) -> bytes:
    """The content of a chunked body; of a cut one, nothing."""
    content = b""
    while True:
        size, separator, rest = body.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            return b""
        if not separator or len(rest) < length + 2:
            return b""
        if length == 0:
            return content
        content += rest[:length]
        body = rest[length + 2 :]


class Load:
    """start(), then stop() for the outcomes; between them requests leave `rate` times a second."""

    def __init__(self, address: str, tag: str, host: str, rate: int = 40, timeout: float = 20.0) -> None:
        self.address = address
        self.tag = tag
        self.host = host
        self.rate = rate
        self.timeout = timeout
        self.outcomes: list[Outcome] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._begin = 0.0

    def start(self) -> None:
        self._begin = time.monotonic()
        self._thread.start()

    def clock(self) -> float:
        """Seconds since the load's start, as in Outcome.sent."""
        return time.monotonic() - self._begin

    def stop(self) -> list[Outcome]:
        """Send no more, wait for what is in flight, and return all outcomes in the order they were sent."""
        self._stopping.set()
        self._thread.join()
        return sorted(self.outcomes, key=lambda outcome: outcome.number)

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while not self._stopping.is_set() and self.clock() < MAX_SECONDS:
            wait = number / self.rate - self.clock()
            if wait > 0:
                await asyncio.sleep(wait)
            if len(tasks) >= MAX_IN_FLIGHT:
                raise RuntimeError(f"{len(tasks)} requests in flight: the load is too high for this machine")
            task = asyncio.ensure_future(self._one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)

    async def _one(self, number: int) -> None:
        method, milliseconds = plan(number)
        sent = self.clock()
        try:
            result = await asyncio.wait_for(self._ask(number, method, milliseconds), self.timeout)
        except asyncio.TimeoutError:
            result = "timeout"
        except OSError as error:
            result = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self.outcomes.append(Outcome(number, method, milliseconds, sent, self.clock() - sent, result))

    async def _ask(self, number: int, method: str, milliseconds: int) -> str:
        body = BODY if method == "POST" else b""
        reader, writer = await asyncio.open_connection(self.address, 80)
        try:
            writer.write(
                f"{method} {PAGE}?id={self.tag}-{number}&ms={milliseconds} HTTP/1.1\r\nHost: {self.host}\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode("ascii")
                + body
            )
            answer = await reader.read(-1)
        finally:
            writer.close()
        return judge(answer, f"ok {self.tag}-{number} {len(body)}\n".encode("ascii"))


def wait_for_answer(address: Callable[[], str], host: str, seconds: float = 60.0) -> str:
    """Wait until an HTTP server answers anything; the address at which it does. TimeoutError else."""

    async def knock(where: str) -> bytes:
        reader, writer = await asyncio.open_connection(where, 80)
        try:
            writer.write(
                f"GET /alive.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            return await reader.read(-1)
        finally:
            writer.close()

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        where = address()
        try:
            if where and asyncio.run(asyncio.wait_for(knock(where), 1.0)).startswith(b"HTTP/"):
                return where
        except (OSError, asyncio.TimeoutError):
            pass
        time.sleep(0.01)
    raise TimeoutError(f"no HTTP server answered within {seconds:.0f} s")
