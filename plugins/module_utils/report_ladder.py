# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeout ladder of each site (pure): what ends a request, in the order in which it should happen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import is_page
from ansible_collections.webops.php_stack.plugins.module_utils.report_input import HostInput, Route
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import (
    GOOD,
    UNKNOWN,
    WARN,
    Ladder,
    Rung,
    worst,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import place, seconds

_RULES = ("T01", "T02", "T03")
_ADMIN = ("php_admin_value[max_execution_time]", "php_value[max_execution_time]")


def build(host: HostInput, ways: list[Route]) -> tuple[Ladder, ...]:
    """One ladder for each site and pool; ways with the same limits are one ladder."""
    found: dict[tuple[Any, ...], Ladder] = {}
    for way in ways:
        if way.pool is None or is_page(dict(way.location), dict(way.pool)):
            continue
        title = f"{way.site} → pool {way.pool['name']}"
        ladder = _ladder(host, way, title)
        found.setdefault((title, ladder.rungs), ladder)
    return tuple(sorted(found.values(), key=lambda one: (one.state == GOOD, one.title)))


def _ladder(host: HostInput, way: Route, title: str) -> Ladder:
    if way.pool is None:
        raise AssertionError("a ladder is drawn for a route that ends at a pool")
    subjects = (
        f"{way.site} -> pool {way.pool['name']}",
        f"pool {way.pool['name']} (PHP {way.pool['version'] or '?'})",
    )
    findings = [one for one in host.findings if one["id"] in _RULES and one["subject"] in subjects]
    failed = [one for one in findings if one["status"] == "fail"]
    settings = way.location["settings"]
    limits: list[tuple[str, str, float | None, str]] = [
        ("PHP", "max_execution_time", *_execution_time(host, way.pool)),
        (
            "PHP-FPM",
            "request_terminate_timeout",
            way.pool["request_terminate_timeout"],
            place((way.pool.get("directives") or {}).get("request_terminate_timeout")),
        ),
    ]
    for name in ("fastcgi_read_timeout", "fastcgi_send_timeout"):
        limits.append(("nginx", name, settings[name]["value"], place(settings[name])))
    wrong = _wrong([value for _owner, _name, value, _place in limits], {one["id"] for one in failed})
    longest = max((value for _owner, _name, value, _place in limits if value and value > 0), default=1.0)
    rungs = tuple(
        _rung(owner, name, value, where, longest, number in wrong)
        for number, (owner, name, value, where) in enumerate(limits)
    )
    states = [rung.state for rung in rungs if rung.form != "unknown" or not rung.name.startswith("max_")]
    return Ladder(title, worst(states), rungs, tuple(str(one["found"]) for one in failed))


def _execution_time(host: HostInput, pool: Mapping[str, Any]) -> tuple[float | None, str]:
    """What the audit read, php.ini included, else the pool file; (None, "") where neither says."""
    for entry in host.audit.get("timeouts", ()):
        if (entry["pool"], entry["version"]) == (pool["name"], pool["version"]):
            limit = entry["max_execution_time"]
            return limit["value"], place(limit)
    for name in _ADMIN:
        entry = (pool.get("directives") or {}).get(name)
        if entry and re.fullmatch(r"-?\d+", str(entry["value"]).strip()):
            return float(entry["value"]), place(entry)
    return None, ""


def _wrong(values: list[float | None], failed: set[str]) -> set[int]:
    """The rungs that a finding is about: which of them, their order shows."""
    execution, terminate, read = values[:3]
    found = set()
    if "T01" in failed:
        if execution and terminate and execution > terminate:
            found.add(1)
        if terminate and read is not None and terminate >= read:
            found.add(2)
        if execution and not terminate and read is not None and execution > read:
            found.add(2)
    if failed & {"T02", "T03"}:
        found.add(1)
    return found


def _rung(owner: str, name: str, value: float | None, where: str, longest: float, wrong: bool) -> Rung:
    state = WARN if wrong else GOOD
    if value is None:
        return Rung(owner, name, "not known", "unknown", WARN if wrong else UNKNOWN, 100.0, where)
    if value <= 0:
        return Rung(owner, name, "no limit", "endless", state, 100.0, where)
    return Rung(owner, name, seconds(value), "bar", state, max(1.0, 100 * value / longest), where)
