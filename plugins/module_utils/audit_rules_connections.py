# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about nginx's connections: request headers, retries, keep-alive and limits (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    at,
    edges,
    locations,
    log_cause,
    log_evidence,
    place_of_setting,
    site,
    size,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
_HEADER_BYTES = 8192


@_BOOK.rule(
    "N07",
    "medium",
    "The buffers for the visitor's header are too small",
    "request_header_too_large",
    needs=("nginx",),
)
def request_header(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "request_header_too_large")
    for location in locations(snapshot):
        found = location["settings"]["large_client_header_buffers"]
        value = found["value"]
        if value is None:
            yield unknown(site(location), "large_client_header_buffers has no valid value", at("", found))
            continue
        words = f"large_client_header_buffers {value['number']} x {size(value['size_bytes'])}"
        place = at(words, found)
        fix = "large_client_header_buffers 4 16k;"
        if seen and (not seen["sites"] or site(location) in [one["name"] for one in seen["sites"]]):
            yield bad(
                site(location),
                f"{seen['count']} requests got 400: {words}",
                "room for the cookies seen",
                place,
                log_evidence(seen),
                fix=fix,
            )
        elif value["size_bytes"] < _HEADER_BYTES or value["number"] < 2:
            yield bad(
                site(location), words, "4 8k, the default, or more", place, fix=fix, confidence="medium"
            )
        else:
            yield good(site(location), words, place)


@_BOOK.rule(
    "N08",
    "high",
    "A retry makes a short failure long, or repeats an order",
    "no_live_upstreams",
    needs=("nginx",),
)
def retries(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "no_live_upstreams")
    for upstream in (snapshot.nginx or {})["upstreams"]:
        if not upstream["used_by_fastcgi"]:
            continue
        alive = [server for server in upstream["servers"] if not server["down"]]
        counted = [server for server in alive if server["max_fails"]]
        place = at(f"upstream {upstream['name']}", upstream)
        named = seen and any(upstream["name"].lower() in one["name"].lower() for one in seen["upstreams"])
        # nginx never takes a lone server out; of several it takes all out at once when they are one machine.
        one_host = len(
            {
                server["address"] if server["kind"] == "unix" else server["address"].rpartition(":")[0]
                for server in alive
            }
        ) == 1 or all(server["kind"] == "unix" for server in alive)
        if len(alive) > 1 and counted and (named or one_host):
            yield bad(
                f"upstream {upstream['name']}",
                f"{len(alive)} servers with max_fails={counted[0]['max_fails']} that fail together: after one failure nginx answers"
                f" 502 for {counted[0]['fail_timeout']:g} s without asking",
                "max_fails=0 where the servers are one and the same PHP-FPM",
                place,
                *(at(f"server {server['address']}", server) for server in counted[:3]),
                *([log_evidence(seen)] if seen and named else []),
                fix="\n".join(f"server {server['address']} max_fails=0;" for server in alive),
                confidence="high" if named else "medium",
            )
        else:
            yield good(
                f"upstream {upstream['name']}", f"{len(alive)} servers, {len(counted)} with max_fails", place
            )
    for location in locations(snapshot):
        found = location["settings"]["fastcgi_next_upstream"]
        if "non_idempotent" in (found["value"] or []):
            yield bad(
                site(location),
                "fastcgi_next_upstream has non_idempotent: a POST whose worker died is sent again",
                "error and timeout only",
                at("fastcgi_next_upstream", found),
                fix="fastcgi_next_upstream error invalid_header;",
            )


@_BOOK.rule(
    "N09",
    "high",
    "Idle connections occupy the workers",
    "max_children_reached",
    "read_timeout",
    needs=("nginx", "fpm"),
)
def keep_conn(snapshot: Snapshot) -> Iterator[Outcome]:
    ups = {one["name"]: one for one in (snapshot.nginx or {})["upstreams"]}
    processes = (snapshot.nginx or {})["nginx"]["worker_processes"]["value"]
    for location, pool in edges(snapshot):
        found = location["settings"]["fastcgi_keep_conn"]
        if not found["value"]:
            continue
        subject = f"{site(location)} -> pool {pool['name']}"
        idle = next((ups[one["via"]]["keepalive"] for one in location["targets"] if one["via"] in ups), None)
        most = pool["pm"]["max_children"]
        count = processes if isinstance(processes, int) else None
        if count is None and snapshot.memory and snapshot.memory.cpus:
            count = math.ceil(snapshot.memory.cpus)
        place = at("fastcgi_keep_conn on", found)
        if not idle:
            yield good(subject, "no idle connection is kept (the upstream has no keepalive)", place)
        elif count is None or most is None:
            yield unknown(subject, "how many worker processes nginx has is not known", place)
        elif idle * count >= most:
            yield bad(
                subject,
                f"nginx may keep {idle} x {count} idle connections, and each holds one of {most} workers",
                f"fewer than {most}",
                place,
                place_of_setting(pool, "pm.max_children"),
                fix="fastcgi_keep_conn off;",
            )
        else:
            yield good(subject, f"{idle * count} idle connections at most, {most} workers", place)


@_BOOK.rule("N10", "high", "nginx runs out of connections or open files", "connect_timeout", needs=("nginx",))
def connections(snapshot: Snapshot) -> Iterator[Outcome]:
    main = (snapshot.nginx or {})["nginx"]
    wanted, own = main["worker_connections"], main["worker_rlimit_nofile"]
    service = snapshot.services.get("nginx.service")
    limit = own["value"] or (service.limit_nofile if service else None)
    place = at(f"worker_connections {wanted['value']}", wanted)
    limit_place = at(f"worker_rlimit_nofile {own['value']}", own) if own["value"] else Evidence(
        f"LimitNOFILE={limit}", service.file if service else None
    )  # fmt: skip
    if wanted["value"] is None:
        yield unknown("nginx", "worker_connections has no valid value", place)
    elif wanted["value"] < 512:
        yield bad(
            "nginx",
            f"worker_connections {wanted['value']}: a visitor and PHP take two",
            "1024 or more",
            place,
            fix="events { worker_connections 1024; }",
        )
    elif limit is None:
        yield unknown("nginx", "the limit of open files of nginx is not known", place)
    elif limit < wanted["value"]:
        yield bad(
            "nginx",
            f"a worker may have {wanted['value']} connections but only {limit} open files",
            f"worker_rlimit_nofile of {2 * wanted['value']}",
            place,
            limit_place,
            fix=f"worker_rlimit_nofile {2 * wanted['value']};",
        )
    else:
        yield good("nginx", f"{wanted['value']} connections, {limit} open files", place, limit_place)
