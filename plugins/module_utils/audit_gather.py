# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of an audit: reads a host or a tree into a Snapshot. It never judges."""

from __future__ import annotations

import os
import posixpath
import time
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import (
    audit_files,
    audit_routes,
    fastcgi,
    fpm_facts,
    kernel_sockets,
    log_request,
    nginx_info,
    procfs,
    socket_probe,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import (
    Holder,
    Selinux,
    Snapshot,
    Target,
)
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import read_host, read_process
from ansible_collections.webops.php_stack.plugins.module_utils.kernel_sockets import Listener
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_host import HostReader, find
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import load
from ansible_collections.webops.php_stack.plugins.module_utils.socket_verdict import Evidence, judge

_CONNECT_SECONDS = 1.0
_BOOLEANS = ("httpd_can_network_connect", "httpd_execmem", "httpd_setrlimit")
_LINKS = 8


def gather(
    host: Host,
    logs: dict[str, Any] | None,
    connect: bool = True,
    scripts: list[str] | None = None,
) -> Snapshot:
    """Read everything that the rules ask for.

    :param logs: the parameters of gateway_log_info; None to leave the logs out.
    :param connect: connect to nginx's targets as nginx's user, and hang up.
    :param scripts: further deploy scripts to look at (globs).
    """
    if not host.is_dir("/"):
        raise StackError(f"root={host.root} is no directory. Give the top directory of a tree.")
    facts = fpm_facts.gather(host)
    pools, masters = facts["fpm_pools"], facts["fpm_masters"]
    nginx, problem = _nginx(host)
    units = sorted({master["unit"] for master in masters if master["unit"]})
    read_units = audit_files.services(host, ["nginx.service", *units])
    versions = sorted({pool["version"] for pool in pools if pool["version"]})
    routes, server_roots = _routes(host, nginx, pools)
    peaks, shared, used = _memory(host, pools)
    files = {pool["file"] for pool in pools if pool["panel"]}
    return Snapshot(
        live=host.live,
        now=time.time(),
        pools=pools,
        masters=masters,
        nginx=nginx,
        nginx_problem=problem,
        targets=_targets(host, nginx, pools, masters, connect),
        worker=_worker(host, nginx),
        routes=routes,
        server_roots=server_roots,
        roots={path: audit_files.root(host, path) for path in _root_paths(nginx)},
        php_ini={version: audit_files.php_ini(host, version) for version in versions},
        services=read_units,
        memory=read_host(host) if host.live else None,
        peaks=peaks,
        shared_bytes=shared,
        fpm_bytes=used,
        somaxconn=_somaxconn(host),
        network=_networks(host, nginx, masters),
        selinux=_selinux(host, pools),
        tmpfiles=audit_files.tmpfiles(host),
        sudoers=audit_files.sudoers(host),
        scripts=audit_files.scripts(host, scripts or []),
        pool_heads={path: audit_files.pool_head(host, path) for path in sorted(files)},
        folders=_folders(host, pools, masters),
        logs=_logs(host, logs),
    )


def _nginx(host: Host) -> tuple[dict[str, Any] | None, str]:
    try:
        return nginx_info.gather(root=host.root), ""
    except StackError as error:
        return None, str(error)


def _worker(host: Host, nginx: dict[str, Any] | None) -> Any:
    name = nginx["nginx"]["worker_user"]["name"] if nginx else None
    return audit_files.user(host, name) if name else None


def _routes(host: Host, nginx: dict[str, Any] | None, pools: list[dict[str, Any]]) -> Any:
    found = find(host) if nginx else None
    if nginx is None or found is None or found.config is None:
        return [], {}
    pages = {pool["ping_path"]: "ping" for pool in pools if pool["ping_path"]}
    pages.update({pool["status_path"]: "status" for pool in pools if pool["status_path"]})
    return audit_routes.probe(load(found.config, HostReader(host, found.top)), nginx["locations"], pages)


def _root_paths(nginx: dict[str, Any] | None) -> list[str]:
    paths = {location["root"]["path"] for location in (nginx or {}).get("locations", [])}
    return sorted(path for path in paths if path and path.startswith("/") and "$" not in path)


# -- sockets


def _targets(
    host: Host,
    nginx: dict[str, Any] | None,
    pools: list[dict[str, Any]],
    masters: list[dict[str, Any]],
    connect: bool,
) -> dict[str, Target]:
    addresses = sorted(
        {
            target["address"]
            for location in (nginx or {}).get("locations", [])
            for target in location["targets"]
            if target["kind"] in ("unix", "tcp") and target["resolved"] != "unknown"
        }
    )
    asked = list(addresses)
    listens = {pool["listen"]["address"] for pool in pools} - {None}
    addresses = sorted({*addresses, *listens})
    reals = {address: _real(host, address) for address in addresses}
    if not host.live:
        return {address: Target(address, reals[address]) for address in addresses}
    listeners = kernel_sockets.listeners(host)
    holders = _holders(host) if listeners else {}
    asleep = {_real(host, address) for address in _asleep(pools, masters)}
    asked = [address for address in asked if connect and reals[address] not in asleep]
    causes = _connect(host, nginx or {}, asked, listeners)
    found = {}
    for address in addresses:
        entry = None if listeners is None else _listener(reals[address], listeners)
        cause, message = causes.get(address, (None, ""))
        found[address] = Target(
            address,
            reals[address],
            None if listeners is None or not _here(address) else entry is not None,
            cause,
            message,
            tuple(holders.get(entry.inode, ())) if entry and holders else None,
        )
    return found


def _here(address: str) -> bool:
    return address.startswith(("unix:", "127.", "localhost:", "[::1]:"))


def _real(host: Host, address: str) -> str:
    """A unix address after the links at its end, inside the root."""
    if not address.startswith("unix:"):
        return address
    path = address[5:]
    for _turn in range(_LINKS):
        try:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), host.readlink(path)))
        except OSError:
            break
    return f"unix:{path}"


def _asleep(pools: list[dict[str, Any]], masters: list[dict[str, Any]]) -> set[str]:
    """Addresses that systemd holds for a service that does not run: connecting would start it."""
    running = {master["config_file"] for master in masters if master["running"]}
    return {
        pool["listen"]["address"]
        for pool in pools
        if pool["listen"]["held_by"] and pool["master"] not in running and pool["listen"]["address"]
    }


def _listener(address: str, listeners: list[Listener]) -> Listener | None:
    if address.startswith("unix:"):
        return next((one for one in listeners if one.kind == "unix" and one.path == address[5:]), None)
    host, _separator, port = address.rpartition(":")
    hosts = (host.strip("[]"), "0.0.0.0", "::", *(["127.0.0.1", "::1"] if host == "localhost" else []))
    return next(
        (one for one in listeners if one.kind == "tcp" and str(one.port) == port and one.host in hosts), None
    )


def _holders(host: Host) -> dict[int, list[Holder]]:
    """Inode -> the processes that have the socket open. Workers of FPM have it as descriptor 0."""
    found: dict[int, list[Holder]] = {}
    for entry in host.listdir("/proc"):
        if not entry.isdigit():
            continue
        inodes = procfs.socket_inodes(int(entry))
        if not inodes:
            continue
        try:
            name = host.read_text(f"/proc/{entry}/comm").strip()
        except OSError:
            continue
        for inode in inodes:
            found.setdefault(inode, []).append(Holder(int(entry), name))
    return found


def _connect(
    host: Host, nginx: dict[str, Any], addresses: list[str], listeners: list[Listener] | None
) -> dict[str, tuple[str | None, str]]:
    """Why nginx's user cannot connect, by address; nothing where we may not become that user."""
    name = nginx.get("nginx", {}).get("worker_user", {}).get("name")
    if not addresses or not name:
        return {}
    parsed = {}
    for address in addresses:
        try:
            parsed[address] = fastcgi.Address.parse(address)
        except ValueError:
            continue

    def ask() -> dict[str, Any]:
        answers = {}
        for address, where in parsed.items():
            try:
                fastcgi.connect(where, _CONNECT_SECONDS).close()
                answers[address] = ["", ""]
            except fastcgi.FastcgiError as error:
                answers[address] = [error.kind, str(error)]
        return answers

    try:
        who = socket_probe.find_user(name)
        answers = socket_probe.run_as(who, ask, 10.0 + 2 * _CONNECT_SECONDS * len(parsed))
    except StackError:
        return {}
    causes: dict[str, tuple[str | None, str]] = {}
    for address, (kind, message) in answers.items():
        if not kind:
            causes[address] = ("", "")
            continue
        nodes = socket_probe.walk(host, parsed[address].path) if address.startswith("unix:") else []
        listens = None
        if listeners is not None and nodes:
            listens = _listener(_real(host, address), listeners) is not None
        neighbours = socket_probe.neighbours(host, nodes) if nodes else None
        evidence = Evidence(nodes, listens, neighbours, socket_probe.selinux_enforces(host))
        verdict = judge(kind, message, bool(nodes), who, evidence)
        causes[address] = (verdict.cause, verdict.message)
    return causes


# -- the rest


def _memory(
    host: Host, pools: list[dict[str, Any]]
) -> tuple[dict[tuple[str, str], list[int]], int | None, int | None]:
    peaks: dict[tuple[str, str], list[int]] = {}
    shared: dict[str, int] = {}
    used: int | None = 0
    for pool in pools:
        for worker in pool["memory"]["workers"]:
            process = read_process(host, worker["pid"])
            if process is None:
                used = None
                continue
            peaks.setdefault((pool["version"] or "", pool["name"]), []).append(process.private_peak_bytes)
            shared[pool["master"]] = max(shared.get(pool["master"], 0), process.shared_bytes)
            used = None if used is None else used + process.pss_bytes
    return peaks, sum(shared.values()) if shared else None, used if peaks else None


def _somaxconn(host: Host) -> int | None:
    try:
        return int(host.read_text("/proc/sys/net/core/somaxconn"))
    except (OSError, ValueError):
        return None


def _networks(host: Host, nginx: dict[str, Any] | None, masters: list[dict[str, Any]]) -> dict[int, str]:
    pids = [master["pid"] for master in masters if master["pid"]]
    pids += [master["pid"] for master in (nginx or {}).get("nginx", {}).get("masters", [])]
    found = {}
    for pid in pids if host.live else []:
        try:
            found[pid] = host.readlink(f"/proc/{pid}/ns/net")
        except OSError:
            continue
    return found


def _selinux(host: Host, pools: list[dict[str, Any]]) -> Selinux | None:
    """None on a tree: whether the host enforces is not written there for sure."""
    if not host.live:
        return None
    if not socket_probe.selinux_enforces(host):
        return Selinux(False)
    labels = {}
    for pool in pools:
        folder = os.path.dirname(pool["listen"]["path"] or "")
        try:
            label = os.getxattr(folder, "security.selinux") if folder else b""
        except OSError:
            continue
        if label:
            labels[folder] = label.rstrip(b"\0").decode("utf-8", "replace")
    booleans = {}
    for name in _BOOLEANS:
        try:
            booleans[name] = host.read_text(f"/sys/fs/selinux/booleans/{name}").startswith("1")
        except OSError:
            continue
    return Selinux(True, labels, booleans)


def _folders(host: Host, pools: list[dict[str, Any]], masters: list[dict[str, Any]]) -> dict[str, bool]:
    """The folders of the logs that the configurations name, and those above them."""
    values = [pool["directives"].get("slowlog") for pool in pools]
    values += [pool["directives"].get("access.log") for pool in pools]
    values += [pool["directives"].get("php_admin_value[error_log]") for pool in pools]
    values += [master["globals"].get("error_log") for master in masters]
    paths = [str(one["value"]) for one in values if one and one["value"]]
    folders = {os.path.dirname(path) for path in paths if path.startswith("/")}
    folders |= {os.path.dirname(folder) for folder in folders}
    return {folder: host.is_dir(folder) for folder in sorted(folders)}


def _logs(host: Host, wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    """What gateway_log_info returns; None where no log of nginx or FPM could be read."""
    if wanted is None:
        return None
    found = log_request.answer({**wanted, "root": host.root}, lambda _line: None)
    read = [source for source in found["sources"] if not source["error"]]
    return found if any(source["kind"] in ("nginx", "fpm") for source in read) else None
