# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reload brings to a running PHP-FPM, and what its callers bring along."""

from __future__ import annotations

import pytest
from fpm_reload_lab import LOCKS, POOL, RELOAD, SOCKET, UNIT, Host, host, prepared

__all__ = ["host", "prepared"]  # fixtures

INI = "/etc/php/8.2/fpm/conf.d/99-live.ini"
PAGE = (
    "<?php echo ini_get('opcache.memory_consumption'), ' ', array_sum(array_intersect_key("
    "opcache_get_status(false)['memory_usage'], array_flip(['used_memory', 'free_memory', 'wasted_memory']))) >> 20,"
    " ' ', extension_loaded('calendar') ? 'calendar' : 'none';"
)


CROWD = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, "/usr/local/lib/php_stack")
import fastcgi
def visit(_number):
    params = fastcgi.status_params("/srv/app/sleep.php", "400000")
    return fastcgi.request(fastcgi.Address.parse("{SOCKET}"), params, 5, 60).body
with ThreadPoolExecutor(7) as pool:
    print(list(pool.map(visit, range(7))).count(b"done"), "done")
"""


def ask(page: str) -> str:
    return (
        "python3 -c \"import sys; sys.path.insert(0, '/usr/local/lib/php_stack'); import fastcgi as f;"
        f" r = f.request(f.Address.parse('{SOCKET}'), f.status_params('/srv/app/{page}', ''), 5, 60);"
        ' print(r.body.decode())"'
    )


def test_opcaches_memory_and_extensions_come_and_go_by_a_reload(host: Host) -> None:
    host.write("/srv/app/live.php", PAGE)
    pid = host.ok(f"systemctl show -P MainPID {UNIT}")
    for size, extension in (("40", "calendar"), ("72", "none"), ("16", "calendar")):
        host.write(INI, f"opcache.memory_consumption={size}\n")
        host.ok(
            f"phpdismod -v 8.2 -s fpm calendar; [ {extension} = none ] || phpenmod -v 8.2 -s fpm calendar"
        )
        assert "reloaded in" in host.ok(f"{RELOAD} {UNIT}")
        assert host.ok(ask("live.php")) == f"{size} {size} {extension}"
    assert host.ok(f"systemctl show -P MainPID {UNIT}") == pid, "no restart"


def test_the_units_new_limits_reach_master_and_workers_without_a_restart(host: Host) -> None:
    pid = host.ok(f"systemctl show -P MainPID {UNIT}")
    host.ok("mkdir -p /etc/systemd/system/php8.2-fpm.service.d")
    host.write("/etc/systemd/system/php8.2-fpm.service.d/t.conf", "[Service]\nLimitNOFILE=900:1000\n")
    host.ok("systemctl daemon-reload")
    assert host.ok(f"{RELOAD} {UNIT}").endswith("applied the unit's LimitNOFILE")
    seen = host.ok("for pid in $(pgrep php-fpm); do grep 'open files' /proc/$pid/limits; done")
    assert {tuple(line.split()[3:5]) for line in seen.splitlines()} == {("900", "1000")}
    assert len(seen.splitlines()) > 1
    assert host.ok(f"systemctl show -P MainPID {UNIT}") == pid
    assert "LimitNOFILE" not in host.ok(f"{RELOAD} {UNIT}")


def test_fpms_own_limit_wins_over_the_units(host: Host) -> None:
    host.write("/etc/php/8.2/fpm/pool.d/zz.conf", "[global]\nrlimit_files = 700\n")
    assert "LimitNOFILE" not in host.ok(f"{RELOAD} {UNIT}")
    assert "LimitNOFILE" not in host.ok(f"{RELOAD} {UNIT}")
    assert host.ok(f"grep 'open files' /proc/$(systemctl show -P MainPID {UNIT})/limits").split()[3] == "700"


@pytest.mark.parametrize("limit", ["-S -f 1", "-S -v 100000", "-S -d 100000", "-S -n 12", "-S -s 256"])
def test_a_callers_low_limit_does_not_make_a_sound_configuration_fail(host: Host, limit: str) -> None:
    done = host.run(f"ulimit {limit}; exec {RELOAD} {UNIT}")
    assert (done.returncode, "reloaded in" in done.stdout) == (0, True), done


def test_a_test_that_a_signal_ends_is_no_invalid_configuration(host: Host) -> None:
    before = host.generation()
    # A hard limit, which a container's root may not lift: PHP-FPM's test dies as it writes its log.
    done = host.run(f"ulimit -f 1; exec {RELOAD} {UNIT}")
    assert done.returncode == 12, done
    assert "php-fpm8.2 -t was killed by signal 25 (SIGXFSZ)" in done.stdout
    assert "the running PHP-FPM was left alone" in done.stdout
    assert "invalid" not in done.stdout
    assert host.generation() == before


@pytest.mark.parametrize(
    ("arguments", "code"), [(UNIT, 0), (f"--dry-run {UNIT}", 0), ("--help", 0), ("php7.4-fpm", 4), ("", 2)]
)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_the_exit_code_stays_where_nobody_listens(host: Host, arguments: str, code: int, closed: str) -> None:
    assert host.run(f"{RELOAD} {arguments} {closed}").returncode == code


def test_a_pipe_whose_reader_is_gone_changes_nothing(host: Host) -> None:
    before = host.generation()
    host.pool(pm="sometimes")
    assert host.run(f"{RELOAD} {UNIT} 2>&1 | true; exit ${{PIPESTATUS[0]}}").returncode == 5
    host.pool()
    assert host.run(f"{RELOAD} {UNIT} | true; exit ${{PIPESTATUS[0]}}").returncode == 0
    assert host.generation() != before


def test_what_waits_from_the_last_reload_is_served_before_the_next_one(host: Host) -> None:
    host.write("/etc/php/8.2/fpm/pool.d/zz.conf", "[global]\nprocess_control_timeout = 20s\n")
    host.pool(pm="static", pm__max_children="1")
    host.ok(f"{RELOAD} {UNIT}")
    queue = f"[ $(grep -c ' 0 {SOCKET}$' /proc/net/unix) -ge 5 ]"

    def crowd() -> tuple[str, str]:
        """What the reload says while seven requests of 0.4 s queue for one worker, and their answers."""
        host.write("/root/crowd.py", CROWD)
        requests = host.start("python3 /root/crowd.py")
        host.until(queue)
        said = host.ok(f"{RELOAD} {UNIT}")
        return said, requests.communicate()[0].strip()

    # As if that reload had been a long one: the longer it was, the more time is given.
    host.ok(f'sed -i \'s/"started_ns": [0-9]*/"started_ns": 1/\' {LOCKS}/{UNIT}.state')
    said, answers = crowd()
    assert answers == "7 done"
    assert "1 of 1 socket answered" in said
    # Without a reload just before, nobody waits: the crowd is then no reload's doing.
    host.ok(f'sed -i \'s/"ended_ns": [0-9]*/"ended_ns": 0/\' {LOCKS}/{UNIT}.state')
    said, answers = crowd()
    assert answers == "7 done"
    assert f"busy with other requests: {SOCKET}" in said


def test_the_marker_of_a_reload_that_was_due_goes_only_when_it_was_done(host: Host) -> None:
    marker = f"/var/lib/php_stack/due/{UNIT}"
    host.ok(f"mkdir -p /var/lib/php_stack/due; touch {marker} {marker}.other; cp -p {POOL} /root/www.conf")
    host.pool(pm="sometimes")
    assert host.run(f"{RELOAD} {UNIT}").returncode == 5
    host.ok(f"ls {marker}; cp /root/www.conf {POOL}")
    host.ok(f"{RELOAD} --dry-run {UNIT}; ls {marker}")
    host.ok(f"{RELOAD} {UNIT}")
    assert host.ok("ls /var/lib/php_stack/due") == f"{UNIT}.other"
    host.ok("rm -r /var/lib/php_stack/due")


def test_sockets_that_do_not_answer_bring_the_last_good_configuration_back(host: Host) -> None:
    host.ok(f"{RELOAD} {UNIT}")
    host.pool(listen="/run/php/new.sock")
    # PHP-FPM runs with it, and nobody can reach it.
    host.start("while :; do rm -f /run/php/new.sock; done")
    done = host.run(f"{RELOAD} --timeout 5 {UNIT}")
    host.ok("pkill -f '[r]m -f /run/php/new.sock'")
    assert done.returncode == 10, done
    assert "the new generation runs but does not answer. The last good configuration is back" in done.stdout
    assert "/run/php/new.sock: No such file or directory" in done.stderr
    assert host.answers()
    assert host.run(f"grep new.sock {POOL}").returncode == 1
    assert "new.sock" in host.ok(f"cat /var/lib/php_stack/rejected/{UNIT}/*{POOL}")
    assert "restored" not in host.ok(f"{RELOAD} {UNIT}")
