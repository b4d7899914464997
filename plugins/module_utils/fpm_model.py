# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PHP-FPM configuration is made of: pools, settings and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import Version


class Source(Protocol):
    """What the files are read through; a Host is one, and so is a dict of texts in a test."""

    def read_text(self, path: str) -> str: ...

    def glob(self, pattern: str) -> list[str]: ...

    def is_dir(self, path: str) -> bool: ...


@dataclass(frozen=True)
class Problem:
    """Something FPM refuses (or, in ``warnings``, something it passes over in silence)."""

    file: str | None
    line: int | None
    message: str


@dataclass(frozen=True)
class Setting:
    """A value in effect and where it comes from.

    :param value: int, bool, str, seconds as int, or None (FPM's "undefined"; also a value not known).
    :param line: 1-based; None, as ``file``, for a default.
    :param unresolved: the text of a value that depends on the environment of the master.
    """

    value: Any
    file: str | None = None
    line: int | None = None
    default: bool = False
    unresolved: str | None = None


@dataclass
class Pool:
    """One pool. ``settings`` has every directive FPM knows, in FPM's order, then the arrays."""

    name: str
    file: str
    line: int
    settings: dict[str, Setting] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        setting = self.settings.get(name)
        return setting.value if setting else None


@dataclass
class FpmConfig:
    """What one master loads.

    :param files: every file read, in order.
    :param first_lines: the first line of each of them.
    :param problems: what FPM refuses; empty where ``php-fpm -t`` passes, as far as the text shows.
    """

    file: str
    settings: dict[str, Setting] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    first_lines: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """What was compiled into an FPM or handed to it; None and the default mean "not known".

    :param prefix: relative paths of pools start here; ``state_dir`` the same for pid and error_log.
    :param variable: the value of an environment variable of the master; None where not known.
    :param as_root: whether the master starts as root; only then must a pool name its user.
    """

    version: Version | None = None
    prefix: str | None = None
    state_dir: str | None = None
    variable: Callable[[str], str | None] = lambda name: None
    as_root: bool = True
