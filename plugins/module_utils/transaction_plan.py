# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration transaction wants, and the pure plan that gets there.

A Request says what shall be; an Observed says what is; plan() compares the two
and returns every change with its state before and after, or every mistake at
once. Nothing here touches a host.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, field, replace

ABSENT = "absent"
FILE = "file"
LINK = "link"
DIRECTORY = "directory"
OTHER = "other"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_WORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
_MODE = re.compile(r"0?[0-7]{3,4}")
# The marker stands in the first line, or in the second one of a script.
_MARKER_LINES = 2
_MARKER = re.compile(r"Managed by webops\.php_stack \((?P<name>[^)]*)\): changes here are lost\.$")


@dataclass(frozen=True)
class Meta:
    """Owner, group, permission bits and extended attributes (ACLs and SELinux labels are among these)."""

    uid: int
    gid: int
    mode: int
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Entry:
    """What is, or shall be, at one path. ``meta`` is None for absent entries and links.

    ``mtime_ns`` (0: now) goes back with a file, since systemd asks for a
    daemon-reload when a unit's is new; it makes no difference between entries.
    """

    kind: str = ABSENT
    data: bytes = b""
    target: str = ""
    meta: Meta | None = None
    mtime_ns: int = field(default=0, compare=False)


NOTHING = Entry()


@dataclass(frozen=True)
class FileWish:
    """One of the request's files. ``mode`` is octal text; None keeps what an existing file has."""

    path: str
    state: str = "present"
    content: bytes | None = None
    target: str = ""
    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    comment: str = "#"
    sensitive: bool = False


@dataclass(frozen=True)
class DirectoryWish:
    path: str
    owner: str | None = None
    group: str | None = None
    mode: str | None = None


@dataclass(frozen=True)
class ManagedDir:
    """A directory in which marked files that the request does not name are stale."""

    path: str
    pattern: str = "*.conf"


@dataclass(frozen=True)
class DueWork:
    """Work, such as a reload, that a change leaves to be done. ``when_changed`` are globs of paths; none is any."""

    name: str
    when_changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """``done`` names work that was done, with the ids of its markers."""

    name: str
    files: tuple[FileWish, ...] = ()
    directories: tuple[DirectoryWish, ...] = ()
    manage: tuple[ManagedDir, ...] = ()
    adopt: bool = True
    due: tuple[DueWork, ...] = ()
    done: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was found for one wish.

    ``place`` is the path with the links of its directory resolved, ``real`` the
    one whose bytes are meant (the same, unless a file is reached through a link),
    ``parent`` the kind of its directory, ``problem`` a reason why the path cannot
    be used at all.
    """

    place: str
    real: str
    entry: Entry = NOTHING
    parent: str = DIRECTORY
    writable: bool = True
    problem: str = ""


@dataclass(frozen=True)
class Observed:
    """The host as it is, as far as the request asks.

    ``files`` has one Seen a wish, in the same order. ``directories`` maps each
    wished directory, and each missing parent of one, to what was found.
    ``marked`` maps (by ``place``) every file
    of a managed directory that carries this transaction's marker to what it is,
    ``links`` every link there to itself and the file that it leads to. ``users`` and ``groups`` map names to
    ids, None for unknown ones. ``uid`` and ``gid`` are the process's own.
    """

    files: tuple[Seen, ...] = ()
    directories: dict[str, Seen] = field(default_factory=dict)
    marked: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, tuple[Entry, str]] = field(default_factory=dict)
    users: dict[str, int | None] = field(default_factory=dict)
    groups: dict[str, int | None] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Change:
    """One step of a plan. ``path`` is as the user wrote it, ``real`` where it happens."""

    path: str
    real: str
    action: str
    before: Entry
    after: Entry
    sensitive: bool = False
    adopted: bool = False


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which they are applied: directories, files, links, removals."""

    changes: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Paths of everything that changes, each once, in order."""
        found = dict.fromkeys(change.path for change in self.changes)
        found.update(dict.fromkeys(change.real for change in self.changes))
        return list(found)


def marker_text(name: str) -> str:
    """The marker of a transaction, without the comment sign: the same on every run."""
    return f"Managed by webops.php_stack ({name}): changes here are lost."


def with_marker(content: bytes, name: str, comment: str) -> bytes:
    """The content with the marker line first, or second after a script's #! line.

    Content that has the marker already, and an empty ``comment``, change nothing.
    """
    if not comment or marker_of(content) == name:
        return content
    line = f"{comment} {marker_text(name)}\n".encode()
    if content.startswith(b"#!"):
        head, newline, rest = content.partition(b"\n")
        return head + b"\n" + line + (rest if newline else b"")
    return line + content


def marker_of(content: bytes) -> str | None:
    """The name of the transaction whose marker the content carries, or None."""
    for line in content.split(b"\n", _MARKER_LINES)[:_MARKER_LINES]:
        found = _MARKER.search(line.decode("utf-8", "replace").rstrip())
        if found:
            return found["name"]
    return None


def check(request: Request) -> list[str]:
    """Every mistake that can be seen in the request alone."""
    problems = []
    if not _NAME.fullmatch(request.name):
        problems.append(
            f"name: {request.name!r} must be letters, digits, '_', '-' or '.', and begin with a letter or digit"
        )
    first: dict[str, int] = {}
    for number, wish in enumerate(request.files):
        where = f"files[{number}] ({wish.path})"
        problems += [f"{where}: {reason}" for reason in _file_mistakes(wish)]
        known = first.setdefault(os.path.normpath(wish.path), number)
        if known != number:
            problems.append(f"{where}: the same path as files[{known}]; each path may be named once")
    for number, wish in enumerate(request.files):
        parents = [path for path in _parents(wish.path) if path in first]
        if parents and wish.state != "absent":
            problems.append(
                f"files[{number}] ({wish.path}): {parents[-1]} is a file of this transaction, not a directory"
            )
    for number, directory in enumerate(request.directories):
        where = f"directories[{number}] ({directory.path})"
        problems += [f"{where}: {reason}" for reason in _path_mistakes(directory.path)]
        problems += [f"{where}: {reason}" for reason in _mode_mistakes(directory.mode)]
        if os.path.normpath(directory.path) in first:
            problems.append(f"{where}: files names this path too; it cannot be a file and a directory")
    for number, managed in enumerate(request.manage):
        where = f"manage[{number}] ({managed.path})"
        problems += [f"{where}: {reason}" for reason in _path_mistakes(managed.path)]
        if not managed.pattern or "/" in managed.pattern:
            problems.append(f"{where}: pattern {managed.pattern!r} must match names, so it cannot hold a '/'")
    work = [("due", number, item.name) for number, item in enumerate(request.due)]
    work += [("done", number, name) for number, (name, _id) in enumerate(request.done)]
    problems += [
        f"{option}[{number}]: name {name!r} must be letters, digits, '_', '-', '.' or '@', and begin with a letter"
        " or digit"
        for option, number, name in work
        if not _WORK.fullmatch(name)
    ]
    return problems


def _path_mistakes(path: str) -> list[str]:
    if not path.startswith("/"):
        return ["the path must be absolute"]
    if "\0" in path or "\n" in path:
        return ["the path holds a line break or a NUL"]
    if path.endswith("/") or ".." in path.split("/"):
        return ["the path must name the entry itself, without '..' and without a '/' at its end"]
    return []


def _mode_mistakes(mode: str | None) -> list[str]:
    if mode is None or _MODE.fullmatch(mode):
        return []
    return [f'mode {mode!r} must be octal digits in quotes, such as "0644"']


def _file_mistakes(wish: FileWish) -> list[str]:
    reasons = _path_mistakes(wish.path) + _mode_mistakes(wish.mode)
    if wish.state == "present":
        if wish.content is None:
            reasons.append("state is present, so content or template is needed")
        if wish.target:
            reasons.append("target is for state=link only")
        if "\n" in wish.comment:
            reasons.append("comment must be one line")
    elif wish.state == "link":
        if not wish.target:
            reasons.append("state is link, so target is needed")
        if wish.content is not None:
            reasons.append("content and template are for state=present only")
    elif wish.content is not None or wish.target:
        reasons.append("state is absent, so content, template and target make no sense")
    return reasons


def _parents(path: str) -> list[str]:
    """All directories above a path, the topmost first, without /."""
    parts = os.path.normpath(path).strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]


class _Planner:
    """Collects changes and mistakes while it walks the request."""

    def __init__(self, request: Request, seen: Observed, check_mode: bool) -> None:
        self.request = request
        self.seen = seen
        self.check_mode = check_mode
        self.changes: list[Change] = []
        self.problems: list[str] = []

    def meta(
        self, where: str, wish: FileWish | DirectoryWish, before: Meta | None, default_mode: int
    ) -> Meta:
        """What the wish leaves open comes from what is there, and else from the process and ``default_mode``."""
        meta = before or Meta(self.seen.uid, self.seen.gid, default_mode)
        if wish.owner is not None:
            meta = replace(meta, uid=self.identity(where, "user", wish.owner, self.seen.users))
        if wish.group is not None:
            meta = replace(meta, gid=self.identity(where, "group", wish.group, self.seen.groups))
        if wish.mode is not None:
            meta = replace(meta, mode=int(wish.mode, 8))
        return meta

    def identity(self, where: str, what: str, name: str, known: dict[str, int | None]) -> int:
        """The id of a name; -1 in check mode, where an earlier task may not have made it yet."""
        number = known.get(name)
        if number is not None:
            return number
        if not self.check_mode:
            self.problems.append(f"{where}: there is no {what} {name!r} on this host")
        return -1

    def directories(self) -> set[str]:
        """Plan the directories; returns those that will be there."""
        wishes = {os.path.normpath(wish.path): wish for wish in self.request.directories}
        for path, seen in sorted(self.seen.directories.items()):
            where, before = f"directories ({path})", seen.entry
            if seen.problem or before.kind not in (ABSENT, DIRECTORY):
                self.problems.append(f"{where}: {seen.problem or f'a {before.kind} is in the way'}")
                continue
            wish = wishes.get(path, DirectoryWish(path))
            after = Entry(DIRECTORY, meta=self.meta(where, wish, before.meta, 0o755))
            if after != before:
                action = "created" if before.kind == ABSENT else "mode"
                self.changes.append(Change(path, seen.real, action, before, after))
        return set(self.seen.directories)

    def files(self, directories: set[str]) -> None:
        wanted: dict[str, int] = {}
        unmarked: list[str] = []
        found: list[Change] = []
        for number, (wish, seen) in enumerate(zip(self.request.files, self.seen.files)):
            where = f"files[{number}] ({wish.path})"
            if seen.problem:
                self.problems.append(f"{where}: {seen.problem}")
                continue
            other = wanted.setdefault(seen.real, number)
            if other != number:
                self.problems.append(f"{where}: the same file as files[{other}], reached through a link")
                continue
            change = self.file(where, wish, seen)
            if change is None:
                continue
            found.append(change)
            if change.adopted:
                unmarked.append(wish.path)
            if (
                seen.parent == ABSENT
                and os.path.dirname(seen.real) not in directories
                and not self.check_mode
            ):
                self.problems.append(
                    f"{where}: the directory {os.path.dirname(seen.real)} does not exist; list it under directories"
                )
            elif seen.parent not in (ABSENT, DIRECTORY):
                self.problems.append(f"{where}: {os.path.dirname(seen.real)} is not a directory")
            elif not seen.writable:
                self.problems.append(f"{where}: {os.path.dirname(seen.real)} cannot be written (read-only?)")
        places = {seen.place for seen in self.seen.files} | set(wanted)
        stale = {path: entry for path, entry in self.seen.marked.items() if path not in places}
        gone = set(stale) | {
            change.real
            for change in found
            if change.after.kind == ABSENT and marker_of(change.before.data) == self.request.name
        }
        for path, (entry, target) in self.seen.links.items():
            if target in gone and path not in places:
                stale[path] = entry
        found += [Change(path, path, "removed", entry, NOTHING) for path, entry in sorted(stale.items())]
        if unmarked and not self.request.adopt:
            self.problems.append(
                "adopt is false, and these files are there already without this collection's marker: "
                + ", ".join(unmarked)
            )
        order = {FILE: 0, LINK: 1, ABSENT: 2}
        self.changes += sorted(found, key=lambda change: order[change.after.kind])

    def file(self, where: str, wish: FileWish, seen: Seen) -> Change | None:
        before = seen.entry
        if before.kind in (DIRECTORY, OTHER):
            what = "a directory" if before.kind == DIRECTORY else "neither a file nor a link"
            self.problems.append(f"{where}: {seen.real} is {what}; it is not replaced")
            return None
        if wish.state == "absent":
            after, action = NOTHING, "removed"
        elif wish.state == "link":
            after, action = Entry(LINK, target=wish.target), "linked"
        else:
            data = with_marker(wish.content or b"", self.request.name, wish.comment)
            meta = self.meta(where, wish, before.meta, 0o644)
            same = before.kind == FILE and before.data == data
            after = Entry(FILE, data=data, meta=meta, mtime_ns=before.mtime_ns if same else 0)
            action = "created" if before.kind == ABSENT else "mode" if same else "changed"
        if after == before:
            return None
        foreign = before.kind == FILE and bool(wish.comment) and marker_of(before.data) is None
        adopted = foreign and action != "mode"
        return Change(wish.path, seen.real, action, before, after, wish.sensitive, adopted)


def plan(request: Request, seen: Observed, check_mode: bool = False) -> Plan:
    """What has to change, or every reason why it cannot.

    In check mode, directories, users and groups that are missing are no
    mistakes: earlier tasks, which check mode skipped, may make them.
    """
    planner = _Planner(request, seen, check_mode)
    planner.files(planner.directories())
    changes = sorted(planner.changes, key=lambda change: change.after.kind != DIRECTORY)
    return Plan(tuple(changes), tuple(planner.problems))


def matches_any(paths: list[str], globs: list[str]) -> bool:
    """Whether one of the paths matches one of the globs; * matches any run of characters, / too."""
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths for pattern in globs)
