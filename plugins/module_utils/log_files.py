# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for log files: blocks of whole lines, gzip, rotated parts, and bisection by time.

Plain read() into small blocks, not mmap: pages of a mapped file count as the
process's memory, and the memory must stay flat on a log of any size.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Callable

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Source

BLOCK = 1 << 18
# A line longer than this is cut: nginx writes at most 2 KB, FPM 1 KB a line.
_LINE_LIMIT = 1 << 18
# How far a record may reach over a block's end before it is cut at a line end.
_RECORD_REACH = 1 << 16
_PROBE = 1 << 14
_PROBES_IN_A_ROW = 128

_ROTATED = re.compile(r"\.\d+(?:\.gz)?|-\d{8}(?:-\d+)?(?:\.gz)?")
_OTHER_COMPRESSION = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# The instant of the first entry in a block of a log, None when there is none.
StampReader = Callable[[bytes], "float | None"]


def whole_lines(read: Callable[[int], bytes], record: bytes = b"\n") -> Iterator[bytes]:
    """Blocks that end where a record ends.

    :param record: how the end of a record looks with the start of the next one,
        for example a line end and the first digit of a year.
    """
    carry = b""
    skipping = False
    while True:
        chunk = read(BLOCK)
        if not chunk:
            break
        if skipping:
            end = chunk.find(b"\n")
            if end < 0:
                continue
            chunk, skipping = chunk[end + 1 :], False
        data = carry + chunk
        end = data.rfind(record)
        if end < 0 or len(data) - end > _RECORD_REACH:
            end = data.rfind(b"\n")
        if end < 0:
            carry = data
            if len(data) > _LINE_LIMIT:
                yield data[:_LINE_LIMIT]
                carry, skipping = b"", True
            continue
        yield data[: end + 1]
        carry = data[end + 1 :]
    if carry:
        yield carry


def offset_of(handle: BinaryIO, size: int, target: float, stamp: StampReader) -> int:
    """The start of a line before which every entry is older than ``target``.

    Takes some thirty small reads, however long the file is. Stretches without a
    time are passed over; where none is found the answer errs to the early side.
    """
    low, high = 0, size
    while high - low > _PROBE:
        middle = (low + high) // 2
        found: float | None = None
        position = middle
        for _probe in range(_PROBES_IN_A_ROW):
            handle.seek(position)
            block = handle.read(_PROBE)
            line = block.find(b"\n")
            found = stamp(block[line + 1 :]) if line >= 0 else None
            position += _PROBE - 512
            if found is not None or position >= high:
                break
        if found is not None and found < target:
            low = middle
        else:
            high = middle
    if low == 0:
        return 0
    handle.seek(low)
    line = handle.read(_PROBE).find(b"\n")
    return low + line + 1 if line >= 0 else low


class LogFile:
    """One log file of a host.

    :raises OSError: where it cannot be opened; the caller notes it in the Source.
    """

    def __init__(self, host: Host, path: str) -> None:
        self.path = path
        self._real = host.real(path)
        with host.open(path) as handle:
            head = handle.read(6)
            status = os.fstat(handle.fileno())
        self.size = status.st_size
        self.modified = status.st_mtime
        self.zipped = head.startswith(b"\x1f\x8b")
        for magic, name in _OTHER_COMPRESSION.items():
            if head.startswith(magic):
                raise OSError(0, f"compressed with {name}: unpack it first, only gzip is read directly")

    def head(self, limit: int = BLOCK) -> bytes:
        """The first bytes, unpacked; what can be had of a damaged file."""
        try:
            with self._open() as handle:
                return handle.read(limit)
        except (OSError, EOFError, zlib.error):
            return b""

    def tail(self, limit: int = BLOCK) -> bytes:
        """The last bytes; of a compressed file the first ones."""
        if self.zipped:
            return self.head(limit)
        with self._open() as handle:
            handle.seek(max(0, self.size - limit))
            return handle.read(limit)

    def blocks(
        self,
        source: Source,
        stamp: StampReader,
        since: float | None,
        until: float | None,
        before: int = 0,
        record: bytes = b"\n",
    ) -> Iterator[bytes]:
        """Blocks of whole lines between two instants (a little more at both ends).

        :param before: bytes to read in front of ``since`` as well.
        """
        if since is not None and self.modified < since and not before:
            source.skipped_bytes += self.size
            return
        try:
            with self._open() as handle:
                start, end = 0, self.size
                if not self.zipped:
                    if since is not None:
                        start = max(0, offset_of(handle, self.size, since, stamp) - before)
                    if until is not None:
                        end = min(self.size, offset_of(handle, self.size, until + 1, stamp) + _PROBE * 2)
                    handle.seek(start)
                    source.skipped_bytes += start + self.size - end
                left = [end - start if not self.zipped else 1 << 62]

                def read(amount: int) -> bytes:
                    chunk = handle.read(min(amount, left[0])) if left[0] > 0 else b""
                    left[0] -= len(chunk)
                    return chunk

                for block in whole_lines(read, record):
                    source.bytes += len(block)
                    source.lines += block.count(b"\n") + (not block.endswith(b"\n"))
                    yield block
        except (OSError, EOFError, zlib.error) as error:
            source.error = f"reading stopped after {source.bytes} bytes: {error}"

    def _open(self) -> BinaryIO:
        if self.zipped:
            return gzip.open(self._real, "rb")  # type: ignore[return-value]
        return open(self._real, "rb", buffering=0)


def expand(host: Host, paths: list[str], since: float | None) -> list[str]:
    """The files that these paths and globs stand for, with rotated parts where ``since`` reaches into them."""
    found: list[str] = []
    for path in paths:
        if any(char in path for char in "*?["):
            # A glob that matches nothing stays, so that the mistake is reported.
            names = host.glob(path) or [path]
        else:
            names = [path]
            if since is not None:
                names += rotated(host, path, since)
        found.extend(name for name in names if name not in found)
    return found


def rotated(host: Host, path: str, since: float) -> list[str]:
    """Older parts of a log that logrotate left beside it and that were written to after ``since``."""
    folder, name = os.path.split(path)
    parts = []
    for entry in host.listdir(folder or "."):
        if entry.startswith(name) and _ROTATED.fullmatch(entry[len(name) :]):
            candidate = os.path.join(folder, entry)
            try:
                if host.stat(candidate).st_mtime >= since:
                    parts.append(candidate)
            except OSError:
                continue
    return parts
