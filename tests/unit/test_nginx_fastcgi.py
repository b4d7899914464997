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
)
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
