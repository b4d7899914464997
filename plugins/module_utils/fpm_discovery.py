# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find every PHP-FPM of a host: by the layouts' files, by systemd's units and by running masters."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

from ansible_collections.webops.php_stack.plugins.module_utils import procfs, systemd_units
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_defaults import Version
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_layouts import (
    LAYOUTS,
    PANELS,
    Panel,
    glob_of,
    panel_of,
    place_of,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

_PHP_FPM = re.compile(r"(?:.*/)?php[0-9.-]*-?fpm[0-9.]*\Z|(?:.*/)?php-fpm[0-9.]*\Z")
_BINARY_LIMIT = 128 << 20
_BUILT_IN_VERSION = re.compile(rb"PHP/([0-9]+)\.([0-9]+)\.[0-9]+")


@dataclass(frozen=True)
class Found:
    """One master, running or not.

    :param host: where its files are: this host, or the root of the container it runs in.
    :param unit: its systemd service; for one that does not run, the one that would start it.
    :param environment: variables of the master as far as they are known.
    """

    config_file: str
    host: Host
    layout: str | None
    version: Version | None
    panel: Panel | None
    binary: str | None
    unit: str | None
    prefix: str | None
    state_dir: str | None
    process: procfs.Master | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """What was found on a host.

    :param units: systemd's answer by unit; None where systemd was not asked or does not run.
    :param processes: None on a tree.
    """

    masters: list[Found]
    sockets: list[systemd_units.SocketUnit]
    units: dict[str, dict[str, str]] | None
    processes: procfs.Processes | None


def survey(host: Host) -> Survey:
    """Find the masters, and ask systemd once about all of them."""
    panels = [panel for panel in PANELS if any(host.exists(marker) for marker in panel.markers)]
    files = sorted({path for layout in LAYOUTS for path in host.glob(glob_of(layout)) if place_of(path)})
    by_layout = [_describe(path, host, panels) for path in files]
    if not host.live:
        masters = [_with_files(found, host) for found in by_layout]
        return Survey(masters, systemd_units.read_socket_units(host), None, None)

    names = {found.unit for found in by_layout if found.unit}
    question = systemd_units.Question(host, sorted(names))
    processes = procfs.read()
    units = question.answer()
    # A master may run in a unit whose name tells nobody of FPM.
    more = {process.unit for process in processes.masters if process.unit} - names - set(units or {})
    if units is not None and more:
        units.update(systemd_units.Question(host, sorted(more)).answer() or {})
    running = [_of_process(process, host, panels) for process in processes.masters]
    masters = running + _not_running(by_layout, running, units or {}, host, panels)
    masters = [_with_unit(found, units) for found in masters]
    masters.sort(key=lambda found: (found.config_file, found.process.pid if found.process else 0))
    return Survey(masters, systemd_units.socket_units(units or {}), units, processes)


def _describe(config_file: str, host: Host, panels: list[Panel], binary: str | None = None) -> Found:
    place = place_of(config_file)
    if place is None:
        return Found(config_file, host, None, _binary_version(host, binary), None, binary, None, None, None)
    if binary is None and host.exists(place.binary):
        binary = place.binary
    return Found(
        config_file,
        host,
        place.layout,
        place.version or _binary_version(host, binary),
        panel_of(place.layout, panels),
        binary,
        place.unit,
        place.prefix,
        place.state_dir,
    )


def _of_process(process: procfs.Master, host: Host, panels: list[Panel]) -> Found:
    inside = host if process.root == "/" else Host(process.root)
    found = _describe(process.config_file, inside, panels if inside is host else [], process.binary)
    if found.prefix is None:
        prefix, state_dir = _compiled_in(process.binary)
        found = replace(found, prefix=prefix, state_dir=state_dir)
    version = _named_version(process.binary) or _binary_version(inside, process.binary)
    # Every program in a container shares the variables it was started with, and FPM is its first one.
    environment = dict(os.environ) if process.pid == 1 else {}
    return replace(
        found,
        process=process,
        unit=process.unit,
        version=version or found.version,
        environment=environment,
    )


def _compiled_in(binary: str | None) -> tuple[str | None, str | None]:
    """Prefix and state folder of a binary that one of the layouts brings."""
    for layout in LAYOUTS:
        pattern = re.escape(layout.binary)
        pattern = pattern.replace(r"\{v\}", r"([0-9.]+)").replace(r"\{n\}", r"([0-9]+)")
        match = re.fullmatch(pattern, binary or "")
        if match:
            dotted = match.group(1) if match.groups() else ""

            def fill(text: str, dotted: str = dotted) -> str:
                return text.replace("{v}", dotted).replace("{n}", dotted)

            return fill(layout.prefix), fill(layout.state_dir)
    return None, None


def _not_running(
    by_layout: list[Found],
    running: list[Found],
    units: dict[str, dict[str, str]],
    host: Host,
    panels: list[Panel],
) -> list[Found]:
    """Masters of the layouts and of the units that no process stands for."""
    seen = {os.path.realpath(found.config_file) for found in running if found.host is host}
    active = {found.unit for found in running if found.unit}
    found_here: list[Found] = []
    for name, unit in units.items():
        words = systemd_units.main_command(unit)
        config_file = _config_argument(words)
        if name in active or not words or not config_file or not _PHP_FPM.match(words[0]):
            continue
        if os.path.realpath(config_file) not in seen and host.exists(config_file):
            seen.add(os.path.realpath(config_file))
            found_here.append(replace(_describe(config_file, host, panels, words[0]), unit=name))
    return found_here + [found for found in by_layout if os.path.realpath(found.config_file) not in seen]


def _config_argument(words: list[str]) -> str | None:
    for position, word in enumerate(words[1:], 1):
        if word in ("-y", "--fpm-config") and position + 1 < len(words):
            return words[position + 1]
        if word.startswith("--fpm-config="):
            return word.partition("=")[2]
    return None


def _with_unit(found: Found, units: dict[str, dict[str, str]] | None) -> Found:
    """Add what the unit says; a unit that the layout promises but systemd does not know is none."""
    if units is None or found.unit is None:
        return found
    unit = units.get(found.unit)
    if unit is None:
        return replace(found, unit=None)
    return replace(found, environment={**found.environment, **systemd_units.environment(unit)})


def _with_files(found: Found, host: Host) -> Found:
    unit = systemd_units.read_service(host, found.unit) if found.unit else None
    return _with_unit(found, {found.unit: unit} if found.unit and unit else {})


def _named_version(binary: str | None) -> Version | None:
    match = re.search(r"php-?([0-9])\.([0-9]+)(?:/|-?fpm)|fpm([0-9])\.([0-9]+)\Z", binary or "")
    if not match:
        return None
    major, minor = [group for group in match.groups() if group]
    return int(major), int(minor)


def _binary_version(host: Host, binary: str | None) -> Version | None:
    """The version that a binary carries in itself; it is not run."""
    named = _named_version(binary)
    if named or binary is None:
        return named
    try:
        match = _BUILT_IN_VERSION.search(host.read_bytes(binary, _BINARY_LIMIT))
    except OSError:
        return None
    return (int(match.group(1)), int(match.group(2))) if match else None
