# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault lab's pure half: judging answers, joining losses with their reasons, figures, tables, picture."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from faultlab import client, faults, outcome, picture, tables
from faultlab.outcome import Outcome

HEY = """
Summary:
  Total:\t3.0032 secs
  Slowest:\t0.1023 secs
  Fastest:\t0.0004 secs
  Average:\t0.0021 secs
  Requests/sec:\t1890.6871

Latency distribution:
  10% in 0.0010 secs
  95% in 0.0051 secs
  99% in 0.0087 secs

Status code distribution:
  [200]\t5600 responses
  [502]\t73 responses

Error distribution:
  [5]\tGet "http://127.0.0.1/load.php?ms=0": dial tcp 127.0.0.1:80: connect: connection refused
"""

LOG = """\
2026/11/21 05:37:20 [error] 300#300: *1 connect() to unix:/run/php/php8.2-fpm-shop.sock failed (111: Connection refused) while connecting to upstream, client: 172.17.0.1, server: shop.example.com, request: "GET /load.php?id=kills-7&ms=30 HTTP/1.1", upstream: "fastcgi://unix:/run/php/php8.2-fpm-shop.sock:", host: "shop.example.com"
2026/11/21 05:37:21 [error] 300#300: *2 recv() failed (104: Connection reset by peer) while reading response header from upstream, client: 172.17.0.1, server: shop.example.com, request: "POST /load.php?id=kills-9&ms=30 HTTP/1.1", upstream: "fastcgi://unix:/run/php/php8.2-fpm-shop.sock:", host: "shop.example.com"
2026/11/21 05:37:21 [error] 300#300: *2 FastCGI sent in stderr: "PHP message: slow" while reading response header from upstream, client: 172.17.0.1, server: shop.example.com, request: "POST /load.php?id=kills-9&ms=30 HTTP/1.1", upstream: "fastcgi://unix:/x.sock:", host: "shop.example.com"
2026/11/21 05:37:22 [notice] 300#300: signal 1 (SIGHUP) received from 9, reconfiguring
"""
REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"


def made(number, sent, result="200", took=0.03, method="GET", milliseconds=30):
    return Outcome(number, method, milliseconds, sent, took, result)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", "200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\n\r\n", "200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno\n", "cut"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "502"),
        (b"HTTP/1.1 200", "cut"),
        (b"no http\r\n\r\nok\n", "cut"),
        (b"", "closed"),
    ],
)
def test_only_a_whole_and_right_answer_counts(answer, result):
    assert client.judge(answer, b"ok\n") == result


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_and_never_right_by_chance(answer):
    assert client.judge(answer, b"ok unlikely 0\n") != "200"


def test_the_load_is_one_fifth_posts_and_three_hundredths_slow():
    plans = [client.plan(number) for number in range(1000)]
    assert sum(method == "POST" for method, _ms in plans) == 200
    assert sum(ms == 1000 for _method, ms in plans) == 30
    assert ("POST", 1000) in plans


def test_the_reason_is_what_nginx_said_of_that_request():
    words = outcome.reasons(LOG)
    assert words == {"kills-7": REFUSED, "kills-9": RESET}
    assert outcome.why(made(7, 0, "502"), "kills", words) == REFUSED
    assert outcome.why(made(8, 0, "502"), "kills", words) == "HTTP 502, no words in nginx's error log"
    assert outcome.why(made(8, 0, "timeout"), "kills", words) == "timeout, no words in nginx's error log"


def test_count():
    outcomes = [
        made(0, 0.0),
        made(1, 1.0, took=1.5, milliseconds=1000),
        made(7, 2.0, "502"),
        made(9, 2.1, "502", method="POST"),
        made(10, 3.0, took=0.5),
    ]
    assert outcome.count(outcomes, "kills", outcome.reasons(LOG), end=1.5, window=6.0) == {
        "requests": 5,
        "lost": 2,
        "lost_get": 1,
        "lost_post": 1,
        "by_kind": [
            {"method": "GET", "answer": "502", "reason": REFUSED, "count": 1},
            {"method": "POST", "answer": "502", "reason": RESET, "count": 1},
        ],
        "lost_posts": [
            {"request": 9, "sent_seconds": 2.1, "milliseconds": 30, "answer": "502", "reason": RESET}
        ],
        "p99_seconds": 0.5,
        "slowest_seconds": 1.5,
        "healthy_after_seconds": 0.6,
    }


@pytest.mark.parametrize(
    ("outcomes", "seconds"),
    [
        ([made(0, 0.0), made(1, 5.9)], 0.0),
        ([made(0, 1.0, "502")], 0.0),  # lost before the fault's end
        ([made(0, 4.0, took=1.2)], 2.0),  # late is not healthy
        ([made(0, 5.5, took=1.2)], 3.5),  # late to the end, but answered
        ([made(0, 5.5, "502")], None),  # lost to the end
        ([], 0.0),
    ],
)
def test_time_until_healthy(outcomes, seconds):
    assert outcome.healthy_after(outcomes, end=2.0, window=6.0) == seconds


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_with_that_share_at_or_below_it(values, share):
    found = outcome.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_hey_report():
    assert outcome.read_hey(HEY) == {
        "requests_per_second": 1890.6871,
        "p99_seconds": 0.0087,
        "answers": {"200": 5600, "502": 73, "no answer": 5},
    }


POST_LOST = {"method": "POST", "answer": "502", "reason": "reset", "count": 2}
GET_CUT = {"method": "GET", "answer": "cut", "reason": "reset", "count": 1}
GET_LOST = {"method": "GET", "answer": "502", "reason": "reset", "count": 3}


@pytest.mark.parametrize(
    ("name", "healthy", "kinds", "broken"),
    [
        ("restarts", 0.4, [], []),
        ("restarts", 0.4, [POST_LOST], ["2 POST lost, 502: reset"]),
        ("restarts", None, [], ["it did not become healthy without a person"]),
        ("worker_kills", 0.0, [POST_LOST, GET_CUT], []),
        ("worker_kills", 0.0, [POST_LOST, GET_LOST], ["3 GET lost, 502: reset"]),
        ("socket_closed", 1.9, [GET_LOST, POST_LOST], []),
        ("socket_closed", 2.1, [], ["healthy only after 2.1 s"]),
    ],
)
def test_what_ours_promises(name, healthy, kinds, broken):
    figures = {"healthy_after_seconds": healthy, "by_kind": kinds}
    assert faults.broken_promises(faults.BY_NAME[name], figures) == broken


@pytest.mark.parametrize("report", ["", "Requests/sec: 12.0", "99% in 0.1 secs"])
def test_hey_report_without_figures(report):
    with pytest.raises(ValueError, match="hey's report has no"):
        outcome.read_hey(report)


def cell(lost=0, posts=0, healthy=0.0):
    return {
        "requests": 240, "lost": lost, "lost_get": lost - posts, "lost_post": posts, "lost_posts": [],
        "by_kind": [{"method": "POST", "answer": "502", "reason": RESET, "count": posts}] if posts else [],
        "p99_seconds": 0.04, "slowest_seconds": 1.0, "healthy_after_seconds": healthy, "exit_code": 0,
    }  # fmt: skip


def results(ours):
    return {
        "load": {"rate": 40},
        "seconds": 600,
        "stacks": {"default": "distribution's default", "recipe": "usual <recipe>", "ours": "ours"},
        "steady": {
            k: {"requests_per_second": 1000.4, "p99_seconds": 0.0102} for k in ("default", "recipe", "ours")
        },
        "faults": [
            {
                "name": "kill",
                "title": "a kill & more",
                "cells": {"default": cell(200, 40, None), "recipe": {"error": "no network"}, "ours": ours},
            }
        ],
    }


def test_readme_section():
    rows = [row for row in tables.readme(results(cell(2, 2))).splitlines() if row.startswith("|")]
    assert rows == [
        "| requests lost | distribution's default | usual <recipe> | ours |",
        "| --- | ---: | ---: | ---: |",
        "| a kill & more | 200 of 240 (40 POST) | no figure | 2 of 240 (2 POST) |",
        "| **all of them** | **200 of 240 (40 POST)** | **0 of 0** | **2 of 240 (2 POST)** |",
    ]
    assert "| a kill & more | 200 of 240 (40 POST) | no figure | **0 of 240** |" in tables.readme(
        results(cell())
    )


def test_details():
    text = tables.details(results(cell()))
    assert (
        "| a kill & more | 200 of 240 (40 POST); 40 ms; never | no figure | **0 of 240**; 40 ms; 0.0 s |"
        in text
    )
    assert "| **all of them** | **200 of 240 (40 POST)** | **0 of 0** | **0 of 240** |" in text
    assert "| requests a second | 1000 | 1000 | 1000 |" in text
    assert "ours lost nothing." in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.0412, "41 ms"), (0.9994, "999 ms"), (9.3, "9.3 s")]
)
def test_p99(seconds, text):
    assert tables.p99({"p99_seconds": seconds}) == text


def test_details_name_every_post_that_ours_lost():
    text = tables.details(results(cell(2, 2)))
    assert f"- a kill & more: 2 POST, 502: {RESET}" in text
    assert "lost nothing" not in text


def test_details_say_what_the_run_left_out():
    assert "Not in this run: a reboot; a crash." in tables.details(results(cell()), ["a reboot", "a crash"])
    assert "Not in this run" not in tables.details(results(cell()))


def test_insert_replaces_only_its_section():
    readme = f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n"
    section = tables.details(results(cell()))
    assert tables.insert(readme, section, "x") == f"above\n{section}\nbelow\n"
    assert tables.insert(tables.insert(readme, section, "x"), section, "x") == tables.insert(
        readme, section, "x"
    )


@pytest.mark.parametrize("readme", ["", tables.BEGIN, f"{tables.END}\n{tables.BEGIN}", tables.END])
def test_insert_wants_both_markers(readme):
    with pytest.raises(ValueError, match=r"docs/faults\.md: it needs one line"):
        tables.insert(readme, "new", "docs/faults.md")


def test_picture_is_well_formed_and_says_all_in_words():
    svg = picture.draw(results(cell(1, 1)))
    root = ElementTree.fromstring(svg)
    names = {"s": "http://www.w3.org/2000/svg"}
    words = [element.text for element in root.iterfind(".//s:text", names)]
    for expected in ("a kill & more", "usual <recipe>", "200, down", "no figure", "1"):
        assert expected in words
    bars = [float(r.get("width")) for r in root.iterfind(".//s:rect", names) if r.get("fill")]
    assert bars == [80.0, 2.0]  # 200 of 240; and one lost request, still to be seen
    assert "prefers-color-scheme: dark" in svg


def test_picture_of_a_part_of_the_run():
    part = results(cell())
    del part["faults"][0]["cells"]["recipe"]
    words = [element.text for element in ElementTree.fromstring(picture.draw(part)).iter()]
    assert "not run" in words
