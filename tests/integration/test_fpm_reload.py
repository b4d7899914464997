# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""php-fpm-reload on a real host: systemd, sudo, PHP-FPM and the faults that people meet."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from fpm_reload_lab import (
    LOCKS,
    NAME,
    POOL,
    RELOAD,
    ROOT,
    SOCKET,
    UNIT,
    Host,
    host,
    prepared,
)

__all__ = ["host", "prepared"]  # fixtures


def test_a_reload_makes_a_new_generation_and_says_so_in_one_line_and_in_the_journal(host: Host) -> None:
    before = host.generation()
    done = host.run(f"{RELOAD} {UNIT}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("php8.2-fpm: reloaded in ")
    assert done.stdout.endswith(", 1 of 1 socket answered\n")
    after = host.generation()
    assert before != after
    assert before.split()[0] == after.split()[0]
    assert done.stdout.strip() in host.ok("journalctl -t php-fpm-reload -o cat -n 5")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("", 2, "the following arguments are required: UNIT"),
        ("php8.2-fpm extra", 2, "unrecognized arguments: extra"),
        ("--dry php8.2-fpm", 2, "unrecognized arguments: --dry"),
        ("--timeout 0 php8.2-fpm", 2, "--timeout takes seconds"),
        ("--timeout nan php8.2-fpm", 2, "--timeout takes seconds"),
        ("-- -H", 2, "is not the name of a service"),
        ("../php8.2-fpm", 2, "is not the name of a service"),
        ("'php8.2-fpm nginx'", 2, "is not the name of a service"),
        ("php8.2-fpm.socket", 2, "is not the name of a service"),
        ("php7.4-fpm", 4, "not-found"),
        ("nginx", 4, "does not run PHP-FPM"),
    ],
)
def test_wrong_arguments_do_nothing(host: Host, arguments: str, code: int, says: str) -> None:
    before = host.generation()
    done = host.run(f"{RELOAD} {arguments}")
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert host.generation() == before


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(host: Host) -> None:
    find = "find /run/lock /etc /var/lib/php_stack /run/php -newer /root/mark | grep -v '^/var/lib/php_stack$' | sort"
    before = host.generation()
    log = host.ok("wc -l </var/log/php8.2-fpm.log")
    host.ok("touch /root/mark")
    assert host.ok(f"{RELOAD} --dry-run {UNIT}") == (
        f"php8.2-fpm: the configuration is valid; would reload, then wait for {SOCKET}"
    )
    assert host.ok(find) == ""
    assert host.generation() == before
    # One line is php-fpm's own, about the test.
    assert int(host.ok("wc -l </var/log/php8.2-fpm.log")) <= int(log) + 2


def test_a_broken_configuration_is_refused_in_fpms_words_and_nothing_is_lost(host: Host) -> None:
    before = host.generation()
    host.pool(pm="sometimes")
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 5
    assert "the running PHP-FPM was left alone" in done.stdout
    assert f"[{POOL}:" in done.stderr
    assert "invalid process manager" in done.stderr
    assert host.generation() == before
    assert host.answers()
    # The failure satisfies nobody, and the next call, with a sound file, does its own work.
    host.pool()
    assert "reloaded" in host.ok(f"{RELOAD} {UNIT}")
    assert host.generation() != before


def test_a_broken_configuration_over_a_dead_service_says_both(host: Host) -> None:
    host.pool(pm="sometimes")
    host.ok(f"systemctl kill -s KILL {UNIT}")
    host.until(f"systemctl is-failed -q {UNIT}")
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 5
    assert "and the service does not run" in done.stdout


def test_a_dead_service_is_started_though_systemd_has_given_up_on_it(host: Host) -> None:
    host.run(f"for i in $(seq 8); do systemctl kill -s KILL {UNIT}; sleep 0.2; systemctl start {UNIT}; done")
    host.ok(f"systemctl kill -s KILL {UNIT}; true")
    host.until(f"systemctl is-failed -q {UNIT}")
    assert host.run(f"systemctl start {UNIT}").returncode != 0, "the start limit was to be hit"
    assert "started in" in host.ok(f"{RELOAD} {UNIT}")
    assert host.answers()


def test_what_an_administrator_switched_off_stays_off(host: Host) -> None:
    host.ok(f"systemctl disable -q --now {UNIT}")
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 11
    assert "stays off" in done.stdout
    assert host.run(f"systemctl is-active -q {UNIT}").returncode != 0
    assert "started" in host.ok(f"{RELOAD} --restart {UNIT}")
    assert host.answers()


def test_ten_callers_at_once_share_a_few_reloads_and_all_see_their_code(host: Host) -> None:
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda _: host.run(f"{RELOAD} {UNIT}"), range(10)))
    assert [call.returncode for call in done] == [0] * 10
    reloads = [call.stdout for call in done if "reloaded in" in call.stdout]
    shared = [call.stdout for call in done if "reloaded already" in call.stdout]
    assert len(reloads) + len(shared) == 10
    assert 1 <= len(reloads) < 10


def test_who_waits_reloads_again_unless_a_reload_started_after_it_asked(host: Host) -> None:
    """The lock is held by the test, so the order is certain."""
    held = f"exec 9>{LOCKS}/{UNIT}.lock; flock 9;"
    host.ok(f"mkdir -p {LOCKS}")
    before = host.generation()
    calls = [host.start(f"{RELOAD} {UNIT}") for _turn in range(2)]
    for call in calls:
        assert call.wait() == 0
    first = host.generation()
    assert first != before
    # A good reload that started before the request: it does not count.
    done = host.ok(f"{RELOAD} {UNIT}")
    assert "reloaded in" in done
    second = host.generation()
    assert second != first
    # One that started while the caller waited: that one did the work.
    waiting = host.start(f"{held} {RELOAD} --timeout 0.3 {UNIT}")
    assert waiting.wait() == 8
    stamp = host.python("from fpm_reload.lock import now_ns; print(now_ns() + 60 * 10**9)")
    host.ok(f'sed -i \'s/"started_ns": [0-9]*/"started_ns": {stamp}/\' {LOCKS}/{UNIT}.state')
    assert "reloaded already, by a call that started" in host.ok(f"{RELOAD} {UNIT}")
    assert host.generation() == second
    # A reload is not what somebody who wants a restart has asked for; a failed one satisfies nobody.
    assert "restarted" in host.ok(f"{RELOAD} --restart {UNIT}")
    host.ok(f'sed -i \'s/"started_ns": [0-9]*/"started_ns": {stamp}/; s/true/false/\' {LOCKS}/{UNIT}.state')
    assert "reloaded in" in host.ok(f"{RELOAD} {UNIT}")


def test_a_caller_killed_with_the_lock_in_its_hand_stops_nobody(host: Host) -> None:
    host.write("/etc/php/8.2/fpm/pool.d/zz.conf", "[global]\nprocess_control_timeout = 20s\n")
    host.ok(f"{RELOAD} {UNIT}")
    slow = host.start(request(2_000_000))
    host.until(f"grep -q ' 03 [1-9][0-9]* {SOCKET}' /proc/net/unix")
    victim = host.start(f"exec {RELOAD} {UNIT}")
    host.until(f"grep -qs '\"ok\": false' {LOCKS}/{UNIT}.state")
    before = host.generation()
    host.ok(f"kill -9 $(pgrep -fo 'python3 -I {RELOAD}')")
    victim.wait()
    done = host.ok(f"{RELOAD} {UNIT}")
    assert "reloaded in" in done
    assert host.generation() != before
    assert slow.wait() == 0


def request(microseconds: int) -> str:
    """A shell command that runs the sleeping script, and fails when the request is lost."""
    return (
        "python3 -c \"import sys; sys.path.insert(0, '/usr/local/lib/php_stack'); import fastcgi as f;"
        f" r = f.request(f.Address.parse('{SOCKET}'), f.status_params('/srv/app/sleep.php', '{microseconds}'), 5, 60);"
        " sys.exit(r.body != b'done')\""
    )


LOAD = """
    import fastcgi, threading, time
    from subprocess import run
    over, counts = threading.Event(), {{"done": 0, "lost": 0}}
    def visit():
        while not over.is_set():
            try:
                params = fastcgi.status_params("/srv/app/sleep.php", "60000")
                answer = fastcgi.request(fastcgi.Address.parse("{socket}"), params, 20, 20)
                counts["done" if answer.body == b"done" else "lost"] += 1
            except fastcgi.FastcgiError:
                counts["lost"] += 1
    threads = [threading.Thread(target=visit) for _ in range(4)]
    [thread.start() for thread in threads]
    codes = [run(["{reload}", "{unit}"], capture_output=True).returncode for _ in range(10)]
    over.set()
    [thread.join() for thread in threads]
    print(counts["done"] > 40, counts["lost"], codes)
"""


@pytest.mark.parametrize(
    "reload", ["", "ExecReload=\nExecReload=/usr/sbin/php-fpm8.2 -t\nExecReload=/bin/kill -USR2 $MAINPID\n"]
)
def test_reloads_under_load_lose_no_request(host: Host, reload: str) -> None:
    host.write("/etc/php/8.2/fpm/pool.d/zz.conf", "[global]\nprocess_control_timeout = 10s\n")
    host.ok("mkdir -p /etc/systemd/system/php8.2-fpm.service.d")
    host.write("/etc/systemd/system/php8.2-fpm.service.d/t.conf", f"[Service]\n{reload}")
    host.ok(f"systemctl daemon-reload; {RELOAD} {UNIT}")
    out = host.python(LOAD.format(socket=SOCKET, reload=RELOAD, unit=UNIT))
    assert out == f"True 0 {[0] * 10}"


def test_a_saturated_pool_counts_as_answering_and_does_not_hold_the_caller_up(host: Host) -> None:
    host.pool(pm="static", pm__max_children="2")
    host.ok(f"{RELOAD} {UNIT}")
    slow = [host.start(request(6_000_000)) for _turn in range(6)]
    host.until(f"[ $(grep -c ' 03 [1-9][0-9]* {SOCKET}' /proc/net/unix) -ge 2 ]")
    began = time.monotonic()
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 0, done
    assert f"busy with other requests: {SOCKET}" in done.stdout
    assert time.monotonic() - began < 5
    for call in slow:
        call.kill()


def test_old_workers_that_do_not_end_are_a_failure_that_names_the_reason(host: Host) -> None:
    host.write("/etc/php/8.2/fpm/pool.d/zz.conf", "[global]\nprocess_control_timeout = 30s\n")
    host.ok(f"{RELOAD} {UNIT}")
    slow = host.start(request(4_000_000))
    host.until(f"grep -q ' 03 [1-9][0-9]* {SOCKET}' /proc/net/unix")
    done = host.run(f"{RELOAD} --timeout 1 {UNIT}")
    assert done.returncode == 6
    assert "still waits for 1 worker to end" in done.stdout
    assert "process_control_timeout lets them have 30 s" in done.stdout
    assert slow.wait() == 0, "the request in flight was to survive"
    assert "reloaded in" in host.ok(f"{RELOAD} {UNIT}")


def test_a_configuration_that_dies_live_is_replaced_by_the_last_good_one(host: Host) -> None:
    host.ok(f"{RELOAD} {UNIT}")
    host.write(
        "/etc/php/8.2/fpm/pool.d/web.conf",
        "[web]\nuser = www-data\nlisten = 127.0.0.1:80\npm = ondemand\npm.max_children = 2\n",
    )
    assert host.run("php-fpm8.2 -t").returncode == 0, "the test must not see this one"
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 10, done
    assert "The last good configuration is back and answers" in done.stdout
    assert "Address already in use" in done.stderr
    assert host.answers()
    assert host.run("ls /etc/php/8.2/fpm/pool.d/web.conf").returncode != 0
    assert host.ok(f"cat /var/lib/php_stack/rejected/{UNIT}/*/etc/php/8.2/fpm/pool.d/web.conf").startswith(
        "[web]"
    )
    assert host.ok("stat -c %a /var/lib/php_stack/rejected /var/lib/php_stack/last-good").split() == [
        "700",
        "700",
    ]


def test_without_a_last_good_configuration_the_failure_stands_and_names_the_cause(host: Host) -> None:
    host.pool(listen="127.0.0.1:80")
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 6, done
    assert "PHP-FPM ended" in done.stdout
    assert "Address already in use" in done.stderr


def test_a_first_change_that_dies_live_has_something_to_go_back_to(host: Host) -> None:
    host.ok(f"rm -rf /var/lib/php_stack/last-good/{UNIT}; systemctl restart {UNIT}; {RELOAD} --keep {UNIT}")
    host.pool(listen="127.0.0.1:80")
    done = host.run(f"{RELOAD} {UNIT}")
    assert done.returncode == 10, done
    assert host.answers()


def test_what_was_never_live_is_not_kept(host: Host) -> None:
    host.ok(f"rm -rf /var/lib/php_stack/last-good/{UNIT}; systemctl restart {UNIT}")
    host.pool(listen="127.0.0.1:80")
    host.ok(f"{RELOAD} --keep {UNIT}")
    assert host.run(f"ls /var/lib/php_stack/last-good/{UNIT}").returncode != 0


def test_a_new_pool_on_tcp_with_allowed_clients_is_waited_for(host: Host) -> None:
    base = "user = www-data\npm = ondemand\npm.max_children = 2\n"
    host.write(
        "/etc/php/8.2/fpm/pool.d/t4.conf",
        f"[t4]\nlisten = 127.0.0.1:9004\nlisten.allowed_clients = 192.0.2.1\n{base}",
    )
    host.write("/etc/php/8.2/fpm/pool.d/t6.conf", f"[t6]\nlisten = [::]:9006\n{base}")
    assert "3 of 3 sockets answered" in host.ok(f"{RELOAD} {UNIT}")
    host.ok("rm /etc/php/8.2/fpm/pool.d/t[46].conf")
    assert "1 of 1 socket answered" in host.ok(f"{RELOAD} {UNIT}")


def test_owner_group_and_mode_reach_the_live_socket_without_a_restart(host: Host) -> None:
    pid = host.ok(f"systemctl show -P MainPID {UNIT}")
    host.pool(listen__owner="deploy", listen__group="other", listen__mode="0600")
    assert f"set owner, group and mode of {SOCKET}" in host.ok(f"{RELOAD} {UNIT}")
    assert host.ok(f"stat -c '%U %G %a' {SOCKET}") == "deploy other 600"
    assert host.ok(f"systemctl show -P MainPID {UNIT}") == pid
    assert "set owner" not in host.ok(f"{RELOAD} {UNIT}")


def test_a_link_in_the_sockets_place_is_not_followed(host: Host) -> None:
    """/run/php belongs to www-data, who may put anything there."""
    host.pool(listen__owner="deploy", listen__mode="0666")
    host.ok(f"touch /root/secret; chmod 600 /root/secret; rm {SOCKET}; ln -s /root/secret {SOCKET}")
    done = host.run(f"{RELOAD} --timeout 3 {UNIT}")
    assert done.returncode == 7, done
    assert "is not a socket" in done.stderr
    assert host.ok("stat -c '%U %a' /root/secret") == "root 600"


def test_a_changed_backlog_is_a_restart_once_and_then_a_reload_again(host: Host) -> None:
    host.pool(listen__backlog="77")
    assert "would restart (listen.backlog of www is " in host.ok(f"{RELOAD} --dry-run {UNIT}")
    assert "restarted in" in host.ok(f"{RELOAD} {UNIT}")
    assert " 77 " in host.ok(f"ss -xlH | grep {SOCKET}")
    assert "reloaded in" in host.ok(f"{RELOAD} {UNIT}")


@pytest.mark.parametrize(
    "attack",
    [
        f"ln -s /home/other {LOCKS}",
        f"install -d -o other {LOCKS}",
        f"install -d -m 0777 {LOCKS}",
        f"touch {LOCKS}",
        f"install -d {LOCKS}; ln -s /root/victim {LOCKS}/{UNIT}.lock",
        f"install -d {LOCKS}; ln -s /root/victim {LOCKS}/config.lock",
        f"install -d {LOCKS}; install -o other /dev/null {LOCKS}/{UNIT}.lock",
        f"install -d {LOCKS}; mkfifo {LOCKS}/{UNIT}.lock",
        f"install -d {LOCKS}; touch {LOCKS}/x; ln {LOCKS}/x {LOCKS}/{UNIT}.lock",
    ],
)
def test_a_lock_that_somebody_else_laid_out_is_refused(host: Host, attack: str) -> None:
    before = host.generation()
    host.ok(f"rm -rf {LOCKS}; {attack}")
    done = host.run(f"{RELOAD} --timeout 5 {UNIT}")
    host.ok(f"rm -rf {LOCKS}")
    assert done.returncode == 9, done
    assert "cannot serve as a lock" in done.stdout
    assert host.run("ls /root/victim /home/other/*.lock").stdout == ""
    assert host.generation() == before


def test_no_user_can_take_the_locks_and_stop_all_reloads(host: Host) -> None:
    host.ok(f"{RELOAD} {UNIT}")
    for name in (f"{UNIT}.lock", "config.lock"):
        assert host.run(f"su other -c 'flock -n {LOCKS}/{name} true'").returncode == 66


def test_a_reload_waits_for_a_configuration_transaction_and_gives_up_in_words(host: Host) -> None:
    host.ok(f"{RELOAD} {UNIT}")
    before = host.generation()
    holder = host.start(f"exec flock -x {LOCKS}/config.lock sleep 3")
    host.until(f"! flock -n {LOCKS}/config.lock true")
    done = host.run(f"{RELOAD} --timeout 0.5 {UNIT}")
    assert done.returncode == 8
    assert f"{LOCKS}/config.lock was held by another process for 0.5 s" in done.stdout
    assert host.generation() == before
    assert "reloaded in" in host.ok(f"{RELOAD} {UNIT}")
    assert holder.wait() == 0


def test_the_deploy_user_may_do_this_and_nothing_else(host: Host) -> None:
    before = host.generation()
    done = host.run(f"sudo -u deploy sudo -n {RELOAD} {UNIT}")
    assert done.returncode == 0, done
    assert done.stdout.endswith("[asked by deploy]\n")
    assert host.generation() != before
    before = host.generation()
    for command in (
        RELOAD,
        f"{RELOAD} php8.4-fpm",
        f"{RELOAD} {UNIT}.service",
        f"{RELOAD} --restart {UNIT}",
        f"{RELOAD} {UNIT} --restart",
        f"{RELOAD} {UNIT} nginx",
        f"{RELOAD} --dry-run {UNIT}",
        f"{RELOAD}x {UNIT}",
        f"systemctl stop {UNIT}",
        f"systemctl restart {UNIT}",
        f"systemctl reload {UNIT}",
        "/bin/sh",
        f"-u www-data {RELOAD} {UNIT}",
    ):
        refused = host.run(f"sudo -u deploy sudo -n {command}")
        assert refused.returncode == 1, (command, refused)
        assert "a password is required" in refused.stderr, command
    assert host.run(f"sudo -u other sudo -n {RELOAD} {UNIT}").returncode == 1
    assert host.run(f"sudo -u deploy {RELOAD} {UNIT}").returncode == 3
    listed = host.ok("sudo -u deploy sudo -n -l")
    assert listed.splitlines()[-1].strip() == f"(root) NOPASSWD: {RELOAD} {UNIT}"
    assert host.generation() == before


def test_the_callers_environment_and_folder_have_no_say(host: Host) -> None:
    host.ok(
        "mkdir -p /home/deploy/fpm_reload; echo 'raise SystemExit(99)' >/home/deploy/fpm_reload/__init__.py"
    )
    host.ok("printf '#!/bin/sh\\nexit 99\\n' >/home/deploy/systemctl; chmod 755 /home/deploy/systemctl")
    done = host.run(f"cd /home/deploy; PATH=/home/deploy:$PATH PYTHONPATH=/home/deploy {RELOAD} {UNIT}")
    assert (done.returncode, "reloaded in" in done.stdout) == (0, True)


# -- the race -------------------------------------------------------------------------------------


def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bench_reload_race", ROOT / "tests/bench/bench_reload_race.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_overlapping_deployments_never_leave_old_code_where_flock_nonblock_does(host: Host) -> None:
    race = bench()
    ours = race.run_in(NAME, race.OURS, 20)
    assert (ours["deployments"], ours["skipped"], ours["stale"], ours["lost"]) == (40, 0, 0, 0)
    theirs = race.run_in(NAME, race.HELD, 20)
    assert theirs["skipped"] > 0, "the race did not take place"
    assert theirs["lost"] > 0, "the test would not see a lost deployment"
