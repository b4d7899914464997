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

from fpm_reload import config, master, sockets
from fpm_reload.outcome import RELOAD_FAILED, Failure
from fpm_reload.unit import Unit, parse_show, run

_RUNTIME = "/run/systemd/system"
_TABLES = "/etc/php_stack"
_GIVEN = ".given"
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


def reopen(found: Unit) -> list[str]:
    """Make anew what is missing of the sockets that are in use; returns their paths."""
    in_use = {listener.path for listener in master.listeners(found.pid)} if found.running else set()
    in_use |= {held.path for held in of_unit(found) if held.open}
    # The folders too may have been removed or closed.
    run(["systemd-tmpfiles", "--create", f"/etc/tmpfiles.d/php_stack-{found.name}.conf"], 30)
    return open_sockets(found, in_use)


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
        # A socket unit that somebody has stopped is wanted off.
        if not (held.open and held.in_place):
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
    try:
        os.rename(beside, link)
    except IsADirectoryError:
        os.unlink(beside)
        return False
    return True


def _mend_rights(held: Held) -> bool:
    try:
        target = sockets.Wanted(
            pwd.getpwnam(held.user).pw_uid if held.user else None,
            grp.getgrnam(held.group).gr_gid if held.group else None,
            held.mode,
        )
    except KeyError:
        # The user of a pool that is about to go may have gone already.
        return False
    pinned = os.open(held.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return sockets.apply(pinned, target)
    finally:
        os.close(pinned)


def table_file(name: str) -> str:
    """What php-fpm-activate reads: the pools whose sockets systemd holds, and the names that they get."""
    return f"{_TABLES}/{name}.sockets"


def wanted_names(name: str) -> set[str]:
    """The names under which the next master of the service gets held sockets."""
    try:
        with open(table_file(name), encoding="utf-8") as handle:
            rows = [line.split() for line in handle if not line.startswith("#")]
    except (OSError, ValueError):
        return set()
    return {row[1] for row in rows if len(row) == 3}


def _given(held: list[Held]) -> set[str]:
    """The names under which the running master has got its sockets; empty where that is not known."""
    found: set[str] = set()
    for folder in {os.path.dirname(os.path.dirname(one.path)) for one in held}:
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/{_GIVEN}", encoding="utf-8") as handle:
            found |= {line.strip() for line in handle}
    return found


def make_way(found: Unit, settings: config.Settings) -> None:
    """Remove links to held sockets from paths at which FPM is to make a socket itself.

    So it is after a change to held sockets that failed and was taken back: FPM would find the path in use.
    """
    sockets_of_units = {held.path for held in of_unit(found)}
    inherited = wanted_names(found.name)
    for pool in settings.pools:
        if pool.listen.startswith("/") and pool.listen not in inherited:
            with contextlib.suppress(OSError):
                if os.readlink(pool.listen) in sockets_of_units:
                    os.unlink(pool.listen)


def restart_reasons(found: Unit) -> list[str]:
    """Held sockets that the running master does not have, or not by their name: it gets them only when it starts."""
    mine = {listener.inode for listener in master.listeners(found.pid)}
    missing = {
        entry.path
        for entry in master.kernel_sockets(found.pid)
        if entry.listening and entry.path and entry.inode not in mine
    }
    known = of_unit(found)
    reasons = [f"{held.unit} is not with PHP-FPM yet" for held in known if held.path in missing]
    if known and not reasons:
        reasons = [
            f"PHP-FPM has no socket as {name} yet"
            for name in sorted(wanted_names(found.name) - _given(known))
        ]
    return reasons


def backlogs(found: Unit) -> dict[str, int]:
    """The backlog that each held socket is to have, by path."""
    return {held.path: held.backlog for held in of_unit(found) if held.backlog > 0}


def own_listeners(found: Unit, plain: set[str]) -> list[master.Listener]:
    """Sockets that the running master made itself at a path that now belongs to a held socket."""
    taken = set(links(found)) - plain
    return [listener for listener in master.listeners(found.pid) if listener.path in taken]


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


def links(found: Unit) -> dict[str, str]:
    """The paths that lead to held sockets, each with its socket's."""
    return {link: held.path for held in of_unit(found) for link in held.links}


def clean(found: Unit, before: dict[str, str], plain: set[str]) -> dict[str, str]:
    """Remove sockets and links that were a unit's and are none's any more (a pool removed, renamed or moved).

    :param before: of `links`, at the reload before this one.
    :param plain: paths of FPM's configuration. A master that goes on without systemd has the socket behind a link
        there until it ends.
    :returns: `links` as they are now.
    """
    now = links(found)
    kept = {*now.values(), *(listener.path for listener in master.listeners(found.pid))}
    for link, path in before.items():
        with contextlib.suppress(OSError):
            if link not in now and link not in plain and os.readlink(link) == path:
                os.unlink(link)
        with contextlib.suppress(OSError):
            if path not in kept and stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
    return now
