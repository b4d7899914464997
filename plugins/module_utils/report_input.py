# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's input for one host: what the modules returned, checked and joined (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import pool_title, pools_at, site

_PAIR = re.compile(r"(.*) -> pool (.*)", re.DOTALL)


@dataclass(frozen=True)
class Deployment:
    """A symbolic link on the way to a document root, and when it was last switched (seconds since the epoch)."""

    path: str
    when: float


@dataclass(frozen=True)
class HostInput:
    """One host.

    :ivar audit: what stack_audit returns; ``pools`` and ``masters`` fpm_pool_facts, ``nginx``
        nginx_fastcgi_info, ``sizing`` fpm_sizing. Empty where there is none.
    :ivar problems: why a part is missing.
    """

    name: str
    audit: Mapping[str, Any] = field(default_factory=dict)
    pools: tuple[Mapping[str, Any], ...] = ()
    masters: tuple[Mapping[str, Any], ...] = ()
    nginx: Mapping[str, Any] = field(default_factory=dict)
    sizing: Mapping[str, Any] = field(default_factory=dict)
    deployments: tuple[Deployment, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def findings(self) -> list[Mapping[str, Any]]:
        return list(self.audit.get("findings", ()))

    @property
    def locations(self) -> list[Mapping[str, Any]]:
        return list(self.nginx.get("locations", ()))


_PARTS = {
    "audit": ("stack_audit", "findings"),
    "fpm": ("fpm_pool_facts", "ansible_facts"),
    "nginx": ("nginx_fastcgi_info", "locations"),
    "sizing": ("fpm_sizing", "budget"),
}


def parse(raw: Mapping[str, Any]) -> HostInput:
    """One entry of the filter's input: ``name`` and the results registered as ``audit``, ``fpm``, ``nginx``,
    ``sizing`` and ``links``.

    :raises ValueError: an entry without a name.
    """
    if not raw.get("name"):
        raise ValueError("stack_report: every host needs a name")
    problems = []
    parts: dict[str, Mapping[str, Any]] = {}
    for key, (module, marker) in _PARTS.items():
        result = raw.get(key) or {}
        parts[key] = result if marker in result else {}
        if marker not in result:
            problems.append(_why(module, result))
    audit = raw.get("audit") or {}
    if audit.get("unreachable"):
        problems = [f"The host was not reached: {audit.get('msg') or 'no reason was given'}"]
    facts = parts["fpm"].get("ansible_facts", {})
    return HostInput(
        str(raw["name"]),
        parts["audit"],
        tuple(facts.get("fpm_pools", ())),
        tuple(facts.get("fpm_masters", ())),
        parts["nginx"],
        parts["sizing"],
        _deployments((raw.get("links") or {}).get("stdout_lines") or []),
        tuple(problems),
    )


def _why(module: str, result: Mapping[str, Any]) -> str:
    return f"{module} gave no result: {result.get('msg') or 'it did not run'}"


def _deployments(lines: list[str]) -> tuple[Deployment, ...]:
    """Lines of ``stat --format='%Y %F:%n'``."""
    found = {}
    for line in lines:
        when, _separator, rest = line.partition(" ")
        kind, _separator, path = rest.partition(":")
        if kind == "symbolic link" and when.isdigit():
            found[path] = Deployment(path, float(when))
    return tuple(sorted(found.values(), key=lambda one: (one.when, one.path)))


def root_paths(locations: list[Mapping[str, Any]]) -> list[str]:
    """Every document root and the folders above it: where a deployment would switch a link."""
    found = set()
    for location in locations:
        path = (location.get("root") or {}).get("path") or ""
        while path.startswith("/") and path != "/" and "$" not in path:
            found.add(path)
            path = path.rpartition("/")[0]
    return sorted(found)


@dataclass(frozen=True)
class Route:
    """One way of a request: a location, one of its targets, and a pool that listens there (None: none known)."""

    location: Mapping[str, Any]
    target: Mapping[str, Any]
    pool: Mapping[str, Any] | None

    @property
    def site(self) -> str:
        return site(dict(self.location))


def routes(host: HostInput) -> list[Route]:
    """All ways, in nginx's order; several pools at one address give one each."""
    snapshot = Snapshot(
        live=True, now=0.0, pools=[dict(pool) for pool in host.pools], nginx={"locations": host.locations}
    )
    found = []
    for location in host.locations:
        for target in location["targets"]:
            pools = pools_at(snapshot, target["address"]) if target["kind"] in ("unix", "tcp") else []
            found += [Route(location, target, pool) for pool in pools] or [Route(location, target, None)]
    return found


def concerned(finding: Mapping[str, Any], host: HostInput, ways: list[Route]) -> list[Mapping[str, Any]]:
    """The pools that a finding is about: by its subject, its evidence, or the sites that lead to them.

    An address on which no pool listens (S01) concerns none: the pool in its evidence is only the most alike.
    """
    if finding["id"] == "S01":
        return []
    subject = str(finding["subject"])
    texts = [subject, *(str(item["text"]) for item in finding["evidence"])]
    named = [pool for pool in host.pools if any(pool_title(dict(pool)) in text for text in texts)]
    if named:
        return named
    pair = _PAIR.fullmatch(subject)
    name, wanted = (pair.group(1), pair.group(2)) if pair else (subject, None)
    found = []
    for way in ways:
        pool = way.pool
        if pool and way.site == name and wanted in (None, pool["name"]) and pool not in found:
            found.append(pool)
    return found
