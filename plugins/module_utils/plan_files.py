# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as the file sets of its two transactions (the arguments of config_transaction)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UPSTREAMS_FILE = "/etc/nginx/conf.d/php_stack-upstreams.conf"
SITES_AVAILABLE = "/etc/nginx/sites-available"
SITES_ENABLED = "/etc/nginx/sites-enabled"
UNITS = "/etc/systemd/system"
DROP_IN = "50-php_stack.conf"
# Links instead of `systemctl enable`: part of the transaction, and one step for any number of pools.
SOCKETS_WANTS = f"{UNITS}/sockets.target.wants"
MULTI_USER_WANTS = f"{UNITS}/multi-user.target.wants"
LIBRARY = "/usr/local/lib/php_stack"
ACTIVATE = f"{LIBRARY}/php-fpm-activate"
# Read after every other file, so that its `listen` is the last one of a pool.
GUESTS_FILE = "zz-php_stack-sockets.conf"


def fpm_files(
    versions: list[dict[str, Any]],
    pools: list[dict[str, Any]],
    absent_pools: list[dict[str, str]],
    ini: dict[str, Any],
    global_settings: dict[str, Any],
    prune: bool,
) -> dict[str, Any]:
    """files, manage, validate and due of the php_fpm role's transaction.

    A version without any described pool gets the global file alone: its own pools stay as they are.

    :param prune: False keeps the files of pools that leave, except where one stands in the way of a new one.
    """
    files: list[dict[str, Any]] = []
    manage: list[dict[str, str]] = []
    validate: list[dict[str, Any]] = []
    described = bool(pools or absent_pools)
    for version in versions:
        of_version = {"version": version}
        config_dir = version["pool_dir"]
        stale = [
            # Without a described pool nothing says which of them are to stay.
            {"dir": config_dir, "pattern": "*.conf" if described else "00-php_stack-*.conf"},
            {"dir": version["ini_file"].rpartition("/")[0], "pattern": "99-php_stack*.ini"},
        ]
        manage += stale if prune else [{"dir": config_dir, "pattern": name} for name in version["in_the_way"]]
        if version["empty"]:
            files += _absent(version, absent_pools)
            continue
        files.append(
            {
                "path": version["global_file"],
                "template": "global.conf.j2",
                "comment": ";",
                "vars": {**of_version, "settings": global_settings},
            }
        )
        if ini:
            files.append(
                {
                    "path": version["ini_file"],
                    "template": "php.ini.j2",
                    "comment": ";",
                    "vars": {"settings": ini},
                }
            )
        if version["logs"]:
            files.append(
                {
                    "path": f"/etc/logrotate.d/php_stack-{version['service']}",
                    "template": "logrotate.j2",
                    "comment": "#",
                    "vars": of_version,
                }
            )
        files += [
            {
                "path": f"{version['pool_dir']}/{pool['name']}.conf",
                "template": "pool.conf.j2",
                "comment": ";",
                "vars": {"pool": pool},
            }
            for pool in pools
            if pool["version"] == version["version"]
        ]
        guests = [socket for socket in version["sockets"] if socket["guest"] and version["held"]]
        if guests:
            files.append(
                {
                    "path": f"{config_dir}/{GUESTS_FILE}",
                    "template": "guests.conf.j2",
                    "comment": ";",
                    "vars": {"guests": guests},
                }
            )
        elif not prune:
            manage.append({"dir": config_dir, "pattern": GUESTS_FILE})
        if prune:
            files += _absent(version, absent_pools)
        validate.append(
            {
                "name": f"php-fpm{version['version']} -t",
                "command": [version["binary"], "--test", "--fpm-config", version["config_file"]],
            }
        )
    if versions and prune:
        manage.append({"dir": "/etc/logrotate.d", "pattern": "php_stack-*"})
    return {
        "files": files,
        "manage": manage,
        "validate": validate,
        "due": _due(versions, lambda version: [f"/etc/php/{version['version']}/*"]),
    }


def _due(
    versions: list[dict[str, Any]], paths: Callable[[dict[str, Any]], list[str]]
) -> list[dict[str, Any]]:
    """A change of these paths leaves the reload of a version's unit to be done, in this run or in a later one."""
    return [
        {"name": version["service"], "when_changed": paths(version)}
        for version in versions
        if not version["empty"]
    ]


def _absent(version: dict[str, Any], absent_pools: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"path": f"{version['pool_dir']}/{pool['name']}.conf", "state": "absent"}
        for pool in absent_pools
        if pool["version"] == version["version"]
    ]


def nginx_files(
    sites: list[dict[str, Any]], absent_sites: list[str], upstreams: list[dict[str, Any]]
) -> dict[str, Any]:
    """files, manage and validate of the nginx_php role's transaction."""
    files: list[dict[str, Any]] = []
    if upstreams:
        files.append(
            {"path": UPSTREAMS_FILE, "template": "upstreams.conf.j2", "vars": {"upstreams": upstreams}}
        )
    for site in sites:
        available = f"{SITES_AVAILABLE}/{site['name']}.conf"
        files += [
            {"path": available, "template": "site.conf.j2", "vars": {"site": site}},
            {"path": f"{SITES_ENABLED}/{site['name']}.conf", "state": "link", "target": available},
        ]
    for name in absent_sites:
        # Both spellings: a site by hand is often called without .conf, as Debian's `default` is.
        files += [
            {"path": f"{directory}/{name}{ending}", "state": "absent"}
            for directory in (SITES_ENABLED, SITES_AVAILABLE)
            for ending in ("", ".conf")
        ]
    return {
        "files": files,
        "manage": [
            {"dir": SITES_ENABLED, "pattern": "*.conf"},
            {"dir": SITES_AVAILABLE, "pattern": "*.conf"},
            {"dir": "/etc/nginx/conf.d", "pattern": "php_stack-*.conf"},
            {"dir": f"{UNITS}/nginx.service.d", "pattern": DROP_IN},
        ],
        "validate": [{"name": "nginx -t", "command": ["/usr/sbin/nginx", "-t"]}],
    }


def systemd_files(versions: list[dict[str, Any]], prune: bool) -> dict[str, Any]:
    """files, directories, manage and due of the fpm_systemd role's transaction, and the units that it touches.

    :param prune: whether files of sockets and versions that are not planned any more are removed.
    """
    files: list[dict[str, Any]] = []
    directories: list[dict[str, str]] = []
    for version in versions:
        folder = f"{UNITS}/{version['service']}.service.d"
        directories.append({"path": folder})
        of_version = {"version": version}
        files += [
            {"path": f"{folder}/{DROP_IN}", "template": "php-fpm.service.conf.j2", "vars": of_version},
            {
                "path": f"/etc/tmpfiles.d/php_stack-{version['service']}.conf",
                "template": "tmpfiles.conf.j2",
                "vars": of_version,
            },
        ]
        files += _socket_files(version)
    with_sockets = any(version["sockets"] for version in versions)
    if with_sockets:
        directories += [{"path": path} for path in ("/etc/php_stack", LIBRARY, SOCKETS_WANTS)]
        files.append({"path": ACTIVATE, "template": "php-fpm-activate.j2", "mode": "0755"})
    stale = [
        {"dir": "/etc/tmpfiles.d", "pattern": "php_stack-php*-fpm.conf"},
        {"dir": UNITS, "pattern": "php*-fpm-*.socket"},
        {"dir": SOCKETS_WANTS, "pattern": "php*-fpm-*.socket"},
        {"dir": UNITS, "pattern": "php_stack-php*-fpm-mend.*"},
        {"dir": MULTI_USER_WANTS, "pattern": "php_stack-php*-fpm-mend.path"},
        {"dir": "/etc/php_stack", "pattern": "php*-fpm.sockets"},
        {"dir": LIBRARY, "pattern": "php-fpm-activate"},
    ]
    return {
        "files": files,
        "directories": directories,
        "manage": stale if prune else [],
        "due": _due(
            versions, lambda version: [f"{UNITS}/{version['service']}-*.socket", version["sockets_file"]]
        ),
        "units": [f"{version['service']}.service" for version in versions]
        + [socket["unit"] for version in versions for socket in version["sockets"]],
        "menders": [version["mender"] for version in versions if version["sockets"]],
    }


def _socket_files(version: dict[str, Any]) -> list[dict[str, Any]]:
    if not version["sockets"]:
        return []
    path_unit = version["mender"]
    of_version = {"version": version}
    files: list[dict[str, Any]] = [
        {"path": version["sockets_file"], "template": "sockets.j2", "vars": of_version},
        {"path": f"{UNITS}/{path_unit}", "template": "mend.path.j2", "vars": of_version},
        {
            "path": f"{UNITS}/{path_unit.replace('.path', '.service')}",
            "template": "mend.service.j2",
            "vars": of_version,
        },
        {"path": f"{MULTI_USER_WANTS}/{path_unit}", "state": "link", "target": f"{UNITS}/{path_unit}"},
    ]
    for socket in version["sockets"]:
        unit = f"{UNITS}/{socket['unit']}"
        files += [
            {"path": unit, "template": "pool.socket.j2", "vars": {"socket": socket, **of_version}},
            {"path": f"{SOCKETS_WANTS}/{socket['unit']}", "state": "link", "target": unit},
        ]
    return files
