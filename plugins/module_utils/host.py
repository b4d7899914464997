# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port through which everything else reads a host: files and commands.

Parsers and rules never touch the system; they take what a Host returns. With
``root`` the same code reads a tree (an image, a backup, an etckeeper checkout):
absolute paths and symbolic links are then resolved inside the tree, as in a
chroot, and no command is ever run.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import stat
import subprocess
from dataclasses import dataclass

# No configuration and no file of /proc is nearly as large; a log that an include matches may be.
MAX_TEXT_BYTES = 64 << 20
_PIECE = 1 << 16
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NULL_DEVICE = os.makedev(1, 3)
# The kernel's own limit on nested links (man 7 path_resolution).
_MAX_LINKS = 40


class HostError(Exception):
    """Something on the host could not be read or run; str() says what and why."""


@dataclass(frozen=True)
class CommandResult:
    """What a command did. ``rc`` is -1 with ``error`` set when it could not run at all."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    error: str = ""


def _refuse_special(status: os.stat_result, path: str) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind and status.st_rdev != _NULL_DEVICE:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", path)


def _read(handle: io.FileIO, limit: int) -> bytes:
    """Up to ``limit`` bytes, all of them for -1; files of /proc come in pieces."""
    parts: list[bytes] = []
    while limit and (part := handle.read(_PIECE if limit < 0 else min(limit, _PIECE))):
        parts.append(part)
        limit -= len(part) if limit > 0 else 0
    return b"".join(parts)


class Host:
    """Reads files under ``root`` and, on the live host only, runs commands."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)
        self.live = self.root == "/"

    def real(self, path: str) -> str:
        """The path on this machine that ``path`` of the host stands for.

        :raises OSError: ELOOP for a chain of links without an end.
        """
        if self.live:
            return path
        todo = [part for part in path.split("/") if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            candidate = os.path.join(self.root, *done, part)
            try:
                target = os.readlink(candidate)
            except OSError:
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(40, os.strerror(40), path)
            if target.startswith("/"):
                done = []
            todo = [piece for piece in target.split("/") if piece not in ("", ".")] + todo
        return os.path.join(self.root, *done)

    def open(self, path: str) -> io.FileIO:
        """A regular file, or /dev/null, for reading, without a buffer.

        What a glob or a link leads to may be anything: a pipe would never end, and to open a device
        may set it in motion. Neither is touched.

        :raises OSError: as open() does; EINVAL with words for what is no file.
        """
        real = self.real(path)
        _refuse_special(os.stat(real), path)
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # It may have been replaced meanwhile.
            _refuse_special(os.fstat(descriptor), path)
            return io.FileIO(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def read_bytes(self, path: str, limit: int = -1) -> bytes:
        """The content of a file, at most ``limit`` bytes of it.

        :raises OSError: as open() does.
        """
        with self.open(path) as handle:
            return _read(handle, limit)

    def read_text(self, path: str) -> str:
        """The content as text; bytes that are not UTF-8 survive as surrogates.

        :raises OSError: as open() does; EFBIG above MAX_TEXT_BYTES.
        """
        with self.open(path) as handle:
            is_small = os.fstat(handle.fileno()).st_size <= MAX_TEXT_BYTES
            content = _read(handle, MAX_TEXT_BYTES + 1) if is_small else b""
        if not is_small or len(content) > MAX_TEXT_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_TEXT_BYTES >> 20} MiB", path)
        return content.decode("utf-8", "surrogateescape")

    def exists(self, path: str) -> bool:
        return os.path.exists(self.real(path))

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(self.real(path))

    def stat(self, path: str) -> os.stat_result:
        """Follows links, inside the root.

        :raises OSError: as os.stat() does.
        """
        return os.stat(self.real(path))

    def lstat(self, path: str) -> os.stat_result:
        head, tail = os.path.split(path.rstrip("/"))
        return os.lstat(os.path.join(self.real(head or "/"), tail))

    def readlink(self, path: str) -> str:
        head, tail = os.path.split(path.rstrip("/"))
        return os.readlink(os.path.join(self.real(head or "/"), tail))

    def listdir(self, path: str) -> list[str]:
        """Sorted names; an empty list where the directory cannot be read."""
        try:
            return sorted(os.listdir(self.real(path)))
        except OSError:
            return []

    def glob(self, pattern: str) -> list[str]:
        """Sorted paths of the host that match, as glob(3) does: * and ? do not match a leading dot."""
        paths = ["/"]
        parts = [part for part in pattern.split("/") if part]
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            found: list[str] = []
            for base in paths:
                if not any(char in part for char in "*?["):
                    candidate = os.path.join(base, part)
                    if self.exists(candidate) if last else self.is_dir(candidate):
                        found.append(candidate)
                    continue
                for name in self.listdir(base):
                    if name.startswith(".") and not part.startswith("."):
                        continue
                    candidate = os.path.join(base, name)
                    if fnmatch.fnmatchcase(name, part) and (last or self.is_dir(candidate)):
                        found.append(candidate)
            paths = found
        return sorted(paths)

    def is_socket(self, path: str) -> bool:
        try:
            return stat.S_ISSOCK(self.stat(path).st_mode)
        except OSError:
            return False

    def run(self, argv: list[str], timeout: float = 30.0, stdin: bytes | None = None) -> CommandResult:
        """Run a command without a shell, in the C locale.

        :raises HostError: on a tree (``root``), where nothing may be run.
        """
        return self.start(argv).result(timeout, stdin)

    def start(self, argv: list[str]) -> Command:
        """Begin what `run` does, and go on meanwhile.

        :raises HostError: as run() does.
        """
        if not self.live:
            raise HostError(f"{argv[0]} cannot be run: {self.root} is a tree, not this host")
        return Command(argv)


class Command:
    """A command that runs; result() waits for it."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = tuple(argv)
        self._error = ""
        self._process: subprocess.Popen[bytes] | None = None
        env = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
        env.setdefault("PATH", "")
        env["PATH"] = ":".join(filter(None, [env["PATH"], "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"]))
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
        except OSError as error:
            self._error = f"{argv[0]}: {error.strerror}"

    def result(self, timeout: float = 30.0, stdin: bytes | None = None) -> CommandResult:
        """What it did; it is ended after ``timeout`` seconds."""
        if self._process is None:
            return CommandResult(self._argv, -1, "", "", self._error)
        with self._process:
            try:
                out, err = self._process.communicate(b"" if stdin is None else stdin, timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                words = f"{self._argv[0]} did not end within {timeout:g} s"
                return CommandResult(self._argv, -1, "", "", words)
        return CommandResult(
            self._argv,
            self._process.returncode,
            out.decode("utf-8", "replace"),
            err.decode("utf-8", "replace"),
        )
