# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as the file sets of its two transactions (the arguments of config_transaction)."""

from __future__ import annotations

from typing import Any

UPSTREAMS_FILE = "/etc/nginx/conf.d/php_stack-upstreams.conf"
SITES_AVAILABLE = "/etc/nginx/sites-available"
SITES_ENABLED = "/etc/nginx/sites-enabled"
UNITS = "/etc/systemd/system"
DROP_IN = "50-php_stack.conf"


def fpm_files(
    versions: list[dict[str, Any]],
    pools: list[dict[str, Any]],
    absent_pools: list[dict[str, str]],
    ini: dict[str, Any],
    global_settings: dict[str, Any],
) -> dict[str, Any]:
    """files, manage and validate of the php_fpm role's transaction.

    A version without any described pool gets the global file alone: its own pools stay as they are.
    """
    files: list[dict[str, Any]] = []
    manage: list[dict[str, str]] = []
    validate: list[dict[str, Any]] = []
    for version in versions:
        of_version = {"version": version}
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
        files += [
            {"path": f"{version['pool_dir']}/{pool['name']}.conf", "state": "absent"}
            for pool in absent_pools
            if pool["version"] == version["version"]
        ]
        described = any(pool["version"] == version["version"] for pool in (*pools, *absent_pools))
        manage += [
            # Without a described pool nothing says which of them are to stay.
            {"dir": version["pool_dir"], "pattern": "*.conf" if described else "00-php_stack-*.conf"},
            {"dir": version["ini_file"].rpartition("/")[0], "pattern": "99-php_stack*.ini"},
        ]
        validate.append(
            {
                "name": f"php-fpm{version['version']} -t",
                "command": [version["binary"], "--test", "--fpm-config", version["config_file"]],
            }
        )
    if versions:
        manage.append({"dir": "/etc/logrotate.d", "pattern": "php_stack-*"})
    return {"files": files, "manage": manage, "validate": validate}


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


def systemd_files(versions: list[dict[str, Any]]) -> dict[str, Any]:
    """files, directories and manage of the fpm_systemd role's transaction, and the units that it touches."""
    files: list[dict[str, Any]] = []
    directories: list[dict[str, str]] = []
    for version in versions:
        folder = f"{UNITS}/{version['service']}.service.d"
        directories.append({"path": folder})
        files += [
            {
                "path": f"{folder}/{DROP_IN}",
                "template": "php-fpm.service.conf.j2",
                "vars": {"version": version},
            },
            {
                "path": f"/etc/tmpfiles.d/php_stack-{version['service']}.conf",
                "template": "tmpfiles.conf.j2",
                "vars": {"version": version},
            },
        ]
    return {
        "files": files,
        "directories": directories,
        "manage": [{"dir": "/etc/tmpfiles.d", "pattern": "php_stack-*.conf"}],
        "units": [f"{version['service']}.service" for version in versions],
    }
