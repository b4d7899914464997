# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stack_audit and its playbooks on a lab host: as installed, broken in six ways, and hardened."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))
import demo

NAME = "php-stack-it-audit"
LAB = [sys.executable, str(ROOT / "tests/lab/lab.py")]
BIN = Path(sys.executable).parent
# One request a site shows the wrong socket and the closed one; the others need load, a long request, a reload.
TRAFFIC = """
for site in shop blog report api; do
    echo hello >/srv/$site/robots.txt
    curl -s -o /dev/null -H "Host: $site.example.com" http://127.0.0.1/
done
hey -n 120 -c 60 -host api.example.com 'http://127.0.0.1/?ms=300'
curl -s -o /dev/null -H 'Host: report.example.com' 'http://127.0.0.1/?ms=4000'
hey -n 40 -c 4 -host api.example.com 'http://127.0.0.1/?ms=300' & load=$!
for turn in 1 2 3; do
    curl -s -o /dev/null -H 'Host: api.example.com' 'http://127.0.0.1/?ms=300'
    systemctl reload php8.2-fpm
done
wait $load
"""


def lab(*args: str) -> str:
    return subprocess.run([*LAB, *args], check=True, capture_output=True, text=True).stdout


def on_host(script: str) -> str:
    done = subprocess.run(
        ["docker", "exec", NAME, "bash", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Runner:
    """Runs the module and playbooks against the lab host."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(lab("inventory", NAME))

    def run(self, *argv: str, rc: int = 0) -> str:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(
            [str(BIN / argv[0]), "-i", str(self.inventory), *argv[1:]],
            capture_output=True, text=True, cwd=ROOT, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout

    def audit(self, rc: int = 0, **params: Any) -> dict[str, Any]:
        shown = self.run(
            "ansible",
            NAME,
            "-m",
            "webops.php_stack.stack_audit",
            "-a",
            json.dumps({"show": "none", **params}),
            rc=rc,
        )
        result: dict[str, Any] = json.loads(shown[shown.index(" => {") + 4 :])
        return result


def failed(result: dict[str, Any], *severities: str) -> set[str]:
    return {
        one["id"]
        for one in result["findings"]
        if one["status"] == "fail" and (not severities or one["severity"] in severities)
    }


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    lab("up", "--name", NAME, "--image", "stack", "--fresh")
    try:
        yield Runner(tmp_path_factory.mktemp("audit"))
    finally:
        lab("down", "--name", NAME)


@pytest.fixture(scope="session")
def stock(runner: Runner) -> dict[str, Any]:
    """The distribution's host, with its own default site given a PHP location as its comments show it."""
    on_host(
        r"cat >/etc/nginx/sites-available/default <<'CONF'"
        "\nserver {\n    listen 80 default_server;\n    root /var/www/html;\n    server_name _;\n"
        "    location / { try_files $uri $uri/ =404; }\n"
        "    location ~ \\.php$ {\n        include snippets/fastcgi-php.conf;\n"
        "        fastcgi_pass unix:/run/php/php8.2-fpm.sock;\n    }\n    location ~ /\\.ht { deny all; }\n}\nCONF\n"
        "systemctl reload nginx"
    )
    return runner.audit()


@pytest.fixture(scope="session")
def broken(runner: Runner, stock: dict[str, Any]) -> dict[str, Any]:
    subprocess.run(
        ["docker", "cp", str(ROOT / "tests/lab/demo/break.sh"), f"{NAME}:/root/"],
        check=True,
        capture_output=True,
    )
    on_host("rm -f /etc/nginx/sites-enabled/default; bash /root/break.sh")
    on_host(TRAFFIC)
    return runner.audit(probe=["static", "request", "isolation"])


@pytest.fixture(scope="session")
def hardened(runner: Runner, demonstrated: str) -> dict[str, Any]:
    runner.run("ansible-playbook", "playbooks/harden-php-stack.yml", "-e", "@tests/lab/demo/stack.yml")
    return runner.audit(since="0s")


@pytest.fixture(scope="session")
def diagnosed(runner: Runner, broken: dict[str, Any]) -> str:
    return runner.run("ansible-playbook", "--check", "playbooks/diagnose.yml")


@pytest.fixture(scope="session")
def demonstrated(runner: Runner, diagnosed: str, monkeypatch_session: pytest.MonkeyPatch) -> str:
    """diagnose.yml on the host of `make demo`, after the demo's own requests, reloads and killed master."""
    monkeypatch_session.setattr(demo, "NAME", NAME)
    assert [good for _name, (_asked, good, _others) in demo.measure() if good] != []
    return runner.run("ansible-playbook", "playbooks/diagnose.yml")


@pytest.fixture(scope="session")
def monkeypatch_session() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_the_distributions_host_has_no_critical_fault(stock: dict[str, Any]) -> None:
    assert failed(stock, "critical") == set()
    assert failed(stock, "high") == {"T02", "T04", "T05", "N12"}


def test_the_distributions_host_has_no_cause_of_failures(stock: dict[str, Any]) -> None:
    assert stock["causes"] == []
    assert [
        one["headline"] for one in stock["verdict"] if one["cause"] or one["severity"] == "critical"
    ] == []


def test_what_can_be_seen_on_a_live_host_is_not_unknown(stock: dict[str, Any]) -> None:
    assert {one["id"] for one in stock["findings"] if one["status"] == "unknown"} <= {"C10", "F06"}


def test_every_fault_of_the_broken_host_is_named(broken: dict[str, Any]) -> None:
    assert {"S01", "S03", "C02", "C04", "T01", "T04", "T05"} <= failed(broken)
    assert failed(broken, "critical") == {"S01", "S03"}


@pytest.mark.parametrize(
    ("site", "cause", "rule", "says"),
    [
        ("shop", "path_mismatch", "S01", "nginx passes to /run/php/php7.4-fpm.sock, and no pool listens there (shop.example.com.conf:9); pool shop"),
        ("blog", "socket_denied", "S03", "the socket /run/php/blog.sock (root:root 0600) stops it"),
        ("api", "backlog_full", "C02", "pm.max_children = 5, as installed, and the pool ran out of workers"),
        ("report", "request_terminated", "T01", "PHP may run for 300 s, PHP-FPM kills the request after 2 s"),
        ("api", "reload_cut_requests", "T04", "process_control_timeout is 0"),
    ],
)  # fmt: skip
def test_the_verdict_joins_the_logs_with_the_configuration(
    broken: dict[str, Any], site: str, cause: str, rule: str, says: str
) -> None:
    entry = next(one for one in broken["verdict"] if one["cause"] == cause)
    assert entry["rule"] == rule
    assert entry["headline"].startswith(f"502 on {site}.example.com: ")
    assert says in entry["headline"]
    assert entry["count"] >= 1


def test_probes_tell_the_socket_from_php_and_leave_nothing_behind(broken: dict[str, Any]) -> None:
    probes = {(one["kind"], one["subject"]): one for one in broken["probes"]}
    assert probes["static", "shop.example.com"]["ok"] is True
    assert probes["request", "pool blog (PHP 8.2) at unix:/run/php/blog.sock"]["ok"] is False
    blog = probes["isolation", "pool blog (PHP 8.2)"]
    assert blog["ok"] is True
    assert "the fault is the socket" in blog["found"]
    assert on_host("ls -d /tmp/php-stack-isolation-* 2>/dev/null | wc -l").strip() == "0"
    assert on_host("ps ax | grep -c '[p]hp-fpm: master'").strip() == "1"


def test_a_pool_that_cannot_work_fails_alone_too(runner: Runner, broken: dict[str, Any]) -> None:
    on_host("echo 'chdir = /nowhere' >>/etc/php/8.2/fpm/pool.d/blog.conf")
    try:
        result = runner.audit(probe=["isolation"], logs=False)
    finally:
        on_host("sed -i '/nowhere/d' /etc/php/8.2/fpm/pool.d/blog.conf")
    blog = next(one for one in result["probes"] if one["subject"] == "pool blog (PHP 8.2)")
    assert blog["ok"] is False
    assert "chdir path '/nowhere' does not exist" in blog["found"]
    assert "the fault is PHP or the pool's settings" in blog["found"]


def test_a_pool_with_a_ping_page_is_asked_for_it(runner: Runner, broken: dict[str, Any]) -> None:
    on_host(
        "echo 'ping.path = /ping' | tee -a /etc/php/8.2/fpm/pool.d/{shop,blog}.conf; systemctl restart php8.2-fpm"
    )
    try:
        probes = runner.audit(logs=False, probe=["ping"])["probes"]
    finally:
        on_host(
            "sed -i '/^ping.path/d' /etc/php/8.2/fpm/pool.d/{shop,blog}.conf; systemctl restart php8.2-fpm"
        )
    assert {one["subject"]: one["ok"] for one in probes} == {
        "pool shop (PHP 8.2) at unix:/run/php/shop.sock": True,
        "pool blog (PHP 8.2) at unix:/run/php/blog.sock": False,  # as nginx's user
        "pool api (PHP 8.2)": None,
        "pool report (PHP 8.2)": None,
    }


def test_the_isolation_test_ends_with_a_module_that_is_killed(
    runner: Runner, broken: dict[str, Any], tmp_path: Path
) -> None:
    """Whoever kills the module (a lost connection, the OOM killer) leaves no second PHP-FPM behind."""
    find = r"pgrep -f 'master process \(/tmp/php-stack-isolation'"
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(
            on_host,
            f'for turn in $(seq 2000); do pid=$({find} | head -n 1); [ -n "$pid" ] && break; sleep 0.01; done;'
            " kill -KILL $(ps -o ppid= -p $pid) && echo $pid",
        )
        runner.run(
            "ansible",
            NAME,
            "-m",
            "webops.php_stack.stack_audit",
            "-a",
            '{"probe": ["isolation"], "logs": false}',
            rc=2,
        )
        assert killed.result().strip().isdigit()
    gone = f"for turn in $(seq 500); do {find} >/dev/null || break; sleep 0.01; done; {find} | wc -l; rm -rf /tmp/php-stack-isolation-*"
    assert on_host(gone).strip() == "0"


def test_check_mode_starts_no_process(runner: Runner, broken: dict[str, Any]) -> None:
    shown = runner.run(
        "ansible", NAME, "--check", "-m", "webops.php_stack.stack_audit", "-a", '{"probe": ["isolation"]}'
    )
    result = json.loads(shown[shown.index(" => {") + 4 :])
    assert {one["ok"] for one in result["probes"]} == {None}


def test_fail_on_fails_the_task_with_the_findings(runner: Runner, broken: dict[str, Any]) -> None:
    result = runner.audit(rc=2, fail_on="critical")
    assert (
        result["msg"]
        == "The audit found 2 problems of severity critical or above: S01 (critical), S03 (critical)."
    )
    assert result["verdict"]


def test_the_terminal_shows_words_within_eighty_columns(diagnosed: str) -> None:
    screen = diagnosed[diagnosed.index("===") : diagnosed.index("ok: [")]
    lines = screen.splitlines()
    assert "{" not in screen.replace("{ ", "")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 50
    for rule in ("S01", "S03", "C02", "T01", "T04", "T05"):
        assert re.search(rf"\b{rule}\b", screen), rule


def test_a_fleet_gets_a_line_a_host_and_reports(
    runner: Runner, broken: dict[str, Any], tmp_path: Path
) -> None:
    shown = runner.run(
        "ansible-playbook", "--check", "playbooks/audit.yml", "-e", f"audit_reports={tmp_path}", "-e", "audit_fail_on=high", rc=2
    )  # fmt: skip
    assert re.search(rf"^{NAME}: 2 critical, \d+ high", shown, re.MULTILINE)
    sarif = json.loads((tmp_path / f"{NAME}.sarif").read_text())
    assert {one["ruleId"] for one in sarif["runs"][0]["results"] if one["kind"] == "fail"} == failed(broken)
    suite = ElementTree.parse(tmp_path / f"{NAME}.xml").getroot()
    assert int(suite.attrib["failures"]) > 0
    assert (tmp_path / f"{NAME}.txt").read_text().startswith("nginx + PHP-FPM: 2 critical")


@pytest.mark.parametrize(
    "words",
    [
        "502 on shop.example.com: nginx passes to /run/php/php7.4-fpm.sock",
        "502 on blog.example.com: www-data may not connect",
        "502 on api.example.com: pm.max_children = 5, as installed, and the pool ran out of workers",
        "502 on report.example.com: PHP may run for 300 s, PHP-FPM",
        "502 on api.example.com: process_control_timeout is 0: every",
        # The sixth, and what the demo does to show it.
        "php8.2-fpm.service: Restart=no: after a crash",
        "502 on api.example.com: Nobody listens on /run/php/api.sock",
    ],
)
def test_diagnose_names_every_fault_of_the_demo(demonstrated: str, words: str) -> None:
    screen = demonstrated[demonstrated.index("===") : demonstrated.index("ok: [")]
    assert len(screen.splitlines()) <= 50
    assert words in " ".join(screen.split()), screen


def test_the_hardened_host_names_no_cause_after_visitors_and_reloads(
    runner: Runner, hardened: dict[str, Any]
) -> None:
    since = on_host("date +@%s").strip()
    on_host(TRAFFIC)
    result = runner.audit(since=since)
    assert result["verdict"] == []
    assert result["causes"] == []


def test_every_probe_of_the_hardened_host_works(runner: Runner, hardened: dict[str, Any]) -> None:
    probes = runner.audit(logs=False, probe=["static", "request", "isolation"])["probes"]
    pools = {f"pool {name} (PHP 8.2)" for name in ("shop", "blog", "api", "report")}
    assert [(one["kind"], one["subject"], one["found"]) for one in probes if one["ok"] is False] == []
    worked = {(one["kind"], one["subject"]) for one in probes if one["ok"]}
    assert {("isolation", pool) for pool in pools} <= worked
    assert {kind for kind, _subject in worked} == {"static", "request", "isolation"}


def test_the_hardened_host_fails_nothing(hardened: dict[str, Any]) -> None:
    assert [(one["id"], one["found"]) for one in hardened["findings"] if one["status"] == "fail"] == []
