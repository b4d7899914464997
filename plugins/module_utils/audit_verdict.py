# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins what the logs show with what the rules found: a ranked verdict (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    FAIL,
    SEVERITIES,
    Audit,
    Evidence,
    Finding,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    edges,
    pool_title,
    pools_at,
    short,
    site,
)

# Errors of a request more often than of the stack: what is critical comes before them.
_CLIENT_ANSWERS = ("400", "403", "404")
# Rules that make a failure worse, or that only repeat the logs: they never are the headline of a cause.
_NEVER_FIRST = ("C08", "C09", "F03", "N03", "T02")
# A rule that can lead to a cause, but only where the logs show how; then the cause is another one.
_HINTS = (("T04", "upstream_reset"),)
# What an upstream does to a connection: who it is matters.
_BY_UPSTREAM = (
    "upstream_reset", "premature_close", "response_truncated", "fastcgi_protocol_error", "send_timeout",
    "connect_timeout", "read_timeout",
)  # fmt: skip
# Known by nearness in time alone: a fault that is still there explains the same failures better.
_BY_TIME = ("restart_cut_requests",)
_TELLING = re.compile(r"ERROR|ALERT|WARNING|emerg|exited|oom|Out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong.

    :ivar cause: its id in the vocabulary; None where no log shows a failure yet.
    :ivar count: failed requests or events in the logs.
    :ivar also: ids of further rules that point the same way.
    """

    headline: str
    cause: str | None
    count: int
    last: str | None
    severity: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    rule: str | None = None
    also: tuple[str, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        return {
            "headline": self.headline,
            "cause": self.cause,
            "count": self.count,
            "last": self.last,
            "severity": self.severity,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "rule": self.rule,
            "also": list(self.also),
        }


def rank(snapshot: Snapshot, audit: Audit) -> list[Verdict]:
    """Failures that the logs show, in their order, then what is critical, client errors, and what is high."""
    failed = [one for one in audit.findings if one.status == FAIL]
    used: set[int] = set()
    entries: list[Verdict] = []
    minor: list[Verdict] = []
    for cause in (snapshot.logs or {}).get("causes", []):
        found = _entries(snapshot, cause, failed, used)
        (minor if cause["answer"] in _CLIENT_ANSWERS else entries).extend(found)
    rest: dict[str, list[Finding]] = {}
    for one in failed:
        if id(one) not in used and one.severity in ("critical", "high"):
            rest.setdefault(one.id, []).append(one)
    latent = [_of_findings(group) for group in rest.values()]
    critical = [one for one in latent if one.severity == "critical"]
    return entries + critical + minor + [one for one in latent if one.severity != "critical"]


def _entries(
    snapshot: Snapshot, cause: dict[str, Any], failed: list[Finding], used: set[int]
) -> list[Verdict]:
    names = _names(snapshot, cause)
    if cause["id"] in _BY_TIME:
        for symptom in cause["consequences"]:
            lasting = [
                one
                for one in failed
                if one.severity == "critical"
                and symptom["id"] in one.causes
                and any(_mentions(text, name) for text in _texts(one) for name in names)
            ]
            if lasting:
                cause = {**cause, "id": symptom["id"]}
    scored = sorted(
        (
            (score, one)
            for one in failed
            if cause["id"] in one.causes and (score := _relevance(one, cause, names)) is not None
        ),
        key=lambda pair: pair[0],
    )
    elsewhere = {id(one) for _score, one in scored if not _concerns(snapshot, one, cause)}
    if len(elsewhere) < len(scored):
        scored = [(score, one) for score, one in scored if id(one) not in elsewhere]
    used.update(id(one) for _score, one in scored)
    strong = [
        (score, one)
        for score, one in scored
        if one.id not in _NEVER_FIRST and (one.id, cause["id"]) not in _HINTS
    ]
    if not strong:
        return [_of_cause(cause, [one for _score, one in scored], _strangers(snapshot, cause))]
    best = strong[0]
    # A rule may have failed for several sites, each with its own place to mend.
    chosen = [one for score, one in strong if one.id == best[1].id and score[0] == best[0][0]]
    others = [one for _score, one in scored if one.id != best[1].id]
    return [_joined(snapshot, cause, one, others) for one in chosen]


def _names(snapshot: Snapshot, cause: dict[str, Any]) -> set[str]:
    """The sites, pools and addresses that a cause concerns."""
    names = {one["name"] for one in cause["sites"]} | {f"pool {pool}" for pool in cause["pools"]}
    for upstream in cause["upstreams"]:
        address = upstream["name"].split("://")[-1].rstrip(":")
        names.add(address.removeprefix("unix:"))
        for known in {address, *(one for one in snapshot.targets if snapshot.targets[one].real == address)}:
            names |= {f"pool {pool['name']}" for pool in pools_at(snapshot, known)}
    return names


def _strangers(snapshot: Snapshot, cause: dict[str, Any]) -> str:
    """Which programs that are no PHP-FPM listen where the failed requests went; empty where none is known to."""
    if cause["id"] not in _BY_UPSTREAM:
        return ""
    found = []
    for upstream in cause["upstreams"]:
        address = upstream["name"].split("://")[-1].rstrip(":")
        target = snapshot.targets.get(address)
        holders = [one for one in (target.holders if target else None) or () if "php-fpm" not in one.name]
        if holders and not pools_at(snapshot, address):
            found.append(f"no pool listens on {address}, but {holders[0].name} (pid {holders[0].pid}) does")
    return "; ".join(found[:2])


def _relevance(finding: Finding, cause: dict[str, Any], names: set[str]) -> tuple[int, int, int] | None:
    """A sort key, the best first; None for a finding about another site or pool."""
    named = any(_mentions(text, name) for text in _texts(finding) for name in names)
    about_other = finding.subject.startswith("pool ") or "." in finding.subject.split(" ")[0]
    if not named and about_other and not finding.subject.endswith(".service"):
        return None
    return (0 if named else 1, SEVERITIES.index(finding.severity), finding.causes.index(cause["id"]))


def _texts(finding: Finding) -> tuple[str, ...]:
    return (finding.subject, finding.found, *(item.text for item in finding.evidence))


def _mentions(text: str, name: str) -> bool:
    return bool(name) and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _sites(snapshot: Snapshot, finding: Finding) -> set[str]:
    """The sites that lead to the pool that a finding is about; none where it is about no pool."""
    return {site(location) for location, pool in edges(snapshot) if pool_title(pool) == finding.subject}


def _concerns(snapshot: Snapshot, finding: Finding, cause: dict[str, Any]) -> bool:
    """Whether a finding about a pool can explain failures of the cause's sites: none of them may lead there."""
    sites, failed = _sites(snapshot, finding), {one["name"] for one in cause["sites"]}
    return not sites or not failed or bool(sites & failed)


def _joined(snapshot: Snapshot, cause: dict[str, Any], finding: Finding, others: list[Finding]) -> Verdict:
    counts = {one["name"]: one["count"] for one in cause["sites"]}
    pool_sites = _sites(snapshot, finding)
    own = [name for name in counts if name in pool_sites or _mentions(finding.subject, name)]
    sites = own or list(counts)
    count = sum(counts[name] for name in own) if own else cause["count"]
    # Where no site is known, it takes the finding's subject to tell two findings of a rule apart.
    who = "" if sites else f"{finding.subject}: "
    return Verdict(
        f"{_answer(cause, sites)}: {who}{_sentence(finding)}",
        cause["id"],
        count,
        cause["last"],
        finding.severity,
        (
            *_too(others),
            *(str(item) for item in finding.evidence),
            *_log_lines(cause),
        ),
        finding.fix,
        finding.id,
        tuple(dict.fromkeys(one.id for one in others)),
    )


def _too(others: list[Finding]) -> tuple[str, ...]:
    return tuple(f"{one.id} too: {one.subject}: {one.found}" for one in others)


def _of_cause(cause: dict[str, Any], others: list[Finding], strangers: str) -> Verdict:
    """What the logs alone say; ``others`` are findings that belong to it without being its reason."""
    sites = [one["name"] for one in cause["sites"]]
    words = cause["summary"]
    texts = [line["text"] for line in cause["evidence"]]
    telling = [text for text in texts if _TELLING.search(text)] or texts
    if telling:
        words += f" ({telling[0]})"
    if strangers:
        words += f"; {strangers}"
    return Verdict(
        f"{_answer(cause, sites)}: {words}",
        cause["id"],
        cause["count"],
        cause["last"],
        "low" if cause["answer"] in _CLIENT_ANSWERS else "high",
        (*_log_lines(cause), *_too(others)),
        next((one.fix for one in others), ""),
        None,
        tuple(dict.fromkeys(one.id for one in others)),
    )


def _of_findings(group: list[Finding]) -> Verdict:
    """What a rule found, for one subject or for all of them together."""
    first = group[0]
    headline = f"{first.subject}: {_sentence(first)}"
    if len(group) > 1:
        headline = f"{first.title}: {', '.join(dict.fromkeys(one.subject for one in group))}"
    return Verdict(
        headline,
        None,
        0,
        None,
        first.severity,
        tuple(str(item) for one in group for item in one.evidence),
        first.fix,
        first.id,
    )


def _answer(cause: dict[str, Any], sites: list[str]) -> str:
    shown = ", ".join(sites[:3]) + (f" and {len(sites) - 3} more" if len(sites) > 3 else "")
    return f"{cause['answer']} on {shown}" if shown else f"{cause['answer']} ({cause['id']})"


def _sentence(finding: Finding) -> str:
    """What was found, each part with the place to look at."""
    parts = [finding.found]
    for number, item in enumerate(finding.evidence[:2]):
        place = _place(item)
        if number == 0 and place:
            parts[0] += f" ({place})"
        elif place and item.text:
            parts.append(f"{item.text} ({place})")
    return "; ".join(parts)


def _place(item: Evidence) -> str:
    if not item.file:
        return ""
    return f"{short(item.file)}:{item.line}" if item.line else short(item.file)


def _log_lines(cause: dict[str, Any]) -> tuple[str, ...]:
    lines = (cause["evidence"] or [])[:1] + (cause["samples"] or [])[:1]
    return tuple(f"{short(line['source'])}: {line['text']}" for line in lines)
