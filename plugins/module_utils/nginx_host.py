# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to nginx on a host: where its configuration is, how it was built, who runs it.

Order of trust: what the caller says, the command line of a running master, what
was compiled into the program (``nginx -V``; in a tree, the same text inside the
program file), the usual places. Nothing is started but ``nginx -V``.
"""

from __future__ import annotations

import os
import posixpath
import pwd
import re
import shlex
from dataclasses import dataclass, field

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_fastcgi import DEFAULT_PAGE_SIZE, Build

# Packages, nginx.org's own build, OpenResty, Tengine, aaPanel, FreeBSD-style prefixes, Homebrew-like hosts.
_BINARIES = (
    "/usr/sbin/nginx",
    "/usr/bin/nginx",
    "/sbin/nginx",
    "/usr/local/sbin/nginx",
    "/usr/local/nginx/sbin/nginx",
    "/usr/local/openresty/nginx/sbin/nginx",
    "/opt/nginx/sbin/nginx",
    "/www/server/nginx/sbin/nginx",
)
_CONFIGS = (
    "/etc/nginx/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
    "/opt/nginx/conf/nginx.conf",
    "/www/server/nginx/conf/nginx.conf",
    "/usr/local/etc/nginx/nginx.conf",
)
# A tree may be a copy of /etc (etckeeper) or of /etc/nginx: its main file there -> what its top stands for.
_PARTIAL_TREES = {"/nginx/nginx.conf": "/etc", "/nginx.conf": "/etc/nginx"}
_TITLE = "nginx: master process "
_BINARY_ARGUMENTS = re.compile(rb"configure arguments: ?([^\0\n]*)")
_BINARY_VERSION = re.compile(rb"nginx version: ([^\0\n]+)")
_BINARY_LIMIT = 64 << 20


@dataclass(frozen=True)
class Master:
    """One running master of this host; its paths come from its command line and may be None."""

    pid: int
    binary: str | None
    config: str | None
    prefix: str | None
    worker_users: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Nginx:
    """nginx as found. ``config`` is None where there is none; ``version`` and ``built`` hold None for unknown.

    ``top`` is the directory of the host that the top of a tree stands for, "" where the tree is a whole host.
    """

    config: str | None
    binary: str | None
    version: str | None
    built: Build
    masters: list[Master]
    top: str = ""


class HostReader:
    """A configuration's files out of a Host; bytes that are not UTF-8 become surrogates, as in every name of a file.

    :param top: see Nginx.top; files keep the names that they have on the host that the tree was taken from.
    """

    def __init__(self, host: Host, top: str = "") -> None:
        self.host = host
        self.top = top

    def _inside(self, path: str) -> str | None:
        return path[len(self.top) :] if self.top and path.startswith(f"{self.top}/") else None

    def read(self, path: str) -> str:
        return self.host.read_text(self._inside(path) or path)

    def glob(self, pattern: str) -> list[str]:
        inside = self._inside(pattern)
        return [self.top + path for path in self.host.glob(inside)] if inside else self.host.glob(pattern)


def find(host: Host, config: str | None = None, prefix: str | None = None) -> Nginx:
    """Find nginx. ``config`` and ``prefix`` override what is found."""
    masters = running(host) if host.live else []
    master = masters[0] if masters else None
    binary = master.binary if master and master.binary else _first(host, _BINARIES)
    version, arguments = _build_of(host, binary) if binary else (None, {})
    prefix = prefix or (master.prefix if master else None) or arguments.get("prefix")
    if prefix is None and arguments:
        prefix = "/usr/local/nginx"
    config = config or (master.config if master else None) or arguments.get("conf-path")
    if config is None and arguments:
        config = "conf/nginx.conf"
    if config is not None and not config.startswith("/"):
        config = posixpath.normpath(posixpath.join(prefix or "/", config))
    if config is None or (not host.exists(config) and not masters):
        config = _first(host, _CONFIGS) or config
    top = ""
    if not host.live and (config is None or not host.exists(config)):
        for path, stands_for in _PARTIAL_TREES.items():
            if host.exists(path) and config in (None, stands_for + path):
                config, top = stands_for + path, stands_for
                break
    user = arguments.get("user", "nobody") if arguments else None
    built = Build(
        prefix=prefix,
        user=user,
        group=arguments.get("group", user) if arguments else None,
        error_log=arguments.get("error-log-path", "logs/error.log") if arguments else None,
        pid=arguments.get("pid-path", "logs/nginx.pid") if arguments else None,
        page_size=os.sysconf("SC_PAGE_SIZE") if host.live else DEFAULT_PAGE_SIZE,
    )
    return Nginx(config, binary, version, built, masters, top)


def _first(host: Host, paths: tuple[str, ...]) -> str | None:
    return next((path for path in paths if host.exists(path)), None)


def _build_of(host: Host, binary: str) -> tuple[str | None, dict[str, str]]:
    """(version, configure arguments); empty where they cannot be had."""
    if host.live:
        done = host.run([binary, "-V"])
        text = done.stderr + done.stdout
        version = re.search(r"nginx version: (\S+)", text)
        arguments = re.search(r"configure arguments: ?(.*)", text)
        return version[1] if version else None, parse_arguments(arguments[1]) if arguments else {}
    try:
        content = host.read_bytes(binary, _BINARY_LIMIT)
    except OSError:
        return None, {}
    found_version = _BINARY_VERSION.search(content)
    found = _BINARY_ARGUMENTS.search(content)
    return (
        found_version[1].decode("utf-8", "replace").split()[0] if found_version else None,
        parse_arguments(found[1].decode("utf-8", "replace")) if found else {},
    )


def parse_arguments(text: str) -> dict[str, str]:
    """``--prefix=/usr/share/nginx --with-debug`` -> {"prefix": "/usr/share/nginx", "with-debug": ""}."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    pairs = [word[2:].partition("=") for word in words if word.startswith("--")]
    return {name: value for name, _equals, value in pairs}


def parse_title(command_line: str) -> tuple[str | None, str | None, str | None]:
    """A master's title -> (program, -c, -p); None for what it does not say or what is no absolute path.

    nginx writes ``nginx: master process`` and its own command line over its arguments.
    """
    words = command_line[len(_TITLE) :].split()
    program = words[0] if words and words[0].startswith("/") else None
    values: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        if word[:2] in ("-c", "-p"):
            values[word[1]] = word[2:] or next(rest, "")
        elif word == "-g":
            break  # its directives hold spaces; nothing behind it can be told apart
    return program, values.get("c"), values.get("p")


def running(host: Host) -> list[Master]:
    """The masters in this host's own file system, lowest pid first (those of other containers are left out)."""
    parents: dict[int, set[str]] = {}
    found: dict[int, str] = {}
    for name in host.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            line = (
                host.read_bytes(f"/proc/{name}/cmdline", 8192).replace(b"\0", b" ").decode("utf-8", "replace")
            )
            if line.startswith(_TITLE):
                found[int(name)] = line.strip()
            elif line.startswith("nginx: worker process"):
                status = host.read_text(f"/proc/{name}/status")
                parent = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
                uid = re.search(r"^Uid:\s*\d+\s+(\d+)", status, re.MULTILINE)
                if parent and uid:
                    parents.setdefault(int(parent[1]), set()).add(_user_name(int(uid[1])))
        except OSError:
            continue  # it ended meanwhile
    masters = []
    for pid in sorted(found):
        if not _same_files(host, pid):
            continue
        program, config, prefix = parse_title(found[pid])
        masters.append(
            Master(pid, _program(host, pid) or program, config, prefix, sorted(parents.get(pid, ())))
        )
    return masters


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _same_files(host: Host, pid: int) -> bool:
    try:
        theirs, ours = host.stat(f"/proc/{pid}/root/"), host.stat("/")
    except OSError:
        return True  # not root: the process may be looked at, its root may not
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _program(host: Host, pid: int) -> str | None:
    try:
        # After an upgrade of the package the kernel marks the replaced file.
        path = re.sub(r" \(deleted\)$", "", host.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None
    return path if host.exists(path) else None
