# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the modules returned to what the report shows: hosts, lamps, verdicts, findings (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import (
    report_ladder,
    report_memory,
    report_path,
    report_timeline,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import SEVERITIES
from ansible_collections.webops.php_stack.plugins.module_utils.report_input import (
    HostInput,
    Route,
    concerned,
    parse,
    routes,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import (
    BROKEN,
    GOOD,
    STATES,
    UNKNOWN,
    WARN,
    Case,
    FindingGroup,
    FleetView,
    HostView,
    Lamp,
    VerdictEntry,
    worst,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import period, place, plural

_LOOKS = {"critical": BROKEN, "high": WARN}
_GATEWAY = ("502", "504")
# Findings that fail, each with the pools that it concerns.
_About = list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]


def build(raw: list[Mapping[str, Any]], generated: str = "", since: str = "") -> FleetView:
    """The whole report, what is worst first.

    :param raw: one entry for each host, see ``report_input.parse``.
    :param generated: when, in words; ``since``: how far back the logs were read.
    :raises ValueError: an entry without a name.
    """
    views = sorted(
        (_host(parse(entry)) for entry in raw),
        key=lambda view: (STATES.index(view.state), -view.failed, view.name),
    )
    hosts = tuple(_numbered(view, number) for number, view in enumerate(views, 1))
    lamps = [lamp.state for host in hosts for lamp in host.lamps]
    return FleetView(
        generated,
        period(since),
        hosts,
        {state: sum(1 for host in hosts if host.state == state) for state in STATES},
        {state: lamps.count(state) for state in STATES},
        sum(host.failed for host in hosts),
    )


def _numbered(view: HostView, number: int) -> HostView:
    # Anchors are numbers: a host's name may hold anything.
    return HostView(**{**view.__dict__, "anchor": f"host-{number}"})


def _host(host: HostInput) -> HostView:
    ways = routes(host)
    failing = [one for one in host.findings if one["status"] == "fail"]
    about = [(finding, concerned(finding, host, ways)) for finding in failing]
    pools = [_pool_lamp(host, pool, about) for pool in host.pools]
    lamps = [*pools, *_lost_lamps(host, ways, about), *_host_lamps(host, about, ways)]
    failed = sum(_gateway_failures(host).values())
    state = worst([lamp.state for lamp in lamps])
    if not host.audit and state != BROKEN:
        state = UNKNOWN
    return HostView(
        anchor="",
        name=host.name,
        state=state,
        line=_line(host, state),
        facts=_facts(host),
        failed=failed,
        lamps=tuple(sorted(lamps, key=lambda lamp: (STATES.index(lamp.state), -lamp.failed, lamp.label))),
        verdict=tuple(_verdict(entry) for entry in host.audit.get("verdict", ())),
        paths=report_path.build(host, ways, {number: lamp.state for number, lamp in enumerate(pools)}),
        memory=report_memory.build(host),
        ladders=report_ladder.build(host, ways),
        timeline=report_timeline.build(host),
        findings=_groups(host, "fail"),
        unknown=_groups(host, "unknown"),
        excluded=_groups(host, "excluded"),
        passed=tuple(
            (str(one["id"]), str(one["title"]), str(one["found"]))
            for one in host.findings
            if one["status"] == "pass"
        ),
        problems=host.problems,
        limits=tuple(str(words) for words in host.audit.get("limits", ())),
    )


def _gateway_failures(host: HostInput) -> dict[str, int]:
    """Cause -> requests that it answered with 502 or 504."""
    return {
        str(cause["id"]): int(cause["failed_requests"])
        for cause in host.audit.get("causes", ())
        if str(cause["answer"]).startswith(_GATEWAY)
    }


def _pool_failures(host: HostInput, pool: Mapping[str, Any]) -> int:
    """Requests that failed on the way to a pool: by its address, as nginx names it in its log."""
    address = str(pool["listen"]["address"] or "")
    total = 0
    for cause in host.audit.get("causes", ()):
        if str(cause["answer"]).startswith(_GATEWAY) and address:
            for upstream in cause["upstreams"]:
                if str(upstream["name"]).removeprefix("fastcgi://").rstrip(":") == address:
                    total += int(upstream["count"])
    return total


def _pool_lamp(host: HostInput, pool: Mapping[str, Any], about: _About) -> Lamp:
    mine = [finding for finding, pools in about if pool in pools]
    failed = _pool_failures(host, pool)
    label = str(pool["name"])
    if sum(1 for other in host.pools if other["name"] == pool["name"]) > 1:
        label = f"{label} {pool['version']}"
    state = _state(mine, failed) if host.audit else UNKNOWN
    return Lamp(label, state, _reason(mine, failed, state), failed)


def _state(findings: list[Mapping[str, Any]], failed: int) -> str:
    severities = {finding["severity"] for finding in findings}
    if "critical" in severities:
        return BROKEN
    return WARN if failed or "high" in severities else GOOD


def _reason(findings: list[Mapping[str, Any]], failed: int, state: str) -> str:
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{one['id']} {one['title']}" for one in findings if one["severity"] in _LOOKS]
    minor = sum(1 for one in findings if one["severity"] not in _LOOKS)
    if minor:
        parts.append(plural(minor, "minor note"))
    if not parts:
        parts = ["not audited"] if state == UNKNOWN else ["nothing found"]
    return "; ".join(dict.fromkeys(parts))


def _lost_lamps(host: HostInput, ways: list[Route], about: _About) -> list[Lamp]:
    """Sites with a serious finding that no pool can show, since none is reached."""
    names = {way.site for way in ways}
    lost = {
        str(finding["subject"])
        for finding, pools in about
        if not pools and finding["subject"] in names and finding["severity"] in _LOOKS
    }
    lamps = []
    for name in sorted(lost):
        mine = [finding for finding, _pools in about if finding["subject"] == name]
        failed = _site_failures(host, name)
        state = _state(mine, failed)
        lamps.append(Lamp(name, state, _reason(mine, failed, state), failed))
    return lamps


def _site_failures(host: HostInput, name: str) -> int:
    return sum(
        int(entry["count"])
        for cause in host.audit.get("causes", ())
        if str(cause["answer"]).startswith(_GATEWAY)
        for entry in cause["sites"]
        if entry["name"] == name
    )


def _host_lamps(host: HostInput, about: _About, ways: list[Route]) -> list[Lamp]:
    """One lamp for what concerns neither a pool nor a site."""
    sites = {way.site for way in ways}
    mine = [finding for finding, pools in about if not pools and finding["subject"] not in sites]
    serious = [finding for finding in mine if finding["severity"] in _LOOKS]
    if not host.audit:
        return [Lamp("host", UNKNOWN, "not audited")]
    state = _state(mine, 0)
    if not serious and not host.pools:
        state = UNKNOWN
    return [Lamp("host", state, _reason(mine, 0, state) if host.pools or serious else "no PHP-FPM was found")]


def _line(host: HostInput, state: str) -> str:
    """The state in a few words; the failed requests stand beside it."""
    if not host.audit:
        return host.problems[0] if host.problems else "not audited"
    counts = host.audit["counts"]["failed"]
    words = [f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity]]
    return ", ".join(words) if words else ("no problem found" if state == GOOD else "nothing to judge")


def _facts(host: HostInput) -> tuple[str, ...]:
    facts = []
    version = (host.nginx.get("nginx") or {}).get("version")
    if version:
        facts.append(str(version))
    versions = sorted({str(master["version"]) for master in host.masters if master["version"]})
    if versions:
        facts.append(f"PHP {', '.join(versions)}")
    if host.pools:
        facts.append(plural(len(host.pools), "pool"))
    if host.locations:
        facts.append(f"{plural(len({one['server_file'] for one in host.locations}), 'site file')} with PHP")
    return tuple(facts)


def _verdict(entry: Mapping[str, Any]) -> VerdictEntry:
    return VerdictEntry(
        str(entry["headline"]),
        str(entry["cause"] or ""),
        int(entry["count"] or 0),
        str(entry["last"] or "").replace("T", " ", 1),
        tuple(str(words) for words in entry["evidence"]),
        str(entry["fix"] or ""),
    )


def _groups(host: HostInput, status: str) -> tuple[FindingGroup, ...]:
    """Findings of one status by rule, in the audit's order."""
    rules: dict[str, list[Mapping[str, Any]]] = {}
    for finding in host.findings:
        if finding["status"] == status:
            rules.setdefault(str(finding["id"]), []).append(finding)
    groups = []
    for ident, found in rules.items():
        first = found[0]
        look = _LOOKS.get(first["severity"], "note") if status == "fail" else status
        groups.append(
            FindingGroup(
                ident,
                str(first["severity"]),
                str(first["title"]),
                look,
                ", ".join(str(cause) for cause in first["can_cause"]),
                tuple(_case(one) for one in found),
            )
        )
    return tuple(groups)


def _case(finding: Mapping[str, Any]) -> Case:
    return Case(
        str(finding["subject"]),
        str(finding["found"]),
        str(finding["expected"]),
        tuple((str(item["text"]), place(item)) for item in finding["evidence"]),
        str(finding["fix"]),
        str(finding["confidence"]),
        str(finding["reason"]),
    )
