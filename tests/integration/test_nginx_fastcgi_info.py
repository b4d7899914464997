# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx_fastcgi_info against a real nginx.

What the module says is in force is compared with what nginx does: a FastCGI
responder answers every request with the parameters that nginx sent, and one of
its sockets takes longer than the short timeouts here. What our parser refuses
is compared with `nginx -t`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".ansible/collections"), str(ROOT / "tests/unit")]

import crossplane_oracle
from ansible_collections.webops.php_stack.plugins.module_utils import (
    nginx_config,
    nginx_fastcgi,
    nginx_host,
    nginx_tree,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

NAME = "test-nginx-fastcgi-info"
LAB = [sys.executable, str(ROOT / "tests/lab/lab.py")]

SITE = r"""
map $arg_app $by_map { default unix:/run/echo.sock; two unix:/run/other.sock; }
upstream pool { server unix:/run/echo.sock max_fails=0; server unix:/run/other.sock backup; }
fastcgi_read_timeout 1s;
fastcgi_param LEVEL http;
fastcgi_param TWICE first;
fastcgi_param TWICE second;

server {
    listen 8080 default_server;
    root /srv/www;
    set $picked unix:/run/echo.sock;
    location /http/ { fastcgi_pass unix:/run/echo.sock; }
    location /own/ { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL location; }
    location /upstream/ { fastcgi_pass pool; }
    location /set/ { fastcgi_pass $picked; }
    location /map/ { fastcgi_pass $by_map; }
    location /slow/ { fastcgi_pass unix:/run/slow.sock; }
    location /patient/ {
        fastcgi_read_timeout 10s;
        fastcgi_pass unix:/run/slow.sock;
        location /patient/nested/ { fastcgi_pass unix:/run/slow.sock; }
        location /patient/none/ { }
    }
    location /index/ { index start.php; fastcgi_index other.php; fastcgi_pass unix:/run/echo.sock;
        fastcgi_param SCRIPT $fastcgi_script_name; }
}

server {
    listen 8081;
    root /srv/www;
    error_page 404 /missing/page;
    error_page 502 @rescue;
    try_files /static.txt =404;
    fastcgi_param LEVEL server;
    location /inherits/ {
        fastcgi_pass unix:/run/echo.sock;
        location /inherits/nested/ { fastcgi_pass unix:/run/echo.sock; }
        location /inherits/drops/ { fastcgi_pass unix:/run/echo.sock; fastcgi_param ONLY nested; }
    }
    location /tried/ {
        try_files $uri =404;
        fastcgi_pass unix:/run/echo.sock;
        if ($arg_skip) { set $x 1; }
    }
    location /if/ {
        fastcgi_pass unix:/run/echo.sock;
        if ($arg_other) { fastcgi_pass unix:/run/other.sock; }
    }
    location /missing/ { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL missing; }
    location /gone/ { fastcgi_read_timeout 9s; fastcgi_pass unix:/run/nothing.sock; fastcgi_param LEVEL gone; }
    location /named/ { try_files /none @php; }
    location @php { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL php; }
    location @rescue { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL rescue; }
    location /absent/ { }
    location /plain/ { }
    location = /exact { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL exact; }
    location ~ ^/re(.*)\.php$ { fastcgi_pass unix:/run/echo.sock; fastcgi_param LEVEL regex; }
}
"""

# What nginx -t says decides; "{}" stands for the text within http or, for @, for a whole file.
SYNTAX = [
    "server { }",
    "server { root /a; }",
    "server { root /a }",
    "server { root /a; } }",
    "server { root /a;",
    "server { root /a; location / { }",
    "server { root \"/a b\"; }",
    "server { root '/a'; }",
    "server { root \"/a\"x; }",
    "server { root \"/a\" ; }",
    "server { root \"/a; }",
    "server { root /a#b; }",
    "server { root /a;#b\n}",
    "server {#b\n}",
    "server { root /a #b\n; }",
    "server { root \"/a\"#b\n; }",
    "server { root /a}; }",
    "server { root /a{b; }",
    "server { root /${server_name}/x; }",
    "server { root /$server_name{x; }",
    "server { root /a\\;b; }",
    "server { root /a\\ b; }",
    "server { root /a\\",
    "server { root; }",
    "server { root /a /b; }",
    "server { root /a; root /b; }",
    "server { root /a\n index x; }",
    "server { root /a\n location / { } }",
    "server { ; }",
    "server { { } }",
    "server { if ($http_x = \"a\") { return 403; } }",
    "server { if ($http_x = \"a\"){ return 403; } }",
    "server { if ( $http_x = 'a' ) { return 403; } }",
    "server { location / { fastcgi_pass 127.0.0.1:9000; } }",
    "server { location / { fastcgi_pass unix:/x.sock; } }",
    "server { location / { fastcgi_pass nowhere; } }",
    "server { fastcgi_pass 127.0.0.1:9000; }",
    "server { location / { if ($http_x) { fastcgi_pass 127.0.0.1:9000; } } }",
    "server { location / { if ($http_x) { fastcgi_param A b; } } }",
    "server { location / { if ($http_x) { fastcgi_read_timeout 1; } } }",
    "server { location / { if ($http_x) { root /b; error_page 404 /x; } } }",
    "server { location / { fastcgi_pass 127.0.0.1:9000; fastcgi_pass 127.0.0.1:9001; } }",
    "server { location / { try_files $uri =404; try_files $uri =404; } }",
    "server { location / { root /a; alias /b; } }",
    "server { location / { alias /b; } }",
    "server { alias /b; }",
    "server { location / { fastcgi_read_timeout 1; fastcgi_read_timeout 2; } }",
    "server { location / { fastcgi_split_path_info ^(.+)(/.+)$; fastcgi_split_path_info ^(.+)(/.*)$; } }",
    "server { fastcgi_next_upstream error; fastcgi_next_upstream timeout; }",
    "server { index a; index b; }",
    "server { fastcgi_read_timeout 1h30m; }",
    "server { fastcgi_read_timeout \"1h 30m\"; }",
    "server { fastcgi_read_timeout 1x; }",
    "server { fastcgi_read_timeout 30m1h; }",
    "server { fastcgi_buffers 8 4k; }",
    "server { fastcgi_buffers 0 4k; }",
    "server { fastcgi_buffers 1 4k; }",
    "server { fastcgi_buffers 4 4k; fastcgi_buffer_size 64k; }",
    "server { fastcgi_buffers 16 16k; fastcgi_buffer_size 32k; }",
    "server { fastcgi_buffers 16 16k; fastcgi_buffer_size 32k; fastcgi_busy_buffers_size 16k; }",
    "server { fastcgi_buffering maybe; }",
    "server { fastcgi_buffering ON; }",
    "server { client_max_body_size 1g; }",
    "server { fastcgi_buffer_size 1g; }",
    "server { client_max_body_size 0; }",
    "server { large_client_header_buffers 4 16k; }",
    "server { location / { large_client_header_buffers 4 16k; } }",
    "server { internal; }",
    "server { location / { internal; } }",
    "server { location / { internal on; } }",
    "server { location / { server { } } }",
    "server { server { } }",
    "upstream a { server 127.0.0.1; } server { location / { fastcgi_pass a; } }",
    "upstream a { server 127.0.0.1; } server { location / { fastcgi_pass A; } }",
    "upstream a { server 127.0.0.1; } server { location / { fastcgi_pass a:9000; } }",
    "upstream a { server 127.0.0.1; } upstream a { server 127.0.0.2; }",
    "upstream a { }",
    "upstream a { server 127.0.0.1 weight=x; }",
    "upstream a { server 127.0.0.1 nonsense; }",
    "upstream a { server 127.0.0.1 max_fails=0 fail_timeout=5s weight=2 max_conns=5 down; server unix:/x backup; }",
    "server { location / { fastcgi_pass 127.0.0.1:0; } }",
    "server { location / { fastcgi_pass 127.0.0.1:65536; } }",
    "server { location / { fastcgi_pass [::1]:9000; } }",
    "include /nowhere.conf;",
    "include /nowhere/*.conf;",
    "include /tmp/a /tmp/b;",
    "server { set $a; }",
    "server { set $a b; set $a c; }",
    "map $http_x $y { default a; ~x b; }",
    "server { root " + "a" * 4000 + "; }",
    "server { root " + "a" * 4096 + "; }",
    "@\ufeffevents { }\nhttp { }\n",
    "@events { }\r\nhttp {\r\n server { root /a; }\r\n}\r\n",
    "@events { }\nhttp { }\nhttp { }\n",
    "@events { }\nuser a; user b;\nhttp { }\n",
    "@worker_processes x; events { }\nhttp { }\n",
]  # fmt: skip


def docker(*args: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *args], check=False, capture_output=True, text=True, input=stdin)
    assert done.returncode == 0, f"docker {' '.join(args)}: {done.stdout}{done.stderr}"
    return done.stdout


def shell(script: str, stdin: str | None = None) -> str:
    return docker("exec", "-i", NAME, "sh", "-c", script, stdin=stdin)


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    subprocess.run([*LAB, "up", "--name", NAME, "--image", "stack", "--fresh"], check=True)
    try:
        shell(
            "mkdir -p /srv/www/tried && echo static >/srv/www/static.txt && echo file >/srv/www/tried/there"
        )
        shell("cat >/root/responder.py", stdin=Path(__file__).with_name("nginx_responder.py").read_text())
        shell(
            "systemd-run -q --unit=responder python3 /root/responder.py &&"
            " timeout 20 sh -c 'until journalctl -u responder -o cat | grep -q ready; do :; done'"
        )
        shell("cat >/etc/nginx/conf.d/test.conf", stdin=SITE)
        shell(
            "nginx -t 2>&1 && nginx -s reload && timeout 20 sh -c 'until curl -s -o /dev/null localhost:8081; do :; done'"
        )
        yield NAME
    finally:
        subprocess.run([*LAB, "down", "--name", NAME], check=True)


def run_module(tmp_path: Path, *options: str) -> dict[str, Any]:
    inventory = tmp_path / "inventory.json"
    inventory.write_bytes(subprocess.run([*LAB, "inventory", NAME], check=True, capture_output=True).stdout)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible")), "-i", str(inventory), "all",
            "-m", "nginx_fastcgi_info", "-a", " ".join(options),
        ],
        cwd=ROOT,
        check=False, capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"][NAME]
    return result


@pytest.fixture(scope="session")
def result(host: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_module(tmp_path_factory.mktemp("module"))


def location(result: dict[str, Any], title: str, port: int) -> dict[str, Any]:
    found = [
        item
        for item in result["locations"]
        if item["title"] == title and any(str(port) in a for a in item["listen"])
    ]
    assert len(found) == 1, f"{title}: {[item['title'] for item in result['locations']]}"
    return found[0]


def ask(port: int, path: str) -> tuple[int, str]:
    out = shell(f"curl -s -o /tmp/body -w '%{{http_code}}' 'localhost:{port}{path}'; echo; cat /tmp/body")
    status, _newline, body = out.partition("\n")
    return int(status), body


@pytest.mark.parametrize(
    ("port", "path", "title", "said_by"),
    [
        (8080, "/http/x", "location /http/", "http"),
        (8080, "/own/x", "location /own/", "location"),
        (8080, "/upstream/x", "location /upstream/", "http"),
        (8080, "/set/x", "location /set/", "http"),
        (8080, "/map/x", "location /map/", "http"),
        (8080, "/map/x?app=two", "location /map/", "http"),
        (8081, "/inherits/x", "location /inherits/", "server"),
        (8081, "/inherits/nested/x", "location /inherits/nested/", "server"),
        (8081, "/inherits/drops/x", "location /inherits/drops/", None),
        (8081, "/if/x", "location /if/", "server"),
        (8081, "/if/x?other=1", "if ($arg_other)", "server"),
        (8081, "/tried/absent?skip=1", "if ($arg_skip)", "server"),
        (8081, "/tried/there", "location /tried/", "server"),
        (8081, "/named/x", "location @php", "php"),
        (8081, "/absent/x", "location /missing/", "missing"),
        (8081, "/gone/x", "location @rescue", "rescue"),
        (8081, "/exact", "location = /exact", "exact"),
        (8081, "/reader.php", "location ~ ^/re(.*)\\.php$", "regex"),
    ],
)
def test_nginx_sends_the_params_and_uses_the_target_that_the_module_names(
    result: dict[str, Any], port: int, path: str, title: str, said_by: str | None
) -> None:
    _status, body = ask(port, path)
    sent = json.loads(body)
    entry = location(result, title, port)
    # nginx adds the client's headers behind the parameters.
    params = [pair for pair in sent["params"] if not pair[0].startswith("HTTP_")]
    assert [[item["name"], item["value"]] for item in entry["params"]] == params
    assert dict(sent["params"]).get("LEVEL") == said_by
    assert f"unix:{sent['socket']}" in [target["address"] for target in entry["targets"]]


@pytest.mark.parametrize(
    ("path", "title", "status", "seconds"),
    [
        ("/slow/x", "location /slow/", 504, 1),
        ("/patient/x", "location /patient/", 200, 10),
        ("/patient/nested/x", "location /patient/nested/", 200, 10),
    ],
)
def test_the_timeout_in_force_is_the_one_named(
    result: dict[str, Any], path: str, title: str, status: int, seconds: int
) -> None:
    assert location(result, title, 8080)["settings"]["fastcgi_read_timeout"]["value"] == seconds
    assert ask(8080, path)[0] == status


def test_a_nested_location_does_not_take_over_fastcgi_pass(result: dict[str, Any]) -> None:
    assert ask(8080, "/patient/none/x")[0] == 404
    assert "location /patient/none/" not in [item["title"] for item in result["locations"]]


def test_try_files_is_inherited_neither_by_a_location_nor_by_an_if(result: dict[str, Any]) -> None:
    # The server's try_files would answer with static.txt, or with 404.
    assert json.loads(ask(8081, "/inherits/x")[1])["socket"] == "/run/echo.sock"
    assert location(result, "location /inherits/", 8081)["try_files"] is None
    # Without the if, try_files sends an absent file to error_page; inside it, to PHP.
    assert dict(json.loads(ask(8081, "/tried/absent")[1])["params"])["LEVEL"] == "missing"
    assert dict(json.loads(ask(8081, "/tried/absent?skip=1")[1])["params"])["LEVEL"] == "server"
    assert location(result, "location /tried/", 8081)["try_files"]["value"] == ["$uri", "=404"]
    assert location(result, "if ($arg_skip)", 8081)["try_files"] is None


def test_a_location_says_what_sends_requests_to_it(result: dict[str, Any]) -> None:
    seen = {
        title: [
            (item["kind"], item["uri"], item["codes"])
            for item in location(result, title, 8081)["reached_from"]
        ]
        for title in ("location @php", "location @rescue", "location /missing/", "location /if/")
    }
    assert seen == {
        "location @php": [("try_files", "@php", [])],
        "location @rescue": [("error_page", "@rescue", [502])],
        "location /missing/": [("error_page", "/missing/page", [404])],
        "location /if/": [],
    }


def test_targets_through_upstream_set_and_map(result: dict[str, Any]) -> None:
    def targets(title: str) -> list[tuple[str, str | None, str]]:
        found = location(result, title, 8080)["targets"]
        return [(item["address"], item["via"], item["resolved"]) for item in found]

    assert targets("location /upstream/") == [
        ("unix:/run/echo.sock", "pool", "config"),
        ("unix:/run/other.sock", "pool", "config"),
    ]
    assert targets("location /set/") == [("unix:/run/echo.sock", None, "config")]
    assert targets("location /map/") == [
        ("unix:/run/echo.sock", None, "request"),
        ("unix:/run/other.sock", None, "request"),
    ]


def test_the_global_part_is_that_of_the_running_nginx(result: dict[str, Any]) -> None:
    nginx = result["nginx"]
    master = int(shell("cat /run/nginx.pid"))
    assert nginx["worker_user"] == {
        "name": "www-data", "group": "www-data", "file": "/etc/nginx/nginx.conf", "line": 1, "default": False,
    }  # fmt: skip
    assert nginx["masters"] == [
        {
            "pid": master,
            "binary": "/usr/sbin/nginx",
            "config": None,
            "prefix": None,
            "worker_users": ["www-data"],
        }
    ]
    assert (nginx["source"], nginx["prefix"], nginx["config"], nginx["version"]) == (
        "host", "/usr/share/nginx", "/etc/nginx/nginx.conf", "nginx/1.22.1",
    )  # fmt: skip
    assert nginx["pid"]["value"] == "/run/nginx.pid"
    assert nginx["worker_connections"]["value"] == 768
    assert nginx["error_log"][0]["path"] == "/var/log/nginx/error.log"
    assert result["errors"] == []


def test_the_dump_and_the_tree_say_the_same_as_the_host(result: dict[str, Any], tmp_path: Path) -> None:
    shell("nginx -T >/root/dump.txt 2>&1")
    dump = run_module(tmp_path, "dump_path=/root/dump.txt", "prefix=/usr/share/nginx")
    shell(
        "mkdir -p /root/tree/usr/sbin /root/tree/etc && cp -a /etc/nginx /root/tree/etc && cp /usr/sbin/nginx /root/tree/usr/sbin"
    )
    tree = run_module(tmp_path, "root=/root/tree")
    # The program inside the tree was not run, but read.
    assert (tree["nginx"]["source"], tree["nginx"]["prefix"], tree["nginx"]["version"]) == (
        "tree", "/usr/share/nginx", "nginx/1.22.1",
    )  # fmt: skip
    assert dump["nginx"]["source"] == "dump"
    for other in (dump, tree):
        assert other["locations"] == result["locations"]
        assert other["upstreams"] == result["upstreams"]
        assert other["servers"] == result["servers"]
        assert other["errors"] == []


def test_crossplane_reads_the_same_out_of_the_hosts_own_tree(host: str, tmp_path: Path) -> None:
    docker("cp", f"{NAME}:/etc/nginx", str(tmp_path / "nginx"))
    for path in (tmp_path / "nginx").rglob("*"):
        # crossplane knows no root directory, so absolute includes and links must lead into the copy.
        if path.is_symlink():
            target = os.readlink(path).replace("/etc/nginx", str(tmp_path / "nginx"))
            path.unlink()
            path.symlink_to(target)
        elif path.is_file():
            path.write_bytes(
                path.read_bytes().replace(b"include /etc/nginx/", f"include {tmp_path}/nginx/".encode())
            )
    main = tmp_path / "nginx/nginx.conf"
    tree = nginx_tree.load(str(main), nginx_host.HostReader(Host("/")))
    assert tree.errors == []
    assert len(tree.files) > 3
    assert crossplane_oracle.ours(tree.directives) == crossplane_oracle.theirs(main, follow=True)
    for path in (tmp_path / "nginx").rglob("*"):
        if path.is_file():
            parsed = nginx_config.parse_text(path.read_text(), str(path))
            assert (parsed.errors, crossplane_oracle.ours(parsed.directives)) == (
                [],
                crossplane_oracle.theirs(path),
            )


def test_a_custom_master_is_found_by_its_command_line(host: str, tmp_path: Path) -> None:
    shell(
        "mkdir -p /root/own && printf 'pid /root/own/pid; events { } http { server { listen 8099; location / {"
        " fastcgi_pass unix:/run/own.sock; } } }' >/root/own/x.conf && systemctl stop nginx &&"
        " nginx -c /root/own/x.conf && timeout 20 sh -c 'until [ -s /root/own/pid ]; do :; done'"
    )
    try:
        found = run_module(tmp_path)
    finally:
        shell("nginx -c /root/own/x.conf -s stop && systemctl start nginx")
    assert found["nginx"]["config"] == "/root/own/x.conf"
    assert [item["targets"][0]["address"] for item in found["locations"]] == ["unix:/run/own.sock"]
    # The program's own default, from nginx -V: no "user" in this file, none compiled in by Debian.
    assert found["nginx"]["worker_user"]["name"] == "nobody"
    assert found["nginx"]["masters"][0]["worker_users"] == ["nobody"]


def test_our_verdict_on_a_text_is_that_of_nginx(host: str) -> None:
    files = {}
    for number, text in enumerate(SYNTAX):
        files[f"/etc/nginx/syntax-{number}.conf"] = (
            text[1:] if text.startswith("@") else f"events {{ }}\nhttp {{\n{text}\n}}\n"
        )
    script = "".join(
        f"cat >{path} <<'END_OF_FILE'\n{content.removesuffix(chr(10))}\nEND_OF_FILE\n"
        for path, content in files.items()
    )
    shell("sh", stdin=script)
    out = shell(
        f'for n in $(seq 0 {len(SYNTAX) - 1}); do echo "$n $(nginx -t -q -c /etc/nginx/syntax-$n.conf 2>&1 |'
        ' grep -m1 emerg)"; done'
    )

    class Files:
        def read(self, path: str) -> str:
            if path not in files:
                raise FileNotFoundError(2, "No such file or directory", path)
            return files[path]

        def glob(self, pattern: str) -> list[str]:
            return []

    differences = []
    for line in out.splitlines():
        number, _space, refused = line.partition(" ")
        path = f"/etc/nginx/syntax-{number}.conf"
        described = nginx_fastcgi.describe(nginx_tree.load(path, Files()), nginx_fastcgi.Build())
        if bool(refused) != bool(described["errors"]):
            differences.append((SYNTAX[int(number)][:80], refused, described["errors"]))
    assert not differences, "\n".join(map(str, differences))
    assert out.count("emerg") > 30
