# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one entry of a description: known keys, familiar names, types.

A reader never raises for a user's mistake. It writes the mistake down, in
words and with its place, and goes on, so that one run reports all of them.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Callable

_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d)?$")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"^(\d+)\s*([KMG])?B?$", re.IGNORECASE)
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")
# What would end a directive, or start another one, in a file that we render.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass
class Notes:
    """Everything that is wrong, or merely worth saying, with a description."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, where: str, what: str) -> None:
        self.errors.append(f"{where}: {what}")

    def warn(self, where: str, what: str) -> None:
        self.warnings.append(f"{where}: {what}")


@dataclass(frozen=True)
class Key:
    """A key that an entry may have.

    :param read: turns a raw value into the planned one, raising ValueError in words.
    """

    read: Callable[[Any], Any]
    default: Any = None
    required: bool = False


def text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("must be a text")
    result = str(value)
    if _CONTROL.search(result):
        raise ValueError("must be on one line, without control characters")
    return result


def word(value: Any) -> str:
    """A text that stands unquoted in a configuration file: no blanks, quotes, ; { }."""
    result = text(value)
    if not result or re.search(r"[\s;{}\"'#\\]", result):
        raise ValueError(f"{result!r} may not be empty or hold blanks, quotes, ; # {{ }} or backslashes")
    return result


def block(value: Any) -> str:
    """A text of any number of lines."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.rstrip("\n")


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    lowered = str(value).strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(f"{shown(value)} is neither true nor false")


def integer(minimum: int | None = None, maximum: int | None = None) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not re.match(r"^-?\d+$", str(value).strip()):
            raise ValueError(f"{shown(value)} is not a whole number")
        number = int(str(value).strip())
        if minimum is not None and number < minimum:
            raise ValueError(f"{number} is less than {minimum}")
        if maximum is not None and number > maximum:
            raise ValueError(f"{number} is more than {maximum}")
        return number

    return read


def seconds(value: Any) -> int:
    """A duration such as 30, "30s" or "5m", in seconds. 0 stays 0: it means no limit."""
    match = None if isinstance(value, bool) else _DURATION.match(str(value).strip())
    if not match:
        raise ValueError(f"{shown(value)} is not a duration; write seconds, or a number with s, m, h or d")
    return int(match.group(1)) * _SECONDS[match.group(2)]


def size(value: Any) -> str:
    """A size as PHP and nginx both write it, such as 128M; kept as written."""
    if isinstance(value, bool) or not _SIZE.match(str(value).strip()):
        raise ValueError(f"{shown(value)} is not a size; write bytes, or a number with K, M or G")
    return str(value).strip()


def size_bytes(value: str) -> int:
    """Bytes of a size that `size` has accepted."""
    match = _SIZE.match(value)
    if not match:
        raise ValueError(f"{shown(value)} is not a size")
    return int(match.group(1)) * _BYTES[(match.group(2) or "").upper()]


def file_mode(value: Any) -> str:
    """An octal mode. YAML reads 0660 as a number, which is how a mode gets lost: ask for a text."""
    if isinstance(value, int):
        raise ValueError(f"{shown(value)} is a number; quote the mode, as in '0660'")
    if not re.match(r"^0?[0-7]{3}$", str(value)):
        raise ValueError(f"{shown(value)} is not an octal mode such as '0660'")
    return str(value).rjust(4, "0")


def choice(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{shown(value)} is unknown; use {', '.join(allowed[:-1])} or {allowed[-1]}")
        return str(value)

    return read


def absolute_path(value: Any) -> str:
    path = word(value)
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path")
    return path


def list_of(read: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """A list; one lone value counts as a list of one."""

    def read_list(value: Any) -> list[Any]:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        return [read(item) for item in items]

    return read_list


def mapping(value: Any) -> dict[str, str]:
    """A dictionary of settings; booleans become on and off, as PHP writes them."""
    if not isinstance(value, dict):
        raise ValueError("must be a dictionary")
    result = {}
    for key, item in value.items():
        name = str(key)
        if not re.match(r"^[A-Za-z0-9_.\-]+$", name):
            raise ValueError(f"{name!r} is not the name of a setting")
        if item is None:
            result[name] = ""
        else:
            result[name] = ("on" if item else "off") if isinstance(item, bool) else text(item)
    return result


def either(word_: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`word_` itself, or what `read` takes."""
    return lambda value: word_ if value == word_ else read(value)


def entry_name(entry: Any, keys: tuple[str, ...]) -> str:
    """How messages call an entry: by its name where it has one."""
    if isinstance(entry, dict):
        for key in keys:
            if entry.get(key):
                return f" ({entry[key]})"
    return ""


def kind_of(value: Any) -> str:
    """The kind of a value in YAML's words; Ansible's own type names say nothing to who wrote it."""
    kinds = ((type(None), "nothing"), (bool, "true or false"), (str, "a text"), ((int, float), "a number"),
             (dict, "a mapping"), ((list, tuple), "a list"))  # fmt: skip
    return next((words for types, words in kinds if isinstance(value, types)), "something else")


def shown(value: Any) -> str:
    """A value as its user wrote it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return kind_of(value) if isinstance(value, (dict, list, tuple)) else repr(value)


def read_entry(
    raw: Any, schema: dict[str, Key], where: str, notes: Notes, aliases: dict[str, str]
) -> dict[str, Any] | None:
    """One entry with every key of the schema, or None where nothing can be made of it.

    :param aliases: familiar name → ours; a use of one is warned about.
    """
    if not isinstance(raw, dict):
        notes.error(where, f"must be a mapping with a name, not {kind_of(raw)}")
        return None
    given: dict[str, Any] = {}
    for original, value in raw.items():
        key = aliases.get(original, original)
        if key != original:
            notes.warn(where, f"{original} is understood as {key}; please write {key}")
        if key in given:
            notes.error(where, f"{key} is given twice, once by another name")
        elif key not in schema:
            near = difflib.get_close_matches(str(original), schema, n=1)
            notes.error(
                where, f"{original} is no key of this entry" + (f"; did you mean {near[0]}?" if near else "")
            )
        else:
            given[key] = value
    result: dict[str, Any] = {}
    for name, key_ in schema.items():
        if given.get(name) is None:
            if key_.required:
                notes.error(where, f"{name} is missing")
            result[name] = key_.default
            continue
        try:
            result[name] = key_.read(given[name])
        except ValueError as problem:
            notes.error(where, f"{name}: {problem}")
            result[name] = key_.default
    result["_given"] = {name for name in given if given[name] is not None}
    return result
