# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpm_pool_facts on trees (root=DIR): what comes back, with which places, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import printable
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import gather, summary
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_listen import (
    endpoint,
    find_held,
    find_listener,
)
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.kernel_sockets import Listener
from ansible_collections.webops.php_stack.plugins.module_utils.systemd_units import (
    SocketUnit,
    environment,
    main_command,
    parse_show,
    seconds,
    socket_units,
    unit_state,
)

CONFIG = "/etc/php/8.2/fpm/php-fpm.conf"
POOLS = "/etc/php/8.2/fpm/pool.d"
WWW = f"{POOLS}/www.conf"
UNITS = "/etc/systemd/system"
BASE = {
    CONFIG: f"[global]\npid = /run/php/php8.2-fpm.pid\nerror_log = /var/log/php8.2-fpm.log\ninclude={POOLS}/*.conf\n",
    WWW: "; first line\n[www]\nuser = www-data\nlisten = /run/php/$pool.sock\nlisten.owner = www-data\n"
    "listen.acl_users = apache, nginx\nlisten.allowed_clients = 127.0.0.1,::1\npm = static\npm.max_children = 3\n"
    "php_admin_value[memory_limit] = 256M\npm.status_path = /status\nrequest_terminate_timeout = 1m\n",
}
SOCKET_UNIT = (
    "[Socket]\nListenStream=/run/fpm/www.sock\nFileDescriptorName=www\nSocketUser=www-data\nSocketGroup=web\n"
    "SocketMode=0600\nBacklog=511\nService=php8.2-fpm.service\n"
)


def read(top: Path, more: dict[str, str] | None = None, **options: Any) -> dict[str, list[dict[str, Any]]]:
    for path, text in {**BASE, **(more or {})}.items():
        file = top / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    facts = gather(Host(str(top)), **options)
    json.dumps(facts)
    return facts


def test_a_pool_of_a_tree(tmp_path: Path) -> None:
    (pool,) = read(tmp_path)["fpm_pools"]
    directives = pool.pop("directives")
    assert pool == {
        "name": "www", "version": "8.2", "layout": "debian", "panel": None, "master": CONFIG,
        "file": WWW, "line": 2, "managed": False, "user": "www-data", "group": None,
        "listen": {
            "raw": "/run/php/www.sock", "kind": "unix", "address": "unix:/run/php/www.sock",
            "path": "/run/php/www.sock", "host": None, "port": None, "owner": "www-data", "group": None,
            "mode": "0660", "acl_users": ["apache", "nginx"], "acl_groups": [], "backlog": -1,
            "allowed_clients": ["127.0.0.1", "::1"], "held_by": None, "socket_unit": None,
        },
        "pm": {"mode": "static", "max_children": 3, "start_servers": 0, "min_spare_servers": 0,
               "max_spare_servers": 0, "process_idle_timeout": 10, "max_requests": 0},
        "request_terminate_timeout": 60, "request_slowlog_timeout": 0, "ping_path": None,
        "status_path": "/status", "status_listen": None, "unit": None, "pid": None, "queue": None,
        "memory": {"worker_count": None, "rss_bytes": None, "pss_bytes": None, "private_bytes": None,
                   "shared_bytes": None, "private_peak_bytes": None, "workers": []},
        "status": {"state": "unknown", "reason": "a tree is not asked"},
    }  # fmt: skip
    assert directives["php_admin_value[memory_limit]"] == {
        "value": "256M", "file": WWW, "line": 10, "default": False,
    }  # fmt: skip
    assert directives["pm.max_requests"] == {"value": 0, "file": None, "line": None, "default": True}


def test_only_what_the_files_set(tmp_path: Path) -> None:
    facts = read(tmp_path, defaults=False)
    (pool,), (master,) = facts["fpm_pools"], facts["fpm_masters"]
    assert list(pool["directives"]) == [
        "user", "listen", "listen.acl_users", "listen.owner", "listen.allowed_clients", "pm", "pm.max_children",
        "pm.status_path", "request_terminate_timeout", "php_admin_value[memory_limit]",
    ]  # fmt: skip
    assert list(master["globals"]) == ["pid", "error_log"]
    assert not any(
        setting["default"] for setting in [*pool["directives"].values(), *master["globals"].values()]
    )
    assert master["process_control_timeout"] == 0


def test_a_master_of_a_tree(tmp_path: Path) -> None:
    (master,) = read(tmp_path)["fpm_masters"]
    assert master["globals"]["error_log"] == {
        "value": "/var/log/php8.2-fpm.log", "file": CONFIG, "line": 3, "default": False,
    }  # fmt: skip
    assert (master["files"], master["pools"], master["running"], master["pid"]) == (
        [CONFIG, WWW],
        ["www"],
        None,
        None,
    )
    assert (master["unit_state"], master["errors"], master["warnings"]) == (None, [], [])


def test_a_broken_file_is_reported_and_the_rest_comes_back(tmp_path: Path) -> None:
    facts = read(tmp_path, {f"{POOLS}/bad.conf": "[bad]\npm = dynamc\nlisten = /b.sock\n# note\n"})
    assert [
        (error["file"], error["line"], error["message"]) for error in facts["fpm_masters"][0]["errors"]
    ] == [
        (f"{POOLS}/bad.conf", 2, "pm: 'dynamc' is not a process manager: static, dynamic or ondemand"),
        (f"{POOLS}/bad.conf", 4, "'#' does not start a comment: use ';'"),
        (f"{POOLS}/bad.conf", 1, "[bad] user is not set"),
        (f"{POOLS}/bad.conf", 1, "[bad] pm.max_children must be at least 1"),
    ]
    assert [pool["name"] for pool in facts["fpm_pools"]] == ["bad", "www"]
    lines = summary(facts)
    assert "www (PHP 8.2): unix:/run/php/www.sock, static 3: unknown (a tree is not asked)" in lines
    assert f"error: {POOLS}/bad.conf:4: '#' does not start a comment: use ';'" in lines


def test_only_the_pools_that_were_asked_for(tmp_path: Path) -> None:
    more = {f"{POOLS}/{name}.conf": BASE[WWW].replace("[www]", f"[{name}]") for name in ("a", "b")}
    assert [pool["name"] for pool in read(tmp_path, more, pools=["b", "none"])["fpm_pools"]] == ["b"]


def test_our_own_files_are_known_by_their_first_line(tmp_path: Path) -> None:
    more = {WWW: "; Managed by webops.php_stack (role php_fpm): changes are lost.\n" + BASE[WWW]}
    assert read(tmp_path, more)["fpm_pools"][0]["managed"] is True


def test_bytes_that_are_not_utf8_are_written_out(tmp_path: Path) -> None:
    # Ansible fails a module whose answer holds such a byte.
    more = {WWW: BASE[WWW] + "env[NAME] = \u00e9 caf\udce9\n", f"{POOLS}/b.conf": "\udcff = 1\n"}
    facts = printable(read(tmp_path, more))
    json.dumps(facts, ensure_ascii=False).encode("utf-8")
    (pool,) = facts["fpm_pools"]
    assert pool["directives"]["env[NAME]"]["value"] == "\u00e9 caf\\xe9"
    assert "\\xff" in facts["fpm_masters"][0]["errors"][0]["message"]


def test_links_stay_inside_the_tree(tmp_path: Path) -> None:
    pools = tmp_path / "srv/pools"
    pools.mkdir(parents=True)
    (pools / "shop.conf").write_text(BASE[WWW].replace("[www]", "[shop]"))
    read(tmp_path)
    (tmp_path / POOLS.lstrip("/") / "zz.conf").symlink_to("/srv/pools/shop.conf")
    assert [pool["name"] for pool in gather(Host(str(tmp_path)))["fpm_pools"]] == ["www", "shop"]


def test_a_variable_of_the_unit_is_filled_in(tmp_path: Path) -> None:
    more = {
        WWW: BASE[WWW] + "slowlog = ${LOGS}/slow\nenv[A] = ${ELSEWHERE}\n",
        "/lib/systemd/system/php8.2-fpm.service": "[Service]\nExecStart=/usr/sbin/php-fpm8.2\n",
        f"{UNITS}/php8.2-fpm.service.d/env.conf": '[Service]\nEnvironment="LOGS=/var/log/my fpm" X=1\n',
    }
    (pool,) = read(tmp_path, more)["fpm_pools"]
    assert pool["unit"] == "php8.2-fpm.service"
    assert pool["directives"]["slowlog"]["value"] == "/var/log/my fpm/slow"
    assert pool["directives"]["env[A]"] == {
        "value": None, "file": WWW, "line": 14, "default": False, "unresolved": "${ELSEWHERE}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("listen", "service"),
    [("/run/fpm/www.sock", ""), ("/run/fpm/.inherited-www", "Environment=FPM_SOCKETS=/run/fpm/.inherited-www=3\n"),
     ("/run/fpm/.any-name", "")],
    ids=["the same path", "FPM_SOCKETS", "the descriptor's name"],
)  # fmt: skip
def test_a_socket_that_systemd_holds(tmp_path: Path, listen: str, service: str) -> None:
    more = {
        WWW: BASE[WWW].replace("/run/php/$pool.sock", listen),
        f"{UNITS}/php8.2-fpm.service": f"[Service]\n{service}",
        f"{UNITS}/fpm-www.socket": SOCKET_UNIT,
        f"{UNITS}/fpm-www.socket.d/more.conf": "[Socket]\nBacklog=64\n",
        f"{UNITS}/other.socket": SOCKET_UNIT.replace("php8.2-fpm", "other").replace("www.sock", "x.sock"),
    }
    shown = read(tmp_path, more)["fpm_pools"][0]["listen"]
    assert (shown["raw"], shown["address"], shown["path"]) == (
        listen,
        "unix:/run/fpm/www.sock",
        "/run/fpm/www.sock",
    )
    assert (shown["held_by"], shown["socket_unit"]) == ("systemd", "fpm-www.socket")
    assert (shown["owner"], shown["group"], shown["mode"], shown["backlog"]) == (
        "www-data",
        "web",
        "0600",
        64,
    )
    assert shown["acl_users"] == []


# -- addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "kind", "address"),
    [
        ("/run/x.sock", "unix", "unix:/run/x.sock"),
        ("9000", "tcp", "127.0.0.1:9000"),
        ("0.0.0.0:9000", "tcp", "127.0.0.1:9000"),
        ("*:9000", "tcp", "127.0.0.1:9000"),
        (":9000", "tcp", "127.0.0.1:9000"),
        ("[::]:9000", "tcp", "[::1]:9000"),
        ("[fe80::1]:9000", "tcp", "[fe80::1]:9000"),
        ("10.0.0.5:9000", "tcp", "10.0.0.5:9000"),
        ("php.example.com:9000", "tcp", "php.example.com:9000"),
    ],
)
def test_what_to_connect_to(listen: str, kind: str, address: str) -> None:
    found = endpoint(listen)
    assert found is not None
    assert (found.kind, found.nginx) == (kind, address)


@pytest.mark.parametrize("listen", [None, "", "host:", "host:port", "0", "70000", "1.2.3.4:0"])
def test_what_nobody_can_connect_to(listen: str | None) -> None:
    assert endpoint(listen) is None


def entry(inode: int, path: str = "", host: str = "", port: int = 0) -> Listener:
    return Listener("unix" if path else "tcp", path, host, port, inode, 0, 0)


@pytest.mark.parametrize(
    ("listen", "inodes", "inode"),
    [
        ("/a", set(), 2), ("/a", {1}, 1), ("/a", {9}, 2), ("/none", set(), None),
        ("127.0.0.1:90", set(), 3), ("9000", set(), 4), ("127.0.0.1:9000", set(), 4), ("10.0.0.1:90", set(), None),
        ("localhost:90", set(), 3),
    ],
)  # fmt: skip
def test_the_kernels_entry_of_an_address(listen: str, inodes: set[int], inode: int | None) -> None:
    known = [
        entry(1, "/a"),
        entry(2, "/a"),
        entry(3, host="127.0.0.1", port=90),
        entry(4, host="::", port=9000),
    ]
    target = endpoint(listen)
    assert target is not None
    found = find_listener(target, known, inodes)
    assert (found.inode if found else None) == inode


UNITS_HELD = [
    SocketUnit("a.socket", ("/run/a.sock",), "a", ("f.service",), 511, None, None, "0660"),
    SocketUnit("b.socket", ("/run/b.sock",), "b", ("f.service",), 511, None, None, "0660", ("/run/link",)),
    SocketUnit("t.socket", ("127.0.0.1:9000",), "t.socket", ("f.service",), 511, None, None, None),
    SocketUnit("x.socket", ("/run/x.sock",), "c", ("other.service",), 511, None, None, None),
]


@pytest.mark.parametrize(
    ("pool", "listen", "variables", "accepts_on", "unit"),
    [
        # What a worker really accepts on beats every name.
        ("a", "/run/.a", {}, entry(1, "/run/b.sock"), "b.socket"),
        ("a", "/run/.a", {}, entry(1, "/run/.a"), None),
        ("a", "127.0.0.1:9000", {}, entry(1, host="127.0.0.1", port=9000), "t.socket"),
        ("z", "/run/a.sock", {}, None, "a.socket"),
        ("b", "/run/.inherited", {}, None, "b.socket"),
        ("c", "/run/.c", {}, None, None),
        # With several sockets the numbers in FPM_SOCKETS tell nothing: systemd's order changes.
        ("z", "/run/.z", {"FPM_SOCKETS": "/run/.z=3"}, None, None),
    ],
)  # fmt: skip
def test_which_socket_unit_is_a_pools(
    pool: str, listen: str, variables: dict[str, str], accepts_on: Listener | None, unit: str | None
) -> None:
    found = find_held(pool, listen, "f.service", UNITS_HELD, variables, accepts_on)
    assert (found.unit.id if found else None) == unit


def test_nginx_is_given_the_link_to_a_held_socket() -> None:
    found = find_held("b", "/run/.b", "f.service", UNITS_HELD, {}, None)
    assert found is not None
    assert (found.endpoint.path, found.socket.path) == ("/run/link", "/run/b.sock")


# -- systemd ----------------------------------------------------------------------------------------

# Captured from systemctl show of systemd 252; the properties come in systemd's order, not in ours.
SHOWN = """Restart=no
TimeoutStopUSec=1min 30s
MainPID=45
Result=success
NRestarts=0
ExecStart={ path=/usr/sbin/php-fpm8.2 ; argv[]=/usr/sbin/php-fpm8.2 --nodaemonize --fpm-config /etc/php/8.2/fpm/php-fpm.conf ; ignore_errors=no ; start_time=[Sat 2026-11-21 05:02:54 UTC] ; stop_time=[n/a] ; pid=45 ; code=(null) ; status=0/0 }
MemoryMax=infinity
TasksMax=28909
Environment=A=1 "B=two words"
LimitNOFILE=524288
LimitNOFILESoft=1024
KillSignal=15
Id=php8.2-fpm.service
LoadState=loaded
ActiveState=active
SubState=running
DropInPaths=/etc/systemd/system/php8.2-fpm.service.d/a.conf /run/b.conf

Backlog=2147483647
SocketUser=
SocketGroup=
SocketMode=0666
Listen=/run/dbus/system_bus_socket (Stream)
Listen=127.0.0.1:9000 (Stream)
Listen=/run/x (Datagram)
Symlinks=
FileDescriptorName=dbus.socket
Id=dbus.socket
Triggers=dbus.service
LoadState=loaded

Id=gone.service
LoadState=not-found
"""


def test_what_systemctl_shows() -> None:
    units = parse_show(SHOWN)
    assert set(units) == {"php8.2-fpm.service", "dbus.socket"}
    service = units["php8.2-fpm.service"]
    assert unit_state(service) == {
        "active": "active", "sub": "running", "result": "success", "restarts": 0, "memory_max_bytes": None,
        "tasks_max": 28909, "limit_nofile": 1024, "restart": "no", "kill_signal": "SIGTERM",
        "timeout_stop_seconds": 90.0,
        "drop_ins": ["/etc/systemd/system/php8.2-fpm.service.d/a.conf", "/run/b.conf"],
    }  # fmt: skip
    assert environment(service) == {"A": "1", "B": "two words"}
    assert main_command(service) == ["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", CONFIG]
    assert socket_units(units) == [
        SocketUnit("dbus.socket", ("/run/dbus/system_bus_socket", "127.0.0.1:9000"), "dbus.socket",
                   ("dbus.service",), 2147483647, None, None, "0666"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("1min 30s", 90.0), ("100ms", 0.1), ("5s", 5.0), ("1h 2min", 3720.0), ("infinity", None), ("", None),
     ("[not set]", None), ("soon", None), ("0", None)],
)  # fmt: skip
def test_a_duration_of_systemd(text: str, value: float | None) -> None:
    assert seconds(text) == value


def test_groups_of_an_acl(tmp_path: Path) -> None:
    more = {
        f"{POOLS}/acl.conf": "[acl]\nuser = u\nlisten = /a.sock\nlisten.acl_groups = web, ci\npm = static\n"
    }
    shown = {pool["name"]: pool["listen"]["acl_groups"] for pool in read(tmp_path, more)["fpm_pools"]}
    assert shown == {"acl": ["web", "ci"], "www": []}
