# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report says of hosts: lamps, ways, memory, timeouts, the timeline."""

from __future__ import annotations

import time
from typing import Any

import pytest
import report_samples as samples
from ansible_collections.webops.php_stack.plugins.filter.stack_report import FilterModule, stack_report
from ansible_collections.webops.php_stack.plugins.module_utils.report_input import root_paths
from ansible_collections.webops.php_stack.plugins.module_utils.report_model import HostView, worst
from ansible_collections.webops.php_stack.plugins.module_utils.report_text import (
    clean,
    middle,
    period,
    plural,
    span,
)
from ansible_collections.webops.php_stack.plugins.module_utils.report_view import build
from hypothesis import given
from hypothesis import strategies as st


def view(raw: dict[str, Any]) -> HostView:
    return build([raw]).hosts[0]


def lamps(raw: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {lamp.label: (lamp.state, lamp.failed) for lamp in view(raw).lamps}


def test_lamps_say_what_fails_and_what_is_at_risk() -> None:
    assert lamps(samples.broken()) == {
        "shop.example.com": ("broken", 40),
        "blog": ("broken", 10),
        "api": ("warn", 0),
        "host": ("warn", 0),
        "shop": ("good", 0),
    }
    assert [lamp.label for lamp in view(samples.broken()).lamps][:2] == ["shop.example.com", "blog"]
    assert lamps(samples.healthy()) == {"www": ("good", 0), "host": ("good", 0)}


def test_failed_requests_in_the_logs_alone_put_a_pool_at_risk() -> None:
    raw = samples.healthy()
    raw["audit"]["causes"] = [
        samples.cause("premature_close", "502", 4, "", "fastcgi://unix:/run/php/www.sock:")
    ]
    assert lamps(raw)["www"] == ("warn", 4)
    raw["audit"]["causes"] = [samples.cause("php_fatal", "500", 4, "", "fastcgi://unix:/run/php/www.sock:")]
    assert lamps(raw)["www"] == ("good", 0)


def test_pools_of_one_name_carry_their_version() -> None:
    pools = [samples.pool("www", version="8.2"), samples.pool("www", version="8.4")]
    raw = samples.host("web1", pools, [], samples.audit([]))
    assert set(lamps(raw)) == {"www 8.2", "www 8.4", "host"}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "unknown"),
        (["good"], "good"),
        (["good", "unknown"], "unknown"),
        (["unknown", "warn"], "warn"),
        (["warn", "broken", "good"], "broken"),
    ],
)
def test_unknown_is_never_good(states: list[str], expected: str) -> None:
    assert worst(states) == expected


def test_a_host_that_was_not_reached_is_in_the_report() -> None:
    found = view({"name": "gone", "audit": {"unreachable": True, "msg": "no route to host"}})
    assert (found.state, found.problems) == ("unknown", ("The host was not reached: no route to host",))
    page = stack_report([{"name": "gone", "audit": {"unreachable": True, "msg": "no route to host"}}])
    assert "The host was not reached: no route to host" in page
    assert "No problem found" not in page


def test_a_part_that_failed_says_why_and_the_rest_is_shown() -> None:
    raw = samples.broken()
    raw["sizing"] = {"msg": "fpm_sizing needs root"}
    found = view(raw)
    assert found.problems == ("fpm_sizing gave no result: fpm_sizing needs root",)
    assert found.memory is None
    assert found.state == "broken"
    raw["audit"] = {"msg": "no"}
    assert {lamp.state for lamp in view(raw).lamps} == {"unknown"}


def test_a_host_without_php_is_not_called_good() -> None:
    found = view(samples.host("db", [], [], samples.audit([]), plan={"msg": "no pools"}))
    assert found.state == "unknown"
    assert found.paths is None


def test_a_host_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        build([{"audit": {}}])


def test_the_map_breaks_where_the_audit_says() -> None:
    paths = view(samples.broken()).paths
    assert paths is not None
    ways = {
        chain.title: [(step.kind, step.state) for step in chain.steps if step.state != "good"]
        for chain in paths.chains
    }
    assert ways == {
        "shop.example.com": [("pool", "broken")],
        "blog.example.com": [("socket", "broken")],
        "api.example.com": [],
    }
    assert [edge.words for edge in paths.edges if edge.state == "broken"] == [
        "nginx passes to /run/php/php7.4-fpm.sock, and no pool listens there",
        "www-data may not connect to /run/php/blog.sock",
    ]
    assert paths.idle == ("pool shop (PHP 8.2)",)
    assert [chain.steps[-1].title for chain in paths.chains] == [
        "no pool",
        "php8.2-fpm.service",
        "php8.2-fpm.service",
    ]


def test_a_way_that_no_finding_explains_is_not_known_and_not_broken() -> None:
    raw = samples.host(
        "web1", [], [samples.location("a.example.com", "10.0.0.9:9000", kind="tcp")], samples.audit([])
    )
    paths = view(raw).paths
    assert paths is not None
    assert [(step.kind, step.title, step.state) for step in paths.chains[0].steps][-1] == (
        "pool",
        "not known",
        "unknown",
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=12))
def test_boxes_never_overlap_and_edges_join_boxes(pairs: list[tuple[int, int]]) -> None:
    pools = [samples.pool(f"p{number}") for number in range(5)]
    places = [samples.location(f"s{site}", f"unix:/run/php/p{number}.sock") for number, site in pairs]
    paths = view(samples.host("h", pools, places, samples.audit([]))).paths
    assert paths is not None
    for node in paths.nodes:
        assert 0 <= node.x <= node.x + node.width <= paths.width
        assert 0 <= node.y <= node.y + node.height <= paths.height
    columns: dict[int, list[int]] = {}
    for node in paths.nodes:
        columns.setdefault(node.x, []).append(node.y)
    height = paths.nodes[0].height
    for tops in columns.values():
        assert all(low + height <= high for low, high in zip(sorted(tops), sorted(tops)[1:]))
    # One process serves all pools: each of the five has its own way to it.
    assert len([node for node in paths.nodes if node.full.startswith("process")]) == 1


def test_the_memory_bars_add_up() -> None:
    memory = view(samples.broken()).memory
    assert memory is not None
    assert [(row.label, row.text, row.over) for row in memory.bars] == [
        ("Now", "364 MiB", ""),
        ("Proposed", "640 MiB", ""),
    ]
    for row in memory.bars:
        edge = 0.0
        for segment in row.segments:
            assert segment.x_percent == pytest.approx(edge)
            edge += segment.width_percent
        assert edge <= memory.total_percent <= 100
    assert memory.legend[0] == ("system", "other programs", "24 MiB")
    assert (memory.pools[0].now, memory.pools[0].planned) == (5, 8)


def test_a_bar_says_by_how_much_it_passes_the_memory() -> None:
    raw = samples.broken()
    raw["sizing"] = samples.sizing(
        raw["fpm"]["ansible_facts"]["fpm_pools"], total=256 * samples.MIB, children=1
    )
    memory = view(raw).memory
    assert memory is not None
    assert memory.bars[0].over == "108 MiB more than there is"
    assert memory.total_percent < 100
    raw["sizing"]["plan"][0]["worker_source"] = "memory_limit"
    memory = view(raw).memory
    assert memory is not None
    assert memory.bars[0].over == "108 MiB more than there is, if every worker takes its memory_limit"


def test_a_plan_that_does_not_fit_is_shown_with_its_reason() -> None:
    raw = samples.broken()
    raw["sizing"] = {**raw["sizing"], "feasible": False, "problems": ["Nothing fits: 3 MiB are left."]}
    del raw["sizing"]["plan"]
    memory = view(raw).memory
    assert memory is not None
    assert memory.problems == ("Nothing fits: 3 MiB are left.",)
    assert [row.label for row in memory.bars] == ["Now"]


def test_the_ladder_marks_the_rung_that_is_wrong() -> None:
    ladders = {ladder.title: ladder for ladder in view(samples.broken()).ladders}
    assert set(ladders) == {"api.example.com → pool api", "blog.example.com → pool blog"}
    api = ladders["api.example.com → pool api"]
    assert [(rung.name, rung.text, rung.state) for rung in api.rungs] == [
        ("max_execution_time", "60 s", "good"),
        ("request_terminate_timeout", "300 s", "good"),
        ("fastcgi_read_timeout", "60 s", "warn"),
        ("fastcgi_send_timeout", "65 s", "good"),
    ]
    assert api.words == ("PHP-FPM may work for 300 s",)
    assert [rung.width_percent for rung in api.rungs][:2] == [20.0, 100.0]
    assert ladders["blog.example.com → pool blog"].state == "good"


def test_the_ladder_shows_what_php_ini_says_and_where() -> None:
    pool = samples.pool("www")
    del pool["directives"]["php_admin_value[max_execution_time]"]
    audited = samples.audit([])
    audited["timeouts"] = [
        samples.timeouts("www", value=45, file="/etc/php/7.4/fpm/php.ini", version="7.4"),
        samples.timeouts("www", value=30, file="/etc/php/8.2/fpm/php.ini"),
    ]
    raw = samples.host("h", [pool], [samples.location("a", "unix:/run/php/www.sock")], audited)
    first = view(raw).ladders[0].rungs[0]
    assert (first.name, first.text, first.place) == (
        "max_execution_time",
        "30 s",
        "/etc/php/8.2/fpm/php.ini:409",
    )
    assert "/etc/php/8.2/fpm/php.ini:409" in stack_report([raw], "now", "1d")


def test_no_limit_and_not_known_are_no_bars() -> None:
    pool = samples.pool("www", terminate=0)
    del pool["directives"]["php_admin_value[max_execution_time]"]
    raw = samples.host(
        "h",
        [pool],
        [samples.location("a", "unix:/run/php/www.sock")],
        samples.audit([samples.finding("T02", "high", "pool www (PHP 8.2)")]),
    )
    rungs = view(raw).ladders[0].rungs
    assert [(rung.form, rung.text, rung.state) for rung in rungs[:2]] == [
        ("unknown", "not known", "unknown"),
        ("endless", "no limit", "warn"),
    ]


def test_the_timeline_stacks_502_and_504_and_marks_events() -> None:
    timeline = view(samples.broken()).timeline
    assert timeline is not None
    assert (timeline.total, timeline.peak, timeline.bucket) == (50, 30, "minute")
    assert [(entry.look, entry.name, entry.count) for entry in timeline.legend] == [
        (0, "path_mismatch", 40),
        (1, "socket_denied", 7),
        (2, "read_timeout", 3),
    ]
    assert [(label, len(marks)) for _kind, label, marks in timeline.lanes] == [
        ("deployments", 1),
        ("reloads", 1),
        ("OOM kills", 1),
    ]
    assert timeline.other == ("2 × php_fatal: php_fatal in words (500)",)
    last = [column for column in timeline.columns if column.words.startswith("2026-11-21 05:03")]
    # The pieces of one bar stand on each other, on the base line.
    assert last[0].y + last[0].height == timeline.height
    assert last[1].y + last[1].height == pytest.approx(last[0].y)
    assert sum(column.height for column in last) == pytest.approx(timeline.height * 20 / 30)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**7)), max_size=30),
    st.sampled_from([60, 3600, 86400]),
)
def test_everything_on_the_axis_is_inside(buckets: list[tuple[int, int]], width: int) -> None:
    raw = samples.broken()
    times = [
        time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(1790000000 + when * 60))
        for when, _count in buckets
    ]
    raw["audit"]["timeline"] = {
        "bucket_seconds": width,
        "buckets": [
            {"start": at, "total": count, "causes": {"path_mismatch": count}}
            for at, (_when, count) in zip(times, buckets)
        ],
        "marks": [{"time": at, "kind": "reload", "text": "x"} for at in times],
    }
    timeline = view(raw).timeline
    assert timeline is not None
    for column in timeline.columns:
        assert 0 <= column.x_percent <= 100
        assert 0 <= column.y <= column.y + column.height <= timeline.height + 1.5
    for _kind, _label, marks in timeline.lanes:
        assert all(0 <= mark.x_percent <= 100 for mark in marks)
    assert all(0 <= x <= 94 for x, _text in timeline.ticks)


def test_findings_are_grouped_by_rule_and_nothing_is_lost() -> None:
    found = view(samples.broken())
    groups = [*found.findings, *found.unknown, *found.excluded]
    assert [(group.id, group.look) for group in groups] == [
        ("S01", "broken"), ("S03", "broken"), ("T01", "warn"), ("T05", "warn"), ("F03", "note"),
        ("F06", "unknown"), ("N12", "excluded"),
    ]  # fmt: skip
    assert found.excluded[0].cases[0].reason == "behind a VPN"
    assert found.passed == (("C01", "the title of C01", "what C01 found"),)


def test_a_fleet_of_fifty_hosts_renders_fast_and_worst_first() -> None:
    hosts = list(samples.fleet(50, 20))
    begin = time.perf_counter()
    page = stack_report(hosts, "now", "1d")
    # Two seconds is what a person may wait; a busy machine gets the same again.
    assert time.perf_counter() - begin < 4
    states = [host.state for host in build(hosts).hosts]
    assert states == sorted(states, key=["broken", "warn", "unknown", "good"].index)
    assert page.count('class="host"') == 50
    assert page.count('<details class="host" open>') == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("a\r\nb", "a\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("bad \ud800 half", "bad \\ud800 half"),
        ("ä € 日本", "ä € 日本"),
        ("x" * 2010, "x" * 2000 + " … (10 more characters)"),
    ],
)
def test_what_cannot_be_seen_is_written_out(value: Any, expected: str) -> None:
    assert clean(value) == expected


@given(st.text(), st.integers(5, 40))
def test_middle_fits(text: str, width: int) -> None:
    assert len(middle(text, width)) <= width


def test_words() -> None:
    assert middle("/run/php/php8.2-fpm-customer.sock", 15) == "/run/ph…er.sock"
    assert [span(60), span(900), span(3600), span(86400), span(90)] == [
        "minute",
        "15 minutes",
        "hour",
        "day",
        "90 seconds",
    ]
    assert [period("1d"), period("15m"), period("2026-11-21"), period("")] == [
        "logs of the last 1 day",
        "logs of the last 15 minutes",
        "logs since 2026-11-21",
        "all of the logs",
    ]
    assert (plural(1, "pool"), plural(2, "pool"), plural(2, "box", "boxes")) == (
        "1 pool",
        "2 pools",
        "2 boxes",
    )


def test_root_paths_are_those_that_a_deployment_may_switch() -> None:
    locations = [
        {"root": {"path": "/srv/shop/current"}},
        {"root": {"path": "/srv/$host"}},
        {"root": {"path": None}},
        {"root": None},
    ]
    assert root_paths(locations) == ["/srv", "/srv/shop", "/srv/shop/current"]
    assert set(FilterModule().filters()) == {"stack_report", "stack_report_paths"}
