# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port through which a transaction reads and changes the file system.

Every system call that changes something is announced to ``step`` first: the
tests stop there, at each call in turn, to prove what a killed run leaves behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import signal
import stat
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    ABSENT,
    DIRECTORY,
    FILE,
    LINK,
    NOTHING,
    OTHER,
    Entry,
    Meta,
)

# Signatures of the old bytes; copied to new bytes they would be wrong.
_CONTENT_XATTRS = ("security.ima", "security.evm")
_ACL = "system.posix_acl_access"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileSystem:
    """The live host."""

    def step(self, what: str, path: str) -> None:
        """Called before each system call that changes something."""

    # -- reading --------------------------------------------------------------------------------------------

    def identity(self) -> tuple[int, int]:
        """Effective user and group id of this process."""
        return os.geteuid(), os.getegid()

    def user_id(self, name: str) -> int | None:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
        return int(name) if name.isdigit() else None

    def group_id(self, name: str) -> int | None:
        with contextlib.suppress(KeyError):
            return grp.getgrnam(name).gr_gid
        return int(name) if name.isdigit() else None

    def entry(self, path: str, follow: bool = False) -> Entry:
        """What is at a path.

        :raises OSError: where it cannot be read; an absent path is no error.
        """
        try:
            info = os.stat(path) if follow else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return NOTHING
        if stat.S_ISLNK(info.st_mode):
            return Entry(LINK, target=os.readlink(path))
        meta = Meta(info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))
        if stat.S_ISDIR(info.st_mode):
            return Entry(DIRECTORY, meta=meta)
        if not stat.S_ISREG(info.st_mode):
            return Entry(OTHER, meta=meta)
        with open(path, "rb") as handle:
            data = handle.read()
        meta = Meta(meta.uid, meta.gid, meta.mode, self.xattrs(path))
        return Entry(FILE, data=data, meta=meta, mtime_ns=info.st_mtime_ns)

    def xattrs(self, path: str) -> tuple[tuple[str, bytes], ...]:
        try:
            names = sorted(os.listxattr(path))
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENOSYS):
                return ()
            raise
        return tuple((name, os.getxattr(path, name)) for name in names if name not in _CONTENT_XATTRS)

    def kind(self, path: str) -> str:
        """The kind of what a path leads to, links followed; links in a circle lead to nothing usable."""
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except OSError as error:
            if error.errno == errno.ELOOP:
                return OTHER
            raise
        return DIRECTORY if stat.S_ISDIR(mode) else FILE if stat.S_ISREG(mode) else OTHER

    def real(self, path: str) -> str:
        """The path with every link resolved.

        :raises OSError: for links that go in a circle.
        """
        try:
            return os.path.realpath(path, strict=True)  # type: ignore[call-arg,unused-ignore]
        except TypeError:  # Python 3.9 has no ``strict``
            os.stat(path)
            return os.path.realpath(path)

    def writable(self, directory: str) -> bool:
        return os.access(directory, os.W_OK | os.X_OK)

    def names(self, directory: str) -> list[str]:
        """Sorted names in a directory; an absent one has none."""
        try:
            return sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str) -> bytes:
        with open(path, "rb") as handle:
            return handle.read()

    # -- changing -------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes, meta: Meta, mtime_ns: int = 0) -> None:
        """Make a file that is complete and on the disk when this returns; never through a link.

        ``mtime_ns`` of 0 is now.

        :raises OSError: EEXIST where something is there already.
        """
        self.step("open", path)
        handle = os.open(path, _NEW, 0o600)
        try:
            view = memoryview(data)
            # In two parts, so that the tests can stop inside a file.
            for part in (view[: len(view) // 2], view[len(view) // 2 :]):
                while part:
                    self.step("write", path)
                    part = part[os.write(handle, part) :]
            self.step("fchown", path)
            os.fchown(handle, meta.uid, meta.gid)
            self._set_xattrs(handle, path, meta)
            # Last: a chown clears the set-id bits, and an ACL brings its own mask.
            self.step("fchmod", path)
            os.fchmod(handle, meta.mode)
            if mtime_ns:
                self.step("utime", path)
                os.utime(handle, ns=(mtime_ns, mtime_ns))
            self.step("fsync", path)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _set_xattrs(self, handle: int, path: str, meta: Meta) -> None:
        have = dict(self._handle_xattrs(handle))
        want = dict(meta.xattrs)
        for name, value in want.items():
            if have.get(name) != value:
                self.step("setxattr", path)
                try:
                    os.setxattr(handle, name, value)
                except OSError:
                    # In a container a label can be seen that nobody inside may set.
                    if not name.startswith("security."):
                        raise
        # A directory's default ACL must not be left on a file that had none.
        if want and _ACL in have and _ACL not in want:
            self.step("removexattr", path)
            os.removexattr(handle, _ACL)

    def _handle_xattrs(self, handle: int) -> list[tuple[str, bytes]]:
        try:
            return [(name, os.getxattr(handle, name)) for name in os.listxattr(handle)]
        except OSError:
            return []

    def rename(self, old: str, new: str) -> None:
        self.step("rename", new)
        os.rename(old, new)

    def symlink(self, target: str, path: str) -> None:
        self.step("symlink", path)
        os.symlink(target, path)

    def unlink(self, path: str) -> None:
        """Remove a file or link; one that is not there is no error."""
        self.step("unlink", path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def mkdir(self, path: str, meta: Meta) -> None:
        self.step("mkdir", path)
        os.mkdir(path, 0o700)
        self.set_meta(path, meta)

    def make_dirs(self, path: str, mode: int) -> None:
        """Make a directory and what is missing above it, for this process alone to write."""
        if os.path.isdir(path):
            return
        self.make_dirs(os.path.dirname(path), mode)
        self.step("mkdir", path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
        self.sync_dir(os.path.dirname(path))

    def set_meta(self, path: str, meta: Meta) -> None:
        """Owner, group and mode of a directory."""
        self.step("chown", path)
        os.chown(path, meta.uid, meta.gid)
        self.step("chmod", path)
        os.chmod(path, meta.mode)

    def rmdir(self, path: str) -> bool:
        """Remove a directory; False where it is not empty, True where it is gone."""
        self.step("rmdir", path)
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def sync_dir(self, path: str) -> None:
        """Put a directory's names on the disk; an absent one has none."""
        self.step("fsync", path)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    # -- the lock -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, directory: str, create: bool, timeout: float) -> Iterator[None]:
        """Hold ``directory``/config.lock, waiting for it as long as ``timeout`` seconds.

        The folder stands in the world-writable /run/lock, so one that root does
        not own is refused. Without ``create`` (check mode) a missing lock is not made.

        :raises OSError: EPERM for such a folder; TimeoutError (an OSError) when the wait ends.
        """
        path = os.path.join(directory, "config.lock")
        if create:
            os.makedirs(os.path.dirname(directory), 0o755, exist_ok=True)
            self.step("mkdir", directory)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o755)
                os.chmod(directory, 0o755)  # whatever the umask is
        elif not os.path.exists(path):
            yield
            return
        info = os.lstat(directory)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise OSError(errno.EPERM, "not a directory that only root can write; remove it", directory)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        handle = os.open(path, flags, 0o600)
        try:
            _flock(handle, path, timeout)
            yield
        finally:
            os.close(handle)


def _flock(handle: int, path: str, timeout: float) -> None:
    """A blocking flock with an end: a timer's signal interrupts the wait."""

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError(
            errno.ETIMEDOUT, f"still locked after {timeout:g} s; `fuser -v` names the holder", path
        )

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def signals_raised() -> contextlib.AbstractContextManager[None]:
    """A polite end (Ctrl-C, a lost connection, a shutdown) becomes an error, so that the change is undone now."""

    def stop(number: int, frame: Any) -> None:
        raise StackError(f"stopped by {signal.Signals(number).name}; nothing was changed")

    return _handled(stop)


def signals_ignored() -> contextlib.AbstractContextManager[None]:
    """Not even a second Ctrl-C stops the rollback."""
    return _handled(signal.SIG_IGN)


def words(error: OSError) -> str:
    """An OSError as a person wants to read it: where, then what."""
    return f"{error.filename or 'the file system'}: {error.strerror or error}"
