# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit says: outcomes of rules, and the findings made of them (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot

SEVERITIES = ("critical", "high", "medium", "low")
PASS, FAIL, UNKNOWN, EXCLUDED = "pass", "fail", "unknown", "excluded"
_ORDER = {FAIL: 0, UNKNOWN: 1, EXCLUDED: 2, PASS: 3}


@dataclass(frozen=True)
class Evidence:
    """A place or a measured value. ``file`` and ``line`` are None for what is not in a file."""

    text: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = where(self.file, self.line)
        return f"{self.text} ({place})" if place else self.text


def where(file: str | None, line: int | None) -> str:
    """``/etc/x.conf:12``, the file alone, or an empty text."""
    if not file:
        return ""
    return f"{file}:{line}" if line else file


@dataclass(frozen=True)
class Outcome:
    """What a rule says about one subject (a pool, a location, a unit, the host).

    :ivar fix: a snippet to put in, or a command, of one or more lines; empty unless it fails.
    :ivar confidence: high (read or measured), medium (follows from what is usual), low (a hint).
    """

    status: str
    subject: str
    found: str
    expected: str = ""
    evidence: tuple[Evidence, ...] = ()
    fix: str = ""
    confidence: str = "high"


def good(subject: str, found: str, *evidence: Evidence) -> Outcome:
    return Outcome(PASS, subject, found, evidence=evidence)


def unknown(subject: str, why: str, *evidence: Evidence) -> Outcome:
    """The evidence does not suffice; ``why`` says what lacks."""
    return Outcome(UNKNOWN, subject, why, evidence=evidence)


def bad(
    subject: str,
    found: str,
    expected: str,
    *evidence: Evidence,
    fix: str,
    confidence: str = "high",
) -> Outcome:
    return Outcome(FAIL, subject, found, expected, evidence, fix, confidence)


@dataclass(frozen=True)
class Rule:
    """One rule.

    :ivar causes: what a violation can cause, in the words of the vocabulary of causes.
    :ivar needs: the sides of the snapshot without which it cannot judge: "nginx", "fpm".
    :ivar check: one outcome for each subject; none where the rule has no subject here.
    """

    id: str
    severity: str
    title: str
    causes: tuple[str, ...]
    needs: tuple[str, ...]
    check: Callable[[Snapshot], Iterable[Outcome]]


class RuleBook:
    """Collects the rules of one area."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def rule(
        self, ident: str, severity: str, title: str, *causes: str, needs: tuple[str, ...] = ("fpm",)
    ) -> Callable[[Callable[[Snapshot], Iterable[Outcome]]], Callable[[Snapshot], Iterable[Outcome]]]:
        def add(check: Callable[[Snapshot], Iterable[Outcome]]) -> Callable[[Snapshot], Iterable[Outcome]]:
            self.rules.append(Rule(ident, severity, title, causes, needs, check))
            return check

        return add


@dataclass(frozen=True)
class Finding:
    """A rule and one outcome. A rule that passes everywhere gives one finding, not one a subject.

    :ivar reason: why it was excluded.
    """

    id: str
    severity: str
    title: str
    status: str
    subject: str
    found: str
    expected: str = ""
    evidence: tuple[Evidence, ...] = ()
    confidence: str = "high"
    fix: str = ""
    causes: tuple[str, ...] = ()
    reason: str = ""

    def plain(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "severity": self.severity,
            "status": self.status,
            "title": self.title,
            "subject": self.subject,
            "found": self.found,
            "expected": self.expected,
            "evidence": [{"text": item.text, "file": item.file, "line": item.line} for item in self.evidence],
            "confidence": self.confidence,
            "fix": self.fix,
            "can_cause": list(self.causes),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Probe:
    """The answer of an active probe. ``ok`` is None where the probe could not be made; ``found`` says why, or what came back."""

    kind: str
    subject: str
    ok: bool | None
    found: str

    def plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "subject": self.subject, "ok": self.ok, "found": self.found}


@dataclass(frozen=True)
class Audit:
    """All findings, the worst first, and the ids of the rules that have no subject on this host."""

    findings: list[Finding]
    not_applicable: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """How many findings there are of each status, and of the failed ones of each severity."""
        return {
            **{
                status: sum(1 for one in self.findings if one.status == status)
                for status in (FAIL, UNKNOWN, PASS, EXCLUDED)
            },
            "failed": {
                severity: sum(1 for one in self.findings if one.status == FAIL and one.severity == severity)
                for severity in SEVERITIES
            },
        }

    def at_least(self, severity: str) -> list[Finding]:
        """The failed findings of this severity or a worse one."""
        wanted = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return [one for one in self.findings if one.status == FAIL and one.severity in wanted]


def evaluate(snapshot: Snapshot, rules: list[Rule], excluded: dict[str, str] | None = None) -> Audit:
    """Judge a snapshot by rules.

    :param excluded: rule id -> the reason why its findings are not to count.
    """
    findings: list[Finding] = []
    not_applicable = []
    for rule in rules:
        outcomes = _outcomes(rule, snapshot)
        if not outcomes:
            not_applicable.append(rule.id)
            continue
        reason = (excluded or {}).get(rule.id)
        for outcome in _condensed(outcomes):
            finding = Finding(
                rule.id,
                rule.severity,
                rule.title,
                outcome.status,
                outcome.subject,
                outcome.found,
                outcome.expected,
                outcome.evidence,
                outcome.confidence,
                outcome.fix,
                rule.causes,
            )
            if reason is not None and outcome.status != PASS:
                finding = replace(finding, status=EXCLUDED, reason=reason)
            findings.append(finding)
    findings.sort(key=lambda one: (_ORDER[one.status], SEVERITIES.index(one.severity), one.id))
    return Audit(findings, not_applicable)


def _outcomes(rule: Rule, snapshot: Snapshot) -> list[Outcome]:
    missing = snapshot.missing(rule.needs)
    if missing:
        return [unknown("host", missing)]
    return list(dict.fromkeys(rule.check(snapshot)))


def _condensed(outcomes: list[Outcome]) -> list[Outcome]:
    """What is wrong or not known, one by one; else one line for all that is right."""
    left = [outcome for outcome in outcomes if outcome.status != PASS]
    if left:
        return left
    first = outcomes[0]
    if len(outcomes) == 1:
        return [first]
    return [good(f"{len(outcomes)} checked", f"{first.subject}: {first.found}; the others likewise")]
