# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last configuration that was live and healthy, kept so that it can come back.

Kept are FPM's own files: the main file and what it includes. Extensions and php.ini are
shared with other programs and stay as they are.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass

KEPT = "/var/lib/php_stack/last-good"
REJECTED = "/var/lib/php_stack/rejected"
_INCLUDE = re.compile(r"""^\s*include\s*=\s*["']?([^"';\n]+?)["']?\s*(?:;.*)?$""", re.MULTILINE)
_MAX_DEPTH = 10


@dataclass(frozen=True)
class Kept:
    """A file's content and who may use it."""

    content: bytes
    uid: int
    gid: int
    mode: int


Files = dict[str, Kept]


def collect(config_file: str, *others: str) -> Files:
    """The configuration as it is on the disk: the main file and its includes, by path.

    :param others: files without includes that belong to it.
    """
    found = _collect(config_file, 0)
    for path in others:
        found = {**_collect(path, _MAX_DEPTH), **found}
    return found


def _collect(config_file: str, depth: int) -> Files:
    found: Files = {}
    with contextlib.suppress(OSError), open(config_file, "rb") as handle:
        seen = os.fstat(handle.fileno())
        content = handle.read()
        found[config_file] = Kept(content, seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode))
        for pattern in _INCLUDE.findall(content.decode("utf-8", "surrogateescape")):
            if pattern.startswith("/") and depth < _MAX_DEPTH:
                for path in sorted(glob.glob(pattern)):
                    found = {**_collect(path, depth + 1), **found}
    return found


def changed_since(files: Files, moment: float) -> bool:
    """Whether one of the files was written, renamed or changed in its rights since a moment (seconds of the epoch).

    One that is gone by now counts as changed.
    """
    try:
        return any(os.stat(path).st_ctime > moment for path in files)
    except OSError:
        return True


def _write(path: str, kept: Kept) -> None:
    """Replace a file as a whole. A link stays, and the file that it leads to changes."""
    target = os.path.realpath(path)
    fresh = f"{target}.php-fpm-reload"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as stream:
        stream.write(kept.content)
        stream.flush()
        os.fchown(stream.fileno(), kept.uid, kept.gid)
        os.fchmod(stream.fileno(), kept.mode)
        os.fsync(stream.fileno())
    os.rename(fresh, target)


def _private_folder(path: str) -> None:
    """Pool files may hold secrets: what is kept of them is for root alone."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    os.chmod(path, 0o700)


class LastGood:
    """The kept configuration of one unit.

    :param kept: folder of all kept configurations; another one in tests only, as ``rejected``.
    """

    def __init__(self, unit: str, kept: str = KEPT, rejected: str = REJECTED) -> None:
        self._folder = os.path.join(kept, unit)
        self._rejected = os.path.join(rejected, unit)

    def load(self) -> Files | None:
        """None where nothing is kept, or it cannot be trusted to be whole."""
        try:
            with open(os.path.join(self._folder, "manifest.json"), encoding="utf-8") as handle:
                manifest = json.load(handle)
            found = {}
            for path, entry in manifest.items():
                with open(os.path.join(self._folder, entry["sha256"]), "rb") as handle:
                    content = handle.read()
                if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                    return None
                found[path] = Kept(content, entry["uid"], entry["gid"], entry["mode"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found

    def save(self, files: Files) -> None:
        """Keep these files; a kill half-way leaves the former manifest, and all that it needs, in place."""
        if not files or files == self.load():
            return
        _private_folder(os.path.dirname(self._folder))
        _private_folder(self._folder)
        manifest = {}
        for path, kept in files.items():
            digest = hashlib.sha256(kept.content).hexdigest()
            _write(os.path.join(self._folder, digest), Kept(kept.content, os.geteuid(), os.getegid(), 0o600))
            manifest[path] = {"sha256": digest, "uid": kept.uid, "gid": kept.gid, "mode": kept.mode}
        text = json.dumps(manifest, indent=2).encode()
        _write(os.path.join(self._folder, "manifest.json"), Kept(text, os.geteuid(), os.getegid(), 0o600))
        wanted = {entry["sha256"] for entry in manifest.values()} | {"manifest.json"}
        for name in set(os.listdir(self._folder)) - wanted:
            os.unlink(os.path.join(self._folder, name))

    def restore(self, failed: Files, config_file: str, *others: str) -> tuple[list[str], str]:
        """Put the kept files back in place of those that failed. Hold config.lock exclusively.

        What is replaced or removed is moved to a folder of its own, so that no work is lost.
        Nothing happens where nothing is kept, where it is what failed, or where somebody
        has changed the configuration since it failed.

        :param failed: the configuration that did not work.
        :param config_file: the main file; it and `others` as in `collect`.
        :returns: the paths that were changed, and the folder that holds what failed.
        """
        good = self.load()
        if not good or not failed or good == failed or collect(config_file, *others) != failed:
            return [], ""
        aside = os.path.join(self._rejected, time.strftime("%Y%m%dT%H%M%S"))
        changed = sorted(path for path in {*good, *failed} if good.get(path) != failed.get(path))
        _private_folder(os.path.dirname(self._rejected))
        _private_folder(self._rejected)
        for path in changed:
            if path in failed:
                copy = aside + path
                os.makedirs(os.path.dirname(copy), 0o700, exist_ok=True)
                shutil.copy2(path, copy)
            if path in good:
                _write(path, good[path])
            else:
                os.unlink(path)
        return changed, aside
