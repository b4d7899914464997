# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of socket_check on this machine: the walk, /proc/net/unix, the child process."""

from __future__ import annotations

import os
import socket
import time

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import socket_probe
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_check import Request, check
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import Who

ME = socket_probe.current_user()


@pytest.fixture
def tree(tmp_path):
    """A folder with a listening socket, links to it in several ways, and a file."""
    (tmp_path / "run").mkdir(mode=0o750)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/run/s.sock")
    listener.listen()
    os.chmod(f"{tmp_path}/run/s.sock", 0o640)
    (tmp_path / "abs").symlink_to(f"{tmp_path}/rel")
    (tmp_path / "rel").symlink_to("run/../run/./s.sock")
    (tmp_path / "dangling").symlink_to("run/none/s.sock")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    yield tmp_path
    listener.close()


def steps(tree, name):
    """Names and kinds of the nodes inside the tree."""
    nodes = socket_probe.walk(Host(), f"{tree}/{name}")
    return [
        (os.path.relpath(node.path, tree), node.kind) for node in nodes if node.path.startswith(f"{tree}/")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("run/s.sock", [("run", "directory"), ("run/s.sock", "socket")]),
        ("run//./../run/s.sock", [("run", "directory"), ("run", "directory"), ("run/s.sock", "socket")]),
        ("file/x", [("file", "other")]),
        ("none/x", [("none", "missing")]),
        ("dangling", [("dangling", "symlink"), ("run", "directory"), ("run/none", "missing")]),
        (
            "abs",
            [
                ("abs", "symlink"),
                ("rel", "symlink"),
                ("run", "directory"),
                ("run", "directory"),
                ("run/s.sock", "socket"),
            ],
        ),
        ("loop", [("loop", "symlink")] * 41),
    ],
)
def test_the_walk_meets_what_the_kernel_meets(tree, name, expected):
    assert steps(tree, name) == expected


def test_a_node_has_its_owner_and_mode(tree):
    node = socket_probe.walk(Host(), f"{tree}/run/s.sock")[-1]
    assert (node.kind, node.uid, node.mode, node.acl) == ("socket", os.geteuid(), 0o640, None)
    assert node.owner == ME.name


def test_a_listener_is_known_by_its_path(tree):
    assert socket_probe.has_listener(Host(), f"{tree}/run/s.sock") is True
    os.unlink(tree / "run/s.sock")
    assert socket_probe.has_listener(Host(), f"{tree}/run/s.sock") is True
    assert socket_probe.has_listener(Host(), f"{tree}/other.sock") is False
    assert socket_probe.has_listener(Host(str(tree)), "/run/s.sock") is None


def test_sockets_beside_a_missing_one(tree):
    walk = socket_probe.walk(Host(), f"{tree}/run/typo.sock")
    assert socket_probe.neighbours(Host(), walk) == [f"{tree}/run/s.sock"]
    assert socket_probe.neighbours(Host(), socket_probe.walk(Host(), f"{tree}/run/s.sock")) == []


def test_selinux_enforces_only_where_its_file_says_1(tmp_path):
    assert socket_probe.selinux_enforces(Host(str(tmp_path))) is False
    (tmp_path / "sys/fs/selinux").mkdir(parents=True)
    for text, expected in (("0", False), ("1", True)):
        (tmp_path / "sys/fs/selinux/enforce").write_text(text)
        assert socket_probe.selinux_enforces(Host(str(tmp_path))) is expected


def test_the_child_answers_and_its_errors_come_back():
    assert socket_probe.run_as(ME, lambda: {"pid": os.getpid()}, 5)["pid"] != os.getpid()
    with pytest.raises(StackError, match="ZeroDivisionError"):
        socket_probe.run_as(ME, lambda: {"x": 1 // 0}, 5)
    big = "x" * 1_000_000
    assert socket_probe.run_as(ME, lambda: {"big": big}, 5) == {"big": big}


def test_a_child_that_hangs_is_ended():
    started = time.monotonic()
    with pytest.raises(StackError, match=r"did not end within 0\.2 s"):
        socket_probe.run_as(ME, lambda: {"x": time.sleep(30)}, 0.2)
    assert time.monotonic() - started < 5


def test_an_unknown_user_is_named():
    with pytest.raises(StackError, match="no user 'no-such-user'"):
        socket_probe.find_user("no-such-user")
    assert socket_probe.find_user("0").name == "root"
    assert socket_probe.find_user("root").uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_child_is_the_user_with_its_groups_and_nothing_else():
    who = Who("nobody", socket_probe.find_user("nobody").uid, frozenset([1, 2]))
    seen = socket_probe.run_as(who, lambda: {"ids": [*os.getresuid()], "groups": sorted(os.getgroups())}, 5)
    assert seen == {"ids": [who.uid] * 3, "groups": [1, 2]}
    # And from there nobody else.
    with pytest.raises(StackError, match="Only root can connect as root, and the module runs as nobody"):
        socket_probe.run_as(who, lambda: socket_probe.run_as(Who("root", 0, frozenset()), dict, 5), 5)


def test_a_failure_is_tried_again_and_explained(tree):
    result = check(Host(), Request(Address.parse(f"{tree}/run/typo.sock"), ME, retries=2, delay=0.0))
    assert (result["reachable"], result["cause"], result["attempts"]) == (False, "socket_missing", 3)
    assert f"{tree}/run/s.sock" in result["msg"]
    result = check(Host(), Request(Address.parse("/" + "x" * 200), ME, retries=2, delay=0.0))
    assert (result["cause"], result["attempts"]) == ("path_too_long", 1)


def test_silence_is_a_read_timeout(tree):
    result = check(Host(), Request(Address.parse(f"{tree}/abs"), ME, read_timeout=0.1))
    assert (result["cause"], result["socket"]["path"]) == ("read_timeout", f"{tree}/run/s.sock")
