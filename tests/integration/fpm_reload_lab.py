# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host on which the tests of php-fpm-reload and of its role run."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "it-fpm-reload"
RELOAD = "/usr/local/sbin/php-fpm-reload"
UNIT = "php8.2-fpm"
SOCKET = "/run/php/php8.2-fpm.sock"
POOL = "/etc/php/8.2/fpm/pool.d/www.conf"
LOCKS = "/run/lock/php_stack"
SETTINGS = {
    "fpm_reload_versions": ["8.2"],
    "fpm_reload_deploy_users": [{"user": "deploy", "versions": ["8.2"]}],
}


class Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.started: list[subprocess.Popen[str]] = []

    def run(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", self.name, "bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def start(self, command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["docker", "exec", self.name, "bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def reap(self) -> None:
        """End what a test has left running, and close its pipes."""
        while self.started:
            process = self.started.pop()
            process.kill()
            process.communicate()

    def python(self, source: str) -> str:
        """Run a script that may use what the role installed."""
        head = "import sys; sys.path.insert(0, '/usr/local/lib/php_stack')\n"
        done = subprocess.run(
            ["docker", "exec", "-i", self.name, "python3", "-"],
            input=head + textwrap.dedent(source),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, path: str, content: str) -> None:
        subprocess.run(
            ["docker", "exec", "-i", self.name, "sh", "-c", f"cat >'{path}'"],
            input=content,
            text=True,
            check=True,
        )

    def pool(self, **settings: str) -> None:
        """Set values in the pool file, later ones over the packaged ones."""
        lines = "".join(f"{key.replace('__', '.')} = {value}\n" for key, value in settings.items())
        self.write(POOL, self.ok(f"cat {POOL}.packaged 2>/dev/null || cat {POOL}") + "\n" + lines)

    def until(self, command: str) -> None:
        """Wait until a command succeeds."""
        self.ok(f"for i in $(seq 200); do {command} && exit 0; sleep 0.05; done; exit 1")

    def generation(self) -> str:
        """Changes with each reload and restart."""
        return self.ok(f"cut -d' ' -f1,22,28 /proc/$(systemctl show -P MainPID {UNIT})/stat")

    def answers(self) -> bool:
        return self.run(f"php-fpm-probe --quiet {SOCKET}").returncode == 0


def lab(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/lab/lab.py"), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def play(
    folder: Path, host: str, tasks: list[dict[str, Any]], *options: str
) -> subprocess.CompletedProcess[str]:
    (folder / "inventory.json").write_text(lab("inventory", host), encoding="utf-8")
    book = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (folder / "play.json").write_text(json.dumps(book), encoding="utf-8")
    return subprocess.run(
        [
            str(ROOT / ".venv/bin/ansible-playbook"),
            "-i",
            str(folder / "inventory.json"),
            str(folder / "play.json"),
            *options,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def role(**settings: Any) -> dict[str, Any]:
    return {
        "name": "The role",
        "ansible.builtin.include_role": {"name": "webops.php_stack.fpm_reload"},
        "vars": {**SETTINGS, **settings},
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    lab("up", "--name", NAME, "--fresh")
    host = Host(NAME)
    try:
        done = play(tmp_path_factory.mktemp("prepared"), NAME, [role()])
        assert done.returncode == 0, done.stdout + done.stderr
        host.ok("useradd -m deploy && useradd -m other")
        host.ok("mkdir -p /srv/app && cp -a /etc/php/8.2/fpm /root/fpm")
        # A signal ends a single sleep early.
        host.write(
            "/srv/app/sleep.php",
            "<?php $end = microtime(true) + $_SERVER['QUERY_STRING'] / 1e6;"
            " while (microtime(true) < $end) { usleep(5000); } echo 'done';\n",
        )
        yield host
    finally:
        lab("down", "--name", NAME)


@pytest.fixture
def host(prepared: Host) -> Iterator[Host]:
    """The distribution's configuration, running, and no traces of reloads."""
    prepared.ok(
        "rm -rf /etc/php/8.2/fpm /etc/systemd/system/php8.2-fpm.service.d /var/lib/php_stack/last-good"
        f" /var/lib/php_stack/rejected {LOCKS}; cp -a /root/fpm /etc/php/8.2/fpm; cp {POOL} {POOL}.packaged;"
        f" systemctl daemon-reload; systemctl reset-failed {UNIT}; systemctl enable -q {UNIT}; systemctl restart {UNIT}"
    )
    yield prepared
    prepared.reap()
