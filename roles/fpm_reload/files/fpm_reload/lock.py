# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks, and the note that lets a waiting caller skip a reload it no longer needs.

Lock order, for everybody: first ``UNIT.lock`` (exclusive), then ``config.lock``
(shared for a reload, exclusive for who writes the configuration). A
configuration transaction takes ``config.lock`` alone and lets go of it before
it asks for a reload, so the two can never wait for each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import FrameType

from fpm_reload.outcome import LOCK_TIMEOUT, LOCK_UNSAFE, Failure

FOLDER = "/run/lock/php_stack"
CONFIG_LOCK = "config.lock"


def now_ns() -> int:
    """A clock that all processes share, that no one sets and that goes on while the host sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
        return handle.read().strip()


@dataclass
class State:
    """The last reload of a unit. ``ok`` only once the new generation was seen to answer, at ``ended_ns``."""

    boot: str
    started_ns: int
    action: str
    ok: bool = False
    # Reasons for a restart that the restart did not remove: they must not cause another.
    unresolved: list[str] = field(default_factory=list)
    # Paths that led to held sockets, and to which: those that are no unit's any more are removed.
    links: dict[str, str] = field(default_factory=dict)
    ended_ns: int = 0

    def satisfies(self, asked_ns: int, boot: str, restart: bool) -> bool:
        """Whether a caller who asked at ``asked_ns`` needs no reload of its own.

        Only a reload that *started after* the request has surely read what the
        caller wrote before it asked; one that ran already may have read the old code.
        """
        return (
            self.ok
            and self.boot == boot
            and self.started_ns > asked_ns
            and (not restart or self.action != "reload")
        )


class _TimedOut(Exception):
    pass


def _raise_timed_out(signum: int, frame: FrameType | None) -> None:
    raise _TimedOut


class LockFolder:
    """Locks in a folder that only root can write to.

    :param owner: the user id that must own everything; 0 except in tests.
    """

    def __init__(self, path: str = FOLDER, owner: int = 0) -> None:
        self.path = path
        self.owner = owner

    def _open_folder(self) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o755)
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._unsafe(self.path, "is a link or no folder") from error
            raise
        seen = os.fstat(folder)
        fault = ""
        if seen.st_uid != self.owner:
            fault = f"belongs to user id {seen.st_uid}, not {self.owner}"
        elif seen.st_mode & 0o022:
            fault = f"can be written to by others (mode {stat.S_IMODE(seen.st_mode):04o})"
        if fault:
            os.close(folder)
            raise self._unsafe(self.path, fault)
        return folder

    def _unsafe(self, path: str, fault: str) -> Failure:
        return Failure(
            LOCK_UNSAFE,
            f"{path} {fault}, so it cannot serve as a lock. See who made it, remove it, and ask again",
        )

    def _open_file(self, folder: int, name: str) -> int:
        path = os.path.join(self.path, name)
        # 0600: who can open a file can lock it, and would stop every reload.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            lock = os.open(name, flags, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._unsafe(path, "is not a plain file") from error
            raise
        seen = os.fstat(lock)
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid != self.owner or seen.st_nlink > 1:
            os.close(lock)
            raise self._unsafe(path, f"is not a plain file of user id {self.owner} with one name")
        return lock

    @contextlib.contextmanager
    def hold(self, name: str, exclusive: bool, seconds: float) -> Iterator[None]:
        """Wait for a lock, at most ``seconds``, and hold it. The kernel frees it when the process ends."""
        folder = self._open_folder()
        try:
            lock = self._take(folder, name, exclusive, seconds)
        finally:
            os.close(folder)
        try:
            yield
        finally:
            os.close(lock)

    def _take(self, folder: int, name: str, exclusive: bool, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while True:
            lock = self._open_file(folder, name)
            try:
                self._wait(lock, exclusive, deadline)
                here = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                os.close(lock)
                continue
            except _TimedOut:
                os.close(lock)
                raise Failure(
                    LOCK_TIMEOUT,
                    f"{os.path.join(self.path, name)} was held by another process for {seconds:g} s"
                    f" (see: lslocks | grep {name})",
                ) from None
            except BaseException:
                os.close(lock)
                raise
            if os.path.samestat(here, os.fstat(lock)):
                return lock
            # Somebody removed the file and another process locks its successor.
            os.close(lock)

    @staticmethod
    def _wait(lock: int, exclusive: bool, deadline: float) -> None:
        before = signal.signal(signal.SIGALRM, _raise_timed_out)
        signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def read_state(self, unit: str) -> State | None:
        """The note on the last reload; None where there is none that can be read. Hold the unit's lock."""
        folder = self._open_folder()
        try:
            handle = os.open(f"{unit}.state", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with open(handle, encoding="utf-8") as stream:
                return State(**json.load(stream))
        except (OSError, ValueError, TypeError):
            return None
        finally:
            os.close(folder)

    def write_state(self, unit: str, state: State) -> None:
        """Replace the note as a whole: a reader finds the old one or the new one. Hold the unit's lock."""
        folder = self._open_folder()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(f"{unit}.state.new", flags, 0o600, dir_fd=folder)
            with open(handle, "w", encoding="utf-8") as stream:
                json.dump(asdict(state), stream)
            os.rename(f"{unit}.state.new", f"{unit}.state", src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
