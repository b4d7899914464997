# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The FastCGI protocol: what is sent, and what is made of the bytes that come back."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fastcgi import (
    MAX_RESPONSE_BYTES,
    Address,
    FastcgiError,
    ResponseReader,
    encode_request,
    parse_cgi,
    status_params,
)
from hypothesis import given, settings
from hypothesis import strategies as st

BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7


def record(kind, content=b"", padding=b"", request_id=1):
    return struct.pack("!BBHHBx", 1, kind, request_id, len(content), len(padding)) + content + padding


END_OK = record(END, bytes(8))
PONG = b"Content-type: text/plain\r\n\r\npong"


# -- addresses


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("/run/x.sock", Address("unix", path="/run/x.sock"), "unix:/run/x.sock"),
        ("unix:/run/x.sock", Address("unix", path="/run/x.sock"), "unix:/run/x.sock"),
        ("unix:/run/a b:9000", Address("unix", path="/run/a b:9000"), "unix:/run/a b:9000"),
        (" 127.0.0.1:9000\n", Address("tcp", host="127.0.0.1", port=9000), "127.0.0.1:9000"),
        ("[::1]:9000", Address("tcp", host="::1", port=9000), "[::1]:9000"),
        ("[fe80::1%eth0]:1", Address("tcp", host="fe80::1%eth0", port=1), "[fe80::1%eth0]:1"),
        (
            "php.example.com:65535",
            Address("tcp", host="php.example.com", port=65535),
            "php.example.com:65535",
        ),
        ("9000", Address("tcp", host="127.0.0.1", port=9000), "127.0.0.1:9000"),
        ("*:9000", Address("tcp", host="127.0.0.1", port=9000), "127.0.0.1:9000"),
    ],
)
def test_an_address_is_read_as_nginx_and_fpm_write_it(text, address, written):
    assert Address.parse(text) == address
    assert str(address) == written
    assert Address.parse(written) == address


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "give /path/of.sock"),
        ("localhost", "give /path/of.sock"),
        ("run/x.sock", "give /path/of.sock"),
        ("unix:", "comes an absolute path"),
        ("unix:run/x.sock", "comes an absolute path"),
        ("/run/\0x", "without a NUL byte"),
        (":9000", "give /path/of.sock"),
        ("::1:9000", "brackets"),
        ("[::1]", "brackets"),
        ("[]:9000", "neither a host name"),
        ("a b:9000", "neither a host name"),
        ("http://x:9000", "brackets"),
        ("x/y:9000", "neither a host name"),
        ("x:", "from 1 to 65535, not ''"),
        ("x:0", "from 1 to 65535"),
        ("x:65536", "from 1 to 65535"),
        ("x:٣", "from 1 to 65535"),
        ("-1", "give /path/of.sock"),
    ],
)
def test_a_wrong_address_is_named_with_what_is_wrong(text, what):
    with pytest.raises(ValueError, match="is no address") as caught:
        Address.parse(text)
    assert what in str(caught.value)
    assert repr(text) in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text):
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


# -- requests, read back by a decoder that shares nothing with the encoder


def split_records(data):
    at = 0
    while at < len(data):
        version, kind, request_id, length, padding = struct.unpack_from("!BBHHB", data, at)
        assert (version, request_id) == (1, 1)
        assert length + padding <= 0xFFF8, "PHP hangs up on a longer record"
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + padding
    assert at == len(data)


def decode_pairs(data):
    at = 0

    def length():
        nonlocal at
        value = data[at]
        at += 1
        if value & 0x80:
            value = int.from_bytes(data[at - 1 : at + 3], "big") & 0x7FFFFFFF
            at += 3
        return value

    pairs = {}
    while at < len(data):
        name_length, value_length = length(), length()
        name, value = data[at : at + name_length], data[at + name_length :][:value_length]
        assert (len(name), len(value)) == (name_length, value_length)
        pairs[name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += name_length + value_length
    return pairs


def decode_request(data):
    records = list(split_records(data))
    kinds = [kind for kind, _unused in records]
    assert records[0] == (BEGIN, b"\0\1\0\0\0\0\0\0")
    assert kinds == [BEGIN] + [PARAMS] * kinds.count(PARAMS) + [STDIN] * kinds.count(STDIN)
    for stream in (PARAMS, STDIN):
        contents = [content for kind, content in records if kind == stream]
        assert [bool(content) for content in contents] == [True] * (len(contents) - 1) + [False]
    params = b"".join(content for kind, content in records if kind == PARAMS)
    return decode_pairs(params), b"".join(content for kind, content in records if kind == STDIN)


any_length = st.sampled_from(
    [0, 1, 126, 127, 128, 129, 255, 256, 0x7FFF, 0xFFF0, 0xFFF8, 0xFFFF, 0x10000, 200_000]
)
names = st.one_of(st.text(max_size=200), any_length.map(lambda size: "N" * size))
values = st.one_of(st.text(max_size=200), any_length.map(lambda size: "v" * size))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, values, max_size=8), st.one_of(st.binary(max_size=300), any_length.map(bytes)))
def test_a_request_of_any_size_reads_back(params, stdin):
    assert decode_request(encode_request(params, stdin)) == (params, stdin)


def test_a_pair_that_fits_a_record_is_not_cut_in_two():
    params = {f"P{number}": "x" * 30_000 for number in range(7)}
    contents = [content for kind, content in split_records(encode_request(params)) if kind == PARAMS]
    read_alone = [decode_pairs(content) for content in contents]
    assert [len(pairs) for pairs in read_alone] == [2, 2, 2, 1, 0]


def test_bytes_that_are_not_utf8_survive_in_a_path():
    path = b"/srv/\xff.php".decode("utf-8", "surrogateescape")
    assert b"/srv/\xff.php" in encode_request({"SCRIPT_FILENAME": path})


def test_a_line_based_server_sees_an_empty_line_at_once():
    for params in ({}, status_params("/ping", "")):
        assert b"\r\n\r\n" in encode_request(params)[:32]


def test_a_status_page_is_asked_for_as_fpm_compares_it():
    params = status_params("/fpm-status")
    assert (params["SCRIPT_NAME"], params["SCRIPT_FILENAME"]) == ("/fpm-status", "/fpm-status")
    assert (params["QUERY_STRING"], params["REQUEST_URI"]) == ("json&full", "/fpm-status?json&full")
    assert status_params("/ping", "")["REQUEST_URI"] == "/ping"


# -- answers


def read_whole(data, cuts=()):
    reader = ResponseReader("peer")
    edges = [0, *sorted(cuts), len(data)]
    for start, end in zip(edges, edges[1:]):
        reader.feed(data[start:end])
    return bytes(reader.stdout), bytes(reader.stderr), reader.done


outputs = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDERR, 10, 11]),
        st.binary(max_size=300),
        st.binary(max_size=9),
        st.sampled_from([0, 1]),
    ),
    max_size=8,
)


@given(outputs, st.booleans(), st.data())
def test_every_cut_of_the_bytes_gives_the_same_answer(parts, ended, data):
    stream = b"".join(record(*part) for part in parts) + (END_OK if ended else b"")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    expected = tuple(b"".join(part[1] for part in parts if part[0] == kind) for kind in (STDOUT, STDERR))
    assert read_whole(stream, cuts) == (*expected, ended)
    assert read_whole(stream, range(len(stream))) == (*expected, ended)


@given(st.binary(min_size=1, max_size=200))
def test_foreign_bytes_are_refused_or_wait_for_more_but_never_crash(data):
    def outcome(cuts):
        try:
            return read_whole(data, cuts)
        except FastcgiError as error:
            return error.kind

    whole = outcome(())
    assert whole == outcome(range(len(data)))
    if data[0] != 1:
        assert whole == "not_fastcgi"


def test_what_comes_after_the_end_is_not_read():
    assert read_whole(record(STDOUT, PONG) + END_OK + b"HTTP/1.1") == (PONG, b"", True)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not_fastcgi", "an HTTP server answers"),
        (b"<!DOCTYPE HTML>", "not_fastcgi", "an HTTP server answers"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_fastcgi", "an SSH server answers"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "not_fastcgi", "a TLS server answers"),
        (b"-ERR unknown command\r\nx", "not_fastcgi", "its answer starts with '-ERR unknown command'"),
        (b"\n", "not_fastcgi", "its answer starts with ''"),
        (b"\xff\xfe", "not_fastcgi", "its answer starts with"),
        (record(12, b"x"), "not_fastcgi", "record of type 12 for request 1"),
        (record(STDOUT, b"x", request_id=7), "not_fastcgi", "record of type 6 for request 7"),
        (record(END, b"short"), "not_fastcgi", "malformed END_REQUEST"),
        (record(END, b"\0\0\0\0\2\0\0\0"), "full", "overloaded"),
        (record(END, b"\0\0\0\0\3\0\0\0"), "not_fastcgi", "protocol status 3"),
    ],
)
def test_an_answer_that_is_none_is_told_by_kind_and_in_words(data, kind, words):
    with pytest.raises(FastcgiError) as caught:
        read_whole(data)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert str(caught.value).startswith("peer ")


def test_an_answer_without_an_end_stops_at_the_limit():
    reader = ResponseReader("peer")
    stream = record(STDOUT, bytes(0xFFFF)) * (MAX_RESPONSE_BYTES // 0xFFFF)
    reader.feed(stream)
    with pytest.raises(FastcgiError) as caught:
        reader.feed(record(STDOUT, bytes(0xFFFF)))
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (PONG, (200, {"content-type": "text/plain"}, b"pong")),
        (b"Status: 404 Not Found\r\nX: a:b\r\n\r\n", (404, {"status": "404 Not Found", "x": "a:b"}, b"")),
        (b"Status: 500\n\nbody\r\n\r\nmore", (500, {"status": "500"}, b"body\r\n\r\nmore")),
        (b"A: 1\n\nx\r\n\r\ny", (200, {"a": "1"}, b"x\r\n\r\ny")),
        (b"\r\n\r\nbody", (200, {}, b"body")),
        (b"", (0, {}, b"")),
        (b"no header", (0, {}, b"no header")),
        (b"no header\r\n\r\nat all", (0, {}, b"no header\r\n\r\nat all")),
        (b"Status: teapot\r\n\r\n", (0, {"status": "teapot"}, b"")),
    ],
)
def test_a_cgi_answer_is_taken_apart(output, expected):
    assert parse_cgi(output) == expected
