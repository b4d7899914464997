# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modes and ACLs along a path, and what is said about them. The kernel is the oracle in tests/integration."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import (
    SEARCH,
    WRITE,
    Acl,
    Denial,
    Node,
    Who,
    find_denial,
    links_in_words,
    parse_acl,
    refusal,
)
from hypothesis import given
from hypothesis import strategies as st

WWW = Who("www-data", 33, frozenset([33]))
ROOT = Who("root", 0, frozenset([0]))

# Read with os.getxattr after `setfacl -m u:33:rw,g:100:r,m::rw` on a file of mode 0640.
REAL_ACL = bytes.fromhex(
    "0200000001000600ffffffff020006002100000004000400ffffffff080004006400000010000600ffffffff20000000ffffffff"
)


def directory(path, mode, uid=0, gid=0, acl=None):
    return Node(path, "directory", uid, gid, mode, str(uid), str(gid), acl)


def sock(mode, uid=0, gid=0, acl=None):
    return Node("/run/s.sock", "socket", uid, gid, mode, str(uid), str(gid), acl)


def test_an_acl_is_read_from_the_kernels_bytes():
    assert parse_acl(REAL_ACL) == Acl(group_obj=4, mask=6, other=0, users={33: 6}, groups={100: 4})


def test_an_acl_without_a_mask_says_no_more_than_the_mode():
    minimal = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 6, 0xFFFFFFFF) for tag in (1, 4, 0x20))
    assert parse_acl(minimal) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "version 2"),
        (b"\1\0\0\0", "version 2"),
        (REAL_ACL[:-1], "version 2"),
        (struct.pack("<IHHI", 2, 0x40, 7, 0), "unknown tag 0x40"),
    ],
)
def test_bytes_that_are_no_acl(raw, words):
    with pytest.raises(ValueError, match=words):
        parse_acl(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_acl_or_a_value_error(raw):
    try:
        assert parse_acl(raw) is None or isinstance(parse_acl(raw), Acl)
    except ValueError as error:
        assert "not a POSIX ACL" in str(error)


@pytest.mark.parametrize(
    ("node", "who", "need", "decided_by"),
    [
        (sock(0o660, 33, 0), WWW, WRITE, None),
        (sock(0o660, 0, 33), WWW, WRITE, None),
        (sock(0o666), WWW, WRITE, None),
        (sock(0o660), WWW, WRITE, "other"),
        (sock(0o000), ROOT, WRITE, None),
        # The first class that matches decides, even against the user.
        (sock(0o066, 33, 33), WWW, WRITE, "owner"),
        (sock(0o606, 0, 33), WWW, WRITE, "group"),
        (sock(0o640, 0, 33), WWW, WRITE, "group"),
        (directory("/d", 0o710, 0, 33), WWW, SEARCH, None),
        (directory("/d", 0o740, 0, 33), WWW, SEARCH, "group"),
        (directory("/d", 0o700), WWW, SEARCH, "other"),
        # With an ACL the group bits of the mode are the mask.
        (sock(0o660, acl=Acl(0, 6, 0, {33: 6}, {})), WWW, WRITE, None),
        (sock(0o640, acl=Acl(4, 4, 0, {33: 6}, {})), WWW, WRITE, "mask"),
        (sock(0o660, acl=Acl(6, 6, 6, {33: 4}, {})), WWW, WRITE, "named_user"),
        (sock(0o660, acl=Acl(0, 6, 0, {}, {33: 6})), WWW, WRITE, None),
        (sock(0o666, acl=Acl(6, 6, 6, {}, {33: 4})), WWW, WRITE, "named_group"),
        (sock(0o666, acl=Acl(6, 4, 6, {}, {33: 6})), WWW, WRITE, "mask"),
        (sock(0o666, 0, 33, Acl(4, 6, 6, {1: 6}, {})), WWW, WRITE, "group"),
        # One of several groups is enough.
        (sock(0o666, acl=Acl(0, 6, 0, {}, {33: 4, 5: 6})), Who("u", 9, frozenset([33, 5])), WRITE, None),
        (sock(0o666, acl=Acl(6, 6, 6, {1: 0}, {})), WWW, WRITE, None),
        (sock(0o660, acl=Acl(6, 6, 0, {1: 6}, {})), WWW, WRITE, "other"),
        # A mask of nothing: the kernel looks at the mode alone.
        (sock(0o606, acl=Acl(0, 0, 6, {33: 0}, {})), WWW, WRITE, None),
        (sock(0o600, 33, acl=Acl(6, 0, 0, {}, {})), WWW, WRITE, None),
    ],
)
def test_the_entry_that_says_no(node, who, need, decided_by):
    assert refusal(node, who, need) == decided_by


def test_the_first_node_that_denies_is_named():
    home = directory("/home/shop", 0o700, 1000, 1000)
    nodes = [directory("/", 0o755), directory("/home", 0o755), home, sock(0o600)]
    assert find_denial(nodes, WWW) == Denial(home, "mode", "x", "other", "")
    assert find_denial(nodes, ROOT) is None
    assert find_denial(nodes[:2], WWW) is None


def test_the_group_to_join_is_named_only_where_it_helps():
    assert find_denial([sock(0o660, 0, 82)], WWW).missing_group == "82"
    assert find_denial([sock(0o640, 0, 82)], WWW).missing_group == ""
    assert find_denial([sock(0o660, 0, 0)], WWW).missing_group == "", "nobody is to join the group root"
    assert find_denial([sock(0o626, 0, 33, Acl(0, 2, 6, {}, {}))], WWW).missing_group == ""


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (sock(0o640, acl=Acl(4, 4, 0, {33: 6}, {})), "acl"),
        (sock(0o600, acl=Acl(0, 0, 0, {33: 6}, {})), "mode"),
        (sock(0o066, 33, acl=Acl(6, 6, 6, {}, {})), "mode"),
        (sock(0o660), "mode"),
    ],
)
def test_acl_or_mode(node, kind):
    assert find_denial([node], WWW).kind == kind


@given(st.integers(0, 0o777), st.integers(0, 3), st.integers(0, 3), st.sampled_from([SEARCH, WRITE]))
def test_without_an_acl_exactly_one_class_decides(mode, uid, gid, need):
    who = Who("u", 1, frozenset([2]))
    node = Node("/x", "directory", uid, gid, mode)
    shift = 6 if uid == 1 else 3 if gid == 2 else 0
    assert (refusal(node, who, need) is None) == bool(mode >> shift & need)


def test_links_are_told_hop_by_hop():
    nodes = [Node("/a", "symlink", target="/b"), directory("/c", 0o755), Node("/b", "symlink", target="c/d")]
    assert links_in_words(nodes) == "/a is a link to /b, /b is a link to c/d"
    assert links_in_words([]) == ""
    assert str(directory("/d", 0o750, acl=Acl(0, 0, 0, {}, {}))) == "/d (0:0 0750+)"
