# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on a running host: nothing is lost that need not be, and nobody has to come."""

from __future__ import annotations

import subprocess

from conftest import CHECKOUT

testinfra_hosts = ["ansible://php-stack-default-stock"]


def test_reloads_under_load_lose_nothing(host, under_load):
    reload = "for i in 1 2 3 4 5; do /usr/local/sbin/php-fpm-reload php8.2-fpm || exit 1; done"
    counts, (rc, said) = under_load(reload)
    assert rc == 0, said
    assert counts == {200: 600}


def test_systemctl_reload_under_load_loses_nothing(host, under_load):
    counts, (rc, said) = under_load("for i in 1 2 3 4 5; do systemctl reload php8.2-fpm || exit 1; done")
    assert rc == 0, said
    assert counts == {200: 600}


def test_a_killed_master_comes_back_by_itself(host, answers_again):
    before = host.check_output("systemctl show -P MainPID php8.2-fpm")
    host.check_output("kill -KILL %s", before)
    answers_again(10)
    assert host.check_output("systemctl show -P MainPID php8.2-fpm") not in (before, "0")


def test_more_crashes_than_the_start_limit_allows_are_healed(host, answers_again):
    for _turn in range(6):
        host.check_output("kill -KILL $(systemctl show -P MainPID php8.2-fpm)")
        answers_again(10)
    assert host.service("php8.2-fpm").is_running


def test_a_killed_nginx_comes_back_by_itself(host, answers_again):
    host.check_output("kill -KILL $(cat /run/nginx.pid)")
    answers_again(10)


def test_a_reboot_heals(host, answers_again):
    """/run is empty after it: the sockets' folder and the sockets are made anew."""
    name = host.backend.get_hostname()
    subprocess.run(["docker", "restart", "-t", "10", name], check=True, capture_output=True)
    subprocess.run([CHECKOUT / "tests/lab/lab.py", "up", f"--name={name}"], check=True)
    answers_again(20)
    assert host.file("/run/php8.2-fpm/shop.sock").is_socket
