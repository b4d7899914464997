# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpm_pool_facts on a lab host: running, saturated, killed and held pools, as Ansible runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))
import lab

NAME = "php-stack-test-fpm-facts"
POOL_FOLDER = "/etc/php/8.2/fpm/pool.d"
POOL = """[{name}]
user = www-data
listen = {listen}
listen.backlog = 8
pm = static
pm.max_children = {children}
pm.status_path = /status
{more}
"""
TIMEOUT = 1
# Workers that start at once and go on for a minute, in a way that a queue forms: one works, three wait.
SATURATE = """
echo '<?php sleep(60);' >/srv/sleep.php
for request in 1 2 3 4; do
  SCRIPT_FILENAME=/srv/sleep.php REQUEST_METHOD=GET cgi-fcgi -bind -connect {path} >/dev/null 2>&1 &
done
for turn in $(seq 100); do
  ss -xlH | grep -q 'LISTEN 3 .*{path} ' && exit 0
  sleep 0.05
done
ss -xlH >&2; exit 1
"""


def run(script: str) -> str:
    done = subprocess.run(["docker", "exec", "-i", NAME, "sh", "-eu"], input=script,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(path: str, text: str) -> None:
    run(f"mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}\nEND\n")


def pool(name: str, children: int = 2, more: str = "", listen: str = "") -> None:
    text = POOL.format(name=name, listen=listen or f"/run/php/{name}.sock", children=children, more=more)
    write(f"{POOL_FOLDER}/{name}.conf", text)


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    lab.up(NAME, "stack", None, True)
    run(f"cp -a {POOL_FOLDER} /srv/pools-as-installed")
    yield
    lab.down([NAME])


@pytest.fixture(autouse=True)
def fresh_pools() -> None:
    """Each test begins with no pool and nothing running."""
    run(
        "systemctl stop php8.2-fpm; systemctl kill -s KILL php8.2-fpm 2>/dev/null || :; pkill -9 php-fpm || :;"
        f" systemctl reset-failed php8.2-fpm 2>/dev/null || :; rm -rf {POOL_FOLDER}/* /run/php/*.sock /srv/app;"
        " pkill cgi-fcgi || :"
    )


def facts(
    tmp_path: Path, **params: Any
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """(pools by name, masters, the whole result)."""
    inventory = tmp_path / "hosts.json"
    inventory.write_text(lab.inventory([NAME]))
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible"), "-i", str(inventory), "all", "-m", "webops.php_stack.fpm_pool_facts",
         "-a", json.dumps({"timeout": TIMEOUT, **params})],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    found = result["ansible_facts"]
    return {one["name"]: one for one in found["fpm_pools"]}, found["fpm_masters"], result


def test_running_pools(tmp_path: Path) -> None:
    pool("shop", 3, "php_admin_value[memory_limit] = 64M")
    pool("blog", 1, listen="127.0.0.1:9100")
    run("systemctl start php8.2-fpm")
    pools, (master,), result = facts(tmp_path)
    assert (master["running"], master["layout"], master["version"], master["unit"]) == (
        True, "debian", "8.2", "php8.2-fpm.service",
    )  # fmt: skip
    assert (master["unit_state"]["active"], master["unit_state"]["restarts"]) == ("active", 0)
    assert master["unit_state"]["limit_nofile"] == 1024
    assert master["errors"] == []
    shop = pools["shop"]
    assert (shop["file"], shop["line"]) == (f"{POOL_FOLDER}/shop.conf", 1)
    assert shop["directives"]["php_admin_value[memory_limit]"] == {
        "value": "64M", "file": f"{POOL_FOLDER}/shop.conf", "line": 8, "default": False,
    }  # fmt: skip
    assert (shop["status"]["state"], shop["status"]["total_processes"]) == ("ok", 3)
    assert shop["queue"] == {"waiting": 0, "backlog": 8}
    assert {worker["state"] for worker in shop["memory"]["workers"]} <= {"Idle", "Running"}
    assert (pools["blog"]["listen"]["address"], pools["blog"]["status"]["state"]) == ("127.0.0.1:9100", "ok")
    assert pools["blog"]["queue"] == {"waiting": 0, "backlog": 8}
    assert result["summary"][1].startswith(
        "shop (PHP 8.2): unix:/run/php/shop.sock, static 3, 3 workers with "
    )
    assert result["changed"] is False


def test_memory_is_shared_out(tmp_path: Path) -> None:
    pool("shop", 5)
    run("systemctl start php8.2-fpm")
    memory = facts(tmp_path)[0]["shop"]["memory"]
    assert memory["worker_count"] == len(memory["workers"]) == 5
    # Five processes share most of what they have: RSS counts it five times, PSS once.
    assert 0 < memory["private_bytes"] < memory["pss_bytes"] < memory["rss_bytes"]
    assert memory["rss_bytes"] == memory["private_bytes"] + memory["shared_bytes"]
    assert memory["private_peak_bytes"] >= max(worker["private_bytes"] for worker in memory["workers"])
    assert all(worker["age_seconds"] >= 0 for worker in memory["workers"])


def test_saturated_pools_do_not_hang_the_module(tmp_path: Path) -> None:
    for number in range(4):
        pool(f"full{number}", 1)
    pool("watched", 1, "pm.status_listen = /run/php/watched-status.sock")
    pool("idle", 1)
    run("systemctl start php8.2-fpm")
    for name in ("full0", "full1", "full2", "full3", "watched"):
        run(SATURATE.format(path=f"/run/php/{name}.sock"))
    # On the host itself, so that Ansible's own start is not measured.
    code = (
        "import sys, json, time; sys.path.insert(0, '/srv'); start = time.monotonic();"
        "from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import gather;"
        "from ansible_collections.webops.php_stack.plugins.module_utils.host import Host;"
        f"gather(Host(), timeout={TIMEOUT}); print(time.monotonic() - start)"
    )
    target = "/srv/ansible_collections/webops/php_stack/plugins"
    run(f"mkdir -p {target}")
    subprocess.run(["docker", "cp", str(ROOT / "plugins/module_utils"), f"{NAME}:{target}/module_utils"],
                   check=True, capture_output=True)  # fmt: skip
    # Four pools that do not answer cost one timeout together, not four.
    assert float(run(f'python3 -c "{code}"')) < 2.5 * TIMEOUT
    pools, _masters, _result = facts(tmp_path)
    for number in range(4):
        full = pools[f"full{number}"]
        assert full["status"]["state"] == "saturated"
        assert "all 1 of 1 workers are busy" in full["status"]["reason"]
        assert full["queue"]["backlog"] == 8
        assert full["queue"]["waiting"] >= 3
    watched = pools["watched"]
    assert (watched["status"]["state"], watched["status"]["active_processes"]) == ("saturated", 1)
    # What FPM says of its queue is wrong for unix sockets; the kernel knows.
    assert (watched["status"]["listen_queue"], watched["queue"]["waiting"]) == (0, 3)
    assert pools["idle"]["status"]["state"] == "ok"


def test_a_killed_master_leaves_its_socket(tmp_path: Path) -> None:
    pool("shop")
    run("systemctl start php8.2-fpm; systemctl kill -s KILL php8.2-fpm;"
        " for turn in $(seq 100); do systemctl is-failed -q php8.2-fpm && break; sleep 0.05; done")  # fmt: skip
    pools, (master,), _result = facts(tmp_path)
    assert (master["running"], master["pid"], master["unit_state"]["active"]) == (False, None, "failed")
    assert pools["shop"]["status"] == {
        "state": "not_running",
        "reason": "no master runs; php8.2-fpm.service is failed (signal); /run/php/shop.sock is left over",
    }
    assert pools["shop"]["queue"] is None
    assert pools["shop"]["memory"]["worker_count"] == 0


def test_a_stopped_service_is_not_started_by_looking(tmp_path: Path) -> None:
    pool("shop")
    status = facts(tmp_path)[0]["shop"]["status"]
    assert status == {
        "state": "not_running",
        "reason": "no master runs; php8.2-fpm.service is inactive (success)",
    }


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("/srv/app", "php-fpm8.2 -D -y ./my-fpm.conf"),
        # Without variables the title has no room for the file's name, nor for the pool's.
        ("/", "env -i /usr/sbin/php-fpm8.2 -D -y /srv/app/my-fpm.conf"),
    ],
    ids=["a relative path", "a title that is cut off"],
)
def test_a_master_started_by_hand(tmp_path: Path, folder: str, command: str) -> None:
    pool("shop")
    name = "a-pool-with-a-name-of-more-than-forty-letters"
    text = POOL.format(name=name, listen="/run/php/hand.sock", children=2, more="")
    write("/srv/app/my-fpm.conf", f"[global]\nerror_log = /srv/app/log\n{text}")
    run(f"systemctl start php8.2-fpm; cd {folder}; {command}")
    pools, masters, _result = facts(tmp_path)
    by_file = {master["config_file"]: master for master in masters}
    assert set(by_file) == {"/etc/php/8.2/fpm/php-fpm.conf", "/srv/app/my-fpm.conf"}
    hand = by_file["/srv/app/my-fpm.conf"]
    assert (hand["running"], hand["layout"], hand["version"], hand["unit"]) == (True, None, "8.2", None)
    assert hand["binary"] == "/usr/sbin/php-fpm8.2"
    found = pools[name]
    assert (found["file"], found["line"], found["master"]) == (
        "/srv/app/my-fpm.conf",
        3,
        "/srv/app/my-fpm.conf",
    )
    assert (found["status"]["state"], found["memory"]["worker_count"]) == ("ok", 2)
    assert pools["shop"]["status"]["state"] == "ok"


def test_a_broken_file_beside_running_pools(tmp_path: Path) -> None:
    pool("shop")
    run("systemctl start php8.2-fpm")
    write(f"{POOL_FOLDER}/bad.conf", "[bad]\nlisten = /run/php/bad.sock\nuser = www-data\npm.max_childs = 2")
    pools, (master,), result = facts(tmp_path)
    place = f"{POOL_FOLDER}/bad.conf"
    assert (place, 4) in [(error["file"], error["line"]) for error in master["errors"]]
    assert f"error: {place}:4: 'pm.max_childs' is not a directive of PHP-FPM" in result["summary"]
    # php-fpm itself names the same line.
    said = run("php-fpm8.2 -t 2>&1 || :")
    assert f"[{place}:4] unknown entry 'pm.max_childs'" in said
    assert pools["shop"]["status"]["state"] == "ok"


def test_bytes_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    run(f"printf '; caf\\351\\n' >{POOL_FOLDER}/a.conf")
    pool("shop")
    run(f"printf 'env[NAME] = caf\\351\\n' >>{POOL_FOLDER}/shop.conf; systemctl start php8.2-fpm")
    shop = facts(tmp_path)[0]["shop"]
    assert shop["status"]["state"] == "ok"
    assert shop["directives"]["env[NAME]"]["value"] == "caf\\xe9"


HELD = """[Unit]
Requires={sockets}
After={sockets}
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=/bin/sh -c 'number=3; for name in $$(echo $$LISTEN_FDNAMES | tr : " "); do \
FPM_SOCKETS="$$FPM_SOCKETS$${{FPM_SOCKETS:+,}}/run/php/.inherited-$$name=$$number"; number=$$((number + 1)); done; \
export FPM_SOCKETS; exec /usr/sbin/php-fpm8.2 --nodaemonize --fpm-config /etc/php/8.2/fpm/php-fpm.conf'
ExecStartPost=
ExecStopPost=
"""


@pytest.fixture
def held_sockets() -> Iterator[None]:
    names = ("shop", "blog", "rare")
    for name in names:
        write(
            f"/etc/systemd/system/lab-{name}.socket",
            f"[Socket]\nListenStream=/run/lab/{name}.sock\nFileDescriptorName={name}\nSocketUser=www-data\n"
            "SocketMode=0600\nBacklog=77\nRemoveOnStop=no\nService=php8.2-fpm.service",
        )
        mode = "pm = ondemand" if name == "rare" else ""
        pool(name, 1, mode, listen=f"/run/php/.inherited-{name}")
    sockets = " ".join(f"lab-{name}.socket" for name in names)
    write("/etc/systemd/system/php8.2-fpm.service.d/lab.conf", HELD.format(sockets=sockets))
    run(f"systemctl daemon-reload; systemctl start {sockets} php8.2-fpm")
    yield
    run(f"systemctl stop {sockets} php8.2-fpm; rm -r /etc/systemd/system/php8.2-fpm.service.d"
        " /etc/systemd/system/lab-*.socket; systemctl daemon-reload")  # fmt: skip


def test_sockets_that_systemd_holds(tmp_path: Path, held_sockets: None) -> None:
    pools, (master,), _result = facts(tmp_path)
    assert master["running"] is True
    for name in ("shop", "blog", "rare"):
        listen = pools[name]["listen"]
        assert (listen["raw"], listen["address"]) == (
            f"/run/php/.inherited-{name}",
            f"unix:/run/lab/{name}.sock",
        )
        assert (listen["held_by"], listen["socket_unit"]) == ("systemd", f"lab-{name}.socket")
        assert (listen["owner"], listen["mode"], listen["backlog"]) == ("www-data", "0600", 77)
        assert pools[name]["queue"] == {"waiting": 0, "backlog": 77}
        assert (pools[name]["status"]["state"], pools[name]["status"]["pool"]) == ("ok", name)
    # A service that is stopped must not be started by the question: systemd would, on a connection.
    run("systemctl stop php8.2-fpm")
    stopped, (master,), _result = facts(tmp_path)
    assert (master["running"], stopped["shop"]["status"]["state"]) == (False, "not_running")
    assert run("systemctl is-active php8.2-fpm || :").strip() == "inactive"


def test_a_tree_of_this_host_gives_the_same_configuration(tmp_path: Path) -> None:
    run(f"cp /srv/pools-as-installed/* {POOL_FOLDER}/")
    pool("shop")
    run("systemctl start php8.2-fpm; rm -rf /srv/tree; mkdir -p /srv/tree/etc; cp -a /etc/php /srv/tree/etc/")
    live, offline = facts(tmp_path)[0], facts(tmp_path, root="/srv/tree")[0]
    assert list(live) == list(offline) == ["shop", "www"]
    assert {name: one["directives"] for name, one in live.items()} == {
        name: one["directives"] for name, one in offline.items()
    }
    assert {one["status"]["reason"] for one in offline.values()} == {"a tree is not asked"}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"root": "/nowhere"}, "root=/nowhere is not a directory"),
        ({"timeout": 0}, "timeout=0 leaves a pool no time"),
    ],
)
def test_bad_parameters_are_told(tmp_path: Path, params: dict[str, Any], words: str) -> None:
    inventory = tmp_path / "hosts.json"
    inventory.write_text(lab.inventory([NAME]))
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible"), "-i", str(inventory), "all", "-m", "webops.php_stack.fpm_pool_facts",
         "-a", json.dumps(params)],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stdout
