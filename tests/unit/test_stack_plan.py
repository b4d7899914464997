# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what both sides agree on, and every mistake at once."""

from __future__ import annotations

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.plan_pools import parse_listen, spare_servers
from ansible_collections.webops.php_stack.plugins.module_utils.plan_render import ini_value
from ansible_collections.webops.php_stack.plugins.module_utils.plan_sites import upstream_name
from ansible_collections.webops.php_stack.plugins.module_utils.stack_plan import PlanError, plan
from hypothesis import given
from hypothesis import strategies as st

SITE = {"name": "shop.example.com", "pool": "shop", "root": "/srv/shop/public"}


def one(pool, **options):
    """The single planned pool of a description of one."""
    options.setdefault("default_version", "8.2")
    return plan([{"name": "shop", "pm_max_children": 20, **pool}], **options)["pools"][0]


def mistakes(*arguments, **options):
    options.setdefault("default_version", "8.2")
    with pytest.raises(PlanError) as caught:
        plan(*arguments, **options)
    return caught.value.errors


def directives(pool):
    return {row["name"]: row["value"] for row in pool["directives"]}


def test_five_mistakes_are_reported_at_once():
    errors = mistakes(
        [
            {"name": "www", "pm": "dynamicc"},
            {"name": "a", "listen": "/run/x.sock", "pm_max_children": 5, "pm_start_servers": 9},
            {"name": "b", "listen": "/run/x.sock"},
            {"name": "c", "version": "9.9"},
        ],
        [{"name": "s", "pool": "nope", "root": "/srv"}],
        known_versions=["8.2"],
    )
    assert errors == [
        "php_fpm_pools[0] (www): pm: 'dynamicc' is unknown; use dynamic, static or ondemand",
        "php_fpm_pools[1] (a): pm_min_spare_servers 1, pm_start_servers 9, pm_max_spare_servers 5 and pm_max_children 5"
        " are out of relation; FPM wants min_spare <= start <= max_spare <= max_children",
        "php_fpm_pools[3] (c): version: PHP 9.9 is neither installed nor offered by this host's package sources"
        " (there: 8.2)",
        "nginx_php_sites[0] (s): pool 'nope' is not in php_fpm_pools (there: a, b, c, www)",
        "php_fpm_pools[2] (b): listens on /run/x.sock, as pool a does; give each its own",
    ]


@pytest.mark.parametrize(
    ("pool", "ladder"),
    [
        ({"request_timeout": 300}, (300, 300, 305, 305)),
        ({}, (60, 60, 65, 65)),
        ({"request_timeout": "5m"}, (300, 300, 305, 305)),
        ({"request_timeout": 0}, (0, 0, 86400, 86400)),
        ({"request_timeout": 60, "max_execution_time": 30}, (30, 60, 65, 65)),
        ({"request_timeout": 60, "fastcgi_read_timeout": 90}, (60, 60, 90, 90)),
    ],
)
def test_the_ladder_comes_from_one_number(pool, ladder):
    times = one(pool)["timeouts"]
    keys = ("max_execution_time", "request_terminate_timeout", "fastcgi_read_timeout", "fastcgi_send_timeout")
    assert tuple(times[key] for key in keys) == ladder


def test_the_site_waits_as_long_as_its_pool_needs():
    result = plan(
        [{"name": "shop", "pm_max_children": 4, "request_timeout": 300}], [SITE], default_version="8.2"
    )
    site = result["sites"][0]
    assert (site["fastcgi_read_timeout"], site["fastcgi_send_timeout"]) == (305, 305)
    assert result["upstreams"] == [
        {"name": "php_shop", "pool": "shop", "addresses": ["unix:/run/php8.2-fpm/shop.sock"]}
    ]
    assert directives(result["pools"][0])["listen"] == "/run/php8.2-fpm/shop.sock"


@pytest.mark.parametrize(
    ("pool", "error"),
    [
        ({"max_execution_time": 90}, "max_execution_time 90 s is above request_terminate_timeout 60 s"),
        (
            {"max_execution_time": 0},
            "max_execution_time 0 (no limit) is above request_terminate_timeout 60 s",
        ),
        (
            {"fastcgi_read_timeout": 60},
            "fastcgi_read_timeout 60 s is not above request_terminate_timeout 60 s",
        ),
        (
            {"request_slowlog_timeout": 61},
            "request_slowlog_timeout 61 s is above request_terminate_timeout 60 s",
        ),
        ({"request_timeout": "soon"}, "request_timeout: 'soon' is not a duration"),
        ({"listen_mode": 432}, "listen_mode: 432 is a number; quote the mode, as in '0660'"),
        ({"listen_mode": "0600", "listen_owner": "root"}, "is closed to nginx's user www-data:www-data"),
        ({"listen_owner": "shop", "listen_group": "shop"}, "is closed to nginx's user"),
        ({"listen": "/run/" + "x" * 103}, "has 108 bytes; a unix socket's path has at most 107"),
        ({"listen": "run/x.sock"}, "is neither the absolute path of a socket, nor a port, nor host:port"),
        ({"listen": "127.0.0.1:70000"}, "is neither the absolute path"),
        ({"env": {"A": "one\ntwo"}}, "env: must be on one line"),
        ({"directives": {"apparmor_hat": "${x}"}}, "apparmor_hat: '${x}' holds ${"),
        ({"directives": {"user": "root"}}, "directives: user has a key of its own in a pool's description"),
        ({"directives": {"listen.owner": "root"}}, "directives: listen.owner has a key of its own"),
        ({"pm_max_childern": 3}, "pm_max_childern is no key of this entry; did you mean pm_max_children?"),
        ({"pool_pm": "static", "pm": "static"}, "pm is given twice, once by another name"),
        ({"pm_max_children": 0}, "pm_max_children: 0 is less than 1"),
        ({"user": "a b"}, "may not be empty or hold blanks"),
        ({"version": "8"}, "version: '8' is no PHP version; write it as in '8.2'"),
        ({"name": "global"}, "'global' cannot be a pool's name"),
        ({"name": "a]b"}, "cannot be a pool's name"),
    ],
)
def test_a_pool_s_mistake_is_named(pool, error):
    (found,) = mistakes([{"name": "shop", "pm_max_children": 20, **pool}])
    assert found.startswith("php_fpm_pools[0] (")
    assert error in found


def test_the_longest_socket_path_that_the_kernel_takes_is_accepted():
    path = "/run/" + "x" * 102
    assert len(path) == 107
    assert one({"listen": path})["listen"] == path


@pytest.mark.parametrize(
    ("site", "error"),
    [
        ({"pool": None}, "pool is missing: name a pool of php_fpm_pools (there: shop)"),
        ({"root": None}, "root is missing"),
        ({"listen": ["443 ssl"]}, "listen with ssl needs ssl_certificate and ssl_certificate_key"),
        ({"listen": ["99999"]}, "listen: '99999' is neither a port nor address:port"),
        ({"fastcgi_buffers": "1 8k"}, "is not a count above 1 and a size"),
        ({"fastcgi_buffers": "2 4k", "fastcgi_buffer_size": "64k"}, "do not fit"),
        ({"long_routes": [{"path": "/export"}]}, "long_routes[0]: timeout is missing"),
        ({"long_routes": [{"path": "/export", "timeout": 0}]}, "timeout: 0 would let a request run for ever"),
    ],
)
def test_a_site_s_mistake_is_named(site, error):
    (found,) = mistakes([{"name": "shop", "pm_max_children": 20}], [{**SITE, **site}])
    assert found.startswith("nginx_php_sites[0] (shop.example.com)")
    assert error in found


@pytest.mark.parametrize(
    ("pools", "sites", "error"),
    [
        ([{"name": "a"}, {"name": "a"}], [], "the pool's name is taken by php_fpm_pools[0]"),
        (
            [{"name": "a"}],
            [{"name": "s", "pool": "a", "root": "/s"}] * 2,
            "the site's name is taken by nginx_php_sites[0]",
        ),
        (
            [{"name": "a"}],
            [{"name": name, "pool": "a", "root": "/s", "server_names": ["x.org"]} for name in "st"],
            "server name x.org on 80 is served by site s already",
        ),
        ([{"name": "a", "listen": "9000"}, {"name": "b", "listen": "127.0.0.1:9000"}], [], "as pool a does"),
        ("www", [], "php_fpm_pools: must be a list, not a text"),
        ([None], [], "php_fpm_pools[0]: must be a mapping with a name, not nothing"),
        ([8.2], [], "php_fpm_pools[0]: must be a mapping with a name, not a number"),
        ([{"name": "a", "pm_max_children": []}], [], "a list is"),
        ({"name": "a"}, [], "php_fpm_pools: must be a list, not a mapping"),
        (["www"], [], "php_fpm_pools[0]: must be a mapping with a name, not a text"),
        ([{"pm": "static"}], [], "php_fpm_pools[0]: name is missing"),
    ],
)
def test_a_mistake_between_entries_is_named(pools, sites, error):
    assert any(error in found for found in mistakes(pools, sites))


def test_one_port_on_two_addresses_is_no_mistake():
    pools = [{"name": "a", "listen": "127.0.0.1:9000"}, {"name": "b", "listen": "127.0.0.2:9000"}]
    assert [pool["address"] for pool in plan(pools, default_version="8.2")["pools"]] == [
        "127.0.0.1:9000",
        "127.0.0.2:9000",
    ]


def test_a_meaningful_zero_stays_zero():
    pool = one({"pm_max_requests": 0, "request_timeout": 0})
    found = directives(pool)
    assert (found["pm.max_requests"], found["request_terminate_timeout"]) == ("0", "0s")
    assert found["php_admin_value[max_execution_time]"] == "0"


def test_familiar_names_are_understood_with_a_warning():
    result = plan([{"pool_name": "www", "pool_pm_max_children": 7}], default_version="8.2")
    assert result["pools"][0]["pm"]["max_children"] == 7
    assert result["warnings"] == [
        "php_fpm_pools[0] (www): pool_name is understood as name; please write name",
        "php_fpm_pools[0] (www): pool_pm_max_children is understood as pm_max_children; please write pm_max_children",
    ]


def test_defaults_of_pools_and_sites_are_merged_below_the_entries():
    result = plan(
        [{"name": "shop", "pm_max_children": 3}],
        [SITE],
        pool_defaults={"pm": "static", "pm_max_children": 9},
        site_defaults={"index": ["app.php"]},
        default_version="8.2",
    )
    assert (result["pools"][0]["pm"]["mode"], result["pools"][0]["pm"]["max_children"]) == ("static", 3)
    assert result["sites"][0]["index"] == ["app.php"]


def test_a_long_route_gets_a_pool_of_its_own():
    routes = [
        {"path": "/admin/export", "timeout": 600},
        {"path": "/report", "timeout": 600, "max_children": 8},
    ]
    result = plan(
        [{"name": "shop", "pm_max_children": 20}], [{**SITE, "long_routes": routes}], default_version="8.2"
    )
    long_pool = result["pools"][1]
    assert (long_pool["name"], long_pool["long_route_of"]) == ("shop-600s", "shop")
    assert long_pool["listen"] == "/run/php8.2-fpm/shop-600s.sock"
    found = directives(long_pool)
    assert (found["pm"], found["pm.max_children"], found["request_terminate_timeout"]) == (
        "ondemand",
        "8",
        "600s",
    )
    assert "pm.start_servers" not in found
    assert result["sites"][0]["long_routes"][0] == {
        "path": "/admin/export",
        "pool": "shop-600s",
        "upstream": "php_shop_2d600s",
        "fastcgi_read_timeout": 605,
        "fastcgi_send_timeout": 605,
    }
    # The site itself keeps its own ladder.
    assert result["sites"][0]["fastcgi_read_timeout"] == 65


def test_the_grace_of_a_reload_is_no_longer_than_the_shortest_pool_waits():
    pools = [{"name": "a", "request_timeout": 30}, {"name": "b", "request_timeout": 120}]
    (version,) = plan(pools, default_version="8.2")["versions"]
    assert (version["process_control_timeout"], version["stop_timeout"]) == (30, 35)
    (version,) = plan(pools, default_version="8.2", process_control_timeout="45s")["versions"]
    assert (version["process_control_timeout"], version["stop_timeout"]) == (45, 50)
    (found,) = mistakes(pools, process_control_timeout=0)
    assert found.startswith("php_fpm_process_control_timeout: 0 is no number of seconds above 0")


def test_nginx_lets_through_what_php_takes():
    pools = [{"name": "shop", "php_admin_values": {"post_max_size": "64M"}}]
    assert plan(pools, [SITE], default_version="8.2")["sites"][0]["client_max_body_size"] == "64m"
    assert plan([{"name": "shop"}], [SITE], default_version="8.2")["sites"][0]["client_max_body_size"] == "8m"
    warned = plan(pools, [{**SITE, "client_max_body_size": "10m"}], default_version="8.2")["warnings"]
    assert len(warned) == 1
    assert "nginx answers 413" in warned[0]


def test_auto_asks_for_sizes_and_takes_them():
    pools = [{"name": "shop", "weight": 3}]
    first = plan(pools, default_version="8.2")
    assert first["sizing"] == [
        {"name": "shop", "version": "8.2", "pm": "dynamic", "weight": 3, "min_children": 1}
    ]
    sizes = {"shop": {"max_children": 12, "start_servers": 3, "min_spare_servers": 2, "max_spare_servers": 6}}
    found = directives(plan(pools, default_version="8.2", sizes=sizes)["pools"][0])
    assert [found[f"pm.{key}"] for key in sizes["shop"]] == ["12", "3", "2", "6"]


def test_files_of_both_sides_are_named_once():
    result = plan([{"name": "shop"}, {"name": "www", "state": "absent"}], [SITE], default_version="8.2")
    assert [item["path"] for item in result["fpm"]["files"]] == [
        "/etc/php/8.2/fpm/pool.d/00-php_stack-global.conf",
        "/etc/php/8.2/fpm/pool.d/shop.conf",
        "/etc/php/8.2/fpm/pool.d/www.conf",
    ]
    assert [item["path"] for item in result["nginx"]["files"]] == [
        "/etc/nginx/conf.d/php_stack-upstreams.conf",
        "/etc/nginx/sites-available/shop.example.com.conf",
        "/etc/nginx/sites-enabled/shop.example.com.conf",
    ]


@given(st.integers(1, 5000))
def test_derived_spare_servers_are_in_relation(maximum):
    spare = spare_servers(maximum)
    assert 1 <= spare["min_spare_servers"] <= spare["start_servers"] <= spare["max_spare_servers"] <= maximum


@given(st.integers(1, 200), st.data())
def test_given_spare_servers_are_kept_or_refused(maximum, data):
    keys = ("pm_min_spare_servers", "pm_start_servers", "pm_max_spare_servers")
    wanted = {key: data.draw(st.integers(1, maximum)) for key in data.draw(st.sets(st.sampled_from(keys)))}
    try:
        pm = one({"pm_max_children": maximum, **wanted})["pm"]
    except PlanError as error:
        assert "out of relation" in str(error)
        ordered = [wanted[key] for key in keys if key in wanted]
        assert ordered != sorted(ordered)
        return
    assert 1 <= pm["min_spare_servers"] <= pm["start_servers"] <= pm["max_spare_servers"] <= maximum
    assert all(pm[key[3:]] == value for key, value in wanted.items())


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=20), st.text(max_size=20))
def test_upstream_names_are_unique_and_plain(one_name, other):
    assert (upstream_name(one_name) == upstream_name(other)) == (one_name == other)
    assert upstream_name(one_name).replace("_", "").isalnum()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/run/a.sock", ("unix", "/run/a.sock")),
        ("unix:/run/a.sock", ("unix", "/run/a.sock")),
        ("9000", ("tcp", "9000")),
        ("127.0.0.1:9000", ("tcp", "127.0.0.1:9000")),
        ("[::1]:9000", ("tcp", "[::1]:9000")),
        ("php.internal:9000", ("tcp", "php.internal:9000")),
    ],
)
def test_listen_is_understood(raw, expected):
    assert parse_listen(raw) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("128M", "128M"),
        ("/var/log/a.log", "/var/log/a.log"),
        ("a;b", '"a;b"'),
        ("no", '"no"'),
        ("", '""'),
        ('say "x" \\', '"say \\"x\\" \\\\"'),
    ],
)
def test_values_are_quoted_where_the_scanner_would_read_more_into_them(value, expected):
    assert ini_value(value) == expected


def host_pool(name, address, managed):
    path = address.removeprefix("unix:")
    return {
        "name": name,
        "version": "8.2",
        "layout": "debian",
        "managed": managed,
        "file": f"/etc/php/8.2/fpm/pool.d/{name}.conf",
        "listen": {"address": address, "kind": "unix", "path": path, "acl_users": None},
    }


def location(address):
    return {
        "file": "/etc/nginx/sites-enabled/own.conf",
        "line": 7,
        "server_names": ["own.example.com"],
        "targets": [{"address": address}],
    }


@pytest.mark.parametrize(
    ("pools", "on_host", "error"),
    [
        (
            [{"name": "www"}],
            host_pool("www", "unix:/run/php/php8.2-fpm.sock", False),
            "php_fpm_pools[0] (www): nginx passes own.example.com to unix:/run/php/php8.2-fpm.sock"
            " (/etc/nginx/sites-enabled/own.conf:7), where pool www listens now; this description moves it to"
            " unix:/run/php8.2-fpm/www.sock, and that site would answer 502.",
        ),
        (
            [{"name": "www", "state": "absent"}, {"name": "shop"}],
            host_pool("www", "unix:/run/php/php8.2-fpm.sock", False),
            "this description removes it",
        ),
        (
            [{"name": "shop"}],
            host_pool("old", "unix:/run/php8.2-fpm/old.sock", True),
            "php_fpm_pools: old: nginx passes own.example.com to unix:/run/php8.2-fpm/old.sock",
        ),
    ],
    ids=["moved", "absent", "described no more"],
)
def test_a_listener_that_a_site_still_uses_is_not_taken_away(pools, on_host, error):
    options = {
        "host_pools": [on_host],
        "nginx_locations": [location(on_host["listen"]["address"])],
        "prune": False,
    }
    (found,) = mistakes(pools, **options)
    assert error in found


def test_a_pool_and_its_site_may_leave_the_description_together():
    on_host = host_pool("old", "unix:/run/php8.2-fpm/old.sock", True)
    passing = location("unix:/run/php8.2-fpm/old.sock")
    options = {
        "default_version": "8.2",
        "host_pools": [on_host],
        "nginx_locations": [passing],
        "prune": False,
    }
    result = plan([{"name": "shop"}], nginx_managed_files=[passing["file"]], **options)
    assert [pool["name"] for pool in result["pools"]] == ["shop"]
    assert mistakes([{"name": "shop"}], **options)


def test_a_pool_that_somebody_else_made_stays_and_may_be_used():
    kept = host_pool("theirs", "unix:/run/php/theirs.sock", False)
    result = plan(
        [{"name": "shop"}],
        default_version="8.2",
        host_pools=[kept],
        nginx_locations=[location("unix:/run/php/theirs.sock")],
    )
    assert [pool["name"] for pool in result["pools"]] == ["shop"]


def test_without_a_described_pool_no_pool_file_is_called_stale():
    (version,) = [
        row for row in plan([], managed_versions=["8.2"])["fpm"]["manage"] if row["dir"].endswith("pool.d")
    ]
    assert version["pattern"] == "00-php_stack-*.conf"
    (version,) = [
        row
        for row in plan([{"name": "a"}], default_version="8.2")["fpm"]["manage"]
        if row["dir"].endswith("pool.d")
    ]
    assert version["pattern"] == "*.conf"
