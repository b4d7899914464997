# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where platforms and control panels keep PHP-FPM: one table each, nothing else to change for a new one.

In a pattern ``{v}`` stands for a version such as 8.2 and ``{n}`` for 82.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import Version


@dataclass(frozen=True)
class Layout:
    """How one kind of package lays PHP-FPM out.

    :param config: the master's file; ``unit`` and ``binary`` go with it.
    :param prefix: what was compiled in as prefix; ``state_dir`` as the folder of pid and log.
    """

    name: str
    config: str
    unit: str
    binary: str
    prefix: str = "/usr"
    state_dir: str = "/var"


LAYOUTS = (
    Layout("debian", "/etc/php/{v}/fpm/php-fpm.conf", "php{v}-fpm.service", "/usr/sbin/php-fpm{v}"),
    Layout("rhel", "/etc/php-fpm.conf", "php-fpm.service", "/usr/sbin/php-fpm"),
    Layout(
        "remi",
        "/etc/opt/remi/php{n}/php-fpm.conf",
        "php{n}-php-fpm.service",
        "/opt/remi/php{n}/root/usr/sbin/php-fpm",
        "/opt/remi/php{n}/root/usr",
        "/var/opt/remi/php{n}",
    ),
    Layout("alpine", "/etc/php{n}/php-fpm.conf", "php-fpm{n}.service", "/usr/sbin/php-fpm{n}"),
    Layout("suse", "/etc/php{n}/fpm/php-fpm.conf", "php-fpm.service", "/usr/sbin/php-fpm"),
    Layout(
        "docker",
        "/usr/local/etc/php-fpm.conf",
        "php-fpm.service",
        "/usr/local/sbin/php-fpm",
        "/usr/local",
        "/usr/local/var",
    ),
    Layout(
        "plesk",
        "/opt/plesk/php/{v}/etc/php-fpm.conf",
        "plesk-php{n}-fpm.service",
        "/opt/plesk/php/{v}/sbin/php-fpm",
        "/opt/plesk/php/{v}",
        "/var",
    ),
    Layout(
        "cpanel",
        "/opt/cpanel/ea-php{n}/root/etc/php-fpm.conf",
        "ea-php{n}-php-fpm.service",
        "/opt/cpanel/ea-php{n}/root/usr/sbin/php-fpm",
        "/opt/cpanel/ea-php{n}/root/usr",
        "/opt/cpanel/ea-php{n}/root/usr/var",
    ),
    Layout(
        "aapanel",
        "/www/server/php/{n}/etc/php-fpm.conf",
        "php-fpm-{n}.service",
        "/www/server/php/{n}/sbin/php-fpm",
        "/www/server/php/{n}",
        "/www/server/php/{n}/var",
    ),
)


@dataclass(frozen=True)
class Panel:
    """A control panel that writes pool files itself and overwrites what people change there.

    :param markers: paths that exist only where the panel is installed.
    :param layouts: the layouts whose pools it writes.
    :param override: the supported way to change a pool.
    """

    name: str
    markers: tuple[str, ...]
    layouts: tuple[str, ...]
    override: str


PANELS = (
    Panel(
        "plesk",
        ("/usr/local/psa/version", "/opt/psa/version"),
        ("plesk", "debian", "rhel"),
        "a [php-fpm-pool-settings] section in the domain's additional PHP directives",
    ),
    Panel(
        "cpanel",
        ("/usr/local/cpanel/version",),
        ("cpanel",),
        "/var/cpanel/ApachePHPFPM/system_pool_defaults.yaml, or /var/cpanel/userdata/USER/DOMAIN.php-fpm.yaml"
        " for one domain, then /scripts/php_fpm_config --rebuild",
    ),
    Panel(
        "hestia",
        ("/usr/local/hestia/conf/hestia.conf",),
        ("debian",),
        "a copy of the PHP-FPM template under a new name, chosen for the domain",
    ),
    Panel(
        "virtualmin",
        ("/etc/webmin/virtual-server/config",),
        ("debian", "rhel", "remi"),
        "Virtualmin's PHP-FPM configuration of the domain",
    ),
    Panel(
        "aapanel",
        ("/www/server/panel/class",),
        ("aapanel",),
        "the PHP version's performance settings in the panel",
    ),
    Panel(
        "ispconfig",
        ("/usr/local/ispconfig/server",),
        ("debian", "rhel"),
        "/usr/local/ispconfig/server/conf-custom/php_fpm_pool.conf.master",
    ),
    Panel(
        "cloudpanel",
        ("/usr/bin/clpctl",),
        ("debian",),
        "the site's PHP settings in CloudPanel",
    ),
)


@dataclass(frozen=True)
class Place:
    """One layout with its version filled in."""

    layout: str
    version: Version | None
    config_file: str
    unit: str
    binary: str
    prefix: str
    state_dir: str


def glob_of(layout: Layout) -> str:
    """The pattern that finds a layout's masters, for every version."""
    return layout.config.replace("{v}", "[0-9]*").replace("{n}", "[0-9]*")


def version_of(digits: str) -> Version | None:
    """8.2 and 82 are PHP 8.2; a lone 8 says only the major version, which is not enough."""
    match = re.fullmatch(r"([0-9])\.?([0-9]{1,2})", digits)
    return (int(match.group(1)), int(match.group(2))) if match else None


def place_of(config_file: str) -> Place | None:
    """Which layout a master's file belongs to; None where it lies nowhere known."""
    for layout in LAYOUTS:
        pattern = re.escape(layout.config)
        pattern = pattern.replace(r"\{v\}", r"(?P<v>[0-9]+\.[0-9]+)").replace(r"\{n\}", r"(?P<n>[0-9]+)")
        match = re.fullmatch(pattern, config_file)
        if not match:
            continue
        groups = match.groupdict()
        dotted = groups.get("v") or groups.get("n") or ""

        def fill(text: str, dotted: str = dotted) -> str:
            return text.replace("{v}", dotted).replace("{n}", dotted.replace(".", ""))

        return Place(
            layout.name,
            version_of(dotted),
            config_file,
            fill(layout.unit),
            fill(layout.binary),
            fill(layout.prefix),
            fill(layout.state_dir),
        )
    return None


def panel_of(layout: str | None, present: list[Panel]) -> Panel | None:
    """The panel, of those on the host, that owns the pools of a layout."""
    return next((panel for panel in present if layout in panel.layouts), None)
