# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits: those of this process, which its caller has set, and those of a running master.

sudo hands on the caller's limits. A low limit on file sizes or memory would make a sound
configuration fail its test.

A reload starts FPM's program anew in the same process, so limits that were changed in the
unit do not reach it. They can be set from outside, which a restart is not needed for.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Mapping

_UNLIMITED = (
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_CPU,
    resource.RLIMIT_NPROC,
)
# Where "no limit" is not to be had, or does something else: what systems give by default, at least.
_AT_LEAST = {resource.RLIMIT_NOFILE: 65536, resource.RLIMIT_STACK: 8 << 20}
# fmt: off
_NAMES = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NOFILE", "AS", "NPROC", "MEMLOCK", "SIGPENDING", "MSGQUEUE",
    "NICE", "RTPRIO", "RTTIME",
)
# fmt: on
PROPERTIES = tuple(f"Limit{name}{part}" for name in _NAMES for part in ("", "Soft"))

# (soft, hard) by systemd's name, such as LimitNOFILE.
Limits = dict[str, tuple[int, int]]


def lift_own() -> None:
    """Free this process, and what it starts, of its caller's limits, as far as it may."""
    wishes = {
        **dict.fromkeys(_UNLIMITED, resource.RLIM_INFINITY),
        **_AT_LEAST,
    }
    for number, wish in wishes.items():
        soft, hard = resource.getrlimit(number)
        if soft == resource.RLIM_INFINITY or (wish != resource.RLIM_INFINITY and soft >= wish):
            continue
        enough = hard == resource.RLIM_INFINITY or (wish != resource.RLIM_INFINITY and hard >= wish)
        try:
            resource.setrlimit(number, (wish, hard if enough else wish))
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(number, (hard, hard))


def parse(shown: Mapping[str, list[str]]) -> Limits:
    """The unit's limits out of ``systemctl show``; one that is not told is left out."""

    def number(key: str) -> int | None:
        text = shown.get(key, [""])[0]
        if text == "infinity":
            return resource.RLIM_INFINITY
        return int(text) if text.isdigit() else None

    found = {}
    for name in _NAMES:
        soft, hard = number(f"Limit{name}Soft"), number(f"Limit{name}")
        if soft is not None and hard is not None:
            found[f"Limit{name}"] = (soft, hard)
    return found


def _number(name: str) -> int:
    return int(getattr(resource, f"RLIMIT_{name[len('Limit') :]}"))


def differing(pid: int, wanted: Limits) -> list[str]:
    """Those limits of a process that are not what the unit says."""
    with contextlib.suppress(OSError):
        return [name for name, pair in wanted.items() if resource.prlimit(pid, _number(name)) != pair]
    return []


def bring_up_to_date(pid: int, wanted: Limits) -> list[str]:
    """Give a running master its unit's limits; returns the names of those that were others.

    FPM's own rlimit_files and rlimit_core win: it sets them again when it reloads.
    """
    names = differing(pid, wanted)
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, _number(name), wanted[name])
    return names
