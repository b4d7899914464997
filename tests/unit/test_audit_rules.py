# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule of an audit: made to fail, made to pass, and without the evidence that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import audit
from ansible_collections.webops.php_stack.plugins.module_utils.audit_rules_capacity import p95
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Holder, Selinux, Snapshot
from audit_samples import (
    DEPLOY,
    FPM,
    INI,
    NGINX,
    NGINX_UNIT,
    POOL,
    SITE,
    SUDOERS,
    TMPFILES,
    UNIT,
    Case,
    audited,
    both,
    cause,
    logs,
    master,
    memory,
    named,
    pool,
    put,
    reached,
    target,
    worker,
)

SOCK = "unix:/run/php/shop.sock"
TWICE = "    server unix:/run/php/shop.sock max_fails=0;\n    server unix:/run/php/shop.sock max_fails=0;\n"
TO_TCP = (
    (POOL, "listen = /run/php/shop.sock", "listen = 127.0.0.1:9000"),
    (SITE, TWICE, "    server 127.0.0.1:9000;\n"),
)
NO_NGINX: dict[str, str | None] = {NGINX: None, SITE: None}
OTHER = "/etc/php/8.2/fpm/pool.d/blog.conf"
BLOG = "[blog]\nuser = shop\nlisten = {}\npm = ondemand\npm.max_children = 3\n"
OLD_FPM = "/etc/php/7.4/fpm/php-fpm.conf"
OLD_POOL = "/etc/php/7.4/fpm/pool.d/shop.conf"
OLD = "[global]\ninclude=/etc/php/7.4/fpm/pool.d/*.conf\n"
ON_9001 = (
    (POOL, "listen = /run/php/shop.sock", "listen = 127.0.0.1:9001"),
    (SITE, TWICE, "    server 127.0.0.1:9001;\n"),
)
IN_TMP = (
    (POOL, "listen = /run/php/shop.sock", "listen = /tmp/shop.sock"),
    (SITE, TWICE, "    server unix:/tmp/shop.sock;\n"),
)
STOCK = ((POOL, "pm.max_children = 12", "pm.max_children = 5"),)
STATIC = (
    (POOL, "pm = dynamic", "pm = static"),
    (POOL, "pm.status_path = /fpm-status\n", ""),
)
NO_REQUESTS = ((POOL, "pm.max_requests = 1000", "pm.max_requests = 0"),)
SLOW = (
    (
        POOL,
        "request_terminate_timeout = 60s",
        "request_terminate_timeout = 60s\nrequest_slowlog_timeout = 5s",
    ),
)
SMALL = ((SITE, "fastcgi_buffer_size 16k;\n        fastcgi_buffers 16 16k;", ""),)
LINKED = (
    (SITE, "root /srv/shop/public;", "root /srv/live/public;"),
    (SITE, "$realpath_root$", "$document_root$"),
)
BY_NAME = ((SITE, TWICE, "    server php.internal:9000;\n"),)
INSIDE = (
    (SITE, "    root /srv/shop/public;\n", ""),
    (SITE, "try_files $uri =404;", "root /srv/shop/public;\n        try_files $uri =404;"),
)
KEPT = (
    (SITE, TWICE, f"{TWICE}    keepalive 8;\n"),
    (SITE, "fastcgi_read_timeout 65s;", "fastcgi_read_timeout 65s;\n        fastcgi_keep_conn on;"),
)


def peaks(count: int, mib: int) -> dict[tuple[str, str], list[int]]:
    return {("8.2", "shop"): [mib << 20] * count}


def labelled(kind: str, **booleans: bool) -> Selinux:
    return Selinux(True, {"/run/php": f"system_u:object_r:{kind}:s0"}, booleans)


def holders(name: str, pid: int) -> object:
    return both(master(pid=50), target(holders=(Holder(pid, name),)))


def unknown_setting(name: str) -> object:
    return pool(**{name: None})


def no_passwd(read: Snapshot) -> Snapshot:
    return replace(read, worker=None)


SOCKETS = [
    Case("S01", "pass", "is the listener of pool shop"),
    Case("S01", "fail", "/run/php/php7.4-fpm.sock, and no pool listens", "shop.conf:2",
         edits=((SITE, TWICE, "    server unix:/run/php/php7.4-fpm.sock;\n"),)),
    Case("S01", "pass", links={"/run/php/alias.sock": "shop.sock"}, edits=((SITE, TWICE, "server unix:/run/php/alias.sock;"),)),
    Case("S01", "pass", "fcgiwrap listens", edits=((SITE, TWICE, "server unix:/run/fcgiwrap.sock;"),),
         live=target("unix:/run/fcgiwrap.sock", listening=True, holders=(Holder(7, "fcgiwrap"),))),
    Case("S01", "unknown", "no PHP-FPM was found", files={FPM: None, POOL: None}),
    Case("S01", "unknown", "No nginx was found", files=NO_NGINX),
    Case("S02", "unknown", "no connection"),
    Case("S02", "pass", live=reached),
    Case("S02", "fail", "nobody accepts", "shop.conf:4", live=target(cause="socket_refused", message="nobody accepts")),
    Case("S02", "fail", edits=TO_TCP, live=target("127.0.0.1:9000", cause="tcp_refused", message="refused")),
    Case("S02", "fail", "is gone", live=target(cause="socket_missing", message="the socket is gone")),
    Case("S03", "pass"),
    Case("S03", "fail", "the socket of pool shop (PHP 8.2) is root:root 0660", "shop.conf:5",
         edits=((POOL, "listen.owner = www-data\nlisten.group = www-data", "listen.owner = root\nlisten.group = root"),)),
    Case("S03", "fail", "www-data:www-data 0060", edits=((POOL, "0660", "0060"),)),
    Case("S03", "pass", edits=((POOL, "owner = www-data\nlisten.group = www-data", "owner = shop\nlisten.group = shop"),)),
    Case("S03", "pass", edits=((POOL, "listen.mode = 0660", "listen.mode = 0600\nlisten.acl_users = www-data"),)),
    Case("S03", "fail", "the folder stops it", live=target(cause="socket_denied", message="the folder stops it")),
    Case("S03", "unknown", "groups of nginx's user", live=no_passwd),
    Case("S04", "pass"),
    Case("S04", "fail", "0666", "shop.conf:7", edits=((POOL, "0660", "0666"),)),
    Case("S04", "unknown", live=pool(listen={"mode": None})),
    Case("S05", "unknown", "which process"),
    Case("S05", "pass", live=holders("php-fpm8.2", 50)),
    Case("S05", "pass", live=holders("systemd", 1)),
    Case("S05", "fail", "php-fpm7.4 (pid 9), an old or another", live=holders("php-fpm7.4", 9)),
    Case("S06", "unknown", "not written in a tree"),
    Case("S06", "pass", live=put(selinux=labelled("httpd_var_run_t"))),
    Case("S06", "fail", "var_run_t", live=put(selinux=labelled("var_run_t"))),
    Case("S06", "fail", "httpd_can_network_connect", edits=ON_9001, live=put(selinux=Selinux(True, {}, {"httpd_can_network_connect": False}))),
    Case("S06", "unknown", "is not known", edits=ON_9001, live=put(selinux=Selinux(True))),
    Case("S06", "fail", "SELinux denied", live=logs(cause("selinux_denied"))),
    Case("S07", "fail", "nginx.service has PrivateTmp", "nginx.service", edits=(*IN_TMP, (NGINX_UNIT, "no", "yes"))),
    Case("S07", "pass", edits=IN_TMP),
    Case("S07", "unknown", edits=IN_TMP, files={UNIT: None}),
    Case("S08", "unknown", edits=TO_TCP),
    Case("S08", "pass", edits=TO_TCP, live=both(master(pid=5), put(network={5: "net:[1]"}), lambda read: _front(read, "net:[1]"))),
    Case("S08", "fail", "net:[2]", edits=TO_TCP, live=both(master(pid=5), put(network={5: "net:[2]"}), lambda read: _front(read, "net:[1]"))),
    Case("S09", "pass"),
    Case("S09", "fail", "pool blog (PHP 8.2) and pool shop", "blog.conf:3", files={OTHER: BLOG.format("/run/php/shop.sock")}),
    Case("S09", "fail", "PHP 7.4", files={OLD_FPM: OLD, OLD_POOL: BLOG.format("/run/php/shop.sock")}),
    Case("S10", "fail", "whoever reaches port 9000", "shop.conf:4", edits=((POOL, "/run/php/shop.sock", "9000"),)),
    Case("S10", "fail", "[::]:9000", edits=((POOL, "/run/php/shop.sock", "[::]:9000"),)),
    Case("S10", "pass", edits=TO_TCP),
    Case("S10", "pass", edits=((POOL, "listen = /run/php/shop.sock", "listen = 9000\nlisten.allowed_clients = 10.0.0.7"),)),
]  # fmt: skip


def _front(read: Snapshot, namespace: str) -> Snapshot:
    assert read.nginx is not None
    main = {**read.nginx["nginx"], "masters": [{"pid": 3}]}
    return replace(read, nginx={**read.nginx, "nginx": main}, network={**read.network, 3: namespace})


CAPACITY = [
    Case("C01", "unknown", "memory was not read"),
    Case("C01", "unknown", "no worker of shop", live=put(memory=memory(1))),
    Case("C01", "pass", "12 x 40 MiB = 480 MiB", live=put(memory=memory(1), peaks=peaks(4, 40), shared_bytes=0, fpm_bytes=0)),
    Case("C01", "fail", "12 x 100 MiB",
         live=put(memory=memory(1), peaks={("8.2", "shop"): [mib << 20 for mib in (20, 100, 20, 20)]}, shared_bytes=0)),
    Case("C01", "fail", "12 x 100 MiB", "shop.conf:10", live=put(memory=memory(1), peaks=peaks(4, 100), shared_bytes=0)),
    Case("C01", "fail", "480 MiB", live=put(memory=memory(1, 700), peaks=peaks(4, 40), shared_bytes=0, fpm_bytes=0)),
    Case("C02", "pass", "pm.max_children = 12"),
    Case("C02", "unknown", edits=STOCK),
    Case("C02", "pass", "was enough", edits=STOCK, live=logs()),
    Case("C02", "fail", "ran out of workers", "shop.conf:10", edits=STOCK, live=logs(cause("max_children_reached", pools=["shop"]))),
    Case("C02", "fail", edits=STOCK, live=logs(cause("backlog_full", upstreams=named(f"fastcgi://{SOCK}:")))),
    Case("C02", "pass", edits=STOCK, live=logs(cause("max_children_reached", pools=["blog"]))),
    Case("C02", "fail", edits=STOCK, live=pool(status={"max_children_reached": 2})),
    Case("C03", "unknown"),
    Case("C03", "pass", live=pool(status={"state": "ok", "active_processes": 2})),
    Case("C03", "fail", "11 of 12 workers", live=pool(status={"state": "ok", "active_processes": 11})),
    Case("C03", "fail", "5 waiting in the kernel", live=pool(queue={"waiting": 5, "backlog": 8})),
    Case("C04", "pass", "511"),
    Case("C04", "fail", "8 connections", "shop.conf:8", edits=((POOL, "backlog = 511", "backlog = 8"),)),
    Case("C04", "fail", "overflowed 3 times", live=logs(cause("backlog_full", 3, upstreams=named(f"fastcgi://{SOCK}:")))),
    Case("C04", "fail", "16", files={"/proc/sys/net/core/somaxconn": "16"}),
    Case("C04", "unknown", edits=((POOL, "backlog = 511", "backlog = -1"),), files={"/proc/sys/net/core/somaxconn": None}),
    Case("C05", "fail", "never logs", "shop.conf:9", edits=STATIC),
    Case("C05", "pass", edits=((POOL, "pm = dynamic", "pm = static"),)),
    Case("C06", "pass"),
    Case("C06", "fail", "start_servers (9)", "shop.conf:11", edits=((POOL, "start_servers = 3", "start_servers = 9"),)),
    Case("C06", "fail", "max_spare_servers (40) is above", edits=((POOL, "max_spare_servers = 4", "max_spare_servers = 40"),)),
    Case("C06", "fail", "below min_spare", edits=((POOL, "min_spare_servers = 2", "min_spare_servers = 5"),)),
    Case("C06", "unknown", edits=((POOL, "pm.max_children = 12", "pm.max_children = ${CHILDREN}"),)),
    Case("C07", "unknown"),
    Case("C07", "pass", live=put(memory=memory(2))),
    Case("C07", "fail", "12 x 128 MiB", "shop.conf:18", live=put(memory=memory(1))),
    Case("C07", "fail", "without limit", edits=((POOL, "128M", "-1"),), live=put(memory=memory(2))),
    Case("C07", "unknown", edits=((POOL, "php_admin_value[memory_limit] = 128M", ""),), live=put(memory=memory(2))),
    Case("C08", "unknown", "no logs were read"),
    Case("C08", "unknown", "no log of PHP-FPM", live=logs(kinds=("nginx",))),
    Case("C08", "pass", live=logs()),
    Case("C08", "fail", "3 x summary of worker_oom", "php8.2-fpm.log", live=logs(cause("worker_oom", 3, pools=["shop"]))),
    Case("C09", "unknown"),
    Case("C09", "pass", live=logs(cause("worker_crashed", 2))),
    Case("C09", "fail", live=logs(cause("worker_crashed", 3))),
    Case("C10", "pass"),
    Case("C10", "unknown", "too few", edits=NO_REQUESTS),
    Case("C10", "fail", "old workers hold 90 MiB", edits=NO_REQUESTS,
         live=pool(memory={"workers": [worker(n, 20 if n < 3 else 90, 10 if n < 3 else 5000) for n in range(1, 5)]})),
    Case("C10", "pass", edits=NO_REQUESTS,
         live=pool(memory={"workers": [worker(n, 20, 10 if n < 3 else 5000) for n in range(1, 5)]})),
]  # fmt: skip

TIMEOUTS = [
    Case("T01", "pass", "60 <= 60 < 65"),
    Case("T01", "fail", "PHP-FPM kills the request after 2 s", "shop.conf:16",
         edits=((POOL, "terminate_timeout = 60s", "terminate_timeout = 2s"),)),
    Case("T01", "fail", "kills the request after 50 s", edits=((POOL, "terminate_timeout = 60s", "terminate_timeout = 50s"),)),
    Case("T01", "fail", "PHP-FPM may work for 60 s, nginx gives up after 60 s", edits=((SITE, "65s", "60s"),)),
    Case("T01", "fail", "nginx gives up after 30 s", "shop.conf:22", edits=((SITE, "65s", "30s"),)),
    Case("T01", "fail", "PHP may run for 600 s, nginx", "php.ini:2",
         edits=((INI, "= 60", "= 600"), (POOL, "request_terminate_timeout = 60s\n", ""))),
    Case("T01", "pass", "30 <= 60 < 65", edits=((INI, "max_execution_time = 60\n", ""),)),
    Case("T01", "unknown", "no php.ini", files={INI: None}),
    Case("T01", "unknown", "max_execution_time = long is no number", "php.ini:2", edits=((INI, "_time = 60", "_time = long"),)),
    Case("T02", "pass"),
    Case("T02", "fail", "", "shop.conf:1", edits=((POOL, "request_terminate_timeout = 60s\n", ""),)),
    Case("T02", "unknown", edits=((POOL, "= 60s", "= ${LIMIT}"),)),
    Case("T03", "unknown"),
    Case("T03", "pass", live=logs()),
    Case("T03", "fail", "ended 4 requests after 60 s", live=logs(cause("request_terminated", 4, pools=["shop"]))),
    Case("T03", "pass", live=logs(cause("request_terminated", 4, pools=["blog"]))),
    Case("T04", "pass"),
    Case("T04", "fail", "", "php-fpm.conf", edits=((FPM, "process_control_timeout = 10s\n", ""),), live=logs(reloads=2)),
    Case("T04", "fail", "", "php-fpm.conf:3", edits=((FPM, "= 10s", "= 0"),)),
    Case("T04", "unknown", edits=((FPM, "= 10s", "= ${TIMEOUT}"),)),
    Case("T05", "pass"),
    Case("T05", "fail", "Restart=no", "php8.2-fpm.service", edits=((UNIT, "Restart=on-failure\n", ""),)),
    Case("T05", "fail", "not preceded by a test", edits=((UNIT, "ExecReload=/usr/sbin/php-fpm8.2 --test\n", ""),)),
    Case("T05", "fail", "start limit", live=lambda read: replace(
        read, services={name: replace(one, result="start-limit-hit") for name, one in read.services.items()})),
    Case("T05", "unknown", files={UNIT: None}),
]  # fmt: skip

HEADERS = "large_client_header_buffers {};\n    client_max_body_size 16m;"
NGINX_CASES = [
    Case("N01", "pass", "16 KiB"),
    Case("N01", "fail", "Laravel", "shop.conf:17", edits=SMALL, files={"/srv/shop/artisan": ""}),
    Case("N01", "pass", edits=SMALL),
    Case("N01", "unknown", edits=(*SMALL, (SITE, "/srv/shop/public", "/srv/elsewhere"))),
    Case("N01", "fail", "7 answers", live=logs(cause("response_header_too_big", 7, sites=named("shop.example.com")))),
    Case("N02", "pass", "$realpath_root"),
    Case("N02", "fail", "not sent", "shop.conf:17", edits=((SITE, "fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;", ""),)),
    Case("N02", "fail", "no absolute path", "shop.conf:19", edits=((SITE, "$realpath_root$", "$"),)),
    Case("N02", "fail", "/srv/live is a symbolic link", edits=LINKED, links={"/srv/live": "shop"}),
    Case("N02", "pass", edits=((SITE, "$realpath_root$", "$document_root$"),)),
    Case("N02", "unknown", edits=LINKED),
    Case("N02", "unknown", "not read in full", edits=((SITE, "fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;", "include fastcgi.conf;"),)),
    Case("N03", "pass", "try_files"),
    Case("N03", "fail", "/uploads/picture.jpg/x.php", "shop.conf:17", edits=((SITE, "try_files $uri =404;", ""),)),
    Case("N03", "pass", edits=((SITE, "try_files $uri =404;", ""), (SITE, "~ \\.php$", "~ ^/index\\.php$"))),
    Case("N03", "pass", "fix_pathinfo", edits=((SITE, "try_files $uri =404;", ""), (INI, "[PHP]", "[PHP]\ncgi.fix_pathinfo = 0"))),
    Case("N03", "unknown", edits=((SITE, "~ \\.php$", "~ \\.php(?|a|b)$"),)),
    Case("N04", "pass"),
    Case("N04", "fail", "413 above 1 MiB", edits=((NGINX, "client_max_body_size 16m;", ""),)),
    Case("N04", "fail", "above post_max_size", "php.ini:3", edits=((INI, "post_max_size = 12M", "post_max_size = 8M"),)),
    Case("N04", "pass", edits=((NGINX, "16m", "0"),)),
    Case("N04", "unknown", files={INI: None}),
    Case("N05", "fail", "looks it up once", edits=BY_NAME),
    Case("N05", "fail", "needs a resolver", edits=((SITE, "    fastcgi_pass php_shop;\n    }\n}", "    fastcgi_pass $host:9000;\n    }\n}"),)),
    Case(
        "N05",
        "pass",
        edits=(
            (SITE, "    fastcgi_pass php_shop;\n    }\n}", "    fastcgi_pass $host:9000;\n    }\n}"),
            (NGINX, "http {", "http {\nresolver 127.0.0.53;"),
        ),
    ),
    Case("N05", "pass", edits=TO_TCP),
    Case("N05", "unknown", files=NO_NGINX),
    Case("N06", "pass"),
    Case("N06", "fail", "pictures", "shop.conf:17", edits=INSIDE),
    Case("N06", "fail", "no root is set", edits=((SITE, "    root /srv/shop/public;\n", ""),)),
    Case("N06", "unknown", "not read in full", edits=((SITE, "    root /srv/shop/public;\n", "    include site-root.conf;\n"),)),
    Case("N06", "unknown", live=put(server_roots={})),
    Case("N11", "pass"),
    Case("N11", "fail", "crit", "nginx.conf:4", edits=((NGINX, "warn", "crit"),)),
    Case("N11", "fail", "/dev/null", edits=((NGINX, "/var/log/nginx/error.log warn", "/dev/null"),)),
    Case("N11", "unknown", files=NO_NGINX),
    Case("N12", "pass"),
    Case("N12", "fail", "/.env and /.git/config", "shop.conf:9", edits=((SITE, "    location ~ /\\.(?!well-known/) { return 404; }\n", ""),)),
    Case("N12", "fail", "status page /fpm-status", "shop.conf:11", edits=((SITE, "        deny all;\n", ""),)),
    Case("N12", "unknown", edits=((SITE, "~ /\\.(?!well-known/)", "~ /\\.(?|a|b)"),)),
]  # fmt: skip

CONNECTIONS = [
    Case("N07", "pass"),
    Case("N07", "fail", "2 x 1 KiB", "nginx.conf:7", edits=((NGINX, "client_max_body_size 16m;", HEADERS.format("2 1k")),)),
    Case("N07", "fail", "6 requests got 400", live=logs(cause("request_header_too_large", 6))),
    Case("N07", "unknown", edits=((NGINX, "client_max_body_size 16m;", HEADERS.format("4 8q")),)),
    Case("N08", "pass"),
    Case("N08", "fail", "2 servers with max_fails=1", "shop.conf:2", edits=((SITE, " max_fails=0", ""),)),
    Case("N08", "fail", "non_idempotent", edits=((SITE, "fastcgi_read_timeout", "fastcgi_next_upstream error non_idempotent;\n        fastcgi_read_timeout"),)),
    Case("N08", "unknown", files=NO_NGINX),
    Case("N09", "fail", "8 x 2 idle", edits=KEPT),
    Case("N09", "pass", edits=(*KEPT, (SITE, "keepalive 8", "keepalive 2"))),
    Case("N09", "unknown", edits=(*KEPT, (NGINX, "worker_processes 2", "worker_processes auto"))),
    Case("N10", "pass"),
    Case("N10", "fail", "only 100 open files", "nginx.conf:3", edits=((NGINX, "8192", "100"),)),
    Case("N10", "fail", "worker_connections 64", edits=((NGINX, "1024", "64"),)),
    Case("N10", "unknown", edits=((NGINX, "worker_rlimit_nofile 8192;\n", ""),)),
]  # fmt: skip

FPM_CASES = [
    Case("F01", "pass"),
    Case("F01", "fail", "slowlog is not set", "shop.conf:17", edits=SLOW),
    Case("F01", "fail", "above request_terminate", edits=(
        (POOL, "= 60s", "= 60s\nslowlog = /var/log/slow.log\nrequest_slowlog_timeout = 90s"),)),
    Case("F01", "unknown", edits=((POOL, "= 60s", "= 60s\nrequest_slowlog_timeout = ${SLOW}"),)),
    Case("F02", "pass", "/var/log"),
    Case("F02", "fail", "/var/log/gone does not exist", "php-fpm.conf:2", edits=((FPM, "/var/log/", "/var/log/gone/"),)),
    Case("F02", "unknown", "is not known", live=put(folders={})),
    Case("F02", "unknown", "a part of a host", edits=((FPM, "/var/log/", "/opt/app/log/"),)),
    Case("F02", "unknown", "depends on the environment", edits=((POOL, "= 60s", "= 60s\nslowlog = /var/${WHERE}/slow.log"),)),
    Case("F03", "pass"),
    Case("F03", "fail", edits=((POOL, "catch_workers_output = yes\n", ""),)),
    Case("F03", "pass", edits=((POOL, "catch_workers_output = yes\n", "php_admin_value[error_log] = /var/log/shop.log\n"),)),
    Case("F03", "unknown", edits=((POOL, "catch_workers_output = yes\n", "catch_workers_output = ${CATCH}\n"),)),
    Case("F04", "pass"),
    Case(
        "F04",
        "fail",
        "7.4 and 8.2",
        "shop.conf:1",
        files={
            OLD_FPM: OLD,
            OLD_POOL: "[shop]\nuser = shop\nlisten = /run/php/old.sock\npm = ondemand\npm.max_children = 3\n",
        },
    ),
    Case("F04", "fail", "the program of this version is not", live=put(live=True)),
    Case("F04", "unknown", files={FPM: None, POOL: None}),
    Case("F05", "pass"),
    Case("F05", "fail", "2022-11-28", files={OLD_FPM: OLD, OLD_POOL: BLOG.format("/run/php/old.sock")}),
    Case("F05", "fail", "2026-12-31", live=put(now=1798800000.0)),
    Case("F05", "unknown", live=master(version="9.9")),
    Case("F06", "unknown", "how full"),
    Case("F06", "fail", "validate_timestamps is off", "php.ini:5", edits=((INI, "stamps = 1", "stamps = 0"),), files={SUDOERS: None}),
    Case("F06", "unknown", "may reload it", edits=((INI, "stamps = 1", "stamps = 0"),)),
    Case("F06", "pass", "OPcache is off", edits=((INI, "opcache.validate", "opcache.enable = 0\nopcache.validate"),)),
    Case("F07", "pass", "no control panel"),
    Case("F07", "unknown", live=pool(panel="plesk")),
    Case("F07", "fail", "plesk owns", "shop.conf:1", edits=((POOL, "[shop]", "[shop]\n; Ansible managed"),),
         files={"/usr/local/psa/version": "18"}),
    Case("F08", "pass"),
    Case("F08", "fail", "max_childs", "shop.conf:10", edits=((POOL, "pm.max_children = 12", "pm.max_childs = 12\npm.max_children = 12"),)),
    Case("F08", "unknown", files={FPM: None, POOL: None}),
]  # fmt: skip

HOST = [
    Case("U01", "pass", "php-fpm-reload php8.2-fpm"),
    Case("U01", "fail", "a wildcard", "deploy:1", files={SUDOERS: "deploy ALL=(root) NOPASSWD: /bin/systemctl * php*-fpm\n"}),
    Case("U01", "fail", "allows to restart", files={SUDOERS: "deploy ALL=NOPASSWD: /bin/systemctl restart php8.2-fpm\n", "/bin/systemctl": ""}),
    Case("U01", "fail", "PHP 7.4 is not", files={SUDOERS: "deploy ALL=NOPASSWD: /bin/systemctl reload php7.4-fpm\n", "/bin/systemctl": ""}),
    Case("U01", "fail", "does not exist", files={"/usr/local/sbin/php-fpm-reload": None}),
    Case("U01", "unknown", live=put(sudoers=None)),
    Case("U02", "pass"),
    Case("U02", "fail", "skips the reload", "deploy-shop:2", edits=((DEPLOY, "flock ", "flock --nonblock "),)),
    Case("U02", "fail", "any user can hold", edits=((DEPLOY, "/run/lock/php-fpm/", "/tmp/"),)),
    Case("U02", "fail", "skips the reload", files={DEPLOY: "(\nflock -n 9 || exit 1\nsystemctl reload php8.2-fpm\n) 9>/tmp/fpm.lock\n"}),
    Case("U02", "pass", files={DEPLOY: "flock -w 30 /run/lock/php-fpm/x systemctl reload php8.2-fpm -n\n"}),
    Case("U02", "unknown", live=put(scripts=None)),
    Case("U03", "pass", "tmpfiles"),
    Case("U03", "fail", "nothing makes /run/php", "shop.conf:4", files={TMPFILES: None}),
    Case("U03", "pass", files={TMPFILES: None, UNIT: "[Service]\nRuntimeDirectory=php\n"}),
    Case("U03", "fail", "share it", files={
        UNIT: "[Service]\nRuntimeDirectory=php\n", OLD_FPM: OLD, OLD_POOL: BLOG.format("/run/php/old.sock"),
        "/lib/systemd/system/php7.4-fpm.service": "[Service]\nRuntimeDirectory=php\n"}),
    Case("U03", "unknown", files={TMPFILES: None, UNIT: None}),
]  # fmt: skip

CASES = SOCKETS + CAPACITY + TIMEOUTS + NGINX_CASES + CONNECTIONS + FPM_CASES + HOST
# Nothing leaves these unknown on a host that they concern at all.
NEVER = {
    ("C05", "unknown"), ("S09", "unknown"), ("S10", "unknown"),  # the configuration alone decides
}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, 1), (2, 2), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)]
)
def test_p95_is_the_nearest_rank(count: int, wanted: int) -> None:
    assert p95(list(range(count, 0, -1))) == wanted


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case, tmp_path: Path) -> None:
    found = [one for one in audited(tmp_path, case).findings if one.id == case.rule]
    right = [one for one in found if one.status == case.status]
    assert right, [(one.status, one.subject, one.found) for one in found]
    if case.status != "fail":
        assert {one.status for one in found} == {case.status}
    said = [one for one in right if case.says in f"{one.subject} {one.found}"]
    assert said, [(one.subject, one.found) for one in right]
    if case.status == "fail":
        assert all(one.expected and one.fix and one.evidence for one in right)
    if case.place:
        places = [
            f"{item.file}:{item.line}" if item.line else item.file for one in said for item in one.evidence
        ]
        assert any(place and place.endswith(case.place) for place in places), places


def test_every_rule_is_tried_in_every_state() -> None:
    tried = {(case.rule, case.status) for case in CASES}
    wanted = {(rule.id, state) for rule in audit.all_rules() for state in ("fail", "pass", "unknown")}
    assert wanted - tried == NEVER
    assert not NEVER & tried


def test_the_healthy_host_fails_nothing(tmp_path: Path) -> None:
    failed = [(one.id, one.subject, one.found) for one in audited(tmp_path).findings if one.status == "fail"]
    assert failed == []
