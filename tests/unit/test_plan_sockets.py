# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets systemd holds for a version, before and after nginx has changed over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.stack_plan import PlanError, plan

ROOT = Path(__file__).resolve().parents[2]


def on_host(name, path, managed=True, version="8.2", **listen):
    return {
        "name": name,
        "version": version,
        "layout": "debian",
        "managed": managed,
        "file": f"/etc/php/{version}/fpm/pool.d/{name}.conf",
        "listen": {
            "address": f"unix:{path}", "kind": "unix", "path": path, "acl_users": [], "owner": "www-data",
            "group": "www-data", "mode": "0660", "backlog": -1, "socket_unit": None, **listen,
        },
    }  # fmt: skip


def planned(pools, host_pools=(), prune=False, activation=True, **options):
    options.setdefault("default_version", "8.2")
    return plan(pools, socket_activation=activation, prune=prune, host_pools=host_pools, **options)


def sockets(result, version="8.2"):
    (found,) = [item for item in result["versions"] if item["version"] == version]
    return {item["pool"]: item for item in found["sockets"]}


def directives(result, pool="shop"):
    (found,) = [item for item in result["pools"] if item["name"] == pool]
    return {row["name"]: row["value"] for row in found["directives"]}


def paths(result, part):
    return [file["path"] for file in result[part]["files"] if file.get("state") != "absent"]


def test_a_held_pool_has_a_unit_a_link_and_a_name_that_is_no_path():
    result = planned([{"name": "shop", "listen_backlog": 300, "listen_mode": "0666"}])
    assert sockets(result) == {
        "shop": {
            "pool": "shop",
            "unit": "php8.2-fpm-shop.socket",
            "path": "/run/php8.2-fpm/held/shop.sock",
            "listen_name": "/run/php8.2-fpm/.inherited-shop",
            "listen": "/run/php8.2-fpm/.inherited-shop",
            "links": ["/run/php8.2-fpm/shop.sock"],
            "user": "www-data",
            "group": "www-data",
            "mode": "0666",
            "backlog": 300,
            "guest": False,
        }
    }
    written = directives(result)
    assert written["listen"] == "/run/php8.2-fpm/.inherited-shop"
    # They are the unit's; FPM would apply them to a file that is not there.
    assert not {"listen.owner", "listen.group", "listen.mode", "listen.backlog"} & set(written)


def test_nginx_is_given_the_socket_beside_the_link_once_it_is_there():
    plain = [on_host("shop", "/run/php8.2-fpm/shop.sock")]
    held = [on_host("shop", "/run/php8.2-fpm/shop.sock", socket_unit="php8.2-fpm-shop.socket")]
    (before,) = planned([{"name": "shop"}], plain)["upstreams"]
    (after,) = planned([{"name": "shop"}], held)["upstreams"]
    assert before["addresses"] == ["unix:/run/php8.2-fpm/shop.sock"]
    assert after["addresses"] == ["unix:/run/php8.2-fpm/shop.sock", "unix:/run/php8.2-fpm/held/shop.sock"]


@pytest.mark.parametrize(
    ("pool", "activation"),
    [({"listen": "127.0.0.1:9000"}, True), ({}, False)],
    ids=["TCP", "switched off"],
)
def test_other_pools_listen_themselves(pool, activation):
    result = planned([{"name": "shop", **pool}], activation=activation)
    assert sockets(result) == {}
    assert directives(result)["listen"] == pool.get("listen", "/run/php8.2-fpm/shop.sock")
    assert not [path for path in paths(result, "systemd") if path.endswith(".socket")]
    assert len(result["upstreams"][0]["addresses"]) == 1


def test_a_long_route_s_pool_has_a_socket_of_its_own():
    site = {
        "name": "a.example.com",
        "pool": "shop",
        "root": "/srv",
        "long_routes": [{"path": "/x", "timeout": 600}],
    }
    result = planned([{"name": "shop"}], sites=[site])
    assert {name: socket["unit"] for name, socket in sockets(result).items()} == {
        "shop": "php8.2-fpm-shop.socket",
        "shop-600s": "php8.2-fpm-shop-600s.socket",
    }
    units = paths(result, "systemd")
    assert len(units) == len(set(units))


def test_each_version_has_its_own_sockets():
    result = planned([{"name": "a", "version": "7.4"}, {"name": "b"}])
    assert list(sockets(result, "7.4")) == ["a"]
    assert list(sockets(result, "8.2")) == ["b"]


def test_a_path_that_a_pool_leaves_stays_until_nginx_has_changed_over():
    host_pools = [on_host("shop", "/run/php/old.sock")]
    before = planned([{"name": "shop"}], host_pools)
    after = planned([{"name": "shop"}], host_pools, prune=True)
    assert sockets(before)["shop"]["links"] == ["/run/php8.2-fpm/shop.sock", "/run/php/old.sock"]
    assert sockets(after)["shop"]["links"] == ["/run/php8.2-fpm/shop.sock"]


def test_pools_that_nobody_described_are_held_with_the_others():
    host_pools = [on_host("www", "/run/php/php8.2-fpm.sock", managed=False, backlog=64, mode="0600")]
    for prune in (False, True):
        result = planned([{"name": "shop"}], host_pools, prune)
        www = sockets(result)["www"]
        assert (www["guest"], www["links"], www["mode"], www["backlog"]) == (
            True, ["/run/php/php8.2-fpm.sock"], "0600", 64,
        )  # fmt: skip
        assert "/etc/php/8.2/fpm/pool.d/zz-php_stack-sockets.conf" in paths(result, "fpm")


def test_a_pool_with_access_lists_keeps_its_own_socket():
    """A socket unit has no setting for them."""
    host_pools = [on_host("www", "/run/php/php8.2-fpm.sock", managed=False, acl_users=["nginx"])]
    assert list(sockets(planned([{"name": "shop"}], host_pools))) == ["shop"]


def test_a_pool_that_goes_is_held_until_nginx_has_changed_over():
    host_pools = [on_host("blog", "/run/php8.2-fpm/blog.sock", socket_unit="php8.2-fpm-blog.socket")]
    before = planned([{"name": "shop"}], host_pools)
    after = planned([{"name": "shop"}], host_pools, prune=True)
    assert (list(sockets(before)), list(sockets(after))) == (["blog", "shop"], ["shop"])
    assert {"dir": "/etc/php/8.2/fpm/pool.d", "pattern": "*.conf"} not in before["fpm"]["manage"]
    assert {"dir": "/etc/php/8.2/fpm/pool.d", "pattern": "*.conf"} in after["fpm"]["manage"]


def test_a_pool_that_goes_makes_way_where_it_has_the_new_one_s_path():
    host_pools = [on_host("blog", "/run/php8.2-fpm/shop.sock")]
    result = planned([{"name": "shop", "listen": "/run/php8.2-fpm/shop.sock"}], host_pools, activation=False)
    assert {"dir": "/etc/php/8.2/fpm/pool.d", "pattern": "blog.conf"} in result["fpm"]["manage"]


def test_a_pool_that_returns_to_a_plain_listener_inherits_its_socket_once_more():
    host_pools = [
        on_host("shop", "/run/php8.2-fpm/shop.sock", socket_unit="php8.2-fpm-shop.socket"),
        on_host("blog", "/run/php8.2-fpm/blog.sock", socket_unit="php8.2-fpm-blog.socket"),
        on_host("www", "/run/php/php8.2-fpm.sock", managed=False, socket_unit="php8.2-fpm-www.socket"),
    ]
    before = planned([{"name": "shop"}], host_pools, activation=False)
    after = planned([{"name": "shop"}], host_pools, activation=False, prune=True)
    assert {name: socket["listen"] for name, socket in sockets(before).items()} == {
        "shop": "/run/php8.2-fpm/shop.sock",
        "www": "/run/php/php8.2-fpm.sock",
        # It leaves, and its file is still there.
        "blog": "/run/php8.2-fpm/.inherited-blog",
    }
    assert directives(before)["listen"] == "/run/php8.2-fpm/shop.sock"
    assert sockets(after) == {}
    assert {"dir": "/etc/systemd/system", "pattern": "php*-fpm-*.socket"} in after["systemd"]["manage"]


def test_a_version_whose_pools_all_moved_is_emptied_only_in_the_end():
    host_pools = [on_host("shop", "/run/php8.2-fpm/shop.sock")]
    description = [{"name": "shop", "version": "7.4"}]
    states = {}
    for prune in (False, True):
        result = planned(description, host_pools, prune)
        states[prune] = {item["version"]: item["empty"] for item in result["versions"]}
    assert states == {False: {"7.4": False, "8.2": False}, True: {"7.4": False, "8.2": True}}


def test_a_version_that_only_a_guest_is_left_of_keeps_its_socket():
    host_pools = [
        on_host("shop", "/run/php8.2-fpm/shop.sock", socket_unit="php8.2-fpm-shop.socket"),
        on_host("www", "/run/php/php8.2-fpm.sock", managed=False, socket_unit="php8.2-fpm-www.socket"),
    ]
    description = [{"name": "shop", "version": "7.4"}]
    before, after = (sockets(planned(description, host_pools, prune)) for prune in (False, True))
    assert (list(before), list(after)) == (["shop", "www"], ["www"])
    assert after["www"]["listen"] == "/run/php8.2-fpm/.inherited-www"
    # A version that has no held socket gets none for a pool that nobody described.
    plain = [on_host("www", "/run/php/php8.2-fpm.sock", managed=False)]
    assert sockets(planned(description, plain, managed_versions=["8.2"])) == {}


def test_nothing_is_removed_while_nginx_passes_to_it():
    host_pools = [on_host("shop", "/run/php/old.sock")]
    location = {
        "file": "/etc/nginx/sites-enabled/own.conf",
        "line": 7,
        "server_names": ["own.example.com"],
        "targets": [{"address": "unix:/run/php/old.sock"}],
    }
    result = planned([{"name": "shop"}], host_pools, prune=True, nginx_locations=[location])
    assert result["waits_for"] == [
        "/etc/nginx/sites-enabled/own.conf:7 passes own.example.com to unix:/run/php/old.sock"
    ]
    assert sockets(result)["shop"]["links"] == ["/run/php8.2-fpm/shop.sock", "/run/php/old.sock"]
    location["targets"][0]["address"] = "unix:/run/php8.2-fpm/shop.sock"
    assert planned([{"name": "shop"}], host_pools, prune=True, nginx_locations=[location])["waits_for"] == []


def test_a_version_that_was_emptied_stays_empty():
    description = [{"name": "shop", "version": "7.4"}, {"name": "www", "version": "8.2", "state": "absent"}]
    for prune in (False, True):
        result = planned(description, [on_host("shop", "/run/php7.4-fpm/shop.sock", version="7.4")], prune)
        states = {item["version"]: (item["empty"], item["emptied"]) for item in result["versions"]}
        assert states == {"7.4": (False, False), "8.2": (True, False)}
        # PHP-FPM refuses a configuration without a pool.
        assert [item["name"] for item in result["fpm"]["validate"]] == ["php-fpm7.4 -t"]


def test_a_version_with_a_pool_that_nobody_described_is_not_emptied():
    host_pools = [
        on_host("shop", "/run/php8.2-fpm/shop.sock"),
        on_host("www", "/run/php/php8.2-fpm.sock", managed=False),
    ]
    result = planned([{"name": "shop", "version": "7.4"}], host_pools, prune=True)
    assert {item["version"]: item["empty"] for item in result["versions"]} == {"7.4": False, "8.2": False}


def test_nothing_goes_where_nothing_is_described():
    host_pools = [on_host("shop", "/run/php8.2-fpm/shop.sock", socket_unit="php8.2-fpm-shop.socket")]
    result = planned([], host_pools, prune=True, managed_versions=["8.2"])
    (version,) = result["versions"]
    assert version["empty"] is False
    assert sockets(result)["shop"]["links"] == ["/run/php8.2-fpm/shop.sock"]
    assert {"dir": "/etc/php/8.2/fpm/pool.d", "pattern": "*.conf"} not in result["fpm"]["manage"]
    assert result["systemd"]["manage"] == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("www", "/run/php/my site.sock"),
        ("www", "/run/php/100%n.sock"),
        ("my site", "/run/php/site.sock"),
        ("x" * 90, "/run/php/x.sock"),
    ],
)
def test_a_guest_that_no_unit_can_name_keeps_a_listener_of_its_own(name, path):
    """systemd-analyze verify would refuse the unit, and with it the whole run."""
    guests = [on_host(name, path, managed=False), on_host("docs", "/srv/a@b/run/docs+1.sock", managed=False)]
    assert set(sockets(planned([{"name": "shop"}], guests))) == {"shop", "docs"}


@pytest.mark.parametrize("acl", [{"acl_users": ["lucy"]}, {"acl_groups": ["web"]}])
def test_a_guest_with_an_acl_keeps_a_listener_of_its_own(acl):
    guest = on_host("www", "/run/php/www.sock", managed=False, **acl)
    assert set(sockets(planned([{"name": "shop"}], [guest]))) == {"shop"}


@pytest.mark.parametrize("prune", [False, True])
def test_a_guest_whose_own_file_was_removed_is_no_pool_any_more(prune):
    """FPM refuses the section that is left of it in our file, so that file must go with the next run."""
    ghost = on_host("www", "/run/php8.2-fpm/.inherited-www")
    ghost["file"] = "/etc/php/8.2/fpm/pool.d/zz-php_stack-sockets.conf"
    shop = on_host("shop", "/run/php8.2-fpm/shop.sock")
    result = planned([{"name": "shop"}], [shop, ghost], prune=prune)
    assert set(sockets(result)) == {"shop"}
    pool_dir = "/etc/php/8.2/fpm/pool.d"
    assert f"{pool_dir}/zz-php_stack-sockets.conf" not in paths(result, "fpm")
    pattern = "*.conf" if prune else "zz-php_stack-sockets.conf"
    assert {"dir": pool_dir, "pattern": pattern} in result["fpm"]["manage"]


def test_a_held_path_has_room_in_a_unix_address():
    name = "x" * 90
    with pytest.raises(PlanError) as caught:
        planned([{"name": name, "listen": "/run/short.sock"}])
    assert f"its socket /run/php8.2-fpm/held/{name}.sock has 116 bytes" in caught.value.errors[0]


def activated(tmp_path, names, table):
    """What php-fpm-activate hands to the command: FPM_SOCKETS, and the backlogs that the kernel has."""
    listeners = []
    for number, _name in enumerate(names):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / f"{number}.sock"))
        listener.listen(7)
        listeners.append(listener)
    table_file = tmp_path / "table"
    table_file.write_text("# a comment\n" + table)
    script = ROOT / "roles/fpm_systemd/templates/php-fpm-activate.j2"
    show = (
        "import os; given = [item.rpartition('=')[2] for item in os.environ.get('FPM_SOCKETS', '').split(',') if item]"
        f"; there = [str(number) for number in range(3, {3 + len(names)}) if os.path.exists(f'/proc/self/fd/{{number}}')]"
        "; print(os.environ.get('FPM_SOCKETS'), os.environ.get('LISTEN_FDS'))"
        "; assert sorted(given) == there, (given, there)"
    )

    def as_systemd_does():
        for number, descriptor in enumerate([listener.fileno() + 100 for listener in listeners]):
            os.dup2(descriptor, 3 + number)
        os.environ["LISTEN_PID"] = str(os.getpid())

    for listener in listeners:
        os.dup2(listener.fileno(), listener.fileno() + 100)
    try:
        done = subprocess.run(
            ["bash", "-c", 'export LISTEN_PID=$$; exec "$@"', "bash", sys.executable, str(script), str(table_file),
             sys.executable, "-c", show],
            preexec_fn=as_systemd_does, close_fds=False, capture_output=True, text=True, check=True,
            env={**os.environ, "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names),
                 "RUNTIME_DIRECTORY": str(tmp_path)},
        )  # fmt: skip
    finally:
        for listener in listeners:
            os.close(listener.fileno() + 100)
            listener.close()
    return done.stdout.strip(), done.stderr


def test_descriptors_are_handed_on_by_name_in_whatever_order_they_come(tmp_path):
    table = "shop /run/.inherited-shop 511\nblog /run/.inherited-blog 64\n"
    said, errors = activated(tmp_path, ["blog", "unknown", "shop"], table)
    assert said == "/run/.inherited-blog=3,/run/.inherited-shop=5 None"
    assert errors == ""
    assert (tmp_path / ".given").read_text() == "/run/.inherited-blog\n/run/.inherited-shop\n"


def test_fpm_starts_without_sockets_where_the_table_is_broken(tmp_path):
    said, errors = activated(tmp_path, ["shop"], "shop /run/.inherited-shop many\n")
    assert said == "None None"
    assert "invalid literal for int" in errors


def test_a_change_of_a_version_s_files_or_sockets_leaves_its_reload_to_be_done():
    host_pools = [on_host("shop", "/run/php8.2-fpm/shop.sock")]
    result = planned([{"name": "shop", "version": "7.4"}], host_pools, prune=True)
    # 8.2 has lost its last pool: its service is stopped, not reloaded.
    assert result["fpm"]["due"] == [{"name": "php7.4-fpm", "when_changed": ["/etc/php/7.4/*"]}]
    assert result["systemd"]["due"] == [
        {
            "name": "php7.4-fpm",
            "when_changed": ["/etc/systemd/system/php7.4-fpm-*.socket", "/etc/php_stack/php7.4-fpm.sockets"],
        }
    ]
