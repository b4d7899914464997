# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan against the host that it is for: what would it break?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.plan_files import (
    SITES_AVAILABLE,
    SITES_ENABLED,
)
from ansible_collections.webops.php_stack.plugins.module_utils.plan_schema import Notes


def check_listeners(
    pools: dict[str, dict[str, Any]],
    sites: list[dict[str, Any]],
    absent_sites: list[str],
    host_pools: Sequence[dict[str, Any]],
    nginx_locations: Sequence[dict[str, Any]],
    managed_files: Sequence[str],
    notes: Notes,
) -> None:
    """A listener that goes away must not be one that a site outside the plan still passes to.

    :param pools: the planned pools by name, absent ones included.
    :param host_pools: fpm_pools of fpm_pool_facts.
    :param nginx_locations: locations of nginx_fastcgi_info.
    :param managed_files: files of nginx that nginx_php wrote: those that are described no more go with their site.
    """
    ours = {*managed_files} | {
        f"{directory}/{name}{ending}"
        for name in [*(site["name"] for site in sites), *absent_sites]
        for directory in (SITES_AVAILABLE, SITES_ENABLED)
        for ending in ("", ".conf")
    }
    for host_pool, planned in _going(pools, host_pools):
        address = host_pool["listen"]["address"]
        for location in _passing_to(address, nginx_locations):
            if location["file"] in ours:
                continue
            if planned is None or planned["state"] == "absent":
                change = "removes it"
            else:
                change = f"moves it to {planned['address']}"
            notes.error(
                planned["where"] if planned else f"php_fpm_pools: {host_pool['name']}",
                f"nginx passes {_names(location)} to {address} ({location['file']}:{location['line']}), where pool"
                f" {host_pool['name']} listens now; this description {change}, and that site would answer 502."
                f" Describe the site in nginx_php_sites, give the pool listen: {address.removeprefix('unix:')},"
                " or set php_fpm_check_nginx to false where nginx follows by other means",
            )


def still_used(
    pools: dict[str, dict[str, Any]],
    host_pools: Sequence[dict[str, Any]],
    nginx_locations: Sequence[dict[str, Any]],
) -> list[str]:
    """Which listeners that are to go nginx passes to as it is now, in words; the parameters as above."""
    found = []
    for host_pool, _planned in _going(pools, host_pools):
        address = host_pool["listen"]["address"]
        found += [
            f"{location['file']}:{location['line']} passes {_names(location)} to {address}"
            for location in _passing_to(address, nginx_locations)
        ]
    return sorted(set(found))


def _going(
    pools: dict[str, dict[str, Any]], host_pools: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """The pools of the host whose listener the plan takes away, each with the planned pool that takes its place."""
    kept = {pool["address"] for pool in pools.values() if pool["state"] == "present"}
    for host_pool in host_pools:
        planned = pools.get(host_pool["name"])
        if planned is not None and planned["version"] != host_pool["version"]:
            planned = None
        # A pool of ours that is described no more goes, as does one that is described as absent.
        goes = planned is not None or (pools and host_pool.get("managed"))
        if goes and host_pool["listen"]["address"] not in kept:
            yield host_pool, planned


def _passing_to(address: str, nginx_locations: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for location in nginx_locations:
        if any(target.get("address") == address for target in location["targets"]):
            yield location


def _names(location: dict[str, Any]) -> str:
    return ", ".join(location.get("server_names") or []) or "a site"
