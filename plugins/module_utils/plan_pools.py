# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning pools: one entry of php_fpm_pools to everything that its files need."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import plan_schema as schema
from ansible_collections.webops.php_stack.plugins.module_utils.plan_layout import VERSION, layout, socket_of
from ansible_collections.webops.php_stack.plugins.module_utils.plan_schema import Key, Notes

POOL_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
# sun_path of a unix socket is 108 bytes, the last of them a NUL (man 7 unix).
SOCKET_PATH_BYTES = 107
# nginx waits this much longer than FPM, so that it is FPM which ends a request and says so in its log.
READ_TIMEOUT_MARGIN = 5
# nginx has no "no limit": a request_timeout of 0 becomes a day there.
NO_LIMIT = 86400

POOL_KEYS: dict[str, Key] = {
    "name": Key(schema.word, required=True),
    "state": Key(schema.choice("present", "absent"), "present"),
    "version": Key(schema.text),
    "user": Key(schema.word),
    "group": Key(schema.word),
    "listen": Key(schema.word),
    "listen_owner": Key(schema.word),
    "listen_group": Key(schema.word),
    "listen_mode": Key(schema.file_mode),
    "listen_backlog": Key(schema.integer(1), 511),
    "listen_allowed_clients": Key(schema.list_of(schema.word), ["127.0.0.1"]),
    "request_timeout": Key(schema.seconds),
    "max_execution_time": Key(schema.seconds),
    "request_terminate_timeout": Key(schema.seconds),
    "fastcgi_read_timeout": Key(schema.seconds),
    "fastcgi_send_timeout": Key(schema.seconds),
    "pm": Key(schema.choice("dynamic", "static", "ondemand"), "dynamic"),
    "pm_max_children": Key(schema.either("auto", schema.integer(1)), "auto"),
    "pm_max_children_cap": Key(schema.integer(1)),
    "pm_start_servers": Key(schema.integer(1)),
    "pm_min_spare_servers": Key(schema.integer(1)),
    "pm_max_spare_servers": Key(schema.integer(1)),
    "pm_max_spawn_rate": Key(schema.integer(1)),
    "pm_process_idle_timeout": Key(schema.seconds, 10),
    "pm_max_requests": Key(schema.integer(0), 500),
    "pm_status_path": Key(schema.absolute_path, "/fpm-status"),
    "pm_status_listen": Key(schema.word),
    "ping_path": Key(schema.absolute_path, "/fpm-ping"),
    "weight": Key(schema.integer(1), 1),
    "min_children": Key(schema.integer(1), 1),
    "memory_limit": Key(schema.size),
    "request_slowlog_timeout": Key(schema.seconds),
    "slowlog": Key(schema.absolute_path),
    "access_log": Key(schema.absolute_path),
    "catch_workers_output": Key(schema.boolean, True),
    "decorate_workers_output": Key(schema.boolean, False),
    "clear_env": Key(schema.boolean, True),
    "security_limit_extensions": Key(schema.list_of(schema.word), [".php"]),
    "rlimit_files": Key(schema.integer(1)),
    "rlimit_core": Key(schema.either("unlimited", schema.integer(0))),
    "process_priority": Key(schema.integer(-19, 20)),
    "chdir": Key(schema.absolute_path),
    "chroot": Key(schema.absolute_path),
    "env": Key(schema.mapping, {}),
    "php_values": Key(schema.mapping, {}),
    "php_flags": Key(schema.mapping, {}),
    "php_admin_values": Key(schema.mapping, {}),
    "php_admin_flags": Key(schema.mapping, {}),
    "directives": Key(schema.mapping, {}),
}

# The keys of the best-known role for PHP-FPM.
POOL_ALIASES = {
    "pool_name": "name",
    "pool_user": "user",
    "pool_group": "group",
    "pool_listen": "listen",
    "pool_listen_allowed_clients": "listen_allowed_clients",
    "pool_pm": "pm",
    "pool_pm_max_children": "pm_max_children",
    "pool_pm_start_servers": "pm_start_servers",
    "pool_pm_min_spare_servers": "pm_min_spare_servers",
    "pool_pm_max_spare_servers": "pm_max_spare_servers",
    "pool_pm_max_requests": "pm_max_requests",
    "pool_pm_status_path": "pm_status_path",
}
_SPARES = ("pm_start_servers", "pm_min_spare_servers", "pm_max_spare_servers")


def spare_servers(max_children: int) -> dict[str, int]:
    """Start and spare servers that FPM accepts for any max_children.

    FPM wants 1 <= min_spare <= start <= max_spare <= max_children. A quarter started is the
    distribution's proportion (2 of 5, rounded to what scales); three quarters may idle, so that
    a pool does not fork and kill workers all the time.
    """
    start = max(1, max_children // 4)
    return {
        "start_servers": start,
        "min_spare_servers": max(1, start // 2),
        "max_spare_servers": max(start, max_children * 3 // 4),
    }


def parse_listen(raw: str) -> tuple[str, str]:
    """(kind, address) of a pool's `listen`: ("unix", path) or ("tcp", host:port).

    A bare port listens on all addresses for FPM; it is kept as it is.

    :raises ValueError: in words, for what FPM would not take.
    """
    value = raw[5:] if raw.startswith("unix:") else raw
    if value.startswith("/"):
        if len(value.encode()) > SOCKET_PATH_BYTES:
            raise ValueError(
                f"{value} has {len(value.encode())} bytes; a unix socket's path has at most {SOCKET_PATH_BYTES}"
            )
        return "unix", value
    match = re.match(r"^(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):)?(\d{1,5})$", value)
    if not match or not 1 <= int(match.group(2)) <= 65535:
        raise ValueError(f"{raw!r} is neither the absolute path of a socket, nor a port, nor host:port")
    return "tcp", value


def timeouts(pool: dict[str, Any], default: int, where: str, notes: Notes) -> dict[str, int]:
    """The ladder max_execution_time <= request_terminate_timeout < fastcgi_read_timeout, from one number."""
    base = default if pool["request_timeout"] is None else pool["request_timeout"]
    execution = base if pool["max_execution_time"] is None else pool["max_execution_time"]
    terminate = base if pool["request_terminate_timeout"] is None else pool["request_terminate_timeout"]
    derived = terminate + READ_TIMEOUT_MARGIN if terminate else NO_LIMIT
    read = derived if pool["fastcgi_read_timeout"] is None else pool["fastcgi_read_timeout"]
    send = read if pool["fastcgi_send_timeout"] is None else pool["fastcgi_send_timeout"]
    if terminate and (execution == 0 or execution > terminate):
        shown = f"{execution} s" if execution else "0 (no limit)"
        notes.error(
            where,
            f"max_execution_time {shown} is above request_terminate_timeout {terminate} s: FPM would kill the"
            " worker (502) before PHP ends the script; give request_timeout alone, or lower max_execution_time",
        )
    checked = [("fastcgi_read_timeout", read)]
    if send != read:
        checked.append(("fastcgi_send_timeout", send))
    for name, value in checked:
        if value == 0:
            notes.error(where, f"{name}: 0 is no timeout that nginx takes; give seconds")
        elif terminate == 0 and value < NO_LIMIT and pool[name] is not None:
            notes.warn(where, f"{name} {value} s gives up (504) on requests that FPM is told never to end")
        elif terminate and value <= terminate:
            notes.error(
                where,
                f"{name} {value} s is not above request_terminate_timeout {terminate} s: nginx would give up"
                f" (504) while the worker goes on; use at least {terminate + 1} s",
            )
    return {
        "request_timeout": base,
        "max_execution_time": execution,
        "request_terminate_timeout": terminate,
        "fastcgi_read_timeout": read,
        "fastcgi_send_timeout": send,
    }


def process_manager(pool: dict[str, Any], sizes: dict[str, Any], where: str, notes: Notes) -> dict[str, Any]:
    """The pm.* settings; max_children None where it is `auto` and no measured size was passed."""
    mode = pool["pm"]
    given = {key: pool[key] for key in _SPARES if pool[key] is not None}
    maximum = pool["pm_max_children"]
    measured: dict[str, Any] = sizes.get(pool["name"]) or {}
    auto = maximum == "auto"
    if auto:
        maximum = measured.get("max_children")
    result = {
        "mode": mode,
        "auto": auto,
        "max_children": maximum,
        "start_servers": None,
        "min_spare_servers": None,
        "max_spare_servers": None,
        "process_idle_timeout": pool["pm_process_idle_timeout"],
        "max_requests": pool["pm_max_requests"],
        "max_spawn_rate": pool["pm_max_spawn_rate"],
    }
    if mode != "dynamic":
        if given:
            notes.warn(where, f"{', '.join(sorted(given))}: not used with pm {mode}")
        return result
    if maximum is None:
        if given:
            notes.error(
                where,
                f"{', '.join(sorted(given))} cannot be kept while pm_max_children is auto; give a number",
            )
        return result
    derived = spare_servers(maximum)
    if auto:
        derived.update({key: measured[key] for key in derived if measured.get(key)})
    # A given value moves the derived ones beside it; given values among themselves must fit.
    start = given.get("pm_start_servers")
    low = given.get("pm_min_spare_servers")
    high = given.get("pm_max_spare_servers")
    if low is None:
        low = min(value for value in (derived["min_spare_servers"], start, high) if value is not None)
    if high is None:
        high = min(maximum, max(derived["max_spare_servers"], low, start or 0))
    if start is None:
        start = min(max(derived["start_servers"], low), high)
    if not 1 <= low <= start <= high <= maximum:
        notes.error(
            where,
            f"pm_min_spare_servers {low}, pm_start_servers {start}, pm_max_spare_servers {high} and pm_max_children"
            f" {maximum} are out of relation; FPM wants min_spare <= start <= max_spare <= max_children",
        )
    result.update(start_servers=start, min_spare_servers=low, max_spare_servers=high)
    return result


def plan_pool(
    raw: Any, where: str, defaults: dict[str, Any], options: dict[str, Any], notes: Notes
) -> dict[str, Any] | None:
    """One planned pool (see the filter's documentation for its keys), or None where nothing can be made of it.

    :param defaults: php_fpm_pool_defaults, the keys of a pool.
    :param options: the plan's options (see stack_plan.plan).
    """
    where += schema.entry_name(raw, ("name", "pool_name"))
    merged = raw
    if isinstance(raw, dict):
        merged = {**{key: value for key, value in defaults.items() if key not in raw}, **raw}
    pool = schema.read_entry(merged, POOL_KEYS, where, notes, POOL_ALIASES)
    if pool is None or not pool["name"]:
        return None
    name = pool["name"]
    if not POOL_NAME.match(name) or name == "global":
        notes.error(
            where, f"{name!r} cannot be a pool's name; use letters, digits, _ . and -, and not 'global'"
        )
        return None
    version = pool["version"] or options["default_version"]
    known = options["known_versions"]
    if not version:
        notes.error(where, "version is missing, and no php_fpm_version is set")
    elif not VERSION.match(version):
        notes.error(where, f"version: {version!r} is no PHP version; write it as in '8.2'")
    elif known and version not in known:
        notes.error(
            where,
            f"version: PHP {version} is neither installed nor offered by this host's package sources"
            f" (there: {', '.join(known)})",
        )
    result: dict[str, Any] = {
        "name": name,
        "state": pool["state"],
        "version": version,
        "where": where,
        "long_route_of": None,
        "settings": pool,
    }
    user = pool["user"] or options["nginx_user"]
    unix_default = f"{options['socket_dir'].replace('{version}', version or '')}/{name}.sock"
    kind, address = "unix", unix_default
    try:
        kind, address = parse_listen(pool["listen"] or unix_default)
    except ValueError as problem:
        notes.error(where, f"listen: {problem}")
    port = kind == "tcp"
    result.update(
        user=user,
        group=pool["group"] or (user if pool["user"] else options["nginx_group"]),
        listen=address,
        listen_kind=kind,
        # What fastcgi_pass and an upstream's server take. A bare port is FPM on every address.
        address=(f"127.0.0.1:{address}" if address.isdigit() else address) if port else f"unix:{address}",
        listen_owner=pool["listen_owner"] or options["nginx_user"],
        listen_group=pool["listen_group"] or options["nginx_group"],
        listen_mode=pool["listen_mode"] or "0660",
        socket=None,
        pm=process_manager(pool, options["sizes"], where, notes),
        timeouts=timeouts(pool, options["request_timeout"], where, notes),
    )
    _check_slowlog(pool, result["timeouts"]["request_terminate_timeout"], where, notes)
    if not port and pool["state"] == "present":
        _check_socket_rights(result, options, where, notes)
    return result


def hold_socket(pool: dict[str, Any], options: dict[str, Any], notes: Notes) -> None:
    """Give a planned unix pool the socket that systemd holds for it, where it does."""
    if not (options["socket_activation"] and pool["version"] and pool["listen_kind"] == "unix"):
        return
    pool["socket"] = socket_of(layout(pool["version"], options["socket_dir"]), pool["name"])
    length = len(pool["socket"]["path"].encode())
    if length > SOCKET_PATH_BYTES:
        notes.error(
            pool["where"],
            f"its socket {pool['socket']['path']} has {length} bytes; a unix socket's path has at most"
            f" {SOCKET_PATH_BYTES}. Shorten the pool's name or php_fpm_socket_dir",
        )


def _check_slowlog(pool: dict[str, Any], terminate: int, where: str, notes: Notes) -> None:
    slow = pool["request_slowlog_timeout"]
    if slow and terminate and slow > terminate:
        notes.error(
            where,
            f"request_slowlog_timeout {slow} s is above request_terminate_timeout {terminate} s:"
            " FPM does not start with that",
        )


def _check_socket_rights(pool: dict[str, Any], options: dict[str, Any], where: str, notes: Notes) -> None:
    """nginx's workers need to write to the socket: as its owner, its group, or as anybody."""
    mode = int(pool["listen_mode"], 8)
    owner, group = pool["listen_owner"], pool["listen_group"]
    if owner == options["nginx_user"]:
        allowed = mode & 0o200
    elif group == options["nginx_group"]:
        allowed = mode & 0o020
    else:
        allowed = mode & 0o002
    if not allowed:
        notes.error(
            where,
            f"a socket of {owner}:{group} with mode {pool['listen_mode']} is closed to nginx's user"
            f" {options['nginx_user']}:{options['nginx_group']} (502, 13: Permission denied);"
            f" leave out listen_owner, listen_group and listen_mode, or set listen_group to {options['nginx_group']}",
        )
    elif mode & 0o002:
        notes.warn(
            where, f"listen_mode {pool['listen_mode']}: every user of the host can run code as {pool['user']}"
        )
