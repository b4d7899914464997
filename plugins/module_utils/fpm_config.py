# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PHP-FPM's configuration, read as FPM reads it: one master's file and all it includes.

`load()` gives the values that are in effect (as ``php-fpm -tt`` would print
them) and, for each, the file and line that set it. Where FPM stops at the first
mistake, this goes on: every mistake is in ``problems`` and the rest is still there.

Two rules surprise: a plain directive takes its *last* value, but of a repeated
``env[X]``, ``php_value[x]`` or ``php_admin_value[x]`` FPM lets the *first* win.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_checks import finish
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import (
    ARRAYS,
    FACILITIES,
    GLOBAL,
    LOG_LEVELS,
    POOL,
    SUPPRESS_PATH_SINCE,
    Directive,
    Version,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_ini import (
    IniSyntaxError,
    Statement,
    c_int,
    parse_line,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import (
    Build,
    FpmConfig,
    Pool,
    Problem,
    Setting,
    Source,
)

# FPM refuses a sixth file inside files.
_MAX_DEPTH = 5
_INTEGER = re.compile(r"-?[0-9]*\Z")
_BOOLEAN_WORDS = {
    **dict.fromkeys(("yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "none", "false", "off"), False),
}
_BOOLEAN_WORDS_SINCE: Version = (8, 2)
_NO_COMMENT = "'#' does not start a comment: use ';'"
_UNITS = {"m": 60, "h": 3600, "d": 86400}


def load(config_file: str, source: Source, build: Build | None = None) -> FpmConfig:
    """Read a master's configuration; never raises for what the files hold.

    :param config_file: the path given to ``php-fpm --fpm-config``.
    """
    reader = _Reader(config_file, source, build or Build())
    reader.read(config_file, None, None)
    finish(reader.config, reader.build)
    return reader.config


def convert(directive: Directive, text: str, version: Version | None = None) -> Any:
    """The typed value of a directive, as that PHP takes it.

    :raises ValueError: with the reason, where FPM refuses the text.
    """
    kind = directive.kind
    if kind == "int":
        if not _INTEGER.match(text):
            raise ValueError(f"'{text}' is not a whole number")
        return c_int(text)
    if kind == "seconds":
        return _seconds(text)
    if kind == "bool":
        # Unquoted words are "1" or "" by now; quoted ones and variables stay as they are.
        more = version is None or version >= _BOOLEAN_WORDS_SINCE
        if text != "1" and text != "" and not (more and text in _BOOLEAN_WORDS):
            raise ValueError(f"'{text}' is not a boolean: write yes or no, without quotes")
        return text == "1" or _BOOLEAN_WORDS.get(text, False)
    if kind == "core_limit":
        if text.lower() == "unlimited":
            return -1
        if not _INTEGER.match(text) or c_int(text) < 0:
            raise ValueError(f"'{text}' is neither a number from 0 nor 'unlimited'")
        return c_int(text)
    if kind == "log_level":
        if text.lower() not in LOG_LEVELS:
            raise ValueError(f"'{text}' is not a log level: alert, error, warning, notice or debug")
        return LOG_LEVELS[text.lower()]
    if kind == "facility":
        if text.lower() not in FACILITIES:
            raise ValueError(f"'{text}' is not a syslog facility")
        return text.lower()
    if kind == "pm":
        if text.lower() not in ("static", "dynamic", "ondemand"):
            raise ValueError(f"'{text}' is not a process manager: static, dynamic or ondemand")
        return text.lower()
    return text


def _seconds(text: str) -> int:
    if not text:
        raise ValueError("a time is missing")
    unit = text[-1]
    if unit in _UNITS:
        return _UNITS[unit] * c_int(text[:-1])
    if unit == "s":
        return c_int(text[:-1])
    if not "0" <= unit <= "9":
        raise ValueError(f"'{text}' has an unknown unit: use s, m, h or d")
    return c_int(text)


class _Reader:
    """Walks the files in FPM's order; the current pool outlives the file that named it."""

    def __init__(self, config_file: str, source: Source, build: Build) -> None:
        self.config = FpmConfig(config_file)
        self.source = source
        self.build = build
        self.pool: Pool | None = None
        self.by_name: dict[str, Pool] = {}
        self.open: list[str] = []
        self.endless: set[tuple[str | None, int | None]] = set()

    def refuse(self, file: str | None, line: int | None, message: str) -> None:
        self.config.problems.append(Problem(file, line, message))

    def read(self, path: str, from_file: str | None, from_line: int | None) -> None:
        if path in self.open or len(self.open) >= _MAX_DEPTH:
            self.refuse_depth(path, from_file, from_line)
            return
        try:
            text = self.source.read_text(path)
        except OSError as error:
            self.refuse(from_file or path, from_line, f"{path} cannot be read: {error.strerror or error}")
            return
        self.open.append(path)
        self.config.files.append(path)
        lines = text.split("\n")
        self.config.first_lines[path] = lines[0]
        for number, line in enumerate(lines, 1):
            try:
                statements = parse_line(line, self.build.variable, self.build.version)
            except IniSyntaxError as error:
                self.refuse(path, number, str(error))
                continue
            include: str | None = None
            for statement in statements:
                include = self.apply(statement, path, number, line) or include
            if include is not None:
                self.include(include, path, number)
        self.open.pop()

    def refuse_depth(self, path: str, from_file: str | None, from_line: int | None) -> None:
        """Report a line that leads too deep, once.

        It is not followed again: a folder of files that include the folder would take hours.
        """
        if (from_file, from_line) in self.endless:
            return
        self.endless.add((from_file, from_line))
        if path in self.open:
            self.refuse(from_file, from_line, f"{path} includes itself")
        else:
            self.refuse(from_file, from_line, f"{path}: FPM includes files at most {_MAX_DEPTH} deep")

    def include(self, pattern: str, path: str, line: int) -> None:
        if (path, line) in self.endless:
            return
        if not pattern.startswith("/"):
            if self.build.prefix is None:
                self.refuse(path, line, f"include = {pattern}: where a relative path starts is not known")
                return
            pattern = f"{self.build.prefix}/{pattern}"
        magic = re.search(r"[*?\[]", pattern)
        if magic:
            folder = pattern[: pattern.rfind("/", 0, magic.start())] or "/"
            if not self.source.is_dir(folder):
                self.refuse(path, line, f"include = {pattern}: the directory {folder} does not exist")
                return
        files = [found for found in self.source.glob(pattern) if not self.source.is_dir(found)]
        if not files:
            self.config.warnings.append(Problem(path, line, f"include = {pattern}: nothing matches"))
        for found in files:
            self.read(found, path, line)

    def apply(self, statement: Statement, path: str, line: int, text: str) -> str | None:
        """Take one statement in; the result is the pattern of an include."""
        if statement.kind == "section":
            self.enter(statement.name, path, line)
        elif statement.kind == "word":
            is_comment = statement.name.startswith("#")
            self.refuse(
                path, line, _NO_COMMENT if is_comment else f"'{statement.name}' has no value ('=' is missing)"
            )
        elif statement.kind == "array":
            self.set_array(statement, path, line, text)
        elif statement.name == "include":
            if statement.value is None:
                self.refuse(path, line, "include: the path depends on a variable that is not known")
            return statement.value
        else:
            self.set_entry(statement, path, line, text)
        return None

    def enter(self, name: str, path: str, line: int) -> None:
        if name.lower() == "global":
            self.pool = None
            return
        self.pool = self.by_name.get(name.lower())
        if self.pool is None:
            self.pool = self.by_name[name.lower()] = Pool(name, path, line)
            self.config.pools.append(self.pool)

    def expand(self, value: str) -> str:
        """$pool; FPM replaces it wherever it stands, at once."""
        if "$pool" not in value:
            return value
        if self.pool is None:
            raise ValueError("$pool has no meaning outside a pool")
        return value.replace("$pool", self.pool.name)

    def set_entry(self, statement: Statement, path: str, line: int, text: str) -> None:
        known, settings = (GLOBAL, self.config.settings) if self.pool is None else (POOL, self.pool.settings)
        directive = known.get(statement.name.lower())
        if directive is None:
            # Kept under the name as written: it may be a typing mistake that a person looks for.
            settings[statement.name] = Setting(statement.value, path, line)
            self.refuse(path, line, self.unknown(statement.name))
            return
        if not directive.known_to(self.build.version) and directive.since:
            since = ".".join(map(str, directive.since))
            self.refuse(path, line, f"'{directive.name}' is not known to this PHP, only from {since} on")
        if statement.value is None:
            settings[directive.name] = Setting(None, path, line, unresolved=_raw(text))
            return
        try:
            value = convert(directive, statement.value, self.build.version)
            if isinstance(value, str):
                value = self.expand(value)
        except ValueError as error:
            settings[directive.name] = Setting(None, path, line, unresolved=_raw(text))
            self.refuse(path, line, f"{directive.name}: {error}")
            return
        settings[directive.name] = Setting(value, path, line)

    def unknown(self, name: str) -> str:
        if self.pool is None and name.lower() in POOL:
            return f"'{name}' belongs into a pool, but stands in [global]"
        if self.pool is not None and name.lower() in GLOBAL:
            return f"'{name}' belongs into [global], but stands in the pool '{self.pool.name}'"
        if name.startswith("#"):
            return _NO_COMMENT
        return f"'{name}' is not a directive of PHP-FPM"

    def set_array(self, statement: Statement, path: str, line: int, text: str) -> None:
        name, key, value = statement.name, statement.key, statement.value
        try:
            pool = self.pool_of_array(name, key, value)
            if value is not None:
                if name in ("php_flag", "php_admin_flag"):
                    value = "1" if convert(Directive(name, "bool"), value, self.build.version) else "0"
                else:
                    value = self.expand(value)
        except ValueError as error:
            self.refuse(path, line, f"{name}[{key}]: {error}")
            return
        setting = Setting(value, path, line, unresolved=_raw(text) if value is None else None)
        if name == "access.suppress_path":
            index = sum(1 for known in pool.settings if known.startswith("access.suppress_path["))
            pool.settings[f"access.suppress_path[{index}]"] = setting
            return
        kept = f"{ARRAYS[name]}[{key}]"
        first = pool.settings.setdefault(kept, setting)
        if first is not setting and first.value != value:
            where = f"{first.file}:{first.line}"
            self.config.warnings.append(
                Problem(path, line, f"{kept} has no effect: the first value, at {where}, wins in FPM")
            )

    def pool_of_array(self, name: str, key: str, value: str | None) -> Pool:
        if self.pool is None:
            raise ValueError("arrays are not allowed in [global]")
        if name not in ARRAYS:
            raise ValueError("not a directive of PHP-FPM")
        if name == "access.suppress_path":
            if self.build.version is not None and self.build.version < SUPPRESS_PATH_SINCE:
                raise ValueError("not known to this PHP, only from 8.2 on")
            if key:
                raise ValueError("takes no key: write access.suppress_path[] = /path")
            if value is not None and not value.startswith("/"):
                raise ValueError(f"'{value}' does not start with '/'")
        elif not key:
            raise ValueError("the key between the brackets is missing")
        elif name == "env" and value == "":
            raise ValueError("the value is empty")
        return self.pool


def _raw(text: str) -> str:
    return text.partition("=")[2].strip()
