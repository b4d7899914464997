# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned pool as the directives of its file, in FPM's own notation."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.plan_layout import VERSION, version_key

# What FPM's ini scanner takes as it is. Anything else may be a comment, an operator or a constant there.
_PLAIN = re.compile(r"^[A-Za-z0-9_./:,@%+-]+$")
# Unquoted, these are constants to the scanner: "no" would become an empty value.
_CONSTANTS = {"null", "none", "true", "false", "yes", "no", "on", "off"}


def ini_value(value: str) -> str:
    """A value as FPM reads it back unchanged.

    :raises ValueError: for what its notation cannot hold.
    """
    if _PLAIN.match(value) and value.lower() not in _CONSTANTS:
        return value
    if "\x00" in value or "\n" in value:
        raise ValueError("a value cannot hold line breaks")
    if "${" in value:
        raise ValueError(f"{value!r} holds ${{, which FPM would replace")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def switch(value: bool) -> str:
    return "yes" if value else "no"


def pool_directives(pool: dict[str, Any]) -> list[tuple[str, str]]:
    """The directives of a pool's file, in a fixed order.

    :raises ValueError: naming the setting that FPM's notation cannot hold.
    """
    settings, pm, times = pool["settings"], pool["pm"], pool["timeouts"]
    version = version_key(pool["version"]) if VERSION.match(pool["version"]) else (0, 0)
    rows: list[tuple[str, Any]] = [
        ("user", pool["user"]),
        ("group", pool["group"]),
        ("listen", pool["socket"]["listen_name"] if pool["socket"] else pool["listen"]),
    ]
    # For a socket that systemd holds, its unit sets owner, group, mode and backlog.
    if pool["listen_kind"] == "unix" and not pool["socket"]:
        rows += [
            ("listen.owner", pool["listen_owner"]),
            ("listen.group", pool["listen_group"]),
            ("listen.mode", pool["listen_mode"]),
        ]
    elif pool["listen_kind"] == "tcp":
        rows.append(("listen.allowed_clients", ",".join(settings["listen_allowed_clients"])))
    rows += [
        ("listen.backlog", None if pool["socket"] else settings["listen_backlog"]),
        ("pm", pm["mode"]),
        ("pm.max_children", pm["max_children"]),
        ("pm.start_servers", pm["start_servers"]),
        ("pm.min_spare_servers", pm["min_spare_servers"]),
        ("pm.max_spare_servers", pm["max_spare_servers"]),
        ("pm.max_spawn_rate", pm["max_spawn_rate"] if pm["mode"] == "dynamic" else None),
        ("pm.process_idle_timeout", f"{pm['process_idle_timeout']}s" if pm["mode"] == "ondemand" else None),
        ("pm.max_requests", pm["max_requests"]),
        ("pm.status_path", settings["pm_status_path"]),
        ("pm.status_listen", settings["pm_status_listen"]),
        ("ping.path", settings["ping_path"]),
        ("request_terminate_timeout", f"{times['request_terminate_timeout']}s"),
    ]
    if settings["request_slowlog_timeout"]:
        rows += [
            ("request_slowlog_timeout", f"{settings['request_slowlog_timeout']}s"),
            ("slowlog", slowlog(pool)),
        ]
    rows += [
        ("access.log", settings["access_log"]),
        ("catch_workers_output", switch(settings["catch_workers_output"])),
        # PHP 7.3 introduced it; older versions refuse to start with it.
        (
            "decorate_workers_output",
            None if version < (7, 3) else switch(settings["decorate_workers_output"]),
        ),
        ("clear_env", switch(settings["clear_env"])),
        ("security.limit_extensions", " ".join(settings["security_limit_extensions"])),
        ("rlimit_files", settings["rlimit_files"]),
        ("rlimit_core", settings["rlimit_core"]),
        ("process.priority", settings["process_priority"]),
        ("chdir", settings["chdir"]),
        ("chroot", settings["chroot"]),
        ("php_admin_value[max_execution_time]", times["max_execution_time"]),
        ("php_admin_value[memory_limit]", settings["memory_limit"]),
    ]
    for kind in ("php_value", "php_flag", "php_admin_value", "php_admin_flag"):
        rows += [(f"{kind}[{name}]", value) for name, value in sorted(settings[f"{kind}s"].items())]
    rows += [(f"env[{name}]", value) for name, value in sorted(settings["env"].items())]
    own = {name for name, _value in rows} | {"slowlog", "request_slowlog_timeout"}
    for name, value in sorted(settings["directives"].items()):
        if name in own or name.startswith(("listen", "pm.", "php_", "env[")):
            raise ValueError(f"directives: {name} has a key of its own in a pool's description; use that")
        rows.append((name, value))
    result = []
    for name, value in rows:
        if value is None:
            continue
        # A switch is written bare: that is the scanner's constant, and meant to be one.
        bare = name.startswith(("php_flag", "php_admin_flag")) or str(value) in ("yes", "no")
        try:
            result.append((name, str(value) if bare else ini_value(str(value))))
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from problem
    return result


def slowlog(pool: dict[str, Any]) -> str:
    """Absolute always: FPM takes a relative one from its own prefix and refuses to start."""
    return pool["settings"]["slowlog"] or f"/var/log/php{pool['version']}-fpm-{pool['name']}-slow.log"


def rotated_logs(pools: list[dict[str, Any]]) -> list[str]:
    """The logs that pools write beside FPM's own, for logrotate."""
    logs = {slowlog(pool) for pool in pools if pool["settings"]["request_slowlog_timeout"]}
    logs |= {pool["settings"]["access_log"] for pool in pools if pool["settings"]["access_log"]}
    return sorted(logs)
