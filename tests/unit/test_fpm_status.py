# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status pages: what the real ones say, what broken ones do, and how long asking may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import judge
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_status import (
    Answer,
    Question,
    ask_all,
    parse_page,
)

# Captured from 7.4, 8.2 and 8.4 of Debian; 8.x escapes the slash, 8.4 has the memory's peak.
HEAD = (
    '{"pool":"www","process manager":"dynamic","start time":1795238576,"start since":0,"accepted conn":1,'
    '"listen queue":0,"max listen queue":0,"listen queue len":0,"idle processes":1,"active processes":1,'
    '"total processes":2,"max active processes":1,"max children reached":0,"slow requests":0'
)
RUNNING = (
    '{"pid":2446,"state":"Running","start time":1795238576,"start since":0,"requests":1,"request duration":233,'
    '"request method":"GET","request uri":"%s","content length":0,"user":"-","script":"-",'
    '"last request cpu":0.00,"last request memory":0}'
)
PAGES = {
    "7.4": HEAD + ', "processes":[' + RUNNING % "/status?json&full" + "]}",
    "8.2": HEAD + ', "processes":[' + RUNNING % r"\/status?json&full" + "]}",
    "8.4": HEAD + ',"memory peak":2097152, "processes":[' + RUNNING % r"\/status?json&full" + "]}",
}


@pytest.mark.parametrize("version", PAGES)
def test_a_page_of_each_version(version: str) -> None:
    answer = parse_page(PAGES[version].encode(), "/status")
    assert (answer.kind, answer.reason) == ("ok", "")
    assert answer.fields["active_processes"] == 1
    assert answer.fields["max_children_reached"] == 0
    assert answer.fields.get("memory_peak") == (2097152 if version == "8.4" else None)
    assert (answer.processes, answer.workers) == ([], {2446: (1, "Running")})


def test_the_processes_that_have_a_request_in_hand() -> None:
    busy = RUNNING.replace("2446", "7") % "/shop.php?token=secret"
    idle = RUNNING.replace("2446", "8").replace("Running", "Idle") % "/old.php"
    page = HEAD + f', "processes":[{RUNNING % "/status?json&full"},{busy},{idle}]}}'
    answer = parse_page(page.encode(), "/status")
    (process,) = answer.processes
    # What stands behind the question mark may be a secret.
    assert (process["pid"], process["state"], process["request_uri"]) == (7, "Running", "/shop.php")
    assert process["request_duration"] == 233
    assert answer.workers == {2446: (1, "Running"), 7: (1, "Running"), 8: (1, "Idle")}


def test_a_short_page_has_no_processes() -> None:
    answer = parse_page((HEAD + "}").encode(), "/status")
    assert (answer.kind, answer.processes, answer.fields["pool"]) == ("ok", [], "www")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", ""),
        (b"pool:                 www\n", ""),
        (b"<html>", ""),
        (PAGES["7.4"].replace("/status?", '/"quote').encode(), ""),
        (b"[]", "the answer is JSON, but not FPM's status page"),
        (b'{"status": "up"}', "the answer is JSON, but not FPM's status page"),
    ],
)
def test_what_is_no_status_page(body: bytes, reason: str) -> None:
    assert parse_page(body, "/status") == Answer("other", reason)


def test_control_characters_and_odd_bytes_do_not_spoil_a_page() -> None:
    answer = parse_page(
        (PAGES["7.4"].replace("/status?", "/\x01\x1f?")).encode().replace(b"www", b"w\xff"), "/status"
    )
    assert (answer.kind, answer.fields["pool"]) == ("ok", "w\ufffd")


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[list[Question]]:
    """Twenty listeners that never accept."""
    sockets = []
    for number in range(20):
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / f"{number}.sock"))
        server.listen(1)
        sockets.append(server)
    yield [Question(Address.parse(f"unix:{tmp_path}/{number}.sock"), "/status") for number in range(20)]
    for server in sockets:
        server.close()


def test_many_silent_pools_cost_one_timeout(silent: list[Question]) -> None:
    start = time.monotonic()
    answers = ask_all(silent, 0.5)
    assert {answer.kind for answer in answers} == {"silent"}
    assert time.monotonic() - start < 2.5


def test_an_answer_comes_with_its_question(tmp_path: Path) -> None:
    questions = [Question(Address.parse(f"unix:{tmp_path}/{number}.sock"), "/") for number in range(300)]
    answers = ask_all(questions, 0.5)
    assert all(f"/{number}.sock" in answer.reason for number, answer in enumerate(answers))
    assert len(answers) == 300


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    with pytest.raises(AttributeError):
        ask_all([Question(None, "/status")], 0.5)  # type: ignore[arg-type]


def test_a_missing_socket_is_said(tmp_path: Path) -> None:
    (answer,) = ask_all([Question(Address.parse(f"unix:{tmp_path}/none.sock"), "/status")], 0.5)
    assert answer.kind == "missing"
    assert "none.sock" in answer.reason


def test_nothing_to_ask_is_no_work() -> None:
    assert ask_all([], 1.0) == []


def facts(most: int | None, workers: int | None, queue: tuple[int, int] | None) -> dict[str, Any]:
    return {
        "pm": {"max_children": most},
        "memory": {"worker_count": workers},
        "queue": {"waiting": queue[0], "backlog": queue[1]} if queue else None,
    }


OK = Answer("ok", "", {"active_processes": 5}, [])


@pytest.mark.parametrize(
    ("pool", "answer", "via", "state", "words"),
    [
        (facts(5, 5, (0, 8)), OK, "listen", "ok", ""),
        (facts(5, 5, (3, 8)), OK, "status_listen", "saturated", "all 5 workers are busy; 3 connections wait, 8 may"),
        (facts(6, 5, (0, 8)), OK, "status_listen", "ok", ""),
        (facts(None, 5, None), OK, "status_listen", "ok", ""),
        (facts(5, 5, (3, 8)), Answer("silent", "x"), "listen", "saturated",
         "no answer within 2 s: all 5 of 5 workers are busy; 3 connections wait, 8 may"),
        (facts(5, 5, None), Answer("silent", "x"), "listen", "saturated",
         "no answer within 2 s: all 5 of 5 workers are busy"),
        (facts(5, 2, (4, 8)), Answer("connect_timeout", "x"), "listen", "saturated",
         "no answer within 2 s: 4 connections wait, 8 may"),
        (facts(5, None, (4, 8)), Answer("silent", "x"), "listen", "saturated",
         "no answer within 2 s: 4 connections wait, 8 may"),
        (facts(5, 2, (0, 8)), Answer("silent", "no answer"), "listen", "unreachable",
         "no answer; 0 connections wait, 8 may"),
        (facts(5, 5, (8, 8)), Answer("full", "the queue is full"), "listen", "saturated",
         "the queue is full; 8 connections wait, 8 may"),
        (facts(5, 0, None), Answer("refused", "refused"), "listen", "unreachable", "refused"),
        (facts(5, 5, None), Answer("other", ""), "listen", "unknown", "the status page cannot be read"),
        (facts(5, 5, None), Answer("not_fastcgi", "HTTP"), "listen", "unknown", "HTTP"),
    ],
)  # fmt: skip
def test_the_state_of_a_pool(pool: dict[str, Any], answer: Answer, via: str, state: str, words: str) -> None:
    judged = judge(pool, answer, via, 2.0)
    assert (judged["state"], judged["reason"]) == (state, words)
