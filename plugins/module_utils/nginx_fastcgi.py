# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The locations that reach PHP, with what is in force in each (pure).

describe() takes a Tree and the facts about nginx's build, and returns plain
dicts and lists: the result of the module nginx_fastcgi_info, whose RETURN
documents every key.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_levels import Level, Shared, build
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_routes import match_of, references
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import (
    IF_LOCATION,
    LIMIT_EXCEPT,
    SERVER,
    SETTINGS,
)
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_targets import read_upstream, targets_of
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree

DEFAULT_PAGE_SIZE = 4096


@dataclass(frozen=True)
class Build:
    """What was compiled into nginx (``nginx -V``); None where it is not known.

    :ivar page_size: of the machine that nginx runs on, in bytes.
    """

    prefix: str | None = None
    user: str | None = None
    group: str | None = None
    error_log: str | None = None
    pid: str | None = None
    page_size: int = DEFAULT_PAGE_SIZE


def describe(tree: Tree, built: Build) -> dict[str, Any]:
    """A configuration as the module returns it: ``nginx``, ``servers``, ``locations``, ``upstreams``, ``errors``."""
    errors = list(tree.errors)
    shared = build(tree.directives, built.page_size, errors)
    upstreams = {key: read_upstream(block, shared) for key, block in shared.upstreams.items()}
    for level in shared.http.walk():
        _check(level)
    servers = []
    locations = []
    for server in shared.servers:
        described = _server(server)
        servers.append(described)
        passing = [(level, own) for level in server.walk() for own in [_pass_of(level)] if own is not None]
        if passing:
            referred = references(server)
            for level, own in passing:
                locations.append(
                    _location(level, own, described, referred.get(id(level), []), upstreams, built)
                )
    used = {target["via"] for location in locations for target in location["targets"]}
    for upstream in upstreams.values():
        upstream["used_by_fastcgi"] = upstream["name"] in used
    return {
        "nginx": _main(shared, built),
        "servers": servers,
        "locations": locations,
        "upstreams": list(upstreams.values()),
        "errors": [{"message": error.message, "file": error.file, "line": error.line} for error in errors],
    }


def _where(directive: Directive | None) -> dict[str, Any]:
    return {
        "file": directive.file if directive else None,
        "line": directive.line if directive else None,
        "default": directive is None,
    }


# -- the main level


def _main(shared: Shared, built: Build) -> dict[str, Any]:
    main = shared.main
    events = [inner for block in main.get("events", ()) for inner in block.block or []]

    def one(name: str, directives: list[Directive] | None = None) -> Directive | None:
        found = [item for item in directives if item.name == name] if directives else main.get(name, [])
        for extra in found[1:]:
            shared.error(
                f'"{name}" directive is duplicate (the first is {found[0].file}:{found[0].line})', extra
            )
        return found[0] if found and found[0].args else None

    user = one("user")
    name = user.args[0] if user else built.user
    group = user.args[-1] if user else built.group or built.user
    processes = one("worker_processes")
    pid = one("pid")
    workers = processes.args[0] if processes else "1"
    if processes and not workers.isdigit() and workers != "auto":
        shared.error(f'invalid value "{workers}" in "worker_processes" directive', processes)
    return {
        "worker_user": {"name": name, "group": group, **_where(user)},
        "worker_processes": {"value": int(workers) if workers.isdigit() else workers, **_where(processes)},
        "worker_connections": _integer(one("worker_connections", events), 512, shared),
        "worker_rlimit_nofile": _integer(one("worker_rlimit_nofile"), None, shared),
        "pid": {"value": _absolute(pid.args[0] if pid else built.pid, built), **_where(pid)},
        "error_log": _error_logs(main.get("error_log", []), built),
    }


def _integer(directive: Directive | None, default: int | None, shared: Shared) -> dict[str, Any]:
    value = default
    if directive is not None:
        value = int(directive.args[0]) if directive.args[0].isdigit() else None
        if value is None:
            shared.error(f'invalid number "{directive.args[0]}" in "{directive.name}"', directive)
    return {"value": value, **_where(directive)}


def _absolute(path: str | None, built: Build) -> str | None:
    """A path as nginx opens it; relative ones stay as they are where the prefix is not known."""
    if path is None or path.startswith(("/", "$")) or built.prefix is None:
        return path
    return posixpath.join(built.prefix, path)


def _error_logs(directives: list[Directive], built: Build) -> list[dict[str, Any]]:
    """The logs of one level. ``path`` is None for stderr, syslog and memory."""
    logs = []
    for directive in directives:
        if not directive.args:
            continue
        target = directive.args[0]
        is_file = not target.startswith(("syslog:", "memory:")) and target != "stderr"
        level = directive.args[1] if len(directive.args) > 1 else "error"
        path = _absolute(target, built) if is_file else None
        logs.append({"value": target, "path": path, "level": level, **_where(directive)})
    if not logs and built.error_log is not None:
        is_file = built.error_log != "stderr"
        path = _absolute(built.error_log, built) if is_file else None
        logs.append({"value": built.error_log, "path": path, "level": "error", **_where(None)})
    return logs


# -- servers


def _server(server: Level) -> dict[str, Any]:
    directive = server.directive
    names = [word.lower() for item in server.own.get("server_name", ()) for word in item.args]
    listens = [_listen(item) for item in server.own.get("listen", ()) if item.args]
    return {
        "server_names": names or [""],
        "listen": listens or [{"address": "*:80", "parameters": [], **_where(None)}],
        "file": directive.file if directive else None,
        "line": directive.line if directive else None,
    }


def _listen(directive: Directive) -> dict[str, Any]:
    address = directive.args[0]
    if address.isdigit():
        address = f"*:{address}"
    elif not address.startswith("unix:") and ":" not in address.rpartition("]")[2]:
        address = f"{address}:80"
    return {"address": address, "parameters": directive.args[1:], **_where(directive)}


# -- locations


def _pass_of(level: Level) -> Directive | None:
    """The ``fastcgi_pass`` in force: a nameless level (if, limit_except) takes over that of its location,
    a nested location never does."""
    own = level.own.get("fastcgi_pass")
    if own and own[0].args:
        return own[0]
    if level.kind != IF_LOCATION or level.parent is None:
        return None
    # A request that meets "return" never reaches PHP.
    if any(isinstance(item, Directive) and item.name == "return" for item in level.rewrites):
        return None
    return _pass_of(level.parent)


def _title(level: Level) -> str:
    directive = level.directive
    return " ".join([directive.name, *directive.args]).strip() if directive else ""


def _location(
    level: Level,
    passing: Directive,
    server: dict[str, Any],
    referred: list[dict[str, Any]],
    upstreams: dict[str, dict[str, Any]],
    built: Build,
) -> dict[str, Any]:
    named = level
    while named.kind in (IF_LOCATION, LIMIT_EXCEPT) and named.parent is not None:
        named = named.parent
    inside: list[str] = []
    outer = level.parent
    while outer is not None and outer.kind != SERVER:
        inside.insert(0, _title(outer))
        outer = outer.parent
    match = match_of(named.opening)
    return {
        "server_names": server["server_names"],
        "listen": [item["address"] for item in server["listen"]],
        "server_file": server["file"],
        "server_line": server["line"],
        "title": _title(level),
        "kind": "if" if level.kind == IF_LOCATION else "location",
        "modifier": match.modifier,
        "match": match.pattern,
        "inside": inside,
        "file": level.opening.file,
        "line": level.opening.line,
        "fastcgi_pass": {
            "value": passing.args[0],
            "file": passing.file,
            "line": passing.line,
            "inherited": "fastcgi_pass" not in level.own,
        },
        "targets": targets_of(passing, level, upstreams),
        "settings": _settings(level),
        "params": _params(level),
        "root": _root(level, built),
        "try_files": _try_files(level),
        "error_pages": _error_pages(level),
        "error_log": _error_logs(level.nearest("error_log") or level.shared.main.get("error_log", []), built),
        "access": _access(level),
        "reached_from": referred,
    }


_BUFFERS = ("fastcgi_busy_buffers_size", "fastcgi_buffers", "fastcgi_buffer_size")


def _settings(level: Level) -> dict[str, dict[str, Any]]:
    result = {name: level.setting(name) for name in SETTINGS}
    result["fastcgi_busy_buffers_size"] = _busy_buffers_size(level)
    return result


def _busy_buffers_size(level: Level) -> dict[str, Any]:
    """Its default follows from the two others: twice the larger of the buffer sizes."""
    busy = level.setting("fastcgi_busy_buffers_size")
    largest = _largest_buffer(level)
    return {**busy, "value": 2 * largest} if busy["default"] and largest is not None else busy


def _largest_buffer(level: Level) -> int | None:
    size = level.setting("fastcgi_buffer_size")["value"]
    buffers = level.setting("fastcgi_buffers")["value"]
    return None if size is None or buffers is None else max(size, buffers["size_bytes"])


def _check(level: Level) -> None:
    """Report values that nginx would refuse, whether or not the level reaches PHP."""
    for name in level.own:
        if name in SETTINGS:
            level.setting(name)
    largest = _largest_buffer(level)
    directive = next((level.own[name][0] for name in _BUFFERS if name in level.own), None)
    if directive is None or largest is None:
        return
    buffers = level.setting("fastcgi_buffers")["value"]
    busy = _busy_buffers_size(level)["value"]
    room = (buffers["number"] - 1) * buffers["size_bytes"]
    if buffers["number"] < 2:
        level.shared.error('there must be at least 2 "fastcgi_buffers"', directive)
    elif busy is not None and busy < largest:
        level.shared.error(
            f'"fastcgi_busy_buffers_size" ({busy}) must not be less than the larger of "fastcgi_buffer_size" and one'
            f' of the "fastcgi_buffers" ({largest})',
            directive,
        )
    elif busy is not None and busy > room:
        level.shared.error(
            f'"fastcgi_busy_buffers_size" ({busy}) must not be more than all "fastcgi_buffers" less one ({room})',
            directive,
        )


def _params(level: Level) -> list[dict[str, Any]]:
    """What is sent, in order. Of two with one name PHP sees the last."""
    return [
        {
            "name": directive.args[0],
            "value": directive.args[1],
            "if_not_empty": directive.args[2:] == ["if_not_empty"],
            "file": directive.file,
            "line": directive.line,
        }
        for directive in level.nearest("fastcgi_param")
        if len(directive.args) >= 2
    ]


def _root(level: Level, built: Build) -> dict[str, Any]:
    found = level.nearest("root", "alias")
    holder = level.holder("root", "alias")
    directive = found[0] if found and found[0].args else None
    value = directive.args[0] if directive else "html"
    return {
        "directive": directive.name if directive else "root",
        "value": value,
        "path": _absolute(value, built),
        "level": holder.kind if holder and directive else None,
        **_where(directive),
    }


def _try_files(level: Level) -> dict[str, Any] | None:
    """Only of the level itself: nginx inherits it nowhere, not from the server and not into an ``if``."""
    for directive in level.own.get("try_files", ()):
        return {"value": directive.args, "file": directive.file, "line": directive.line}
    return None


def _error_pages(level: Level) -> list[dict[str, Any]]:
    return [
        {"value": directive.args, "file": directive.file, "line": directive.line}
        for directive in level.nearest("error_page")
    ]


def _access(level: Level) -> dict[str, Any]:
    holder = level.holder("allow", "deny")

    def first(name: str) -> str | None:
        found = level.nearest(name)
        return found[0].args[0] if found and found[0].args else None

    return {
        "rules": [
            {"rule": item.name, "value": item.args[0], "file": item.file, "line": item.line}
            for item in (holder.access if holder else ())
            if item.args
        ],
        "internal": level.holder("internal") is not None or _is_named(level),
        "auth_basic": first("auth_basic"),
        "auth_request": first("auth_request"),
        "satisfy": first("satisfy") or "all",
    }


def _is_named(level: Level) -> bool:
    """Whether the location is a named one, which no client can ask for."""
    step: Level | None = level
    while step is not None and step.kind != SERVER:
        if step.directive is not None and match_of(step.directive).modifier == "@":
            return True
        step = step.parent
    return False
