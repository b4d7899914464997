# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reload leaves undone on sockets that are open already, and how it is made up for.

FPM applies listen.owner, listen.group, listen.mode and listen.backlog only to a
socket that it opens itself. Owner, group and mode can be set on the live socket
just as FPM would, which costs no request. A backlog and an ACL need a restart.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from dataclasses import dataclass

from fpm_reload import probe
from fpm_reload.config import Pool, Settings
from fpm_reload.master import Listener
from fpm_reload.unit import run


@dataclass(frozen=True)
class Wanted:
    """Owner, group and permissions that FPM would give a new socket; None: those that it has."""

    uid: int | None
    gid: int | None
    mode: int | None


def wanted(pool: Pool) -> Wanted:
    """:raises KeyError: for a user or group that does not exist (which fails the configuration test)."""
    uid = gid = None
    if pool.owner is not None:
        uid = int(pool.owner) if pool.owner.isdigit() else pwd.getpwnam(pool.owner).pw_uid
    if pool.group is not None:
        gid = int(pool.group) if pool.group.isdigit() else grp.getgrnam(pool.group).gr_gid
    return Wanted(uid, gid, int(pool.mode, 8) if pool.mode else 0o660)


def of_pools(settings: Settings, listeners: list[Listener]) -> list[tuple[Pool, Listener]]:
    """Pools with the open socket that bears their own path; sockets held by systemd have another name."""
    by_path = {listener.path: listener for listener in listeners if listener.path}
    return [(pool, by_path[pool.listen]) for pool in settings.pools if pool.listen in by_path]


def parse_backlogs(text: str) -> dict[int, int]:
    """The backlog of each listening unix socket, by inode, from ``ss -xlH``."""
    return _column(text, 3)


def parse_queues(text: str) -> dict[int, int]:
    """How many connections wait in each listening unix socket, by inode, from ``ss -xlH``."""
    return _column(text, 2)


def _column(text: str, number: int) -> dict[int, int]:
    found = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 6 and parts[1] == "LISTEN" and parts[number].isdigit() and parts[-3].isdigit():
            found[int(parts[-3])] = int(parts[number])
    return found


def backlog_reasons(pairs: list[tuple[Pool, Listener]], live: dict[int, int], somaxconn: int) -> list[str]:
    """Sockets whose live backlog is not the configured one (-1 means the system's limit)."""
    reasons = []
    for pool, listener in pairs:
        if pool.backlog is None or listener.inode not in live:
            continue
        limit = somaxconn if pool.backlog < 0 else min(pool.backlog, somaxconn)
        if live[listener.inode] != limit:
            reasons.append(
                f"listen.backlog of {pool.name} is {live[listener.inode]} live and {limit} in the file"
            )
    return reasons


def restart_reasons(settings: Settings, listeners: list[Listener], held: dict[str, int]) -> list[str]:
    """What only a restart applies to the sockets that are open now.

    :param held: the backlog of sockets that systemd holds, by path.
    """
    pairs = [pair for pair in of_pools(settings, listeners) if pair[0].backlog is not None]
    pairs += [
        (Pool(os.path.basename(listener.path), listener.path, backlog=held[listener.path]), listener)
        for listener in listeners
        if listener.path in held
    ]
    if not pairs:
        return []
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as handle:
            somaxconn = int(handle.read())
        live = parse_backlogs(run(["ss", "-xlH"], 20).stdout)
    except Exception:  # without ss the backlog is unknown, and that is no reason to restart
        return []
    return backlog_reasons(pairs, live, somaxconn)


def mend(pid: int, settings: Settings, listeners: list[Listener]) -> list[str]:
    """Give live sockets the owner, group and mode of the configuration; returns what was changed.

    The folder may belong to a web user, who could put something else in the socket's
    place. So the file is pinned first, and touched only when this master listens on it.
    """
    changed = []
    for pool, listener in of_pools(settings, listeners):
        if pool.acl:
            continue
        target = wanted(pool)
        try:
            pinned = probe.open_path(pid, listener.path)
        except OSError:
            continue
        try:
            if _is_ours(pinned, pid) and apply(pinned, target):
                changed.append(listener.path)
        finally:
            os.close(pinned)
    return changed


def _is_ours(pinned: int, pid: int) -> bool:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(f"/proc/self/fd/{pinned}")
        return probe.listening_pid(sock) == pid
    except OSError:
        return False
    finally:
        sock.close()


def apply(pinned: int, target: Wanted) -> bool:
    """Give the file behind an O_PATH descriptor its owner, group and mode; True where it had others."""
    seen = os.fstat(pinned)
    uid = seen.st_uid if target.uid is None else target.uid
    gid = seen.st_gid if target.gid is None else target.gid
    mode = stat.S_IMODE(seen.st_mode) if target.mode is None else target.mode
    if (uid, gid, mode) == (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)):
        return False
    handle = f"/proc/self/fd/{pinned}"
    os.chown(handle, uid, gid)
    os.chmod(handle, mode)
    return True
