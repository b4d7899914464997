# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's main file and all that it includes -> one tree of directives.

Pure: files come from a Reader. The two places that includes are searched in
differ from what people expect: a relative name is relative to the directory of
the *main* file, whichever file names it, and a name with ``*``, ``?`` or ``[``
may match nothing, while any other must exist.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass, field
from typing import Protocol

from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import (
    ConfigError,
    Directive,
    parse_text,
)

_MAGIC = re.compile(r"[*?\[]")
_MARKER = re.compile(r"^# configuration file (/[^\n]*):\r?\n", re.MULTILINE)


class Reader(Protocol):
    """Where files come from."""

    def read(self, path: str) -> str:
        """The text of a file.

        :raises OSError: as open() and read() do.
        """

    def glob(self, pattern: str) -> list[str]:
        """The paths that match, in the order of glob(3) in the C locale."""


@dataclass
class Tree:
    """A whole configuration. Each Directive still names the file and line that it came from.

    ``files`` are those read, in the order nginx reads them.
    """

    directives: list[Directive]
    files: list[str] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)


class DumpReader:
    """The files in the output of ``nginx -T``.

    :raises ValueError: the text holds no ``# configuration file PATH:`` line.
    """

    def __init__(self, text: str) -> None:
        self.files: dict[str, str] = {}
        markers = list(_MARKER.finditer(text))
        if not markers:
            raise ValueError(
                "this is no output of nginx -T: it has no line '# configuration file PATH:'. Save it with"
                " 'nginx -T > FILE' (as root)."
            )
        for number, marker in enumerate(markers):
            last = number + 1 == len(markers)
            body = text[marker.end() : len(text) if last else markers[number + 1].start()]
            # nginx adds one newline to each file.
            self.files.setdefault(marker[1], body[:-1] if body.endswith("\n\n") or not last else body)

    @property
    def main(self) -> str:
        """nginx writes its main file first."""
        return next(iter(self.files))

    def read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "it is not in the output of nginx -T", path) from None

    def glob(self, pattern: str) -> list[str]:
        parts = pattern.split("/")
        found = []
        for path in self.files:
            names = path.split("/")
            if len(names) == len(parts) and all(map(_matches, names, parts)):
                found.append(path)
        return sorted(found)


def _matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, pattern)


def load(main: str, reader: Reader) -> Tree:
    """Read ``main`` (an absolute path) and everything that it includes.

    What cannot be read or understood is in ``errors``; the rest is in the tree.
    """
    tree = Tree([])
    loader = _Loader(main, reader, tree)
    try:
        tree.directives = loader.file(main, ())
    except OSError as error:
        tree.errors.append(ConfigError(_open_failed(main, error), main, None))
    return tree


class _Loader:
    def __init__(self, main: str, reader: Reader, tree: Tree) -> None:
        self.prefix = posixpath.dirname(main)
        self.reader = reader
        self.tree = tree
        # A file included many times (fastcgi_params) is parsed once: nobody changes a Directive afterwards.
        self.done: dict[str, list[Directive]] = {}

    def file(self, path: str, above: tuple[str, ...]) -> list[Directive]:
        known = self.done.get(path)
        if known is not None:
            return known
        parsed = parse_text(self.reader.read(path), path)
        self.tree.files.append(path)
        self.tree.errors.extend(parsed.errors)
        result = self.done[path] = self.expand(parsed.directives, (*above, path))
        return result

    def expand(self, directives: list[Directive], above: tuple[str, ...]) -> list[Directive]:
        result = []
        for directive in directives:
            if directive.name == "include" and directive.block is None:
                result.extend(self.include(directive, above))
                continue
            if directive.block:
                directive.block = self.expand(directive.block, above)
            result.append(directive)
        return result

    def include(self, directive: Directive, above: tuple[str, ...]) -> list[Directive]:
        if len(directive.args) != 1:
            self.error('invalid number of arguments in "include" directive', directive)
            return []
        pattern = posixpath.join(self.prefix, directive.args[0])
        result: list[Directive] = []
        for path in self.reader.glob(pattern) if _MAGIC.search(pattern) else [pattern]:
            if path in above:
                chain = " -> ".join([*above[above.index(path) :], path])
                self.error(f"the files include each other without end: {chain}", directive)
                continue
            try:
                result.extend(self.file(path, above))
            except OSError as error:
                self.error(_open_failed(path, error), directive)
        return result

    def error(self, message: str, directive: Directive) -> None:
        self.tree.errors.append(ConfigError(message, directive.file, directive.line))


def _open_failed(path: str, error: OSError) -> str:
    return f'open() "{path}" failed ({error.errno}: {error.strerror})'
