# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Active probes, made only where somebody asks for them: a static file, a ping, a tiny FastCGI request."""

from __future__ import annotations

import http.client
import os
import posixpath
import socket
import ssl
import stat
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import audit_isolation, socket_probe
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import Probe
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    edges,
    locations,
    pool_title,
    pools_at,
    site,
)
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_check import Request, check
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import Who

_SECONDS = 5.0
_STATIC = (".txt", ".ico", ".css", ".js", ".png", ".svg", ".jpg", ".webp", ".woff2", ".html")
_FOLDERS = 50


def run(host: Host, snapshot: Snapshot, kinds: list[str], check_mode: bool) -> list[Probe]:
    """Make the probes that were asked for, in the order from the visitor to PHP.

    :param check_mode: leave out the isolation test, which starts a process.
    """
    if not kinds:
        return []
    if not host.live:
        return [Probe(kind, "host", None, "a tree cannot be probed") for kind in kinds]
    found: list[Probe] = []
    if "static" in kinds:
        found += _static_files(host, snapshot)
    if "ping" in kinds:
        found += _pings(host, snapshot)
    if "request" in kinds:
        found += _requests(host, snapshot)
    if "isolation" in kinds:
        found += _isolated(host, snapshot, check_mode)
    return found


# -- the way to nginx


def _static_files(host: Host, snapshot: Snapshot) -> list[Probe]:
    found = {}
    for location in locations(snapshot):
        root = location["root"]["path"]
        if site(location) in found or not root or "$" in root:
            continue
        path = _static_file(host, root)
        if path is None:
            found[site(location)] = Probe(
                "static", site(location), None, f"there is no static file in {root}"
            )
        else:
            found[site(location)] = _get(location, path)
    return list(found.values())


def _static_file(host: Host, root: str) -> str | None:
    """A file that nginx serves by itself, in the root or one level below; as a path of the URL."""
    folders = [root]
    for folder in folders[:_FOLDERS]:
        for name in host.listdir(folder):
            path = posixpath.join(folder, name)
            if name.startswith("."):
                continue
            try:
                mode = host.stat(path).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and name.endswith(_STATIC):
                return path[len(root.rstrip("/")) :]
            if stat.S_ISDIR(mode) and folder == root:
                folders.append(path)
    return None


def _get(location: dict[str, Any], path: str) -> Probe:
    name, listen = site(location), location["listen"][0]
    host, _separator, port = listen.rpartition(":")
    if listen.startswith("unix:") or not port.isdigit():
        return Probe("static", name, None, f"{listen} is not asked")
    host = "127.0.0.1" if host in ("*", "0.0.0.0", "") else host.strip("[]")
    host = "::1" if host == "::" else host
    try:
        status = _status(host, int(port), name, path)
    except (OSError, http.client.HTTPException) as error:
        return Probe("static", name, False, f"nginx does not answer {path} on {listen}: {error}")
    words = f"nginx answers {path} with {status}"
    return Probe("static", name, status < 400, words if status < 400 else f"{words}: look at nginx itself")


def _status(host: str, port: int, name: str, path: str) -> int:
    headers = {"Host": name, "User-Agent": "webops.php_stack"}
    plain = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    if port == 443:
        # The name and the certificate are not the point here, and the address is this machine's own.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection((host, port), _SECONDS)
        plain.sock = context.wrap_socket(raw, server_hostname=name)
    try:
        plain.request("GET", path, headers=headers)
        return plain.getresponse().status
    finally:
        plain.close()


# -- the way to PHP


def _who(snapshot: Snapshot) -> Who:
    name = snapshot.nginx["nginx"]["worker_user"]["name"] if snapshot.nginx else None
    return socket_probe.find_user(name) if name and os.geteuid() == 0 else socket_probe.current_user()


def _ask(host: Host, snapshot: Snapshot, kind: str, address: str, ping: str = "") -> Probe:
    pools = pools_at(snapshot, address)
    subject = f"{pool_title(pools[0])} at {address}" if pools else address
    try:
        wanted = Request(Address.parse(address), _who(snapshot), ping_path=ping, read_timeout=_SECONDS)
        answer = check(host, wanted)
    except (StackError, ValueError) as error:
        return Probe(kind, subject, None, str(error))
    return Probe(kind, subject, answer["reachable"], answer["msg"])


def _pings(host: Host, snapshot: Snapshot) -> list[Probe]:
    found = []
    for pool in snapshot.pools:
        if pool["ping_path"] and pool["listen"]["address"]:
            found.append(_ask(host, snapshot, "ping", pool["listen"]["address"], pool["ping_path"]))
        else:
            found.append(Probe("ping", pool_title(pool), None, "ping.path is not set"))
    return found


def _requests(host: Host, snapshot: Snapshot) -> list[Probe]:
    addresses = {
        target["address"]
        for location in locations(snapshot)
        for target in location["targets"]
        if target["kind"] in ("unix", "tcp") and target["resolved"] != "unknown"
    }
    return [_ask(host, snapshot, "request", address) for address in sorted(addresses)]


def _isolated(host: Host, snapshot: Snapshot, check_mode: bool) -> list[Probe]:
    masters = {master["config_file"]: master for master in snapshot.masters}
    used = {id(pool): pool for _location, pool in edges(snapshot)}
    found = []
    for pool in used.values() or snapshot.pools:
        master = masters.get(pool["master"], {})
        if check_mode:
            found.append(
                Probe("isolation", pool_title(pool), None, "not made in check mode: it starts a process")
            )
        elif os.geteuid() != 0 or not master.get("binary") or master.get("in_container"):
            found.append(
                Probe("isolation", pool_title(pool), None, "it needs root and PHP-FPM's program on this host")
            )
        else:
            socket_works = _ask(host, snapshot, "request", pool["listen"]["address"] or "").ok
            ok, words = audit_isolation.run(host, pool, master["binary"])
            found.append(Probe("isolation", pool_title(pool), ok, _compared(ok, socket_works, words)))
    return found


def _compared(works_alone: bool, socket_works: bool | None, words: str) -> str:
    if works_alone and socket_works is False:
        return f"{words}; its own socket does not: the fault is the socket (path, rights, queue), not PHP"
    if works_alone:
        return words
    return f"{words}: the fault is PHP or the pool's settings, not the socket"
