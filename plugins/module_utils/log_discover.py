# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host's logs are, according to its configurations."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field

from ansible_collections.webops.php_stack.plugins.module_utils import fpm_facts
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_evidence import ANY_HOST, address
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import Directive
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import Tree, load

_BUILT_IN = re.compile(r"--(prefix|conf-path|error-log-path)=(\S+)")
_CONF_PATHS = ("/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/usr/local/etc/nginx/nginx.conf")
# Destinations that are no log file.
_NO_FILE = ("stderr", "syslog:", "memory:", "/dev/null", "/dev/stderr", "/dev/stdout", "/proc/")


@dataclass
class Found:
    """Log files by kind, the listeners of pools, and what could not be found out."""

    nginx_error_log: list[str] = field(default_factory=list)
    fpm_log: list[str] = field(default_factory=list)
    listeners: dict[str, tuple[str, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _HostReader:
    """nginx_tree's Reader over a Host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def read(self, path: str) -> str:
        return self._host.read_text(path)

    def glob(self, pattern: str) -> list[str]:
        return self._host.glob(pattern)


def discover(host: Host) -> Found:
    """Read nginx's and FPM's configurations of a host or a tree."""
    found = Found()
    _nginx(host, found)
    facts = fpm_facts.gather(host, status=False)
    for master in facts["fpm_masters"]:
        path = str(master["globals"].get("error_log", {}).get("value") or "")
        if path.startswith("/") and not path.startswith(_NO_FILE) and path not in found.fpm_log:
            found.fpm_log.append(path)
    for pool in facts["fpm_pools"]:
        listen = pool["listen"]
        where = address(str(listen.get("address") or ""))
        if where:
            found.listeners[where] = (str(pool["name"]), str(pool.get("version") or ""))
        # Such a pool answers on the machine's other addresses too, such as a container's.
        if listen.get("kind") == "tcp" and str(listen["raw"]).rpartition(":")[0] in ANY_HOST:
            found.listeners[f"*:{listen['port']}"] = found.listeners[where]
    _links(host, found)
    return found


def _links(host: Host, found: Found) -> None:
    """Other names of the sockets, such as Debian's /run/php/php-fpm.sock."""
    for folder in {os.path.dirname(where) for where in found.listeners if where.startswith("/")}:
        for name in host.listdir(folder):
            path = posixpath.join(folder, name)
            target = path
            for _turn in range(8):
                try:
                    target = posixpath.normpath(
                        posixpath.join(posixpath.dirname(target), host.readlink(target))
                    )
                except OSError:
                    break
            if target in found.listeners:
                found.listeners.setdefault(path, found.listeners[target])


def _nginx(host: Host, found: Found) -> None:
    built_in = {"prefix": "", "error-log-path": ""}
    candidates = list(_CONF_PATHS)
    if host.live:
        words = dict(_BUILT_IN.findall(host.run(["nginx", "-V"]).stderr))
        built_in.update(words)
        if "conf-path" in words:
            candidates.insert(0, words["conf-path"])
    main = next((path for path in candidates if host.exists(path)), None)
    if main is None:
        found.problems.append("no configuration of nginx was found; name its logs in nginx_error_log")
        return
    tree = load(main, _HostReader(host))
    found.problems.extend(str(error) for error in tree.errors)
    prefix = built_in["prefix"] or posixpath.dirname(main)
    found.nginx_error_log = error_logs(tree, prefix, built_in["error-log-path"])


def error_logs(tree: Tree, prefix: str, built_in: str) -> list[str]:
    """The files that error_log directives name, in order.

    :param built_in: the log of a configuration whose main level names none.
    """
    paths: list[str] = []

    def add(path: str) -> None:
        if not path.startswith(_NO_FILE):
            whole = os.path.normpath(posixpath.join(prefix, path))
            if whole not in paths:
                paths.append(whole)

    def walk(directives: list[Directive]) -> None:
        for directive in directives:
            if directive.name == "error_log" and directive.args:
                add(directive.args[0])
            walk(directive.block or [])

    if built_in and not any(directive.name == "error_log" for directive in tree.directives):
        add(built_in)
    walk(tree.directives)
    return paths
