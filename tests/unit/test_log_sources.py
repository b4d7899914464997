# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lines of FPM's log, the journal and the kernel are evidence of, in all their clock formats."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import log_fpm, log_journal, log_kernel
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Evidence, instance_of
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock
from hypothesis import given
from hypothesis import strategies as st
from log_tools import NOW, UTC

AT = NOW - 1759.0  # 03:30:41


def fpm_evidence(text: str, clock: Clock = UTC) -> list[Evidence]:
    return list(log_fpm.read_log([text.encode()], "fpm.log", "8.2", clock))


def journal_evidence(text: str, anchor: float = NOW, clock: Clock = UTC) -> list[Evidence]:
    return list(log_journal.read_log([text.encode()], "journal", anchor, clock, lambda *_: True))


@pytest.mark.parametrize(
    ("message", "kind", "pool", "pid"),
    [
        (
            "WARNING: [pool www] child 17 exited on signal 11 (SIGSEGV) after 0.5 seconds from start",
            "death",
            "www",
            17,
        ),
        (
            "WARNING: [pool a b] child 17 exited on signal 9 (SIGKILL - core dumped) after 1 seconds",
            "death",
            "a b",
            17,
        ),
        ("WARNING: [pool www] child 17 exited with code 255 after 0.5 seconds from start", "exit", "www", 17),
        (
            "WARNING: [pool www] child 17, script '/a.php' (request: \"GET /a.php?x=1\") execution timed out"
            " (2.04 sec), terminating",
            "request_terminated",
            "www",
            17,
        ),
        (
            "WARNING: [pool www] child 17, script '/a.php' (request: \"GET /a.php\") executing too slow (1.0 sec), logging",
            "slow",
            "www",
            17,
        ),
        (
            "WARNING: [pool www] server reached pm.max_children setting (5), consider raising it",
            "max_children_reached",
            "www",
            0,
        ),
        (
            "WARNING: [pool www] server reached max_children setting (5), consider raising it",
            "max_children_reached",
            "www",
            0,
        ),
        ("ERROR: [pool www] cannot get uid for user 'nosuch'", "pool_user_missing", "www", 0),
        ("ERROR: [pool www] cannot get gid for group 'nosuch'", "pool_user_missing", "www", 0),
        (
            "ERROR: unable to bind listening socket for address '127.0.0.1:9000': Adresse belegt (98)",
            "address_in_use",
            "",
            0,
        ),
        (
            "ERROR: unable to bind listening socket for address '/nowhere/a.sock': No such file or directory (2)",
            "config_invalid",
            "",
            0,
        ),
        ("ERROR: Another FPM instance seems to already listen on /run/a.sock", "address_in_use", "", 0),
        ("ERROR: [/etc/php/8.2/fpm/pool.d/a.conf:3] unknown entry 'x'", "config_invalid", "", 0),
        ("ERROR: FPM initialization failed", "init_failed", "", 0),
        ("NOTICE: Reloading in progress ...", "reload", "", 0),
        ("NOTICE: Terminating ...", "stop", "", 0),
        ("NOTICE: fpm is running, pid 5", "start", "", 0),
        (
            'WARNING: [pool www] child 17 said into stderr: "NOTICE: PHP message: PHP Fatal error:  Uncaught X"',
            "php_fatal",
            "www",
            17,
        ),
    ],
)
def test_fpm(message: str, kind: str, pool: str, pid: int) -> None:
    (found,) = fpm_evidence(f"[21-Nov-2026 03:30:41] {message}\n")
    assert (found.kind, found.pool, found.pid, found.when, found.instance) == (kind, pool, pid, AT, "8.2")
    # As syslog and the journal carry it: another form of the level, and no time in the message.
    level, _sep, rest = message.partition(": ")
    syslog = f"Nov 21 03:30:41 web1 php-fpm8.2[5]: [{level}] {rest}\n"
    assert [(item.kind, item.pool, item.when) for item in journal_evidence(syslog)] == [(kind, pool, AT)]


@pytest.mark.parametrize(
    "message",
    [
        "NOTICE: [pool www] child 17 exited with code 0 after 100 seconds from start",
        "NOTICE: [pool www] child 17 started",
        'WARNING: [pool www] child 17 said into stderr: "NOTICE: PHP message: hello"',
        'WARNING: [pool www] child 17 said into stdout: "child 3 exited on signal 11"',
        "NOTICE: configuration file /etc/php/8.2/fpm/php-fpm.conf test is successful",
    ],
)
def test_what_is_normal_is_no_evidence(message: str) -> None:
    assert fpm_evidence(f"[21-Nov-2026 03:30:41] {message}\n") == []


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        ("[21-Nov-2026 03:30:41]", AT),
        ("[21-Nov-2026 03:30:41.250000]", AT + 0.25),
        ("[21-Nov-2026 03:30:41 UTC]", AT),
        ("[21-Foo-2026 03:30:41]", None),
        ("[31-Feb-2026 03:30:41]", None),
    ],
)
def test_clocks_of_fpm(stamp: str, when: float | None) -> None:
    text = (
        f"{stamp} WARNING: pid 9, fpm_children_bury(), line 260: [pool www] child 3 exited on signal 11 (X)\n"
    )
    assert [(item.when, item.pool) for item in fpm_evidence(text)] == (
        [] if when is None else [(when, "www")]
    )


def test_local_time_is_read_in_the_zone_that_is_asked_for_but_a_written_zone_wins() -> None:
    berlin = Clock(ZoneInfo("Europe/Berlin"))
    assert [
        item.when for item in fpm_evidence("[21-Nov-2026 04:30:41] NOTICE: Terminating ...\n", berlin)
    ] == [AT]
    php = "[21-Nov-2026 03:30:41 UTC] PHP Fatal error:  Uncaught Error in /a.php:1\n"
    assert [(item.kind, item.when) for item in fpm_evidence(php, berlin)] == [("php_fatal", AT)]
    named = "[21-Nov-2026 04:30:41 Europe/Berlin] PHP Fatal error:  Uncaught Error in /a.php:1\n"
    assert [(item.kind, item.when) for item in fpm_evidence(named, UTC)] == [("php_fatal", AT)]


@pytest.mark.parametrize(
    "stamp",
    [
        "Nov 21 03:30:41 web1 systemd[1]:",
        "Nov 21 03:30:41.000000 web1 systemd[1]:",
        "2026 Nov 21 03:30:41 web1 systemd[1]:",
        "Nov 21 2026 03:30:41 web1 systemd[1]:",
        "2026-11-21T03:30:41+0000 web1 systemd[1]:",
        "2026-11-21T04:30:41+01:00 web1 systemd[1]:",
        "2026-11-21T03:30:41.000000+00:00 web1 systemd[1]:",
        "Sat 2026-11-21 03:30:41 UTC web1 systemd[1]:",
        "2026-11-21 03:30:41 web1 systemd[1]:",
        "1795231841.000000 web1 systemd[1]:",
        "<30>Nov 21 03:30:41 web1 systemd[1]:",
    ],
)
def test_clocks_of_the_journal(stamp: str) -> None:
    text = f"{stamp} php8.2-fpm.service: Start request repeated too quickly.\n"
    (found,) = journal_evidence(text)
    assert (found.kind, found.when, found.instance) == ("start_limit_hit", AT, "8.2")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("php8.2-fpm.service: Main process exited, code=killed, status=9/KILL", "master_died"),
        ("php8.2-fpm.service: Main process exited, code=exited, status=78/CONFIG", "init_failed"),
        ("php8.2-fpm.service: Failed with result 'start-limit-hit'.", "start_limit_hit"),
        ("php8.2-fpm.service: Failed with result 'oom-kill'.", "oom_unit"),
        ("php8.2-fpm.service: A process of this unit has been killed by the OOM killer.", "oom_note"),
        ("Stopping php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager...", "stop"),
        ("Stopping The PHP 8.2 FastCGI Process Manager...", "stop"),
        ("Started php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager.", "start"),
        ("Reloading php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager...", "reload"),
        ("Reload failed for php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager.", "reload_refused"),
    ],
)
def test_words_of_systemd(message: str, kind: str) -> None:
    (found,) = journal_evidence(f"Nov 21 03:30:41 web1 systemd[1]: {message}\n")
    assert (found.kind, found.instance) == (kind, "8.2")


def test_other_units_are_none_of_ours() -> None:
    assert (
        journal_evidence("Nov 21 03:30:41 web1 systemd[1]: Stopping mariadb.service - php database...\n")
        == []
    )


@pytest.mark.parametrize(
    "fields",
    [
        '"MESSAGE":"[pool www] child 7 exited on signal 11 (SIGSEGV) after 1 seconds"',
        '"MESSAGE":[91,112,111,111,108,32,119,119,119,93,32,99,104,105,108,100,32,55,32,101,120,105,116,101,100,32,111,'
        "110,32,115,105,103,110,97,108,32,49,49,32,255]",
        '"MESSAGE":["[pool www] child 7 exited on signal 11 (SIGSEGV)","second"]',
    ],
)
def test_the_json_of_the_journal(fields: str) -> None:
    line = f'{{"__REALTIME_TIMESTAMP":"1795231841000000","SYSLOG_IDENTIFIER":"php-fpm8.2","_PID":"5",{fields}}}\n'
    (found,) = journal_evidence(line)
    assert (found.kind, found.pool, found.signal, found.when) == ("death", "www", 11, AT)


@pytest.mark.parametrize(
    "line", ['{"php', '{"php": 1}', '{"__REALTIME_TIMESTAMP":"x","MESSAGE":"php"}', "php", "[php]"]
)
def test_broken_lines_of_the_journal_are_passed_over(line: str) -> None:
    assert journal_evidence(line + "\n") == []


@pytest.mark.parametrize(
    ("own", "when"),
    [
        ("03:30:38", AT - 3 + 0.999),  # the journal got to it three seconds later
        ("03:30:41", AT), ("03:30:40", AT),  # the same second, or within the rounding
        ("02:30:41", AT), ("04:30:41", AT),  # a clock of another zone, not a delay
    ],
)  # fmt: skip
def test_fpm_s_own_time_counts_where_the_journal_is_late(own: str, when: float) -> None:
    text = (
        f"2026-11-21T03:30:41+0000 web1 php-fpm8.2[5]: [21-Nov-2026 {own}] ERROR: FPM initialization failed\n"
    )
    (found,) = journal_evidence(text)
    assert found.kind == "init_failed"
    assert found.when == pytest.approx(when, rel=0, abs=0.01)


@pytest.mark.parametrize(("sent", "when"), [(-2, AT - 2), (2, AT), (-4000, AT)])
def test_the_sender_s_time_counts_where_the_journal_is_late(sent: int, when: float) -> None:
    fields = {
        "__REALTIME_TIMESTAMP": f"{AT:.0f}000000", "_SOURCE_REALTIME_TIMESTAMP": f"{AT + sent:.0f}000000",
        "SYSLOG_IDENTIFIER": "systemd", "MESSAGE": "php8.2-fpm.service: Start request repeated too quickly.",
    }  # fmt: skip
    (found,) = journal_evidence(json.dumps(fields) + "\n")
    assert found.when == when


def test_repeated_messages_count_as_often() -> None:
    text = (
        "Nov 21 03:30:41 web1 php-fpm[7]: message repeated 3 times: [ [pool www] server reached pm.max_children"
        " setting (5), consider raising it]\n"
    )
    (found,) = journal_evidence(text)
    assert (found.kind, found.count) == ("max_children_reached", 3)


OOM = "Memory cgroup out of memory: Killed process 17 (php-fpm8.2) total-vm:680328kB, anon-rss:245292kB"


@pytest.mark.parametrize(
    ("line", "boot", "when"),
    [
        (f"[ 3628.160423] {OOM}", None, None),
        (f"[ 3628.500000] {OOM}", AT - 3628.5, AT),
        (f"[Sat Nov 21 03:30:41 2026] {OOM}", None, AT),
        (f"2026-11-21T03:30:41,160423+00:00 {OOM}", None, AT + 0.160423),
        (f"<4>[ 3628.500000] {OOM}", AT - 3628.5, AT),
    ],
)
def test_clocks_of_the_kernel(line: str, boot: float | None, when: float | None) -> None:
    (found,) = log_kernel.read_log([line.encode()], "dmesg", UTC, boot)
    assert (found.kind, found.pid) == ("worker_oom", 17)
    assert found.when == (None if when is None else pytest.approx(when, abs=1e-6))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Out of memory: Killed process 17 (php-fpm8.2), UID 33", "worker_oom"),
        ("oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/system.slice/php8.2-fpm.service,task=php-fpm8.2,pid=17,uid=33", "worker_oom"),
        ("Out of memory: Killed process 17 (mysqld) total-vm:1kB", None),
        ("php-fpm8.2[17]: segfault at 0 ip 0 sp 0 error 4 in x.so", "worker_crashed"),
        ("traps: php-fpm8.2[17] general protection fault ip:0", "worker_crashed"),
        ("nginx[17]: segfault at 0", None),
        (
            'audit: type=1400 audit(1.1:2): avc:  denied  { connectto } for pid=1 comm="nginx" path="/run/a.sock"',
            "selinux_denied",
        ),
        ("audit: avc:  denied  { name_connect } for pid=1 comm=nginx dest=9001", "selinux_denied"),
        ('audit: avc:  denied  { read } for pid=1 comm="sshd"', None),
    ],
)  # fmt: skip
def test_kernel_messages(message: str, kind: str | None) -> None:
    found = log_kernel.read_message(message)
    assert (found.kind if found else None) == kind
    in_syslog = f"Nov 21 03:30:41 web1 kernel: [ 99.100000] {message}\n"
    assert [item.kind for item in journal_evidence(in_syslog)] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("php8.2-fpm.service", "8.2"),
        ("/var/log/php8.2-fpm.log", "8.2"),
        ("php-fpm8.4", "8.4"),
        ("php82-php-fpm", "8.2"),
        ("/opt/remi/php74/root", "7.4"),
        ("php-fpm.service", ""),
        ("/var/log/fpm.log", ""),
        ("shop8.2.sock", ""),
    ],
)
def test_the_version_in_a_name(name: str, instance: str) -> None:
    assert instance_of(name) == instance


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_a_crash(raw: bytes) -> None:
    for text in (raw, b"[21-Nov-2026 03:30:41] WARNING: [pool www] " + raw):
        list(log_fpm.read_log([text], "f", "", UTC))
    for text in (
        raw,
        b"Nov 21 03:30:41 web1 php-fpm[1]: " + raw,
        b'{"php":' + raw,
        b"Nov 21 03:30:41 h kernel: " + raw,
    ):
        list(log_journal.read_log([text], "j", NOW, UTC, lambda *_: True))
    for text in (raw, b"[ 1.000000] php ill" + raw):
        list(log_kernel.read_log([text], "k", UTC, None))
