# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What FPM does after the last line is read: fill in defaults, derive values, refuse contradictions.

Only what the text shows is judged. Whether a user, a directory or a slow log
exists is the host's matter, and other modules ask that.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import (
    DEFAULT_ACCESS_FORMAT,
    EVENT_MECHANISMS,
    EXPANDED_INI,
    GLOBAL,
    MIN_LOG_LIMIT,
    POOL,
    UNSET_PRIORITY,
    Directive,
    Version,
)
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import (
    Build,
    FpmConfig,
    Pool,
    Problem,
    Setting,
)

_URL_PATH = re.compile(r"[A-Za-z0-9/_.~-]*\Z")
_ARRAY = re.compile(r"(php_value|php_admin_value)\[(.*)\]\Z", re.DOTALL)


def is_tcp(listen: str) -> bool:
    """Whether FPM takes an address for TCP: it has a colon or is a bare port."""
    return ":" in listen or re.fullmatch(r"[0-9]+", listen) is not None


def finish(config: FpmConfig, build: Build) -> None:
    """Complete ``config`` in place and add what FPM refuses to its problems."""
    _finish_globals(config, build)
    if not config.pools:
        _refuse(config, None, None, "no pool is defined; FPM needs at least one")
    for pool in config.pools:
        _finish_pool(config, pool, build)
    _refuse_shared_addresses(config)


def _refuse(config: FpmConfig, pool: Pool | None, directive: str | None, message: str) -> None:
    settings = config.settings if pool is None else pool.settings
    setting = settings.get(directive) if directive else None
    file, line = (pool.file, pool.line) if pool else (config.file, None)
    if setting and setting.file:
        file, line = setting.file, setting.line
    config.problems.append(Problem(file, line, f"[{pool.name}] {message}" if pool else message))


@functools.cache
def _defaults(version: Version | None, of_pool: bool) -> dict[str, Setting]:
    return {
        name: Setting(directive.default_for(version), default=True)
        for name, directive in (POOL if of_pool else GLOBAL).items()
        if directive.known_to(version)
    }


def _with_defaults(
    settings: dict[str, Setting], known: dict[str, Directive], version: Version | None
) -> dict[str, Setting]:
    """All settings, in FPM's order; what the files set besides comes last."""
    complete = {**dict.fromkeys(known), **_defaults(version, known is POOL), **settings}
    return {name: setting for name, setting in complete.items() if setting is not None}


def _change(owner: FpmConfig | Pool, name: str, value: Any) -> None:
    """Put in what FPM made of a value; where it came from stays as it is."""
    if owner.settings[name].value is not value:
        owner.settings[name] = dataclasses.replace(owner.settings[name], value=value)


def _finish_globals(config: FpmConfig, build: Build) -> None:
    config.settings = _with_defaults(config.settings, GLOBAL, build.version)
    values = {name: setting.value for name, setting in config.settings.items()}
    if isinstance(values["pid"], str):
        _change(config, "pid", _full_path(values["pid"], build.state_dir))
    error_log = values["error_log"]
    if isinstance(error_log, str) and error_log.lower() != "syslog":
        _change(config, "error_log", _full_path(error_log, build.state_dir))
    if "log_limit" in values and values["log_limit"] is not None and values["log_limit"] < MIN_LOG_LIMIT:
        _refuse(config, None, "log_limit", f"log_limit must be at least {MIN_LOG_LIMIT}")
    if values["process.max"] is not None and values["process.max"] < 0:
        _refuse(config, None, "process.max", "process.max cannot be negative")
    _check_priority(config, None)
    mechanism = values["events.mechanism"]
    if mechanism is not None:
        if mechanism.lower() not in EVENT_MECHANISMS:
            _refuse(
                config, None, "events.mechanism", f"events.mechanism: '{mechanism}' is not available on Linux"
            )
        else:
            _change(config, "events.mechanism", mechanism.lower())


def _check_priority(config: FpmConfig, pool: Pool | None) -> None:
    owner = config if pool is None else pool
    priority = owner.settings["process.priority"].value
    if priority == UNSET_PRIORITY:
        _change(owner, "process.priority", None)
    elif priority is not None and not -19 <= priority <= 20:
        _refuse(config, pool, "process.priority", "process.priority must lie between -19 and 20")


def _full_path(path: str, start: str | None) -> str:
    """A path as FPM completes it; a relative one stays so where its start is not known."""
    return path if path.startswith("/") or start is None else f"{start}/{path}"


def _finish_pool(config: FpmConfig, pool: Pool, build: Build) -> None:
    pool.settings = _with_defaults(pool.settings, POOL, build.version)
    prefix = pool.value("prefix")
    if prefix:
        prefix = _full_path(prefix, build.prefix)
        _change(pool, "prefix", prefix)
    start = (
        build.prefix
        if prefix is None
        else (prefix if prefix.startswith("/") else _under(build.prefix, prefix))
    )
    if build.as_root and pool.value("user") is None and not _unresolved(pool, "user"):
        _refuse(config, pool, None, "user is not set")
    listen = pool.value("listen")
    if listen:
        if not is_tcp(listen):
            _change(pool, "listen", _full_path(listen, start))
    elif not _unresolved(pool, "listen"):
        _refuse(config, pool, "listen", "listen is not set")
    _check_priority(config, pool)
    _finish_process_manager(config, pool, build)
    _finish_pages(config, pool)
    _finish_logs(config, pool, start)
    _finish_folders(config, pool, start)
    if not pool.value("chroot"):
        for name, setting in list(pool.settings.items()):
            match = _ARRAY.match(name)
            if not match or setting.value is None or match.group(2).lower() not in EXPANDED_INI:
                continue
            to_syslog = match.group(2).lower() == "error_log" and setting.value.lower() == "syslog"
            if not (to_syslog and match.group(1) == "php_admin_value"):
                _change(pool, name, _full_path(setting.value, start))


def _under(start: str | None, prefix: str) -> str | None:
    return None if start is None else f"{start}/{prefix}"


def _unresolved(pool: Pool, name: str) -> bool:
    return pool.settings[name].unresolved is not None


def _finish_process_manager(config: FpmConfig, pool: Pool, build: Build) -> None:
    mode, maximum = pool.value("pm"), pool.value("pm.max_children")
    if mode is None and not _unresolved(pool, "pm"):
        _refuse(config, pool, None, "pm is not set: static, dynamic or ondemand")
    if maximum is not None and maximum < 1:
        _refuse(config, pool, "pm.max_children", "pm.max_children must be at least 1")
    if mode == "dynamic":
        _finish_dynamic(config, pool, maximum)
    elif mode == "ondemand":
        idle = pool.value("pm.process_idle_timeout")
        if idle is not None and idle < 1:
            _refuse(config, pool, "pm.process_idle_timeout", "pm.process_idle_timeout must be at least 1s")
        mechanism = config.settings["events.mechanism"].value
        if mechanism in ("select", "poll"):
            _refuse(config, pool, "pm", f"pm = ondemand does not work with events.mechanism = {mechanism}")
        # FPM raises what is below its default, for this mode only.
        backlog, least = pool.value("listen.backlog"), POOL["listen.backlog"].default_for(build.version)
        if backlog is not None and least is not None and backlog < least:
            _change(pool, "listen.backlog", least)
        # FPM forgets them; a number that has no effect must not look as if it had.
        for name in ("pm.start_servers", "pm.min_spare_servers", "pm.max_spare_servers"):
            _change(pool, name, 0)


def _finish_dynamic(config: FpmConfig, pool: Pool, maximum: int | None) -> None:
    start, low, high = (
        pool.value(name) for name in ("pm.start_servers", "pm.min_spare_servers", "pm.max_spare_servers")
    )
    if None in (start, low, high):
        return
    for name, value in (("pm.min_spare_servers", low), ("pm.max_spare_servers", high)):
        if value <= 0:
            _refuse(config, pool, name, f"{name} must be at least 1 with pm = dynamic")
        elif maximum is not None and value > maximum:
            _refuse(config, pool, name, f"{name} ({value}) is greater than pm.max_children ({maximum})")
    if high < low:
        _refuse(
            config,
            pool,
            "pm.max_spare_servers",
            f"pm.max_spare_servers ({high}) is less than pm.min_spare_servers ({low})",
        )
    if start <= 0:
        _change(pool, "pm.start_servers", low + int((high - low) / 2))
    elif not low <= start <= high:
        _refuse(
            config,
            pool,
            "pm.start_servers",
            f"pm.start_servers ({start}) must lie between pm.min_spare_servers ({low})"
            f" and pm.max_spare_servers ({high})",
        )
    rate = pool.value("pm.max_spawn_rate")
    if rate is not None and rate < 1:
        _refuse(config, pool, "pm.max_spawn_rate", "pm.max_spawn_rate must be at least 1")


def _finish_pages(config: FpmConfig, pool: Pool) -> None:
    has_listener = pool.value("pm.status_listen") is not None
    if has_listener and pool.value("pm.status_path") is None and not _unresolved(pool, "pm.status_path"):
        _change(pool, "pm.status_path", "/")
    for name, shortest in (("pm.status_path", 1 if has_listener else 2), ("ping.path", 2)):
        path = pool.value(name)
        if not path:
            continue
        if not path.startswith("/"):
            _refuse(config, pool, name, f"{name} '{path}' does not start with '/'")
        elif len(path) < shortest:
            _refuse(config, pool, name, f"{name} '{path}' is too short")
        if not _URL_PATH.match(path):
            _refuse(config, pool, name, f"{name} '{path}' may only hold letters, digits and / - _ . ~")
    if not pool.value("ping.path"):
        _change(pool, "ping.response", None)
    elif pool.value("ping.response") is None and not _unresolved(pool, "ping.response"):
        _change(pool, "ping.response", "pong")
    elif pool.value("ping.response") == "":
        _refuse(config, pool, "ping.response", "ping.response is empty")


def _finish_logs(config: FpmConfig, pool: Pool, start: str | None) -> None:
    for name in ("access.log", "slowlog"):
        if pool.value(name):
            _change(pool, name, _full_path(pool.value(name), start))
    if pool.value("access.log") and pool.value("access.format") is None:
        _change(pool, "access.format", DEFAULT_ACCESS_FORMAT)
    slow, limit = pool.value("request_slowlog_timeout"), pool.value("request_terminate_timeout")
    has_slowlog = bool(pool.value("slowlog")) or _unresolved(pool, "slowlog")
    if slow and not has_slowlog:
        _refuse(config, pool, "request_slowlog_timeout", "request_slowlog_timeout needs slowlog to be set")
    if slow and limit and slow > limit:
        _refuse(
            config,
            pool,
            "request_slowlog_timeout",
            f"request_slowlog_timeout ({slow}s) is greater than request_terminate_timeout ({limit}s)",
        )
    depth = pool.settings.get("request_slowlog_trace_depth")
    if depth is None or depth.default or depth.value is None:
        return
    if depth.value == 0:
        _change(pool, "request_slowlog_trace_depth", 20)
    elif not has_slowlog:
        _refuse(
            config, pool, "request_slowlog_trace_depth", "request_slowlog_trace_depth needs slowlog to be set"
        )
    elif depth.value < 0:
        _refuse(config, pool, "request_slowlog_trace_depth", "request_slowlog_trace_depth must be at least 1")


def _finish_folders(config: FpmConfig, pool: Pool, start: str | None) -> None:
    chroot = pool.value("chroot")
    if chroot:
        if "$prefix" in chroot[1:] and not chroot.startswith("/"):
            _refuse(config, pool, "chroot", "chroot: $prefix may only stand at the beginning")
        elif chroot.startswith("$prefix"):
            rest = chroot[len("$prefix") :]
            if start is not None:
                _change(pool, "chroot", f"{start}/{rest}" if rest else start)
        else:
            _change(pool, "chroot", _full_path(chroot, start))
    if pool.value("chdir"):
        _change(pool, "chdir", _full_path(pool.value("chdir"), start))


def _refuse_shared_addresses(config: FpmConfig) -> None:
    taken: dict[str, Pool] = {}
    for name in ("listen", "pm.status_listen"):
        for pool in config.pools:
            address = pool.value(name)
            if not address:
                continue
            if address in taken:
                _refuse(
                    config,
                    pool,
                    name,
                    f"{name} {address} is used by the pool '{taken[address].name}' already",
                )
            else:
                taken[address] = pool
