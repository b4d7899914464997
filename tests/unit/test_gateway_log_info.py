# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: parameters, errors, discovery in a tree, what it returns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_discover import discover, error_logs
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import parse_text
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree
from conftest import ROOT
from log_tools import FIXTURES, REFUSED, failed, lines

MODULE = ROOT / "plugins/modules/gateway_log_info.py"


def run(**params: Any) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": params}),
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections"), "TZ": "UTC"},
    )
    return done.returncode, json.loads(done.stdout)


def logs(name: str) -> dict[str, list[str]]:
    folder = FIXTURES / name
    kinds = {"nginx_error_log": "nginx", "fpm_log": "fpm", "journal": "journal", "kernel_log": "kernel"}
    return {
        option: [str(folder / f"{kind}.log")]
        for option, kind in kinds.items()
        if (folder / f"{kind}.log").exists()
    }


def test_it_explains_the_logs_that_it_is_given() -> None:
    rc, result = run(**logs("broken_pool_reload"))
    assert rc == 0
    assert [(cause["id"], cause["count"]) for cause in result["causes"]] == [("config_invalid", 1)]
    assert {source["kind"] for source in result["sources"]} == {"nginx", "fpm", "journal"}
    assert "warnings" not in result


def test_the_documentation_names_every_key_that_is_returned() -> None:
    spec: dict[str, Any] = {}
    exec(MODULE.read_text().split("from ansible.module_utils")[0], spec)
    documented = yaml.safe_load(spec["RETURN"])
    _code, result = run(**logs("terminate_timeout"))
    assert set(documented) == set(result) - {"invocation"}
    for key in ("causes", "sources"):
        assert set(documented[key]["contains"]) == set(result[key][0])
    assert set(documented["timeline"]["contains"]) == set(result["timeline"])
    assert set(documented["unexplained"]["contains"]) == set(result["unexplained"])


def test_all_mistakes_are_told_at_once() -> None:
    rc, result = run(since="soon", until="later", time_zone="Mars/Olympus", samples=-1)
    assert rc == 1
    for word in (
        "since: 'soon' is not a time",
        "until: 'later'",
        "time_zone: 'Mars/Olympus'",
        "samples is -1",
    ):
        assert word in result["msg"]


def test_times_in_the_wrong_order() -> None:
    rc, result = run(since="1h", until="2h")
    assert (rc, result["msg"]) == (1, "since is later than until, so nothing lies between them: swap them")


def test_a_log_that_cannot_be_read_is_a_warning_and_the_rest_still_counts() -> None:
    given = logs("worker_segv")
    given["fpm_log"].append("/nowhere/fpm.log")
    rc, result = run(**given)
    assert rc == 0
    assert result["causes"][0]["id"] == "worker_crashed"
    assert result["limits"] == ["/nowhere/fpm.log: No such file or directory"]
    assert len(result["warnings"]) == 1


def test_the_time_zone_of_the_logs(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text(lines(failed(1, "recv() failed (104: x)")))
    _code, result = run(nginx_error_log=[str(log)], time_zone="Europe/Berlin")
    assert result["causes"][0]["first"] == "2026-11-21T03:30:01+01:00"
    _code, result = run(nginx_error_log=[str(log)], time_zone="Europe/Berlin", since="2026-11-21T02:31:00Z")
    assert result["causes"] == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host's configuration whose logs are where nobody would guess."""
    files = {
        "etc/nginx/nginx.conf": "error_log /srv/logs/nginx-main.log;\nhttp { include sites/*.conf; }\n",
        "etc/nginx/sites/a.conf": "server { error_log /srv/logs/site.log info; }\nserver { error_log syslog:server=h; }\n",
        "etc/php/8.2/fpm/php-fpm.conf": "[global]\nerror_log = /srv/logs/fpm.log\ninclude=/etc/php/8.2/fpm/pool.d/*.conf\n",
        "etc/php/8.2/fpm/pool.d/www.conf": "[www]\nuser = www-data\nlisten = /run/php/php8.2-fpm.sock\npm = static\n"
        "pm.max_children = 2\n",
        "srv/logs/nginx-main.log": "",
        "srv/logs/site.log": lines(
            failed(1, REFUSED, "connecting to"),
            failed(2, "connect() to unix:/run/php/php7.4-fpm.sock failed (2: x)", "connecting to",
                   upstream="fastcgi://unix:/run/php/php7.4-fpm.sock:"),
        ),
        "srv/logs/fpm.log": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_without_paths_the_configurations_say_where_the_logs_are(tree: Path) -> None:
    rc, result = run(root=str(tree))
    assert rc == 0, result
    assert [source["path"] for source in result["sources"]] == [
        "/srv/logs/nginx-main.log",
        "/srv/logs/site.log",
        "/srv/logs/fpm.log",
    ]
    assert {cause["id"]: cause["count"] for cause in result["causes"]} == {
        "socket_refused": 1,
        "path_mismatch": 1,
    }


def test_the_other_names_of_a_socket_are_known(tree: Path) -> None:
    (tree / "run/php").mkdir(parents=True)
    (tree / "run/php/php8.2-fpm.sock").touch()
    (tree / "run/php/php-fpm.sock").symlink_to("/etc/alternatives/fpm")
    (tree / "etc/alternatives").mkdir()
    (tree / "etc/alternatives/fpm").symlink_to("/run/php/php8.2-fpm.sock")
    pool = ("www", "8.2")
    assert discover(Host(str(tree))).listeners == {
        "/run/php/php8.2-fpm.sock": pool,
        "/run/php/php-fpm.sock": pool,
    }


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("9000", ["127.0.0.1:9000", "*:9000"]),
        ("0.0.0.0:9000", ["127.0.0.1:9000", "*:9000"]),
        ("127.0.0.1:9000", ["127.0.0.1:9000"]),
    ],
)
def test_a_pool_on_all_addresses_is_found_on_each(tree: Path, listen: str, found: list[str]) -> None:
    file = tree / "etc/php/8.2/fpm/pool.d/www.conf"
    text = file.read_text()
    file.write_text(re.sub(r"(?m)^listen *=.*", f"listen = {listen}", text))
    assert list(discover(Host(str(tree))).listeners) == found


def test_an_empty_tree_has_nothing_to_read(tmp_path: Path) -> None:
    rc, result = run(root=str(tmp_path))
    assert rc == 0
    assert result["sources"] == []
    assert result["limits"] == ["no configuration of nginx was found; name its logs in nginx_error_log"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("error_log /a.log;", ["/a.log"]),
        ("error_log logs/a.log warn;", ["/usr/share/nginx/logs/a.log"]),
        ("error_log stderr;", []),
        ("error_log /dev/null crit;", []),
        ("error_log memory:32m debug; error_log /a.log;", ["/a.log"]),
        ("http { error_log /b.log; server { error_log /b.log; } }", ["/built-in.log", "/b.log"]),
        ("", ["/built-in.log"]),
    ],
)
def test_error_log_directives(text: str, expected: list[str]) -> None:
    tree = Tree(parse_text(text, "/etc/nginx/nginx.conf").directives)
    assert error_logs(tree, "/usr/share/nginx", "/built-in.log") == expected
