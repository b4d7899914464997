# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about nginx's locations: what they send to PHP, and what they show to visitors (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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
    php_size,
    php_value,
    pools_at,
    site,
    size,
    unread,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
_HEADER_BYTES = 8192
# What an attacker asks for: a script's extension behind an uploaded picture.
_TRICK = "/uploads/picture.jpg/x.php"
_ADDRESS = re.compile(r"[\d.]+|\[[0-9a-f:.]+\]|localhost")


def _here(location: dict[str, Any]) -> Evidence:
    return Evidence(
        f"location {location['title'].removeprefix('location ')}", location["file"], location["line"]
    )


def _is_status(snapshot: Snapshot, location: dict[str, Any]) -> bool:
    pages = {pool[name] for pool in snapshot.pools for name in ("status_path", "ping_path")} - {None}
    return location["modifier"] in ("=", "^~") and location["match"] in pages


def _php(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    return (location for location in locations(snapshot) if not _is_status(snapshot, location))


@_BOOK.rule(
    "N01",
    "high",
    "The buffer for PHP's response header is too small",
    "response_header_too_big",
    needs=("nginx",),
)
def header_buffer(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "response_header_too_big")
    for location in _php(snapshot):
        subject, found = site(location), location["settings"]["fastcgi_buffer_size"]
        value, place = found["value"], at(f"fastcgi_buffer_size = {found['value']}", found)
        if found["default"]:
            place = Evidence(f"fastcgi_buffer_size = {value} (default)", location["file"], location["line"])
        root = snapshot.roots.get(location["root"]["path"] or "")
        framework = root.framework if root else None
        fix = "fastcgi_buffer_size 32k;\nfastcgi_buffers 16 16k;\nfastcgi_busy_buffers_size 64k;"
        named = seen and (not seen["sites"] or subject in [one["name"] for one in seen["sites"]])
        if seen and named:
            yield bad(
                subject,
                f"{seen['count']} answers had a header above {size(value or 0)}",
                "a buffer above the largest header",
                place,
                log_evidence(seen),
                fix=fix,
            )
        elif value is None:
            yield unknown(subject, "fastcgi_buffer_size has no valid value", place)
        elif value >= _HEADER_BYTES:
            yield good(subject, f"{size(value)} for the header", place)
        elif framework:
            yield bad(
                subject,
                f"{size(value)} for the header, and {framework} can send more (cookies, cache tags, policies)",
                "16k or more",
                place,
                Evidence(f"{framework} in {location['root']['path']}"),
                fix=fix,
                confidence="medium",
            )
        elif (root and root.exists) or snapshot.logs is not None:
            yield good(
                subject, f"{size(value)} for the header, and nothing shows that it is too small", place
            )
        else:
            yield unknown(subject, "neither the code nor the logs say how large headers get", place)


@_BOOK.rule(
    "N02",
    "high",
    "PHP is not told the right script",
    "script_not_found",
    "nginx_file_missing",
    needs=("nginx",),
)
def script_filename(snapshot: Snapshot) -> Iterator[Outcome]:
    for location in _php(snapshot):
        subject = site(location)
        sent = [param for param in location["params"] if param["name"] == "SCRIPT_FILENAME"]
        if not sent and unread(snapshot):
            yield unknown(subject, unread(snapshot), _here(location))
            continue
        if not sent:
            yield bad(
                subject,
                "SCRIPT_FILENAME is not sent: PHP answers with an empty page or 404",
                "$realpath_root$fastcgi_script_name",
                _here(location),
                fix="include fastcgi_params;\nfastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;",
            )
            continue
        value, place = sent[-1]["value"], at(f"SCRIPT_FILENAME {sent[-1]['value']}", sent[-1])
        root = snapshot.roots.get(location["root"]["path"] or "")
        if not value.startswith(("/", "$")) or value.startswith(("$fastcgi_script_name", "$uri")):
            yield bad(
                subject,
                f"SCRIPT_FILENAME {value} is no absolute path",
                "$realpath_root$fastcgi_script_name",
                place,
                fix="fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;",
            )
        elif "$document_root" in value and root and root.link:
            yield bad(
                subject,
                f"{root.link} is a symbolic link, and $document_root names it: after a switch OPcache serves old code",
                "$realpath_root",
                place,
                Evidence(f"root {root.path} leads through the link {root.link}"),
                fix="fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;\n"
                "fastcgi_param DOCUMENT_ROOT $realpath_root;",
                confidence="medium",
            )
        elif "$document_root" in value and (root is None or not root.exists):
            yield unknown(
                subject, f"whether {location['root']['value']} is a symbolic link is not known", place
            )
        else:
            yield good(subject, f"SCRIPT_FILENAME {value}", place)


@_BOOK.rule(
    "N03", "medium", "A path behind an uploaded file can run as PHP", "extension_denied", needs=("nginx",)
)
def path_info(snapshot: Snapshot) -> Iterator[Outcome]:
    for location in _php(snapshot):
        if location["modifier"] not in ("~", "~*") or location["access"]["internal"]:
            continue
        subject = site(location)
        pattern = re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", location["match"])
        try:
            open_to = re.search(pattern, _TRICK, re.IGNORECASE if location["modifier"] == "~*" else 0)
        except re.error:
            yield unknown(subject, f"the pattern {location['match']} cannot be judged", _here(location))
            continue
        tried = location["try_files"]
        pools = [pool for target in location["targets"] for pool in pools_at(snapshot, target["address"])]
        safe = [php_value(snapshot, pool, "cgi.fix_pathinfo")[0] for pool in pools]
        if not open_to:
            yield good(subject, f"{location['match']} matches no {_TRICK}", _here(location))
        elif tried and tried["value"][-1:] == ["=404"]:
            yield good(subject, "try_files asks for the file first", at("try_files", tried))
        elif safe and all(value == "0" for value in safe):
            yield good(subject, "cgi.fix_pathinfo is 0", _here(location))
        else:
            yield bad(
                subject,
                f"{_TRICK} reaches PHP, which may run the picture (only security.limit_extensions is in the way)",
                "try_files $fastcgi_script_name =404, with fastcgi_split_path_info where PATH_INFO is needed",
                _here(location),
                fix="try_files $fastcgi_script_name =404;",
                confidence="medium",
            )


@_BOOK.rule("N04", "medium", "nginx and PHP disagree about the size of an upload", needs=("nginx", "fpm"))
def upload_size(snapshot: Snapshot) -> Iterator[Outcome]:
    for location, pool in edges(snapshot):
        if _is_status(snapshot, location):
            continue
        subject = f"{site(location)} -> pool {pool['name']}"
        found = location["settings"]["client_max_body_size"]
        post_text, post_place = php_value(snapshot, pool, "post_max_size")
        file_text, file_place = php_value(snapshot, pool, "upload_max_filesize")
        post, file = php_size(post_text), php_size(file_text)
        place = at(f"client_max_body_size = {found['value']}", found)
        if found["default"]:
            place = Evidence("client_max_body_size = 1m (default)", location["file"], location["line"])
        if found["value"] is None or post is None or file is None:
            yield unknown(subject, "post_max_size or upload_max_filesize is not known", place)
            continue
        body = found["value"] or float("inf")
        post_limit = post if post > 0 else float("inf")
        wrong = []
        if body < min(file, post_limit):
            wrong.append(
                f"nginx answers 413 above {size(body)}, PHP would take files of {size(min(file, post_limit))}"
            )
        if file > post_limit:
            wrong.append(f"upload_max_filesize ({size(file)}) is above post_max_size ({size(post_limit)})")
        if body != float("inf") and post_limit < body and file < body and post_limit < file:
            wrong.append(
                f"nginx takes {size(body)}, PHP drops everything above {size(post_limit)} without an error"
            )
        if wrong:
            yield bad(
                subject,
                "; ".join(wrong),
                "upload_max_filesize <= post_max_size <= client_max_body_size",
                place,
                post_place,
                file_place,
                fix=f"client_max_body_size {max(1, int(max(file, post if post > 0 else 0)) >> 20)}m;",
            )
        else:
            yield good(subject, f"file {file_text}, form {post_text}, nginx {found['value']}", place)


@_BOOK.rule(
    "N05",
    "high",
    "A host name in fastcgi_pass is resolved once, or never",
    "upstream_host_not_found",
    "host_unreachable",
    needs=("nginx",),
)
def host_names(snapshot: Snapshot) -> Iterator[Outcome]:
    ups = {one["name"]: one for one in (snapshot.nginx or {})["upstreams"]}
    for location in locations(snapshot):
        directive, resolver = location["fastcgi_pass"], location["settings"]["resolver"]["value"]
        place = at(f"fastcgi_pass {directive['value']}", directive)
        for target in location["targets"]:
            host = target["address"].rpartition(":")[0]
            if target["kind"] == "unix" or target["resolved"] == "unknown":
                continue
            if target["kind"] == "tcp" and _ADDRESS.fullmatch(host):
                yield good(site(location), f"{target['address']} is an address", place)
                continue
            resolves = any(
                server["resolve"] and server["address"] == target["address"]
                for server in ups.get(target["via"] or "", {}).get("servers", [])
            )
            if resolves or ("$" in directive["value"] and resolver):
                yield good(site(location), f"{target['address']} is looked up again and again", place)
                continue
            variable = "$" in directive["value"]
            yield bad(
                site(location),
                f"{target['address']}: "
                + (
                    "a variable needs a resolver, and none is set"
                    if variable
                    else "nginx looks it up once, at its start"
                ),
                "an address, or a variable together with a resolver",
                place,
                fix="resolver 127.0.0.53 valid=10s;\nset $php HOST:9000;\nfastcgi_pass $php;",
                confidence="medium" if target["kind"] == "variable" else "high",
            )


@_BOOK.rule(
    "N06",
    "high",
    "The root is set inside the PHP location only",
    "nginx_file_missing",
    "script_not_found",
    needs=("nginx",),
)
def root_inside(snapshot: Snapshot) -> Iterator[Outcome]:
    for location in _php(snapshot):
        outer = snapshot.server_roots.get(f"{location['server_file']}:{location['server_line']}")
        root = location["root"]
        place = at(f"{root['directive']} {root['value']}", root)
        if outer is None:
            yield unknown(site(location), "whether the server sets a root is not known", place)
        elif (
            location["inside"] == []
            and root["level"] == "location"
            and root["directive"] == "root"
            and not outer
        ):
            yield bad(
                site(location),
                "files beside PHP (pictures, styles) are looked for in nginx's own html folder",
                "root in the server block",
                place,
                fix=f"server {{\n    root {root['value']};\n}}",
            )
        elif root["default"] and unread(snapshot):
            yield unknown(site(location), unread(snapshot), _here(location))
        elif root["default"]:
            yield bad(
                site(location),
                "no root is set: scripts are looked for in nginx's own html folder",
                "root in the server block",
                _here(location),
                fix="root /srv/SITE/public;",
                confidence="medium",
            )
        else:
            yield good(site(location), f"{root['directive']} {root['value']}", place)


@_BOOK.rule("N11", "medium", "error_log hides the reasons of failures", needs=("nginx",))
def log_level(snapshot: Snapshot) -> Iterator[Outcome]:
    for location in locations(snapshot):
        for log in location["error_log"]:
            place = at(f"error_log {log['value']} {log['level']}", log)
            if log["level"] in ("crit", "alert", "emerg") or log["path"] == "/dev/null":
                yield bad(
                    site(location),
                    f"error_log {log['value']} {log['level']}: a failed upstream is an error, and errors are not kept",
                    "level error, warn or notice",
                    place,
                    fix="error_log /var/log/nginx/error.log warn;",
                )
            else:
                yield good(site(location), f"error_log at level {log['level']}", place)


@_BOOK.rule("N12", "high", "Visitors can read the status page or hidden files", needs=("nginx",))
def public_pages(snapshot: Snapshot) -> Iterator[Outcome]:
    by_server: dict[tuple[str, str | None], list[str]] = {}
    for route in snapshot.routes:
        place = Evidence(f"{route.uri} on {route.server}", route.file, route.line)
        exposed = route.answer == ("file" if route.purpose == "dotfile" else "php")
        if route.answer is None:
            yield unknown(
                route.server, f"what answers {route.uri} cannot be told from the configuration", place
            )
        elif exposed and route.purpose == "dotfile":
            by_server.setdefault((route.server, f"{route.file}:{route.line}"), []).append(route.uri)
        elif exposed:
            yield bad(
                route.server,
                f"everybody may read the {route.purpose} page {route.uri}",
                "allow 127.0.0.1; deny all;",
                place,
                fix=f"location = {route.uri} {{\n    allow 127.0.0.1;\n    deny all;\n    …\n}}",
            )
        else:
            yield good(route.server, f"{route.uri}: {route.answer}", place)
    for (server, where), uris in sorted(by_server.items(), key=str):
        file, _separator, line = (where or "").rpartition(":")
        yield bad(
            server,
            f"{' and '.join(uris)} would be served as a file",
            "a location that denies names with a leading dot, but for /.well-known/",
            Evidence("this block answers", file, int(line) if line.isdigit() else None),
            fix="location ~ /\\.(?!well-known/) { return 404; }",
        )
