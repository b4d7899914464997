# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of fpm_sizing: everything that it reads of a host, in one call."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import (
    read_host,
    read_process,
    read_services,
    read_units,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_demand import LogDemand, from_log
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_evidence import Readings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import Wanted

# A day of a busy site, read in about a second.
_LOG_TAIL = 64 * 1024**2
# FPM's own php.ini per layout: {v} is 8.2, {d} is 82. Files of the folder beside it come after it.
_PHP_INI = (
    ("/etc/php/{v}/fpm/php.ini", "/etc/php/{v}/fpm/conf.d"),
    ("/etc/opt/remi/php{d}/php.ini", "/etc/opt/remi/php{d}/php.d"),
    ("/etc/php{d}/php.ini", "/etc/php{d}/conf.d"),
    ("/usr/local/etc/php/php.ini", "/usr/local/etc/php/conf.d"),
    ("/etc/php.ini", "/etc/php.d"),
)
_INI_LINE = re.compile(
    r"^[ \t]*(memory_limit|opcache\.memory_consumption)[ \t]*=[ \t]*\"?([^\s\";]+)", re.MULTILINE
)


def read_all(host: Host, wanted: Wanted, facts: dict[str, list[dict[str, Any]]]) -> Readings:
    """
    :param facts: fpm_pools and fpm_masters; the processes that they name are looked at again.
    :raises StackError: for an access log that cannot be read.
    """
    logs = {pool.access_log: pool.duration_seconds for pool in wanted.pools or () if pool.access_log}
    read_logs = {path: read_log(host, path, duration) for path, duration in logs.items()}
    if not wanted.measure:
        return Readings(logs=read_logs)
    away = {master.get("pid") for master in facts["fpm_masters"] if master.get("in_container")} - {None}
    pids = {pool.get("pid") for pool in facts["fpm_pools"]} | {one.get("pid") for one in facts["fpm_masters"]}
    for pool in facts["fpm_pools"]:
        if pool.get("pid") not in away:
            pids |= {worker["pid"] for worker in (pool.get("memory") or {}).get("workers") or []}
    processes = {}
    for pid in sorted(pid for pid in pids - away if pid):
        # Facts may be older than the process that has the number now.
        process = read_process(host, pid) if _is_fpm(host, pid) else None
        if process:
            processes[pid] = process
    versions = {str(one["version"]) for one in facts["fpm_masters"] if one.get("version")}
    versions |= {pool.version for pool in wanted.pools or () if pool.version}
    return Readings(
        host=read_host(host),
        processes=processes,
        services=tuple(read_services(host, [reserve.name for reserve in wanted.reserves])),
        units=read_units(host, [one["unit"] for one in facts["fpm_masters"] if one.get("unit")]),
        php_ini={version: read_php_ini(host, version) for version in sorted(versions)},
        logs=read_logs,
    )


def _is_fpm(host: Host, pid: int) -> bool:
    try:
        return b"php-fpm" in host.read_bytes(f"/proc/{pid}/cmdline", 4096)
    except OSError:
        return False


def read_php_ini(host: Host, version: str) -> dict[str, tuple[str, str]]:
    """The last value of memory_limit and OPcache's size, and the file that sets it, for FPM of a version."""
    found: dict[str, tuple[str, str]] = {}
    for main, folder in _PHP_INI:
        names = {"v": version, "d": version.replace(".", "")}
        files = [main.format(**names), *host.glob(f"{folder.format(**names)}/*.ini")]
        for path in files:
            try:
                text = host.read_text(path)
            except OSError:
                continue
            found.update({name: (value, path) for name, value in _INI_LINE.findall(text)})
        if host.exists(files[0]):
            break
    return found


def read_log(host: Host, path: str, duration: float | None) -> LogDemand | None:
    """The busiest minute in the last 64 MiB of an access log.

    :raises StackError: when it cannot be read.
    """
    try:
        return from_log(_tail(host, path), duration)
    except OSError as error:
        raise StackError(f"The access log {path} cannot be read: {error.strerror}.") from error


def _tail(host: Host, path: str) -> Iterator[str]:
    with io.BufferedReader(host.open(path)) as handle:
        start = max(0, handle.seek(0, os.SEEK_END) - _LOG_TAIL)
        handle.seek(start)
        if start:
            # The first line is cut, and so is the minute it belongs to: it can only be too small.
            handle.readline()
        for line in handle:
            yield line.decode("utf-8", "replace")
