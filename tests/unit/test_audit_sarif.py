# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as SARIF: what the standard requires of the objects that are used, and what viewers show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import audit, audit_sarif
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import Audit, Evidence, Finding
from audit_samples import FINDINGS, FPM, SITE, Case, audited, snapshot
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

BROKEN = Case(
    "",
    "",
    edits=(
        (
            SITE,
            "    server unix:/run/php/shop.sock max_fails=0;\n",
            "    server unix:/run/php/php7.4-fpm.sock;\n",
        ),
        (FPM, "process_control_timeout = 10s\n", ""),
    ),
)


def thing(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object of the standard: nothing but its own properties, and those that it requires."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": {**properties, "properties": {"type": "object"}},
    }


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def unique(items: dict[str, Any]) -> dict[str, Any]:
    return {**many(items), "uniqueItems": True}


TEXT: dict[str, Any] = {"type": "string"}
MESSAGE = {
    **thing(text=TEXT, id=TEXT, markdown=TEXT),
    "anyOf": [{"required": ["text"]}, {"required": ["id"]}],
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
# Characters of a relative reference (RFC 3986), percent signs only before two digits.
URI = {"type": "string", "pattern": "^(?!/)(?:[A-Za-z0-9._~!$&'()*+,;=@/-]|%[0-9A-F]{2})*$"}
LOCATION = thing(
    id={"type": "integer", "minimum": -1},
    message=MESSAGE,
    physicalLocation={
        **thing(
            artifactLocation=thing(uri=URI, uriBaseId=TEXT, index={"type": "integer"}),
            region=thing("startLine", startLine={"type": "integer", "minimum": 1}),
        ),
        "anyOf": [{"required": ["artifactLocation"]}, {"required": ["address"]}],
    },
)
RESULT = thing(
    "message",
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    kind={"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
    level=LEVEL,
    message=MESSAGE,
    locations=many(LOCATION),
    relatedLocations=unique(LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    suppressions=unique(thing("kind", kind={"enum": ["inSource", "external"]}, justification=TEXT)),
)
RULE = thing("id", id=TEXT, shortDescription=MESSAGE, defaultConfiguration=thing(level=LEVEL))
# SARIF 2.1.0 (OASIS), cut down to the objects that an audit uses.
SCHEMA = {
    **thing(
        "version runs",
        version={"enum": ["2.1.0"]},
        runs=many(
            thing(
                "tool",
                tool=thing("driver", driver=thing("name", name={**TEXT, "minLength": 1}, rules=unique(RULE))),
                columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                results=many(RESULT),
            )
        ),
    ),
    "$schema": "http://json-schema.org/draft-07/schema#",
}
SCHEMA["properties"]["$schema"] = {"type": "string", "format": "uri"}


def document(found: Audit) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(audit_sarif.render(found, audit.all_rules()))
    return made


def mistakes(made: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(SCHEMA).iter_errors(made)]


def test_a_broken_tree_and_a_sound_one_make_valid_documents(tmp_path: Path) -> None:
    broken = document(audited(tmp_path / "broken", BROKEN))
    sound = document(audited(tmp_path / "sound"))
    assert (mistakes(broken), mistakes(sound)) == ([], [])
    assert {one["kind"] for one in broken["runs"][0]["results"]} == {"pass", "fail", "open"}
    assert len(broken["runs"][0]["tool"]["driver"]["rules"]) == len(audit.all_rules())


@pytest.mark.parametrize(
    ("path", "value"),
    [(("version",), "2.0.0"), (("runs", 0, "tool"), {}), (("runs", 0, "results", 0, "kind"), "failed"),
     (("runs", 0, "results", 0, "message"), {}), (("runs", 0, "results", 0, "stranger"), 1)],
)  # fmt: skip
def test_the_schema_refuses_what_is_no_sarif(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    made = document(audited(tmp_path, BROKEN))
    where: Any = made
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    assert mistakes(made) != []


@given(st.lists(FINDINGS, max_size=5))
def test_it_is_valid_whatever_the_findings_say(findings: list[Finding]) -> None:
    made = document(Audit(findings))
    assert mistakes(made) == []
    driver = made["runs"][0]["tool"]["driver"]
    for result in made["runs"][0]["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert (result["level"] == "none") == (result["kind"] in ("pass", "open"))


def test_a_path_becomes_a_reference() -> None:
    odd = Finding("T04", "high", "t", "fail", "s", "f", "e", (Evidence("x", "/etc/php/a b%ü#1.conf", 3),))
    place = document(Audit([odd]))["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "etc/php/a%20b%25%C3%BC%231.conf"


def test_it_names_the_line_and_the_reason_of_an_exclusion(tmp_path: Path) -> None:
    found = audit.judge(snapshot(tmp_path, BROKEN), {"T04": "never reloaded"})
    results = {one["ruleId"]: one for one in document(found)["runs"][0]["results"]}
    assert results["S01"]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "etc/nginx/sites-enabled/shop.conf", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 2},
    }
    assert results["S01"]["level"] == "error"
    assert results["T04"]["suppressions"] == [{"kind": "external", "justification": "never reloaded"}]
