# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as SARIF 2.1.0, which code hosts and editors show beside the configuration files (pure)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    EXCLUDED,
    FAIL,
    PASS,
    UNKNOWN,
    Audit,
    Evidence,
    Finding,
    Rule,
)

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
# What viewers sort by: GitHub reads it as a CVSS-like number.
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.0", "low": "2.0"}
_KINDS = {FAIL: "fail", UNKNOWN: "open", EXCLUDED: "fail", PASS: "pass"}


def render(audit: Audit, rules: list[Rule]) -> str:
    """The document. Paths are relative to the root of the host or tree, so that a checkout of it matches."""
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "webops.php_stack", "rules": [_rule(rule) for rule in rules]}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, numbers[finding.id]) for finding in audit.findings],
            }
        ],
    }
    return json.dumps(document, indent=2, sort_keys=True)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"security-severity": _SCORES[rule.severity], "tags": list(rule.causes)},
    }


def _result(finding: Finding, number: int) -> dict[str, Any]:
    failed = finding.status in (FAIL, EXCLUDED)
    text = f"{finding.subject}: {finding.found}"
    if failed:
        text += f". Expected: {finding.expected}"
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": number,
        "kind": _KINDS[finding.status],
        "level": _LEVELS[finding.severity] if failed else "none",
        "message": {"text": text},
        "partialFingerprints": {"subject/v1": f"{finding.id}:{finding.subject}"},
        "properties": {"severity": finding.severity, "confidence": finding.confidence, "fix": finding.fix},
    }
    places = [_location(item) for item in finding.evidence if item.file]
    if places:
        result["locations"] = places[:1]
        result["relatedLocations"] = [{"id": place, **one} for place, one in enumerate(places[1:], 1)]
    if finding.status == EXCLUDED:
        result["suppressions"] = [{"kind": "external", "justification": finding.reason}]
    return result


def _location(item: Evidence) -> dict[str, Any]:
    physical: dict[str, Any] = {
        "artifactLocation": {"uri": _reference(item.file or ""), "uriBaseId": "%SRCROOT%"}
    }
    if item.line:
        physical["region"] = {"startLine": item.line}
    return {"physicalLocation": physical, "message": {"text": item.text or "here"}}


def _reference(path: str) -> str:
    """A path as a URI reference, relative to the root."""
    return quote(path.lstrip("/"), safe="/", errors="replace")
