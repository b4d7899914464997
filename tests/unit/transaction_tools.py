# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the transaction tests share: a place of their own, snapshots of a tree, and file systems that stop."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path
from typing import Any, Callable

from ansible_collections.webops.php_stack.plugins.module_utils.transaction import Options, Validator, run
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import FileWish, Request

YES = (Validator("yes", ("true",)),)
NO = (Validator("no", ("false",)),)


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a directory: kind, mode, owner, and bytes or link target; times of files too."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            owner = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(info.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                found[key] = ("directory", *owner)
            elif not stat.S_ISREG(info.st_mode):
                found[key] = ("other", *owner)
            else:
                found[key] = ("file", *owner, info.st_mtime_ns, Path(path).read_bytes())
    return found


def bare(tree: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """A snapshot without the times, to compare trees that were written separately."""
    return {path: (*item[:4], item[5]) if item[0] == "file" else item for path, item in tree.items()}


class Place:
    """A tree to configure, and beside it the state and lock folders of its transactions."""

    def __init__(self, base: Path) -> None:
        self.etc = base / "etc"
        self.etc.mkdir(parents=True)
        self.state = base / "state"
        self.lock = base / "run/lock"

    def options(self, **changes: Any) -> Options:
        return Options(
            **{"state_dir": str(self.state), "lock_dir": str(self.lock), "lock_timeout": 5, **changes}
        )

    def run(
        self,
        request: Request,
        validators: tuple[Validator, ...] = YES,
        fs: FileSystem | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        return run(request, validators, self.options(**options), fs)

    def path(self, name: str) -> str:
        return str(self.etc / name)

    def file(self, name: str, content: str = "x = 1\n", **more: Any) -> FileWish:
        return FileWish(self.path(name), content=content.encode(), **more)

    def request(self, *files: FileWish, **more: Any) -> Request:
        return Request("test", files, **more)

    @property
    def journal(self) -> Path:
        return self.state / "transactions/test"

    @property
    def debris(self) -> list[str]:
        """What a finished transaction must not leave: temporary files and journals."""
        left = [path for path in snapshot(self.etc) if ".webops" in path]
        return left + [str(path) for path in (self.state / "transactions").glob("*/*")]


class Stopping(FileSystem):
    """Kills its own process with SIGKILL at the given step; counts from 1."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self, what: str, path: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Recording(FileSystem):
    """Notes every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def step(self, what: str, path: str) -> None:
        self.steps.append((what, path))


class Failing(FileSystem):
    """Fails with an errno at the steps that ``when`` picks."""

    def __init__(self, code: int, when: Callable[[str, str], bool]) -> None:
        self.code = code
        self.when = when

    def step(self, what: str, path: str) -> None:
        if self.when(what, path):
            raise OSError(self.code, os.strerror(self.code), path)


FULL = errno.ENOSPC


def in_child(action: Callable[[], Any]) -> int:
    """Run an action in a process of its own; returns 0, 1 when it raised, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
