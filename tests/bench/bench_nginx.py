# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx_fastcgi_info against crossplane, on one generated tree of 1,000 server blocks.

    python3 tests/bench/bench_nginx.py

Ours reads, follows includes and works out every PHP location's settings;
crossplane reads and follows includes. The best of several runs of each counts.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ansible/collections"))
# crossplane, also for a python3 from outside of the environment.
sys.path.extend(map(str, ROOT.glob(".venv/lib/python3*/site-packages")))

SERVERS = 1000
RUNS = 5

MAIN = """user www-data;
worker_processes auto;
error_log /var/log/nginx/error.log;
events { worker_connections 768; }
http {
    fastcgi_read_timeout 90s;
    upstream php { server unix:/run/php/php8.2-fpm.sock; server 127.0.0.1:9000 backup; }
    include /etc/nginx/conf.d/*.conf;
    include /etc/nginx/sites-enabled/*;
}
"""
PARAMS = "".join(
    f"fastcgi_param  {name:<18} ${name.lower()};\n"
    for name in (
        "QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "REQUEST_URI", "DOCUMENT_URI",
        "DOCUMENT_ROOT", "SERVER_PROTOCOL", "REQUEST_SCHEME", "HTTPS", "REMOTE_ADDR", "REMOTE_PORT",
        "SERVER_ADDR", "SERVER_PORT", "SERVER_NAME", "REDIRECT_STATUS",
    )
)  # fmt: skip
SITE = """# Site {number}
server {{
    listen 80;
    listen [::]:80;
    server_name site{number}.example.com www.site{number}.example.com;
    root /var/www/site{number}/public;
    index index.php index.html;
    access_log /var/log/nginx/site{number}.access.log;
    error_log /var/log/nginx/site{number}.error.log warn;
    add_header X-Frame-Options "SAMEORIGIN" always; # a comment
    client_max_body_size 32m;

    location / {{
        try_files $uri $uri/ /index.php?$query_string;
    }}
    location ~* \\.(?:css|js|jpe?g|png|svg|woff2?)$ {{
        expires 30d;
        access_log off;
    }}
    location ~ /\\.(?!well-known) {{ deny all; }}
    location ~ \\.php$ {{
        try_files $uri =404;
        fastcgi_split_path_info ^(.+\\.php)(/.+)$;
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;
        fastcgi_param PATH_INFO $fastcgi_path_info;
        fastcgi_buffers 16 16k;
        fastcgi_buffer_size 32k;
        fastcgi_pass php;
    }}
}}
"""


def write_tree(top: Path) -> Path:
    """A configuration of SERVERS sites below ``top``, as Debian lays it out; -> its main file."""
    etc = top / "etc/nginx"
    for name in ("conf.d", "sites-enabled"):
        (etc / name).mkdir(parents=True)
    (etc / "fastcgi_params").write_text(PARAMS)
    main = etc / "nginx.conf"
    # crossplane knows no root directory: absolute names lead into the tree for both.
    main.write_text(MAIN.replace("/etc/nginx", str(etc)))
    for number in range(SERVERS):
        (etc / f"sites-enabled/site{number:04}").write_text(SITE.format(number=number))
    return main


def best(*actions: Callable[[], Any]) -> list[float]:
    """Seconds of the fastest of RUNS runs of each, in turns: a busy machine then slows all of them."""
    times: list[list[float]] = [[] for _action in actions]
    for _run in range(RUNS):
        for number, action in enumerate(actions):
            gc.collect()
            start = time.perf_counter()
            action()
            times[number].append(time.perf_counter() - start)
    return [min(series) for series in times]


def main() -> int:
    """Print both times and their ratio; 1 if ours is the slower one."""
    import crossplane
    from ansible_collections.webops.php_stack.plugins.module_utils.nginx_info import gather

    with tempfile.TemporaryDirectory() as name:
        path = write_tree(Path(name))
        result = gather(config=str(path), prefix="/usr/share/nginx")
        if len(result["locations"]) != SERVERS or result["errors"]:
            raise RuntimeError(f"{len(result['locations'])} locations, errors: {result['errors'][:3]}")
        if crossplane.parse(str(path))["status"] != "ok":
            raise RuntimeError("crossplane does not accept the tree")
        size = len(json.dumps(result)) / 1e6
        del result
        ours, theirs = best(
            lambda: gather(config=str(path), prefix="/usr/share/nginx"),
            lambda: crossplane.parse(str(path)),
        )
    print(
        f"nginx_fastcgi_info: {SERVERS} server blocks: {ours:.3f} s; crossplane.parse: {theirs:.3f} s;"
        f" ratio {ours / theirs:.2f} (result: {size:.1f} MB)"
    )
    return int(ours > theirs)


if __name__ == "__main__":
    sys.exit(main())
