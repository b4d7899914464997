# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three stacks, made of the same packages: the distribution's default, the usual recipe, and ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab

from faultlab import client

CHECKOUT = Path(__file__).resolve().parents[3]
PREFIX = "php-stack-faults"
SITE = "shop.example.com"
SATURATED_SITE = "blog.example.com"
MEMORY = "768m"

PAGES = CHECKOUT / "tests/lab/faultlab/pages"


@dataclass(frozen=True)
class Wanted:
    """What the owner of the host wants: the same for all three stacks, in each one's own words."""

    pool: str = "shop"
    version: str = "8.2"
    max_children: int = 5
    owner: str = "www-data"
    ini: dict[str, str] = field(default_factory=lambda: {"realpath_cache_ttl": "120"})
    directives: dict[str, str] = field(default_factory=dict)
    old: tuple[
        tuple[str, str], ...
    ] = ()  # (version, pool) that are to go; ours removes what is not described


class Stack:
    """A lab host with one of the stacks. `deploy` is how a deployment reloads PHP-FPM there."""

    key = ""
    title = ""
    deploy = "systemctl reload php8.2-fpm"
    # Whether a playbook that failed leaves the host as it was.
    rolls_back = False
    playbook = CHECKOUT / "tests/lab/faultlab/plain/play.yml"

    def __init__(self) -> None:
        self.name = f"{PREFIX}-{self.key}"
        self.wanted = Wanted()
        self.inventory = CHECKOUT / f".cache/lab/{self.name}.json"
        self.log = CHECKOUT / f".cache/lab/{self.name}.log"

    # -- the host ---------------------------------------------------------------------------------

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script on the host; its exit code is the caller's matter."""
        return subprocess.run(
            ["docker", "exec", "-i", self.name, "bash", "-c", script],
            check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def address(self) -> str:
        """The container's address, '' while it has none."""
        found = lab.docker(
            "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.name
        )
        return found.stdout.strip()

    def set_up(self) -> None:
        self.boot("--image", "twin", "--memory", MEMORY, "--fresh")
        self.inventory.parent.mkdir(parents=True, exist_ok=True)
        self.inventory.write_text(lab.inventory([self.name]))
        self.log.write_text("")
        self.sh("mkdir -p /srv/lab")
        lab.docker("cp", f"{PAGES}/.", f"{self.name}:/srv/lab")
        if self.apply(self.wanted) != 0:
            raise RuntimeError(f"{self.title}: the first run of its playbook failed, see {self.log}")
        if not self.healthy():
            raise RuntimeError(f"{self.title}: it does not answer after its set-up, see {self.log}")

    def fetch_package(self) -> bool:
        """Have php8.2-fpm's package at hand, so that its reinstallation needs no network."""
        return self.sh(
            "apt-get -qq update && apt-get -qq -y install --reinstall --download-only php8.2-fpm"
        ).returncode == 0  # fmt: skip

    def reboot(self) -> None:
        """Shut the host down and boot it again; returns once its nginx answers."""
        lab.docker("stop", "-t", "20", self.name)
        lab.docker("start", self.name)
        client.wait_for_answer(self.address, SITE)

    def boot(self, *options: str) -> None:
        """Have the container run and its boot done, by lab.py. RuntimeError where it does not boot."""
        command = [sys.executable, str(CHECKOUT / "tests/lab/lab.py"), "up", "--name", self.name]
        # On a busy machine a container's systemd was seen to stop half-way through its boot, for ever.
        for _turn in range(2):
            try:
                done = subprocess.run(
                    [*command, *options], timeout=40, check=False, capture_output=True, text=True
                )
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                return
            raise RuntimeError(done.stderr.strip())
        raise RuntimeError(f"{self.title}: {self.name} did not boot within 80 s")

    # -- the stack --------------------------------------------------------------------------------

    def variables(self, wanted: Wanted) -> dict[str, Any]:
        raise NotImplementedError

    def play(self, variables: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
        """Run the stack's playbook on this host alone; what it printed is added to the log too."""
        done = subprocess.run(
            [str(CHECKOUT / ".venv/bin/ansible-playbook"), "-i", str(self.inventory), "--limit", self.name,
             "-e", json.dumps(variables), *options, str(self.playbook)],
            check=False, capture_output=True, text=True, cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip
        with self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        return done

    def apply(self, wanted: Wanted) -> int:
        """Run the stack's playbook; its exit code. What is wanted is kept where it succeeded."""
        done = self.play(self.variables(wanted))
        if done.returncode == 0:
            self.wanted = wanted
        return done.returncode

    def socket(self) -> str:
        """The path at which nginx looks for the site's pool."""
        raise NotImplementedError

    def healthy(self) -> bool:
        asked = f'curl -s -m 5 -H "Host: {SITE}" "http://127.0.0.1/load.php?id=check"'
        return (
            self.sh(f"timeout 5 bash -c 'until [[ $({asked}) == ok* ]]; do sleep 0.1; done'").returncode == 0
        )

    def restore(self) -> None:
        """What a person does after a fault that the stack did not survive. Raises where it does not help."""
        self.sh("rm -f /etc/php/*/fpm/pool.d/zz-broken.conf")
        if self.healthy():
            return
        service = f"php{self.wanted.version}-fpm"
        self.sh(
            f"systemctl reset-failed; systemctl stop {service};"
            " for unit in $(systemctl list-unit-files --type=socket --no-legend | awk '/fpm/ {print $1}');"
            f" do systemctl restart $unit; done; systemctl restart {service} nginx"
        )
        if not self.healthy():
            self.apply(self.wanted)
            self.sh(f"systemctl reset-failed; systemctl restart {service} nginx")
        if not self.healthy():
            raise RuntimeError(f"{self.title}: cannot be brought back, see {self.log}")

    def error_log(self, tag: str) -> str:
        """nginx's lines about the requests of one run of the load."""
        return self.sh(f"grep -hF 'id={tag}-' /var/log/nginx/error.log").stdout


class Plain(Stack):
    recipe = False

    def variables(self, wanted: Wanted) -> dict[str, Any]:
        def pool(name: str, **more: Any) -> dict[str, Any]:
            return {"name": name, "version": wanted.version, "owner": "www-data", "max_children": 5,
                    "directives": {}, **more}  # fmt: skip

        versions = sorted({"8.2", wanted.version})
        return {
            "recipe": self.recipe,
            "versions": versions,
            "ini": wanted.ini,
            "pools": [
                pool(wanted.pool, owner=wanted.owner, max_children=wanted.max_children,
                     directives=wanted.directives),
                pool("blog"),
            ],
            "old_pool_files": [f"/etc/php/{v}/fpm/pool.d/{p}.conf" for v, p in wanted.old],
            "sites": [
                {"name": SITE, "pool": wanted.pool, "version": wanted.version},
                {"name": SATURATED_SITE, "pool": "blog", "version": wanted.version},
            ],
        }  # fmt: skip

    def socket(self) -> str:
        return f"/run/php/php{self.wanted.version}-fpm-{self.wanted.pool}.sock"


class Default(Plain):
    key = "default"
    title = "distribution's default"


class Recipe(Plain):
    key = "recipe"
    title = "usual recipe"
    recipe = True
    deploy = "flock --nonblock /tmp/php-reload.lock systemctl reload php8.2-fpm"


class Ours(Stack):
    key = "ours"
    title = "webops.php_stack"
    deploy = "/usr/local/sbin/php-fpm-reload php8.2-fpm"
    rolls_back = True
    playbook = CHECKOUT / "playbooks/harden-php-stack.yml"

    def variables(self, wanted: Wanted) -> dict[str, Any]:
        # The same capacity as the distribution's own pool.
        size = {"pm_start_servers": 2, "pm_min_spare_servers": 1, "pm_max_spare_servers": 3,
                "pm_max_requests": 0, "version": wanted.version}  # fmt: skip
        pools = [
            {"name": wanted.pool, **size, "pm_max_children": wanted.max_children,
             "listen_owner": wanted.owner, "directives": wanted.directives},
            {"name": "blog", **size, "pm_max_children": 5},
        ]  # fmt: skip
        return {
            "php_fpm_pools": pools,
            "php_fpm_ini": wanted.ini,
            "nginx_php_sites": [
                {"name": SITE, "pool": wanted.pool, "root": "/srv/lab", "check_path": "/load.php"},
                {"name": SATURATED_SITE, "pool": "blog", "root": "/srv/lab"},
            ],
        }

    def socket(self) -> str:
        text = self.sh("nginx -T 2>/dev/null").stdout
        found = re.search(
            rf"^upstream php_{self.wanted.pool} {{[^}}]*?server unix:([^ ;]+)", text, re.MULTILINE
        )
        return found[1] if found else ""


STACKS: dict[str, type[Stack]] = {stack.key: stack for stack in (Default, Recipe, Ours)}
