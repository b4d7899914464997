# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""socket_check reaches what nginx reaches, and tells missing, refused and denied apart."""

from __future__ import annotations

import pytest


def test_a_pool_answers_its_ping(ask, versions):
    for version in versions:
        result = ask(
            "socket_check", address=f"/run/php/shop-{version}.sock", as_user="www-data", ping_path="/ping"
        )
        assert (result["reachable"], result["probe"], result["cause"]) == (True, "ping", None), result["msg"]
        assert result["latency_seconds"]["total"] > 0


def test_a_pool_without_a_ping_path_is_asked_an_empty_request(ask, versions):
    for version in versions:
        result = ask("socket_check", address=f"/run/php/php{version}-fpm.sock", as_user="www-data")
        assert (result["reachable"], result["probe"]) == (True, "empty_request")
        assert "an empty FastCGI request" in result["msg"]


@pytest.mark.parametrize(
    ("address", "cause", "said"),
    [
        ("/run/php/php9.9-fpm.sock", "socket_missing", "/run/php/php9.9-fpm.sock"),
        ("/run/stale/fpm.sock", "socket_refused", "/run/stale/fpm.sock"),
        ("/run/closed/fpm.sock", "socket_denied", "/run/closed"),
        ("127.0.0.1:9199", "tcp_refused", "127.0.0.1:9199"),
        ("[::1]:9199", "tcp_refused", "[::1]:9199"),
    ],
)
def test_what_does_not_answer_fails_with_its_cause(ask, address, cause, said):
    result = ask("socket_check", address=address, as_user="www-data")
    assert (result["failed"], result["reachable"], result["cause"]) == (True, False, cause), result
    assert said in result["msg"]
    optional = ask("socket_check", address=address, as_user="www-data", required=False)
    assert (optional["failed"], optional["cause"]) == (False, cause)


def test_a_user_outside_of_the_group_is_denied_by_the_socket(ask, versions):
    path = f"/run/php/shop-{versions[-1]}.sock"
    result = ask("socket_check", address=path, as_user="games")
    assert (result["cause"], result["denied_by"]["path"]) == ("socket_denied", path), result
    assert "www-data" in result["msg"]
