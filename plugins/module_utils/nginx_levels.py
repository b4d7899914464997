# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The levels of an nginx configuration, and what each inherits (pure).

nginx's own rule, directive by directive: a level that says nothing about a
directive takes over what the level around it has; one that says anything takes
over nothing. So one ``fastcgi_param`` in a location drops all those of the
server. Exceptions are where nginx has none: ``try_files`` and
``internal`` of an outer level, see below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import ConfigError, Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_settings import (
    HTTP,
    IF_LOCATION,
    IF_SERVER,
    LIMIT_EXCEPT,
    LOCATION,
    PAGE,
    RULES,
    SERVER,
    SETTINGS,
    Setting,
    misplaced,
)

_INNER = {
    ("location", SERVER): LOCATION,
    ("location", LOCATION): LOCATION,
    ("if", SERVER): IF_SERVER,
    ("if", LOCATION): IF_LOCATION,
    ("limit_except", LOCATION): LIMIT_EXCEPT,
}

_MAIN_BLOCKS = frozenset(("geo", "map", "server", "split_clients", "upstream"))
_HTTP_ONLY = _MAIN_BLOCKS | {"if", "limit_except", "location"}
_SERVER_ONLY = frozenset(
    ("break", "if", "listen", "location", "return", "rewrite", "server_name", "set", "try_files")
)
_EITHER = {"root": "alias", "alias": "root"}
_LOCATION_ONLY = frozenset(("alias", "fastcgi_pass", "internal", "limit_except"))


class Level:
    """One level: http, a server, a location, or a nameless one inside (if, limit_except)."""

    def __init__(self, kind: str, directive: Directive | None, parent: Level | None, shared: Shared) -> None:
        self.kind = kind
        self.directive = directive
        self.parent = parent
        self.shared = shared
        self.own: dict[str, list[Directive]] = {}
        self.children: list[Level] = []
        # set, rewrite, break and return with their ifs, in the order in which nginx runs them.
        self.rewrites: list[Directive | Level] = []
        # allow and deny in their order, which decides.
        self.access: list[Directive] = []
        self._settings: dict[str, dict[str, Any]] = {}

    @property
    def opening(self) -> Directive:
        """The directive that opens it, as one opens every level below http."""
        if self.directive is None:
            raise LookupError(f"no directive opens {self.kind}")
        return self.directive

    def walk(self) -> Iterator[Level]:
        """This level and all inside, in the order of the file."""
        yield self
        for child in self.children:
            yield from child.walk()

    def nearest(self, *names: str) -> list[Directive]:
        """Those directives of the nearest level that has any of them; else an empty list."""
        level: Level | None = self
        while level is not None:
            found = [directive for name in names for directive in level.own.get(name, ())]
            if found:
                return found
            level = level.parent
        return []

    def holder(self, *names: str) -> Level | None:
        """The level that nearest() found them in."""
        level: Level | None = self
        while level is not None and not any(name in level.own for name in names):
            level = level.parent
        return level

    def setting(self, name: str) -> dict[str, Any]:
        """The effective value of a directive of SETTINGS, and where it was set.

        :return: ``value`` (None where the text is not valid), ``default``, and ``file``, ``line``, ``level``, which
            are None for a default. The dict is shared: do not change it.
        """
        known = self._settings.get(name)
        if known is None:
            if name in self.own:
                known = self._read(SETTINGS[name])
            elif self.parent is not None:
                known = self.parent.setting(name)
            else:
                value = SETTINGS[name].default
                if value is PAGE:
                    page = self.shared.page_size
                    value = page if name == "fastcgi_buffer_size" else {"number": 8, "size_bytes": page}
                known = {"value": value, "default": True, "file": None, "line": None, "level": None}
            self._settings[name] = known
        return known

    def _read(self, setting: Setting) -> dict[str, Any]:
        found = self.own[setting.name]
        chosen = found[-1] if setting.last else found[0]
        args = [word for directive in found for word in directive.args] if setting.repeats else chosen.args
        try:
            value = setting.parse(args)
        except ValueError as error:
            self.shared.error(f'invalid value in "{setting.name}" directive: {error}', chosen)
            value = None
        except IndexError:  # too few arguments: reported where the level was built
            value = None
        return {
            "value": value,
            "default": False,
            "file": chosen.file,
            "line": chosen.line,
            "level": self.kind,
        }


class Shared:
    """What all levels of one configuration share.

    :ivar page_size: nginx's default for buffers, in bytes.
    :ivar upstreams: lower-case name -> the ``upstream`` block.
    :ivar variables: variable name -> the ``map``, ``geo`` or ``split_clients`` blocks that define it.
    """

    def __init__(self, page_size: int, errors: list[ConfigError]) -> None:
        self.page_size = page_size
        self.errors = errors
        self.main: dict[str, list[Directive]] = {}
        self.upstreams: dict[str, Directive] = {}
        self.variables: dict[str, list[Directive]] = {}
        self.servers: list[Level] = []
        self.http = Level(HTTP, None, None, self)
        self._said: set[tuple[str, int | None, str]] = set()

    def error(self, message: str, directive: Directive) -> None:
        """Note an error once: a snippet that hundreds of servers include would repeat it."""
        key = (directive.file, directive.line, message)
        if key not in self._said:
            self._said.add(key)
            self.errors.append(ConfigError(message, directive.file, directive.line))


def build(directives: list[Directive], page_size: int, errors: list[ConfigError]) -> Shared:
    """Sort a tree into levels.

    Files that are only a part of a configuration (a site file) are read as if
    they stood inside ``http { }``, with an error that says so.
    """
    shared = Shared(page_size, errors)
    http = shared.http
    loose: list[Directive] = []
    for directive in directives:
        name = directive.name
        if name in _HTTP_ONLY or (name in RULES and name != "error_log"):
            loose.append(directive)
            continue
        if name == "http" and directive.block is not None:
            if "http" in shared.main:
                shared.error('"http" directive is duplicate', directive)
            _fill(http, directive.block, shared)
        shared.main.setdefault(name, []).append(directive)
    if loose:
        _loose(http, loose, shared)
    return shared


def _loose(http: Level, directives: list[Directive], shared: Shared) -> None:
    """Place what stands outside of http, in a file that is only a part of a configuration."""
    names = {directive.name for directive in directives}
    level = http
    if "http" not in shared.main and not names.isdisjoint(_SERVER_ONLY | _LOCATION_ONLY):
        first = directives[0]
        nameless = Directive("", [], first.file, first.line, [])
        level = Level(SERVER, nameless, http, shared)
        http.children.append(level)
        shared.servers.append(level)
        if not names.isdisjoint(_LOCATION_ONLY):
            inner = Level(LOCATION, nameless, level, shared)
            level.children.append(inner)
            level = inner
    inside = "http" if level is http else f"a {level.kind}"
    shared.error(
        f'"{directives[0].name}" directive is not allowed here (outside of http); a part of a configuration is'
        f" read as the inside of {inside}",
        directives[0],
    )
    for directive in directives:
        _fill(http if directive.name in _MAIN_BLOCKS else level, [directive], shared)


def _fill(level: Level, directives: list[Directive], shared: Shared) -> None:
    own = level.own
    kind = level.kind
    for directive in directives:
        name = directive.name
        if directive.block is not None:
            _block(level, directive, shared)
            continue
        if name in RULES:
            earlier = own.get(name)
            wrong = misplaced(directive, kind, earlier[0] if earlier else None)
            other = own.get(_EITHER.get(name, ""))
            if other and not wrong:
                wrong = f'"{name}" directive is duplicate, "{other[0].name}" directive was specified earlier'
            if wrong:
                shared.error(wrong, directive)
            if wrong and kind not in RULES[name][0]:
                continue
            if name in ("set", "rewrite", "break", "return"):
                level.rewrites.append(directive)
            elif name in ("allow", "deny"):
                level.access.append(directive)
        own.setdefault(name, []).append(directive)


def _block(level: Level, directive: Directive, shared: Shared) -> None:
    name = directive.name
    block = directive.block or []
    if name == "server":
        http = level
        while http.parent is not None:
            http = http.parent
        if level is not http:
            shared.error(
                f'"server" directive is not allowed here ({level.kind}): is a "}}" missing above?', directive
            )
        server = Level(SERVER, directive, http, shared)
        http.children.append(server)
        shared.servers.append(server)
        _fill(server, block, shared)
    elif (name, level.kind) in _INNER:
        inner = Level(_INNER[name, level.kind], directive, level, shared)
        level.children.append(inner)
        if name == "if":
            level.rewrites.append(inner)
        _fill(inner, block, shared)
    elif name == "upstream":
        key = directive.args[0].lower() if directive.args else ""
        if key in shared.upstreams:
            first = shared.upstreams[key]
            shared.error(f'duplicate upstream "{key}" (the first is {first.file}:{first.line})', directive)
        shared.upstreams.setdefault(key, directive)
    elif name in ("map", "geo", "split_clients"):
        if directive.args:
            variable = directive.args[-1].lstrip("$")
            shared.variables.setdefault(variable, []).append(directive)
    elif name in ("location", "if", "limit_except"):
        shared.error(f'"{name}" directive is not allowed here ({level.kind})', directive)
    elif name in RULES:
        shared.error(f'directive "{name}" is not terminated by ";"', directive)
