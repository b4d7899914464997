# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with one PHP-FPM as the facts and the ports describe it, for the tests of sizing."""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import HostMemory, ProcessMemory
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_build import Inputs, build
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_evidence import Readings
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import parse_params

MIB = 1024**2
HOST = HostMemory(4096 * MIB, "MemTotal of /proc/meminfo", 1000 * MIB, 4.0)


def process(
    pid: int, private: float, peak: float | None, cpu: float = 0.1, shared: float = 30
) -> ProcessMemory:
    """Sizes in MiB."""
    sizes = [int(value * MIB) for value in (private + shared, private + shared / 4, private, shared)]
    return ProcessMemory(pid, *sizes, int(private * MIB), None if peak is None else int(peak * MIB), cpu)


def facts_pool(name: str = "www", workers: int = 4, **changes: Any) -> dict[str, Any]:
    """A pool as fpm_pool_facts returns it; what sizing does not read is left out."""
    entries = [
        {
            "pid": 100 + index,
            "rss_bytes": 31 * MIB,
            "private_bytes": MIB,
            "shared_bytes": 30 * MIB,
            "requests": None,
        }
        for index in range(workers)
    ]
    pool = {
        "name": name,
        "version": "8.2",
        "master": "/etc/php/8.2/fpm/php-fpm.conf",
        "unit": "php8.2-fpm.service",
        "pid": 99,
        "pm": {
            "mode": "dynamic",
            "max_children": 5,
            "start_servers": 2,
            "min_spare_servers": 1,
            "max_spare_servers": 3,
            "process_idle_timeout": 10,
        },
        "directives": {},
        "status": {"state": "ok", "accepted_conn": 9000, "start_since": 600, "max_active_processes": 4,
                   "max_children_reached": 0},
        "memory": {"workers": entries},
    }  # fmt: skip
    pool.update(changes)
    return pool


def facts_of(*pools: dict[str, Any], **master: Any) -> dict[str, list[dict[str, Any]]]:
    one = {"version": "8.2", "config_file": "/etc/php/8.2/fpm/php-fpm.conf", "unit": "php8.2-fpm.service",
           "pid": 99, "running": True, **master}  # fmt: skip
    return {"fpm_pools": list(pools), "fpm_masters": [one]}


def peaks(count: int = 4, peak: float = 60, **kwargs: Any) -> dict[int, ProcessMemory]:
    """Workers with 1 MiB of private memory now, and ``peak`` less 30 at the peak."""
    return {100 + index: process(100 + index, 1, peak, **kwargs) for index in range(count)}


def inputs(facts: dict[str, list[dict[str, Any]]], readings: Readings, **params: Any) -> Inputs:
    return build(parse_params(params), facts, readings)


NOTHING: dict[str, list[dict[str, Any]]] = {"fpm_pools": [], "fpm_masters": []}
