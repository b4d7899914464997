# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of nginx's directives, and where a fastcgi_pass leads."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import parse_text
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_fastcgi import Build, describe
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import parse_size, parse_time
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_targets import parse_address
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree
from hypothesis import given
from hypothesis import strategies as st


def http(text: str) -> dict[str, Any]:
    parsed = parse_text(f"http {{ {text} }}", "f")
    result = describe(Tree(parsed.directives, ["f"], parsed.errors), Build())
    assert result["errors"] == []
    return result


def targets(location: dict[str, Any]) -> list[tuple[str, str, str | None, str]]:
    return [(item["kind"], item["address"], item["via"], item["resolved"]) for item in location["targets"]]


# -- values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60), ("60s", 60), ("0", 0), ("5m", 300), ("1h 30m", 5400), ("1m30s", 90), ("1m 30", 90), ("2m3", 123),
        ("1d12h", 129600), ("1w2d", 777600), ("500ms", 0.5), ("1s500ms", 1.5), ("2000ms", 2), ("1h500ms", 3600.5),
        ("30 ", 30), (" 5", 5),
    ],
)  # fmt: skip
def test_times_are_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1s 1m", "2M", "1y", "1 500ms", "1.5s", "-1", "10ss", "30m1h", "on", "5 m"]
)
def test_what_nginx_takes_for_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_a_time_in_parts_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_time(f"{hours}h {minutes}m {seconds}s") == hours * 3600 + minutes * 60 + seconds


def test_sizes_are_bytes() -> None:
    assert [parse_size(text) for text in ("0", "512", "8k", "8K", "1m")] == [0, 512, 8192, 8192, 1048576]
    assert parse_size("2g", giga=True) == 2 << 30
    for text in ("1g", "", "k", "1.5m", "8kb", "-1"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:/run/php/php8.2-fpm.sock", ("unix", "unix:/run/php/php8.2-fpm.sock")),
        ("unix:/run/x.sock:", ("unix", "unix:/run/x.sock")),
        ("127.0.0.1:9000", ("tcp", "127.0.0.1:9000")),
        ("LocalHost:09000", ("tcp", "localhost:9000")),
        ("[::1]:9000", ("tcp", "[::1]:9000")),
        ("app", None),
        ("app:0", None),
        ("app:65536", None),
        ("unix:", None),
        ("http://x:1", None),
        ("", None),
    ],
)
def test_addresses(text: str, expected: tuple[str, str] | None) -> None:
    assert parse_address(text) == expected


# -- targets

MAPS = """
upstream Pool { server unix:/run/a.sock weight=2 max_fails=3 fail_timeout=1m; server 10.0.0.1; server b:9000 backup; }
map $host $fpm { default unix:/run/a.sock; shop.example.com unix:/run/b.sock; }
map $host $half { shop.example.com unix:/run/b.sock; }
map $host $always { default 127.0.0.1:9000; }
map $host $copy { default $arg_sock; shop unix:/run/b.sock; }
map $host $chain { default $fpm; x Pool; }
map $host $loop { default $loop2; } map $host $loop2 { default $loop; }
geo $place { default a:1; 10.0.0.0/8 b:1; }
split_clients $remote_addr $part { 50% a:1; * b:1; }
"""


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (
            "location / { fastcgi_pass pool; }",
            [
                ("unix", "unix:/run/a.sock", "Pool", "config"),
                ("tcp", "10.0.0.1:80", "Pool", "config"),
                ("tcp", "b:9000", "Pool", "config"),
            ],
        ),
        (
            "location / { fastcgi_pass $fpm; }",
            [("unix", "unix:/run/a.sock", None, "request"), ("unix", "unix:/run/b.sock", None, "request")],
        ),
        ("location / { fastcgi_pass $half; }", [("unix", "unix:/run/b.sock", None, "request")]),
        ("location / { fastcgi_pass $always; }", [("tcp", "127.0.0.1:9000", None, "config")]),
        (
            "location / { fastcgi_pass $copy; }",
            [("unix", "unix:/run/b.sock", None, "request"), ("variable", "$copy", None, "request")],
        ),
        (
            "location / { fastcgi_pass $chain; }",
            [
                ("unix", "unix:/run/a.sock", None, "request"),
                ("unix", "unix:/run/b.sock", None, "request"),
                ("unix", "unix:/run/a.sock", "Pool", "request"),
                ("tcp", "10.0.0.1:80", "Pool", "request"),
                ("tcp", "b:9000", "Pool", "request"),
            ],
        ),
        ("location / { fastcgi_pass $loop; }", [("variable", "$loop", None, "request")]),
        ("location / { fastcgi_pass $place; }", [("tcp", "a:1", None, "request"), ("tcp", "b:1", None, "request")]),
        ("location / { fastcgi_pass $part; }", [("tcp", "a:1", None, "request"), ("tcp", "b:1", None, "request")]),
        ("location / { fastcgi_pass $host:9000; }", [("variable", "$host:9000", None, "request")]),
        (
            "server_name ~^(?<app>.+)\\.x$; location / { fastcgi_pass unix:/run/${app}.sock; }",
            [("variable", "unix:/run/${app}.sock", None, "request")],
        ),
        # set: the server's runs always, a location's own after it.
        ("set $v 8.2; location / { fastcgi_pass unix:/run/php$v.sock; }", [("unix", "unix:/run/php8.2.sock", None, "config")]),
        ("set $v a; location / { set $v b; fastcgi_pass $v:1; }", [("tcp", "b:1", None, "config")]),
        ("set $v a; set $w $v:1; location / { fastcgi_pass $w; }", [("tcp", "a:1", None, "config")]),
        (
            "set $v a; if ($arg_x) { set $v b; } location / { fastcgi_pass $v:1; }",
            [("tcp", "a:1", None, "request"), ("tcp", "b:1", None, "request")],
        ),
        # Another location's set may have run before an internal redirect.
        (
            "set $v a; location /o { set $v b; } location / { fastcgi_pass $v:1; }",
            [("tcp", "a:1", None, "request"), ("tcp", "b:1", None, "request")],
        ),
        # What the rewrite module may not reach any more is not certain.
        (
            "set $v a; location / { if ($arg_x) { break; } set $v b; fastcgi_pass $v:1; }",
            [("tcp", "a:1", None, "request"), ("tcp", "b:1", None, "request")],
        ),
        # Never set on the way here: a request may find it empty.
        ("if ($arg_x) { set $v a:1; } location / { fastcgi_pass $v; }", [("tcp", "a:1", None, "request")]),
        ("set $v $v; location / { fastcgi_pass $v; }", [("variable", "$v", None, "request")]),
    ],
)  # fmt: skip
def test_targets(server: str, expected: list[tuple[str, str, str | None, str]]) -> None:
    # The first one: an if of the location is an entry of its own.
    assert targets(http(f"{MAPS} server {{ {server} }}")["locations"][0]) == expected


def test_a_pass_in_an_if_knows_what_the_if_set() -> None:
    location = http("server { set $v a; location / { if ($arg_x) { set $v b; fastcgi_pass $v:1; } } }")[
        "locations"
    ][0]
    assert (location["kind"], targets(location)) == ("if", [("tcp", "b:1", None, "config")])


def test_upstreams_show_each_server_with_its_parameters() -> None:
    upstream = http(
        "upstream p { least_conn; zone z 64k; keepalive 8; server unix:/a max_fails=0; server b:9 weight=3"
        " fail_timeout=1m max_conns=7 backup down; } server { location / { fastcgi_pass p; } }"
    )["upstreams"][0]
    assert (upstream["name"], upstream["method"], upstream["keepalive"], upstream["zone"]) == (
        "p",
        "least_conn",
        8,
        "z",
    )
    assert upstream["used_by_fastcgi"] is True
    keys = ("kind", "address", "weight", "max_fails", "fail_timeout", "max_conns", "backup", "down")
    assert [tuple(server[key] for key in keys) for server in upstream["servers"]] == [
        ("unix", "unix:/a", 1, 0, 10, 0, False, False),
        ("tcp", "b:9", 3, 1, 60, 7, True, True),
    ]


def test_too_many_combinations_stay_a_variable() -> None:
    entries = " ".join(f"k{number} v{number};" for number in range(20))
    location = http(
        f"map $host $a {{ {entries} }} map $uri $b {{ {entries} }} server {{ location / {{ fastcgi_pass $a-$b:1; }} }}"
    )["locations"][0]
    assert targets(location) == [("variable", "$a-$b:1", None, "request")]
