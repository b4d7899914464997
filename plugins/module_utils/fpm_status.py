# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask pools for their status page, straight over FastCGI and many at a time."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import (
    Address,
    FastcgiError,
    request,
    status_params,
)

# A saturated pool costs a thread its whole timeout; threads that wait cost next to nothing.
_MOST_AT_ONCE = 64


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
    """

    kind: str
    reason: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    processes: list[dict[str, Any]] = field(default_factory=list)


def ask_all(questions: list[Question], timeout: float) -> list[Answer]:
    """Ask all at once; the answers come in the order of the questions.

    :param timeout: seconds for one pool, to connect and again to answer.
    """
    if not questions:
        return []
    with ThreadPoolExecutor(min(len(questions), _MOST_AT_ONCE)) as threads:
        return list(threads.map(lambda question: ask(question, timeout), questions))


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
    return parse_page(response.body)


def parse_page(body: bytes) -> Answer:
    """Read a status page in JSON; an unreadable one gives kind ``other`` and no reason."""
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False)
    except ValueError:
        return Answer("other")
    if not isinstance(page, dict) or "process manager" not in page:
        return Answer("other", "the answer is JSON, but not FPM's status page")
    processes = [_snake(process) for process in page.pop("processes", [])]
    for process in processes:
        # Query strings carry tokens; facts are printed, cached and logged.
        process["request_uri"] = process.get("request_uri", "").partition("?")[0]
    return Answer("ok", "", _snake(page), processes)


def _snake(page: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"\W+", "_", name): value for name, value in page.items()}
