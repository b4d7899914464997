# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One check of a pool's socket: ask it as a user, retry, and explain a failure."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import fastcgi, socket_probe
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import Node, Who
from ansible_collections.webops.php_stack.plugins.module_utils.socket_verdict import Evidence, judge

# Addresses of one name that are tried one by one.
_MAX_ADDRESSES = 8
_SHOWN_BODY_CHARS = 1000
# Another attempt cannot change these.
_FINAL_KINDS = ("path_too_long",)


@dataclass(frozen=True)
class Request:
    """What to check. Times in seconds; ``retries`` counts the attempts after the first."""

    address: fastcgi.Address
    who: Who
    ping_path: str = ""
    status_path: str = ""
    connect_timeout: float = 1.0
    read_timeout: float = 2.0
    retries: int = 0
    delay: float = 1.0


def check(host: Host, wanted: Request) -> dict[str, Any]:
    """The module's result: see RETURN of the module socket_check.

    :raises StackError: the check itself could not be made.
    """
    # Three requests at most, and a connection to each address of a name.
    limit = (3 + _MAX_ADDRESSES) * wanted.connect_timeout + 3 * wanted.read_timeout + 10.0
    attempts = 0
    while True:
        attempts += 1
        answer = socket_probe.run_as(wanted.who, lambda: _ask(wanted), limit)
        if answer["kind"] in ("", *_FINAL_KINDS) or attempts > wanted.retries:
            break
        time.sleep(wanted.delay)
    result: dict[str, Any] = {
        "changed": False,
        "address": str(wanted.address),
        "as_user": wanted.who.name,
        "attempts": attempts,
        "reachable": not answer["kind"],
        "denied_by": None,
        "socket": None,
        **{key: answer[key] for key in ("probe", "ping", "status", "latency_seconds", "addresses")},
    }
    nodes = socket_probe.walk(host, wanted.address.path) if wanted.address.kind == "unix" else []
    if nodes and nodes[-1].kind == "socket":
        result["socket"] = _socket(nodes[-1])
    if not answer["kind"]:
        return {**result, "cause": None, "msg": _healthy(wanted, answer)}
    evidence = Evidence(
        nodes,
        _has_listener(host, wanted.address.path, nodes) if nodes else None,
        socket_probe.neighbours(host, nodes) if nodes else None,
        socket_probe.selinux_enforces(host),
    )
    verdict = judge(answer["kind"], answer["message"], bool(nodes), wanted.who, evidence)
    return {**result, "cause": verdict.cause, "msg": verdict.message, "denied_by": verdict.denied_by}


def _socket(node: Node) -> dict[str, Any]:
    return {"path": node.path, "owner": node.owner, "group": node.group, "mode": f"{node.mode:04o}"}


def _has_listener(host: Host, path: str, nodes: list[Node]) -> bool | None:
    """A listener is known by the path that it was bound to, which may be the end of a link."""
    answers = [socket_probe.has_listener(host, name) for name in dict.fromkeys([path, nodes[-1].path])]
    return None if None in answers else any(answers)


def _healthy(wanted: Request, answer: dict[str, Any]) -> str:
    asked = {"ping": f"the ping page {wanted.ping_path}", "status": f"the status page {wanted.status_path}"}
    what = asked.get(answer["probe"], "an empty FastCGI request")
    words = f"{wanted.address} answers {what} for {wanted.who.name}."
    for name, option in (("ping", "ping.path"), ("status", "pm.status_path")):
        page = answer[name]
        if page and page["http_status"] != 200:
            path = wanted.ping_path if name == "ping" else wanted.status_path
            words += f" The pool has no page at {path} (status {page['http_status']}): set {option} = {path}."
    bad = [entry for entry in answer["addresses"] if entry["cause"]]
    if bad:
        listed = "; ".join(entry["message"] for entry in bad)
        words += f" But nginx takes turns between all addresses of {wanted.address.host}: {listed}."
    return words


# -- in the child, as the user --------------------------------------------------------------------


def _ask(wanted: Request) -> dict[str, Any]:
    """Ask for the ping page, else the status page, else send an empty request, which runs no PHP code."""
    answer: dict[str, Any] = {
        "kind": "",
        "message": "",
        "probe": None,
        "ping": None,
        "status": None,
        "latency_seconds": None,
        "addresses": [],
    }
    try:
        for name, path, query in (("ping", wanted.ping_path, ""), ("status", wanted.status_path, "json")):
            if not path:
                continue
            response = _send(wanted, fastcgi.status_params(path, query))
            answer[name] = _page(response)
            if response.status == 200 and not answer["probe"]:
                answer["probe"] = name
                answer["latency_seconds"] = _latency(response)
        if not answer["probe"]:
            answer["latency_seconds"] = _latency(_send(wanted, {}))
            answer["probe"] = "empty_request"
        if wanted.address.kind == "tcp":
            answer["addresses"] = _each_address(wanted)
    except fastcgi.FastcgiError as error:
        answer["kind"], answer["message"] = error.kind, str(error)
    return answer


def _send(wanted: Request, params: dict[str, str]) -> fastcgi.Response:
    return fastcgi.request(wanted.address, params, wanted.connect_timeout, wanted.read_timeout)


def _latency(response: fastcgi.Response) -> dict[str, float]:
    return {"connect": round(response.connect_seconds, 6), "total": round(response.total_seconds, 6)}


def _page(response: fastcgi.Response) -> dict[str, Any]:
    try:
        parsed = json.loads(response.body) if response.status == 200 else None
    except ValueError:
        parsed = None
    text = response.body.decode("utf-8", "replace")[:_SHOWN_BODY_CHARS]
    return {
        "http_status": response.status,
        "body": text,
        "json": parsed if isinstance(parsed, dict) else None,
    }


def _each_address(wanted: Request) -> list[dict[str, Any]]:
    """Whether each IP address of the name accepts a connection; nginx uses all of them in turn."""
    entries = []
    for _family, target in fastcgi.resolve(wanted.address, wanted.connect_timeout)[:_MAX_ADDRESSES]:
        address = fastcgi.Address("tcp", host=target[0], port=target[1])
        entry: dict[str, Any] = {"address": str(address), "cause": None, "message": ""}
        try:
            fastcgi.connect(address, wanted.connect_timeout).close()
        except fastcgi.FastcgiError as error:
            verdict = judge(error.kind, str(error), False, wanted.who, Evidence([]))
            entry.update(cause=verdict.cause, message=str(error))
        entries.append(entry)
    return entries
