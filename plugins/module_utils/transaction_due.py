# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Markers of work that a change leaves to be done, such as a reload.

A marker is on the disk before the change can be seen, and only who has done the
work removes it. So a run that ends between the two, for whatever reason, is made
up for by the next one.

One file a piece of work, /var/lib/php_stack/due/NAME. Each change writes a new
id into it: who did the work for an older change does not remove the marker of a
newer one.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    FILE,
    DueWork,
    Meta,
    matches_any,
)


def called_for(work: tuple[DueWork, ...], paths: list[str]) -> list[str]:
    """Names of the work that a change of these paths calls for."""
    return [
        item.name
        for item in work
        if paths and (not item.when_changed or matches_any(paths, list(item.when_changed)))
    ]


class DueMarkers:
    """The markers in one folder. Hold the transactions' lock."""

    def __init__(self, fs: FileSystem, folder: str) -> None:
        self.fs = fs
        self.folder = folder
        self._before: dict[str, bytes | None] = {}

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _bytes(self, name: str) -> bytes | None:
        path = self._path(name)
        return self.fs.read(path) if self.fs.kind(path) == FILE else None

    def ids(self, names: list[str]) -> dict[str, str]:
        """Those of the names that are due, with their ids; a marker that cannot be understood is due as well."""
        found = {}
        for name in names:
            content = self._bytes(name)
            if content is None:
                continue
            found[name] = ""
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found[name] = str(json.loads(content)["id"])
        return found

    def write(self, names: list[str], transaction: str) -> None:
        """Mark work as due, on the disk; take_back() undoes it."""
        if names:
            self.fs.make_dirs(self.folder, 0o755)
        for name in names:
            document = {"id": os.urandom(8).hex(), "transaction": transaction}
            self._before[name] = self._bytes(name)
            self._put(name, json.dumps(document).encode() + b"\n")
        if names:
            self.fs.sync_dir(self.folder)

    def _put(self, name: str, content: bytes) -> None:
        fresh = self._path(f".{name}.new")
        self.fs.unlink(fresh)
        self.fs.write(fresh, content, Meta(*self.fs.identity(), 0o644))
        self.fs.rename(fresh, self._path(name))

    def take_back(self) -> None:
        """The change did not come about: the markers are what they were."""
        for name, content in self._before.items():
            if content is None:
                self.fs.unlink(self._path(name))
            else:
                self._put(name, content)
        self._before = {}

    def remove(self, done: tuple[tuple[str, str], ...]) -> None:
        """Forget work that was done, by name and id, unless a later change made it due again."""
        now = self.ids([name for name, _id in done])
        gone = [name for name, known in done if now.get(name) == known]
        for name in gone:
            self.fs.unlink(self._path(name))
        if gone:
            self.fs.sync_dir(self.folder)

    def document(self, called: list[str], earlier: dict[str, str], names: list[str]) -> list[dict[str, Any]]:
        """What is due now, in the order of ``names``: by this change, and since ``earlier``."""
        now = self.ids(names)
        return [
            {"name": name, "id": now.get(name, ""), "earlier": name in earlier}
            for name in names
            if name in called or name in now
        ]
