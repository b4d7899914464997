# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a request, from PHP to nginx, with the place that sets it (pure)."""

from __future__ import annotations

from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import Evidence
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    edges,
    is_page,
    php_value,
    setting,
    site,
)

_LIMIT = "max_execution_time"
# PHP's own, where no php.ini says another.
_BUILT_IN_SECONDS = 30


def execution_time(snapshot: Snapshot, pool: dict[str, Any]) -> tuple[int | None, Evidence]:
    """PHP's limit for a pool, in seconds (0: none), and what sets it; None where it is not known."""
    text, shown = php_value(snapshot, pool, _LIMIT)
    if text is not None:
        return (int(text), shown) if text.strip().lstrip("-").isdigit() else (None, shown)
    if snapshot.php_ini.get(pool["version"] or ""):
        return _BUILT_IN_SECONDS, Evidence(f"{_LIMIT} = {_BUILT_IN_SECONDS} (default)")
    return None, Evidence(f"{_LIMIT} is not known: no php.ini was read")


def timeouts(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The ladder of each location that leads to a pool, in nginx's order; pages of FPM itself are left out.

    Each limit is a dict of ``value`` (seconds, 0 for none, None for not known), ``file`` and ``line`` (None
    for a default).
    """
    found = []
    for location, pool in edges(snapshot):
        if is_page(location, pool):
            continue
        limit, shown = execution_time(snapshot, pool)
        terminate = setting(pool, "request_terminate_timeout")
        found.append(
            {
                "site": site(location),
                "file": location["file"],
                "line": location["line"],
                "pool": pool["name"],
                "version": pool["version"],
                _LIMIT: _limit(None if limit is None else max(0, limit), shown.file, shown.line),
                "request_terminate_timeout": _limit(
                    pool["request_terminate_timeout"], terminate["file"], terminate["line"]
                ),
                **{
                    name: _limit(entry["value"], entry["file"], entry["line"])
                    for name in ("fastcgi_read_timeout", "fastcgi_send_timeout")
                    for entry in (location["settings"][name],)
                },
            }
        )
    return found


def _limit(value: float | None, file: str | None, line: int | None) -> dict[str, Any]:
    return {"value": value, "file": file, "line": line}
