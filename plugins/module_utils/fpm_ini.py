# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PHP's INI dialect as PHP-FPM reads it: one line at a time.

FPM hands each line of a file to PHP's INI parser on its own, so nothing spans
lines. Within a line the dialect is PHP's "normal" scanner mode: values are
expressions (``E_ALL & ~E_NOTICE``), bare words may be PHP constants, ``${X}`` is
a variable of the environment, ``yes`` and ``none`` are booleans, and ``#`` starts
nothing at all. The scanner below keeps PHP's states and its longest-match rule,
because real files depend on the corners: a lone single quote ends the line, a
space before ``[`` makes a section an array.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Callable

_LABEL = r'[^=\n\r\t;&|^$~(){}!"\[\]\x00]+'
_NEWLINE = r"(?:\r\n|\r|\n)"
_DOLLAR = r"\$\\[\s\S]|\$[^{\x00]"
_CONSTANT = r"[a-zA-Z_][a-zA-Z0-9_]*"
_NUMBER = r"-?[0-9]+|[0-9]*\.[0-9]+|[0-9]+\.[0-9]*"
_VALUE = rf"(?:[^$= \t\n\r;&|^~()!\"'\x00]|{_DOLLAR})+"
_OFFSET = rf"(?:[^$\n\r;\"'\]\\]|\\[\s\S]|{_DOLLAR})+"
_COMMENT = rf"[ \t]*;[^\r\n]*{_NEWLINE}"
_BOOLEANS = (
    ("true", r"(?i:true|on|yes)[ \t]*"),
    ("false", r"(?i:false|off|none|no)[ \t]*"),
    ("false", r"(?i:null)[ \t]*"),
)
# Where a section's or an array's name is read, the same rules hold.
_NAME_RULES = (
    ("raw", r"'[^']+'"),
    ("variable", r"\$\{"),
    ("constant", _CONSTANT),
    ("string", _NUMBER),
    ("string", _OFFSET),
    ("quote", r'[ \t]*"'),
    ("string", r"[ \t]+"),
)


# By scanner state, in PHP's order: the longest match wins, then the first rule.
_RULES = {
    "initial": (
        ("section", r"\["),
        ("offset", rf"{_LABEL}\[[ \t]*"),
        *_BOOLEANS,
        ("label", _LABEL),
        ("=", r"[ \t]*=[ \t]*"),
        ("skip", r"[ \t]+"),
        ("end", rf"[ \t]*{_NEWLINE}"),
        ("end", _COMMENT),
    ),
    "value": (
        ("raw", r"'[^']+'"),
        ("variable", r"\$\{"),
        *_BOOLEANS,
        ("end", rf"[ \t]*{_NEWLINE}"),
        ("constant", _CONSTANT),
        ("string", _NUMBER),
        ("operator", r"[&|^~()!][ \t]*"),
        ("string", _VALUE),
        ("quote", r'[ \t]*"'),
        ("string", r"[ \t]+"),
        ("end", _COMMENT),
    ),
    "section": (("]", rf"\][ \t]*{_NEWLINE}?"), *_NAME_RULES),
    "offset": (("]", r"[ \t]*\]"), *_NAME_RULES),
}
_VARIABLE = re.compile(rf"({_LABEL})\}}")
_IGNORED = re.compile(r"[ \t]*(?:;.*)?\r?\Z")
# Most lines: a known kind of name, then one word that no rule of PHP changes.
_PLAIN = re.compile(
    r"[ \t]*([a-z][a-z_.]*)(?:\[([A-Za-z0-9_.]*[a-z0-9.])\])?[ \t]*=[ \t]*([A-Za-z0-9_./:%+@,\\-]*[0-9./a-z])[ \t]*\r?\Z"
)
_PLAIN_SECTION = re.compile(r"\[([A-Za-z0-9_.-]*[a-z][A-Za-z0-9_.-]*)\][ \t]*\r?\Z")
_QUOTE_CLOSE = re.compile(r'"[ \t]*')
_ESCAPED = re.compile(r"\\([\\\"])")

_E_CONSTANTS = {
    "E_ERROR": 1,
    "E_WARNING": 2,
    "E_PARSE": 4,
    "E_NOTICE": 8,
    "E_CORE_ERROR": 16,
    "E_CORE_WARNING": 32,
    "E_COMPILE_ERROR": 64,
    "E_COMPILE_WARNING": 128,
    "E_USER_ERROR": 256,
    "E_USER_WARNING": 512,
    "E_USER_NOTICE": 1024,
    "E_STRICT": 2048,
    "E_RECOVERABLE_ERROR": 4096,
    "E_DEPRECATED": 8192,
    "E_USER_DEPRECATED": 16384,
}
_WORD_CONSTANTS = {
    "PHP_OS": "Linux",
    "PHP_OS_FAMILY": "Linux",
    "PHP_SAPI": "fpm-fcgi",
    "DIRECTORY_SEPARATOR": "/",
    "PATH_SEPARATOR": ":",
}


# Words that end like a plain one and are not: booleans, and the constants in small letters.
_SPECIAL_WORDS = frozenset({"true", "on", "yes", "false", "off", "none", "no", "null"})


@functools.cache
def _rules(state: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, re.compile(pattern)) for kind, pattern in _RULES[state])


class IniSyntaxError(ValueError):
    """A line that PHP's INI parser refuses; str() says what stands wrong."""


@dataclass(frozen=True)
class Statement:
    """What one line says.

    :param kind: ``section`` ([name]), ``entry`` (name = value), ``array`` (name[key] = value) or
        ``word`` (a name without a value, which FPM refuses).
    :param value: None where it depends on something unknown (a variable of the environment).
    """

    kind: str
    name: str
    key: str = ""
    value: str | None = None


def php_constant(name: str, version: tuple[int, int] | None) -> tuple[bool, str | None]:
    """(is a constant, its value as text or None where it depends on an unknown version)."""
    if name == "E_ALL":
        # PHP 8.4 took E_STRICT out of E_ALL.
        return True, None if version is None else str(30719 if version >= (8, 4) else 32767)
    if name in _E_CONSTANTS:
        return True, str(_E_CONSTANTS[name])
    if name in _WORD_CONSTANTS:
        return True, _WORD_CONSTANTS[name]
    if name == "PHP_VERSION":
        return True, None
    special = {"true": "1", "false": "", "null": ""}.get(name.lower())
    return special is not None, special


def c_int(text: str) -> int:
    """atoi(3): leading blanks, a sign, digits; the rest is ignored; 32 bits wide."""
    match = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", text)
    number = int(match.group(1)) if match else 0
    number = max(-(2**63), min(2**63 - 1, number))
    return (number + 2**31) % 2**32 - 2**31


def parse_line(
    line: str,
    variable: Callable[[str], str | None],
    version: tuple[int, int] | None = None,
) -> list[Statement]:
    """The statements of one line (without its newline).

    :param variable: the value of ``${name}``; None where it is not known.
    :raises IniSyntaxError: where PHP reports a syntax error.
    """
    if _IGNORED.match(line):
        return []
    section = _PLAIN_SECTION.match(line)
    if section and section.group(1).lower() not in _SPECIAL_WORDS:
        return [Statement("section", section.group(1))]
    plain = _PLAIN.match(line)
    if plain and plain.group(3).lower() not in _SPECIAL_WORDS:
        name, key, value = plain.groups()
        if key is None:
            return [Statement("entry", name, "", value)]
        return [Statement("array", name, key, value)]
    # C strings: PHP sees nothing behind a NUL, not even the newline.
    text = line.split("\0", 1)[0] if "\0" in line else line + "\n"
    if text.startswith("\ufeff"):
        text = text[1:]
    return _LineParser(text, variable, version).statements()


class _LineParser:
    """A scanner with PHP's states and a recursive-descent parser over its tokens."""

    def __init__(
        self, text: str, variable: Callable[[str], str | None], version: tuple[int, int] | None
    ) -> None:
        self.text = text
        self.position = 0
        self.state = "initial"
        self.variable = variable
        self.version = version
        self.token: tuple[str, str] = ("eof", "")
        self.advance()

    # -- scanner --------------------------------------------------------------------------------

    def advance(self) -> None:
        self.token = self.scan()
        while self.token[0] == "skip":
            self.token = self.scan()

    def scan(self) -> tuple[str, str]:
        if self.position >= len(self.text):
            if self.state == "value":
                self.state = "initial"
                return "end", ""
            return "eof", ""
        best, kind = "", ""
        for candidate, rule in _rules(self.state):
            match = rule.match(self.text, self.position)
            if match and len(match.group()) > len(best):
                best, kind = match.group(), candidate
        if not best:
            return self.scan_other()
        self.position += len(best)
        if kind in ("section", "offset"):
            self.state = kind
            return kind, best.strip(" \t").rstrip("[ \t\r\n")
        if kind == "=":
            self.state = "value"
        elif kind in ("]", "end"):
            self.state = "initial"
        elif kind == "raw":
            return "string", best[1:-1]
        elif kind == "label":
            return kind, best.strip(" \t")
        elif kind == "operator":
            return best[0], best
        return kind, best

    def scan_other(self) -> tuple[str, str]:
        """A character that no rule of the state begins with."""
        char = self.text[self.position]
        if self.state == "initial":
            self.position += 1
            return "stray", char
        state, self.state = self.state, "initial"
        if state == "value" and char == "=":
            return "end", char
        # A quote that nothing closes: PHP reads no further, as if the input ended here.
        self.position = len(self.text)
        return "eof", char

    def quoted(self) -> str | None:
        """The inside of a double-quoted string; the opening quote has been read."""
        parts: list[str | None] = []
        while True:
            close = _QUOTE_CLOSE.match(self.text, self.position)
            if close:
                self.position = close.end()
                return _join(parts)
            if self.text.startswith("${", self.position):
                self.position += 2
                parts.append(self.reference())
                continue
            end = self.quoted_end()
            parts.append(_ESCAPED.sub(r"\1", self.text[self.position : end]))
            self.position = end

    def quoted_end(self) -> int:
        """Where the quoted text stops: at its closing quote or before a variable."""
        at = self.position
        while at < len(self.text):
            char = self.text[at]
            following = self.text[at + 1 : at + 2]
            if char == '"' or (char == "$" and following == "{"):
                return at
            if char == "\\" and following:
                # A backslash before the last quote of the line is a Windows path, not an escape.
                if following == '"' and self.text[at + 2 : at + 3] in ("", "\n", "\r"):
                    return at + 1
                at += 1
            at += 1
        raise IniSyntaxError('a double quote (") is not closed on this line')

    def reference(self) -> str | None:
        """The value of a variable; its ``${`` has been read."""
        match = _VARIABLE.match(self.text, self.position)
        if not match:
            raise IniSyntaxError("'${' is not followed by a name and '}'")
        self.position = match.end()
        name, found, fallback = match.group(1), "", ""
        if self.version is not None and self.version >= (8, 3):
            name, found, fallback = name.partition(":-")
        value = self.variable(name.strip(" \t"))
        return fallback if found and value == "" else value

    # -- grammar --------------------------------------------------------------------------------

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        while self.token[0] != "eof":
            kind, text = self.token
            self.advance() if kind == "end" else found.append(self.statement(kind, text))
        return found

    def statement(self, kind: str, text: str) -> Statement:
        if kind == "section":
            self.advance()
            name = self.strings(constants=False) if self.token[0] != "]" else ""
            self.expect("]", "the section's name is not closed by ']'")
            if name is None:
                raise IniSyntaxError("the section's name depends on a variable of the environment")
            return Statement("section", name)
        if kind == "label":
            self.advance()
            if self.token[0] != "=":
                return Statement("word", text)
            return Statement("entry", text, "", self.value())
        if kind == "offset":
            self.advance()
            key = self.strings() if self.token[0] != "]" else ""
            self.expect("]", f"'{text}[' is not closed by ']'")
            if self.token[0] != "=":
                raise IniSyntaxError(f"'{text}[{key}]' is not followed by '='")
            if key is None:
                raise IniSyntaxError(f"the key of '{text}[…]' depends on a variable of the environment")
            return Statement("array", text, key, self.value())
        raise IniSyntaxError(_unexpected(self.token))

    def value(self) -> str | None:
        self.advance()
        kind = self.token[0]
        if kind in ("true", "false", "end"):
            self.advance()
            value: str | None = "1" if kind == "true" else ""
        else:
            value = self.expression()
        if self.token[0] not in ("end", "eof"):
            raise IniSyntaxError(f"{_unexpected(self.token)} in the value; put the value in double quotes")
        return value

    def expression(self) -> str | None:
        left = self.operand()
        while self.token[0] in ("|", "&", "^"):
            operator = self.token[0]
            self.advance()
            right = self.operand()
            if left is None or right is None:
                left = None
                continue
            first, second = c_int(left), c_int(right)
            left = str({"|": first | second, "&": first & second, "^": first ^ second}[operator])
        return left

    def operand(self) -> str | None:
        kind = self.token[0]
        if kind in ("~", "!"):
            self.advance()
            inner = self.operand()
            if inner is None:
                return None
            return str(~c_int(inner) if kind == "~" else int(not c_int(inner)))
        if kind == "(":
            self.advance()
            inner = self.expression()
            self.expect(")", "'(' is not closed by ')'; put the value in double quotes")
            return inner
        return self.strings()

    def strings(self, constants: bool = True) -> str | None:
        """Strings, constants, quoted strings and variables that stand side by side."""
        parts: list[str | None] = []
        while self.token[0] in ("string", "constant", "quote", "variable"):
            kind, text = self.token
            if kind == "quote":
                parts.append(self.quoted())
            elif kind == "variable":
                parts.append(self.reference())
            elif kind == "constant" and constants:
                is_constant, value = php_constant(text, self.version)
                parts.append(value if is_constant else text)
            else:
                parts.append(text)
            self.advance()
        if not parts:
            raise IniSyntaxError(_unexpected(self.token))
        return _join(parts)

    def expect(self, kind: str, message: str) -> None:
        if self.token[0] != kind:
            raise IniSyntaxError(message)
        self.advance()


def _join(parts: list[str | None]) -> str | None:
    return None if None in parts else "".join(part for part in parts if part is not None)


def _unexpected(token: tuple[str, str]) -> str:
    kind, text = token
    if kind in ("eof", "end") and text.strip() != "'":
        return "the line ends too early"
    return f"'{text.strip()}' is not expected here"
