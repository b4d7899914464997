# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FastCGI client and php-fpm-probe, over real sockets of this machine."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import fastcgi
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import Address, FastcgiError, main

END = 3
STDOUT = 6


def record(kind, content):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def answer(output):
    return record(STDOUT, output) + record(END, bytes(8))


PONG = answer(b"Content-type: text/plain\r\n\r\npong")
STATUS = answer(
    b"Content-type: application/json\r\n\r\n"
    b'{"pool":"www","active processes":1,"total processes":5,"listen queue":0,"max children reached":2}'
)
NOT_FOUND = answer(b"Status: 404 Not Found\r\n\r\nFile not found.\n")


@pytest.fixture
def serve(tmp_path):
    """Start a listener whose every connection runs ``behave(connection)`` in a thread; returns its address."""
    closing = []

    def start(behave, listener=None):
        if listener is None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(tmp_path / f"s{len(closing)}.sock"))
            listener.listen()

        def loop():
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection):
            with connection:
                try:
                    behave(connection)
                except OSError:
                    # The client hung up, as many of these tests have it do.
                    return

        threading.Thread(target=loop, daemon=True).start()
        closing.append(listener)
        name = listener.getsockname()
        return Address.parse(
            name if isinstance(name, str) else str(Address("tcp", host=name[0], port=name[1]))
        )

    yield start
    for listener in closing:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def replying(data):
    def behave(connection):
        connection.recv(65536)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    return behave


def failure(address, **options):
    with pytest.raises(FastcgiError) as caught:
        fastcgi.request(address, {}, **options)
    return caught.value


# -- answers


def test_a_pool_answers(serve):
    response = fastcgi.request(serve(replying(PONG)), fastcgi.status_params("/ping", ""))
    assert (response.status, response.body, response.stderr) == (200, b"pong", b"")
    assert response.headers == {"content-type": "text/plain"}
    assert 0 <= response.connect_seconds <= response.total_seconds < 2


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_tcp_of_both_families(serve, family, host):
    listener = socket.socket(family)
    try:
        listener.bind((host, 0))
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    listener.listen()
    address = serve(replying(PONG), listener)
    assert str(address).startswith("[::1]:" if family == socket.AF_INET6 else "127.0.0.1:")
    assert fastcgi.request(address, {}).body == b"pong"


def test_a_host_name_is_tried_at_each_of_its_addresses(serve):
    listener = socket.create_server(("127.0.0.1", 0))
    port = serve(replying(PONG), listener).port
    assert fastcgi.request(Address("tcp", host="localhost", port=port), {}).body == b"pong"


def test_a_large_body_and_an_answer_that_comes_before_it_is_read(serve):
    size = 3_000_000

    def behave(connection):
        connection.sendall(record(STDOUT, b"Content-type: x\r\n\r\n") + record(STDOUT, bytes(60_000)) * 40)
        left = len(fastcgi.encode_request({}, bytes(size)))
        while left:
            left -= len(connection.recv(65536))
        connection.sendall(record(END, bytes(8)))

    response = fastcgi.request(serve(behave), {}, read_timeout=10, stdin=bytes(size))
    assert len(response.body) == 60_000 * 40


# -- failures


def test_missing(tmp_path):
    error = failure(Address.parse(f"{tmp_path}/none.sock"))
    assert (error.kind, str(error)) == ("missing", f"there is no {tmp_path}/none.sock (errno 2)")
    (tmp_path / "file").touch()
    assert failure(Address.parse(f"{tmp_path}/file/x.sock")).kind == "missing"
    (tmp_path / "loop").symlink_to("loop")
    assert "without an end" in str(failure(Address.parse(f"{tmp_path}/loop")))


def test_not_a_socket(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path):
        assert (failure(Address.parse(str(path))).kind, path.exists()) == ("not_a_socket", True)
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(f"{tmp_path}/d.sock")
    assert "no stream socket" in str(failure(Address.parse(f"{tmp_path}/d.sock")))
    datagram.close()


def test_refused_by_a_leftover_and_by_a_port(tmp_path):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(f"{tmp_path}/s.sock")
    error = failure(Address.parse(f"{tmp_path}/s.sock"))
    assert (error.kind, "leftover" in str(error)) == ("refused", True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(Address("tcp", host="127.0.0.1", port=port)).kind == "refused"


def test_a_path_of_107_bytes_works_and_one_more_does_not():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/{'s' * (106 - len(folder))}"
        assert len(path) == 107
        listener.bind(path)
        listener.listen()
        waiting = fastcgi.connect(Address.parse(path), 1)
        waiting.close()
        error = failure(Address.parse(path + "s"))
        assert (error.kind, "has 108 bytes" in str(error)) == ("path_too_long", True)
    assert failure(Address.parse("/tmp/" + "é" * 52)).kind == "path_too_long"


def test_a_full_queue_does_not_block(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/s.sock")
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(f"{tmp_path}/s.sock")
    started = time.monotonic()
    error = failure(Address.parse(f"{tmp_path}/s.sock"))
    assert (error.kind, "is full" in str(error)) == ("full", True)
    assert time.monotonic() - started < 0.5
    waiting.close()
    listener.close()


def test_a_full_tcp_queue_ends_at_the_connect_timeout():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        filler = [socket.socket() for _turn in range(4)]
        for sock in filler:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        started = time.monotonic()
        error = failure(Address("tcp", host="127.0.0.1", port=listener.getsockname()[1]), connect_timeout=0.2)
        assert error.kind == "connect_timeout"
        assert 0.2 <= time.monotonic() - started < 1
        for sock in filler:
            sock.close()


def test_an_unknown_name():
    error = failure(Address("tcp", host="no-such-host.invalid", port=9000), connect_timeout=5)
    assert error.kind == "unresolvable"
    assert failure(Address("tcp", host="x" * 300, port=9000)).kind == "unresolvable"


def test_silence_ends_at_the_read_timeout(serve):
    started = time.monotonic()
    error = failure(
        serve(lambda connection: connection.recv(1) and threading.Event().wait(5)), read_timeout=0.2
    )
    assert (error.kind, "says nothing within 0.2 s" in str(error)) == ("silent", True)
    assert 0.2 <= time.monotonic() - started < 1


def test_an_answer_that_drips_does_not_stretch_the_timeout(serve):
    def behave(connection):
        while True:
            connection.sendall(record(STDOUT, b"x"))
            threading.Event().wait(0.05)

    started = time.monotonic()
    error = failure(serve(behave), read_timeout=0.3)
    assert (error.kind, "does not end within" in str(error)) == ("silent", True)
    assert 0.3 <= time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", "closed", "closes the connection without an answer"),
        (PONG[:-1], "closed", "closes the connection in the middle of its answer"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "not_fastcgi",
            "does not speak FastCGI: an HTTP server answers",
        ),
        (record(STDOUT, bytes(65535)) * 300, "too_large", "answers with more than 16777216 bytes"),
    ],
)
def test_a_wrong_answer_is_told_apart(serve, data, kind, words):
    address = serve(replying(data))
    error = failure(address, read_timeout=5)
    assert (error.kind, str(error)) == (kind, f"{address} {words}")


def test_a_reset_counts_as_closed(serve):
    listener = socket.create_server(("127.0.0.1", 0))

    def behave(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert failure(serve(behave, listener)).kind == "closed"


# -- php-fpm-probe


@pytest.mark.parametrize(
    ("data", "arguments", "code", "line"),
    [
        (PONG, [], 0, "an empty request is answered"),
        (PONG, ["--ping", "/ping"], 0, "/ping is answered"),
        (PONG, ["--ping", "/ping", "--expect", "pong"], 0, "/ping is answered"),
        (PONG, ["--ping", "/ping", "--expect", "PONG"], 1, "the answer does not hold 'PONG'"),
        (PONG, ["--script", "/srv/x.php"], 0, "/srv/x.php is answered"),
        (NOT_FOUND, ["--ping", "/x"], 1, "/x is answered with status 404: File not found."),
        (STATUS, ["--status", "/s"], 0, "pool www: 1 of 5 workers active, max children reached 2 times"),
        (PONG, ["--status", "/s"], 1, "/s is answered, but not with a status page in JSON"),
        (b"", [], 6, "closes the connection without an answer"),
        (b"HTTP/1.1 400 \r\n\r\n", [], 7, "does not speak FastCGI: an HTTP server answers"),
        (record(STDOUT, bytes(65535)) * 300, ["--timeout", "5"], 1, "answers with more than"),
    ],
)
def test_one_line_and_a_code_an_address(serve, capsys, data, arguments, code, line):
    address = serve(replying(data))
    assert main([*arguments, str(address)]) == code
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert line in printed
    assert printed.startswith(f"{'FAIL' if code else 'ok  '}  {address}: ")


def test_all_are_checked_and_the_worst_decides(serve, capsys, tmp_path):
    good, foreign = serve(replying(PONG)), serve(replying(b"SSH-2.0\r\n"))
    assert main(["--json", str(foreign), f"{tmp_path}/none", str(good)]) == 10
    printed = json.loads(capsys.readouterr().out)
    assert (printed["healthy"], printed["exit_code"]) == (False, 10)
    assert [(entry["address"], entry["result"], entry["exit_code"]) for entry in printed["addresses"]] == [
        (str(foreign), "not_fastcgi", 7),
        (f"unix:{tmp_path}/none", "missing", 10),
        (str(good), "healthy", 0),
    ]
    assert printed["addresses"][2]["body"] == "pong"
    assert main(["--quiet", "--json", str(good)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "ADDRESS"),
        (["x", "y:0"], "'x' is no address"),
        (["x", "y:0"], "'y:0' is no address"),
        (["--timeout", "0", "9000"], "timeouts are seconds"),
        (["--connect-timeout", "nan", "9000"], "timeouts are seconds"),
        (["--ping", "/p", "--status", "/s", "9000"], "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_code_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_the_help_names_every_exit_code(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:4].strip().isdigit()]
    assert sorted(map(int, listed)) == sorted({2, *fastcgi.EXIT_CODES.values()})


def test_every_kind_of_failure_has_an_exit_code():
    kinds = FastcgiError.__doc__.split("one of:")[1].replace(".", "").replace(",", " ").split()
    assert {*kinds, "healthy", "wrong_answer"} == set(fastcgi.EXIT_CODES)


def test_the_file_alone_is_the_command(tmp_path, serve):
    program = tmp_path / "php-fpm-probe"
    with open(fastcgi.__file__, encoding="utf-8") as source:
        program.write_text(f"#!{sys.executable} -I\n{source.read()}")
    program.chmod(0o755)
    done = subprocess.run(
        [program, str(serve(replying(PONG)))], capture_output=True, text=True, cwd="/", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok  ")
