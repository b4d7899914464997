# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which locations reach PHP, through what, and with which settings.

The integration tests compare the same rules with a real nginx.
"""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import parse_text
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_fastcgi import Build, describe
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import (
    SETTINGS,
    parse_size,
    parse_time,
)
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_targets import parse_address
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree
from hypothesis import given
from hypothesis import strategies as st

BUILD = Build(
    prefix="/usr/share/nginx", user="nobody", group="nogroup", error_log="logs/error.log", pid="logs/x.pid"
)


def read(text: str) -> dict[str, Any]:
    parsed = parse_text(text, "f")
    return describe(Tree(parsed.directives, ["f"], parsed.errors), BUILD)


def http(text: str) -> dict[str, Any]:
    result = read(f"http {{ {text} }}")
    assert result["errors"] == []
    return result


def only(text: str) -> dict[str, Any]:
    locations: list[dict[str, Any]] = http(text)["locations"]
    assert len(locations) == 1
    return locations[0]


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


# -- inheritance

NESTED = """
fastcgi_read_timeout 10s;
fastcgi_param A http;
fastcgi_param B http;
root /http;
allow 10.0.0.0/8;
error_page 500 /http;
server {
    fastcgi_send_timeout 20s;
    root /server;
    location /outer {
        fastcgi_read_timeout 30s;
        fastcgi_param C outer if_not_empty;
        alias /alias;
        deny all;
        allow 127.0.0.1;
        internal;
        auth_basic "Please";
        try_files $uri =404;
        fastcgi_pass a:1;
        location /outer/inner { fastcgi_pass b:1; fastcgi_read_timeout 40s; }
        location /outer/none { fastcgi_read_timeout 50s; }
        if ($arg_x) { error_page 502 /if; }
        if ($arg_y) { return 403; }
        if ($arg_z) { fastcgi_pass c:1; }
    }
    location = /other { fastcgi_pass d:1; }
}
"""


def test_each_level_takes_over_what_it_does_not_say_itself() -> None:
    locations = {
        item["fastcgi_pass"]["value"] + item["title"][:2]: item for item in http(NESTED)["locations"]
    }
    assert list(locations) == ["a:1lo", "b:1lo", "a:1if", "c:1if", "d:1lo"]

    def row(name: str) -> tuple[Any, ...]:
        item = locations[name]
        return (
            item["settings"]["fastcgi_read_timeout"]["value"],
            item["settings"]["fastcgi_send_timeout"]["value"],
            [param["name"] for param in item["params"]],
            (item["root"]["directive"], item["root"]["path"], item["root"]["level"]),
            [f"{rule['rule']} {rule['value']}" for rule in item["access"]["rules"]],
            item["access"]["internal"],
            item["access"]["auth_basic"],
            [page["value"] for page in item["error_pages"]],
            item["try_files"] and item["try_files"]["value"],
            item["inside"],
        )

    rules = ["deny all", "allow 127.0.0.1"]
    alias = ("alias", "/alias", "location")
    outer = ["location /outer"]
    assert row("a:1lo") == (
        30,
        20,
        ["C"],
        alias,
        rules,
        True,
        "Please",
        [["500", "/http"]],
        ["$uri", "=404"],
        [],
    )
    assert row("b:1lo") == (40, 20, ["C"], alias, rules, True, "Please", [["500", "/http"]], None, outer)
    assert row("a:1if") == (30, 20, ["C"], alias, rules, True, "Please", [["502", "/if"]], None, outer)
    assert row("c:1if") == (30, 20, ["C"], alias, rules, True, "Please", [["500", "/http"]], None, outer)
    root = ("root", "/server", "server")
    assert row("d:1lo") == (
        10,
        20,
        ["A", "B"],
        root,
        ["allow 10.0.0.0/8"],
        False,
        None,
        [["500", "/http"]],
        None,
        [],
    )
    assert [item["fastcgi_pass"]["inherited"] for item in locations.values()] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert locations["a:1lo"]["params"][0]["if_not_empty"] is True


def test_defaults_are_nginxs_and_marked() -> None:
    location = only("server { location / { fastcgi_pass a:1; } }")
    settings = location["settings"]
    assert set(settings) == set(SETTINGS)
    assert all(
        item["default"] and item["file"] is None and item["line"] is None for item in settings.values()
    )
    values = {name: item["value"] for name, item in settings.items()}
    assert values["fastcgi_read_timeout"] == values["fastcgi_connect_timeout"] == 60
    assert values["fastcgi_buffers"] == {"number": 8, "size_bytes": 4096}
    assert (values["fastcgi_buffer_size"], values["fastcgi_busy_buffers_size"]) == (4096, 8192)
    assert values["fastcgi_next_upstream"] == ["error", "timeout"]
    assert values["client_max_body_size"] == 1048576
    assert (values["fastcgi_index"], values["index"], values["keepalive_timeout"]) == (
        None,
        ["index.html"],
        75,
    )
    assert location["root"] == {
        "directive": "root", "value": "html", "path": "/usr/share/nginx/html", "level": None, "file": None, "line": None,
        "default": True,
    }  # fmt: skip
    assert [log["path"] for log in location["error_log"]] == ["/usr/share/nginx/logs/error.log"]
    assert location["listen"] == ["*:80"]
    assert location["server_names"] == [""]


def test_values_say_where_they_were_set() -> None:
    location = only(
        "fastcgi_buffers 16 16k;\nfastcgi_next_upstream off;\nserver {\n client_max_body_size 0;\n"
        " location / {\n fastcgi_pass a:1;\n index a;\n index b c;\n fastcgi_buffering Off;\n"
        " fastcgi_split_path_info ^(.+)(/a)$;\n fastcgi_split_path_info ^(.+)(/b)$;\n } }"
    )
    settings = location["settings"]
    found = {name: item for name, item in settings.items() if not item["default"]}
    assert {name: (item["value"], item["level"], item["line"]) for name, item in found.items()} == {
        "fastcgi_buffers": ({"number": 16, "size_bytes": 16384}, "http", 1),
        "fastcgi_next_upstream": (["off"], "http", 2),
        "client_max_body_size": (0, "server", 4),
        "index": (["a", "b", "c"], "location", 7),
        "fastcgi_buffering": (False, "location", 9),
        "fastcgi_split_path_info": ("^(.+)(/b)$", "location", 11),
    }
    assert settings["fastcgi_busy_buffers_size"]["value"] == 32768


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
    location = only(
        f"map $host $a {{ {entries} }} map $uri $b {{ {entries} }} server {{ location / {{ fastcgi_pass $a-$b:1; }} }}"
    )
    assert targets(location) == [("variable", "$a-$b:1", None, "request")]


# -- what leads to a location

REACHED = r"""
server {
    error_page 404 403 = /errors/404.php;
    location / { try_files $uri /index.php?$args; }
    location /app { try_files $uri @app; error_page 502 /app/down.php; }
    location /guess { try_files $uri /$host/index.php; }
    location @app { fastcgi_pass a:1; }
    location = /index.php { fastcgi_pass b:1; }
    location ~ \.php$ { fastcgi_pass c:1; location ~ /errors/ { fastcgi_pass d:1; } }
    location ^~ /app/ { fastcgi_pass e:1; }
}
"""


def test_what_sends_requests_to_a_location() -> None:
    found = {
        item["fastcgi_pass"]["value"]: [
            (entry["kind"], entry["uri"], entry["codes"]) for entry in item["reached_from"]
        ]
        for item in http(REACHED)["locations"]
    }
    assert found == {
        "a:1": [("try_files", "@app", [])],
        "b:1": [("try_files", "/index.php?$args", [])],
        "c:1": [],
        "d:1": [("error_page", "/errors/404.php", [404, 403])],
        "e:1": [("error_page", "/app/down.php", [502])],
    }


def test_a_regular_expression_that_cannot_be_read_gives_no_answer_instead_of_a_guess() -> None:
    result = http(
        "server { try_files /x.php =404; error_page 404 /x.php; location ~ \\A(?|a) { fastcgi_pass a:1; }"
        " location ~ php { fastcgi_pass b:1; } }"
    )
    assert [item["reached_from"] for item in result["locations"]] == [[], []]


@pytest.mark.parametrize(
    ("words", "modifier", "match"),
    [
        ("/a", "", "/a"),
        ("= /a", "=", "/a"),
        ("=/a", "=", "/a"),
        ("~* \\.php$", "~*", "\\.php$"),
        ("~*\\.php$", "~*", "\\.php$"),
        ("~\\.php$", "~", "\\.php$"),
        ("^~ /a", "^~", "/a"),
        ("^~/a", "^~", "/a"),
        ("@php", "@", "php"),
    ],
)
def test_modifiers(words: str, modifier: str, match: str) -> None:
    location = only(f"server {{ location {words} {{ fastcgi_pass a:1; }} }}")
    assert (location["modifier"], location["match"]) == (modifier, match)
    assert location["access"]["internal"] is (modifier == "@")


# -- the main level, servers, errors


def test_the_main_level_and_its_defaults() -> None:
    nginx = read("user web; worker_processes 4; worker_rlimit_nofile 9;\nevents { worker_connections 99; }")[
        "nginx"
    ]
    assert nginx["worker_user"] == {"name": "web", "group": "web", "file": "f", "line": 1, "default": False}
    assert (nginx["worker_processes"]["value"], nginx["worker_connections"]["value"]) == (4, 99)
    assert (nginx["worker_connections"]["line"], nginx["worker_rlimit_nofile"]["value"]) == (2, 9)
    nginx = read("error_log syslog:server=x warn; error_log stderr; error_log e.log info; pid /p;")["nginx"]
    assert nginx["worker_user"] == {
        "name": "nobody",
        "group": "nogroup",
        "file": None,
        "line": None,
        "default": True,
    }
    assert nginx["worker_connections"] == {"value": 512, "file": None, "line": None, "default": True}
    assert nginx["worker_rlimit_nofile"]["value"] is None
    assert [(log["path"], log["level"]) for log in nginx["error_log"]] == [
        (None, "warn"), (None, "error"), ("/usr/share/nginx/e.log", "info"),
    ]  # fmt: skip


def test_without_the_build_nothing_is_made_up() -> None:
    result = describe(
        Tree(parse_text("http { server { location / { fastcgi_pass a:1; } } }", "f").directives), Build()
    )
    nginx = result["nginx"]
    assert (nginx["worker_user"]["name"], nginx["pid"]["value"], nginx["error_log"]) == (None, None, [])
    assert result["locations"][0]["root"]["path"] == "html"


def test_listen_and_names() -> None:
    server = http(
        "server { listen 8080 default_server; listen [::]:443 ssl; listen h; listen unix:/x; server_name A b; server_name c; }"
    )["servers"][0]
    assert [(item["address"], item["parameters"]) for item in server["listen"]] == [
        ("*:8080", ["default_server"]), ("[::]:443", ["ssl"]), ("h:80", []), ("unix:/x", []),
    ]  # fmt: skip
    assert server["server_names"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "error", "count"),
    [
        (
            "http { server { location / { fastcgi_pass nowhere; } } }",
            '"fastcgi_pass nowhere": no upstream has this name, and it is no address (no port)', 1,
        ),
        ("http { server { fastcgi_pass a:1; location / { fastcgi_pass b:1; } } }", '"fastcgi_pass" directive is not allowed here (server)', 1),
        (
            "http { server { location / { if ($x) { fastcgi_read_timeout 1; } fastcgi_pass a:1; } } }",
            '"fastcgi_read_timeout" directive is not allowed here (if in location)', 2,
        ),
        (
            "http { server { location / { fastcgi_pass a:1; fastcgi_pass b:1; } } }",
            '"fastcgi_pass" directive is duplicate (the first is f:1)', 1,
        ),
        (
            "http { server { location / { fastcgi_pass a:1; server { location / { fastcgi_pass b:1; } } } } }",
            '"server" directive is not allowed here (location): is a "}" missing above?', 2,
        ),
        (
            "http { fastcgi_read_timeout soon; server { location / { fastcgi_pass a:1; } } }",
            'invalid value in "fastcgi_read_timeout" directive: "soon" is no time; write it like 60s, 5m or 500ms', 1,
        ),
        (
            "server { location / { fastcgi_pass a:1; } }",
            '"server" directive is not allowed here (outside of http); a part of a configuration is read as the inside of'
            " http", 1,
        ),
        (
            "fastcgi_pass a:1; fastcgi_param A b;",
            '"fastcgi_pass" directive is not allowed here (outside of http); a part of a configuration is read as the inside'
            " of a location", 1,
        ),
    ],
)  # fmt: skip
def test_errors_leave_the_rest_in_place(text: str, error: str, count: int) -> None:
    result = read(text)
    assert [(item["message"], item["file"], item["line"]) for item in result["errors"]] == [(error, "f", 1)]
    assert len(result["locations"]) == count


def test_an_invalid_value_is_unknown_not_the_default() -> None:
    setting = read("http { fastcgi_read_timeout soon; server { location / { fastcgi_pass a:1; } } }")[
        "locations"
    ][0]["settings"]["fastcgi_read_timeout"]
    assert setting == {"value": None, "default": False, "file": "f", "line": 1, "level": "http"}


def test_a_site_file_keeps_its_params_in_the_location_that_it_is_the_inside_of() -> None:
    location = read("fastcgi_pass a:1;\nfastcgi_param A b;\nfastcgi_read_timeout 9;")["locations"][0]
    assert [param["name"] for param in location["params"]] == ["A"]
    assert location["settings"]["fastcgi_read_timeout"]["level"] == "location"


@given(st.text("http{}server location/if($x)fastcgi_pass;unix:a1 map$ ", max_size=120))
def test_any_text_is_described_without_a_crash(text: str) -> None:
    result = read(text)
    assert set(result) == {"nginx", "servers", "locations", "upstreams", "errors"}
