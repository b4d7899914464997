# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of one nginx configuration file -> a tree of directives (pure).

The grammar is the one of nginx's own reader (ngx_conf_read_token), which is
smaller than the files make one think: a word ends at white space, ``;`` or
``{``; a quote or ``#`` means something only where a word starts; ``}`` ends a
block only there too; ``{`` after ``$`` belongs to the word. What nginx refuses
becomes a ConfigError, and reading goes on as well as it can, so that one
missing semicolon does not hide the rest of a host.

The bodies of ``*_by_lua_block { ... }`` are Lua, not nginx: they are kept as
the last argument, as one text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Nesting that no real file comes near; it keeps recursion over the tree safe.
MAX_DEPTH = 100
# NGX_CONF_BUFFER: nginx refuses a parameter that does not fit.
MAX_WORD_BYTES = 4095

# Blocks that the missing-semicolon recovery looks for at the start of a line.
BLOCKS = frozenset(
    (
        "events", "geo", "http", "if", "limit_except", "location", "mail", "map", "match", "server",
        "split_clients", "stream", "types", "upstream",
    )
)  # fmt: skip
# The most arguments that these take; more means that a ";" is missing.
_MOST_ARGS = {
    "alias": 1, "client_max_body_size": 1, "default_type": 1, "fastcgi_buffer_size": 1, "fastcgi_buffers": 2,
    "fastcgi_connect_timeout": 1, "fastcgi_index": 1, "fastcgi_intercept_errors": 1, "fastcgi_param": 3,
    "fastcgi_pass": 1, "fastcgi_read_timeout": 1, "fastcgi_send_timeout": 1, "fastcgi_split_path_info": 1,
    "include": 1, "internal": 0, "keepalive_timeout": 2, "pid": 1, "root": 1, "send_timeout": 1, "set": 2,
    "user": 2, "worker_connections": 1, "worker_processes": 1,
}  # fmt: skip

# Never fails: the last alternatives take any character, or the end. The quotes are written so that one
# without its end costs linear time.
_TOKEN = re.compile(
    r"""
    (?: [ \t\r\n]+ | \#[^\n]* )*
    (?:
        ( (?![}#"']) (?: [^ \t\r\n;{\\$]+ | \\. | \$\{* )+ )     # 1: a word
      | ( ; )                                                    # 2
      | ( [{}] )                                                 # 3
      | ( "[^"\\]*(?:\\.[^"\\]*)*" | '[^'\\]*(?:\\.[^'\\]*)*' )  # 4: quoted, with what must follow it
        (?: (?=[ \t\r\n;{)]) | ( ) )                             # 5: ... missing
      | ( \Z )                                                   # 6
      | ( . )                                                    # 7: a quote without its end, a last backslash
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD, _END, _BRACE, _QUOTED, _GLUED, _EOF, _BROKEN = range(1, 8)

_LUA = re.compile(
    r"""
      --\[ (=*) \[ .*? \] \1 \]
    | --[^\n]*
    | \[ (=*) \[ .*? \] \2 \]
    | " [^"\\\n]* (?: \\. [^"\\\n]* )* "
    | ' [^'\\\n]* (?: \\. [^'\\\n]* )* '
    | ( [{}] )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(r"""\\(["'\\trn])""")
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n"}


class Directive:
    """One directive: ``name``, ``args``, where it starts, and for a block ``block``, its directives."""

    __slots__ = ("args", "block", "file", "line", "name")

    def __init__(
        self, name: str, args: list[str], file: str, line: int, block: list[Directive] | None = None
    ) -> None:
        self.name = name
        self.args = args
        self.file = file
        self.line = line
        self.block = block

    def __repr__(self) -> str:
        tail = ";" if self.block is None else f" {{{len(self.block)}}}"
        return f"<{' '.join([self.name, *self.args])}{tail} {self.file}:{self.line}>"


@dataclass(frozen=True)
class ConfigError(Exception):
    """What is wrong in a configuration, where, and where it helps what to do."""

    message: str
    file: str
    line: int | None

    def __str__(self) -> str:
        return f"{self.message} in {self.file}" + (f":{self.line}" if self.line else "")


@dataclass
class ParsedFile:
    """One file: its directives, includes not yet followed, and what nginx would refuse in it."""

    directives: list[Directive]
    errors: list[ConfigError]


def unescape(word: str) -> str:
    r"""A word as nginx stores it: \" \' \\ \t \r \n are replaced, any other backslash stays."""
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), word)


def parse_text(text: str, file: str) -> ParsedFile:
    """Parse one file. Errors are returned, not raised; ``file`` only names it."""
    return _Parser(text, file).run()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.errors: list[ConfigError] = []
        self.top: list[Directive] = []
        self.current = self.top
        self.open: list[tuple[Directive, list[Directive]]] = []
        # Newlines are counted up to here.
        self._counted = 0
        self._line = 1

    def run(self) -> ParsedFile:
        position = 0
        if self.text.startswith("\ufeff"):
            self.error(
                "the file starts with a byte order mark, which nginx takes for a part of the first directive's"
                " name; save it without one",
                0,
            )
            position = 1
        while position >= 0:
            position = self.statements(position)
        return ParsedFile(self.top, self.errors)

    def statements(self, position: int) -> int:
        """Read until the end (-1), or until reading must go on at another position, which is returned."""
        text = self.text
        file = self.file
        words: list[str] = []
        start = 0
        for token in _TOKEN.finditer(text, position):
            kind = token.lastindex
            if kind == _WORD:
                word = token[_WORD]
                if not words:
                    start = token.start(_WORD)
                if len(word) > MAX_WORD_BYTES // 4:
                    self.check_length(word, token.start(_WORD))
                words.append(unescape(word) if "\\" in word else word)
            elif kind == _END:
                if not words:
                    self.error('unexpected ";"', token.start(_END))
                    continue
                name = words[0]
                if name in _MOST_ARGS and len(words) - 1 > _MOST_ARGS[name]:
                    again = self.split(words, start, token.start(_END))
                    if again >= 0:
                        return again
                self.current.append(Directive(name, words[1:], file, self.line_at(start)))
                words = []
            elif kind in (_QUOTED, _GLUED):
                if not words:
                    start = token.start(_QUOTED)
                raw = token[_QUOTED]
                if kind == _GLUED:
                    again = self.glued(token.start(_QUOTED), token.end(_QUOTED))
                    if again >= 0:
                        words.append(text[token.start(_QUOTED) + 1 : again].strip().rstrip(";"))
                        self.add(words, start)
                        return again
                word = raw[1:-1]
                if len(word) > MAX_WORD_BYTES // 4:
                    self.check_length(word, token.start(_QUOTED))
                words.append(unescape(word) if "\\" in word else word)
            elif kind == _BRACE:
                if token[_BRACE] == "}":
                    if words:
                        self.error(
                            f'unexpected "}}": "{words[0]}" is not terminated by ";"', token.start(_BRACE)
                        )
                        self.add(words, start)
                        words = []
                    self.close(token.start(_BRACE))
                    continue
                if not words:
                    self.error('unexpected "{"', token.start(_BRACE))
                    words, start = [""], token.start(_BRACE)
                name = words[0]
                if name.endswith("_by_lua_block"):
                    return self.lua(words, start, token.end(_BRACE))
                if name not in BLOCKS and len(words) > 1:
                    again = self.split(words, start, token.start(_BRACE), BLOCKS)
                    if again >= 0:
                        return again
                self.push(words, start)
                words = []
            elif kind == _BROKEN:
                return self.broken(token.start(_BROKEN), words, start)
            else:
                self.finish(words, start)
                return -1
        return -1

    # -- places

    def line_at(self, position: int) -> int:
        if position < self._counted:  # after a recovery that went back
            self._counted, self._line = 0, 1
        self._line += self.text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def error(self, message: str, position: int) -> None:
        self.errors.append(ConfigError(message, self.file, self.line_at(position)))

    # -- building

    def add(self, words: list[str], start: int) -> Directive:
        directive = Directive(words[0], words[1:], self.file, self.line_at(start))
        self.current.append(directive)
        return directive

    def push(self, words: list[str], start: int) -> None:
        directive = self.add(words, start)
        directive.block = []
        if len(self.open) == MAX_DEPTH:
            self.error(
                f"more than {MAX_DEPTH} blocks in one another; the inner ones are read as siblings", start
            )
        if len(self.open) < MAX_DEPTH:
            self.open.append((directive, self.current))
            self.current = directive.block
        else:
            self.open.append((directive, self.current))

    def close(self, position: int) -> None:
        if not self.open:
            self.error('unexpected "}": no block is open', position)
            return
        self.current = self.open.pop()[1]

    def finish(self, words: list[str], start: int) -> None:
        end = len(self.text)
        if words:
            self.error(f'unexpected end of file, expecting ";" or "}}" after "{words[0]}"', start)
            self.add(words, start)
        if self.open:
            inner = self.open[-1][0]
            title = " ".join([inner.name, *inner.args])
            self.error(
                f'unexpected end of file, expecting "}}": the block "{title}" opened in line {inner.line}'
                " is not closed",
                end,
            )

    # -- recovery

    def check_length(self, word: str, position: int) -> None:
        if len(word.encode("utf-8", "surrogateescape")) > MAX_WORD_BYTES:
            self.error(f"too long parameter (over {MAX_WORD_BYTES} bytes); is a quote missing?", position)

    def split(self, words: list[str], start: int, end: int, names: frozenset[str] | None = None) -> int:
        """Cut a statement that swallowed the next line for want of a ``;``.

        :param names: only a line that starts with one of these is taken for a new statement.
        :return: where to go on reading, or -1 where no such line is found (nothing was added then).
        """
        text = self.text
        previous = start
        for count, token in enumerate(_TOKEN.finditer(text, start, end)):
            if token.lastindex not in (_WORD, _QUOTED, _GLUED):
                return -1
            at = token.start(_WORD) if token.lastindex == _WORD else token.start(_QUOTED)
            new_line = count > 0 and text.count("\n", previous, at) > 0
            word = words[count] if count < len(words) else ""
            if new_line and (word in names if names else word.replace("_", "").isalpha()):
                self.error(f'"{words[0]}" is not terminated by ";"', start)
                self.add(words[:count], start)
                return at
            previous = token.end()
        return -1

    def glued(self, start: int, end: int) -> int:
        """Something follows a closing quote at once.

        Over several lines the opening quote is the likelier mistake, so reading goes on in the line after it.

        :return: that position, or -1 to go on behind the quote.
        """
        if end == len(self.text):
            return -1
        opened = self.line_at(start)
        spans = "\n" in self.text[start:end]
        note = f" after the quote opened in line {opened}" if spans else " after a closing quote"
        self.error(f'unexpected "{self.text[end]}"{note}', end)
        return self.text.index("\n", start) if spans else -1

    def broken(self, position: int, words: list[str], start: int) -> int:
        """A quote that never ends, or a backslash as the last character."""
        end = len(self.text)
        if self.text[position] == "\\":
            self.error('unexpected end of file after "\\"', position)
            if words:
                self.add(words, start)
            return end
        self.error(f"unexpected end of file: the quote {self.text[position]} is not closed", position)
        stop = self.text.find("\n", position)
        stop = end if stop < 0 else stop
        rest = self.text[position + 1 : stop].strip()
        if not words:
            start = position
        words = [*words, rest.rstrip("{; \t")]
        if rest.endswith("{"):
            self.push(words, start)
        else:
            self.add(words, start)
        return stop

    def lua(self, words: list[str], start: int, position: int) -> int:
        """Take the body of a Lua block, from behind its ``{``, as one argument."""
        depth = 1
        for token in _LUA.finditer(self.text, position):
            if token[3] == "{":
                depth += 1
            elif token[3] == "}":
                depth -= 1
                if not depth:
                    self.add([*words, self.text[position : token.start()]], start)
                    return token.end()
        self.error(f'unexpected end of file, expecting "}}" of "{words[0]}"', start)
        self.add([*words, self.text[position:]], start)
        return len(self.text)
