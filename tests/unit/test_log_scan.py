# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting a whole log: exact, however the bytes are cut, and whatever stands between the lines."""

from __future__ import annotations

import gzip
import random
import tempfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import log_fpm, log_nginx
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_files import (
    BLOCK,
    LogFile,
    offset_of,
    rotated,
    whole_lines,
)
from ansible_collections.webops.php_stack.plugins.module_utils.log_gather import Request, explain
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import Source
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from log_tools import NOW, RESET, UTC, counts, explained, failed, fpm, lines

TIMEOUT = "upstream timed out (110: Connection timed out)"
MULTILINE = failed(
    3,
    'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught RuntimeException: boom, in /a.php:1\n'
    "Stack trace:\n#0 {main}\n  thrown in /a.php on line 1\"",
)  # fmt: skip
LINES = [
    failed(1, TIMEOUT),
    failed(2, RESET, server="blog.example.org"),
    MULTILINE,
    failed(64, "connect() to unix:/run/a.sock failed (2: x)", "connecting to", level="crit"),
    '2026/11/21 03:30:09 [error] 7#7: *1 open() "/srv/x.png" failed (2: No such file), client: 192.0.2.1, server: _,'
    ' request: "GET /x.png HTTP/1.1", host: "h"',
    "2026/11/21 03:30:09 [emerg] 7#7: unknown directive \"x\" in /etc/nginx/nginx.conf:3",
]  # fmt: skip
EXPECTED = {
    "read_timeout": 1,
    "upstream_reset": 1,
    "php_fatal": 1,
    "socket_missing": 1,
    "nginx_file_missing": 1,
    "config_invalid": 1,
}
IRRELEVANT = [
    "2026/11/21 03:30:05 [info] 7#7: *1 client 192.0.2.1 closed keepalive connection",
    "2026/11/21 03:30:05 [notice] 7#7: signal 17 (SIGCHLD) received from 9",
    "2026/11/21 03:30:05 [warn] 7#7: *1 an upstream response is buffered to a temporary file /a while reading upstream,"
    ' client: 192.0.2.1, server: _, request: "GET / HTTP/1.1", upstream: "fastcgi://unix:/a:", host: "h"',
    "2026/11/21 03:30:05 [error] 7#7: *1 access forbidden by rule, client: 192.0.2.1, server: _, request:"
    ' "GET /recv() failed (104: x) while reading response header from upstream HTTP/1.1", host: "h"',
    "2026/11/21 03:30:05 [debug] 7#7: *1 recv() failed (104: x) while reading response header from upstream",
]


def test_each_line_once() -> None:
    result = explained(lines(*LINES))
    assert counts(result) == EXPECTED
    assert result["unexplained"]["count"] == 0
    assert [source["lines"] for source in result["sources"]] == [9]


@given(st.lists(st.sampled_from(IRRELEVANT), max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_irrelevant_lines_change_nothing(extra: list[str], rng: random.Random) -> None:
    mixed = list(LINES)
    for line in extra:
        mixed.insert(rng.randrange(len(mixed) + 1), line)
    assert counts(explained(lines(*mixed))) == EXPECTED


@given(st.integers(0, len(LINES)), st.integers(0, len(LINES)), st.booleans())
@settings(max_examples=30)
def test_a_log_in_rotated_parts_gives_the_same(first: int, second: int, packed: bool) -> None:
    cuts = sorted((first, second))
    parts = [lines(*LINES[: cuts[0]]), lines(*LINES[cuts[0] : cuts[1]]), lines(*LINES[cuts[1] :])]
    raw = [gzip.compress(part.encode()) if packed else part.encode() for part in parts if part]
    whole, split = explained(lines(*LINES)), explained(raw)
    for result in (whole, split):
        for cause in result["causes"]:
            for sample in cause["samples"]:
                sample["source"] = ""
    assert split["causes"] == whole["causes"]
    assert split["timeline"] == whole["timeline"]


@given(st.binary(max_size=2000))
@settings(max_examples=150)
def test_any_bytes(raw: bytes) -> None:
    explained(raw or b"\n")
    around = lines(*LINES).encode()
    # A line end before and after: nothing that is not a line of nginx may change what is.
    junk = raw.replace(b"[", b"(")
    assert counts(explained(around + b"\n" + junk + b"\n" + around)) == {
        name: 2 * number for name, number in EXPECTED.items()
    }


@pytest.mark.parametrize("size", [2000, BLOCK - 50, BLOCK, 1 << 20])
@pytest.mark.parametrize(
    "start", ["", "2026/11/21 03:30:09 [error] 7#7: *1 ", "2026/11/21 03:30:09 [info] 7#7: *1 "]
)
def test_a_very_long_line_disturbs_no_other(size: int, start: str) -> None:
    result = explained(lines(*LINES, start + "\0x, " * (size // 4), *LINES))
    assert counts(result) == {name: 2 * number for name, number in EXPECTED.items()}
    assert result["unexplained"]["count"] == (1 if "error" in start else 0)


def test_a_log_in_the_middle_of_a_line_and_without_a_last_line_end() -> None:
    text = lines(*LINES)
    expected = {name: number for name, number in EXPECTED.items() if name != "read_timeout"}
    assert counts(explained(text[40:].rstrip("\n"))) == expected


def test_windows_line_ends_and_other_encodings() -> None:
    text = failed(1, RESET, server="bücher.example.com").encode("latin-1") + b"\r\n"
    (cause,) = explained(text)["causes"]
    assert cause["sites"] == [{"name": "b\\xfccher.example.com", "count": 1}]
    assert "\r" not in cause["samples"][0]["text"]


def test_what_is_unexplained_is_counted_by_form_and_sampled() -> None:
    odd = [
        f"2026/11/21 03:30:0{number} [alert] 7#7: *{number} {number} worker_connections are not enough,"
        f' client: 192.0.2.1, server: _, request: "GET / HTTP/1.1", host: "h"'
        for number in range(5)
    ]
    result = explained(lines(*odd, "2026/11/21 03:30:09 [crit] 7#7: something, else"), samples=2)
    assert result["causes"] == []
    assert result["unexplained"]["count"] == 6
    assert [
        (kind["form"], kind["count"], len(kind["samples"])) for kind in result["unexplained"]["kinds"]
    ] == [
        ("N worker_connections are not enough", 5, 2),
        ("something, else", 1, 1),
    ]


def test_the_client_s_address_is_not_repeated() -> None:
    (cause,) = explained(lines(failed(1, RESET)))["causes"]
    assert "192.0.2.1" not in cause["samples"][0]["text"]


def test_since_and_until_are_exact_to_the_second() -> None:
    text = lines(*(failed(second, RESET) for second in range(300)))
    start = NOW - 1800
    result = explained(text, since=start + 10, until=start + 19)
    assert counts(result) == {"upstream_reset": 10}
    (cause,) = result["causes"]
    assert (cause["first"], cause["last"]) == ("2026-11-21T03:30:10+00:00", "2026-11-21T03:30:19+00:00")


def test_an_entry_of_the_second_in_which_since_falls_counts() -> None:
    assert counts(explained(lines(failed(10, RESET)), since=NOW - 1800 + 10.9)) == {"upstream_reset": 1}
    assert counts(explained(lines(failed(10, RESET)), since=NOW - 1800 + 11)) == {}


@given(st.integers(0, 3000))
@settings(max_examples=40)
def test_bisection_finds_the_first_line(first: int) -> None:
    texts = [failed(second // 4, RESET) for second in range(3000)]
    data = lines(*texts).encode()
    with tempfile.TemporaryFile() as handle:
        handle.write(data)
        target = NOW - 1800 + first // 4
        offset = offset_of(handle, len(data), target, lambda block: log_nginx.first_stamp(block, UTC))
    before = data[:offset].splitlines()
    assert offset == 0 or data[offset - 1 : offset] == b"\n"
    # Nothing at or after the target may be cut off.
    assert all(seconds(line) < target for line in before)


def seconds(line: bytes) -> float:
    found = log_nginx.first_stamp(line, UTC)
    assert found is not None
    return found


def test_with_since_a_large_log_is_hardly_read() -> None:
    text = lines(
        *(
            failed(second % 1700, RESET, request="GET /" + "x" * 500)
            for second in sorted(range(8500), key=lambda s: s % 1700)
        )
    )
    result = explained(text, since=NOW - 1800 + 1695)
    (source,) = result["sources"]
    assert counts(result) == {"upstream_reset": 25}
    assert source["bytes"] < 60000 < source["skipped_bytes"]
    assert source["bytes"] + source["skipped_bytes"] == len(text.encode())


def test_the_hour_that_comes_twice() -> None:
    berlin = Clock(ZoneInfo("Europe/Berlin"))
    local = ["02:10:00", "02:50:00", "02:10:00", "02:50:00", "03:10:00"]
    text = lines(*(failed(0, RESET).replace("2026/11/21 03:30:00", f"2026/10/25 {time}") for time in local))
    # The second 02:10 is 01:10Z: only it and what follows lie after 01:00Z.
    assert counts(explained(text, clock=berlin, since=1792890000.0)) == {"upstream_reset": 3}
    assert explained(text, clock=berlin)["causes"][0]["first"] == "2026-10-25T02:10:00+02:00"


def blocks_of(data: bytes, record: bytes = b"\n") -> list[bytes]:
    position = [0]

    def read(amount: int) -> bytes:
        chunk = data[position[0] : position[0] + amount]
        position[0] += amount
        return chunk

    return list(whole_lines(read, record))


@given(st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line), max_size=50))
def test_blocks_lose_no_byte(parts: list[bytes]) -> None:
    data = b"\n".join(parts)
    assert b"".join(blocks_of(data)) == data


def test_blocks_end_between_records() -> None:
    record = b"2026/11/21 03:30:41 [error] 7#7: x\nmore of it\n"
    blocks = blocks_of(record * 20000, b"\n2")
    assert len(blocks) > 2
    assert all(block.startswith(b"2026") for block in blocks)


def test_logs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(lines(*LINES).encode() * 500)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "error.log.xz").write_bytes(b"\xfd7zXZ\0")
    paths = [str(tmp_path / name) for name in ("missing.log", "cut.gz", "error.log.xz", "no*.log")] + [
        str(tmp_path)
    ]
    result = explain(Host(), Request(nginx_error_log=paths), UTC, NOW)
    errors: dict[str, Any] = {Path(source["path"]).name: source["error"] for source in result["sources"]}
    assert errors["missing.log"] == "No such file or directory"
    assert errors["cut.gz"].startswith("reading stopped after ")
    assert errors["error.log.xz"] == "compressed with xz: unpack it first, only gzip is read directly"
    assert errors["no*.log"] == "No such file or directory"
    assert errors[tmp_path.name] == "Is a directory"
    assert len(result["limits"]) == 5


def test_a_log_of_another_kind_is_not_passed_over_in_silence() -> None:
    result = explained("Nov 21 03:30:41 web1 nginx: " + failed(1, RESET) + "\n")
    assert result["causes"] == []
    assert "no line begins as in a log of nginx" in result["limits"][0]
    assert explained("Nov 21 03:30:41 web1 nginx: x\n" + lines(failed(1, RESET)))["limits"] == []


def test_rotated_parts_are_read_where_since_reaches_into_them(tmp_path: Path) -> None:
    (tmp_path / "error.log").write_text(lines(failed(90, RESET)))
    (tmp_path / "error.log.1").write_text(lines(failed(60, RESET)))
    (tmp_path / "error.log.2.gz").write_bytes(gzip.compress(lines(failed(30, RESET)).encode()))
    for name in ("error.log.bak", "error.log.1.swp", "error.logs"):
        (tmp_path / name).write_text(lines(failed(60, RESET)))
    log = str(tmp_path / "error.log")
    assert [Path(path).name for path in rotated(Host(), log, 0)] == ["error.log.1", "error.log.2.gz"]
    assert rotated(Host(), log, 4e9) == []
    request = Request(nginx_error_log=[log], since=NOW - 1800 + 40)
    assert counts(explain(Host(), request, UTC, NOW)) == {"upstream_reset": 2}
    assert counts(explain(Host(), Request(nginx_error_log=[log]), UTC, NOW)) == {"upstream_reset": 1}
    everything = Request(nginx_error_log=[str(tmp_path / "error.log*")])
    assert counts(explain(Host(), everything, UTC, NOW)) == {"upstream_reset": 6}


def test_a_quiet_log_is_bisected_over_stretches_without_a_time(tmp_path: Path) -> None:
    path = tmp_path / "fpm.log"
    path.write_text(lines(fpm(0, "x")) + "junk\n" * 100000 + lines(fpm(100, "y")))
    log = LogFile(Host(), str(path))
    source = Source(str(path), "fpm")
    blocks = list(log.blocks(source, lambda block: log_fpm.first_stamp(block, UTC), NOW - 1800 + 50, None))
    assert blocks[-1].endswith(lines(fpm(100, "y")).encode())
    assert source.bytes + source.skipped_bytes == path.stat().st_size
