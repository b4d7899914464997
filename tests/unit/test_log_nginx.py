# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One record of nginx's error log: its symptom by errno number and phase, and its parts."""

from __future__ import annotations

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.log_nginx import (
    classify,
    parse_record,
    split_request,
)
from hypothesis import given
from hypothesis import strategies as st

CONNECT = "while connecting to upstream"
HEADER = "while reading response header from upstream"
BODY = "while reading upstream"
SEND = "while sending request to upstream"
UNIX = b"fastcgi://unix:/run/php/php8.2-fpm.sock:"
TCP = b"fastcgi://127.0.0.1:9000"

BY_ERRNO = [
    (f"connect() to unix:/run/a.sock failed (2: {{}}) {CONNECT}", "socket_missing"),
    (f"connect() to unix:/run/a.sock failed (20: {{}}) {CONNECT}", "socket_missing"),
    (f"connect() to unix:/run/a.sock failed (111: {{}}) {CONNECT}", "socket_refused"),
    (f"connect() to unix:/run/a.sock failed (13: {{}}) {CONNECT}", "socket_denied"),
    (f"connect() to unix:/run/a.sock failed (11: {{}}) {CONNECT}", "backlog_full"),
    (f"connect() failed (111: {{}}) {CONNECT}", "tcp_refused"),
    (f"connect() failed (113: {{}}) {CONNECT}", "host_unreachable"),
    (f"connect() to 192.0.2.9:9000 failed (101: {{}}) {CONNECT}", "host_unreachable"),
    (f"upstream timed out (110: {{}}) {CONNECT}", "connect_timeout"),
    (f"upstream timed out (110: {{}}) {SEND}", "send_timeout"),
    (f"upstream timed out (110: {{}}) {HEADER}", "read_timeout"),
    (f"upstream timed out (110: {{}}) {BODY}", "read_timeout"),
    (f"recv() failed (104: {{}}) {HEADER}", "upstream_reset"),
    (f"readv() failed (104: {{}}) {BODY}", "response_truncated"),
    (f"writev() failed (32: {{}}) {SEND}", "upstream_reset"),
    (f"writev() failed (104: {{}}) {SEND}", "upstream_reset"),
    (f"socket() failed (24: {{}}) {CONNECT}", ""),
    ('open() "/srv/www/x.png" failed (2: {})', "nginx_file_missing"),
    ('open() "/srv/www/x.png" failed (13: {})', "~access_forbidden"),
    ('open() "/srv/www/a (104: b" failed (2: {})', "nginx_file_missing"),
    ('"/srv/www/index.html" is not found (2: {})', "nginx_file_missing"),
    ("recv() failed (104: {}) while sending to client", "~client_gone"),
    ("recv() failed (104: {}) while reading client request line", "~client_gone"),
    ("recv() failed (104: {}) while proxying upgraded connection", ""),
]


@pytest.mark.parametrize(("message", "symptom"), BY_ERRNO)
@pytest.mark.parametrize(
    "words", ["Connection reset by peer", "Operation timed out", "Verbindung beendet", ""]
)
def test_errno_and_phase_decide(message: str, symptom: str, words: str) -> None:
    upstream = UNIX if "unix:" in message else TCP
    assert classify(message.format(words).encode(), b"error", upstream) == symptom


@given(
    st.sampled_from(BY_ERRNO),
    st.text(st.characters(blacklist_characters='()"', blacklist_categories=("Cs",))),
)
def test_the_text_of_the_error_never_matters(case: tuple[str, str], words: str) -> None:
    # " while " in the words would be a phase; no C library has an error that says so.
    message = case[0].format(words.replace("while", "")).encode()
    assert classify(message, b"error", UNIX if "unix:" in case[0] else TCP) == case[1]


@pytest.mark.parametrize(
    ("message", "symptom"),
    [
        (f"upstream prematurely closed connection {HEADER}", "premature_close"),
        (f"upstream prematurely closed FastCGI stdout {HEADER}", "premature_close"),
        (f"upstream prematurely closed connection {BODY}", "response_truncated"),
        (f"upstream sent too big header {HEADER}", "response_header_too_big"),
        (f"upstream sent unsupported FastCGI protocol version: 72 {HEADER}", "fastcgi_protocol_error"),
        (f"upstream sent invalid header {HEADER}", "fastcgi_protocol_error"),
        (f"no live upstreams {CONNECT}", "no_live_upstreams"),
        ("fpm.invalid could not be resolved (3: Host not found)", "upstream_host_not_found"),
        ("fpm.invalid could not be resolved (110: Operation timed out)", "upstream_host_not_found"),
        ("no resolver defined to resolve fpm.invalid", "upstream_host_not_found"),
        (f'FastCGI sent in stderr: "Primary script unknown" {HEADER}', "script_not_found"),
        ('FastCGI sent in stderr: "Unable to open primary script: /a.php (No such file', "script_not_found"),
        (
            "FastCGI sent in stderr: \"Access to the script '/a.txt' has been denied (see"
            f' security.limit_extensions)" {HEADER}',
            "extension_denied",
        ),
        (f'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught Error: x" {HEADER}', "php_fatal"),
        ('FastCGI sent in stderr: "PHP message: PHP Parse error:  syntax error', "php_fatal"),
        (
            'FastCGI sent in stderr: "PHP message: PHP Warning:  a, bPHP message: PHP Fatal error:  '
            'Maximum execution time of 30 seconds exceeded in',
            "php_time_limit",
        ),
        (
            'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Allowed memory size of 1 bytes exhausted',
            "php_memory_limit",
        ),
        (f'FastCGI sent in stderr: "PHP message: Primary script unknown" {HEADER}', "~php_message"),
        (f'FastCGI sent in stderr: "PHP message: hello" {HEADER}', "~php_message"),
        ("client sent too long header line: \"X-Big: xx\" while reading client request headers", "request_header_too_large"),
        ("client sent too long URI while reading client request line", "request_header_too_large"),
        ("access forbidden by rule", "~access_forbidden"),
        ('directory index of "/srv/www/" is forbidden', "~access_forbidden"),
        ('limiting requests, excess: 5.5 by zone "one"', "~rate_limited"),
        ("client intended to send too large body: 20000000 bytes", "~body_too_large"),
        ("SSL_do_handshake() failed (SSL: error:0A000076) while SSL handshaking", "~tls_handshake"),
        ("rewrite or internal redirection cycle while processing", ""),
        ("768 worker_connections are not enough while connecting to upstream", ""),
    ],
)  # fmt: skip
def test_words_of_nginx_and_php(message: str, symptom: str) -> None:
    assert classify(message.encode(), b"error", UNIX) == symptom


@pytest.mark.parametrize(
    ("message", "symptom"),
    [
        ('unknown directive "x" in /etc/nginx/nginx.conf:3', "config_invalid"),
        ('host not found in upstream "fpm.invalid" in /etc/nginx/nginx.conf:3', "upstream_host_not_found"),
        ("bind() to 0.0.0.0:80 failed (98: Address already in use)", "address_in_use"),
        ("bind() to 0.0.0.0:80 failed (98: Adresse wird bereits verwendet)", "address_in_use"),
        ("still could not bind()", "address_in_use"),
        ("bind() to 192.0.2.1:80 failed (99: x)", "config_invalid"),
    ],
)
def test_a_start_that_failed(message: str, symptom: str) -> None:
    assert classify(message.encode(), b"emerg") == symptom


def test_a_record_in_parts() -> None:
    record = parse_record(
        b"2026/11/21 03:30:41 [error] 7#8: *9 recv() failed (104: x) while reading response header from upstream,"
        b' client: 192.0.2.1, server: shop.example.com, request: "GET /a?b=1 HTTP/1.1", upstream: "fastcgi://a:9000",'
        b' host: "h", referrer: "http://r/"\r\n'
    )
    assert record is not None
    assert record == (
        b"2026/11/21 03:30:41",
        b"error",
        b"recv() failed (104: x) while reading response header from upstream",
        b"shop.example.com",
        b"GET /a?b=1 HTTP/1.1",
        b"fastcgi://a:9000",
    )
    assert parse_record(b"nothing of nginx") is None


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b'GET / HTTP/1.1", upstream: "fastcgi://a:1", host: "h"', (b"GET / HTTP/1.1", b"fastcgi://a:1")),
        (b'GET / HTTP/1.1", host: "h"', (b"GET / HTTP/1.1", b"")),
        (b"GET / HTTP/1.1", (b"GET / HTTP/1.1", b"")),
        (
            b'GET / HTTP/1.1", subrequest: "/s", upstream: "fastcgi://a:1"',
            (b"GET / HTTP/1.1", b"fastcgi://a:1"),
        ),
        (
            b'GET /", upstream: "forged", x HTTP/1.1", upstream: "fastcgi://a:1", host: "h"',
            (b'GET /", upstream: "forged", x HTTP/1.1', b"fastcgi://a:1"),
        ),
        (
            b'GET / HTTP/1.1", upstream: "fastcgi://a:1", host: "h", referrer: "", upstream: "forged"',
            (b"GET / HTTP/1.1", b"fastcgi://a:1"),
        ),
    ],
)
def test_an_upstream_that_a_client_forged_is_not_believed(tail: bytes, expected: tuple[bytes, bytes]) -> None:
    assert split_request(tail) == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_classified_without_a_crash(raw: bytes) -> None:
    assert isinstance(classify(raw, b"error", raw), str)
    parse_record(b"2026/11/21 03:30:41 [error] " + raw)
    split_request(raw)
