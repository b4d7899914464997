# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning sites: one entry of nginx_php_sites to the server block that reaches its pool."""

from __future__ import annotations

import copy
import re
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import plan_schema as schema
from ansible_collections.webops.php_stack.plugins.module_utils.plan_pools import (
    READ_TIMEOUT_MARGIN,
    parse_listen,
)
from ansible_collections.webops.php_stack.plugins.module_utils.plan_schema import Key, Notes

SITE_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
DEFAULT_LISTEN = ["80", "[::]:80"]

SITE_KEYS: dict[str, Key] = {
    "name": Key(schema.word, required=True),
    "state": Key(schema.choice("present", "absent"), "present"),
    "pool": Key(schema.word),
    "server_names": Key(schema.list_of(schema.word)),
    "listen": Key(schema.list_of(schema.text), DEFAULT_LISTEN),
    "root": Key(schema.absolute_path),
    "index": Key(schema.list_of(schema.word), ["index.php", "index.html"]),
    "front_controller": Key(schema.either("", schema.text), "/index.php?$query_string"),
    "ssl_certificate": Key(schema.absolute_path),
    "ssl_certificate_key": Key(schema.absolute_path),
    "client_max_body_size": Key(schema.size),
    "access_log": Key(schema.text),
    "error_log": Key(schema.text),
    "fastcgi_buffer_size": Key(schema.size, "32k"),
    "fastcgi_buffers": Key(schema.text, "8 32k"),
    "fastcgi_busy_buffers_size": Key(schema.size),
    "fastcgi_params": Key(schema.mapping, {}),
    "status_allow": Key(schema.list_of(schema.word), ["127.0.0.1", "::1"]),
    "long_routes": Key(lambda value: value, []),
    "check_path": Key(schema.absolute_path),
    "check_status": Key(schema.list_of(schema.integer(100, 599)), [200]),
    "extra": Key(schema.block, ""),
}
ROUTE_KEYS: dict[str, Key] = {
    "path": Key(schema.absolute_path, required=True),
    "timeout": Key(schema.seconds, required=True),
    "max_children": Key(schema.integer(1), 5),
}
_LISTEN = re.compile(
    r"^(?:(?P<host>\[[0-9A-Fa-f:.]+\]|\*|[A-Za-z0-9_.-]+):)?(?P<port>\d{1,5})(?P<options>(?: [A-Za-z0-9_=.]+)*)$"
)


def upstream_name(pool: str) -> str:
    """The upstream's name: what nginx takes, and one per pool."""
    return "php_" + re.sub(r"[^A-Za-z0-9_]", lambda match: f"_{ord(match.group()):02x}", pool)


def _listen(site: dict[str, Any], where: str, notes: Notes) -> list[dict[str, Any]]:
    result = []
    for raw in site["listen"]:
        match = _LISTEN.match(raw)
        if not match or not 1 <= int(match.group("port")) <= 65535:
            notes.error(where, f"listen: {raw!r} is neither a port nor address:port, with options behind it")
            continue
        options = match.group("options").split()
        result.append({
            "raw": raw,
            "host": match.group("host") or "*",
            "port": int(match.group("port")),
            "ssl": "ssl" in options,
        })  # fmt: skip
    if any(item["ssl"] for item in result) and not (site["ssl_certificate"] and site["ssl_certificate_key"]):
        notes.error(where, "listen with ssl needs ssl_certificate and ssl_certificate_key")
    return result


def _buffers(site: dict[str, Any], where: str, notes: Notes) -> None:
    """nginx starts only if busy is at least the larger of buffer_size and one buffer, and leaves one buffer free."""
    match = re.match(r"^(\d+)\s+(\d+[kKmM]?)$", site["fastcgi_buffers"])
    if not match or int(match.group(1)) < 2:
        notes.error(
            where,
            f"fastcgi_buffers: {site['fastcgi_buffers']!r} is not a count above 1 and a size, as in '8 32k'",
        )
        return
    count, each = int(match.group(1)), schema.size_bytes(match.group(2))
    low, high = max(schema.size_bytes(site["fastcgi_buffer_size"]), each), (count - 1) * each
    busy = site["fastcgi_busy_buffers_size"]
    wanted = schema.size_bytes(busy) if busy else min(max(low, 2 * each), high)
    if low > high or not low <= wanted <= high:
        notes.error(
            where,
            f"fastcgi_buffer_size {site['fastcgi_buffer_size']}, fastcgi_buffers {site['fastcgi_buffers']}"
            f"{' and fastcgi_busy_buffers_size ' + busy if busy else ''} do not fit: nginx wants"
            f" {low} <= fastcgi_busy_buffers_size <= {high} bytes; leave it out, or raise fastcgi_buffers",
        )
    site["fastcgi_busy_buffers_size"] = busy or f"{wanted // 1024}k"


def _check(site: dict[str, Any], listen: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The request, made on the host itself, that proves the site: a page, or the pool's ping through nginx."""
    if not listen:
        return None
    entry = next((item for item in listen if not item["ssl"]), listen[0])
    host = entry["host"]
    address = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    names = [
        name for name in site["server_names"] if "*" not in name and not name.startswith("~") and name != "_"
    ]
    return {
        "url": f"{'https' if entry['ssl'] else 'http'}://{address}:{entry['port']}",
        "host": names[0] if names else "localhost",
        "path": site["check_path"],
        "status": site["check_status"],
    }


def _long_routes(
    site: dict[str, Any], pool: dict[str, Any], pools: dict[str, dict[str, Any]], where: str, notes: Notes
) -> list[dict[str, Any]]:
    """The site's routes, each with a pool of its own kind, so that slow requests cannot starve the site.

    A pool serves all routes of one pool with the same timeout; it is added to ``pools``.
    """
    routes: list[dict[str, Any]] = []
    raw_routes = site["long_routes"]
    if not isinstance(raw_routes, (list, tuple)):
        notes.error(where, "long_routes must be a list of {path, timeout}")
        return []
    for position, raw in enumerate(raw_routes):
        place = f"{where}: long_routes[{position}]"
        route = schema.read_entry(raw, ROUTE_KEYS, place, notes, {})
        if route is None or route["path"] is None or route["timeout"] is None:
            continue
        seconds = route["timeout"]
        if seconds == 0:
            notes.error(place, "timeout: 0 would let a request run for ever; give seconds")
            continue
        if pool["listen_kind"] != "unix":
            notes.error(
                place, f"pool {pool['name']} listens on TCP; long routes need a pool with a unix socket"
            )
            continue
        name = f"{pool['name']}-{seconds}s"
        if name in pools and pools[name]["long_route_of"] is None:
            notes.error(
                place, f"needs a pool called {name}, which php_fpm_pools describes already; rename that one"
            )
            continue
        if name not in pools:
            pools[name] = _long_pool(pool, name, seconds, place, notes)
        long_pool = pools[name]
        long_pool["pm"]["max_children"] = max(long_pool["pm"]["max_children"], route["max_children"])
        routes.append(
            {
                "path": route["path"],
                "pool": name,
                "upstream": upstream_name(name),
                "fastcgi_read_timeout": long_pool["timeouts"]["fastcgi_read_timeout"],
                "fastcgi_send_timeout": long_pool["timeouts"]["fastcgi_send_timeout"],
            }
        )
    return routes


def _long_pool(pool: dict[str, Any], name: str, seconds: int, where: str, notes: Notes) -> dict[str, Any]:
    """A copy of the pool that allows ``seconds`` and forks workers only when they are asked for."""
    long_pool: dict[str, Any] = copy.deepcopy(pool)
    path = pool["listen"].rpartition("/")[0] + f"/{name}.sock"
    try:
        parse_listen(path)
    except ValueError as problem:
        notes.error(where, f"its pool's socket: {problem}")
    settings = long_pool["settings"]
    # Listeners and logs of its own: two pools cannot share them.
    settings["pm_status_listen"] = None
    if settings["request_slowlog_timeout"]:
        settings["request_slowlog_timeout"] = min(settings["request_slowlog_timeout"], seconds)
    long_pool.update(
        name=name,
        where=where,
        long_route_of=pool["name"],
        listen=path,
        address=f"unix:{path}",
        timeouts={
            "request_timeout": seconds,
            "max_execution_time": seconds,
            "request_terminate_timeout": seconds,
            "fastcgi_read_timeout": seconds + READ_TIMEOUT_MARGIN,
            "fastcgi_send_timeout": seconds + READ_TIMEOUT_MARGIN,
        },
        pm={
            **pool["pm"],
            "mode": "ondemand",
            "auto": False,
            "max_children": 1,
            "start_servers": None,
            "min_spare_servers": None,
            "max_spare_servers": None,
            "max_spawn_rate": None,
        },
    )
    return long_pool


def plan_site(
    raw: Any,
    where: str,
    defaults: dict[str, Any],
    pools: dict[str, dict[str, Any]],
    notes: Notes,
) -> dict[str, Any] | None:
    """The planned site, or None where nothing can be made of it.

    :param defaults: nginx_php_site_defaults, the keys of a site.
    :param pools: the planned pools by name; those that long routes need are added.
    """
    where += schema.entry_name(raw, ("name",))
    merged = raw
    if isinstance(raw, dict):
        merged = {**{key: value for key, value in defaults.items() if key not in raw}, **raw}
    site = schema.read_entry(merged, SITE_KEYS, where, notes, {})
    if site is None or not site["name"]:
        return None
    if not SITE_NAME.match(site["name"]):
        notes.error(
            where,
            f"{site['name']!r} cannot be a site's name (it names a file); use letters, digits, _ . and -",
        )
        return None
    if site["state"] == "absent":
        return {"name": site["name"], "state": "absent"}
    site["server_names"] = site["server_names"] or [site["name"]]
    if site["root"] is None:
        notes.error(where, "root is missing: the directory that holds the site's index.php")
    listen = _listen(site, where, notes)
    _buffers(site, where, notes)
    pool = pools.get(site["pool"]) if site["pool"] else None
    if pool is None or pool["state"] == "absent":
        there = (
            ", ".join(sorted(name for name, item in pools.items() if item["state"] == "present")) or "none"
        )
        if not site["pool"]:
            notes.error(where, f"pool is missing: name a pool of php_fpm_pools (there: {there})")
        else:
            notes.error(where, f"pool {site['pool']!r} is not in php_fpm_pools (there: {there})")
        return None
    routes = _long_routes(site, pool, pools, where, notes)
    del site["_given"]
    site.update(
        where=where,
        listen=listen,
        upstream=upstream_name(pool["name"]),
        ping_path=pool["settings"]["ping_path"],
        status_path=pool["settings"]["pm_status_path"],
        fastcgi_read_timeout=pool["timeouts"]["fastcgi_read_timeout"],
        fastcgi_send_timeout=pool["timeouts"]["fastcgi_send_timeout"],
        long_routes=routes,
        check=_check(site, listen),
    )
    return site
