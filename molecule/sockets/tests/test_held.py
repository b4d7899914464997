# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd holds every pool's socket, and PHP-FPM, nginx and the modules find it there."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest


@pytest.fixture
def pools(host):
    """(version, pool, backlog) of each described pool."""
    described = host.ansible.get_variables()["php_fpm_pools"]
    return [(pool["version"], pool["name"], pool.get("listen_backlog", 511)) for pool in described]


@pytest.fixture
def ask(host):
    """ask(module, **params) -> the result of ``ansible HOST -m MODULE``."""

    def run(module, **params):
        done = subprocess.run(
            ["ansible", "-i", os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname(),
             "-m", f"webops.php_stack.{module}", *(["-a", json.dumps(params)] if params else [])],
            capture_output=True, text=True, check=False,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
        )  # fmt: skip
        return json.loads(done.stdout.partition("=>")[2])

    return run


def test_systemd_holds_each_socket_and_fpm_has_inherited_it(host, pools):
    listening = host.check_output("ss -xlpnH")
    for version, pool, backlog in pools:
        path = f"/run/php{version}-fpm/held/{pool}.sock"
        assert host.file(path).is_socket
        assert (host.file(path).user, host.file(path).group, host.file(path).mode) == (
            "www-data", "www-data", 0o660,
        )  # fmt: skip
        assert host.file(f"/run/php{version}-fpm/{pool}.sock").linked_to == path
        (line,) = [line for line in listening.splitlines() if f" {path} " in line]
        assert line.split()[3] == str(backlog)
        assert '"systemd",pid=1,' in line
        assert f'"php-fpm{version}",' in line


def test_the_distribution_s_own_pool_is_held_too(host, pools):
    """One master serves them all: its restart must not cut the pool that nobody described."""
    for version in {version for version, _pool, _backlog in pools}:
        assert host.file(f"/run/php{version}-fpm/held/www.sock").is_socket
        done = host.run(f"/usr/local/bin/php-fpm-probe /run/php/php{version}-fpm.sock")
        assert done.rc == 0, done.stdout + done.stderr


def test_no_unit_has_failed(host, pools):
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
    for version in {version for version, _pool, _backlog in pools}:
        assert host.service(f"php_stack-php{version}-fpm-mend.path").is_running
        assert host.service(f"php_stack-php{version}-fpm-mend.path").is_enabled


def test_the_facts_name_the_socket_s_unit_and_the_path_that_nginx_uses(ask, pools):
    found = ask("fpm_pool_facts")["ansible_facts"]["fpm_pools"]
    for version, name, _backlog in pools:
        (listen,) = [pool["listen"] for pool in found if (pool["version"], pool["name"]) == (version, name)]
        assert listen["socket_unit"] == f"php{version}-fpm-{name}.socket"
        assert listen["path"] == f"/run/php{version}-fpm/{name}.sock"
        assert (listen["owner"], listen["group"], listen["mode"]) == ("www-data", "www-data", "0660")


def test_socket_check_and_the_audit_see_nothing_wrong(ask, pools):
    for version, name, _backlog in pools:
        for path in (f"/run/php{version}-fpm/{name}.sock", f"/run/php{version}-fpm/held/{name}.sock"):
            result = ask("socket_check", address=path, as_user="www-data")
            assert (result["reachable"], result["cause"]) == (True, None), result["msg"]
    about_sockets = [
        (finding["id"], finding["subject"], finding["status"], finding["reason"])
        for finding in ask("stack_audit")["findings"]
        if finding["id"].startswith("S") and finding["status"] != "pass"
    ]
    assert about_sockets == []


def test_a_stopped_service_is_started_by_the_next_request(host, pools):
    version, _name, _backlog = pools[0]
    host.check_output(f"systemctl stop php{version}-fpm.service")
    done = host.run("curl -s -m 20 -H 'Host: shop.example.com' 'http://127.0.0.1/load.php?id=woken'")
    assert done.stdout == "ok woken 0\n"


def test_a_reload_asked_for_again_does_nothing_but_reload(host, pools):
    """No reason for a restart is left over, and nothing needs mending."""
    for version in {version for version, _pool, _backlog in pools}:
        done = host.run(f"/usr/local/sbin/php-fpm-reload php{version}-fpm")
        assert done.rc == 0
        assert re.fullmatch(
            rf"php{version}-fpm: reloaded in [0-9.]+ s, \d+ of \d+ sockets? answered", done.stdout.strip()
        ), done.stdout
