# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy user may reload its version, and nothing else."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://all"]

RELOAD = "/usr/local/sbin/php-fpm-reload"


def as_user(host, user, command):
    return host.run(f"runuser -u {user} -- sudo -n {command}")


def test_deploy_reloads_its_version(host):
    done = as_user(host, "deploy", f"{RELOAD} php8.2-fpm")
    assert done.rc == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        f"{RELOAD} php8.4-fpm",
        f"{RELOAD} nginx",
        f"{RELOAD} --restart php8.2-fpm",
        f"{RELOAD} php8.2-fpm --restart",
        f"{RELOAD}",
        "systemctl reload php8.2-fpm",
        "systemctl stop php8.2-fpm",
        "systemctl restart php8.2-fpm",
        "/bin/sh",
    ],
)
def test_deploy_does_nothing_else(host, command):
    before = host.check_output("systemctl show -P MainPID php8.2-fpm")
    done = as_user(host, "deploy", command)
    assert done.rc == 1
    assert "a password is required" in done.stderr
    assert host.check_output("systemctl show -P MainPID php8.2-fpm") == before


def test_other_users_do_not_reload(host):
    done = as_user(host, "guest", f"{RELOAD} php8.2-fpm")
    assert done.rc == 1
    assert "a password is required" in done.stderr
