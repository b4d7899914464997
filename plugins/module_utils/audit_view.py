# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that several rules ask of a snapshot (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import Evidence, where
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import IniValue, Snapshot

_LOCAL = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def short(path: str | None) -> str:
    """The last part of a path: enough for a person who reads one line."""
    return (path or "").rsplit("/", 1)[-1]


def at(text: str, entry: dict[str, Any] | None) -> Evidence:
    """Evidence at the place that a dict with ``file`` and ``line`` names."""
    return Evidence(text, entry.get("file"), entry.get("line")) if entry else Evidence(text)


def pool_title(pool: dict[str, Any]) -> str:
    return f"pool {pool['name']} (PHP {pool['version'] or '?'})"


def setting(owner: dict[str, Any], name: str) -> dict[str, Any]:
    """A directive of a pool or a master; without a value and a place where it is not known."""
    known = owner.get("directives") or owner.get("globals") or {}
    found: dict[str, Any] = known.get(name) or {"value": None, "file": None, "line": None, "default": True}
    return found


def place_of_setting(pool: dict[str, Any], name: str) -> Evidence:
    """Where a directive is set; for a default, where its pool starts."""
    found = setting(pool, name)
    if found["file"]:
        return Evidence(f"{name} = {raw(found)}", found["file"], found["line"])
    return Evidence(f"{name} is not set", pool.get("file") or pool.get("config_file"), pool.get("line"))


def raw(found: dict[str, Any]) -> str:
    """A value as a configuration writes it."""
    value = found.get("unresolved") or found["value"]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def locations(snapshot: Snapshot) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (snapshot.nginx or {}).get("locations", [])
    return found


def unread(snapshot: Snapshot) -> str:
    """Why nginx's configuration is not known in full: files that could not be opened, or only a part given."""
    for error in (snapshot.nginx or {}).get("errors", []):
        if "a part of a configuration" in error["message"] or "open()" in error["message"]:
            return f"nginx's configuration was not read in full ({where(error['file'], error['line'])})"
    return ""


def site(location: dict[str, Any]) -> str:
    """The first server name of a location's server, or where it listens."""
    names = [name for name in location["server_names"] if name not in ("", "_")]
    return names[0] if names else f"the server on {', '.join(location['listen'])}"


def is_local(address: str) -> bool:
    return address.startswith("unix:") or address.rpartition(":")[0] in _LOCAL


def _normal(address: str) -> tuple[str, str]:
    if address.startswith("unix:"):
        return "unix", address[5:]
    host, _separator, port = address.rpartition(":")
    return ("local" if host in _LOCAL else host), port


def pools_at(snapshot: Snapshot, address: str) -> list[dict[str, Any]]:
    """The pools that listen on an address of nginx."""
    target = snapshot.targets.get(address)
    wanted = {_normal(address), _normal(target.real if target else address)}
    return [
        pool
        for pool in snapshot.pools
        if pool["listen"]["address"] and _normal(pool["listen"]["address"]) in wanted
    ]


def passes(snapshot: Snapshot) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(location, target) for every address that requests can go to; variables are left out."""
    for location in locations(snapshot):
        for target in location["targets"]:
            if target["kind"] in ("unix", "tcp") and not target["down"]:
                yield location, target


def edges(snapshot: Snapshot) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(location, pool) for every pair that nginx connects."""
    for location in locations(snapshot):
        seen: list[int] = []
        for target in location["targets"]:
            if target["kind"] in ("unix", "tcp"):
                for pool in pools_at(snapshot, target["address"]):
                    if id(pool) not in seen:
                        seen.append(id(pool))
                        yield location, pool


def is_page(location: dict[str, Any], pool: dict[str, Any]) -> bool:
    """Whether a location only serves the pool's status or ping page."""
    pages = {pool["status_path"], pool["ping_path"]} - {None}
    return location["modifier"] in ("=", "^~", "") and location["match"] in pages


def log_cause(snapshot: Snapshot, ident: str) -> dict[str, Any] | None:
    """A cause that the logs show; None where they do not, or where there are no logs."""
    if snapshot.logs is None:
        return None
    return next((cause for cause in snapshot.logs["causes"] if cause["id"] == ident), None)


def log_evidence(cause: dict[str, Any]) -> Evidence:
    sample = (cause.get("evidence") or cause.get("samples") or [{}])[0]
    text = f"{cause['count']} x {cause['id']} in the logs, last {cause['last'] or 'at an unknown time'}"
    return Evidence(text, sample.get("source"))


def marks(snapshot: Snapshot, kind: str) -> list[dict[str, Any]] | None:
    """The reloads, stops … that the logs show; None without logs."""
    if snapshot.logs is None:
        return None
    return [mark for mark in snapshot.logs["timeline"]["marks"] if mark["kind"] == kind]


def php_value(snapshot: Snapshot, pool: dict[str, Any], name: str) -> tuple[str | None, Evidence]:
    """A php.ini directive as the pool sees it, and where it is set; (None, …) where it is not known."""
    for array in ("php_admin_value", "php_value"):
        found = (pool.get("directives") or {}).get(f"{array}[{name}]")
        if found is not None:
            value = None if found["value"] is None else str(found["value"])
            return value, Evidence(f"{array}[{name}] = {raw(found)}", found["file"], found["line"])
    ini: IniValue | None = snapshot.php_ini.get(pool["version"] or "", {}).get(name)
    if ini is not None:
        return ini.value, Evidence(f"{name} = {ini.value}", ini.file, ini.line)
    return None, Evidence(f"{name} is not set")


def php_size(text: str | None) -> int | None:
    """``128M`` -> bytes; None where it is no size. -1 stays -1, PHP's "no limit"."""
    if text is None:
        return None
    word = text.strip().strip('"').lower()
    factor = _UNITS.get(word[-1:], 1)
    digits = word[:-1] if factor > 1 else word
    return int(digits) * factor if digits.lstrip("-").isdigit() else None


def size(count: float) -> str:
    """Bytes for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= factor:
            number = count / factor
            return f"{number:.1f} {unit}" if number < 10 and number % 1 else f"{number:.0f} {unit}"
    return f"{count:.0f} B"


def edit(owner: dict[str, Any], name: str, value: Any) -> str:
    """A fix: the file to edit and the line to have in it."""
    found = setting(owner, name)
    file = found["file"] or owner.get("file") or owner.get("config_file") or ""
    place = where(file, found["line"]) if found["file"] else file
    return f"# {place}\n{name} = {value}"
