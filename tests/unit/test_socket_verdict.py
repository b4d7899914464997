# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a failure and the evidence to one cause, in words that say what to do."""

from __future__ import annotations

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import FastcgiError
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import Acl, Node, Who
from ansible_collections.webops.php_stack.plugins.module_utils.socket_verdict import CAUSES, Evidence, judge

WWW = Who("www-data", 33, frozenset([33]))
ROOT_DIR = Node("/", "directory", mode=0o755, owner="root", group="root")
RUN = Node("/run", "directory", mode=0o755, owner="root", group="root")
SOCKET = Node("/run/s.sock", "socket", 33, 33, 0o660, "www-data", "www-data")
DENIED = "permission denied for /run/s.sock (errno 13)"


def verdict(kind, message, nodes=(), is_unix=True, **evidence):
    return judge(kind, message, is_unix, WWW, Evidence(list(nodes), **evidence))


def test_every_kind_of_failure_has_a_cause_and_advice():
    kinds = FastcgiError.__doc__.split("one of:")[1].replace(".", "").replace(",", " ").split()
    assert set(kinds) == set(CAUSES)
    for kind in kinds:
        for is_unix in (True, False):
            found = verdict(kind, "it went wrong", is_unix=is_unix)
            assert found.cause == CAUSES[kind][0 if is_unix else 1]
            assert len(found.message) > len("It went wrong.") + 20
            assert found.message.endswith(".")


@pytest.mark.parametrize(
    ("node", "words", "denied_by"),
    [
        (
            Node("/home/shop", "directory", 1000, 1000, 0o700, "shop", "shop"),
            "www-data may not connect: the folder /home/shop (shop:shop 0700) stops it; www-data is neither its owner"
            " nor in its group shop, and the bits for others do not hold x. Better keep sockets in a folder of mode"
            " 0755 under /run; or allow the way in with setfacl -m u:www-data:x /home/shop.",
            {
                "path": "/home/shop",
                "kind": "mode",
                "owner": "shop",
                "group": "shop",
                "mode": "0700",
                "needs": "x",
            },
        ),
        (
            Node("/run/s.sock", "socket", 0, 82, 0o660, "root", "nginx"),
            "www-data may not connect: the socket /run/s.sock (root:nginx 0660) stops it; www-data is neither its owner"
            " nor in its group nginx, and the bits for others do not hold w. Set listen.owner, listen.group and"
            " listen.mode of the pool (SocketUser, SocketGroup, SocketMode of a socket unit) so that www-data may write,"
            " and restart (a reload does not apply them), or add www-data to the group nginx and restart its service.",
            {
                "path": "/run/s.sock",
                "kind": "mode",
                "owner": "root",
                "group": "nginx",
                "mode": "0660",
                "needs": "w",
            },
        ),
        (
            Node("/run/s.sock", "socket", 0, 0, 0o640, "root", "root", Acl(6, 4, 0, {33: 6}, {})),
            "www-data may not connect: the socket /run/s.sock (root:root 0640+) stops it; its ACL allows w to www-data,"
            " but the ACL's mask takes it away. Set the mask: setfacl -m m::rw /run/s.sock.",
            {
                "path": "/run/s.sock",
                "kind": "acl",
                "owner": "root",
                "group": "root",
                "mode": "0640",
                "needs": "w",
            },
        ),
    ],
)
def test_denied_names_the_place_the_reason_and_the_remedy(node, words, denied_by):
    found = verdict("denied", DENIED, [ROOT_DIR, RUN, node], selinux=True)
    assert (found.cause, found.message, found.denied_by) == ("socket_denied", words, denied_by)


def test_selinux_is_told_apart_only_where_it_enforces_and_all_was_read():
    found = verdict("denied", DENIED, [ROOT_DIR, RUN, SOCKET], selinux=True)
    assert found.cause == "selinux_denied"
    assert found.denied_by["kind"] == "selinux"
    assert "ausearch -m avc" in found.message
    for nodes, selinux in (([ROOT_DIR, RUN, SOCKET], False), ([ROOT_DIR, Node("/run", "unknown")], True)):
        found = verdict("denied", DENIED, nodes, selinux=selinux)
        assert (found.cause, found.denied_by) == ("socket_denied", None)
        assert "a security module" in found.message


def test_missing_tells_links_the_missing_part_and_what_is_beside_it():
    link = Node("/run/php.sock", "symlink", target="/run/php8.1.sock")
    found = verdict(
        "missing",
        "there is no /run/php.sock (errno 2)",
        [ROOT_DIR, RUN, link, RUN, Node("/run/php8.1.sock", "missing")],
        listens=False,
        neighbours=["/run/php8.2.sock"],
    )
    assert found.message == (
        "There is no /run/php.sock (errno 2). On the way, /run/php.sock is a link to /run/php8.1.sock. The first thing"
        " that is missing is /run/php8.1.sock. Start PHP-FPM, or compare this path with the pool's listen. Sockets in"
        " the same folder: /run/php8.2.sock."
    )


def test_missing_below_a_file():
    found = verdict("missing", "there is no /run/f/s (errno 20)", [ROOT_DIR, RUN, Node("/run/f", "other")])
    assert "/run/f is no directory." in found.message


def test_removed_under_a_living_listener_is_not_a_dead_pool():
    nodes = [ROOT_DIR, RUN, Node("/run/s.sock", "missing")]
    found = verdict("missing", "there is no /run/s.sock (errno 2)", nodes, listens=True)
    assert "the file was removed under it" in found.message
    assert "Start PHP-FPM" not in found.message
    found = verdict(
        "refused", "nobody listens on /run/s.sock (errno 111)", [ROOT_DIR, RUN, SOCKET], listens=True
    )
    assert "made anew by another one" in found.message
    found = verdict(
        "refused", "nobody listens on /run/s.sock (errno 111)", [ROOT_DIR, RUN, SOCKET], listens=False
    )
    assert "PHP-FPM was killed" in found.message


def test_a_hang_up_over_tcp_points_at_allowed_clients():
    assert "listen.allowed_clients" in verdict("closed", "x closes", is_unix=False).message
    assert "listen.allowed_clients" not in verdict("closed", "x closes").message
