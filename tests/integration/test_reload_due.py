# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed between a change and its reload loses no reload: the next run makes up for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = "it-reload-due"
DUE = "/var/lib/php_stack/due"
GENERATIONS = {
    "php8.2-fpm": "cut -d' ' -f1,22,28 /proc/$(systemctl show -P MainPID php8.2-fpm)/stat",
    # A reload starts new workers; the master stays.
    "nginx": "pgrep --newest --full '^nginx: worker process$'",
}
LIVE = {
    "php8.2-fpm": "grep -h max_children /etc/php/8.2/fpm/pool.d/shop.conf",
    "nginx": "grep -h server_name /etc/nginx/sites-enabled/shop*",
}


def lab(*args: str) -> str:
    command = [sys.executable, str(ROOT / "tests/lab/lab.py"), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def shell(script: str) -> str:
    done = subprocess.run(
        ["docker", "exec", HOST, "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout.strip()


def stack(children: int = 4, alias: str = "") -> dict[str, Any]:
    """A description; what differs from the one before decides which reload is due."""
    return {
        "php_fpm_pools": [{"name": "shop", "pm": "static", "pm_max_children": children}],
        "nginx_php_sites": [
            {
                "name": "shop.example.com",
                "server_names": ["shop.example.com", *filter(None, [alias])],
                "pool": "shop",
                "root": "/srv/shop",
            }
        ],
    }


class Runs:
    """Runs of the playbook harden-php-stack.yml."""

    def __init__(self, folder: Path) -> None:
        (folder / "inventory.json").write_text(lab("inventory", HOST))
        self.folder = folder

    def begin(self, description: dict[str, Any], *options: str) -> subprocess.Popen[str]:
        variables = json.dumps(description)
        return subprocess.Popen(
            [
                str(ROOT / ".venv/bin/ansible-playbook"),
                "-i",
                str(self.folder / "inventory.json"),
                "-e",
                variables,
                *options,
                str(ROOT / "playbooks/harden-php-stack.yml"),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def whole(self, description: dict[str, Any], *options: str) -> tuple[int, str]:
        """How many tasks changed something, and all that was said."""
        run = self.begin(description, *options)
        said, _nothing = run.communicate(timeout=400)
        assert run.returncode == 0, said[-4000:]
        line = next(line for line in said.splitlines()[::-1] if "unreachable=" in line)
        return int(line.split("changed=")[1].split()[0]), said

    def killed_once_due(self, description: dict[str, Any], name: str) -> None:
        """SIGKILL for the controller as soon as the marker is there: the change follows, its handler does not."""
        run = self.begin(description)
        try:
            shell(f"until [ -e {DUE}/{name} ]; do sleep 0.01; done")
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        # What the controller had begun on the host ends there by itself.
        shell("while pgrep -f [A]nsiballZ >/dev/null; do sleep 0.05; done")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    lab("up", "--name", HOST, "--fresh")
    try:
        shell("mkdir -p /srv/shop && echo '<?php echo 1;' >/srv/shop/index.php")
        runs = Runs(tmp_path_factory.mktemp("runs"))
        runs.whole(stack())
        assert runs.whole(stack())[0] == 0
        assert shell(f"ls {DUE}") == "", "a whole run leaves nothing due"
        yield runs
    finally:
        lab("down", "--name", HOST)


@pytest.mark.parametrize(
    ("name", "description"),
    [("php8.2-fpm", stack(5)), ("nginx", stack(5, "www.shop.example.com"))],
)
def test_the_next_run_does_the_reload_that_a_killed_run_did_not(
    runs: Runs, name: str, description: dict[str, Any]
) -> None:
    before = shell(GENERATIONS[name])
    files = shell(LIVE[name])
    runs.killed_once_due(description, name)
    assert shell(LIVE[name]) != files, "the change was to be on the disk"
    assert shell(GENERATIONS[name]) == before, "the run was to end before its reload"
    assert name in shell(f"ls {DUE}").split()
    # Check mode sees it, and leaves it alone.
    changed, _said = runs.whole(description, "--check")
    assert changed > 0
    assert shell(GENERATIONS[name]) == before
    assert name in shell(f"ls {DUE}").split()
    changed, _said = runs.whole(description)
    assert changed > 0
    assert shell(GENERATIONS[name]) != before, "the reload that was due"
    assert shell(f"ls {DUE}") == ""
    after = shell(GENERATIONS[name])
    assert runs.whole(description)[0] == 0
    assert shell(GENERATIONS[name]) == after


def test_a_reload_that_fails_stays_due_and_every_run_is_red_until_it_succeeds(runs: Runs) -> None:
    description = stack(6, "www.shop.example.com")
    drop_in = "/etc/systemd/system/php8.2-fpm.service.d/zz-test.conf"
    shell(f"printf '[Service]\\nExecReload=\\nExecReload=/bin/false\\n' >{drop_in}; systemctl daemon-reload")
    for _turn in range(2):
        run = runs.begin(description)
        said, _nothing = run.communicate(timeout=400)
        assert run.returncode != 0
        assert "systemctl reload failed" in said
        assert shell(f"ls {DUE}") == "php8.2-fpm"
    shell(f"rm {drop_in}; systemctl daemon-reload")
    # A person's own reload does it as well, and the next run finds nothing to do.
    assert "reloaded in" in shell("php-fpm-reload php8.2-fpm")
    assert shell(f"ls {DUE}") == ""
    runs.whole(description)
    assert runs.whole(description)[0] == 0
