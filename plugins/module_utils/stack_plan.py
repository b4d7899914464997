# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: one description of pools and sites, resolved for both sides and checked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.plan_files import (
    GUESTS_FILE,
    fpm_files,
    nginx_files,
    systemd_files,
)
from ansible_collections.webops.php_stack.plugins.module_utils.plan_host import check_listeners, still_used
from ansible_collections.webops.php_stack.plugins.module_utils.plan_layout import VERSION, layout, version_key
from ansible_collections.webops.php_stack.plugins.module_utils.plan_pools import hold_socket, plan_pool
from ansible_collections.webops.php_stack.plugins.module_utils.plan_render import (
    ini_value,
    pool_directives,
    rotated_logs,
)
from ansible_collections.webops.php_stack.plugins.module_utils.plan_schema import (
    Notes,
    kind_of,
    mapping,
    size_bytes,
)
from ansible_collections.webops.php_stack.plugins.module_utils.plan_sites import plan_site, upstream_name
from ansible_collections.webops.php_stack.plugins.module_utils.plan_sockets import leaves, plan_sockets

# The shortest grace that a reload gives to requests in flight, in seconds.
MIN_PROCESS_CONTROL_TIMEOUT = 10
# systemd may kill only after FPM itself has given up waiting for its workers.
STOP_MARGIN = 5
# PHP's own default.
PHP_POST_MAX_SIZE = "8M"


class PlanError(ValueError):
    """Everything that is wrong with a description.

    :param errors: one text a mistake, each with its place.
    """

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        count = len(errors)
        head = "1 mistake" if count == 1 else f"{count} mistakes"
        lines = "\n".join(f"  {number}. {error}" for number, error in enumerate(errors, 1))
        super().__init__(f"{head} in the description of this host's PHP stack; nothing was changed:\n{lines}")


def plan(
    pools: Any,
    sites: Any = (),
    *,
    pool_defaults: dict[str, Any] | None = None,
    site_defaults: dict[str, Any] | None = None,
    default_version: str = "",
    known_versions: Sequence[str] = (),
    managed_versions: Sequence[str] = (),
    nginx_user: str = "www-data",
    nginx_group: str = "www-data",
    socket_dir: str = "/run/php{version}-fpm",
    request_timeout: int = 60,
    process_control_timeout: Any = "auto",
    sizes: dict[str, Any] | None = None,
    php_ini: dict[str, Any] | None = None,
    php_global: dict[str, Any] | None = None,
    host_pools: Sequence[dict[str, Any]] = (),
    nginx_locations: Sequence[dict[str, Any]] = (),
    nginx_managed_files: Sequence[str] = (),
    socket_activation: bool = False,
    prune: bool = True,
) -> dict[str, Any]:
    """Plan one host.

    :param pools: php_fpm_pools, a list of dictionaries (plan_pools.POOL_KEYS).
    :param sites: nginx_php_sites, a list of dictionaries (plan_sites.SITE_KEYS).
    :param known_versions: PHP versions that this host has or can install; empty: not checked.
    :param managed_versions: versions to manage beside those that pools name.
    :param sizes: measured sizes by pool name, for pools with pm_max_children: auto
        ({"www": {"max_children": 12, "start_servers": 3, ...}}).
    :param php_ini: php.ini settings of the host (post_max_size decides nginx's limit for bodies).
    :param php_global: further settings of FPM's [global] section.
    :param host_pools: the pools that are on the host now (fpm_pools of fpm_pool_facts).
    :param nginx_locations: the locations that reach PHP now (locations of nginx_fastcgi_info).
    :param nginx_managed_files: the files of nginx on the host that nginx_php wrote.
    :param socket_activation: whether systemd holds the sockets of unix pools.
    :param prune: False keeps pools, paths and sockets that are to go, for as long as nginx may use them.
    :returns: versions, pools, absent_pools, sites, absent_sites, upstreams, warnings, waits_for (where nginx still uses
        what prune would remove, so that nothing is removed), sizing (what to ask fpm_sizing for), fpm, systemd and
        nginx (the file sets of their transactions).
    :raises PlanError: with every mistake at once.
    """
    notes = Notes()
    # A guest whose own file somebody has removed is left in our file alone. It is no pool: FPM refuses it.
    host_pools = [pool for pool in host_pools if not str(pool.get("file")).endswith(f"/{GUESTS_FILE}")]
    options = {
        "default_version": str(default_version or ""),
        "known_versions": sorted({str(version) for version in known_versions}, key=_sortable),
        "nginx_user": nginx_user,
        "nginx_group": nginx_group,
        "socket_dir": socket_dir.rstrip("/"),
        "request_timeout": request_timeout,
        "socket_activation": socket_activation,
        "sizes": sizes or {},
    }
    planned: dict[str, dict[str, Any]] = {}
    first_seen: dict[str, str] = {}
    for position, raw in enumerate(_entries(pools, "php_fpm_pools", notes)):
        pool = plan_pool(raw, f"php_fpm_pools[{position}]", dict(pool_defaults or {}), options, notes)
        if pool is None:
            continue
        if pool["name"] in planned:
            notes.error(pool["where"], f"the pool's name is taken by {first_seen[pool['name']]}")
            continue
        planned[pool["name"]] = pool
        first_seen[pool["name"]] = pool["where"].split(" ")[0]
    planned_sites: list[dict[str, Any]] = []
    absent_sites: list[str] = []
    for position, raw in enumerate(_entries(sites, "nginx_php_sites", notes)):
        where = f"nginx_php_sites[{position}]"
        site = plan_site(raw, where, dict(site_defaults or {}), planned, notes)
        if site is None:
            continue
        if site["state"] == "absent":
            absent_sites.append(site["name"])
        else:
            planned_sites.append(site)
    present = [pool for pool in planned.values() if pool["state"] == "present"]
    # Only now: sites have pools of their own for long routes.
    for pool in present:
        hold_socket(pool, options, notes)
    _check_sockets(present, notes)
    _check_sites(planned_sites, notes)
    _check_upstreams(present, notes)
    # Where nothing is described, nothing of ours is said to go.
    left = [
        pool["version"]
        for pool in host_pools
        if planned and pool.get("managed") and pool["layout"] == "debian"
    ]
    versions = _versions(planned, options, [*managed_versions, *left], process_control_timeout, notes)
    waits_for = still_used(planned, host_pools, nginx_locations) if prune else []
    prune = prune and not waits_for
    for version in versions:
        # Where nothing is described, sockets stay as they are.
        _add_sockets(version, planned, host_pools, socket_activation or not planned, prune and bool(planned))
    _limit_bodies(planned_sites, planned, php_ini if isinstance(php_ini, dict) else {}, notes)
    result_pools = sorted(
        (_public(pool, notes) for pool in present), key=lambda pool: (pool["version"], pool["name"])
    )
    # A description with mistakes is not whole yet: held against the host, what is missing would look removed.
    if not (notes.errors or waits_for or prune):
        check_listeners(
            planned, planned_sites, absent_sites, host_pools, nginx_locations, nginx_managed_files, notes
        )
    ini = _settings("php_fpm_ini", php_ini, notes)
    global_settings = _settings("php_fpm_global", php_global, notes)
    if notes.errors:
        raise PlanError(notes.errors)
    absent_pools = [
        {"name": pool["name"], "version": pool["version"]}
        for pool in planned.values()
        if pool["state"] == "absent"
    ]
    open_units = {pool["listen"].get("socket_unit") for pool in host_pools}
    upstreams = [
        {
            "name": upstream_name(pool["name"]),
            "pool": pool["name"],
            # The socket itself beside the link to it: removing the link costs no request. Before php_fpm has run,
            # or where other means make the pool, there is no such socket.
            "addresses": [pool["address"]]
            + (
                [f"unix:{pool['socket']['path']}"]
                if pool["socket"] and pool["socket"]["unit"] in open_units
                else []
            ),
        }
        for pool in result_pools
    ]
    return {
        "versions": versions,
        "pools": result_pools,
        "absent_pools": absent_pools,
        "sites": planned_sites,
        "absent_sites": absent_sites,
        "upstreams": upstreams,
        "sizing": [_sizing_request(pool) for pool in result_pools if pool["pm"]["auto"]],
        "fpm": fpm_files(versions, result_pools, absent_pools, ini, global_settings, prune),
        "systemd": systemd_files(versions, prune and bool(planned)),
        "nginx": nginx_files(planned_sites, absent_sites, upstreams),
        "waits_for": waits_for,
        "warnings": notes.warnings,
    }


def _settings(name: str, value: Any, notes: Notes) -> dict[str, str]:
    """A dictionary of ini settings, each value as the ini scanner reads it back."""
    try:
        return {
            key: item if item in ("on", "off") else ini_value(item)
            for key, item in mapping(value or {}).items()
        }
    except ValueError as problem:
        notes.error(name, str(problem))
        return {}


def _sizing_request(pool: dict[str, Any]) -> dict[str, Any]:
    """What fpm_sizing is asked about a pool whose pm_max_children is auto."""
    settings = pool["settings"]
    request = {
        "name": pool["name"],
        "version": pool["version"],
        "pm": pool["pm"]["mode"],
        "weight": settings["weight"],
        "min_children": settings["min_children"],
    }
    optional = {"memory_limit": settings["memory_limit"], "max_children": settings["pm_max_children_cap"]}
    request.update({key: value for key, value in optional.items() if value is not None})
    return request


def _sortable(version: str) -> tuple[int, ...]:
    return version_key(version) if VERSION.match(version) else (0,)


def _entries(value: Any, name: str, notes: Notes) -> Sequence[Any]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        notes.error(name, f"must be a list, not {kind_of(value)}")
        return []
    return value


def _public(pool: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """The pool as users see it, with the directives of its file."""
    pool = dict(pool)
    pool["version"] = pool["version"] or ""
    pool["settings"] = {key: value for key, value in pool["settings"].items() if key != "_given"}
    try:
        pool["directives"] = [{"name": name, "value": value} for name, value in pool_directives(pool)]
    except ValueError as problem:
        notes.error(pool["where"], str(problem))
    return pool


def _check_sockets(pools: list[dict[str, Any]], notes: Notes) -> None:
    """No two pools on one listener: the second would not start, or take the first one's requests."""
    taken: dict[tuple[str, str], dict[str, Any]] = {}
    for pool in pools:
        address = pool["listen"]
        if pool["listen_kind"] == "tcp":
            address = address.rpartition(":")[2]
            hosts = {
                item["listen"].rpartition(":")[0]
                for item in pools
                if item["listen"].rpartition(":")[2] == address
            }
            # The same port on two different addresses is fine; on all addresses it is not.
            if len(hosts) > 1 and not hosts & {"", "0.0.0.0", "[::]"}:
                address = pool["listen"]
        key = (pool["listen_kind"], address)
        if key in taken:
            notes.error(
                pool["where"],
                f"listens on {pool['listen']}, as pool {taken[key]['name']} does; give each its own",
            )
        else:
            taken[key] = pool


def _check_sites(sites: list[dict[str, Any]], notes: Notes) -> None:
    names: dict[str, str] = {}
    served: dict[tuple[str, int, str], str] = {}
    for site in sites:
        if site["name"] in names:
            notes.error(site["where"], f"the site's name is taken by {names[site['name']]}")
        names[site["name"]] = site["where"].split(" ")[0]
        for listen in site["listen"]:
            for server_name in site["server_names"]:
                key = (listen["host"], listen["port"], server_name)
                if served.get(key, site["name"]) != site["name"]:
                    notes.error(
                        site["where"],
                        f"server name {server_name} on {listen['raw']} is served by site {served[key]} already;"
                        " nginx would ignore this one",
                    )
                served[key] = site["name"]


def _check_upstreams(pools: list[dict[str, Any]], notes: Notes) -> None:
    names: dict[str, str] = {}
    for pool in pools:
        name = upstream_name(pool["name"])
        if names.setdefault(name, pool["name"]) != pool["name"]:
            notes.error(
                pool["where"],
                f"its upstream would be called {name}, as that of pool {names[name]}; rename one",
            )


def _versions(
    planned: dict[str, dict[str, Any]],
    options: dict[str, Any],
    managed: Sequence[str],
    process_control_timeout: Any,
    notes: Notes,
) -> list[dict[str, Any]]:
    names = {pool["version"] for pool in planned.values()} | {str(version) for version in managed}
    result = []
    for version in sorted((name for name in names if name and VERSION.match(name)), key=version_key):
        item: dict[str, Any] = dict(layout(version, options["socket_dir"]))
        pools = [
            pool for pool in planned.values() if pool["version"] == version and pool["state"] == "present"
        ]
        item["pools"] = sorted(pool["name"] for pool in pools)
        item["logs"] = rotated_logs(pools)
        item["process_control_timeout"] = _control_timeout(pools, process_control_timeout, notes)
        item["stop_timeout"] = item["process_control_timeout"] + STOP_MARGIN
        result.append(item)
    return result


def _add_sockets(
    version: dict[str, Any],
    planned: dict[str, dict[str, Any]],
    host_pools: Sequence[dict[str, Any]],
    activation: bool,
    prune: bool,
) -> None:
    """What a version needs to know of its sockets, and of the pools that are there beside the planned ones."""
    mine = [pool for pool in planned.values() if pool["version"] == version["version"]]
    present = [pool for pool in mine if pool["state"] == "present"]
    absent = {pool["name"] for pool in mine if pool["state"] == "absent"}
    there = [pool for pool in host_pools if pool["version"] == version["version"]]
    version["sockets"] = plan_sockets(version, present, absent, there, activation, prune)
    version["held"] = activation and bool(version["sockets"])
    names = {pool["name"] for pool in present}
    paths = {pool["listen"] for pool in present if not pool["socket"]}
    others = [pool for pool in there if pool["name"] not in names]
    # A version whose last pools leave has no valid configuration: its service is stopped instead, and stays so.
    gone = not present and all(leaves(pool, absent) for pool in others)
    version["emptied"] = bool(gone and prune and there)
    version["empty"] = version["emptied"] or bool(gone and absent and not there)
    version["in_the_way"] = sorted(
        pool["file"].rpartition("/")[2] for pool in others if pool["listen"]["path"] in paths
    )


def _control_timeout(pools: list[dict[str, Any]], wanted: Any, notes: Notes) -> int:
    """How long a reload or stop waits for requests in flight, in seconds.

    `auto`: as long as the shortest request_timeout of the version's pools. More would make the other
    pools' clients wait behind a reload for longer than nginx waits for them.
    """
    if wanted != "auto":
        try:
            number = int(str(wanted).strip().rstrip("s"))
        except ValueError:
            number = -1
        if number < 1:
            message = (
                f"{wanted!r} is no number of seconds above 0 (0 would cut requests at each reload), nor auto"
            )
            if f"php_fpm_process_control_timeout: {message}" not in notes.errors:
                notes.error("php_fpm_process_control_timeout", message)
            return MIN_PROCESS_CONTROL_TIMEOUT
        return number
    limits = [
        pool["timeouts"]["request_terminate_timeout"] or pool["timeouts"]["fastcgi_read_timeout"]
        for pool in pools
        if not pool["long_route_of"]
    ]
    return max(MIN_PROCESS_CONTROL_TIMEOUT, min([*limits, 300])) if limits else MIN_PROCESS_CONTROL_TIMEOUT


def _limit_bodies(
    sites: list[dict[str, Any]], pools: dict[str, dict[str, Any]], ini: dict[str, Any], notes: Notes
) -> None:
    """nginx's limit for uploads follows PHP's, unless the site gives its own."""
    for site in sites:
        settings = pools[site["pool"]]["settings"]
        values = {**ini, **settings["php_values"], **settings["php_admin_values"]}
        post = str(values.get("post_max_size") or PHP_POST_MAX_SIZE)
        if not site["client_max_body_size"]:
            site["client_max_body_size"] = post.lower()
            continue
        try:
            php, nginx = size_bytes(post), size_bytes(site["client_max_body_size"])
        except ValueError:
            continue  # the setting's own reader has reported it
        if 0 < nginx < php:
            notes.warn(
                site["where"],
                f"client_max_body_size {site['client_max_body_size']} is below PHP's post_max_size {post}:"
                " nginx answers 413 to uploads that PHP would take",
            )
