# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nginx directives that matter on the way to PHP: their values, places and defaults (pure).

Durations become seconds, sizes bytes, switches booleans. The places and the
defaults are those of nginx's source (checked against 1.22 and the current one).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive

HTTP, SERVER, LOCATION, IF_SERVER, IF_LOCATION, LIMIT_EXCEPT = (
    "http",
    "server",
    "location",
    "if in server",
    "if in location",
    "limit_except",
)
_LEVELS = frozenset((HTTP, SERVER, LOCATION))

_TIME_PART = re.compile(r"\s*(\d+)(ms|[wdhms]?)\s*")
_MILLISECONDS = {"w": 604800000, "d": 86400000, "h": 3600000, "m": 60000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"(\d+)([kKmMgG]?)")
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_time(text: str) -> int | float:
    """``1h 30m``, ``90``, ``500ms`` -> seconds, an int where it is whole.

    :raises ValueError: nginx would say "invalid value".
    """
    total = 0
    position = 0
    units = list(_MILLISECONDS)
    while units and position < len(text):
        part = _TIME_PART.match(text, position)
        # Units go from large to small, each once; a bare number means seconds and ends the time.
        if not part or (part[2] or "s") not in units:
            break
        unit = part[2] or "s"
        units = units[units.index(unit) + 1 :] if part[2] else []
        total += int(part[1]) * _MILLISECONDS[unit]
        position = part.end()
    if not text or position < len(text):
        raise ValueError(f'"{text}" is no time; write it like 60s, 5m or 500ms')
    return total / 1000 if total % 1000 else total // 1000


def parse_size(text: str, giga: bool = False) -> int:
    """``8k``, ``1m`` -> bytes; ``g`` only where nginx takes it (client_max_body_size).

    :raises ValueError: nginx would say "invalid value".
    """
    match = _SIZE.fullmatch(text)
    if not match or (match[2] in ("g", "G") and not giga):
        raise ValueError(f'"{text}" is no size; write it like 16k or 1m')
    return int(match[1]) * _FACTOR[match[2].lower()]


def _time(args: list[str]) -> Any:
    return parse_time(args[0])


def _size(args: list[str]) -> Any:
    return parse_size(args[0])


def _offset(args: list[str]) -> Any:
    return parse_size(args[0], giga=True)


def _flag(args: list[str]) -> Any:
    if args[0].lower() not in ("on", "off"):
        raise ValueError(f'"{args[0]}" must be "on" or "off"')
    return args[0].lower() == "on"


def _number(args: list[str]) -> Any:
    if not args[0].isdigit():
        raise ValueError(f'"{args[0]}" is no number')
    return int(args[0])


def _buffers(args: list[str]) -> Any:
    number = _number(args)
    if not number:
        raise ValueError("the number of buffers is 0")
    return {"number": number, "size_bytes": parse_size(args[1])}


def _words(args: list[str]) -> Any:
    return list(args)


def _text(args: list[str]) -> Any:
    return args[0]


@dataclass(frozen=True)
class Setting:
    """How one directive is read.

    :ivar parse: its arguments -> the value.
    :ivar default: the value where no level sets it; PAGE stands for the page size.
    :ivar levels: where nginx accepts it.
    :ivar repeats: it may stand several times in one level; their arguments are joined.
    :ivar last: the last of several in one level counts (nginx does not refuse them).
    """

    name: str
    parse: Callable[[list[str]], Any]
    default: Any
    levels: frozenset[str] = _LEVELS
    least: int = 1
    most: int = 1
    repeats: bool = False
    last: bool = False


class PageSize:
    """Marks a default that is the machine's page size."""


PAGE = PageSize()

_SETTINGS = (
    Setting("fastcgi_connect_timeout", _time, 60),
    Setting("fastcgi_send_timeout", _time, 60),
    Setting("fastcgi_read_timeout", _time, 60),
    Setting("fastcgi_buffering", _flag, True),
    Setting("fastcgi_request_buffering", _flag, True),
    Setting("fastcgi_buffer_size", _size, PAGE),
    Setting("fastcgi_buffers", _buffers, PAGE, least=2, most=2),
    Setting("fastcgi_busy_buffers_size", _size, None),
    Setting("fastcgi_max_temp_file_size", _size, 1 << 30),
    Setting("fastcgi_next_upstream", _words, ["error", "timeout"], most=99, repeats=True),
    Setting("fastcgi_next_upstream_tries", _number, 0),
    Setting("fastcgi_next_upstream_timeout", _time, 0),
    Setting("fastcgi_keep_conn", _flag, False),
    Setting("fastcgi_index", _text, None),
    Setting("fastcgi_split_path_info", _text, None, last=True),
    Setting("fastcgi_intercept_errors", _flag, False),
    Setting("fastcgi_ignore_client_abort", _flag, False),
    Setting("fastcgi_pass_request_body", _flag, True),
    Setting("fastcgi_pass_request_headers", _flag, True),
    Setting("fastcgi_cache", _text, "off"),
    Setting("client_max_body_size", _offset, 1 << 20),
    Setting("client_body_timeout", _time, 60),
    Setting("client_header_timeout", _time, 60, frozenset((HTTP, SERVER))),
    Setting("client_header_buffer_size", _size, 1024, frozenset((HTTP, SERVER))),
    Setting(
        "large_client_header_buffers",
        _buffers,
        {"number": 4, "size_bytes": 8192},
        frozenset((HTTP, SERVER)),
        least=2,
        most=2,
    ),
    Setting("send_timeout", _time, 60),
    Setting("keepalive_timeout", _time, 75, most=2),
    Setting("resolver", _words, None, most=99),
    Setting("resolver_timeout", _time, 30),
    Setting("index", _words, ["index.html"], most=99, repeats=True),
)
SETTINGS = {setting.name: setting for setting in _SETTINGS}

# Further directives that are read elsewhere: name -> (levels, least and most arguments, may repeat).
_IN_IF = _LEVELS | {IF_LOCATION}
_REWRITE = frozenset((SERVER, LOCATION, IF_SERVER, IF_LOCATION))
_LIMITED = _LEVELS | {LIMIT_EXCEPT}
RULES: dict[str, tuple[frozenset[str], int, int, bool]] = {
    "fastcgi_pass": (frozenset((LOCATION, IF_LOCATION)), 1, 1, False),
    "fastcgi_param": (_LEVELS, 2, 3, True),
    "root": (_IN_IF, 1, 1, False),
    "alias": (frozenset((LOCATION,)), 1, 1, False),
    "try_files": (frozenset((SERVER, LOCATION)), 2, 999, False),
    "error_page": (_IN_IF, 2, 999, True),
    "error_log": (_LEVELS, 1, 2, True),
    "allow": (_LIMITED, 1, 1, True),
    "deny": (_LIMITED, 1, 1, True),
    "auth_basic": (_LIMITED, 1, 1, False),
    "auth_request": (_LEVELS, 1, 1, False),
    "satisfy": (_LEVELS, 1, 1, False),
    "internal": (frozenset((LOCATION,)), 0, 0, False),
    "set": (_REWRITE, 2, 2, True),
    "rewrite": (_REWRITE, 2, 3, True),
    "return": (_REWRITE, 1, 2, True),
    "break": (_REWRITE, 0, 0, True),
    "server_name": (frozenset((SERVER,)), 1, 999, True),
    "listen": (frozenset((SERVER,)), 1, 99, True),
}
for _setting in _SETTINGS:
    RULES[_setting.name] = (_setting.levels, _setting.least, _setting.most, _setting.repeats or _setting.last)


def misplaced(directive: Directive, level: str, earlier: Directive | None) -> str | None:
    """What nginx would refuse about a directive in its place, in nginx's words; None if it takes it.

    :param earlier: one of the same name in the same level.
    """
    rule = RULES.get(directive.name)
    if rule is None:
        return None
    levels, least, most, repeats = rule
    if level not in levels:
        return f'"{directive.name}" directive is not allowed here ({level})'
    if directive.block is not None:
        return f'directive "{directive.name}" is not terminated by ";"'
    if not least <= len(directive.args) <= most:
        return f'invalid number of arguments in "{directive.name}" directive'
    if earlier is not None and not repeats:
        return f'"{directive.name}" directive is duplicate (the first is {earlier.file}:{earlier.line})'
    return None
