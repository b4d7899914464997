# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role fpm_reload as Ansible runs it, on a host with PHP-FPM and on a fresh one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from fpm_reload_lab import (
    LOCKS,
    NAME,
    RELOAD,
    UNIT,
    Host,
    host,
    lab,
    play,
    prepared,
    role,
)

__all__ = ["host", "prepared"]  # fixtures


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    line = next(line for line in done.stdout.splitlines()[::-1] if "unreachable=" in line)
    return {key: int(value) for key, value in (pair.split("=") for pair in line.split(":")[1].split())}


def nudge(**facts: Any) -> list[dict[str, Any]]:
    """A change in another role that notifies the topic."""
    note = [{"name": "Note", "ansible.builtin.set_fact": facts}] if facts else []
    return [
        *note,
        {
            "name": "Change",
            "ansible.builtin.command": "true",
            "changed_when": True,
            "check_mode": False,
            "notify": "webops.php_stack reload php-fpm",
        },
    ]


def test_a_second_run_changes_nothing_and_a_user_who_is_gone_loses_the_rule(
    host: Host, tmp_path: Path
) -> None:
    assert recap(play(tmp_path, NAME, [role()]))["changed"] == 0
    try:
        more = play(tmp_path, NAME, [role(fpm_reload_deploy_users=["deploy", "other"])])
        assert recap(more)["changed"] == 1
        assert host.run(f"sudo -u other sudo -n -l {RELOAD} {UNIT}").returncode == 0
        assert recap(play(tmp_path, NAME, [role(fpm_reload_deploy_users=[])], "--check"))["changed"] == 1
        assert host.run("ls /etc/sudoers.d/php-fpm-reload").returncode == 0
        assert recap(play(tmp_path, NAME, [role(fpm_reload_deploy_users=[])]))["changed"] == 1
        assert host.run("ls /etc/sudoers.d/php-fpm-reload").returncode != 0
        assert host.run(f"sudo -u deploy sudo -n -l {RELOAD} {UNIT}").returncode == 1
    finally:
        assert recap(play(tmp_path, NAME, [role()]))["failed"] == 0
    assert host.ok("stat -c '%U %G %a' /etc/sudoers.d/php-fpm-reload") == "root root 440"
    assert (
        host.ok(f"stat -c '%U %G %a' {RELOAD} /usr/local/lib/php_stack/fastcgi.py")
        == "root root 755\nroot root 644"
    )


def test_all_mistakes_are_reported_at_once_and_nothing_changes(host: Host, tmp_path: Path) -> None:
    users = ["Root", {"user": "a", "versions": ["7.4"]}, {"usr": 1}, "deploy\n", "x ALL=(ALL) ALL", "a"]
    before = host.ok("md5sum /etc/sudoers.d/*")
    done = play(tmp_path, NAME, [role(fpm_reload_deploy_users=users, fpm_reload_units=["php8.2-fpm", "-x"])])
    assert recap(done)["failed"] == 1
    message = json.loads(done.stdout.split("FAILED! => ")[1].split("\n\n")[0])["msg"]
    assert [line.split(":")[0] for line in message[1:]] == [
        "fpm_reload_units",
        *(f"fpm_reload_deploy_users[{index}]" for index in range(6)),
    ]
    assert host.ok("md5sum /etc/sudoers.d/*") == before


def test_a_sudo_rule_file_broken_by_others_keeps_ours_out(host: Host, tmp_path: Path) -> None:
    host.ok("echo 'nonsense here' >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz")
    before = host.ok("md5sum /etc/sudoers.d/php-fpm-reload")
    done = play(tmp_path, NAME, [role(fpm_reload_deploy_users=["other"])])
    host.ok("rm /etc/sudoers.d/zz")
    assert recap(done)["failed"] == 1
    assert "syntax error" in done.stdout
    assert host.ok("md5sum /etc/sudoers.d/php-fpm-reload") == before


def test_the_handler_reloads_each_pending_unit_once(host: Host, tmp_path: Path) -> None:
    before = host.generation()
    host.ok("journalctl --rotate -q; journalctl --vacuum-time=1s -q")
    done = play(tmp_path, NAME, [role(), *nudge(fpm_reload_pending_units=[UNIT, UNIT]), *nudge()])
    assert recap(done)["failed"] == 0, done.stdout
    assert host.generation() != before
    assert host.ok("journalctl -t php-fpm-reload -o cat | grep -c reloaded") == "1"


def test_the_handler_does_nothing_in_check_mode(host: Host, tmp_path: Path) -> None:
    before = host.generation()
    assert recap(play(tmp_path, NAME, [role(), *nudge()], "--check"))["failed"] == 0
    assert host.generation() == before


def test_the_handler_fails_the_play_with_fpms_own_words(host: Host, tmp_path: Path) -> None:
    before = host.generation()
    host.pool(pm="sometimes")
    done = play(tmp_path, NAME, [role(), *nudge()])
    assert recap(done)["failed"] == 1
    assert "the configuration is invalid, the running PHP-FPM was left alone" in done.stdout
    assert "invalid process manager" in done.stdout
    assert host.generation() == before


def test_a_fresh_host_passes_check_mode_then_gets_it_all(tmp_path: Path) -> None:
    name = f"{NAME}-fresh"
    lab("up", "--name", name, "--image", "host", "--fresh")
    try:
        fresh = Host(name)
        fresh.ok("rm -rf /etc/sudoers.d/php-fpm-reload")
        checked = play(tmp_path, name, [role(), *nudge()], "--check")
        assert recap(checked)["failed"] == 0, checked.stdout
        assert fresh.run(f"ls {RELOAD} {LOCKS}").stdout == ""
        assert recap(play(tmp_path, name, [role()]))["failed"] == 0
        assert recap(play(tmp_path, name, [role()]))["changed"] == 0
        assert fresh.run(f"{RELOAD} {UNIT}").returncode == 4
        assert fresh.run("php-fpm-probe --quiet /run/php/x.sock").returncode == 10
        # A reboot empties /run; the lock folder is root's again before any user can log in.
        subprocess.run(["docker", "restart", name], check=True, capture_output=True)
        lab("up", "--name", name, "--image", "host")
        assert fresh.ok(f"stat -c '%U %a' {LOCKS}") == "root 755"
    finally:
        lab("down", "--name", name)
