# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of socket_check: users, the walk of a path, /proc, and a connection made as another user."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import select
import signal
import stat
import time
from typing import Any, Callable

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import Acl, Node, Who, parse_acl

# The kernel's own limit on nested links (man 7 path_resolution).
_MAX_LINKS = 40
_ACL_ATTRIBUTE = "system.posix_acl_access"
_LISTENING = 1 << 16  # __SO_ACCEPTCON in the flags of /proc/net/unix
_MAX_NEIGHBOURS = 8


def current_user() -> Who:
    """The user that this process runs as, with its groups."""
    return Who(_name_of_user(os.geteuid()), os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def find_user(name: str) -> Who:
    """A user by name or number, with its primary and supplementary groups.

    :raises StackError: there is no such user.
    """
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise StackError(f"as_user: there is no user {name!r} on this host.") from None
    return Who(entry.pw_name, entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# -- the path -------------------------------------------------------------------------------------


def walk(host: Host, path: str) -> list[Node]:
    """Every inode that the kernel meets on the way to ``path``, links included, in its order.

    The last node is the socket, or what stands in the way: missing, other or unknown.
    """
    nodes = [_node(host, "/")]
    todo = _parts(path)
    here = "/"
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            here = os.path.dirname(here)
            continue
        node = _node(host, os.path.join(here, part))
        nodes.append(node)
        if node.kind == "symlink":
            links += 1
            if links > _MAX_LINKS:
                return nodes
            todo = _parts(node.target) + todo
            here = "/" if node.target.startswith("/") else here
            continue
        if node.kind != "directory":
            return nodes
        here = node.path
    return nodes


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _node(host: Host, path: str) -> Node:
    try:
        found = host.lstat(path)
        target = host.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
    except OSError as error:
        return Node(path, "missing" if error.errno == errno.ENOENT else "unknown")
    kind = "other"
    for name, test in (("directory", stat.S_ISDIR), ("symlink", stat.S_ISLNK), ("socket", stat.S_ISSOCK)):
        if test(found.st_mode):
            kind = name
    return Node(
        path,
        kind,
        found.st_uid,
        found.st_gid,
        stat.S_IMODE(found.st_mode) & 0o777,
        _name_of_user(found.st_uid),
        _name_of_group(found.st_gid),
        None if kind == "symlink" else _acl(host.real(path)),
        target,
    )


def _acl(path: str) -> Acl | None:
    try:
        return parse_acl(os.getxattr(path, _ACL_ATTRIBUTE))
    except (OSError, ValueError):
        # No ACL, or a file system that has none.
        return None


def neighbours(host: Host, nodes: list[Node]) -> list[str]:
    """The sockets in the folder where the walk met its first missing name, a few at most."""
    if nodes[-1].kind != "missing":
        return []
    folder = os.path.dirname(nodes[-1].path)
    paths = [os.path.join(folder, name) for name in host.listdir(folder)]
    return [path for path in paths if host.is_socket(path)][:_MAX_NEIGHBOURS]


def has_listener(host: Host, path: str) -> bool | None:
    """Whether a socket of this network namespace listens under that path; None where /proc does not tell."""
    try:
        table = host.read_text("/proc/net/unix")
    except OSError:
        return None
    for line in table.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & _LISTENING and fields[7] == path:
            return True
    return False


def selinux_enforces(host: Host) -> bool:
    try:
        return host.read_bytes("/sys/fs/selinux/enforce").strip() == b"1"
    except OSError:
        return False


# -- another user's eyes --------------------------------------------------------------------------


def run_as(who: Who, action: Callable[[], dict[str, Any]], timeout: float) -> dict[str, Any]:
    """Call ``action`` in a child process that is ``who`` for good, and return what it returns.

    The kernel's answers in there are the ones that ``who`` gets. A process that is ``who`` already
    keeps the groups that it has.

    :param action: returns something that JSON can hold; an exception in it is a StackError here.
    :raises StackError: this process may not become that user, or the child did not end in time.
    """
    become = os.geteuid() != who.uid or (os.geteuid() == 0 and who.gids != current_user().gids)
    if become and os.geteuid() != 0:
        raise StackError(
            f"Only root can connect as {who.name}, and the module runs as {current_user().name}:"
            " set become: true, or leave out as_user."
        )
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(who if become else None, action, writing)
    os.close(writing)
    try:
        answer = _read_all(reading, timeout)
    finally:
        os.close(reading)
        # Harmless when it has ended: it is not yet waited for, so the number is still its own.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer:
        raise StackError(f"The check as {who.name} did not end within {timeout:g} s.")
    result: dict[str, Any] = json.loads(answer)
    if "failed" in result:
        raise StackError(f"The check as {who.name} failed: {result['failed']}")
    return result


def _in_child(who: Who | None, action: Callable[[], dict[str, Any]], writing: int) -> None:
    try:
        if who is not None:
            primary = pwd.getpwuid(who.uid).pw_gid
            os.setgroups(sorted(who.gids))
            os.setresgid(primary, primary, primary)
            os.setresuid(who.uid, who.uid, who.uid)
        answer = action()
    except BaseException as error:
        # Nothing may unwind into a second copy of the caller.
        answer = {"failed": f"{type(error).__name__}: {error}"}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(writing, data) :]
    os._exit(0)


def _read_all(descriptor: int, timeout: float) -> bytes:
    """Everything until the other end closes; nothing when that takes longer than ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    data = b""
    while True:
        ready = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready[0]:
            return b""
        piece = os.read(descriptor, 65536)
        if not piece:
            return data
        data += piece
