# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who explains what: time, pool, version, request and capacity; several faults at once."""

from __future__ import annotations

import json

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.log_evidence import address
from hypothesis import given
from hypothesis import strategies as st
from log_tools import RESET, counts, explained, failed, fpm, lines, unit

SEGV = "[pool www] child {} exited on signal 11 (SIGSEGV) after 1.0 seconds from start"
KILL = "[pool www] child {} exited on signal 9 (SIGKILL) after 1.0 seconds from start"
TIMEOUT = "upstream timed out (110: Connection timed out)"
REFUSED = "connect() to unix:/run/php/php8.2-fpm.sock failed (111: Connection refused)"
MISSING = "connect() to unix:/run/php/php8.2-fpm.sock failed (2: No such file or directory)"
FULL = "[pool www] server reached pm.max_children setting (5), consider raising it"
OOM = "Memory cgroup out of memory: Killed process {} (php-fpm8.2) total-vm:1kB, anon-rss:1kB"


def terminated(pid: int, request: str) -> str:
    return f"[pool www] child {pid}, script '/a.php' (request: \"{request}\") execution timed out (2.0 sec), terminating"


@pytest.mark.parametrize(
    ("distance", "cause"),
    [(-3, "upstream_reset"), (-2, "worker_crashed"), (0, "worker_crashed"), (2, "worker_crashed"), (4, "upstream_reset")],
)  # fmt: skip
def test_only_near_evidence_counts(distance: int, cause: str) -> None:
    result = explained(lines(failed(30, RESET)), lines(fpm(30 + distance, SEGV.format(1))))
    assert result["causes"][0]["id"] == cause
    # Evidence that explains nothing is still told.
    assert counts(result).get("worker_crashed") == 1


def test_only_the_seconds_near_evidence_are_told_apart() -> None:
    nginx = lines(
        *(failed(second, RESET) for second in range(60)), *(failed(second, RESET) for second in range(60))
    )
    result = explained(nginx, lines(fpm(30, SEGV.format(1)), fpm(45, "Reloading in progress ...", "NOTICE")))
    # Two a second: one died with the worker, and the five seconds around the reload were cut by it.
    assert counts(result) == {"upstream_reset": 109, "reload_cut_requests": 10, "worker_crashed": 1}


def test_a_dead_worker_explains_one_request() -> None:
    nginx = lines(*(failed(30, RESET) for _turn in range(3)))
    assert counts(explained(nginx, lines(fpm(30, SEGV.format(1))))) == {
        "upstream_reset": 2,
        "worker_crashed": 1,
    }
    three = lines(*(fpm(30, SEGV.format(pid)) for pid in (1, 2, 3)))
    assert counts(explained(nginx, three)) == {"worker_crashed": 3}


def test_two_faults_in_one_second_are_told_apart_by_the_request() -> None:
    nginx = lines(
        failed(30, RESET, request="GET /crash.php HTTP/1.1", server="a.example"),
        failed(30, RESET, request="GET /slow.php?x=1 HTTP/1.1", server="b.example"),
    )
    log = lines(
        fpm(30, SEGV.format(1)),
        fpm(30, terminated(2, "GET /slow.php?x=1")),
        fpm(30, "[pool www] child 2 exited on signal 15 (SIGTERM) after 3 seconds from start"),
    )
    result = explained(nginx, log)
    assert counts(result) == {"worker_crashed": 1, "request_terminated": 1}
    sites = {cause["id"]: [site["name"] for site in cause["sites"]] for cause in result["causes"]}
    assert sites == {"worker_crashed": ["a.example"], "request_terminated": ["b.example"]}


def test_versions_and_pools_are_kept_apart() -> None:
    other = failed(30, RESET, upstream="fastcgi://unix:/run/php/php7.4-fpm.sock:")
    assert counts(explained(lines(other), lines(fpm(30, SEGV.format(1))))) == {
        "upstream_reset": 1,
        "worker_crashed": 1,
    }
    shop = failed(30, RESET, upstream="fastcgi://unix:/run/php/shop.sock:")
    log = lines(
        fpm(30, SEGV.format(1).replace("www", "blog")), fpm(40, SEGV.format(2).replace("www", "shop"))
    )
    assert counts(explained(lines(shop), log)) == {"upstream_reset": 1, "worker_crashed": 2}
    proxied = failed(30, RESET, upstream="http://127.0.0.1:8080/")
    assert counts(explained(lines(proxied), lines(fpm(30, SEGV.format(1))))) == {
        "upstream_reset": 1,
        "worker_crashed": 1,
    }


def test_known_listeners_decide_between_pools() -> None:
    listeners = {"/run/a.sock": ("www", "8.2"), "/run/b.sock": ("blog", "8.2")}
    nginx = lines(
        failed(30, RESET, upstream="fastcgi://unix:/run/a.sock:", server="a"),
        failed(30, RESET, upstream="fastcgi://unix:/run/b.sock:", server="b"),
    )
    log = lines(fpm(30, SEGV.format(1).replace("www", "blog")))
    result = explained(nginx, log, listeners=listeners)
    assert counts(result) == {"upstream_reset": 1, "worker_crashed": 1}
    assert [
        site["name"]
        for cause in result["causes"]
        if cause["id"] == "worker_crashed"
        for site in cause["sites"]
    ] == ["b"]


def test_a_path_on_which_no_pool_listens() -> None:
    listeners = {"/run/php/php8.2-fpm.sock": ("www", "8.2")}
    nginx = lines(failed(30, MISSING.replace("8.2", "7.4"), "connecting to",
                         upstream="fastcgi://unix:/run/php/php7.4-fpm.sock:"))  # fmt: skip
    assert counts(explained(nginx, listeners=listeners)) == {"path_mismatch": 1}
    assert counts(explained(nginx)) == {"socket_missing": 1}
    ours = lines(failed(30, MISSING, "connecting to"))
    assert counts(explained(ours, listeners=listeners)) == {"socket_missing": 1}


@pytest.mark.parametrize(
    ("listener", "upstream", "cause"),
    [
        # Something else listens on the port, or nothing.
        ("/run/php/php8.2-fpm.sock", "127.0.0.1:9000", "upstream_reset"),
        ("127.0.0.1:9001", "127.0.0.1:9000", "upstream_reset"),
        ("127.0.0.1:9000", "10.0.0.5:9000", "upstream_reset"),
        ("[::1]:9000", "127.0.0.1:9000", "upstream_reset"),
        ("/run/php/php8.2-fpm.sock", "unix:/run/other.sock:", "upstream_reset"),
        # A pool's: also under another name of the address, or before its socket was moved.
        ("127.0.0.1:9000", "127.0.0.1:9000", "restart_cut_requests"),
        ("*:9000", "172.17.0.2:9000", "restart_cut_requests"),
        ("localhost:9000", "[::1]:9000", "restart_cut_requests"),
        ("/run/php/shop.sock", "unix:/run/php/php8.2-fpm.sock:", "restart_cut_requests"),
    ],
)
def test_what_happens_to_fpm_explains_nothing_about_an_address_that_is_no_pool_s(
    listener: str, upstream: str, cause: str
) -> None:
    nginx = lines(failed(10, RESET, upstream=f"fastcgi://{upstream}"))
    restart = lines(fpm(10, "Terminating ...", "NOTICE"), fpm(11, "fpm is running, pid 4", "NOTICE"))
    assert counts(explained(nginx, restart, listeners={listener: ("www", "8.2")})) == {cause: 1}
    assert counts(explained(nginx, restart)) == {"restart_cut_requests": 1}


def test_saturation_explains_waiting_but_not_a_page_that_fpm_saw_run() -> None:
    nginx = lines(
        failed(62, TIMEOUT, request="GET /slow.php HTTP/1.1", server="slow.example"), failed(60, TIMEOUT)
    )
    assert counts(explained(nginx, lines(fpm(20, FULL)))) == {"max_children_reached": 2}
    slow = "[pool www] child 3, script '/slow.php' (request: \"GET /slow.php\") executing too slow (5.0 sec), logging"
    two = lines(fpm(5, slow), fpm(20, FULL))
    assert counts(explained(nginx, two)) == {"read_timeout": 1, "max_children_reached": 1}
    full = "connect() to unix:/run/php/php8.2-fpm.sock failed (11: Resource temporarily unavailable)"
    result = explained(lines(failed(30, full, "connecting to")), lines(fpm(28, FULL)))
    assert counts(result) == {"max_children_reached": 1}
    assert result["causes"][0]["consequences"] == [{"id": "backlog_full", "count": 1}]
    # What clients got: a full queue is a 502, a wait for a worker a 504.
    assert (result["causes"][0]["answer"], explained(nginx, two)["causes"][0]["answer"]) == ("502", "504")


DOWN = lines(
    unit(10, "php8.2-fpm.service: Main process exited, code=exited, status=78/CONFIG"),
    unit(10, "[21-Nov-2026 03:30:10] ERROR: [/etc/a.conf:3] unknown entry 'x'", "php-fpm8.2[3]"),
    unit(10, "[21-Nov-2026 03:30:10] ERROR: FPM initialization failed", "php-fpm8.2[3]"),
    unit(12, "php8.2-fpm.service: Start request repeated too quickly."),
)


def test_an_outage_explains_what_happens_until_its_end_and_nothing_after() -> None:
    up = unit(600, "Started php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager.")
    nginx = lines(*(failed(second, REFUSED, "connecting to") for second in (5, 20, 300, 599, 700)))
    result = explained(nginx, journal=DOWN + lines(up))
    assert counts(result) == {"config_invalid": 3, "socket_refused": 2}
    top = result["causes"][0]
    assert (top["id"], top["consequences"]) == ("config_invalid", [{"id": "socket_refused", "count": 3}])
    assert (top["first"], top["last"]) == ("2026-11-21T03:30:20+00:00", "2026-11-21T03:39:59+00:00")


@pytest.mark.parametrize("end", ["14.717", "15.100"])
def test_an_outage_that_ended_is_not_blamed_for_the_next_one(end: str) -> None:
    stamp = "2026-11-21T03:30:{}+0000 web1 systemd[1]: "
    journal = DOWN + lines(
        stamp.format(end) + "Started php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager.",
        stamp.format("15.207") + "Stopped php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager.",
        stamp.format("15.208") + "php8.2-fpm.service: Start request repeated too quickly.",
    )
    result = explained(lines(failed(15, MISSING, "connecting to")), journal=journal)
    assert result["causes"][0]["id"] == "start_limit_hit"


def test_a_journal_that_writes_late_does_not_move_the_outage() -> None:
    """Under load journald gets to FPM's own lines seconds after nginx was refused; they carry their time."""
    nginx = lines(failed(7, REFUSED, "connecting to"))

    def entry(written: float, ident: str, message: str, **more: str) -> str:
        base = 1795231800  # 03:30:00
        fields = {
            "__REALTIME_TIMESTAMP": str(int((base + written) * 1e6)),
            "SYSLOG_IDENTIFIER": ident,
            "MESSAGE": message,
        }
        return json.dumps(
            fields | {key: str(int((base + float(value)) * 1e6)) for key, value in more.items()}
        )

    own = "[21-Nov-2026 03:30:07] ERROR: "
    late = lines(
        entry(10, "php-fpm8.2", f"{own}[/etc/a.conf:4] unable to parse value for entry 'pm'"),
        entry(10, "php-fpm8.2", f"{own}FPM initialization failed"),
        entry(10.1, "systemd", "Reloading php8.2-fpm.service - FPM...", _SOURCE_REALTIME_TIMESTAMP="7.1"),
        entry(10.2, "systemd", "php8.2-fpm.service: Main process exited, code=exited, status=78/CONFIG",
              _SOURCE_REALTIME_TIMESTAMP="7.2"),
    )  # fmt: skip
    result = explained(nginx, journal=late)
    assert counts(result) == {"config_invalid": 1}
    assert result["causes"][0]["consequences"] == [{"id": "socket_refused", "count": 1}]


def test_what_fpm_names_counts_before_that_it_failed() -> None:
    """The journal may hold systemd's line, which only says that FPM failed, before FPM's own."""
    journal = lines(
        unit(10, "php8.2-fpm.service: Main process exited, code=exited, status=78/CONFIG"),
        unit(10, "[21-Nov-2026 03:30:10] ERROR: [pool www] cannot get uid for user 'gone'", "php-fpm8.2[3]"),
        unit(10, "[21-Nov-2026 03:30:10] ERROR: FPM initialization failed", "php-fpm8.2[3]"),
    )
    assert counts(explained(lines(failed(20, MISSING, "connecting to")), journal=journal)) == {
        "pool_user_missing": 1
    }


def test_a_refused_reload_is_no_outage() -> None:
    journal = lines(
        unit(10, "Reloading php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager..."),
        unit(10, "ERROR: [/etc/a.conf:3] unknown entry 'x'", "php-fpm8.2[3]"),
        unit(10, "Reload failed for php8.2-fpm.service - The PHP 8.2 FastCGI Process Manager."),
    )
    result = explained(lines(failed(300, MISSING, "connecting to")), journal=journal)
    assert counts(result) == {"socket_missing": 1, "config_invalid": 1}
    assert result["causes"][0]["id"] == "socket_missing"


def test_a_restart_explains_refused_and_cut_requests_a_long_stop_does_not() -> None:
    nginx = lines(
        failed(10, RESET), failed(11, MISSING, "connecting to"), failed(12, MISSING, "connecting to")
    )
    restart = lines(fpm(10, "Terminating ...", "NOTICE"), fpm(13, "fpm is running, pid 4", "NOTICE"))
    result = explained(nginx, restart)
    assert counts(result) == {"restart_cut_requests": 3}
    assert result["causes"][0]["consequences"] == [
        {"id": "socket_missing", "count": 2},
        {"id": "upstream_reset", "count": 1},
    ]
    stop = explained(lines(failed(11, MISSING, "connecting to")), lines(fpm(10, "Terminating ...", "NOTICE")))
    assert counts(stop) == {"socket_missing": 1}
    assert [entry["text"] for entry in stop["causes"][0]["evidence"]] == ["NOTICE: Terminating ..."]


def test_an_oom_kill_of_another_time_is_not_this_one() -> None:
    nginx, log = lines(failed(30, RESET)), lines(fpm(30, KILL.format(7)))
    stamp = "[Sat Nov 21 03:{}:30 2026] "
    assert counts(explained(nginx, log, kernel=stamp.format(30) + OOM.format(99))) == {"worker_oom": 1}
    assert counts(explained(nginx, log, kernel=stamp.format(20) + OOM.format(99))) == {
        "worker_killed": 1,
        "worker_oom": 1,
    }
    # Seconds since boot: which kill it was cannot be known, but there was one, and one only.
    assert counts(explained(nginx, log, kernel="[ 99.5] " + OOM.format(99))) == {"worker_oom": 1}
    twice = (
        lines(failed(30, RESET), failed(50, RESET)),
        lines(fpm(30, KILL.format(7)), fpm(50, KILL.format(8))),
    )
    assert counts(explained(*twice, kernel="[ 99.5] " + OOM.format(99))) == {
        "worker_oom": 1,
        "worker_killed": 1,
    }


def test_the_oom_kill_in_journal_and_kernel_log_is_one() -> None:
    journal = lines(
        unit(30, "php8.2-fpm.service: A process of this unit has been killed by the OOM killer."),
        unit(30, OOM.format(99), "kernel"),
        unit(30, "oom-kill:constraint=CONSTRAINT_MEMCG,task=php-fpm8.2,pid=99,uid=33", "kernel"),
    )
    result = explained(
        lines(failed(30, RESET)), lines(fpm(30, KILL.format(7))), journal, "[ 99.5] " + OOM.format(99)
    )
    assert counts(result) == {"worker_oom": 1}


def test_selinux_is_told_apart_from_the_mode() -> None:
    denied = "connect() to unix:/run/php/php8.2-fpm.sock failed (13: Permission denied)"
    avc = 'audit: avc:  denied  { connectto } for pid=1 comm="nginx" path="/run/php/php8.2-fpm.sock"'
    nginx = lines(failed(30, denied, "connecting to", level="crit"))
    assert counts(explained(nginx)) == {"socket_denied": 1}
    assert counts(explained(nginx, journal=lines(unit(30, avc, "kernel")))) == {"selinux_denied": 1}


def test_a_php_error_in_two_logs_is_one() -> None:
    fatal = "PHP message: PHP Fatal error:  Uncaught Error: x in /a.php:1"
    log = lines(fpm(30, f'[pool www] child 3 said into stderr: "NOTICE: {fatal}"'))
    assert counts(explained(lines(failed(30, f'FastCGI sent in stderr: "{fatal}"')), log)) == {"php_fatal": 1}
    assert counts(explained("", log)) == {"php_fatal": 1}


def test_gateway_failures_rank_before_php_errors_and_these_before_client_errors() -> None:
    missing = (
        '2026/11/21 03:30:09 [error] 7#7: *1 open() "/srv/x.png" failed (2: x), client: 192.0.2.1, server: _,'
        ' request: "GET /x.png HTTP/1.1", host: "h"'
    )
    fatal = failed(9, 'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught Error"')
    result = explained(lines(*[missing] * 50, *[fatal] * 10, failed(9, TIMEOUT), *[failed(9, RESET)] * 2))
    assert [(cause["id"], cause["count"]) for cause in result["causes"]] == [
        ("upstream_reset", 2),
        ("read_timeout", 1),
        ("php_fatal", 10),
        ("nginx_file_missing", 50),
    ]
    assert sum(cause["share"] for cause in result["causes"]) == pytest.approx(1, abs=1e-3)


def test_nginx_in_the_journal() -> None:
    journal = lines(
        unit(30, "2026/11/21 03:30:30 [emerg] 7#7: unknown directive \"x\" in /etc/nginx/nginx.conf:3", "nginx[7]"),
        unit(31, failed(31, RESET), "nginx[7]"),
    )  # fmt: skip
    assert counts(explained("", journal=journal)) == {"config_invalid": 1, "upstream_reset": 1}


def test_the_timeline_counts_everything_and_marks_what_happened_to_fpm() -> None:
    nginx = lines(*(failed(second, RESET) for second in range(0, 300, 10)))
    result = explained(nginx, lines(fpm(65, "Reloading in progress ...", "NOTICE")))["timeline"]
    assert result["bucket_seconds"] == 60
    assert [bucket["total"] for bucket in result["buckets"]] == [6, 6, 6, 6, 6]
    assert result["buckets"][0]["start"] == "2026-11-21T03:30:00+00:00"
    assert [(mark["kind"], mark["time"]) for mark in result["marks"]] == [
        ("reload", "2026-11-21T03:31:05+00:00")
    ]


@given(st.integers(1, 40), st.integers(1, 40))
def test_no_event_is_lost_or_counted_twice(resets: int, deaths: int) -> None:
    nginx = lines(*(failed(30 + number % 3, RESET) for number in range(resets)))
    log = lines(*(fpm(31, SEGV.format(number)) for number in range(deaths)))
    found = counts(explained(nginx, log))
    assert sum(found.values()) == resets
    assert found["worker_crashed"] == min(resets, deaths)


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("fastcgi://unix:/run/a.sock", "/run/a.sock"),
        ("fastcgi://127.0.0.1:9000", "127.0.0.1:9000"),
        ("unix:/run/a.sock", "/run/a.sock"),
        ("fastcgi://unix:/var/run/a.sock", "/run/a.sock"),
        ("fastcgi://[::1]:9000", "[::1]:9000"),
        ("", ""),
    ],
)
def test_addresses(upstream: str, expected: str) -> None:
    assert address(upstream) == expected
