# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets that systemd holds for the service: opened, published, mended, and taken over from FPM.

A socket lives at a path of its own (ListenStream=, in a folder that nobody else uses). What nginx
connects to is a link to it (Symlinks=). So a link can change hands at once and without a gap: from a
socket that FPM made to the one that systemd holds, or back into place after somebody removed it.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
import time
from dataclasses import dataclass

from fpm_reload import master, sockets
from fpm_reload.outcome import RELOAD_FAILED, Failure
from fpm_reload.unit import Unit, parse_show, run

_RUNTIME = "/run/systemd/system"
# systemd refuses to open a socket whose service runs. So the socket belongs to this service, which does
# nothing, for the moment in which it is opened; it stays open when it is given to its own service after that.
_PLACEHOLDER = "php_stack-handover.service"
_PLACEHOLDER_TEXT = (
    "[Unit]\nDescription=Stands in while a socket is opened beside its running service\n"
    "[Service]\nType=oneshot\nExecStart=/bin/true\n"
)
_DROP_IN = "90-php_stack-handover.conf"
_PROPERTIES = "Id,ActiveState,Listen,Symlinks,Backlog,SocketUser,SocketGroup,SocketMode"
_DRAIN_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Held:
    """A socket unit of the service, as systemd has read it.

    :param path: where the socket is.
    :param links: paths that lead to it.
    """

    unit: str
    open: bool
    path: str
    links: tuple[str, ...]
    backlog: int
    user: str
    group: str
    mode: int

    @property
    def in_place(self) -> bool:
        try:
            return stat.S_ISSOCK(os.lstat(self.path).st_mode)
        except OSError:
            return False


def parse(text: str) -> list[Held]:
    """The answer of ``systemctl show`` about socket units; those without a unix stream are left out."""
    found = []
    for block in text.split("\n\n"):
        shown = {key: values[0] for key, values in parse_show(block).items()}
        path, _sep, kind = shown.get("Listen", "").rpartition(" ")
        if kind != "(Stream)" or not path.startswith("/"):
            continue
        found.append(
            Held(
                unit=shown["Id"],
                open=shown.get("ActiveState") == "active",
                path=path,
                links=tuple(shown.get("Symlinks", "").split()),
                backlog=int(shown.get("Backlog") or 0),
                user=shown.get("SocketUser", ""),
                group=shown.get("SocketGroup", ""),
                mode=int(shown.get("SocketMode") or "0666", 8),
            )
        )
    return found


def of_unit(found: Unit) -> list[Held]:
    if not found.sockets:
        return []
    return parse(run(["systemctl", "show", f"--property={_PROPERTIES}", "--", *found.sockets], 30).stdout)


def open_sockets(found: Unit, only: set[str] | None = None) -> list[str]:
    """Have systemd hold every socket of the service, also while the service runs; returns what was opened.

    :param only: look at sockets with these paths alone.
    :raises Failure: RELOAD_FAILED with systemd's words.
    """
    shut = [held for held in of_unit(found) if not (held.open and held.in_place)]
    shut = [held for held in shut if only is None or held.path in only]
    if not shut:
        return []
    names = [held.unit for held in shut]
    gone = [held.unit for held in shut if held.open]
    if gone:
        # Its file was removed, so nobody can connect to it any more: it is made anew.
        run(["systemctl", "stop", "--", *gone], 60)
    if not found.running:
        run(["systemctl", "reset-failed", "--", *names], 30)
        _start(names)
        return [held.path for held in shut]
    folders = [f"{_RUNTIME}/{name}.d" for name in names]
    placeholder = f"{_RUNTIME}/{_PLACEHOLDER}"
    try:
        _write(placeholder, _PLACEHOLDER_TEXT)
        for folder in folders:
            os.makedirs(folder, 0o755, exist_ok=True)
            _write(f"{folder}/{_DROP_IN}", f"[Socket]\nService={_PLACEHOLDER}\n")
        run(["systemctl", "daemon-reload"], 120)
        run(["systemctl", "reset-failed", "--", *names], 30)
        _start(names)
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{_DROP_IN}")
                os.rmdir(folder)
        with contextlib.suppress(OSError):
            os.unlink(placeholder)
        run(["systemctl", "daemon-reload"], 120)
    return [held.path for held in shut]


def _start(names: list[str]) -> None:
    ran = run(["systemctl", "start", "--", *names], 60)
    if ran.rc != 0:
        raise Failure(RELOAD_FAILED, "systemd cannot open the sockets", ran.words)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(text)


def mend(found: Unit, plain: set[str]) -> list[str]:
    """Links, owner, group and mode as the units have them; returns the paths that were changed.

    A link replaces what is at its path in one step: a connection meets the old socket or the new one.

    :param plain: paths at which FPM makes, or has made, a socket itself. They are left alone.
    """
    changed = []
    for held in of_unit(found):
        if not held.in_place:
            continue
        changed += [link for link in held.links if link not in plain and publish(held.path, link)]
        if _mend_rights(held):
            changed.append(held.path)
    return changed


def publish(path: str, link: str) -> bool:
    """Make ``link`` lead to ``path``. A folder in its place is left alone."""
    with contextlib.suppress(OSError):
        if os.readlink(link) == path:
            return False
    beside = f"{link}.php_stack-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
    os.symlink(path, beside)
    os.rename(beside, link)
    return True


def _mend_rights(held: Held) -> bool:
    target = sockets.Wanted(
        pwd.getpwnam(held.user).pw_uid if held.user else None,
        grp.getgrnam(held.group).gr_gid if held.group else None,
        held.mode,
    )
    pinned = os.open(held.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return sockets.apply(pinned, target)
    finally:
        os.close(pinned)


def restart_reasons(found: Unit) -> list[str]:
    """Open sockets that the running master does not have: it gets descriptors only when it starts."""
    mine = {listener.inode for listener in master.listeners(found.pid)}
    missing = {
        entry.path
        for entry in master.kernel_sockets(found.pid)
        if entry.listening and entry.path and entry.inode not in mine
    }
    return [f"{held.unit} is not with PHP-FPM yet" for held in of_unit(found) if held.path in missing]


def backlogs(found: Unit) -> dict[str, int]:
    """The backlog that each held socket is to have, by path."""
    return {held.path: held.backlog for held in of_unit(found) if held.backlog > 0}


def own_listeners(found: Unit, plain: set[str]) -> list[master.Listener]:
    """Sockets that the running master made itself at a path that now belongs to a held socket."""
    links = {link for held in of_unit(found) for link in held.links} - plain
    return [listener for listener in master.listeners(found.pid) if listener.path in links]


def take_over(found: Unit, before: list[master.Listener], deadline: float) -> None:
    """End a master that made its sockets itself, without a gap at their paths.

    The paths lead to the held sockets by now, so nothing new arrives at the old ones. Once their
    queues are empty the master is killed: asked to stop, it would unlink the paths. systemd tells
    its workers to quit, and they finish what they have.
    """
    inodes = {listener.inode for listener in before}
    while time.monotonic() < deadline and any(
        waiting for inode, waiting in _queues().items() if inode in inodes
    ):
        time.sleep(_DRAIN_POLL_SECONDS)
    run(["systemctl", "kill", "--kill-who=main", "--signal=KILL", "--", found.service], 30)


def _queues() -> dict[int, int]:
    """Connections that wait in each listening unix socket, by inode; nothing where ss is missing."""
    if not shutil.which("ss"):
        return {}
    return sockets.parse_queues(run(["ss", "-xlH"], 20).stdout)


def clean(found: Unit) -> None:
    """Remove sockets and links that no unit has any more (a pool that was removed or renamed)."""
    known = of_unit(found)
    paths = {held.path for held in known}
    links = {link for held in known for link in held.links}
    for folder in {os.path.dirname(path) for path in paths}:
        for entry in _entries(folder):
            if entry.path not in paths and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)
        for entry in _entries(os.path.dirname(folder)):
            if entry.is_symlink() and entry.path not in links:
                if os.path.dirname(os.readlink(entry.path)) == folder:
                    os.unlink(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
