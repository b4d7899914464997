# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may pass along a path to a socket, judged from modes and POSIX ACLs alone.

Pure: a port collects the nodes of the walk (see socket_probe.walk), this says
where a user gets stuck and why. The kernel stays the judge of whether; this
names the folder or the socket that decides.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

READ, WRITE, SEARCH = 4, 2, 1
# Tags of the entries in the attribute system.posix_acl_access (linux/posix_acl_xattr.h).
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = {_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER}
_ACL_VERSION = 2


@dataclass(frozen=True)
class Acl:
    """An extended ACL. ``users`` and ``groups`` map the named ids to permission bits (rwx as 4, 2, 1)."""

    group_obj: int
    mask: int
    other: int
    users: dict[int, int]
    groups: dict[int, int]


@dataclass(frozen=True)
class Node:
    """One inode on the way. ``kind``: directory, symlink, socket, other, missing or unknown (not readable).

    ``mode`` holds the permission bits only; ``target`` is a link's text.
    """

    path: str
    kind: str
    uid: int = 0
    gid: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    acl: Acl | None = None
    target: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.owner}:{self.group} {self.mode:04o}{'+' if self.acl else ''})"


@dataclass(frozen=True)
class Who:
    """A user as the kernel sees it: ids, and the primary and supplementary groups."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True)
class Denial:
    """The first node that does not let a user on.

    ``kind``: mode or acl. ``needs``: "x" to search a directory, "w" to connect to a socket.
    ``decided_by``: owner, group, other, named_user, named_group or mask, the entry that says no.
    ``missing_group``: the group whose members may, where joining it would help; else empty.
    """

    node: Node
    kind: str
    needs: str
    decided_by: str
    missing_group: str = ""


def parse_acl(raw: bytes) -> Acl | None:
    """Read the value of system.posix_acl_access; None for an ACL that says no more than the mode does.

    :raises ValueError: the bytes are no ACL of the version that Linux has.
    """
    if len(raw) < 4 or (len(raw) - 4) % 8 or struct.unpack_from("<I", raw)[0] != _ACL_VERSION:
        raise ValueError(f"not a POSIX ACL of version {_ACL_VERSION}: {raw[:12].hex()}…, {len(raw)} bytes")
    single: dict[int, int] = {}
    users: dict[int, int] = {}
    groups: dict[int, int] = {}
    for tag, bits, number in struct.iter_unpack("<HHI", raw[4:]):
        if tag not in _TAGS:
            raise ValueError(f"not a POSIX ACL: unknown tag {tag:#x}")
        if tag == _USER:
            users[number] = bits & 7
        elif tag == _GROUP:
            groups[number] = bits & 7
        else:
            single[tag] = bits & 7
    if _MASK not in single:
        return None
    return Acl(single.get(_GROUP_OBJ, 0), single[_MASK], single.get(_OTHER, 0), users, groups)


def refusal(node: Node, who: Who, need: int) -> str | None:
    """None when ``who`` has the permission ``need`` on the node, else the entry that says no.

    Follows the kernel: the first class that matches decides, and a named entry counts only within the mask.
    """
    if who.uid == 0:
        return None
    if who.uid == node.uid:
        return None if node.mode >> 6 & need == need else "owner"
    acl = node.acl
    # The group bits of the mode are the mask; with none of them set the kernel does not look at the ACL.
    if acl is None or not node.mode & 0o070:
        in_group = node.gid in who.gids
        bits = node.mode >> 3 if in_group else node.mode
        return None if bits & need == need else "group" if in_group else "other"
    if who.uid in acl.users:
        if acl.users[who.uid] & need != need:
            return "named_user"
        return None if acl.mask & need == need else "mask"
    entries = {gid: bits for gid, bits in acl.groups.items() if gid in who.gids}
    matching = list(entries.values()) + ([acl.group_obj] if node.gid in who.gids else [])
    if matching:
        if not any(bits & need == need for bits in matching):
            return "named_group" if entries else "group"
        return None if acl.mask & need == need else "mask"
    return None if acl.other & need == need else "other"


def find_denial(nodes: list[Node], who: Who) -> Denial | None:
    """The first directory that ``who`` may not search, or the socket that it may not write to."""
    for node in nodes:
        if node.kind not in ("directory", "socket"):
            continue
        need, letter = (SEARCH, "x") if node.kind == "directory" else (WRITE, "w")
        decided_by = refusal(node, who, need)
        if decided_by:
            kind = "acl" if node.acl and node.mode & 0o070 and decided_by != "owner" else "mode"
            return Denial(node, kind, letter, decided_by, _helpful_group(node, who, need, decided_by))
    return None


def _helpful_group(node: Node, who: Who, need: int, decided_by: str) -> str:
    """The node's group, when being in it is all that ``who`` lacks."""
    if decided_by != "other" or node.gid == 0:
        return ""
    member = Who(who.name, who.uid, who.gids | {node.gid})
    return "" if refusal(node, member, need) else node.group


def links_in_words(nodes: list[Node]) -> str:
    """The symbolic links on the way, hop by hop; empty when there are none."""
    return ", ".join(f"{node.path} is a link to {node.target}" for node in nodes if node.kind == "symlink")
