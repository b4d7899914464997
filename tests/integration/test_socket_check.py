# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""socket_check and php-fpm-probe on a lab host: real PHP-FPM, real users, real permissions, odd listeners."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).with_suffix("").parent / "socket_check"
NAME = "php-stack-it-socket"
LAB = [sys.executable, str(ROOT / "tests/lab/lab.py")]
BIN = Path(sys.executable).parent
PROBE = "/usr/local/bin/php-fpm-probe"
LONG = "/run/" + "x" * 103

# What socket_check is asked, by the name of the case.
CASES = {
    "pages": {
        "address": "/run/php/unix.sock",
        "as_user": "www-data",
        "ping_path": "/ping",
        "status_path": "/status",
    },
    "no_pages": {
        "address": "unix:/run/php/unix.sock",
        "as_user": "www-data",
        "ping_path": "/p",
        "status_path": "/s",
    },
    "empty": {"address": "/run/php/unix.sock", "as_user": "33"},
    "as_root": {"address": "/run/php/default.sock"},
    "alternatives": {"address": "/run/php/php-fpm.sock", "as_user": "www-data"},
    "hops": {"address": "/srv/hop1.sock", "as_user": "www-data"},
    "supplementary_group": {"address": "/run/php/unix.sock", "as_user": "deployer"},
    "closed_member": {"address": "/srv/closed/in/s.sock", "as_user": "deployer"},
    "acl_user": {"address": "/run/php/acl.sock", "as_user": "games"},
    "acl_folder": {"address": "/srv/shut/s.sock", "as_user": "visitor"},
    "ipv4": {"address": "127.0.0.1:9101", "ping_path": "/ping"},
    "port": {"address": "9101", "as_user": "www-data"},
    "ipv6": {"address": "[::1]:9102", "as_user": "www-data", "ping_path": "/ping"},
    "localhost": {"address": "localhost:9101", "as_user": "www-data"},
    "third_time": {"address": "/run/odd/third_time.sock", "retries": 5, "delay": 0.1},
    # From here on it fails.
    "default_owner": {"address": "/run/php/default.sock", "as_user": "www-data"},
    "not_in_group": {"address": "/run/php/php-fpm.sock", "as_user": "games"},
    "closed_visitor": {"address": "/srv/closed/in/s.sock", "as_user": "visitor"},
    "acl_stranger": {"address": "/srv/shut/s.sock", "as_user": "games"},
    "acl_named": {"address": "/srv/named/s.sock", "as_user": "visitor"},
    "acl_mask": {"address": "/run/php/mask.sock", "as_user": "games"},
    "missing": {"address": "/run/php/php7.4-fpm.sock", "as_user": "www-data", "retries": 1, "delay": 0.1},
    "missing_folder": {"address": "/run/none/at/all.sock"},
    "dangling": {"address": "/srv/dangling.sock"},
    "loop": {"address": "/srv/loop.sock"},
    "removed": {"address": "/run/odd/removed.sock"},
    "stale": {"address": "/run/odd/stale.sock", "as_user": "www-data"},
    "file": {"address": "/etc/passwd"},
    "below_file": {"address": "/etc/passwd/s.sock"},
    "datagram": {"address": "/run/odd/datagram.sock"},
    "long": {"address": LONG, "retries": 3},
    "full": {"address": "/run/odd/full.sock", "as_user": "www-data"},
    "silent": {"address": "/run/odd/silent.sock", "as_user": "www-data", "read_timeout": 0.3},
    "busy": {
        "address": "/run/php/busy.sock",
        "as_user": "www-data",
        "ping_path": "/ping",
        "read_timeout": 0.3,
    },
    "closing": {"address": "/run/odd/closing.sock"},
    "ssh": {"address": "/run/odd/ssh.sock"},
    "http": {"address": "127.0.0.1:80", "as_user": "www-data"},
    "tcp_refused": {"address": "127.0.0.1:9199", "as_user": "www-data"},
    "allowed_clients": {"address": "127.0.0.1:9103"},
    "no_name": {"address": "no-such-host.invalid:9000", "connect_timeout": 5},
    "no_route": {"address": "[2001:db8::1]:9000"},
    "optional": {"address": "/run/none.sock", "required": False},
    # Wrong questions.
    "no_user": {"address": "9101", "as_user": "no-such-user"},
    "mistakes": {"address": "x", "ping_path": "p", "read_timeout": 0, "retries": -1},
}


def docker(*args, check=True, **options):
    return subprocess.run(["docker", *args], capture_output=True, text=True, check=check, **options)


def in_host(*argv, check=True, user="root"):
    return docker("exec", "-u", user, NAME, *argv, check=check)


@pytest.fixture(scope="session")
def host():
    subprocess.run([*LAB, "up", "--name", NAME, "--fresh"], check=True)
    try:
        for name in ("setup.sh", "listeners.py"):
            docker("cp", str(HERE / name), f"{NAME}:/srv/{name}")
        in_host("sh", "/srv/setup.sh")
        docker("exec", "-d", NAME, "python3", "/srv/listeners.py")
        source = (ROOT / "plugins/module_utils/fastcgi.py").read_text(encoding="utf-8")
        docker("exec", "-i", NAME, "sh", "-c", f"cat > {PROBE}; chmod 0755 {PROBE}",
               input=f"#!/usr/bin/env python3\n{source}")  # fmt: skip
        # One request keeps the only worker of the pool busy; it is seen to be there before the tests ask.
        docker(
            "exec", "-d", NAME, PROBE, "--script", "/srv/slow.php", "--timeout", "600", "/run/php/busy.sock"
        )
        in_host("sh", "-c", "until [ -e /run/odd/ready ] && pgrep -f 'pool busy'; do :; done")
        yield NAME
    finally:
        subprocess.run([*LAB, "down", "--name", NAME], check=True)


def ask(folder, cases, *options):
    inventory = folder / "inventory.json"
    inventory.write_text(
        subprocess.run([*LAB, "inventory", NAME], capture_output=True, check=True, text=True).stdout
    )
    results = folder / "results.json"
    variables = folder / "variables.json"
    variables.write_text(json.dumps({"cases": cases, "results_file": str(results)}))
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", inventory, "-e", f"@{variables}", *options, HERE / "cases.yml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(results.read_text())


@pytest.fixture(scope="session")
def results(host, tmp_path_factory):
    return ask(tmp_path_factory.mktemp("cases"), CASES)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("pages", {"probe": "ping", "as_user": "www-data", "attempts": 1}),
        ("no_pages", {"probe": "empty_request"}),
        ("empty", {"probe": "empty_request", "as_user": "www-data"}),
        ("as_root", {"as_user": "root"}),
        ("alternatives", {"address": "unix:/run/php/php-fpm.sock"}),
        ("hops", {}),
        ("supplementary_group", {}),
        ("closed_member", {}),
        ("acl_user", {}),
        ("acl_folder", {}),
        ("ipv4", {"probe": "ping", "socket": None, "address": "127.0.0.1:9101"}),
        ("port", {"address": "127.0.0.1:9101"}),
        ("ipv6", {"probe": "ping", "address": "[::1]:9102"}),
        ("localhost", {}),
        ("third_time", {"attempts": 3}),
    ],
)
def test_reachable(results, case, expected):
    result = results[case]
    assert (result["reachable"], result["cause"], result["denied_by"]) == (True, None, None), result["msg"]
    assert not result.get("failed", False)
    assert result["changed"] is False
    assert {key: result[key] for key in expected} == expected
    assert 0 <= result["latency_seconds"]["connect"] <= result["latency_seconds"]["total"] < 2


def test_the_pages_of_a_pool(results):
    assert results["pages"]["ping"] == {"http_status": 200, "body": "pong", "json": None}
    assert results["pages"]["status"]["json"]["pool"] == "unix"
    assert results["pages"]["msg"] == "unix:/run/php/unix.sock answers the ping page /ping for www-data."
    assert results["pages"]["socket"] == {
        "path": "/run/php/unix.sock",
        "owner": "www-data",
        "group": "www-data",
        "mode": "0660",
    }
    assert results["no_pages"]["ping"]["http_status"] == 404
    assert results["no_pages"]["msg"] == (
        "unix:/run/php/unix.sock answers an empty FastCGI request for www-data."
        " The pool has no page at /p (status 404): set ping.path = /p."
        " The pool has no page at /s (status 404): set pm.status_path = /s."
    )


def test_links_lead_to_the_socket(results):
    assert results["hops"]["socket"]["path"] == "/run/php/unix.sock"
    assert results["alternatives"]["socket"]["path"] == "/run/php/php8.2-fpm.sock"


def test_an_address_of_a_name_where_nobody_listens_is_told(results):
    addresses = {entry["address"]: entry["cause"] for entry in results["localhost"]["addresses"]}
    assert addresses == {"[::1]:9101": "tcp_refused", "127.0.0.1:9101": None}
    assert "nginx takes turns between all addresses of localhost" in results["localhost"]["msg"]
    assert "[::1]:9101" in results["localhost"]["msg"]


WORDS = {
    "default_owner": ("socket_denied", ["the socket /run/php/default.sock (root:root 0660)", "listen.owner"]),
    "not_in_group": (
        "socket_denied",
        ["the socket /run/php/php8.2-fpm.sock", "add games to the group www-data"],
    ),
    "closed_visitor": (
        "socket_denied",
        ["the folder /srv/closed (root:www-data 0750)", "the bits for others"],
    ),
    "acl_stranger": ("socket_denied", ["the folder /srv/shut (root:root 0710+)", "do not hold x"]),
    "acl_named": (
        "socket_denied",
        ["the folder /srv/named (root:root 0755+)", "its ACL names visitor without x"],
    ),
    "acl_mask": ("socket_denied", ["the ACL's mask takes it away", "setfacl -m m::rw /run/php/mask.sock"]),
    "missing": ("socket_missing", ["There is no /run/php/php7.4-fpm.sock", "/run/php/php8.2-fpm.sock"]),
    "missing_folder": ("socket_missing", ["The first thing that is missing is /run/none."]),
    "dangling": (
        "socket_missing",
        ["/srv/dangling.sock is a link to /run/php/none.sock", "/run/php/unix.sock"],
    ),
    "loop": ("socket_missing", ["symbolic links without an end"]),
    "removed": ("socket_missing", ["A process still listens", "restart the service"]),
    "stale": ("socket_refused", ["the socket file is a leftover", "PHP-FPM was killed"]),
    "file": ("not_a_socket", ["/etc/passwd is no socket"]),
    "below_file": ("socket_missing", ["/etc/passwd is no directory"]),
    "datagram": ("not_a_socket", ["is no stream socket"]),
    "long": ("path_too_long", ["has 108 bytes", "at most 107"]),
    "full": ("backlog_full", ["the queue of /run/odd/full.sock is full".capitalize(), "listen.backlog"]),
    "silent": ("read_timeout", ["says nothing within 0.3 s"]),
    "busy": ("read_timeout", ["All workers are busy"]),
    "closing": ("premature_close", ["closes the connection without an answer", "crashed"]),
    "ssh": ("fastcgi_protocol_error", ["an SSH server answers"]),
    "http": ("fastcgi_protocol_error", ["an HTTP server answers", "proxy_pass"]),
    "tcp_refused": ("tcp_refused", ["Nobody listens on 127.0.0.1:9199"]),
    "allowed_clients": ("premature_close", ["listen.allowed_clients"]),
    "no_name": ("upstream_host_not_found", ["no-such-host.invalid"]),
    "no_route": ("host_unreachable", ["[2001:db8::1]:9000 cannot be reached"]),
}


@pytest.mark.parametrize("case", WORDS)
def test_unreachable_fails_with_the_cause_in_words(results, case):
    cause, words = WORDS[case]
    result = results[case]
    assert (result["failed"], result["reachable"], result["cause"]) == (True, False, cause), result["msg"]
    for part in words:
        assert part.lower() in result["msg"].lower()
    assert result["attempts"] == {"missing": 2}.get(case, 1)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("default_owner", ("/run/php/default.sock", "mode", "root", "root", "0660", "w")),
        ("not_in_group", ("/run/php/php8.2-fpm.sock", "mode", "www-data", "www-data", "0660", "w")),
        ("closed_visitor", ("/srv/closed", "mode", "root", "www-data", "0750", "x")),
        ("acl_stranger", ("/srv/shut", "acl", "root", "root", "0710", "x")),
        ("acl_named", ("/srv/named", "acl", "root", "root", "0755", "x")),
        ("acl_mask", ("/run/php/mask.sock", "acl", "www-data", "www-data", "0640", "w")),
    ],
)
def test_what_denies_is_returned(results, case, expected):
    denied_by = results[case]["denied_by"]
    assert tuple(denied_by[key] for key in ("path", "kind", "owner", "group", "mode", "needs")) == expected


def test_not_required_returns(results):
    assert (results["optional"]["failed"], results["optional"]["cause"]) == (False, "socket_missing")


def test_wrong_questions_are_told_all_at_once(results):
    assert results["no_user"]["msg"] == "as_user: there is no user 'no-such-user' on this host."
    for words in ("address: 'x' is no address", "ping_path", "read_timeout", "retries"):
        assert words in results["mistakes"]["msg"]


def test_check_mode_asks_all_the_same(host, tmp_path):
    cases = {name: CASES[name] for name in ("pages", "stale")}
    found = ask(tmp_path, cases, "--check")
    assert [found[name]["reachable"] for name in cases] == [True, False]


def test_without_root_another_user_is_refused_in_words(host, tmp_path):
    user = ["-e", "ansible_user=games", "-e", "ansible_remote_tmp=/tmp/.ansible-games"]
    cases = {"other": {"address": "/run/php/acl.sock", "as_user": "www-data"},
             "self": {"address": "/run/php/acl.sock", "as_user": "games"}}  # fmt: skip
    found = ask(tmp_path, cases, *user)
    assert found["other"]["failed"]
    assert (
        "Only root can connect as www-data, and the module runs as games: set become" in found["other"]["msg"]
    )
    assert found["self"]["reachable"]


# -- php-fpm-probe


@pytest.mark.parametrize(
    ("arguments", "user", "code"),
    [
        (["/run/php/unix.sock"], "www-data", 0),
        (
            ["--ping", "/ping", "--expect", "pong", "/run/php/unix.sock", "127.0.0.1:9101", "[::1]:9102"],
            "www-data",
            0,
        ),
        (["--status", "/status", "localhost:9101"], "games", 0),
        (["--script", "/srv/none.php", "/run/php/unix.sock"], "root", 1),
        (["--ping", "/nope", "/run/php/unix.sock"], "root", 1),
        (["--ping", "/nope"], "root", 2),
        (["--ping", "/ping", "--timeout", "0.3", "/run/php/busy.sock"], "root", 3),
        (["--timeout", "0.3", "/run/odd/silent.sock"], "root", 3),
        (["/run/odd/full.sock"], "root", 4),
        (["/run/odd/closing.sock"], "root", 6),
        (["127.0.0.1:9103"], "root", 6),
        (["127.0.0.1:80"], "root", 7),
        (["/run/php/unix.sock"], "games", 8),
        (["/srv/shut/s.sock"], "games", 8),
        (["/run/odd/stale.sock"], "root", 9),
        (["127.0.0.1:9199"], "root", 9),
        (["/run/none.sock"], "root", 10),
        (["/etc/passwd"], "root", 10),
        ([LONG], "root", 10),
        (["[2001:db8::1]:9000"], "root", 11),
        (["--connect-timeout", "5", "no-such-host.invalid:9000"], "root", 11),
        (["/run/odd/stale.sock", "/run/php/unix.sock", "/run/odd/full.sock"], "root", 9),
    ],
)
def test_the_probe_tells_each_failure_by_its_exit_code(host, arguments, user, code):
    done = in_host(PROBE, *arguments, user=user, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    addresses = sum(not part.startswith("-") and part[0] in "/u[1ln" for part in arguments)
    assert all(line.startswith(("ok  ", "FAIL")) for line in lines)
    assert any(line.startswith("FAIL") for line in lines) == (code not in (0, 2))
    assert len(lines) <= addresses


# -- oracles


@pytest.mark.parametrize(("path", "query"), [("/ping", ""), ("/status", "json&full"), ("/none", "")])
def test_the_client_gets_what_cgi_fcgi_gets(host, path, query):
    script = (
        "import sys; sys.path.insert(0, '/srv'); import fastcgi\n"
        "response = fastcgi.request(fastcgi.Address.parse('/run/php/unix.sock'),"
        f" fastcgi.status_params({path!r}, {query!r}))\n"
        "print(response.status, *sorted(response.headers), sep='\\n')\n"
        "print(response.body.decode()[:15])"
    )
    docker("cp", str(ROOT / "plugins/module_utils/fastcgi.py"), f"{NAME}:/srv/fastcgi.py")
    ours = in_host("python3", "-c", script).stdout.splitlines()
    variables = {"SCRIPT_NAME": path, "SCRIPT_FILENAME": path, "QUERY_STRING": query, "REQUEST_METHOD": "GET"}
    environment = [f"{name}={value}" for name, value in variables.items()]
    theirs = in_host("env", *environment, "cgi-fcgi", "-bind", "-connect", "/run/php/unix.sock").stdout
    head, _sep, body = theirs.replace("\r\n", "\n").partition("\n\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.splitlines()}
    status = headers.get("status", "200").split(" ")[0]
    assert ours == [status, *sorted(headers), *body[:15].splitlines()]


def test_the_rules_agree_with_the_kernel_on_random_modes_and_acls(host):
    in_host("mkdir", "-p", "/srv/oracle/ansible_collections/webops/php_stack/plugins")
    docker("cp", str(HERE / "oracle.py"), f"{NAME}:/srv/oracle/oracle.py")
    docker("cp", str(ROOT / "plugins/module_utils"),
           f"{NAME}:/srv/oracle/ansible_collections/webops/php_stack/plugins/")  # fmt: skip
    found = json.loads(in_host("python3", "/srv/oracle/oracle.py", "20260101", "2000").stdout)
    assert found["wrong"] == []
    assert 200 < found["allowed"] < 1800
