# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranked verdict: what the logs show, joined with what the rules found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import (
    audit,
    audit_verdict,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Audit,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Holder, Target
from audit_samples import (
    BROKEN,
    FILES,
    FPM,
    POOL,
    SITE,
    Case,
    both,
    cause,
    logs,
    master,
    named,
    snapshot,
    target,
)


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Audit, list[audit_verdict.Verdict]]:
    read = snapshot(tmp_path, BROKEN)
    found = audit.judge(read)
    return found, audit_verdict.rank(read, found)


def test_the_cause_and_the_finding_make_one_sentence(
    broken: tuple[Audit, list[audit_verdict.Verdict]],
) -> None:
    first = broken[1][0]
    assert first.headline == (
        "502 on shop.example.com: nginx passes to /run/php/php7.4-fpm.sock, and no pool listens there"
        " (shop.conf:2); pool shop (PHP 8.2) listens on unix:/run/php/shop.sock (shop.conf:4)"
    )
    assert (first.cause, first.count, first.rule, first.severity) == ("socket_missing", 42, "S01", "critical")
    assert first.fix == "# /etc/nginx/sites-enabled/shop.conf:2\nserver unix:/run/php/shop.sock;"


def test_a_cause_without_a_finding_speaks_for_itself(
    broken: tuple[Audit, list[audit_verdict.Verdict]],
) -> None:
    second = broken[1][1]
    assert second.headline == "504 on other.example.com: summary of read_timeout"
    assert second.rule is None


@pytest.mark.parametrize(
    ("ident", "address", "says"),
    [
        (
            "premature_close",
            "127.0.0.1:9108",
            "; no pool listens on 127.0.0.1:9108, but python3 (pid 9) does",
        ),
        ("upstream_reset", "127.0.0.1:9108", "; no pool listens on 127.0.0.1:9108, but python3 (pid 9) does"),
        ("premature_close", "unix:/run/php/shop.sock", ""),
        ("php_fatal", "127.0.0.1:9108", ""),
    ],
)
def test_a_program_that_is_no_pool_is_named(tmp_path: Path, ident: str, address: str, says: str) -> None:
    stranger = Target(address, address, True, "", holders=(Holder(9, "python3"),))
    seen = logs(cause(ident, upstreams=named(f"fastcgi://{address}:"), evidence=[]))
    case = Case("", "", edits=((FPM, "process_control_timeout = 10s\n", ""),),
                live=lambda read: replace(seen(read), targets={**read.targets, address: stranger}))  # fmt: skip
    read = snapshot(tmp_path, case)
    first = audit_verdict.rank(read, audit.judge(read))[0]
    # That a reload would cut requests (T04) is no reason for a reset that no reload was near.
    assert (first.cause, first.rule) == (ident, None)
    assert first.headline == f"502 ({ident}): summary of {ident}{says}"


def test_what_no_log_shows_comes_last(broken: tuple[Audit, list[audit_verdict.Verdict]]) -> None:
    last = broken[1][-1]
    assert (last.cause, last.count, last.rule) == (None, 0, "T04")


def test_a_finding_about_another_pool_does_not_explain_a_cause(tmp_path: Path) -> None:
    stock = Case(
        "", "", edits=((POOL, "= 12", "= 5"),), live=logs(cause("max_children_reached", pools=["blog"]))
    )
    read = snapshot(tmp_path, stock)
    first = audit_verdict.rank(read, audit.judge(read))[0]
    assert (first.cause, first.rule) == ("max_children_reached", None)


def test_a_finding_about_the_pool_comes_before_one_about_the_host(tmp_path: Path) -> None:
    foreign = both(
        master(pid=50),
        target(holders=(Holder(9, "php-fpm7.4"),)),
        logs(cause("upstream_reset", upstreams=named("fastcgi://unix:/run/php/shop.sock:"))),
    )
    read = snapshot(
        tmp_path, Case("", "", edits=((FPM, "process_control_timeout = 10s\n", ""),), live=foreign)
    )
    first = audit_verdict.rank(read, audit.judge(read))[0]
    assert (first.rule, first.also) == ("S05", ("T04",))
    assert first.evidence[0].startswith("T04 too: PHP-FPM 8.2: process_control_timeout is 0")


def test_a_rule_that_only_makes_it_worse_is_not_the_headline(tmp_path: Path) -> None:
    case = Case(
        "",
        "",
        edits=((POOL, "request_terminate_timeout = 60s\n", ""),),
        live=logs(cause("max_children_reached", pools=["shop"])),
    )
    read = snapshot(tmp_path, case)
    first = audit_verdict.rank(read, audit.judge(read))[0]
    assert (first.rule, first.also) == (None, ("T02",))
    assert first.headline.startswith("502 (max_children_reached): summary of max_children_reached")
    assert first.fix.endswith("request_terminate_timeout = 55s")


def test_a_fault_that_is_still_there_explains_more_than_a_restart_near_by(tmp_path: Path) -> None:
    near = cause(
        "restart_cut_requests",
        5,
        consequences=[{"id": "socket_missing", "count": 5}],
        upstreams=named("fastcgi://unix:/run/php/php7.4-fpm.sock"),
    )
    read = snapshot(tmp_path, Case("", "", edits=BROKEN.edits, live=logs(near)))
    first = audit_verdict.rank(read, audit.judge(read))[0]
    assert (first.cause, first.rule, first.count) == ("socket_missing", "S01", 5)


def test_client_errors_come_after_what_is_critical_and_before_what_no_log_shows(tmp_path: Path) -> None:
    case = Case("", "", edits=BROKEN.edits, live=logs(cause("nginx_file_missing", 900, answer="404")))
    read = snapshot(tmp_path, case)
    order = [entry.rule or entry.cause for entry in audit_verdict.rank(read, audit.judge(read))]
    assert order == ["S01", "nginx_file_missing", "T04"]


def test_two_pools_without_a_site_are_told_apart(tmp_path: Path) -> None:
    case = Case(
        "", "", edits=((POOL, "= 12", "= 5"),), live=logs(cause("max_children_reached", pools=["shop"]))
    )
    read = snapshot(tmp_path, case)
    first = audit_verdict.rank(read, audit.judge(read))[0]
    assert first.headline.startswith("502 (max_children_reached): pool shop (PHP 8.2): pm.max_children = 5")


def test_a_pool_of_another_site_does_not_explain_a_site_s_failures(tmp_path: Path) -> None:
    """The logs name both pools in one cause; the requests that failed were those of one site."""
    stock = (POOL, "= 12", "= 5")
    seen = cause("max_children_reached", 7, pools=["blog", "shop"], sites=named("shop.example.com", count=7))
    blog = FILES[POOL].replace("shop", "blog").replace("= 12", "= 5")
    other = FILES[SITE].replace("shop", "blog")
    files: dict[str, str | None] = {
        POOL.replace("shop", "blog"): blog, SITE.replace("shop", "blog"): other}  # fmt: skip
    read = snapshot(tmp_path, Case("", "", edits=(stock,), files=files, live=logs(seen)))
    entries = [one for one in audit_verdict.rank(read, audit.judge(read)) if one.rule == "C02"]
    assert [(one.cause, one.count) for one in entries] == [("max_children_reached", 7), (None, 0)]
    assert "(shop.conf:10)" in entries[0].headline
    assert entries[1].headline.startswith("pool blog (PHP 8.2): ")
