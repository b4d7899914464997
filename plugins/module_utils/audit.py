# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One audit from parameters to a result: reads, judges, joins with the logs, writes what was asked for."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import (
    audit_gather,
    audit_junit,
    audit_ladder,
    audit_probe,
    audit_rules_capacity,
    audit_rules_connections,
    audit_rules_fpm,
    audit_rules_host,
    audit_rules_nginx,
    audit_rules_sockets,
    audit_rules_timeouts,
    audit_sarif,
    audit_text,
    audit_verdict,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    SEVERITIES,
    Audit,
    Rule,
    evaluate,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

LOG_OPTIONS = ("nginx_error_log", "fpm_log", "journal", "kernel_log")


def all_rules() -> list[Rule]:
    """Every rule, by id."""
    books = (
        audit_rules_sockets,
        audit_rules_capacity,
        audit_rules_timeouts,
        audit_rules_nginx,
        audit_rules_connections,
        audit_rules_fpm,
        audit_rules_host,
    )
    return sorted((rule for book in books for rule in book.RULES), key=lambda rule: rule.id)


def judge(snapshot: Snapshot, excluded: dict[str, str] | None = None) -> Audit:
    return evaluate(snapshot, all_rules(), excluded)


def exclusions(items: list[dict[str, Any]], rules: list[Rule]) -> dict[str, str]:
    """Rule id -> reason.

    :raises StackError: for ids that no rule has and for exclusions without a reason, all in one message.
    """
    known = {rule.id for rule in rules}
    mistakes = []
    for item in items:
        if item["id"] not in known:
            mistakes.append(f"exclude: there is no rule {item['id']}")
        if not item["reason"].strip():
            mistakes.append(f"exclude: {item['id']} has no reason; say why its findings do not count here")
    if mistakes:
        raise StackError("; ".join(mistakes) + f". The rules are {', '.join(sorted(known))}.")
    return {item["id"]: item["reason"].strip() for item in items}


def run(params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """What the module stack_audit returns.

    :param check_mode: start no process for the isolation test.
    :raises StackError: parameters that make no sense, or findings at or above ``fail_on``.
    """
    rules = all_rules()
    excluded = exclusions(params["exclude"], rules)
    host = Host(params["root"])
    snapshot = audit_gather.gather(host, _log_request(params), params["connect"], params["deploy_scripts"])
    audit = evaluate(snapshot, rules, excluded)
    verdict = audit_verdict.rank(snapshot, audit)
    probes = audit_probe.run(host, snapshot, params["probe"], check_mode)
    limits = _limits(snapshot)
    result: dict[str, Any] = {
        "changed": False,
        "verdict": [entry.plain() for entry in verdict],
        "findings": [finding.plain() for finding in audit.findings],
        "not_applicable": audit.not_applicable,
        "counts": audit.counts(),
        "causes": snapshot.logs["causes"] if snapshot.logs else [],
        "timeline": snapshot.logs["timeline"] if snapshot.logs else None,
        "timeouts": audit_ladder.timeouts(snapshot),
        "probes": [probe.plain() for probe in probes],
        "limits": limits,
        "line": audit_text.render_line(audit, verdict),
        "text": audit_text.render(audit, verdict, limits, probes),
        "details": audit_text.render_full(audit, verdict, limits, probes),
    }
    for name, make in (("sarif", audit_sarif.render), ("junit", audit_junit.render)):
        if params[name]:
            result[name] = make(audit, rules)
    worst = audit.at_least(params["fail_on"]) if params["fail_on"] in SEVERITIES else []
    if worst:
        ids = ", ".join(dict.fromkeys(f"{one.id} ({one.severity})" for one in worst))
        raise StackError(
            f"The audit found {len(worst)} problems of severity {params['fail_on']} or above: {ids}.",
            **result,
        )
    return result


def _log_request(params: dict[str, Any]) -> dict[str, Any] | None:
    given = any(params[name] is not None for name in LOG_OPTIONS)
    if not given and not params["logs"]:
        return None
    wanted = {name: params[name] for name in (*LOG_OPTIONS, "since", "until", "time_zone")}
    if wanted["since"] == "":
        wanted["since"] = None
    return {**wanted, "samples": 3}


def _limits(snapshot: Snapshot) -> list[str]:
    """What the audit could not look at."""
    words = []
    if snapshot.live and os.geteuid() != 0:
        words.append("It ran without root: sockets, memory and most logs of others are hidden. Use become.")
    if snapshot.nginx_problem:
        words.append(snapshot.nginx_problem)
    if not snapshot.masters:
        words.append("No PHP-FPM was found.")
    if snapshot.logs is None:
        words.append("No log of nginx or PHP-FPM was read.")
    else:
        words += snapshot.logs["limits"]
    return words
