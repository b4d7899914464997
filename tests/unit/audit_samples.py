# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A healthy host as a tree of real files, ways to break it, and facts that only a running host shows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils import audit, audit_gather
from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import Audit, Evidence, Finding
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot, Target
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import HostMemory
from hypothesis import strategies as st

NGINX = "/etc/nginx/nginx.conf"
SITE = "/etc/nginx/sites-enabled/shop.conf"
FPM = "/etc/php/8.2/fpm/php-fpm.conf"
POOL = "/etc/php/8.2/fpm/pool.d/shop.conf"
INI = "/etc/php/8.2/fpm/php.ini"
UNIT = "/lib/systemd/system/php8.2-fpm.service"
NGINX_UNIT = "/lib/systemd/system/nginx.service"
TMPFILES = "/usr/lib/tmpfiles.d/php8.2-fpm.conf"
SUDOERS = "/etc/sudoers.d/deploy"
DEPLOY = "/usr/local/bin/deploy-shop"

FILES = {
    NGINX: """\
user www-data;
worker_processes 2;
worker_rlimit_nofile 8192;
error_log /var/log/nginx/error.log warn;
events { worker_connections 1024; }
http {
    client_max_body_size 16m;
    include /etc/nginx/sites-enabled/*;
}
""",
    SITE: """\
upstream php_shop {
    server unix:/run/php/shop.sock max_fails=0;
    server unix:/run/php/shop.sock max_fails=0;
}
server {
    listen 80;
    server_name shop.example.com;
    root /srv/shop/public;
    location / { try_files $uri /index.php?$query_string; }
    location ~ /\\.(?!well-known/) { return 404; }
    location = /fpm-status {
        allow 127.0.0.1;
        deny all;
        fastcgi_param SCRIPT_NAME /fpm-status;
        fastcgi_pass php_shop;
    }
    location ~ \\.php$ {
        try_files $uri =404;
        fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;
        fastcgi_buffer_size 16k;
        fastcgi_buffers 16 16k;
        fastcgi_read_timeout 65s;
        fastcgi_pass php_shop;
    }
}
""",
    FPM: """\
[global]
error_log = /var/log/php8.2-fpm.log
process_control_timeout = 10s
include=/etc/php/8.2/fpm/pool.d/*.conf
""",
    POOL: """\
[shop]
user = shop
group = shop
listen = /run/php/shop.sock
listen.owner = www-data
listen.group = www-data
listen.mode = 0660
listen.backlog = 511
pm = dynamic
pm.max_children = 12
pm.start_servers = 3
pm.min_spare_servers = 2
pm.max_spare_servers = 4
pm.max_requests = 1000
pm.status_path = /fpm-status
request_terminate_timeout = 60s
catch_workers_output = yes
php_admin_value[memory_limit] = 128M
""",
    INI: """\
[PHP]
max_execution_time = 60
post_max_size = 12M
upload_max_filesize = 10M
opcache.validate_timestamps = 1
""",
    UNIT: """\
[Service]
ExecReload=/usr/sbin/php-fpm8.2 --test
ExecReload=/bin/kill -USR2 $MAINPID
Restart=on-failure
""",
    NGINX_UNIT: "[Service]\nPrivateTmp=no\n",
    TMPFILES: "d /run/php 0755 www-data www-data - -\n",
    SUDOERS: "deploy ALL=(root) NOPASSWD: /usr/local/sbin/php-fpm-reload php8.2-fpm\n",
    DEPLOY: "#!/bin/sh\nflock /run/lock/php-fpm/reload.lock systemctl reload php8.2-fpm\n",
    "/usr/local/sbin/php-fpm-reload": "#!/bin/sh\n",
    "/etc/sudoers": "root ALL=(ALL:ALL) ALL\n",
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nshop:x:1000:1000::/:/bin/sh\n",
    "/etc/group": "root:x:0:\nwww-data:x:33:\nshop:x:1000:www-data\nblog:x:1001:\n",
    "/srv/shop/public/index.php": "<?php\n",
    "/var/log/nginx/error.log": "",
    "/proc/sys/net/core/somaxconn": "4096\n",
}

Change = Callable[[Snapshot], Snapshot]


@dataclass(frozen=True)
class Case:
    """One way to make a rule say something.

    ``edits`` are (file, old text, new text), each of which must occur; ``files`` are added or, with None,
    removed; ``live`` changes what only a running host shows. ``says`` must be part of what was found, ``place``
    the end of a file:line in the evidence.
    """

    rule: str
    status: str
    says: str = ""
    place: str = ""
    edits: tuple[tuple[str, str, str], ...] = ()
    files: dict[str, str | None] = field(default_factory=dict)
    live: Change | None = None
    links: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}-{self.status}-{self.says[:30]}"


def tree(folder: Path, case: Case | None = None) -> Path:
    """Write the healthy tree, changed as the case says."""
    files: dict[str, str | None] = {**FILES, **(case.files if case else {})}
    for path, old, new in case.edits if case else ():
        text = files[path]
        assert text is not None, path
        assert old in text, f"{old!r} is not in {path}"
        files[path] = text.replace(old, new)
    for path, text in files.items():
        if text is not None:
            where = folder / path.lstrip("/")
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text)
    for path, to in (case.links if case else {}).items():
        where = folder / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(to)
    return folder


def snapshot(folder: Path, case: Case | None = None) -> Snapshot:
    """Read the tree with the real readers, then add what the case says about the running host."""
    read = audit_gather.gather(Host(str(tree(folder, case))), None)
    return case.live(read) if case and case.live else read


def audited(folder: Path, case: Case | None = None) -> Audit:
    return audit.judge(snapshot(folder, case))


# -- facts of a running host


def both(*changes: Change) -> Change:
    def change(read: Snapshot) -> Snapshot:
        for one in changes:
            read = one(read)
        return read

    return change


def put(**values: Any) -> Change:
    """Replace fields of the snapshot."""
    return lambda read: replace(read, **values)


def pool(**facts: Any) -> Change:
    """Change facts of every pool; a dict is merged into the fact of that name."""

    def change(read: Snapshot) -> Snapshot:
        pools = copy.deepcopy(read.pools)
        for one in pools:
            for name, value in facts.items():
                one[name] = {**(one[name] or {}), **value} if isinstance(value, dict) else value
        return replace(read, pools=pools)

    return change


def master(**facts: Any) -> Change:
    return lambda read: replace(read, masters=[{**one, **facts} for one in read.masters])


def target(address: str = "unix:/run/php/shop.sock", **facts: Any) -> Change:
    """What a connection to an address showed."""
    return lambda read: replace(
        read, live=True, targets={**read.targets, address: replace(read.targets[address], **facts)}
    )


def worker(pid: int, private_mib: int, requests: int | None = None) -> dict[str, Any]:
    size = private_mib << 20
    return {"pid": pid, "private_bytes": size, "requests": requests, "state": None, "age_seconds": 1.0}


def memory(gib: float, used_mib: int = 0) -> HostMemory:
    return HostMemory(int(gib * (1 << 30)), "RAM", used_mib << 20, 2.0)


def cause(ident: str, count: int = 1, **facts: Any) -> dict[str, Any]:
    """A cause as gateway_log_info returns it."""
    line = {
        "time": "2026-11-21T02:28:50+00:00",
        "source": "/var/log/php8.2-fpm.log",
        "text": f"a line about {ident}",
    }
    return {
        "id": ident, "summary": f"summary of {ident}", "answer": "502", "count": count, "failed_requests": count,
        "share": 1.0, "first": line["time"], "last": line["time"], "consequences": [],
        "upstreams": [], "sites": [], "pools": [], "evidence": [line], "samples": [line], **facts,
    }  # fmt: skip


def named(*names: str, count: int = 1) -> list[dict[str, Any]]:
    return [{"name": name, "count": count} for name in names]


def logs(*causes: dict[str, Any], reloads: int = 0, kinds: tuple[str, ...] = ("nginx", "fpm")) -> Change:
    mark = {"time": "2026-11-21T02:00:00+00:00", "kind": "reload", "text": "Reloading"}
    return put(
        logs={
            "causes": list(causes),
            "timeline": {"bucket_seconds": 60, "buckets": [], "marks": [mark] * reloads},
            "sources": [{"path": f"/{kind}.log", "kind": kind, "error": ""} for kind in kinds],
            "limits": [],
        }
    )


def reached(read: Snapshot) -> Snapshot:
    """Every target accepts connections."""
    targets = {
        address: Target(address, one.real, True, "", "", one.holders) for address, one in read.targets.items()
    }
    return replace(read, live=True, targets=targets)


# Findings as no rule makes them: any text anywhere.
FINDINGS = st.builds(
    Finding,
    id=st.sampled_from([one.id for one in audit.all_rules()]),
    severity=st.sampled_from(["critical", "high", "medium", "low"]),
    title=st.text(),
    status=st.sampled_from(["fail", "unknown", "pass", "excluded"]),
    subject=st.text(),
    found=st.text(),
    expected=st.text(),
    evidence=st.lists(
        st.builds(Evidence, st.text(), st.none() | st.text(), st.none() | st.integers(1, 9)), max_size=3
    ).map(tuple),
    fix=st.text(),
    reason=st.text(),
)


# A site at another version's socket, and reloads that cut; the logs show a 502 and a 504.
BROKEN = Case(
    "",
    "",
    edits=(
        (
            SITE,
            "    server unix:/run/php/shop.sock max_fails=0;\n" * 2,
            "    server unix:/run/php/php7.4-fpm.sock;\n",
        ),
        (FPM, "process_control_timeout = 10s\n", ""),
    ),
    live=logs(
        cause(
            "socket_missing",
            42,
            sites=named("shop.example.com", count=42),
            upstreams=named("fastcgi://unix:/run/php/php7.4-fpm.sock:", count=42),
        ),
        cause("read_timeout", 2, answer="504", sites=named("other.example.com", count=2), evidence=[]),
    ),
)
