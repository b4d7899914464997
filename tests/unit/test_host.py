# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Host reads and what it refuses to touch; and that parsers go on after such a refusal."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_facts import gather
from ansible_collections.webops.php_stack.plugins.module_utils.host import MAX_TEXT_BYTES, Host, HostError
from ansible_collections.webops.php_stack.plugins.module_utils.log_files import LogFile
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_host import HostReader
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import load


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """To wait for a pipe without a writer would be for ever."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Path]:
    """A folder with one of each kind that is no file."""
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "folder.conf").mkdir()
    (tmp_path / "zero.conf").symlink_to("/dev/zero")
    (tmp_path / "null.conf").symlink_to("/dev/null")
    with open(tmp_path / "huge.conf", "wb") as handle:
        handle.truncate(1 << 40)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.conf"))
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("pipe", errno.EINVAL, "it is a named pipe, not a file"),
        ("socket", errno.EINVAL, "it is a socket, not a file"),
        ("zero", errno.EINVAL, "it is a device, not a file"),
        ("folder", errno.EISDIR, "Is a directory"),
        ("huge", errno.EFBIG, "it has more than 64 MiB"),
        ("none", errno.ENOENT, "No such file or directory"),
    ],
)
def test_what_is_not_read(odd: Path, name: str, code: int, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match=words) as caught:
        Host().read_text(f"{odd}/{name}.conf")
    assert caught.value.errno == code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 << 10


def test_a_file_that_nothing_is_in(odd: Path) -> None:
    assert Host().read_text(f"{odd}/null.conf") == ""


def test_files_whose_size_the_kernel_does_not_tell() -> None:
    assert Host().read_text("/proc/self/status").startswith("Name:")
    assert Host().read_bytes("/proc/self/maps") != b""


def test_as_much_as_was_asked_for(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "file").write_bytes(content)
    for limit in (0, 1, 65_536, 65_537, 200_000, 300_000):
        assert Host().read_bytes(f"{tmp_path}/file", limit) == content[:limit]
    assert Host().read_bytes(f"{tmp_path}/file") == content


def test_the_largest_text(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as handle:
        handle.truncate(MAX_TEXT_BYTES)
    assert len(Host().read_text(f"{tmp_path}/file")) == MAX_TEXT_BYTES


def test_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    assert Host().read_text(f"{tmp_path}/file") == "caf\udce9"


def test_fpm_s_files_go_on_behind_a_pipe(odd: Path) -> None:
    pools = odd / "tree/etc/php/8.2/fpm/pool.d"
    pools.mkdir(parents=True)
    os.mkfifo(pools / "a.conf")
    (pools / "b.conf").symlink_to("/dev/zero")
    (odd / "tree/dev").mkdir()
    os.mkfifo(odd / "tree/dev/zero")
    (pools / "c.conf").write_text("[c]\nuser = a\nlisten = /c.sock\npm = static\npm.max_children = 1\n")
    (pools.parent / "php-fpm.conf").write_text("[global]\ninclude = /etc/php/8.2/fpm/pool.d/*.conf\n")
    facts = gather(Host(str(odd / "tree")))
    assert [pool["name"] for pool in facts["fpm_pools"]] == ["c"]
    folder = "/etc/php/8.2/fpm/pool.d"
    assert [error["message"] for error in facts["fpm_masters"][0]["errors"]] == [
        f"{folder}/a.conf cannot be read: it is a named pipe, not a file",
        f"{folder}/b.conf cannot be read: it is a named pipe, not a file",
    ]


def test_nginx_s_files_go_on_behind_what_is_no_file(odd: Path) -> None:
    (odd / "nginx.conf").write_text("include *.con[f];\nuser www;\n")
    tree = load(f"{odd}/nginx.conf", HostReader(Host()))
    assert [directive.name for directive in tree.directives] == ["user"]
    assert sorted(
        error.message.partition(" failed ")[2] for error in tree.errors if "open()" in error.message
    ) == [
        "(21: Is a directory)",
        "(22: it is a device, not a file)",
        "(22: it is a named pipe, not a file)",
        "(22: it is a socket, not a file)",
        "(27: it has more than 64 MiB)",
    ]


def test_a_log_that_is_a_pipe(odd: Path) -> None:
    # As in the official nginx image, where error.log leads to /dev/stderr.
    (odd / "error.log").symlink_to(odd / "pipe.conf")
    with pytest.raises(OSError, match="it is a named pipe, not a file"):
        LogFile(Host(), f"{odd}/error.log")


def test_commands() -> None:
    host = Host()
    done = host.run(["sh", "-c", "cat; printf '\\351' >&2; exit 3"], stdin=b"given")
    assert (done.argv[0], done.rc, done.stdout, done.stderr, done.error) == ("sh", 3, "given", "\ufffd", "")
    assert host.run(["cat"]).stdout == ""
    missing = host.run(["/no/such/program"])
    assert (missing.rc, missing.error) == (-1, "/no/such/program: No such file or directory")
    late = host.run(["sleep", "30"], timeout=0.1)
    assert (late.rc, late.error) == (-1, "sleep did not end within 0.1 s")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_command_runs_beside_its_caller(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    running = Host().start(["cat", f"{tmp_path}/pipe"])
    # The command waits for this very line.
    (tmp_path / "pipe").write_text("from the caller")
    assert running.result().stdout == "from the caller"


def test_nothing_is_run_on_a_tree(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is a tree, not this host"):
        Host(str(tmp_path)).run(["true"])
