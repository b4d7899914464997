# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as JUnit XML, which every CI system shows as tests (pure)."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    EXCLUDED,
    FAIL,
    UNKNOWN,
    Audit,
    Finding,
    Rule,
)

# XML 1.0 has no way to write these, not even as references.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def render(audit: Audit, rules: list[Rule]) -> str:
    """One test case a finding, and one skipped for each rule that has nothing to judge.

    Unknown counts as skipped: it neither passes nor fails.
    """
    titles = {rule.id: rule.title for rule in rules}
    cases = [_case(finding) for finding in audit.findings]
    cases += [
        f'    <testcase classname="php_stack.{ident}" name={_attribute(titles[ident])}>'
        '<skipped message="nothing to judge on this host"/></testcase>'
        for ident in audit.not_applicable
    ]
    failures = sum(1 for one in audit.findings if one.status == FAIL)
    skipped = sum(1 for one in audit.findings if one.status in (UNKNOWN, EXCLUDED)) + len(
        audit.not_applicable
    )
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="{skipped}"'
    head = f'<testsuites name="webops.php_stack" {counts}>\n  <testsuite name="stack_audit" {counts}>'
    return "\n".join(
        ['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "  </testsuite>", "</testsuites>", ""]
    )


def _case(finding: Finding) -> str:
    name = _attribute(f"{finding.title} [{finding.subject}]")
    start = f'    <testcase classname="php_stack.{finding.id}" name={name}'
    if finding.status == FAIL:
        lines = [
            finding.found,
            f"expected: {finding.expected}",
            *(str(item) for item in finding.evidence),
            "fix:",
            finding.fix,
        ]
        body = f"<failure type={_attribute(finding.severity)} message={_attribute(finding.found)}>{_text(lines)}</failure>"
    elif finding.status == UNKNOWN:
        body = f"<skipped message={_attribute(f'not known: {finding.found}')}/>"
    elif finding.status == EXCLUDED:
        body = f"<skipped message={_attribute(f'left out: {finding.reason}')}/>"
    else:
        return f"{start}/>"
    return f"{start}>{body}</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("?", text))


def _text(lines: list[str]) -> str:
    return escape(_FORBIDDEN.sub("?", "\n".join(lines)))
