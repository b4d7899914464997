# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to systemd: the state of services and of the sockets that systemd holds.

One `systemctl show` answers for all units. On a tree (root=DIR) the unit files
themselves are read, for what they set.
"""

from __future__ import annotations

import re
import shlex
import signal
from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,NRestarts,MemoryMax,TasksMax,LimitNOFILE,LimitNOFILESoft,"
    "Restart,KillSignal,TimeoutStopUSec,DropInPaths,MainPID,ExecStart,Environment,"
    "Listen,Symlinks,FileDescriptorName,Triggers,Backlog,SocketUser,SocketGroup,SocketMode"
)
_UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_DURATION = re.compile(r"([0-9.]+)\s*(us|ms|s|min|h|d|w|month|y)\Z")
_UNIT_SECONDS = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0,
    "w": 604800.0, "month": 2629800.0, "y": 31557600.0,
}  # fmt: skip
_INFINITE = ("infinity", "[not set]", "18446744073709551615", "")


@dataclass(frozen=True)
class SocketUnit:
    """A stream socket held by systemd for a service.

    :param names: what LISTEN_FDNAMES calls its descriptors.
    :param addresses: unix paths or host:port.
    :param links: paths that systemd links to the socket (Symlinks=).
    """

    id: str
    addresses: tuple[str, ...]
    names: str
    services: tuple[str, ...]
    backlog: int | None
    user: str | None
    group: str | None
    mode: str | None
    links: tuple[str, ...] = ()


class Question:
    """Asks systemd, while its caller goes on, about services, every loaded FPM service and every loaded socket unit."""

    def __init__(self, host: Host, services: list[str]) -> None:
        wanted = [*services, "*fpm*.service", "*.socket"]
        self._command = host.start(
            ["systemctl", "show", "--no-pager", f"--property={_PROPERTIES}", "--", *wanted]
        )

    def answer(self) -> dict[str, dict[str, str]] | None:
        """The properties by unit id; None where systemd does not run."""
        done = self._command.result()
        return parse_show(done.stdout) if done.rc == 0 else None


def parse_show(output: str) -> dict[str, dict[str, str]]:
    """Blocks of KEY=VALUE with an empty line between; a key that comes again adds a line."""
    units: dict[str, dict[str, str]] = {}
    for block in output.split("\n\n"):
        unit: dict[str, str] = {}
        for line in block.splitlines():
            key, _sep, value = line.partition("=")
            unit[key] = f"{unit[key]}\n{value}" if key in unit else value
        if unit.get("Id") and unit.get("LoadState", "loaded") != "not-found":
            units[unit["Id"]] = unit
    return units


def unit_state(unit: dict[str, str]) -> dict[str, object]:
    """State and limits of a service; None for what is not limited or not known."""
    drop_ins = unit.get("DropInPaths", "")
    return {
        "active": unit.get("ActiveState") or None,
        "sub": unit.get("SubState") or None,
        "result": unit.get("Result") or None,
        "restarts": _number(unit.get("NRestarts", "")),
        "memory_max_bytes": _number(unit.get("MemoryMax", "")),
        "tasks_max": _number(unit.get("TasksMax", "")),
        "limit_nofile": _number(unit.get("LimitNOFILESoft", "") or unit.get("LimitNOFILE", "")),
        "restart": unit.get("Restart") or None,
        "kill_signal": _signal_name(unit.get("KillSignal", "")),
        "timeout_stop_seconds": seconds(unit.get("TimeoutStopUSec", "")),
        "drop_ins": drop_ins.split(),
    }


def seconds(text: str) -> float | None:
    """systemd's way to write a duration ("1min 30s"); None for infinity and for no value."""
    if text in _INFINITE:
        return None
    total = 0.0
    for part in text.split():
        match = _DURATION.match(part)
        if not match:
            return None
        total += float(match.group(1)) * _UNIT_SECONDS[match.group(2)]
    return round(total, 6)


def main_command(unit: dict[str, str]) -> list[str]:
    """The words of ExecStart; quoting inside the arguments is lost in systemd's answer."""
    match = re.search(r"argv\[\]=(.*?) ; ", unit.get("ExecStart", ""))
    return match.group(1).split() if match else []


def environment(unit: dict[str, str]) -> dict[str, str]:
    """The variables that the unit itself sets."""
    try:
        words = shlex.split(unit.get("Environment", ""))
    except ValueError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def socket_units(units: dict[str, dict[str, str]]) -> list[SocketUnit]:
    """The socket units among the answers of `show`."""
    found = []
    for name, unit in units.items():
        listen = re.findall(r"^(.*) \(Stream\)$", unit.get("Listen", ""), re.MULTILINE)
        if name.endswith(".socket") and listen:
            found.append(
                SocketUnit(
                    name,
                    tuple(listen),
                    unit.get("FileDescriptorName", ""),
                    tuple(unit.get("Triggers", "").split()),
                    _number(unit.get("Backlog", "")),
                    unit.get("SocketUser") or None,
                    unit.get("SocketGroup") or None,
                    unit.get("SocketMode") or None,
                    tuple(unit.get("Symlinks", "").split()),
                )
            )
    return found


def read_socket_units(host: Host) -> list[SocketUnit]:
    """The socket units of a tree, from their files and drop-ins."""
    found: dict[str, SocketUnit] = {}
    for folder in _UNIT_FOLDERS:
        for path in host.glob(f"{folder}/*.socket"):
            name = path.rsplit("/", 1)[-1]
            if name in found:
                continue
            texts = [path]
            for place in reversed(_UNIT_FOLDERS):
                texts += host.glob(f"{place}/{name}.d/*.conf")
            settings = _settings(host, texts)
            if settings.get("ListenStream"):
                found[name] = _socket_unit(name, settings)
    return list(found.values())


def read_service(host: Host, name: str) -> dict[str, str] | None:
    """What the files of a service set, by systemctl's property names; None where it has no file."""
    files = [path for folder in _UNIT_FOLDERS for path in host.glob(f"{folder}/{name}")][:1]
    drop_ins = [path for folder in reversed(_UNIT_FOLDERS) for path in host.glob(f"{folder}/{name}.d/*.conf")]
    if not files and not drop_ins:
        return None
    settings = _settings(host, files + drop_ins)
    return {"Environment": " ".join(settings.get("Environment", []))}


def _settings(host: Host, paths: list[str]) -> dict[str, list[str]]:
    """Every assignment of some unit files in order; an empty one clears what came before."""
    settings: dict[str, list[str]] = {}
    for path in paths:
        try:
            text = host.read_text(path).replace("\\\n", " ")
        except OSError:
            continue
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or key.startswith(("#", ";")):
                continue
            if value.strip():
                settings.setdefault(key.strip(), []).append(value.strip())
            else:
                settings[key.strip()] = []
    return settings


def _socket_unit(name: str, settings: dict[str, list[str]]) -> SocketUnit:
    def last(key: str) -> str | None:
        values = settings.get(key)
        return values[-1] if values else None

    service = last("Service") or f"{name[: -len('.socket')]}.service"
    return SocketUnit(
        name,
        tuple(settings["ListenStream"]),
        last("FileDescriptorName") or name,
        (service,),
        _number(last("Backlog") or ""),
        last("SocketUser"),
        last("SocketGroup"),
        last("SocketMode"),
        tuple(link for value in settings.get("Symlinks", []) for link in value.split()),
    )


def _signal_name(text: str) -> str | None:
    number = _number(text)
    try:
        return signal.Signals(number).name if number else None
    except ValueError:
        return text


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and text not in _INFINITE else None
