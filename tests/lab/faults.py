#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real faults for a lab host, one at a time: inject, provoke, restore.

    faults.py list
    faults.py run NAME FAULT            inject one fault, ask, print the answers, restore
    faults.py record NAME DIR [FAULT…]  write each fault's logs and answers below DIR

NAME is a container that `lab.py up` started. A fault is a name, the cause that
the logs must lead to, a script that breaks the host, and one that sends
requests. restore() undoes every one of them: it puts the stock files of the
stack image and the lab's site back and starts both services again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

POOL = "/etc/php/8.2/fpm/pool.d/www.conf"
SITE = "/etc/nginx/sites-enabled/default"
LOGS = {"nginx": "/var/log/nginx/error.log", "fpm": "/var/log/php8.2-fpm.log"}

# What every fault starts from. The functions are for the faults' scripts.
_PRELUDE = r"""
set -u
pool() { printf '%s\n' "$@" >>/etc/php/8.2/fpm/pool.d/www.conf; systemctl restart php8.2-fpm; }
site() { sed -i "$1" /etc/nginx/sites-enabled/default; systemctl restart nginx; }
get() { curl -s -o /dev/null -m 20 -w "%{http_code} $1\n" "http://127.0.0.1$1" "${@:2}"; }
many() { local n=$1; shift; for _ in $(seq "$n"); do get "$@" & done; wait; }
in_flight() { for _ in $(seq 500); do [ "$(ls /run/lab/busy | wc -l)" -ge "${1:-1}" ] && return; sleep 0.02; done; }
peer() { setsid /usr/bin/python3 /opt/lab/peer.py "$@" </dev/null >/dev/null 2>&1 & echo $! >>/run/lab/peers
         for _ in $(seq 200); do [ -e "/run/lab/peer-$2" ] && return; sleep 0.02; done; }
"""

_PEER = r'''
"""Something that is no PHP-FPM, on a TCP port: how it behaves is the first argument."""
import socket, struct, sys, time
mode, port = sys.argv[1], int(sys.argv[2])
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen(0 if mode == "full" else 16)
open("/run/lab/peer-%d" % port, "w").close()
if mode == "full":
    held = [socket.socket() for _ in range(8)]
    for client in held:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    time.sleep(3600)
kept = []
while mode == "silent":
    kept.append(server.accept()[0])
def record(kind, body):
    return struct.pack(">BBHHBx", 1, kind, 1, len(body), 0) + body
while True:
    client = server.accept()[0]
    client.recv(65536)
    if mode == "cut":
        client.sendall(record(6, b"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 2000))
        time.sleep(0.1)
    if mode in ("reset", "cut"):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif mode == "http":
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    client.close()
'''

_SITE = r"""server {
  listen 80 default_server;
  server_name shop.example.com;
  root /var/www/html;
  location / { try_files $uri =404; }
  location = /missing.png { }
  location ~ \.(php|txt)$ {
    include fastcgi_params;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_read_timeout 60s;
    fastcgi_pass unix:/run/php/php8.2-fpm.sock;
  }
}
"""

# A script marks itself busy, so that a fault can wait for a request in flight.
_BUSY = "<?php $b = '/run/lab/busy/' . getmypid(); touch($b); register_shutdown_function('unlink', $b); "
_PAGES = {
    "ok.php": "<?php echo 'ok';",
    "sleep.php": _BUSY + "sleep((int) $_GET['s']); echo 'slept';",
    "spin.php": _BUSY + "$t = microtime(true); while (microtime(true) - $t < $_GET['s']); echo 'spun';",
    "segv.php": "<?php posix_kill(posix_getpid(), 11); sleep(5);",
    "cut.php": "<?php echo str_repeat('x', 70000); flush(); usleep(200000); posix_kill(posix_getpid(), 11); sleep(5);",
    "header.php": "<?php header('X-Big: ' . str_repeat('x', (int) $_GET['n'])); echo 'big';",
    "fatal.php": "<?php throw new RuntimeException('boom');",
    "timelimit.php": "<?php set_time_limit(1); while (true);",
    "memory.php": "<?php $a = []; while (true) { $a[] = str_repeat('x', 1 << 20); }",
    "eat.php": "<?php ini_set('memory_limit', '-1'); $a = []; while (true) { $a[] = str_repeat('x', 1 << 20); }",
    "plain.txt": "text",
}


@dataclass(frozen=True)
class Fault:
    """``cause`` is the id that the logs must lead to, ``answer`` the status a client gets at least once.

    ``diagnosis`` is the cause that logs and configurations together lead to, where it is another one.
    """

    name: str
    cause: str
    answer: str
    inject: str
    provoke: str
    # Of the host: how much memory its container needs at most, '' for any.
    memory: str = ""
    diagnosis: str = ""

    @property
    def verdict(self) -> str:
        """The cause that a diagnosis must name."""
        return self.diagnosis or self.cause


def _other(target: str) -> str:
    return f"site 's#fastcgi_pass .*;#fastcgi_pass {target};#'"


FAULTS = (
    Fault("service_stopped", "socket_missing", "502", "systemctl stop php8.2-fpm", "get /ok.php"),
    Fault("master_killed", "socket_refused", "502",
          "kill -9 $(systemctl show -P MainPID php8.2-fpm); for _ in $(seq 100); do"
          " systemctl is-active -q php8.2-fpm || break; sleep 0.05; done", "get /ok.php"),
    Fault("socket_mode", "socket_denied", "502", "pool listen.owner=root listen.group=root listen.mode=0600",
          "get /ok.php"),
    Fault("wrong_port", "tcp_refused", "502", _other("127.0.0.1:9999"), "get /ok.php"),
    Fault("wrong_version_socket", "socket_missing", "502", _other("unix:/run/php/php7.4-fpm.sock"), "get /ok.php",
          diagnosis="path_mismatch"),
    Fault("no_route", "host_unreachable", "502",
          "site \"s#fastcgi_pass .*;#fastcgi_pass $(hostname -I | sed -E 's/[0-9]+ *$/253/'):9000;#\"",
          "get /ok.php"),
    Fault("backlog", "backlog_full", "502", "pool pm=static pm.max_children=1 listen.backlog=1",
          "many 8 '/sleep.php?s=1'"),
    Fault("connect_hangs", "connect_timeout", "504",
          "peer full 9105; " + _other("127.0.0.1:9105; fastcgi_connect_timeout 1s"), "get /ok.php"),
    Fault("send_hangs", "send_timeout", "504",
          "peer silent 9106; head -c 30000000 /dev/zero >/run/lab/body; "
          "sed -i 's/fastcgi_read_timeout 60s;/client_max_body_size 0; fastcgi_send_timeout 1s;/' "
          f"{SITE}; " + _other("127.0.0.1:9106"), "get /ok.php --data-binary @/run/lab/body"),
    Fault("slow_page", "read_timeout", "504", "site s/read_timeout.60s/read_timeout\\ 1s/", "get '/sleep.php?s=3'"),
    Fault("peer_resets", "upstream_reset", "502", "peer reset 9107; " + _other("127.0.0.1:9107"), "get /ok.php"),
    Fault("peer_closes", "premature_close", "502", "peer close 9108; " + _other("127.0.0.1:9108"), "get /ok.php"),
    Fault("peer_cuts", "response_truncated", "200", "peer cut 9109; " + _other("127.0.0.1:9109"), "get /ok.php"),
    Fault("terminate_timeout", "request_terminated", "502", "pool request_terminate_timeout=1s",
          "get '/sleep.php?s=10'"),
    Fault("worker_segv", "worker_crashed", "502", "true", "get /segv.php"),
    Fault("worker_segv_in_body", "worker_crashed", "200", "true", "get /cut.php"),
    Fault("worker_kill", "worker_killed", "502", "true",
          "get '/sleep.php?s=9' & in_flight; kill -9 $(ls /run/lab/busy); wait"),
    Fault("worker_memory", "worker_oom", "502", "true", "get /eat.php", memory="192m"),
    Fault("reload", "reload_cut_requests", "502", "true",
          "get '/spin.php?s=9' & in_flight; systemctl reload php8.2-fpm; wait"),
    Fault("restart", "restart_cut_requests", "502", "true",
          "get '/spin.php?s=9' & in_flight; systemctl restart php8.2-fpm; wait"),
    Fault("broken_pool_reload", "config_invalid", "502",
          "printf '[bad]\\nuser = www-data\\nlisten = /run/php/bad.sock\\npm = sometimes\\n'"
          " >/etc/php/8.2/fpm/pool.d/zz-bad.conf; systemctl reload php8.2-fpm; for _ in $(seq 100); do"
          " systemctl is-active -q php8.2-fpm || break; sleep 0.05; done", "get /ok.php"),
    Fault("pool_user", "pool_user_missing", "502", "pool user=nosuchuser", "get /ok.php"),
    Fault("port_taken", "address_in_use", "502",
          "peer silent 9110; " + _other("unix:/run/php/php8.2-fpm.sock") + "; pool listen=127.0.0.1:9110",
          "get /ok.php"),
    Fault("start_limit", "start_limit_hit", "502",
          "for _ in $(seq 7); do systemctl restart php8.2-fpm; done", "get /ok.php"),
    Fault("max_children", "max_children_reached", "504",
          "sed -i 's/read_timeout 60s/read_timeout 3s/' " + SITE + "; systemctl restart nginx;"
          " pool pm.max_children=2 pm.start_servers=1 pm.max_spare_servers=1", "many 6 '/sleep.php?s=2'"),
    Fault("max_children_ondemand", "max_children_reached", "504",
          "sed -i 's/read_timeout 60s/read_timeout 3s/' " + SITE + "; systemctl restart nginx;"
          " pool pm=ondemand pm.max_children=2",
          # PHP-FPM says so only when a request comes while no worker is idle, as two that were just made are.
          "many 2 '/sleep.php?s=2' & in_flight 2; many 4 '/sleep.php?s=2'; wait"),
    Fault("peers_disabled", "no_live_upstreams", "502",
          "printf 'upstream two { server 127.0.0.1:9111; server 127.0.0.1:9112; }\\n' >/etc/nginx/conf.d/two.conf;"
          " peer reset 9111; peer reset 9112; " + _other("two"), "for _ in $(seq 8); do get /ok.php; done"),
    Fault("big_response_header", "response_header_too_big", "502", "true", "get '/header.php?n=9000'"),
    Fault("big_request_header", "request_header_too_large", "400",
          "echo 'error_log /var/log/nginx/error.log info;' >/etc/nginx/conf.d/level.conf; systemctl restart nginx",
          "get /ok.php -H \"X-Big: $(head -c 20000 /dev/zero | tr '\\0' x)\""),
    Fault("wrong_script_filename", "script_not_found", "404", "site s#.document_root#/srv/nowhere#",
          "get /ok.php"),
    Fault("extension", "extension_denied", "403", "true", "get /plain.txt"),
    Fault("static_missing", "nginx_file_missing", "404", "true", "get /missing.png"),
    Fault("php_exception", "php_fatal", "500", "true", "get /fatal.php"),
    Fault("php_time", "php_time_limit", "500", "true", "get /timelimit.php"),
    Fault("php_memory", "php_memory_limit", "500", "true", "get /memory.php"),
    Fault("host_unknown", "upstream_host_not_found", "502",
          "site 's#fastcgi_pass .*;#set $up fpm.invalid; fastcgi_pass $up:9000;#'", "get /ok.php"),
    Fault("http_peer", "fastcgi_protocol_error", "502", "peer http 9113; " + _other("127.0.0.1:9113"), "get /ok.php"),
)  # fmt: skip

BY_NAME = {fault.name: fault for fault in FAULTS}

_RESTORE = rf"""
[ -d /opt/lab ] || {{ mkdir -p /opt/lab/stock; cp {POOL} /opt/lab/stock/www.conf; }}
mkdir -p /run/lab/busy; chmod 1777 /run/lab /run/lab/busy
for pid in $(cat /run/lab/peers 2>/dev/null); do kill "$pid" 2>/dev/null; done
rm -rf /run/lab/peer* /run/lab/busy/* /run/lab/body /etc/nginx/conf.d/*.conf /etc/php/8.2/fpm/pool.d/*.conf
cp /opt/lab/stock/www.conf {POOL}
cp /opt/lab/site {SITE}
systemctl reset-failed php8.2-fpm nginx 2>/dev/null
systemctl restart nginx php8.2-fpm
systemctl reset-failed php8.2-fpm nginx 2>/dev/null
"""


class Host:
    """A lab host, by the name of its container."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._kernel_lines = 0

    def run(self, script: str) -> str:
        """Run a bash script there; its output. The exit code is the script's own matter."""
        done = subprocess.run(
            ["docker", "exec", "-i", self.name, "bash", "-c", _PRELUDE + script],
            check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def write(self, path: str, text: str) -> None:
        subprocess.run(
            ["docker", "exec", "-i", self.name, "bash", "-c", f"mkdir -p $(dirname {path}); cat >{path}"],
            input=text, text=True, check=True,
        )  # fmt: skip

    def restore(self) -> None:
        """The stock stack with the lab's site, running; also the preparation of a new host."""
        self.run(
            f"mkdir -p /opt/lab/stock; [ -e /opt/lab/stock/www.conf ] || cp {POOL} /opt/lab/stock/www.conf"
        )
        self.write("/opt/lab/peer.py", _PEER)
        self.write("/opt/lab/site", _SITE)
        for name, text in _PAGES.items():
            self.write(f"/var/www/html/{name}", text)
        self.run(_RESTORE)
        if "200" not in self.run("get /ok.php"):
            raise RuntimeError(f"{self.name}: the restored host does not answer 200")

    def clear_logs(self) -> None:
        self._kernel_lines = len(_kernel_log())
        self.run(f"truncate -s 0 {LOGS['nginx']} {LOGS['fpm']}; date +@%s.%N >/run/lab/since")

    def inject(self, fault: Fault) -> None:
        self.run(fault.inject)

    def provoke(self, fault: Fault) -> list[str]:
        """Lines of 'STATUS PATH', one for each request."""
        return sorted(self.run(fault.provoke).split("\n"))[1:]

    def logs(self) -> dict[str, str]:
        """nginx, fpm, journal (journalctl's short format) and kernel since clear_logs().

        A container has no kernel log of its own: the lab machine's lines about PHP are taken.
        """
        found = {kind: self.run(f"cat {path}") for kind, path in LOGS.items()}
        found["journal"] = self.run(
            "journalctl --sync; journalctl --quiet --no-pager --output=short --since=$(cat /run/lab/since)"
            " -u php8.2-fpm -u nginx"
        ).replace(self.name, "web1")
        new = _kernel_log()[self._kernel_lines :]
        found["kernel"] = "".join(f"{line}\n" for line in new if "task=php" in line or "(php" in line)
        return found


def _kernel_log() -> list[str]:
    """Empty where the lab machine does not let us read it."""
    done = subprocess.run(["dmesg"], check=False, capture_output=True, text=True, errors="replace")
    return done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    command = commands.add_parser("run")
    command.add_argument("name")
    command.add_argument("fault", choices=BY_NAME)
    command = commands.add_parser("record")
    command.add_argument("name")
    command.add_argument("directory", type=Path)
    command.add_argument("faults", nargs="*")
    args = parser.parse_args()
    if args.command == "list":
        for fault in FAULTS:
            print(f"{fault.name:24} {fault.answer} {fault.cause}")
        return
    host = Host(args.name)
    names = [args.fault] if args.command == "run" else args.faults or [f.name for f in FAULTS if not f.memory]
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        sys.exit(f"php_stack: no such fault: {', '.join(unknown)}")
    for name in names:
        host.restore()
        host.clear_logs()
        host.inject(BY_NAME[name])
        answers = host.provoke(BY_NAME[name])
        print(name, *answers, sep="\n  ")
        if args.command == "record":
            folder = args.directory / name
            folder.mkdir(parents=True, exist_ok=True)
            for kind, text in {**host.logs(), "answers": "\n".join(answers) + "\n"}.items():
                if text.strip():
                    (folder / f"{kind}.log").write_text(text)
    host.restore()


if __name__ == "__main__":
    main()
