# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as text for a terminal of 80 columns (pure)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    EXCLUDED,
    FAIL,
    PASS,
    SEVERITIES,
    UNKNOWN,
    Audit,
    Finding,
    Probe,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_verdict import Verdict

WIDTH = 80
# The verdicts that are explained in full, and the lines that one screen has.
_EXPLAINED = 2
_SCREEN = 46
_EVIDENCE = 3


def render_line(audit: Audit, verdicts: list[Verdict]) -> str:
    """One line: how much is wrong, and the worst of it."""
    words = _headline(audit).partition(": ")[2]
    return _clean(f"{words}. {verdicts[0].headline}" if verdicts else words)


def render(audit: Audit, verdicts: list[Verdict], limits: list[str], probes: Sequence[Probe] = ()) -> str:
    """At most one screen: the most likely cause on top, the rest in a line each."""
    lines = [_headline(audit), ""]
    if not verdicts:
        open_rules = len({one.id for one in audit.findings if one.status == UNKNOWN})
        lines += _wrapped(
            f"Nothing wrong was found; {open_rules} rules could not be judged."
            if open_rules
            else "Every rule that has something to judge passes.",
            "",
            "",
        )
    for number, entry in enumerate(verdicts, 1):
        lines += _explained(number, entry) if number <= _EXPLAINED else [_brief(number, entry)]
    # A verdict in one line has no room for the rules that point the same way: they get a line of their own.
    shown = {entry.rule for entry in verdicts}
    shown |= {ident for entry in verdicts[:_EXPLAINED] for ident in entry.also}
    others = [one for one in audit.findings if one.status == FAIL and one.id not in shown]
    urgent = _grouped([one for one in others if one.severity in ("critical", "high")])
    for number, (_severity, words) in enumerate(urgent, len(verdicts) + 1):
        lines.append(_cut(f"{number}. {words}"))
    rest = _grouped([one for one in others if one.severity in ("medium", "low")])
    if rest:
        lines += ["", "Less urgent"]
        lines += [_cut(f"  {severity:<8} {words}") for severity, words in rest]
    tail = _tail(audit, limits)
    room = _SCREEN - len(tail)
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], f"  … and {hidden} more lines: show=full prints everything"]
    # Who asks for probes wants to read them all, beyond the screen if need be.
    return "\n".join([*lines, *_probed(probes, 2), *tail])


def render_full(
    audit: Audit, verdicts: list[Verdict], limits: list[str], probes: Sequence[Probe] = ()
) -> str:
    """Every verdict and every finding, with evidence and fix."""
    lines = [_headline(audit), ""]
    for number, entry in enumerate(verdicts, 1):
        lines += _explained(number, entry)
    lines += ["", "Findings"]
    for finding in audit.findings:
        lines += _finding(finding)
    if audit.not_applicable:
        lines += ["", *_wrapped(f"Nothing to judge here for: {', '.join(audit.not_applicable)}.", "", "  ")]
    return "\n".join([*lines, *_probed(probes), *_tail(audit, limits)])


def _probed(probes: Sequence[Probe], most: int | None = None) -> list[str]:
    """The probes, each in ``most`` lines; those that were not made are one line a reason."""
    lines = ["", "Probes"] if probes else []
    left_out: dict[str, list[str]] = {}
    for probe in probes:
        if probe.ok is None:
            left_out.setdefault(f"{probe.kind}: {probe.found}", []).append(probe.subject)
            continue
        words = "works" if probe.ok else "FAILS"
        lines += _wrapped(f"{words:<6}{probe.kind}: {probe.subject}: {probe.found}", "  ", " " * 8)[:most]
    for reason, subjects in left_out.items():
        lines += _wrapped(f"not made, {reason} ({', '.join(subjects)})", "  ", " " * 8)[:most]
    return lines


def _grouped(findings: list[Finding]) -> list[tuple[str, str]]:
    """(severity, words) of each rule."""
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        groups.setdefault(one.id, []).append(one)
    lines = []
    for ident, group in groups.items():
        words = f"{group[0].subject}: {group[0].found}"
        if len(group) > 1:
            words = f"{group[0].title}: {', '.join(one.subject for one in group)}"
        lines.append((group[0].severity, f"{ident} {words}"))
    return lines


def _headline(audit: Audit) -> str:
    failed = audit.counts()["failed"]
    words = ", ".join(f"{failed[severity]} {severity}" for severity in SEVERITIES if failed[severity])
    if not words:
        words = "no problem found" if audit.counts()[PASS] else "nothing could be judged"
    return f"nginx + PHP-FPM: {words}"


def _tail(audit: Audit, limits: list[str]) -> list[str]:
    counts = audit.counts()
    lines = [""]
    unknown = list(dict.fromkeys(one.id for one in audit.findings if one.status == UNKNOWN))
    if unknown:
        lines += _wrapped(f"Not known (no pass): {', '.join(unknown)}.", "", "  ")
    excluded = list(
        dict.fromkeys(f"{one.id} ({one.reason})" for one in audit.findings if one.status == EXCLUDED)
    )
    if excluded:
        lines += _wrapped(f"Left out: {', '.join(excluded)}.", "", "  ")
    lines.append(f"{counts[PASS]} rules pass, {len(audit.not_applicable)} have nothing to judge here.")
    for limit in limits[:3]:
        lines.append(_cut(f"Not seen: {limit}"))
    return lines


def _explained(number: int, entry: Verdict) -> list[str]:
    lines = _wrapped(entry.headline, f"{number}. ", "   ")
    facts = []
    if entry.count:
        facts.append(
            f"{entry.count} in the logs, last {(entry.last or 'at an unknown time').replace('T', ' ')}"
        )
    if entry.rule:
        facts.append(
            f"rule {entry.rule} ({entry.severity})"
            + (f", with {', '.join(entry.also)}" if entry.also else "")
        )
    if facts:
        lines += _wrapped("; ".join(facts), "   ", "   ")
    for line in entry.evidence[:_EVIDENCE]:
        lines += _wrapped(line, "   - ", "     ")[:2]
    if entry.fix:
        lines.append("   Fix:")
        lines += [f"     {_clean(line)}" for line in entry.fix.splitlines()]
    return [*lines, ""]


def _brief(number: int, entry: Verdict) -> str:
    count = f" ({entry.count} x)" if entry.count else ""
    ident = f" {entry.rule}" if entry.rule else ""
    return _cut(f"{number}.{ident}{count} {entry.headline}")


def _finding(finding: Finding) -> list[str]:
    state = finding.severity if finding.status == FAIL else finding.status
    lines = _wrapped(f"{finding.title}", f"{state:<8} {finding.id}  ", " " * 14)
    if finding.status == PASS:
        return lines
    lines += _wrapped(f"{finding.subject}: {finding.found}", "         ", "         ")
    if finding.reason:
        lines += _wrapped(f"left out: {finding.reason}", "         ", "         ")
    if finding.expected:
        lines += _wrapped(
            f"expected: {finding.expected} (confidence: {finding.confidence})", "         ", "         "
        )
    lines += [_cut(f"         - {item}") for item in finding.evidence]
    lines += [f"           {_clean(line)}" for line in finding.fix.splitlines()]
    return lines


def _clean(text: str) -> str:
    """Logs are not to be trusted: no control characters reach the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        _clean(text), WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )


def _cut(line: str) -> str:
    line = _clean(line)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
