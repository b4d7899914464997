# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan against the host that it is for: what would it break?"""

from __future__ import annotations

from collections.abc import Sequence
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
    notes: Notes,
) -> None:
    """A listener that goes away must not be one that a site outside the plan still passes to.

    :param pools: the planned pools by name, absent ones included.
    :param host_pools: fpm_pools of fpm_pool_facts.
    :param nginx_locations: locations of nginx_fastcgi_info.
    """
    ours = {
        f"{directory}/{name}{ending}"
        for name in [*(site["name"] for site in sites), *absent_sites]
        for directory in (SITES_AVAILABLE, SITES_ENABLED)
        for ending in ("", ".conf")
    }
    versions = {pool["version"] for pool in pools.values()}
    kept = {pool["address"] for pool in pools.values() if pool["state"] == "present"}
    for host_pool in host_pools:
        planned = pools.get(host_pool["name"])
        address = host_pool["listen"]["address"]
        if address in kept or host_pool["version"] not in versions:
            continue
        # A pool of ours that is described no more goes, as does one that is described as absent.
        if planned is None and not host_pool.get("managed"):
            continue
        # Only a pool of the same version is replaced; another version's keeps its listener until it is absent.
        if planned is not None and planned["version"] != host_pool["version"]:
            continue
        for location in nginx_locations:
            if location["file"] in ours:
                continue
            if all(target.get("address") != address for target in location["targets"]):
                continue
            if planned is None or planned["state"] == "absent":
                change = "removes it"
            else:
                change = f"moves it to {planned['address']}"
            names = ", ".join(location.get("server_names") or []) or "a site"
            notes.error(
                planned["where"] if planned else f"php_fpm_pools: {host_pool['name']}",
                f"nginx passes {names} to {address} ({location['file']}:{location['line']}), where pool"
                f" {host_pool['name']} listens now; this description {change}, and that site would answer 502."
                f" Describe the site in nginx_php_sites, give the pool listen: {address.removeprefix('unix:')},"
                " or set php_fpm_check_nginx to false where nginx follows by other means",
            )
