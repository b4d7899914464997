# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the roles put PHP-FPM's files: the layout of Debian, Ubuntu and Sury's packages."""

from __future__ import annotations

import re
from typing import Any

VERSION = re.compile(r"^\d+\.\d+$")


def version_key(version: str) -> tuple[int, ...]:
    """Sorts 8.10 after 8.9."""
    return tuple(int(part) for part in version.split("."))


def layout(version: str, socket_dir: str) -> dict[str, str]:
    """Paths and names of one PHP version.

    :param socket_dir: may hold ``{version}``.
    """
    config_dir = f"/etc/php/{version}/fpm"
    service = f"php{version}-fpm"
    directory = socket_dir.replace("{version}", version).rstrip("/")
    return {
        "version": version,
        "service": service,
        "binary": f"/usr/sbin/php-fpm{version}",
        "config_dir": config_dir,
        "config_file": f"{config_dir}/php-fpm.conf",
        "pool_dir": f"{config_dir}/pool.d",
        # [global] in an included file is as good as in php-fpm.conf, and leaves the package's conffile alone.
        "global_file": f"{config_dir}/pool.d/00-php_stack-global.conf",
        "ini_file": f"{config_dir}/conf.d/99-php_stack.ini",
        "log_file": f"/var/log/{service}.log",
        "socket_dir": directory,
        # Where systemd holds sockets. socket_dir has links to them: a link can be put back, or change hands, in
        # one step while requests arrive; a socket cannot.
        "held_dir": f"{directory}/held",
        "sockets_file": f"/etc/php_stack/{service}.sockets",
        # The path unit that sees a socket being removed or closed.
        "mender": f"php_stack-{service}-mend.path",
        "package": f"php{version}-fpm",
    }


def socket_of(version: dict[str, Any], pool: str) -> dict[str, str]:
    """The socket unit of a pool: its name, the socket's path, and the name that FPM listens under.

    That name is no path where anything is: FPM unlinks it when it stops.

    :param version: of `layout`.
    """
    return {
        "pool": pool,
        "unit": f"{version['service']}-{pool}.socket",
        "path": f"{version['held_dir']}/{pool}.sock",
        "listen_name": f"{version['socket_dir']}/.inherited-{pool}",
    }
