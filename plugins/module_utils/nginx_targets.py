# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a ``fastcgi_pass`` leads: addresses, upstreams, variables (pure).

A variable is followed through ``map``, ``geo``, ``split_clients`` and ``set``
as far as the configuration alone decides. One possible value is a fact
(``resolved: config``); several are candidates of which a request chooses one
(``resolved: request``); what only a request knows stays the variable that it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_levels import Level, Shared
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import (
    IF_LOCATION,
    IF_SERVER,
    LOCATION,
    SERVER,
    parse_time,
)

CONFIG, REQUEST, UNKNOWN = "config", "request", "unknown"

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]/]+)(?::(\d+))?")
# More combinations than this are not listed: the target stays a variable.
MAX_CANDIDATES = 64
_METHODS = ("least_conn", "ip_hash", "hash", "random", "least_time", "fair", "sticky")
# Words of a map that are no entries.
_MAP_WORDS = frozenset(("hostnames", "volatile", "include"))
_GEO_WORDS = frozenset(("delete", "include", "proxy", "proxy_recursive", "ranges"))


@dataclass(frozen=True)
class Values:
    """What a variable can hold. ``complete`` is false where a request can bring other values."""

    known: tuple[str, ...]
    complete: bool


_ANYTHING = Values((), False)


def parse_address(text: str, default_port: int | None = None) -> tuple[str, str] | None:
    """An address as nginx takes it -> (kind, normalised address); None where it is none.

    :return: ``("unix", "unix:/path")`` or ``("tcp", "host:port")``.
    """
    if text.lower().startswith("unix:"):
        path = text[5:].split(":", 1)[0]
        return ("unix", f"unix:{path}") if path else None
    match = _HOST_PORT.fullmatch(text)
    if not match:
        return None
    port = match[2] or default_port
    if port is None or not 0 < int(port) < 65536:
        return None
    return "tcp", f"{match[1].lower()}:{int(port)}"


def read_upstream(directive: Directive, shared: Shared) -> dict[str, Any]:
    """One ``upstream`` block as the result shows it."""
    result: dict[str, Any] = {
        "name": directive.args[0] if directive.args else "",
        "file": directive.file,
        "line": directive.line,
        "servers": [],
        "method": "round_robin",
        "keepalive": None,
        "zone": None,
    }
    for inner in directive.block or []:
        if inner.name == "server" and inner.args:
            result["servers"].append(_read_server(inner, shared))
        elif inner.name in _METHODS:
            result["method"] = inner.name
        elif inner.name == "keepalive" and inner.args and inner.args[0].isdigit():
            result["keepalive"] = int(inner.args[0])
        elif inner.name == "zone" and inner.args:
            result["zone"] = inner.args[0]
    if not result["servers"]:
        shared.error(f'no servers are inside upstream "{result["name"]}"', directive)
    return result


def _read_server(directive: Directive, shared: Shared) -> dict[str, Any]:
    parsed = parse_address(directive.args[0], 80)
    if parsed is None:
        shared.error(f'invalid address "{directive.args[0]}" in "server" of an upstream', directive)
    server: dict[str, Any] = {
        "kind": parsed[0] if parsed else None,
        "address": parsed[1] if parsed else directive.args[0],
        "file": directive.file,
        "line": directive.line,
        "weight": 1,
        "max_fails": 1,
        "fail_timeout": 10,
        "max_conns": 0,
        "backup": False,
        "down": False,
        "resolve": False,
    }
    for word in directive.args[1:]:
        name, equals, value = word.partition("=")
        try:
            if name in ("backup", "down", "resolve") and not equals:
                server[name] = True
            elif name in ("weight", "max_fails", "max_conns") and equals:
                server[name] = int(value)
            elif name in ("fail_timeout", "slow_start") and equals:
                server[name] = parse_time(value)
            elif name not in ("service", "route", "drain"):
                raise ValueError(word)
        except ValueError:
            shared.error(f'invalid parameter "{word}" in "server" of an upstream', directive)
    return server


def targets_of(
    pass_directive: Directive, level: Level, upstreams: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every place that this ``fastcgi_pass`` can lead to, seen from ``level``.

    :return: dicts of ``kind`` (unix, tcp or variable), ``address``, ``via`` (the upstream's name or None),
        ``resolved``, and ``backup`` and ``down`` of an upstream's server.
    """
    text = pass_directive.args[0]
    values = expand(text, level)
    resolved = CONFIG if values.complete and len(values.known) == 1 else REQUEST
    targets: list[dict[str, Any]] = []
    for value in values.known:
        # An empty value, for example a map without a default, leads nowhere.
        if value:
            targets.extend(_literal(value, resolved, pass_directive, level.shared, upstreams))
    if not values.complete or not targets:
        targets.append(_target("variable", text, None, REQUEST))
    return [target for number, target in enumerate(targets) if target not in targets[:number]]


def _target(
    kind: str, address: str, via: str | None, resolved: str, backup: bool = False, down: bool = False
) -> dict[str, Any]:
    return {
        "kind": kind,
        "address": address,
        "via": via,
        "resolved": resolved,
        "backup": backup,
        "down": down,
    }


def _literal(
    value: str, resolved: str, directive: Directive, shared: Shared, upstreams: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    upstream = upstreams.get(value.lower())
    if upstream is not None:
        return [
            _target(
                server["kind"] or "tcp",
                server["address"],
                upstream["name"],
                resolved if server["kind"] else UNKNOWN,
                server["backup"],
                server["down"],
            )
            for server in upstream["servers"]
        ]
    parsed = parse_address(value)
    if parsed is not None:
        host = parsed[1].rpartition(":")[0]
        if parsed[0] == "tcp" and host in upstreams:
            shared.error(f'upstream "{host}" may not have a port in "fastcgi_pass {value}"', directive)
        return [_target(parsed[0], parsed[1], None, resolved)]
    shared.error(
        f'"fastcgi_pass {value}": no upstream has this name, and it is no address (no port)', directive
    )
    return [_target("tcp", value, None, UNKNOWN)]


def variables_in(text: str) -> list[str]:
    """The names of the variables in a text, in order."""
    return [match[1] or match[2] for match in _VARIABLE.finditer(text)]


def expand(text: str, level: Level, busy: frozenset[str] = frozenset()) -> Values:
    """Every text that ``text`` can become for a request that ends in ``level``."""
    names = list(dict.fromkeys(variables_in(text)))
    if not names:
        return Values((text,), True)
    choices = [_variable(name, level, busy) for name in names]
    complete = all(choice.complete for choice in choices)
    count = 1
    for choice in choices:
        count *= len(choice.known)
    if count > MAX_CANDIDATES:
        return _ANYTHING
    known = []
    for combination in itertools.product(*(choice.known for choice in choices)):
        chosen = dict(zip(names, combination))
        known.append(_VARIABLE.sub(lambda match, c=chosen: c[match[1] or match[2]], text))  # type: ignore[misc]
    return Values(tuple(dict.fromkeys(known)), complete)


def _variable(name: str, level: Level, busy: frozenset[str]) -> Values:
    if name in busy:
        return _ANYTHING
    busy = busy | {name}
    blocks = level.shared.variables.get(name, [])
    parts = [_union(_block_values(block), level, busy) for block in blocks]
    current = Values(tuple(v for part in parts for v in part.known), all(part.complete for part in parts))
    assignments = list(_assignments(name, level))
    if not assignments:
        return _unique(current) if blocks else _ANYTHING
    if not blocks:
        # Before its first "set" a variable is empty.
        current = Values(("",), True)
    for text, certain in assignments:
        new = expand(text, level, busy)
        current = new if certain else Values(current.known + new.known, current.complete and new.complete)
    return _unique(current)


def _unique(values: Values) -> Values:
    return Values(tuple(dict.fromkeys(values.known)), values.complete)


def _union(texts: Iterable[str], level: Level, busy: frozenset[str]) -> Values:
    parts = [expand(text, level, busy) for text in texts]
    return Values(tuple(v for part in parts for v in part.known), all(part.complete for part in parts))


def _block_values(block: Directive) -> list[str]:
    """The values of a map, geo or split_clients block; the empty one too where nothing has to match."""
    values = []
    has_default = False
    for entry in block.block or []:
        if block.name == "map" and entry.name in _MAP_WORDS and len(entry.args) != 1:
            continue
        if block.name == "geo" and entry.name in _GEO_WORDS:
            continue
        if len(entry.args) != 1:
            continue
        if entry.name == "default" or (block.name == "split_clients" and entry.name == "*"):
            has_default = True
        values.append(entry.args[0])
    return values if has_default else [*values, ""]


def _assignments(name: str, level: Level) -> Iterable[tuple[str, bool]]:
    """The ``set`` directives for a variable in the order in which nginx runs them: (value, surely run).

    The server's come first, then, after internal redirects only, those of other
    locations, then the location's own. A nested location does not run those of
    the locations around it.
    """
    chain = []
    step: Level | None = level
    while step is not None:
        chain.append(step)
        step = step.parent
    server = next((item for item in chain if item.kind == SERVER), None)
    if server is None:
        return
    location = next((item for item in chain if item.kind == LOCATION), None)
    yield from _run(name, server, chain)
    for other in server.walk():
        if other.kind == LOCATION and other is not location:
            yield from ((text, False) for text, _certain in _run(name, other, []))
    if location is not None:
        yield from _run(name, location, chain)


def _run(name: str, level: Level, chain: list[Level]) -> Iterable[tuple[str, bool]]:
    certain = True
    for item in level.rewrites:
        if isinstance(item, Level):
            inside = item in chain
            for text, sure in _run(name, item, chain):
                yield text, sure and inside and certain
            if item.kind in (IF_SERVER, IF_LOCATION) and _may_stop(item):
                certain = False
        elif item.name == "set" and len(item.args) == 2 and item.args[0] in (f"${name}", f"${{{name}}}"):
            yield item.args[1], certain
        elif item.name in ("break", "rewrite"):
            certain = False


def _may_stop(level: Level) -> bool:
    return any(isinstance(item, Directive) and item.name in ("break", "rewrite") for item in level.rewrites)
