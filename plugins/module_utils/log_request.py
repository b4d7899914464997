# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the module's parameters into a request, and answers it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import log_discover
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_gather import LIVE, Request, explain
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock, named_clock, parse_when

_LOGS = ("nginx_error_log", "fpm_log", "journal", "kernel_log")


def answer(params: dict[str, Any], warn: Callable[[str], Any]) -> dict[str, Any]:
    """What the module returns.

    :raises StackError: for parameters that cannot be used, all of them in one message.
    """
    host = Host(params["root"])
    now = time.time()
    mistakes: list[str] = []
    clock = _clock(params["time_zone"], mistakes)
    times: dict[str, float | None] = {}
    for name in ("since", "until"):
        try:
            times[name] = None if params[name] is None else parse_when(params[name], now, clock)
        except ValueError as error:
            mistakes.append(f"{name}: {error}")
            times[name] = None
    since, until = times["since"], times["until"]
    if since is not None and until is not None and since > until:
        mistakes.append("since is later than until, so nothing lies between them: swap them")
    if params["samples"] < 0:
        mistakes.append(f"samples is {params['samples']}: use 0 or more")
    if mistakes:
        raise StackError("; ".join(mistakes))
    request = Request(since=since, until=until, samples=params["samples"])
    limits: list[str] = []
    if any(params[name] is not None for name in _LOGS):
        for name in _LOGS:
            setattr(request, name, params[name] or [])
    else:
        found = log_discover.discover(host)
        request.nginx_error_log, request.fpm_log = found.nginx_error_log, found.fpm_log
        request.listeners = found.listeners
        limits = found.problems
        if host.live:
            request.journal, request.kernel_log = [LIVE], [LIVE]
    result = explain(host, request, clock, now)
    result["limits"] = limits + result["limits"]
    for line in result["limits"]:
        warn(line)
    return result


def _clock(zone: str | None, mistakes: list[str]) -> Clock:
    found = Clock() if zone is None else named_clock(zone)
    if found is None:
        mistakes.append(
            f"time_zone: {zone!r} is not known on this host. Use a name such as Europe/Berlin or UTC."
        )
    return found or Clock()
