# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: a clear error, nothing changed, and the site goes on answering."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://php-stack-default-stock"]

SHOP = {"name": "shop", "pm_max_children": 12, "request_timeout": 30}
BLOG = {"name": "blog", "pm": "ondemand"}
SITES = [
    {
        "name": "shop.example.com",
        "pool": "shop",
        "root": "/srv/shop",
        "check_path": "/index.php",
        "long_routes": [{"path": "/export", "timeout": 300}],
    },
    {"name": "blog.example.com", "pool": "blog", "root": "/srv/shop", "check_path": "/index.php"},
]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"php_fpm_pools": [{**SHOP, "directives": {"bogus": "1"}}, BLOG]}, "unknown entry 'bogus'"),
        (
            {"php_fpm_pools": [{**SHOP, "user": "nobody-at-all"}, BLOG]},
            "cannot get uid for user 'nobody-at-all'",
        ),
        ({"nginx_php_sites": [{**SITES[0], "extra": "bogus on;"}, SITES[1]]}, 'unknown directive "bogus"'),
    ],
    ids=["unknown FPM directive", "missing user", "unknown nginx directive"],
)
def test_what_a_validator_rejects_is_put_back(host, harden, tree, get, variables, words):
    before, pid = tree(), host.check_output("systemctl show -P MainPID php8.2-fpm")
    done = harden(variables)
    assert done.returncode != 0
    assert words in done.stdout.replace('\\"', '"') + done.stderr
    assert tree() == before
    assert host.check_output("systemctl show -P MainPID php8.2-fpm") == pid
    assert get() == 200


def test_five_mistakes_are_reported_at_once_and_change_nothing(harden, tree, get):
    before = tree()
    done = harden(
        {
            "php_fpm_pools": [
                {**SHOP, "pm": "dynamicc"},
                BLOG,
                {"name": "docs", "listen": "/run/x.sock", "pm_max_children": 5, "pm_start_servers": 9},
                {"name": "wiki", "listen": "/run/x.sock"},
                {"name": "old", "version": "5.2"},
            ],
            "nginx_php_sites": [{**SITES[0], "pool": "nope"}, SITES[1]],
        }
    )
    assert done.returncode != 0
    for words in (
        "5 mistakes",
        "php_fpm_pools[0] (shop): pm: 'dynamicc' is unknown",
        "are out of relation",
        "php_fpm_pools[3] (wiki): listens on /run/x.sock, as pool docs does",
        "PHP 5.2 is neither installed nor offered",
        "pool 'nope' is not in php_fpm_pools",
    ):
        assert words in done.stdout + done.stderr
    assert tree() == before
    assert get() == 200


def test_a_dead_service_is_not_a_green_run(host, harden, get):
    """A file that is not ours keeps FPM from starting: the run must say so, although it changes nothing itself."""
    host.check_output("echo '[broken' > /etc/php/8.2/fpm/pool.d/zz-foreign.conf")
    host.run("systemctl stop php8.2-fpm")
    try:
        done = harden()
        assert done.returncode != 0
        assert host.file("/etc/php/8.2/fpm/pool.d/zz-foreign.conf").exists
    finally:
        host.check_output("rm /etc/php/8.2/fpm/pool.d/zz-foreign.conf")
    done = harden()
    assert done.returncode == 0, done.stdout
    assert get() == 200


def test_check_mode_on_the_hardened_host_changes_nothing(harden, tree):
    before = tree()
    done = harden({"php_fpm_pools": [{**SHOP, "pm_max_children": 3}, BLOG]}, "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert "+pm.max_children = 3" in done.stdout
    assert tree() == before
