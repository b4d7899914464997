# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: asking the site, loading it, and running the playbook again."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(os.environ["PHP_STACK_CHECKOUT"])


@pytest.fixture
def get(host):
    """get(path, site) -> the HTTP status that a client on the host sees."""

    def ask(path="/index.php", site="shop.example.com"):
        done = host.run(
            "curl -s -o /dev/null -m 20 -w '%%{http_code}' -H 'Host: %s' 'http://127.0.0.1%s'", site, path
        )
        return int(done.stdout)

    return ask


@pytest.fixture
def answers_again(host):
    """answers_again(seconds): wait until the site's page is a 200; the test fails where it never is."""

    def wait(seconds=10, site="shop.example.com"):
        done = host.run(
            'timeout %s sh -c \'until curl -sf -m 5 -o /dev/null -H "Host: %s" http://127.0.0.1/index.php;'
            " do sleep 0.1; done'",
            str(seconds),
            site,
        )
        assert done.rc == 0, host.run(
            "systemctl status nginx php8.2-fpm; tail -n 20 /var/log/nginx/error.log"
        ).stdout

    return wait


@pytest.fixture
def under_load(host):
    """under_load(command, requests) -> ({status: count}, command's result), both run at the same time.

    The command runs while hey's requests do; it starts once the first of them are answered.
    """

    def run(command, requests=600, path="/slow.php?ms=50"):
        script = (
            "rm -f /tmp/load; before=$(wc -l </var/log/nginx/access.log);"
            f" hey -n {requests} -c 4 -t 30 -host shop.example.com 'http://127.0.0.1{path}' >/tmp/load 2>&1 & load=$!;"
            ' timeout 10 sh -c "until [ \\$(wc -l </var/log/nginx/access.log) -gt $before ]; do sleep 0.05; done";'
            f" ( {command} ) >/tmp/command 2>&1; rc=$?; kill -0 $load || echo 'THE LOAD ENDED FIRST' >>/tmp/command;"
            " wait $load; exit $rc"
        )
        done = host.run("bash -c %s", script)
        report = host.file("/tmp/load").content_string
        counts: dict = {
            int(code): int(count) for code, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", report)
        }
        failed = sum(int(count) for count in re.findall(r"(?m)^\s+\[(\d+)\]\s+(?:Get|Post)", report))
        if failed:
            counts["no answer"] = failed
        said = host.file("/tmp/command").content_string
        assert "THE LOAD ENDED FIRST" not in said, (
            "raise the number of requests: the load did not cover the command"
        )
        return counts, (done.rc, said)

    return run


@pytest.fixture
def harden(host):
    """harden(variables, *options) -> the finished ansible-playbook run against this host."""

    def run(variables=None, *options):
        name = host.backend.get_hostname()
        inventory = os.environ.get("MOLECULE_INVENTORY_FILE")
        return subprocess.run(
            ["ansible-playbook", "-i", inventory, "--limit", name, "-e", json.dumps(variables or {}), *options,
             str(CHECKOUT / "playbooks/harden-php-stack.yml")],
            check=False, capture_output=True, text=True, env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )  # fmt: skip

    return run


@pytest.fixture
def tree(host):
    """tree() -> one checksum over every file, owner and mode of the stack's configuration."""

    def checksum():
        return host.check_output(
            "{ find /etc/php /etc/nginx /etc/systemd/system /etc/tmpfiles.d /etc/sudoers.d -printf '%%p %%m %%u %%g %%l\\n';"
            " find /etc/php /etc/nginx /etc/systemd/system /etc/tmpfiles.d /etc/sudoers.d -type f -exec sha256sum {} +; }"
            " | sort | sha256sum"
        )

    return checksum
