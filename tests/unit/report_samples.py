# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the modules as they come from hosts, made small, for the tests of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MIB = 1 << 20


def directive(value: Any, file: str | None = None, line: int | None = None) -> dict[str, Any]:
    return {"value": value, "file": file, "line": line, "default": file is None}


def pool(name: str, terminate: int | None = 60, version: str = "8.2", **listen: Any) -> dict[str, Any]:
    path = f"/run/php/{name}.sock"
    file = f"/etc/php/{version}/fpm/pool.d/{name}.conf"
    return {
        "name": name,
        "version": version,
        "file": file,
        "line": 1,
        "user": "www-data",
        "master": f"/etc/php/{version}/fpm/php-fpm.conf",
        "unit": f"php{version}-fpm.service",
        "pm": {"mode": "dynamic", "max_children": 5},
        "listen": {
            "kind": "unix",
            "raw": path,
            "address": f"unix:{path}",
            "owner": "www-data",
            "group": "www-data",
            "mode": "0660",
            "held_by": None,
            **listen,
        },
        "memory": {"worker_count": 2},
        "request_terminate_timeout": terminate,
        "status_path": None,
        "ping_path": None,
        "directives": {
            "request_terminate_timeout": directive(terminate, file, 9),
            "php_admin_value[max_execution_time]": directive("60", file, 8),
        },
    }


def master(pools: list[dict[str, Any]], version: str = "8.2", running: bool = True) -> dict[str, Any]:
    return {
        "version": version,
        "config_file": f"/etc/php/{version}/fpm/php-fpm.conf",
        "unit": f"php{version}-fpm.service",
        "pid": 93 if running else None,
        "running": running,
        "pools": [one["name"] for one in pools],
    }


def location(name: str, address: str, read: float = 65, **target: Any) -> dict[str, Any]:
    file = f"/etc/nginx/sites-enabled/{name}.conf"
    return {
        "server_names": [name],
        "listen": ["*:80"],
        "server_file": file,
        "server_line": 1,
        "title": "location ~ \\.php$",
        "modifier": "~",
        "match": "\\.php$",
        "file": file,
        "line": 7,
        "fastcgi_pass": {"value": address, "file": file, "line": 9, "inherited": False},
        "targets": [
            {
                "kind": "unix",
                "address": address,
                "via": None,
                "resolved": "config",
                "backup": False,
                "down": False,
                **target,
            }
        ],
        "settings": {
            "fastcgi_read_timeout": directive(read, file, 10),
            "fastcgi_send_timeout": directive(65, file, 11),
        },
        "root": {"path": f"/srv/{name}/current/public"},
    }


def finding(ident: str, severity: str, subject: str, status: str = "fail", **more: Any) -> dict[str, Any]:
    return {
        "id": ident,
        "severity": severity,
        "status": status,
        "title": f"the title of {ident}",
        "subject": subject,
        "found": f"what {ident} found",
        "expected": "what it expects",
        "evidence": [{"text": "some evidence", "file": "/etc/x.conf", "line": 3}],
        "confidence": "high",
        "fix": "a = b",
        "can_cause": ["path_mismatch"],
        "reason": "",
        **more,
    }


def timeouts(pool: str, value: int | None, file: str | None, version: str = "8.2") -> dict[str, Any]:
    """An entry of stack_audit's timeouts."""
    return {
        "pool": pool,
        "version": version,
        "max_execution_time": {"value": value, "file": file, "line": 409 if file else None},
    }


def cause(ident: str, answer: str, count: int, site: str = "", upstream: str = "") -> dict[str, Any]:
    return {
        "id": ident,
        "summary": f"{ident} in words",
        "answer": answer,
        "count": count,
        "failed_requests": count,
        "sites": [{"name": site, "count": count}] if site else [],
        "upstreams": [{"name": upstream, "count": count}] if upstream else [],
    }


def audit(
    findings: list[dict[str, Any]],
    causes: list[dict[str, Any]] | None = None,
    timeline: dict[str, Any] | None = None,
    verdict: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    failed = [one for one in findings if one["status"] == "fail"]
    return {
        "findings": findings,
        "counts": {
            "failed": {
                severity: sum(1 for one in failed if one["severity"] == severity)
                for severity in ("critical", "high", "medium", "low")
            }
        },
        "verdict": verdict or [],
        "causes": causes or [],
        "timeline": timeline,
        "limits": [],
    }


def sizing(pools: list[dict[str, Any]], total: int = 1024 * MIB, children: int = 8) -> dict[str, Any]:
    return {
        "feasible": True,
        "budget": {
            "total_bytes": total,
            "source": "MemTotal of /proc/meminfo",
            "reserved": [{"name": "nginx", "bytes": 24 * MIB, "how": "measured"}],
            "masters": [
                {
                    "master": "php8.2-fpm.service",
                    "shared_bytes": 40 * MIB,
                    "limit_bytes": None,
                    "limit_source": None,
                }
            ],
            "headroom_bytes": 96 * MIB,
            "headroom_percent": 10.0,
        },
        "plan": [
            {
                "name": one["name"],
                "version": one["version"],
                "pm": {"mode": "dynamic", "max_children": children},
                "current": {"mode": "dynamic", "max_children": 5},
                "worker_bytes": 20 * MIB,
                "worker_source": "measured",
                "charged_bytes": children * 20 * MIB,
                "confidence": "high",
                "binding": "memory",
                "reasoning": ["One worker costs 20 MiB."],
                "measure": [],
            }
            for one in pools
        ],
    }


def host(
    name: str,
    pools: list[dict[str, Any]],
    locations: list[dict[str, Any]],
    audited: dict[str, Any],
    plan: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One entry of the filter's input."""
    return {
        "name": name,
        "audit": audited,
        "fpm": {"ansible_facts": {"fpm_pools": pools, "fpm_masters": [master(pools)] if pools else []}},
        "nginx": {"nginx": {"version": "nginx/1.22.1"}, "locations": locations},
        "sizing": sizing(pools) if plan is None else plan,
        "links": {
            "stdout_lines": ["1795237200 symbolic link:/srv/shop.example.com/current", "1 directory:/srv"]
        },
    }


def timeline(*buckets: tuple[str, dict[str, int]]) -> dict[str, Any]:
    return {
        "bucket_seconds": 60,
        "buckets": [
            {"start": start, "total": sum(causes.values()), "causes": causes} for start, causes in buckets
        ],
        "marks": [
            {
                "time": "2026-11-21T05:01:30+00:00",
                "kind": "reload",
                "text": "NOTICE: Reloading in progress ...",
            },
            {"time": "2026-11-21T05:01:31+00:00", "kind": "reload", "text": "NOTICE: reloading: execvp"},
            {
                "time": "2026-11-21T05:03:00+00:00",
                "kind": "oom_kill",
                "text": "Killed process 12 (php-fpm8.2)",
            },
        ],
    }


def broken() -> dict[str, Any]:
    """shop: nginx points elsewhere; blog: a closed socket, and 504s; api: good."""
    pools = [pool("shop"), pool("blog", owner="root", group="root", mode="0600"), pool("api", terminate=300)]
    locations = [
        location("shop.example.com", "unix:/run/php/php7.4-fpm.sock"),
        location("blog.example.com", "unix:/run/php/blog.sock"),
        location("api.example.com", "unix:/run/php/api.sock", read=60),
    ]
    findings = [
        finding(
            "S01",
            "critical",
            "shop.example.com",
            found="nginx passes to /run/php/php7.4-fpm.sock, and no pool listens there",
            evidence=[
                {"text": "fastcgi_pass unix:/run/php/php7.4-fpm.sock", "file": "/etc/nginx/shop", "line": 9},
                {
                    "text": "pool shop (PHP 8.2) listens on unix:/run/php/shop.sock",
                    "file": None,
                    "line": None,
                },
            ],
        ),
        finding(
            "S03",
            "critical",
            "blog.example.com",
            found="www-data may not connect to /run/php/blog.sock",
            evidence=[{"text": "fastcgi_pass unix:/run/php/blog.sock", "file": None, "line": None}],
        ),
        finding("T01", "high", "api.example.com -> pool api", found="PHP-FPM may work for 300 s"),
        finding("T05", "high", "php8.2-fpm.service"),
        finding("F03", "low", "pool api (PHP 8.2)"),
        finding("F06", "high", "pool api (PHP 8.2)", status="unknown", found="cannot be seen"),
        finding("N12", "high", "api.example.com", status="excluded", reason="behind a VPN"),
        finding("C01", "critical", "host", status="pass", evidence=[]),
    ]
    causes = [
        cause("path_mismatch", "502", 40, "shop.example.com", "fastcgi://unix:/run/php/php7.4-fpm.sock"),
        cause("socket_denied", "502", 7, "blog.example.com", "fastcgi://unix:/run/php/blog.sock:"),
        cause("read_timeout", "504", 3, "blog.example.com", "fastcgi://unix:/run/php/blog.sock:"),
        cause("php_fatal", "500", 2),
    ]
    verdict = [
        {
            "headline": "502 on shop.example.com: nginx passes to a path on which no pool listens",
            "cause": "path_mismatch",
            "count": 40,
            "last": "2026-11-21T05:03:10+00:00",
            "severity": "critical",
            "evidence": ["fastcgi_pass unix:/run/php/php7.4-fpm.sock"],
            "fix": "fastcgi_pass unix:/run/php/shop.sock;",
            "rule": "S01",
            "also": [],
        }
    ]
    times = timeline(
        ("2026-11-21T05:00:00+00:00", {"path_mismatch": 30, "php_fatal": 2}),
        ("2026-11-21T05:03:00+00:00", {"path_mismatch": 10, "socket_denied": 7, "read_timeout": 3}),
    )
    return host("web1", pools, locations, audit(findings, causes, times, verdict))


def healthy(name: str = "web2") -> dict[str, Any]:
    pools = [pool("www")]
    return host(
        name,
        pools,
        [location("www.example.com", "unix:/run/php/www.sock")],
        audit(
            [finding("S01", "critical", "1 checked", status="pass", evidence=[])],
            timeline={"bucket_seconds": 60, "buckets": [], "marks": []},
        ),
    )


def fleet(hosts: int, pools: int) -> Iterator[dict[str, Any]]:
    """Many hosts with many pools each; every seventh host is as broken as can be."""
    for number in range(hosts):
        made = [pool(f"site{index:02}") for index in range(pools)]
        places = [
            location(f"www{index}.example.com", f"unix:/run/php/site{index:02}.sock")
            for index in range(pools)
        ]
        findings = [finding("S02", "critical", "20 checked", status="pass", evidence=[])]
        if number % 7 == 0:
            findings += [finding("T02", "high", f"pool {one['name']} (PHP 8.2)") for one in made]
            findings.append(
                finding(
                    "S02",
                    "critical",
                    "www3.example.com",
                    found="/run/php/site03.sock refuses",
                    evidence=[{"text": "fastcgi_pass unix:/run/php/site03.sock", "file": None, "line": None}],
                )
            )
        times = timeline(("2026-11-21T05:00:00+00:00", {"socket_refused": number % 7}))
        causes = [
            cause(
                "socket_refused",
                "502",
                1 + number % 7,
                "www3.example.com",
                "fastcgi://unix:/run/php/site03.sock:",
            )
        ]
        yield host(f"web{number:02}.example.net", made, places, audit(findings, causes, times))
