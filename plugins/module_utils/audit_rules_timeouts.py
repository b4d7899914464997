# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about time: the ladder of limits, reloads and restarts (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_ladder import execution_time
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Service, Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    at,
    edges,
    edit,
    is_page,
    log_cause,
    log_evidence,
    marks,
    place_of_setting,
    pool_title,
    site,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
_RESTARTS = ("on-failure", "always", "on-abnormal")


@_BOOK.rule(
    "T01", "high", "The timeouts contradict each other", "request_terminated", "read_timeout", "php_time_limit",
    needs=("nginx", "fpm"),
)  # fmt: skip
def ladder(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, pool in edges(snapshot):
        if is_page(location, pool):
            continue
        subject = f"{site(location)} -> pool {pool['name']}"
        read = location["settings"]["fastcgi_read_timeout"]
        terminate = pool["request_terminate_timeout"]
        limit, ini = execution_time(snapshot, pool)
        shown = (
            ini,
            *([place_of_setting(pool, "request_terminate_timeout")] if terminate else []),
            at(f"fastcgi_read_timeout = {read['value']}s" + (" (default)" if read["default"] else ""), read),
        )
        if terminate is None or read["value"] is None:
            yield unknown(subject, "a timeout has no known value", *shown)
            continue
        wrong = []
        if terminate and terminate >= read["value"]:
            wrong.append(
                f"PHP-FPM may work for {terminate} s, nginx gives up after {read['value']:g} s: a 504, and the work goes on"
            )
        if limit and terminate and limit > terminate:
            wrong.append(f"PHP may run for {limit} s, PHP-FPM kills the request after {terminate} s: a 502")
        if limit and not terminate and limit > read["value"]:
            wrong.append(f"PHP may run for {limit} s, nginx gives up after {read['value']:g} s: a 504")
        if wrong:
            want = max(limit or 0, terminate or 0) or 60
            yield bad(
                subject,
                "; ".join(wrong),
                "max_execution_time <= request_terminate_timeout < fastcgi_read_timeout",
                *shown,
                fix=f"php_admin_value[max_execution_time] = {want}\nrequest_terminate_timeout = {want}s\n"
                f"# nginx:\nfastcgi_read_timeout {want + 5}s;",
            )
        elif limit is None:
            yield unknown(
                subject, ini.text if not ini.file else f"{ini.text} is no number of seconds", *shown
            )
        else:
            yield good(
                subject, f"{limit or 'no limit'} <= {terminate or 'no limit'} < {read['value']:g}", *shown
            )


@_BOOK.rule(
    "T02", "high", "A stuck request is never ended", "max_children_reached", "read_timeout", "backlog_full"
)
def no_terminate(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        value = pool["request_terminate_timeout"]
        place = place_of_setting(pool, "request_terminate_timeout")
        if value is None:
            yield unknown(pool_title(pool), "request_terminate_timeout has no known value", place)
        elif value:
            yield good(pool_title(pool), f"requests end after {value} s", place)
        else:
            yield bad(
                pool_title(pool),
                "request_terminate_timeout is not set: a request that waits for another service keeps its worker",
                "a limit below fastcgi_read_timeout",
                place,
                fix=edit(pool, "request_terminate_timeout", "55s"),
            )


@_BOOK.rule(
    "T03", "medium", "request_terminate_timeout ended requests that nginx would have waited for", "request_terminated",
    needs=("nginx", "fpm"),
)  # fmt: skip
def terminated(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "request_terminated")
    for location, pool in edges(snapshot):
        terminate, read = pool["request_terminate_timeout"], location["settings"]["fastcgi_read_timeout"]
        if not terminate or read["value"] is None or terminate >= read["value"] or is_page(location, pool):
            continue
        subject = f"{site(location)} -> pool {pool['name']}"
        shown = (
            place_of_setting(pool, "request_terminate_timeout"),
            at(f"fastcgi_read_timeout = {read['value']:g}s", read),
        )
        if snapshot.logs is None:
            yield unknown(
                subject, "no logs were read, so it is not known whether requests were ended", *shown
            )
        elif seen and (not seen["pools"] or pool["name"] in seen["pools"]):
            yield bad(
                subject,
                f"PHP-FPM ended {seen['count']} requests after {terminate} s; nginx would have waited {read['value']:g} s",
                "a limit above the longest request that is meant to work",
                *shown,
                log_evidence(seen),
                fix=edit(pool, "request_terminate_timeout", f"{max(1, int(read['value']) - 5)}s")
                + "\n# or make the script faster: the slow log names it",
            )
        else:
            yield good(subject, "no request was ended by it", *shown)


@_BOOK.rule("T04", "high", "A reload cuts requests in flight", "reload_cut_requests", "upstream_reset")
def control_timeout(snapshot: Snapshot) -> Iterator[Outcome]:
    for master in snapshot.masters:
        subject = f"PHP-FPM {master['version'] or '?'}"
        value = master["process_control_timeout"]
        place = place_of_setting(master, "process_control_timeout")
        if value is None:
            yield unknown(subject, "process_control_timeout has no known value", place)
        elif value:
            yield good(subject, f"workers get {value} s to finish at a reload", place)
        else:
            seen = log_cause(snapshot, "reload_cut_requests")
            reloads = marks(snapshot, "reload")
            shown = [place] + ([log_evidence(seen)] if seen else [])
            if reloads:
                shown.append(Evidence(f"{len(reloads)} reloads in the logs, last {reloads[-1]['time']}"))
            yield bad(
                subject,
                "process_control_timeout is 0: every reload answers the requests in flight with 502",
                "longer than most requests take",
                *shown,
                fix=edit(master, "process_control_timeout", "10s"),
                confidence="high" if seen or reloads else "medium",
            )


@_BOOK.rule(
    "T05", "high", "The service does not come back, or reloads without a test", "config_invalid", "start_limit_hit",
    "socket_refused",
)  # fmt: skip
def unit(snapshot: Snapshot) -> Iterator[Outcome]:
    for master in snapshot.masters:
        if master["in_container"]:
            continue
        service = snapshot.services.get(master["unit"] or "")
        if service is None:
            yield unknown(f"PHP-FPM {master['version'] or '?'}", "its systemd service is not known")
            continue
        wrong, snippet = _unit_faults(service, master)
        shown = Evidence(
            f"Restart={service.restart}, ExecReload={' ; '.join(service.exec_reload) or 'none'}", service.file
        )
        if wrong:
            lines = "\n".join(snippet)
            yield bad(
                service.name,
                "; ".join(wrong),
                "Restart=on-failure, and a configuration test before the reload's signal",
                shown,
                fix=f"# /etc/systemd/system/{service.name}.d/override.conf\n{lines}",
            )
        elif service.restart is None:
            yield unknown(service.name, "what its unit sets is not known", shown)
        else:
            yield good(service.name, f"Restart={service.restart}, tested reloads", shown)


def _unit_faults(service: Service, master: dict[str, Any]) -> tuple[list[str], list[str]]:
    wrong, snippet = [], ["[Service]"]
    if service.result == "start-limit-hit":
        wrong.append("it sits on its start limit: systemd will not start it again by itself")
        snippet[:0] = ["[Unit]", "StartLimitIntervalSec=0"]
    if service.restart is not None and service.restart not in _RESTARTS:
        wrong.append(f"Restart={service.restart}: after a crash it stays down")
        snippet += ["Restart=on-failure", "RestartSec=100ms"]
    if service.restart is not None and not _tested(service.exec_reload):
        wrong.append("a reload is not preceded by a test: a mistake in a pool file ends PHP-FPM")
        binary = master["binary"] or "/usr/sbin/php-fpm"
        snippet += [
            "ExecReload=",
            f"ExecReload={binary} --test --fpm-config {master['config_file']}",
            "ExecReload=/bin/kill -USR2 $MAINPID",
        ]
    return wrong, snippet


def _tested(commands: tuple[str, ...]) -> bool:
    """A test before the signal, or a reload script of its own."""
    for command in commands:
        words = command.split()
        if any(word in ("-t", "--test", "-tt") for word in words[1:]):
            return True
        if words and words[0].rsplit("/", 1)[-1] not in ("kill", "pkill", "systemctl"):
            return True
    return False
