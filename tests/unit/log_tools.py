# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the log tests: explain texts, and short forms of the result."""

from __future__ import annotations

import tempfile
from datetime import timezone
from pathlib import Path
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_gather import Request, explain
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock

UTC = Clock(timezone.utc)
NOW = 1795233600.0  # 2026-11-21T04:00:00Z
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/logs"


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def failed(second: int, message: str, phase: str = "reading response header from", **more: str) -> str:
    """A line of nginx's error log at 03:30 and ``second`` seconds; more: server, request, upstream, level."""
    upstream = more.get("upstream", "fastcgi://unix:/run/php/php8.2-fpm.sock:")
    stamp = f"2026/11/21 03:{30 + second // 60:02}:{second % 60:02}"
    return (
        f"{stamp} [{more.get('level', 'error')}] 7#7: *1 {message} while {phase} upstream, client: 192.0.2.1,"
        f' server: {more.get("server", "shop.example.com")}, request: "{more.get("request", "GET /a.php HTTP/1.1")}",'
        f' upstream: "{upstream}", host: "shop.example.com"'
    )


def fpm(second: int, message: str, level: str = "WARNING") -> str:
    return f"[21-Nov-2026 03:{30 + second // 60:02}:{second % 60:02}] {level}: {message}"


def unit(second: int, message: str, ident: str = "systemd[1]") -> str:
    return f"Nov 21 03:{30 + second // 60:02}:{second % 60:02} web1 {ident}: {message}"


REFUSED = "connect() to unix:/run/php/php8.2-fpm.sock failed (111: Connection refused)"
RESET = "recv() failed (104: Connection reset by peer)"


def explained(
    nginx: str | bytes | list[bytes] = "",
    fpm: str = "",
    journal: str = "",
    kernel: str = "",
    clock: Clock = UTC,
    **request: Any,
) -> dict[str, Any]:
    """The whole result for logs that hold these texts; a list of nginx's logs is read as its rotated parts."""
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, list[str]] = {}
        parts = nginx if isinstance(nginx, list) else [nginx]
        named = [("nginx_error_log", part) for part in parts]
        named += [("fpm_log", fpm), ("journal", journal), ("kernel_log", kernel)]
        for number, (kind, text) in enumerate(named):
            if text:
                name = "php8.2-fpm.log" if kind == "fpm_log" else f"{number}.log"
                path = Path(folder) / name
                path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
                paths.setdefault(kind, []).append(str(path))
        return explain(Host(), Request(**paths, **request), clock, NOW)


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {cause["id"]: cause["count"] for cause in result["causes"]}
