# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask pools for their status page, straight over FastCGI and many at a time."""

from __future__ import annotations

import itertools
import json
import queue
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import (
    Address,
    FastcgiError,
    request,
    status_params,
)

# A pool that answers does so in a millisecond: a few threads are faster than many. One that is saturated
# keeps its thread for the whole timeout: as long as nothing happens for a moment, more threads are started.
_FIRST, _MORE, _MOST = 8, 32, 512
_MOMENT_SECONDS = 0.02
_NOT_WORD = re.compile(r"\W+")


@dataclass(frozen=True)
class Question:
    """A status page to ask for.

    :param path: pm.status_path.
    """

    address: Address
    path: str


@dataclass(frozen=True)
class Answer:
    """What came back.

    :param kind: ``ok``, a kind of FastcgiError, or ``other`` for an answer that is no status page.
    :param fields: the page's fields in snake_case, without the processes.
    :param processes: those that have a request in hand, the one for this page left out; also in snake_case.
    :param workers: (requests so far, state) of every process, by its pid.
    """

    kind: str
    reason: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    processes: list[dict[str, Any]] = field(default_factory=list)
    workers: dict[int, tuple[int | None, str | None]] = field(default_factory=dict)


def ask_all(questions: list[Question], timeout: float) -> list[Answer]:
    """Ask all at once; the answers come in the order of the questions.

    :param timeout: seconds for one pool, to connect and again to answer.
    """
    numbers = itertools.count()
    done: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()

    def work() -> None:
        for number in numbers:
            if number >= len(questions):
                return
            try:
                done.put((number, ask(questions[number], timeout)))
            except Exception as error:
                done.put((number, error))

    answers: dict[int, Answer] = {}
    threads = 0
    wanted = _FIRST
    while len(answers) < len(questions):
        while threads < min(wanted, len(questions), _MOST):
            threading.Thread(target=work, daemon=True).start()
            threads += 1
        try:
            number, answer = done.get(timeout=_MOMENT_SECONDS)
        except queue.Empty:
            wanted += _MORE
            continue
        if isinstance(answer, Exception):
            raise answer
        answers[number] = answer
    return [answers[number] for number in range(len(questions))]


def ask(question: Question, timeout: float) -> Answer:
    """Ask one pool."""
    answer = _ask(question, "json&full", timeout)
    if answer.kind == "other" and not answer.reason:
        # Old versions do not escape what clients sent; without the processes the page is sound.
        answer = _ask(question, "json", timeout)
    return answer


def _ask(question: Question, query: str, timeout: float) -> Answer:
    try:
        params = status_params(question.path, query)
        response = request(question.address, params, connect_timeout=timeout, read_timeout=timeout)
    except FastcgiError as error:
        return Answer(error.kind, str(error))
    if response.status != 200:
        words = f"the pool answered {response.status} for {question.path}"
        stderr = response.stderr.decode("utf-8", "replace").strip()
        return Answer("other", f"{words} ({stderr})" if stderr else words)
    return parse_page(response.body, question.path)


def parse_page(body: bytes, path: str) -> Answer:
    """Read a status page in JSON; an unreadable one gives kind ``other`` and no reason.

    :param path: of the page itself.
    """
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False)
    except ValueError:
        return Answer("other")
    if not isinstance(page, dict) or "process manager" not in page:
        return Answer("other", "the answer is JSON, but not FPM's status page")
    listed = page.pop("processes", [])
    workers = {process.get("pid"): (process.get("requests"), process.get("state")) for process in listed}
    processes = []
    for process in listed:
        # Query strings carry tokens; facts are printed, cached and logged.
        uri = process.get("request uri", "").partition("?")[0]
        if process.get("state") != "Idle" and uri != path:
            processes.append({**_snake(process), "request_uri": uri})
    return Answer("ok", "", _snake(page), processes, workers)


def _snake(page: dict[str, Any]) -> dict[str, Any]:
    return {_NOT_WORD.sub("_", name): value for name, value in page.items()}
