# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit judges: everything that was read of a host, as plain data.

``pools`` and ``masters`` are what fpm_pool_facts returns, ``nginx`` what
nginx_fastcgi_info returns and ``logs`` what gateway_log_info returns; the
modules document them. Sizes are in bytes. None means "not known".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import HostMemory


@dataclass(frozen=True)
class Holder:
    """A process that has a listening socket open."""

    pid: int
    name: str


@dataclass(frozen=True)
class Target:
    """One address that nginx connects to.

    :ivar real: the address after symbolic links, as pools name it.
    :ivar listening: whether the kernel has a listener there.
    :ivar cause: why a connection as nginx's user fails; "" when it works; None when none was tried.
    :ivar message: the failure in words.
    """

    address: str
    real: str
    listening: bool | None = None
    cause: str | None = None
    message: str = ""
    holders: tuple[Holder, ...] | None = None


@dataclass(frozen=True)
class User:
    """The user of nginx's workers and the groups that it is in."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True)
class IniValue:
    """A line of php.ini."""

    value: str
    file: str
    line: int


@dataclass(frozen=True)
class Service:
    """What a systemd service sets.

    :ivar file: the unit's file, for the evidence.
    :ivar restart: as systemd writes it ("no", "on-failure"); exec_reload the commands, one each.
    :ivar result: "success", "start-limit-hit" …; None on a tree.
    """

    name: str
    file: str | None = None
    restart: str | None = None
    exec_reload: tuple[str, ...] = ()
    result: str | None = None
    restarts: int | None = None
    private_tmp: bool | None = None
    runtime_directory: tuple[str, ...] = ()
    runtime_preserve: str = "no"
    limit_nofile: int | None = None


@dataclass(frozen=True)
class Route:
    """What nginx does with one path on one server.

    :ivar purpose: "status", "ping" or "dotfile".
    :ivar answer: "php" (it reaches a pool), "file" (it is served from the root), "denied", "restricted"
        (only some clients may), or None where the configuration alone does not tell.
    :ivar targets: the addresses that the location leads to.
    """

    server: str
    uri: str
    purpose: str
    answer: str | None
    file: str | None
    line: int | None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Root:
    """A document root.

    :ivar framework: the application found in it or above it, such as "Laravel".
    :ivar link: the symbolic link on the way that a deployment switches.
    """

    path: str
    exists: bool
    framework: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class SudoRule:
    """A command that sudoers lets somebody run as another user, and that concerns PHP-FPM.

    :ivar command: as written, with its arguments; ``exists`` says whether the program is there.
    """

    user: str
    command: str
    file: str
    line: int
    exists: bool | None


@dataclass(frozen=True)
class TextLine:
    """A line of a file: of a script, of tmpfiles.d."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Selinux:
    """:ivar labels: folder of a socket -> its label; booleans: name -> on."""

    enforcing: bool
    labels: dict[str, str] = field(default_factory=dict)
    booleans: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """One host or tree at one time.

    :ivar now: seconds since the epoch.
    :ivar nginx_problem: why ``nginx`` is None.
    :ivar targets: by address.
    :ivar php_ini: PHP version -> directive -> value.
    :ivar peaks: (version, pool) -> the most private memory that each of its workers had.
    :ivar shared_bytes: memory that the workers of all masters share, counted once for each master.
    :ivar fpm_bytes: what all of PHP-FPM uses now (PSS).
    :ivar network: pid -> its network namespace.
    :ivar server_roots: server file:line -> whether the server itself (or http) sets a root.
    :ivar pool_heads: pool file -> the marker of a tool that wrote it, or "".
    :ivar folders: directory -> whether it exists.
    :ivar tmpfiles, sudoers, scripts: None where they could not be read.
    """

    live: bool
    now: float
    pools: list[dict[str, Any]] = field(default_factory=list)
    masters: list[dict[str, Any]] = field(default_factory=list)
    nginx: dict[str, Any] | None = None
    nginx_problem: str = ""
    targets: dict[str, Target] = field(default_factory=dict)
    worker: User | None = None
    routes: list[Route] = field(default_factory=list)
    server_roots: dict[str, bool] = field(default_factory=dict)
    roots: dict[str, Root] = field(default_factory=dict)
    php_ini: dict[str, dict[str, IniValue]] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    memory: HostMemory | None = None
    peaks: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    shared_bytes: int | None = None
    fpm_bytes: int | None = None
    somaxconn: int | None = None
    network: dict[int, str] = field(default_factory=dict)
    selinux: Selinux | None = None
    tmpfiles: list[TextLine] | None = None
    sudoers: list[SudoRule] | None = None
    scripts: list[TextLine] | None = None
    pool_heads: dict[str, str] = field(default_factory=dict)
    folders: dict[str, bool] = field(default_factory=dict)
    logs: dict[str, Any] | None = None

    def missing(self, needs: Iterable[str]) -> str:
        """Why rules with these needs cannot judge; empty where they can."""
        if "nginx" in needs and self.nginx is None:
            return self.nginx_problem or "nginx's configuration was not read"
        if "fpm" in needs and not self.masters:
            return "no PHP-FPM was found"
        return ""
