# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration through FPM's own eyes: its test, its words, and the settings it would use."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass

from fpm_reload.outcome import CONFIG_INVALID, UNTESTED, Failure
from fpm_reload.unit import Unit, run

_STAMP = re.compile(r"^\[\d\d-\w{3}-\d{4} [\d:.]+\] ")
_SECTION = re.compile(r"NOTICE: +\[(.+)\]$")
_SETTING = re.compile(r"NOTICE: +\t(\S+) = (.*)$")
_UNSET = ("undefined", "")


@dataclass(frozen=True)
class Pool:
    """What a pool asks of its listener. None: not set, so FPM leaves it as the system makes it."""

    name: str
    listen: str
    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    backlog: int | None = None
    acl: bool = False
    allowed_clients: bool = False


@dataclass(frozen=True)
class Settings:
    """The effective configuration, as far as it matters here; ``known`` is False where FPM did not tell."""

    pools: tuple[Pool, ...] = ()
    control_timeout_seconds: int = 0
    known: bool = False


def words(text: str) -> list[str]:
    """FPM's complaints without its time stamps; all that it said where nothing is marked as one."""
    lines = [_STAMP.sub("", line) for line in text.splitlines() if line.strip()]
    complaints = [line for line in lines if "NOTICE:" not in line]
    return complaints or lines


def parse_dump(text: str) -> Settings:
    """Read the output of ``php-fpm -tt``."""
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        section, setting = _SECTION.search(line), _SETTING.search(line)
        if section:
            current = sections.setdefault(section.group(1), {})
        elif setting:
            current[setting.group(1)] = setting.group(2).strip()
    if "global" not in sections:
        return Settings()
    seconds = re.match(r"\d+", sections.pop("global").get("process_control_timeout", ""))
    return Settings(
        pools=tuple(_pool(name, values) for name, values in sections.items()),
        control_timeout_seconds=int(seconds.group()) if seconds else 0,
        known=True,
    )


def _pool(name: str, values: dict[str, str]) -> Pool:
    def value(key: str) -> str | None:
        found = values.get(key, "")
        return None if found in _UNSET else found

    backlog = value("listen.backlog")
    return Pool(
        name=name,
        listen=values.get("listen", ""),
        owner=value("listen.owner"),
        group=value("listen.group"),
        mode=value("listen.mode"),
        backlog=int(backlog) if backlog and re.fullmatch(r"-?\d+", backlog) else None,
        acl=bool(value("listen.acl_users") or value("listen.acl_groups")),
        allowed_clients=bool(value("listen.allowed_clients")),
    )


def check(unit: Unit) -> Settings:
    """Let the unit's own php-fpm test its configuration, and return what it would use.

    :raises Failure: CONFIG_INVALID, with FPM's own words; UNTESTED where the test came to no end of its own.
    """
    tested = run([unit.binary, *unit.options, "-t"], 60)
    state = "the running PHP-FPM was left alone" if unit.running else "and the service does not run"
    if tested.cut_off:
        raise Failure(
            UNTESTED,
            f"the configuration could not be tested, {state} ({unit.binary} -t {tested.cut_off})",
            words(tested.stderr + tested.stdout),
        )
    if tested.rc != 0:
        raise Failure(
            CONFIG_INVALID,
            f"the configuration is invalid, {state} ({unit.binary} -t: rc {tested.rc})",
            words(tested.stderr + tested.stdout),
        )
    return _settings(unit)


def _settings(unit: Unit) -> Settings:
    """Ask for the dump through a file of our own: php-fpm -tt writes it to error_log, if log_level lets it."""
    config = unit.config_file
    if not config:
        return Settings()
    folder = tempfile.mkdtemp(prefix="php-fpm-reload.", dir="/run")
    try:
        wrapper = os.path.join(folder, "dump.conf")
        with open(wrapper, "w", encoding="utf-8") as handle:
            handle.write(f"include = {config}\n[global]\nerror_log = /dev/stderr\nlog_level = notice\n")
        options = [wrapper if option == config else option for option in unit.options]
        return parse_dump(run([unit.binary, *options, "-tt"], 60).stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
