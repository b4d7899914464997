# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the part of a host that a transaction's request is about."""

from __future__ import annotations

import os

from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem, words
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    ABSENT,
    DIRECTORY,
    FILE,
    LINK,
    DirectoryWish,
    Entry,
    FileWish,
    Observed,
    Request,
    Seen,
    marker_of,
    matches_any,
)


def observe(fs: FileSystem, request: Request) -> Observed:
    """What is there now.

    :raises OSError: where a managed directory or a marked file cannot be read.
    """
    wishes: list[FileWish | DirectoryWish] = [*request.files, *request.directories]
    users = {wish.owner for wish in wishes if wish.owner is not None}
    groups = {wish.group for wish in wishes if wish.group is not None}
    uid, gid = fs.identity()
    marked, links = _managed(fs, request)
    return Observed(
        files=tuple(_seen(fs, wish) for wish in request.files),
        directories=_directories(fs, request),
        marked=marked,
        links=links,
        users={name: fs.user_id(name) for name in users},
        groups={name: fs.group_id(name) for name in groups},
        uid=uid,
        gid=gid,
    )


def _directories(fs: FileSystem, request: Request) -> dict[str, Seen]:
    """The wished directories, and above each missing one all that is missing, or in the way."""
    found: dict[str, Seen] = {}
    for directory in request.directories:
        path = os.path.normpath(directory.path)
        found[path] = _directory(fs, path)
        while found[path].entry.kind == ABSENT:
            path = os.path.dirname(path)
            seen = _directory(fs, path)
            if seen.entry.kind == DIRECTORY:
                break
            found.setdefault(path, seen)
    return found


def _directory(fs: FileSystem, path: str) -> Seen:
    """A directory, links followed."""
    try:
        if fs.entry(path).kind == ABSENT:
            return Seen(path, path)
        real = fs.real(path)
        return Seen(path, real, fs.entry(real))
    except OSError as error:
        return Seen(path, path, problem=words(error))


def _seen(fs: FileSystem, wish: FileWish) -> Seen:
    path = os.path.normpath(wish.path)
    parent = os.path.dirname(path)
    try:
        parent_kind = fs.kind(parent)
        if parent_kind == ABSENT:
            return Seen(path, path, parent=ABSENT)
        place = real = os.path.join(fs.real(parent), os.path.basename(path))
        entry = fs.entry(real)
        if entry.kind == LINK and wish.state == "present":
            # Written through: the link stays a link, and what it leads to changes.
            if fs.kind(real) == ABSENT:
                problem = f"is a link to {entry.target}, which does not exist: remove the link first"
                return Seen(place, real, problem=problem)
            real = fs.real(real)
            entry = fs.entry(real)
        return Seen(place, real, entry, parent_kind, fs.writable(os.path.dirname(real)))
    except OSError as error:
        return Seen(path, path, problem=words(error))


def _managed(fs: FileSystem, request: Request) -> tuple[dict[str, Entry], dict[str, tuple[Entry, str]]]:
    """The managed directories' files with this transaction's marker, and their links with what these lead to."""
    marked: dict[str, Entry] = {}
    links: dict[str, tuple[Entry, str]] = {}
    for managed in request.manage:
        if fs.kind(managed.path) != DIRECTORY:
            continue
        folder = fs.real(managed.path)
        for name in fs.names(folder):
            path = os.path.join(folder, name)
            if not matches_any([name], [managed.pattern]) or (name[0] == "." and managed.pattern[0] != "."):
                continue
            if fs.kind(path) != FILE:
                continue
            entry = fs.entry(path)
            if entry.kind == LINK:
                links[path] = (entry, fs.real(path))
            elif marker_of(entry.data) == request.name:
                marked[path] = entry
    return marked, links
