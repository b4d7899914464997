# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config_transaction through ansible-playbook, on a real host with real validators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOST = "it-config-transaction"
POOLS = "/etc/php/8.2/fpm/pool.d"
POOL = """[{{ pool.name }}]
user = www-data
listen = /run/php/{{ pool.name }}.sock
pm = ondemand
{% for line in pool.lines | default([]) %}
{{ line }}
{% endfor %}
pm.max_children = {{ children }}
"""


def lab(*args: str) -> str:
    command = [sys.executable, str(ROOT / "tests/lab/lab.py"), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def shell(script: str) -> str:
    """What a shell script on the host prints."""
    done = subprocess.run(
        ["docker", "exec", HOST, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TREE = f"find /etc/php /etc/nginx ! -type d -printf '%p %M %U:%G %T@ %l\\n' | sort; cat {POOLS}/*.conf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    lab("up", "--name", HOST, "--fresh")
    try:
        folder = tmp_path_factory.mktemp("play")
        (folder / "templates").mkdir()
        (folder / "templates/pool.conf.j2").write_text(POOL)
        (folder / "inventory.json").write_text(lab("inventory", HOST))
        yield folder
    finally:
        lab("down", "--name", HOST)


def task(folder: Path, args: dict[str, Any], *options: str) -> dict[str, Any]:
    """The result of the module in a play of its own, and what ansible said beside it."""
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"children": 5},
            "tasks": [{"webops.php_stack.config_transaction": args}],
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(play))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventory.json", "play.yml", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "deprecat" not in (done.stdout + done.stderr).lower()
    document = json.loads(done.stdout[done.stdout.index("{") :])
    result: dict[str, Any] = document["plays"][0]["tasks"][0]["hosts"][HOST]
    return result


def request(*pools: dict[str, Any], **more: Any) -> dict[str, Any]:
    files = [
        {
            "path": f"{POOLS}/{pool['name']}.conf",
            "template": "pool.conf.j2",
            "vars": {"pool": pool},
            "comment": ";",
        }
        for pool in pools
    ]
    return {
        "name": "php_fpm",
        "files": files,
        "manage": [{"dir": POOLS}],
        "validate": [
            {"name": "php-fpm", "command": ["php-fpm8.2", "-t"], "when_changed": ["/etc/php/8.2/*"]}
        ],
        **more,
    }


def actions(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["action"], os.path.basename(item["path"])) for item in result["changes"]]


def test_the_life_of_a_set_of_pools(folder: Path) -> None:
    first = request({"name": "shop"}, {"name": "blog"}, {"name": "www"})
    predicted = task(folder, first, "--check", "--diff")
    assert shell(f"ls {POOLS}; ls -d /var/lib/php_stack 2>/dev/null || true") == "www.conf\n"
    result = task(folder, first, "--diff")
    assert actions(result) == [("created", "shop.conf"), ("created", "blog.conf"), ("changed", "www.conf")]
    assert (predicted["changes"], predicted["diff"]) == (result["changes"], result["diff"])
    assert (predicted["validators_skipped"], result["validators_skipped"]) == (["php-fpm"], [])
    assert "test is successful" in result["validators"][0]["stderr"]
    assert result["adopted"] == [f"{POOLS}/www.conf"]
    assert "Start a new pool named 'www'" in shell(f"head -1 /var/lib/php_stack/originals{POOLS}/www.conf")
    assert shell(f"cat {POOLS}/shop.conf") == (
        "; Managed by webops.php_stack (php_fpm): changes here are lost.\n[shop]\nuser = www-data\n"
        "listen = /run/php/shop.sock\npm = ondemand\npm.max_children = 5\n"
    )
    assert task(folder, first)["changed"] is False
    assert actions(task(folder, request({"name": "shop"}, {"name": "www"}))) == [("removed", "blog.conf")]


def test_php_fpm_says_no_and_every_byte_is_back(folder: Path) -> None:
    task(folder, request({"name": "www"}))
    before = shell(TREE)
    result = task(
        folder,
        request(
            {"name": "www", "lines": ["nonsense = 1"]},
            {"name": "new"},
            directories=[{"path": "/etc/php/8.2/fpm/made"}],
        ),
    )
    assert result["failed"] is True
    assert "the change was rejected, and nothing was changed" in result["msg"]
    assert f"[{POOLS}/www.conf:6] unknown entry 'nonsense'" in result["msg"]
    assert result["invalid_before"] == []
    assert shell(TREE) == before
    assert shell("ls -d /etc/php/8.2/fpm/made 2>&1 || true").endswith("No such file or directory\n")


def test_a_host_that_was_broken_before_is_named_so(folder: Path) -> None:
    task(folder, request({"name": "www"}))
    shell(f"echo broken > {POOLS}/zz.conf")
    result = task(folder, request({"name": "www"}, {"name": "more"}))
    shell(f"rm {POOLS}/zz.conf")
    assert "php-fpm rejects the old configuration too" in result["msg"]
    assert result["invalid_before"] == ["php-fpm"]


def test_a_real_module_process_is_killed_in_its_validator(folder: Path) -> None:
    task(folder, request({"name": "www"}))
    before = shell(TREE)
    # The validator kills the module: at that instant every file is swapped in.
    killer = {"name": "killer", "command": ["sh", "-c", "kill -9 $PPID"]}
    result = task(folder, request({"name": "www"}, {"name": "half"}, validate=[killer]))
    assert result["failed"] is True
    assert shell(f"ls {POOLS}") == "half.conf\nwww.conf\n"
    waiting = task(folder, {"name": "something_else"}, "--check")
    assert [item["outcome"] for item in waiting["recovered"]] == ["pending"]
    result = task(folder, {"name": "something_else"})
    assert [(item["name"], item["outcome"]) for item in result["recovered"]] == [("php_fpm", "rolled_back")]
    assert shell(TREE) == before


def test_acl_of_a_replaced_file_stays_and_secrets_are_not_logged(folder: Path) -> None:
    wish = {"path": "/etc/acl.conf", "content": "password-one\n", "mode": "0640", "sensitive": True}
    task(folder, {"name": "acl", "files": [wish]})
    shell("setfacl -m u:www-data:r /etc/acl.conf")
    result = task(folder, {"name": "acl", "files": [{**wish, "content": "password-two\n"}]}, "--diff", "-vvv")
    assert "password" not in json.dumps(result)
    assert "password-two" in shell("cat /etc/acl.conf")
    assert "user:www-data:r--" in shell("getfacl -p /etc/acl.conf")
    assert "password" not in shell("journalctl --no-pager -o cat || true")


def test_a_full_disk_changes_nothing(folder: Path) -> None:
    shell(
        "mkdir -p /etc/small && mount -t tmpfs -o size=64k tmpfs /etc/small && echo old > /etc/small/a.conf"
    )
    files = [
        {"path": "/etc/small/a.conf", "content": "new\n"},
        {"path": "/etc/small/b.conf", "content": "x" * 100_000},
    ]
    result = task(folder, {"name": "small", "files": files})
    assert "No space left on device; nothing was changed" in result["msg"]
    assert shell("ls -A /etc/small; cat /etc/small/a.conf") == "a.conf\nold\n"
    shell("mount -o remount,ro /etc/small")
    result = task(folder, {"name": "small", "files": files})
    shell("umount /etc/small")
    assert "files[0] (/etc/small/a.conf): /etc/small cannot be written (read-only?)" in result["msg"]


def test_templates_mistakes_come_all_at_once_and_a_number_is_no_mode(folder: Path) -> None:
    (folder / "templates/undefined.j2").write_text("{{ nowhere }}\n")
    files = [
        {"path": "/etc/a", "template": "undefined.j2"},
        {"path": "/etc/b", "template": "missing.j2"},
        {"path": "/etc/c", "template": "undefined.j2", "content": "x"},
        {"path": "/etc/d", "content": {"a": 1}},
        {"path": "/etc/e", "template": ["x.j2"]},
        {"path": "/etc/f", "template": "undefined.j2", "vars": "nowhere"},
    ]
    text = task(folder, {"name": "t", "files": files})["msg"]
    assert "files[0] (/etc/a): " in text
    assert "'nowhere' is undefined" in text
    assert "missing.j2" in text
    assert "files[2] (/etc/c): content and template exclude each other" in text
    assert "files[3] (/etc/d): content must be a text" in text
    assert "files[4] (/etc/e): template must be a text, the name of a file" in text
    assert "files[5] (/etc/f): vars must be a mapping of names to values" in text
    for wrong in ("x", ["x"]):
        said = task(folder, {"name": "t", "files": wrong})["msg"]
        assert said.startswith("files must be a list of mappings, each with a path")
    text = task(folder, {"name": "t", "files": [{"path": "/etc/a", "content": "x", "mode": 420}]})["msg"]
    assert "mode '420 (a number)' must be octal digits in quotes" in text
