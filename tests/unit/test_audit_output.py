# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit returns: the verdict, the text for a terminal, SARIF and JUnit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import (
    audit,
    audit_isolation,
    audit_junit,
    audit_text,
    audit_verdict,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Audit,
    Finding,
    Outcome,
    Probe,
    Rule,
    bad,
    evaluate,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_config import load
from audit_samples import (
    BROKEN,
    FINDINGS,
    INI,
    POOL,
    Case,
    snapshot,
    tree,
)
from hypothesis import given
from hypothesis import strategies as st

DEFAULTS: dict[str, Any] = {
    "root": "/", "exclude": [], "fail_on": "never", "connect": True, "logs": False, "nginx_error_log": None,
    "fpm_log": None, "journal": None, "kernel_log": None, "since": "1d", "until": None, "time_zone": None,
    "deploy_scripts": [], "probe": [], "sarif": False, "junit": False, "show": "none",
}  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Audit, list[audit_verdict.Verdict]]:
    read = snapshot(tmp_path, BROKEN)
    found = audit.judge(read)
    return found, audit_verdict.rank(read, found)


def rule(*outcomes: Outcome, severity: str = "high", needs: tuple[str, ...] = ()) -> Rule:
    def check(_snapshot: Snapshot) -> Iterator[Outcome]:
        yield from outcomes

    return Rule("X01", severity, "a title", ("read_timeout",), needs, check)


def run(tmp_path: Path, **params: Any) -> dict[str, Any]:
    return audit.run({**DEFAULTS, "root": str(tmp_path), **params})


# -- evaluating


def test_passes_are_one_finding_and_failures_are_each_their_own() -> None:
    nothing = Snapshot(False, 0.0)
    passed = evaluate(nothing, [rule(good("a", "x"), good("b", "y"))])
    assert [(one.status, one.subject) for one in passed.findings] == [("pass", "2 checked")]
    mixed = evaluate(nothing, [rule(good("a", "x"), unknown("b", "?"), bad("c", "z", "w", fix="f"))])
    assert [(one.status, one.subject) for one in mixed.findings] == [("fail", "c"), ("unknown", "b")]


def test_a_rule_without_subjects_is_no_pass() -> None:
    result = evaluate(Snapshot(False, 0.0), [rule()])
    assert (result.findings, result.not_applicable) == ([], ["X01"])


def test_without_its_side_a_rule_is_unknown() -> None:
    result = evaluate(Snapshot(False, 0.0, nginx_problem="no nginx"), [rule(needs=("nginx",))])
    assert [(one.status, one.found) for one in result.findings] == [("unknown", "no nginx")]


def test_an_excluded_failure_keeps_its_words_and_does_not_count() -> None:
    result = evaluate(Snapshot(False, 0.0), [rule(bad("c", "z", "w", fix="f"))], {"X01": "accepted"})
    assert [(one.status, one.found, one.reason) for one in result.findings] == [("excluded", "z", "accepted")]
    assert result.at_least("low") == []


@pytest.mark.parametrize(
    ("severity", "limit", "counts"),
    [("high", "high", 1), ("high", "critical", 0), ("low", "high", 0), ("critical", "low", 1)],
)
def test_at_least(severity: str, limit: str, counts: int) -> None:
    result = evaluate(Snapshot(False, 0.0), [rule(bad("c", "z", "w", fix="f"), severity=severity)])
    assert len(result.at_least(limit)) == counts


# -- the module's run


def test_fail_on_fails_with_the_whole_result(tmp_path: Path) -> None:
    tree(tmp_path, BROKEN)
    with pytest.raises(
        StackError, match=r"2 problems of severity high or above: S01 \(critical\), T04 \(high\)"
    ) as error:
        run(tmp_path, fail_on="high", sarif=True)
    assert error.value.details["counts"]["failed"]["critical"] == 1
    assert json.loads(error.value.details["sarif"])["version"] == "2.1.0"


def test_an_exclusion_lets_the_pipeline_go_on(tmp_path: Path) -> None:
    tree(tmp_path, BROKEN)
    gone = [
        {"id": "S01", "reason": "the old version is started by hand"},
        {"id": "T04", "reason": "never reloaded"},
    ]
    result = run(tmp_path, fail_on="high", exclude=gone)
    assert result["counts"]["excluded"] == 2
    assert "S01 (the old version is started by hand)" in result["text"].replace("\n  ", " ")


def test_all_mistakes_of_the_exclusions_at_once(tmp_path: Path) -> None:
    tree(tmp_path)
    with pytest.raises(StackError, match=r"there is no rule X99; exclude: T02 has no reason.*C01, C02"):
        run(tmp_path, exclude=[{"id": "X99", "reason": "?"}, {"id": "T02", "reason": " "}])


def test_a_root_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="is no directory"):
        run(tmp_path / "none")


def test_an_empty_tree_passes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert {one["status"] for one in result["findings"]} == {"unknown"}
    assert result["limits"][1:] == ["No PHP-FPM was found.", "No log of nginx or PHP-FPM was read."]


def test_logs_of_the_tree_reach_the_verdict(tmp_path: Path) -> None:
    tree(tmp_path, BROKEN)
    (tmp_path / "var/log/nginx/error.log").write_text(
        "2026/11/21 02:28:51 [crit] 7#7: *1 connect() to unix:/run/php/php7.4-fpm.sock failed (2: No such file or"
        ' directory) while connecting to upstream, client: 127.0.0.1, server: shop.example.com, request: "GET /'
        ' HTTP/1.1", upstream: "fastcgi://unix:/run/php/php7.4-fpm.sock:", host: "shop.example.com"\n'
    )
    result = run(tmp_path, logs=True, since="")
    assert result["verdict"][0]["cause"] in ("socket_missing", "path_mismatch")
    assert result["verdict"][0]["rule"] == "S01"


def test_the_timeouts_of_each_way_come_with_their_places(tmp_path: Path) -> None:
    tree(tmp_path)
    site, pool = "/etc/nginx/sites-enabled/shop.conf", "/etc/php/8.2/fpm/pool.d/shop.conf"
    assert run(tmp_path)["timeouts"] == [
        {
            "site": "shop.example.com", "file": site, "line": 17, "pool": "shop", "version": "8.2",
            "max_execution_time": {"value": 60, "file": INI, "line": 2},
            "request_terminate_timeout": {"value": 60, "file": pool, "line": 16},
            "fastcgi_read_timeout": {"value": 65.0, "file": site, "line": 22},
            "fastcgi_send_timeout": {"value": 60.0, "file": None, "line": None},
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "limit"),
    [
        ("max_execution_time = 60\n", "", {"value": 30, "file": None, "line": None}),  # PHP's own default
        ("_time = 60", "_time = 0", {"value": 0, "file": INI, "line": 2}),
        ("_time = 60", "_time = -1", {"value": 0, "file": INI, "line": 2}),  # no limit, written otherwise
        ("_time = 60", "_time = long", {"value": None, "file": INI, "line": 2}),
    ],
)
def test_php_s_own_limit(tmp_path: Path, old: str, new: str, limit: dict[str, Any]) -> None:
    tree(tmp_path, Case("", "", edits=((INI, old, new),)))
    assert [one["max_execution_time"] for one in run(tmp_path)["timeouts"]] == [limit]


def test_a_pool_s_limit_counts_before_php_ini_and_without_either_nothing_is_known(tmp_path: Path) -> None:
    own = "request_terminate_timeout = 60s\nphp_admin_value[max_execution_time] = 50"
    tree(tmp_path, Case("", "", edits=((POOL, "request_terminate_timeout = 60s", own),)))
    assert run(tmp_path)["timeouts"][0]["max_execution_time"] == {"value": 50, "file": POOL, "line": 17}
    (tmp_path / INI.lstrip("/")).unlink()
    (tmp_path / POOL.lstrip("/")).write_text(
        (tmp_path / POOL.lstrip("/")).read_text().replace("php_admin_value[max_exec", ";")
    )
    assert run(tmp_path)["timeouts"][0]["max_execution_time"] == {"value": None, "file": None, "line": None}


# -- the text


def test_the_screen_holds_the_cause_the_place_and_the_fix(
    broken: tuple[Audit, list[audit_verdict.Verdict]],
) -> None:
    text = audit_text.render(*broken, [])
    lines = text.splitlines()
    assert lines[0] == "nginx + PHP-FPM: 1 critical, 1 high"
    assert lines[2].startswith("1. 502 on shop.example.com: nginx passes to")
    assert "     server unix:/run/php/shop.sock;" in lines
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 46


def test_a_rule_behind_a_verdict_in_one_line_has_its_own_line() -> None:
    """What a verdict names as pointing the same way is read nowhere else, once the verdict has one line only."""
    base = Finding("T05", "high", "a title", "fail", "php8.2-fpm.service", "Restart=no", "e")
    verdicts = [
        audit_verdict.Verdict(f"headline {number}", "c", 1, None, "high", rule=f"S0{number}", also=also)
        for number, also in ((1, ("T02",)), (2, ()), (3, ("T05",)))
    ]
    found = Audit([base, replace(base, id="T02"), replace(base, id="N04", severity="medium")])
    lines = audit_text.render(found, verdicts, []).splitlines()
    assert "3. S03 (1 x) headline 3" in lines
    assert "4. T05 php8.2-fpm.service: Restart=no" in lines
    assert not any("T02 php8.2" in line for line in lines)
    assert "  medium   N04 php8.2-fpm.service: Restart=no" in lines


def test_nothing_wrong(tmp_path: Path) -> None:
    text = audit_text.render(audit.judge(snapshot(tmp_path)), [], [])
    assert text.splitlines()[0] == "nginx + PHP-FPM: no problem found"
    assert "Not known (no pass):" in text


VERDICTS = st.lists(
    st.builds(
        audit_verdict.Verdict,
        st.text(),
        st.none(),
        st.integers(0, 9),
        st.none() | st.text(),
        st.just("high"),
        st.lists(st.text(), max_size=4).map(tuple),
        st.text(),
    ),
    max_size=60,
)


@given(st.lists(FINDINGS, max_size=40), VERDICTS, st.lists(st.text(), max_size=4))
def test_any_content_fits_a_screen_and_brings_no_control_character(
    findings: list[Finding], verdicts: list[audit_verdict.Verdict], limits: list[str]
) -> None:
    text = audit_text.render(Audit(findings), verdicts, limits)
    assert len(text.split("\n")) <= 60
    full = audit_text.render_full(Audit(findings), verdicts, limits)
    assert all(char == "\n" or char.isprintable() for char in text + full)


def test_probes_are_shown_and_those_not_made_are_one_line(tmp_path: Path) -> None:
    probes = [
        Probe("request", "pool shop", True, "it answers"),
        Probe("isolation", "pool blog", False, "the fault is PHP"),
        Probe("ping", "pool shop", None, "ping.path is not set"),
        Probe("ping", "pool blog", None, "ping.path is not set"),
    ]
    text = audit_text.render(audit.judge(snapshot(tmp_path)), [], [], probes)
    assert text.partition("Probes\n")[2].splitlines()[:3] == [
        "  works request: pool shop: it answers",
        "  FAILS isolation: pool blog: the fault is PHP",
        "  not made, ping: ping.path is not set (pool shop, pool blog)",
    ]


@pytest.mark.parametrize(
    ("findings", "first"),
    [
        ([], "nginx + PHP-FPM: nothing could be judged"),
        ([unknown("a", "?")], "nginx + PHP-FPM: nothing could be judged"),
        ([good("a", "x")], "nginx + PHP-FPM: no problem found"),
        ([bad("a", "x", "y", fix="f")], "nginx + PHP-FPM: 1 high"),
    ],
)
def test_nothing_known_is_not_nothing_wrong(findings: list[Outcome], first: str) -> None:
    result = evaluate(Snapshot(False, 0.0), [rule(*findings)])
    assert audit_text.render(result, [], []).splitlines()[0] == first


# -- probes


def test_a_tree_is_not_probed(tmp_path: Path) -> None:
    tree(tmp_path)
    assert [(one["kind"], one["ok"]) for one in run(tmp_path, probe=["static", "isolation"])["probes"]] == [
        ("static", None),
        ("isolation", None),
    ]


def test_the_isolated_pool_keeps_the_settings_and_shares_nothing(tmp_path: Path) -> None:
    case = Case(
        "",
        "",
        edits=(
            (
                POOL,
                "= 128M",
                '= 128M\nphp_admin_flag[log_errors] = on\nenv[X] = "a;b"\nslowlog = /var/log/s\n',
            ),
        ),
    )
    text = audit_isolation.config(snapshot(tmp_path, case).pools[0], 9123, "/tmp/x")
    lines = text.splitlines()
    assert lines[:4] == ["[global]", "error_log = /tmp/x/log", "daemonize = no", "[shop]"]
    assert {
        'user = "shop"',
        'php_admin_value[memory_limit] = "128M"',
        'php_admin_value[log_errors] = "1"',
        'env[X] = "a;b"',
    } <= set(lines)
    assert {"listen = 127.0.0.1:9123", "pm = static", "pm.max_children = 1"} <= set(lines)
    assert not any(line.startswith(("slowlog", "listen.", "pm.status")) for line in lines)
    written = {"/x.conf": text}
    reader = type("Files", (), {"read_text": written.__getitem__, "glob": list, "is_dir": bool})()
    assert load("/x.conf", reader).problems == []


# -- files for CI


@given(st.lists(FINDINGS, max_size=5))
def test_junit_is_xml_whatever_the_findings_say(findings: list[Finding]) -> None:
    document = ElementTree.fromstring(
        audit_junit.render(Audit(findings, ["C01"]), audit.all_rules()).encode("utf-8")
    )
    suite = document[0]
    assert int(suite.attrib["tests"]) == len(suite) == len(findings) + 1
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    assert [one.attrib.keys() for one in suite] == [{"classname", "name"}] * len(suite)
    assert all({*one.attrib} <= {"message", "type"} for one in suite.findall("testcase/*"))
