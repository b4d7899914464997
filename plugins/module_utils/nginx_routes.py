# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which location answers a URI, and what sends requests to a location from inside nginx (pure).

Only what the configuration alone decides: a fallback with variables in its
path, or a location whose regular expression Python cannot read, gives no answer
instead of a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_levels import Level
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import LOCATION

_GLUED = re.compile(r"(=|\^~|~\*|~)(.+)", re.DOTALL)
_ERROR_CODE = re.compile(r"[3-5]\d\d")


@dataclass(frozen=True)
class Match:
    """How a location is chosen: ``modifier`` is "", "=", "^~", "~", "~*" or "@" (named)."""

    modifier: str
    pattern: str


class Unsure(Exception):
    """Which location answers cannot be told from the configuration alone."""


def match_of(directive: Directive) -> Match:
    """The modifier and pattern of a location, written apart or in one word."""
    args = directive.args
    if len(args) >= 2:
        return Match(args[0], args[1])
    text = args[0] if args else ""
    if text.startswith("@"):
        return Match("@", text[1:])
    glued = _GLUED.fullmatch(text)
    return Match(glued[1], glued[2]) if glued else Match("", text)


def find(server: Level, uri: str) -> Level | None:
    """The location that nginx chooses for a path, or None for the server itself.

    :param uri: a decoded path without arguments, or ``@name``.
    :raises Unsure: a regular expression could not be read.
    """
    if uri.startswith("@"):
        for child in server.children:
            if (
                child.kind == LOCATION
                and child.directive
                and match_of(child.directive) == Match("@", uri[1:])
            ):
                return child
        return None
    return _search(server, uri)[0]


def _search(level: Level, uri: str) -> tuple[Level | None, bool]:
    """nginx's two steps in one level: -> (location, whether regular expressions must not override it)."""
    best: Level | None = None
    best_length = -1
    regexes: list[tuple[Match, Level]] = []
    for child in level.children:
        if child.kind != LOCATION or child.directive is None or not child.directive.name:
            continue
        match = match_of(child.directive)
        if match.modifier == "=" and match.pattern == uri:
            return child, True
        if (
            match.modifier in ("", "^~")
            and uri.startswith(match.pattern)
            and len(match.pattern) > best_length
        ):
            best, best_length = child, len(match.pattern)
        elif match.modifier in ("~", "~*"):
            regexes.append((match, child))
    final = False
    if best is not None and best.directive is not None:
        final = match_of(best.directive).modifier == "^~"
        inner, inner_final = _search(best, uri)
        if inner is not None:
            best = inner
            final = final or inner_final
            if inner_final:
                return inner, True
    if not final:
        for match, child in regexes:
            if _regex(match).search(uri):
                inner, _final = _search(child, uri)
                return inner or child, True
    return best, final


def _regex(match: Match) -> re.Pattern[str]:
    pattern = re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", match.pattern)
    try:
        return re.compile(pattern, re.IGNORECASE if match.modifier == "~*" else 0)
    except re.error as error:
        raise Unsure(f"{match.pattern}: {error}") from error


def references(server: Level) -> dict[int, list[dict[str, Any]]]:
    """What sends requests inside a server: id() of the location's Level -> its references.

    A reference has ``kind`` (try_files or error_page), ``uri``, ``codes`` (of an error_page) and ``file``, ``line``.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for level in server.walk():
        for directive in level.own.get("try_files", ()):
            if directive.args and not directive.args[-1].startswith("="):
                _refer(found, server, directive, directive.args[-1], [])
        for directive in level.own.get("error_page", ()):
            codes = [int(word) for word in directive.args[:-1] if _ERROR_CODE.fullmatch(word)]
            if codes:
                _refer(found, server, directive, directive.args[-1], codes)
    # An error_page of http reaches every server that has none of its own.
    if "error_page" not in server.own and server.parent is not None:
        for directive in server.parent.own.get("error_page", ()):
            codes = [int(word) for word in directive.args[:-1] if _ERROR_CODE.fullmatch(word)]
            if codes:
                _refer(found, server, directive, directive.args[-1], codes)
    return found


def _refer(
    found: dict[int, list[dict[str, Any]]], server: Level, directive: Directive, target: str, codes: list[int]
) -> None:
    uri = target if target.startswith("@") else target.split("?", 1)[0]
    if "$" in uri or not uri.startswith(("/", "@")):
        return
    try:
        level = find(server, uri)
    except Unsure:
        return
    if level is not None:
        entry = {
            "kind": directive.name,
            "uri": target,
            "codes": codes,
            "file": directive.file,
            "line": directive.line,
        }
        entries = found.setdefault(id(level), [])
        if entry not in entries:
            entries.append(entry)
