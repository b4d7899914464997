# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every layout and panel, each as a small tree that is read with root=DIR."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import gather
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_layouts import (
    LAYOUTS,
    PANELS,
    place_of,
    version_of,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

POOL = "[www]\nlisten = {listen}\nuser = app\npm = static\npm.max_children = 2\n"

# (name, the master's file, its include as it stands there, the pool's file, its listen,
#  what comes out: layout, version, unit, address)
TREES = [
    ("debian", "/etc/php/8.2/fpm/php-fpm.conf", "/etc/php/8.2/fpm/pool.d/*.conf", "/etc/php/8.2/fpm/pool.d/www.conf",
     "/run/php/php8.2-fpm.sock", ("debian", "8.2", "php8.2-fpm.service", "unix:/run/php/php8.2-fpm.sock")),
    ("rhel", "/etc/php-fpm.conf", "/etc/php-fpm.d/*.conf", "/etc/php-fpm.d/www.conf",
     "/run/php-fpm/www.sock", ("rhel", None, "php-fpm.service", "unix:/run/php-fpm/www.sock")),
    ("remi", "/etc/opt/remi/php83/php-fpm.conf", "/etc/opt/remi/php83/php-fpm.d/*.conf",
     "/etc/opt/remi/php83/php-fpm.d/www.conf", "/var/opt/remi/php83/run/php-fpm/www.sock",
     ("remi", "8.3", "php83-php-fpm.service", "unix:/var/opt/remi/php83/run/php-fpm/www.sock")),
    ("alpine", "/etc/php82/php-fpm.conf", "/etc/php82/php-fpm.d/*.conf", "/etc/php82/php-fpm.d/www.conf",
     "127.0.0.1:9000", ("alpine", "8.2", "php-fpm82.service", "127.0.0.1:9000")),
    ("suse", "/etc/php8/fpm/php-fpm.conf", "/etc/php8/fpm/php-fpm.d/*.conf", "/etc/php8/fpm/php-fpm.d/www.conf",
     "127.0.0.1:9000", ("suse", None, "php-fpm.service", "127.0.0.1:9000")),
    ("docker", "/usr/local/etc/php-fpm.conf", "etc/php-fpm.d/*.conf", "/usr/local/etc/php-fpm.d/www.conf",
     "9000", ("docker", None, "php-fpm.service", "127.0.0.1:9000")),
    ("plesk", "/opt/plesk/php/8.2/etc/php-fpm.conf", "/opt/plesk/php/8.2/etc/php-fpm.d/*.conf",
     "/opt/plesk/php/8.2/etc/php-fpm.d/example.com.conf", "/var/www/vhosts/system/example.com/php-fpm.sock",
     ("plesk", "8.2", "plesk-php82-fpm.service", "unix:/var/www/vhosts/system/example.com/php-fpm.sock")),
    ("cpanel", "/opt/cpanel/ea-php81/root/etc/php-fpm.conf", "/opt/cpanel/ea-php81/root/etc/php-fpm.d/*.conf",
     "/opt/cpanel/ea-php81/root/etc/php-fpm.d/example.com.conf", "/opt/cpanel/ea-php81/root/usr/var/run/php-fpm/0a.sock",
     ("cpanel", "8.1", "ea-php81-php-fpm.service", "unix:/opt/cpanel/ea-php81/root/usr/var/run/php-fpm/0a.sock")),
    ("aapanel", "/www/server/php/74/etc/php-fpm.conf", "/www/server/php/74/etc/php-fpm.d/*.conf",
     "/www/server/php/74/etc/php-fpm.d/www.conf", "/tmp/php-cgi-74.sock",
     ("aapanel", "7.4", "php-fpm-74.service", "unix:/tmp/php-cgi-74.sock")),
]  # fmt: skip
# (panel, its marker, the layout of the tree above that it writes)
MARKERS = [
    ("plesk", "usr/local/psa/version", "plesk"),
    ("cpanel", "usr/local/cpanel/version", "cpanel"),
    ("hestia", "usr/local/hestia/conf/hestia.conf", "debian"),
    ("virtualmin", "etc/webmin/virtual-server/config", "rhel"),
    ("virtualmin", "etc/webmin/virtual-server/config", "debian"),
    ("aapanel", "www/server/panel/class/common.py", "aapanel"),
    ("ispconfig", "usr/local/ispconfig/server/lib/config.inc.php", "debian"),
    ("cloudpanel", "usr/bin/clpctl", "debian"),
]  # fmt: skip


def write(top: Path, files: dict[str, str]) -> Host:
    for path, text in files.items():
        file = top / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Host(str(top))


def tree(name: str) -> dict[str, str]:
    _name, main, include, pool, listen, _expected = next(row for row in TREES if row[0] == name)
    return {main: f"[global]\ninclude = {include}\n", pool: POOL.format(listen=listen)}


@pytest.mark.parametrize("row", TREES, ids=[row[0] for row in TREES])
def test_a_layout_is_found(
    tmp_path: Path, row: tuple[str, str, str, str, str, tuple[str | None, ...]]
) -> None:
    name, main, _include, file, _listen, expected = row
    facts = gather(write(tmp_path, tree(name)))
    (master,), (pool,) = facts["fpm_masters"], facts["fpm_pools"]
    assert (master["layout"], master["version"], master["config_file"]) == (expected[0], expected[1], main)
    assert (pool["layout"], pool["version"], pool["listen"]["address"]) == (
        expected[0],
        expected[1],
        expected[3],
    )
    assert (pool["file"], pool["line"], pool["master"]) == (file, 1, main)
    assert (master["errors"], master["panel"], master["running"]) == ([], None, None)
    place = place_of(main)
    assert place is not None
    assert place.unit == expected[2]


@pytest.mark.parametrize(("panel", "marker", "layout"), MARKERS)
def test_a_panel_owns_its_pools(tmp_path: Path, panel: str, marker: str, layout: str) -> None:
    facts = gather(write(tmp_path, {**tree(layout), marker: ""}))
    assert [pool["panel"] for pool in facts["fpm_pools"]] == [panel]
    assert facts["fpm_masters"][0]["panel_override"]


def test_a_panel_does_not_own_what_it_does_not_write(tmp_path: Path) -> None:
    files = {**tree("cpanel"), **tree("debian"), "usr/local/cpanel/version": "1"}
    found = {pool["layout"]: pool["panel"] for pool in gather(write(tmp_path, files))["fpm_pools"]}
    assert found == {"cpanel": "cpanel", "debian": None}


def test_every_panel_and_layout_is_tried_here() -> None:
    assert {layout.name for layout in LAYOUTS} == {row[0] for row in TREES}
    assert {panel.name for panel in PANELS} == {row[0] for row in MARKERS}
    assert {name for panel in PANELS for name in panel.layouts} <= {layout.name for layout in LAYOUTS}


def test_several_versions_and_layouts_side_by_side(tmp_path: Path) -> None:
    files = dict(tree("debian"))
    files.update(
        {path.replace("8.2", "7.4"): text.replace("8.2", "7.4") for path, text in tree("debian").items()}
    )
    files.update(tree("remi"))
    found = [(pool["layout"], pool["version"]) for pool in gather(write(tmp_path, files))["fpm_pools"]]
    assert sorted(found) == [("debian", "7.4"), ("debian", "8.2"), ("remi", "8.3")]


@pytest.mark.parametrize(
    ("main", "binary", "version"),
    [
        ("/etc/php-fpm.conf", "/usr/sbin/php-fpm", "8.3"),
        ("/etc/php8/fpm/php-fpm.conf", "/usr/sbin/php-fpm", "8.1"),
    ],
)
def test_the_version_comes_from_the_binary_where_no_path_tells(
    tmp_path: Path, main: str, binary: str, version: str
) -> None:
    host = write(
        tmp_path, {main: POOL.format(listen="9000"), binary: f"\x7fELF…X-Powered-By: PHP/{version}.7\0"}
    )
    (master,) = gather(host)["fpm_masters"]
    assert (master["version"], master["binary"]) == (version, binary)


@pytest.mark.parametrize(
    "path",
    ["/etc/php/8.2/cli/php-fpm.conf", "/etc/php/old/fpm/php-fpm.conf", "/home/x/etc/php-fpm.conf", "/etc/php8.2/php-fpm.conf"],
)  # fmt: skip
def test_other_places_are_no_layout(path: str) -> None:
    assert place_of(path) is None


@pytest.mark.parametrize(
    ("digits", "version"),
    [
        ("8.2", (8, 2)),
        ("82", (8, 2)),
        ("8", None),
        ("7.4", (7, 4)),
        ("810", (8, 10)),
        ("8.10", (8, 10)),
        ("", None),
    ],
)
def test_a_version_is_read(digits: str, version: tuple[int, int] | None) -> None:
    assert version_of(digits) == version


def test_an_empty_tree_has_nothing(tmp_path: Path) -> None:
    assert gather(Host(str(tmp_path))) == {"fpm_pools": [], "fpm_masters": []}
