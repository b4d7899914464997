# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools and sockets are added, changed, moved and removed while requests arrive, and none is lost."""

from __future__ import annotations

testinfra_hosts = ["ansible://php-stack-sockets-twin"]

SHOP = {"name": "shop", "version": "8.2"}
BLOG = {"name": "blog", "version": "8.2"}
OLD = {"name": "old", "version": "7.4", "listen_backlog": 200}


def site(name, pool):
    return {"name": f"{name}.example.com", "pool": pool, "check_path": "/load.php"}


SITES = [site("shop", "shop"), site("blog", "blog"), site("old", "old")]


def test_a_pool_s_size_and_php_ini_change(host, while_loaded):
    figures, _said = while_loaded(
        {
            "php_fpm_pools": [{**SHOP, "pm_max_children": 6}, BLOG, OLD],
            "nginx_php_sites": SITES,
            "php_fpm_ini": {"realpath_cache_ttl": 300},
        }
    )
    assert figures["lost"] == 0, figures["by_kind"]
    assert host.file("/etc/php/8.2/fpm/pool.d/shop.conf").contains("pm.max_children = 6")
    assert host.file("/etc/php/8.2/fpm/conf.d/99-php_stack.ini").contains("realpath_cache_ttl")


def test_what_only_fpm_refuses_changes_nothing(host, while_loaded):
    before = host.file("/etc/php/8.2/fpm/pool.d/shop.conf").content
    invalid = {**SHOP, "directives": {"rlimit_fils": "1024"}}
    figures, said = while_loaded({"php_fpm_pools": [invalid, BLOG, OLD], "nginx_php_sites": SITES}, rc=2)
    assert figures["lost"] == 0, figures["by_kind"]
    assert "unknown entry 'rlimit_fils'" in said
    assert host.file("/etc/php/8.2/fpm/pool.d/shop.conf").content == before


def test_owner_mode_backlog_and_path_of_a_socket_change(host, while_loaded):
    changed = {**SHOP, "listen": "/run/php/moved.sock", "listen_owner": "root", "listen_mode": "0666",
               "listen_backlog": 128}  # fmt: skip
    figures, _said = while_loaded({"php_fpm_pools": [changed, BLOG, OLD], "nginx_php_sites": SITES})
    assert figures["lost"] == 0, figures["by_kind"]
    held = host.file("/run/php8.2-fpm/held/shop.sock")
    assert (held.user, held.group, held.mode) == ("root", "www-data", 0o666)
    (line,) = [line for line in host.check_output("ss -xlH").splitlines() if "/held/shop.sock" in line]
    assert line.split()[3] == "128"
    assert host.file("/run/php/moved.sock").linked_to == "/run/php8.2-fpm/held/shop.sock"
    assert not host.file("/run/php8.2-fpm/shop.sock").exists


def test_a_pool_comes_another_is_renamed_and_a_third_goes(host, while_loaded):
    """The path of the test before is left here too."""
    figures, _said = while_loaded(
        {
            "php_fpm_pools": [{**SHOP, "name": "store"}, {"name": "wiki", "version": "8.2"}, OLD],
            "nginx_php_sites": [
                site("shop", "store"),
                site("wiki", "wiki"),
                site("old", "old"),
                {"name": "blog.example.com", "state": "absent"},
            ],
        }
    )
    assert figures["lost"] == 0, figures["by_kind"]
    assert sorted(host.file("/run/php8.2-fpm/held").listdir()) == ["store.sock", "wiki.sock", "www.sock"]
    assert sorted(host.file("/run/php8.2-fpm").listdir()) == ["held", "store.sock", "wiki.sock"]
    units = host.check_output("systemctl list-units --all --type=socket --no-legend --plain 'php8.2-fpm-*'")
    assert sorted(line.split()[0] for line in units.splitlines()) == [
        "php8.2-fpm-store.socket",
        "php8.2-fpm-wiki.socket",
        "php8.2-fpm-www.socket",
    ]
    assert not host.file("/run/php/moved.sock").exists


def test_a_site_moves_to_another_php_version(host, stack, while_loaded):
    figures, _said = while_loaded(
        {
            "php_fpm_pools": [{"name": "store", "version": "7.4"}, OLD],
            "nginx_php_sites": [
                site("shop", "store"),
                site("old", "old"),
                {"name": "wiki.example.com", "state": "absent"},
            ],
        }
    )
    assert figures["lost"] == 0, figures["by_kind"]
    assert host.file("/run/php7.4-fpm/held/store.sock").is_socket
    assert not host.file("/run/php8.2-fpm/held/store.sock").exists


def test_back_to_plain_listeners_one_at_another_path(host, while_loaded):
    figures, _said = while_loaded(
        {
            "php_fpm_pools": [{**SHOP, "listen": "/run/php/plain.sock"}, BLOG, OLD],
            "nginx_php_sites": SITES,
            "php_fpm_socket_activation": False,
        }
    )
    assert figures["lost"] == 0, figures["by_kind"]
    paths = ["/run/php/plain.sock", "/run/php8.2-fpm/blog.sock", "/run/php7.4-fpm/old.sock"]
    for path in paths:
        assert host.file(path).is_socket
    assert not host.file("/run/php8.2-fpm/shop.sock").exists
    assert host.check_output("systemctl list-sockets --no-legend --all '*-fpm-*'") == ""
    assert host.file("/etc/php/8.2/fpm/pool.d/shop.conf").contains("listen = /run/php/plain.sock")
    assert host.run("systemctl restart php8.2-fpm php7.4-fpm").rc == 0
    for path in paths:
        assert not host.file(path).is_symlink
        assert host.run(f"/usr/local/bin/php-fpm-probe {path}").rc == 0


def test_from_plain_listeners_to_held_sockets(host, while_loaded):
    """As in the first run on a host: one pool's path changes, the others' stay."""
    figures, _said = while_loaded({"php_fpm_pools": [SHOP, BLOG, OLD], "nginx_php_sites": SITES})
    assert figures["lost"] == 0, figures["by_kind"]
    for version, pool in (("8.2", "shop"), ("8.2", "blog"), ("7.4", "old")):
        assert (
            host.file(f"/run/php{version}-fpm/{pool}.sock").linked_to
            == f"/run/php{version}-fpm/held/{pool}.sock"
        )
