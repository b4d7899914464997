# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose configurations, file names, sockets, pages and logs hold Latin-1 bytes, which are no UTF-8.

Ansible refuses a module's answer that holds such a byte. Each module must come
back, with the byte written out as ``\\xe9``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))
import lab

NAME = "php-stack-test-odd-bytes"
CAFE = "caf\\xe9"
# Written in the host by its printf, since no argument of a command could hold the byte.
BREAK = r"""
E=$(printf 'caf\351')
cat >/etc/php/8.2/fpm/pool.d/www.conf <<END
; $E
[www]
user = www-data
listen = /run/php/$E.sock
listen.owner = www-data
pm = static
pm.max_children = 2
pm.status_path = /status
ping.path = /ping
ping.response = $E
slowlog = /var/log/$E.log
env[PLACE] = "$E"
php_admin_value[memory_limit] = 64M
END
mkdir "/srv/$E"
echo "<?php error_log('$E'); throw new Exception('$E');" >"/srv/$E/index.php"
echo "<?php usleep(300000);" >"/srv/$E/busy.php"
cat >"/etc/nginx/sites-enabled/$E.conf" <<END
server {
    listen 80 default_server;
    server_name $E.example;
    root /srv/$E;
    location ~ \.php\$ {
        include fastcgi.conf;
        fastcgi_param PLACE "$E";
        fastcgi_pass unix:/run/php/$E.sock;
    }
    location /gone { include fastcgi.conf; fastcgi_pass unix:/run/php/gone$E.sock; }
}
END
rm /etc/nginx/sites-enabled/default
systemctl restart php8.2-fpm nginx
printf 'GET /gone/caf\351 HTTP/1.0\r\nHost: caf\351.example\r\n\r\n' >/root/request
python3 -c 'import socket
link = socket.create_connection(("127.0.0.1", 80)); link.sendall(open("/root/request", "rb").read())
assert b" 502 " in link.recv(99)'
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/index.php | grep -q 500
grep -q "$E" /var/log/nginx/error.log
"""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    lab.up(NAME, "stack", None, True)
    done = subprocess.run(["docker", "exec", "-i", NAME, "sh", "-eu"], input=BREAK,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    yield NAME
    lab.down([NAME])


def module(host: str, tmp_path: Path, name: str, **params: Any) -> dict[str, Any]:
    (tmp_path / "hosts.json").write_text(lab.inventory([host]))
    arguments = ["-a", json.dumps(params)] if params else []
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible"), "-i", str(tmp_path / "hosts.json"), "all",
         "-m", f"webops.php_stack.{name}", *arguments],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.partition(" => ")[2])
    return result


def test_fpm_pool_facts(host: str, tmp_path: Path) -> None:
    (pool,) = module(host, tmp_path, "fpm_pool_facts")["ansible_facts"]["fpm_pools"]
    assert pool["listen"]["address"] == f"unix:/run/php/{CAFE}.sock"
    assert pool["directives"]["env[PLACE]"]["value"] == CAFE
    assert (pool["status"]["state"], pool["queue"]["waiting"], pool["memory"]["worker_count"]) == ("ok", 0, 2)


def test_nginx_fastcgi_info(host: str, tmp_path: Path) -> None:
    result = module(host, tmp_path, "nginx_fastcgi_info")
    php, gone = result["locations"]
    assert (php["file"], php["server_names"]) == (
        f"/etc/nginx/sites-enabled/{CAFE}.conf",
        [f"{CAFE}.example"],
    )
    assert [target["address"] for one in (php, gone) for target in one["targets"]] == [
        f"unix:/run/php/{CAFE}.sock",
        f"unix:/run/php/gone{CAFE}.sock",
    ]
    assert result["errors"] == []


@pytest.mark.parametrize("path", ["/run/php/php8.2-fpm.sock", "/run/php/none.sock"])
def test_socket_check_names_the_neighbour(host: str, tmp_path: Path, path: str) -> None:
    result = module(host, tmp_path, "socket_check", address=path, as_user="www-data")
    assert result["cause"] == "socket_missing"
    assert f"Sockets in the same folder: /run/php/{CAFE}.sock" in result["msg"]


def test_socket_check_of_a_page(host: str, tmp_path: Path) -> None:
    subprocess.run(
        ["docker", "exec", host, "sh", "-c", "ln -sfn /run/php/caf*.sock /run/pool.sock"], check=True
    )
    result = module(host, tmp_path, "socket_check", address="/run/pool.sock", as_user="www-data",
                    ping_path="/ping", status_path="/status")  # fmt: skip
    assert (result["reachable"], result["ping"]["body"]) == (True, "caf\ufffd")
    assert result["socket"]["path"] == f"/run/php/{CAFE}.sock"


def test_fpm_sizing(host: str, tmp_path: Path) -> None:
    result = module(host, tmp_path, "fpm_sizing")
    (pool,) = result["plan"]
    assert (pool["name"], pool["worst_bytes"]) == ("www", 64 << 20)


def test_gateway_log_info(host: str, tmp_path: Path) -> None:
    result = module(host, tmp_path, "gateway_log_info")
    causes = {cause["id"]: cause for cause in result["causes"]}
    assert [upstream["name"] for upstream in causes["php_fatal"]["upstreams"]] == [
        f"fastcgi://unix:/run/php/{CAFE}.sock"
    ]
    samples = [sample["text"] for cause in result["causes"] for sample in cause["samples"]]
    assert any(f"GET /gone/{CAFE} HTTP/1.0" in text for text in samples)


def test_stack_audit(host: str, tmp_path: Path) -> None:
    result = module(host, tmp_path, "stack_audit")
    findings = [one for one in result["findings"] if one["id"] == "S01" and one["status"] == "fail"]
    assert f"passes to /run/php/gone{CAFE}.sock" in findings[0]["found"]
    # The pool is found behind nginx's address: both sides kept the byte.
    assert not [one for one in result["findings"] if one["id"] == "S02" and one["status"] == "fail"]
