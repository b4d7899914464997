# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx does with the paths that nobody outside should reach (pure): status pages and dotfiles."""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Route
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_levels import Level, build
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_routes import Unsure, find
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree

# Files that deployments leave in document roots, and that hold secrets.
DOTFILES = ("/.env", "/.git/config")
_PAGE_SIZE = 4096
# A handler of these is no file of the root.
_OTHER_HANDLERS = (
    "proxy_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "content_by_lua_block",
)


def probe(
    tree: Tree, described: list[dict[str, Any]], pages: dict[str, str]
) -> tuple[list[Route], dict[str, bool]]:
    """Follow paths on every server that reaches PHP.

    :param described: the locations of nginx_fastcgi_info.
    :param pages: path -> "status" or "ping", of all pools.
    :returns: the routes, and for each server (file:line) whether it sets a root itself.
    """
    routes: list[Route] = []
    roots: dict[str, bool] = {}
    with_php = {(one["server_file"], one["server_line"]) for one in described}
    targets = {
        (one["file"], one["line"]): tuple(target["address"] for target in one["targets"]) for one in described
    }
    for server in build(tree.directives, _PAGE_SIZE, []).servers:
        place = server.directive
        if place is None or (place.file, place.line) not in with_php:
            continue
        roots[f"{place.file}:{place.line}"] = server.holder("root") is not None
        asked = [*pages.items(), *((uri, "dotfile") for uri in DOTFILES)]
        for uri, purpose in asked:
            routes.append(_route(server, uri, purpose, targets))
    return routes, roots


def _route(server: Level, uri: str, purpose: str, targets: dict[tuple[str, int], tuple[str, ...]]) -> Route:
    names = [word for item in server.own.get("server_name", ()) for word in item.args]
    title = next((name for name in names if name != "_"), "the default server")
    try:
        level = find(server, uri) or server
    except Unsure:
        level = None
    place = (level or server).directive
    answer = _answer(server, level) if level else None
    key = (place.file, place.line) if place else ("", 0)
    return Route(title, uri, purpose, answer, *key, targets.get(key, ()))


def _answer(server: Level, level: Level) -> str | None:
    if _returns(server) or _returns(level) or level.holder("internal"):
        return "denied"
    access = _access(level)
    if access == "denied":
        return access
    kind = _handler(level)
    if kind in ("php", "file") and (access or _is_private(server)):
        return "restricted"
    return kind


def _returns(level: Level) -> bool:
    """Whether every request ends in the level's own ``return``."""
    return any(isinstance(item, Directive) and item.name == "return" for item in level.rewrites)


def _access(level: Level) -> str | None:
    holder = level.holder("allow", "deny")
    rules = holder.access if holder else []
    if rules and rules[0].name == "deny" and rules[0].args == ["all"]:
        return "denied"
    if any(rule.name == "deny" and rule.args == ["all"] for rule in rules):
        return "restricted"
    basic = level.nearest("auth_basic")
    if (basic and basic[0].args != ["off"]) or level.nearest("auth_request"):
        return "restricted"
    return None


def _is_private(server: Level) -> bool:
    """Whether the server listens on this machine only."""
    listens = [item.args[0] for item in server.own.get("listen", ()) if item.args]
    return bool(listens) and all(one.startswith(("127.", "[::1]", "localhost", "unix:")) for one in listens)


def _handler(level: Level) -> str | None:
    if any(name in level.own for name in _OTHER_HANDLERS):
        return None
    if "fastcgi_pass" not in level.own:
        return "file"
    for directive in level.own.get("try_files", ()):
        tried = directive.args[:-1]
        if directive.args[-1:] == ["=404"] and tried and all(word.startswith("$") for word in tried):
            # No file has the name of a status page.
            return "denied"
    return "php"
