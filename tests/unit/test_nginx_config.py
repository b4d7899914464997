# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of one nginx file: exact results, recovery, and crossplane as the oracle."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_config import (
    MAX_DEPTH,
    Directive,
    parse_text,
    unescape,
)
from crossplane_oracle import ours, theirs
from hypothesis import given, settings
from hypothesis import strategies as st


def shape(directives: list[Directive]) -> list[object]:
    return [
        [item.name, *item.args] if item.block is None else ([item.name, *item.args], shape(item.block))
        for item in directives
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("user www-data;", [["user", "www-data"]]),
        ("a b;c d;", [["a", "b"], ["c", "d"]]),
        ("events { }", [(["events"], [])]),
        ("events{worker_connections 1;}", [(["events"], [["worker_connections", "1"]])]),
        # Comments: only where a word could start.
        ("a b;#c\nd;", [["a", "b"], ["d"]]),
        ("a#b c;", [["a#b", "c"]]),
        ("a # ; {\n b;", [["a", "b"]]),
        ("server {#x\n}", [(["server"], [])]),
        ("# only", []),
        # Quotes: only where a word starts.
        ("a \"b c\" 'd e';", [["a", "b c", "d e"]]),
        ("a b\"c d\";", [["a", 'b"c', 'd"']]),
        ("a '';", [["a", ""]]),
        ("a \"b;{}#\";", [["a", "b;{}#"]]),
        ("'a' b;", [["a", "b"]]),
        ("if ($x = \"a\"){ b; }", [(["if", "($x", "=", "a", ")"], [["b"]])]),
        # Escapes.
        (r"a \.php$;", [["a", r"\.php$"]]),
        (r"a b\;c;", [["a", r"b\;c"]]),
        (r"a b\ c;", [["a", r"b\ c"]]),
        (r'a "b\"c" d\"e;', [["a", 'b"c', 'd"e']]),
        (r"a '\t|\n|\r|\\|\x';", [["a", "\t|\n|\r|\\|\\x"]]),
        # Variables: a brace after $ belongs to the word.
        ("a ${b}c;", [["a", "${b}c"]]),
        ("a /x${b}/y${c} d;", [["a", "/x${b}/y${c}", "d"]]),
        ("a $b{ c; }", [(["a", "$b"], [["c"]])]),
        ("a b}c;", [["a", "b}c"]]),
        ('location ~ "^/[0-9]{2}$" { b; }', [(["location", "~", "^/[0-9]{2}$"], [["b"]])]),
        # Line ends and other bytes.
        ("a b;\r\nc {\r\n d;\r\n}\r\n", [["a", "b"], (["c"], [["d"]])]),
        ("a b\u00a0c;", [["a", "b\u00a0c"]]),
        ("a \ufffd;", [["a", "\ufffd"]]),
        # A map of regular expressions.
        (
            "map $uri $x { default 0; ~^/a 1; \"~ b\" 2; }",
            [(["map", "$uri", "$x"], [["default", "0"], ["~^/a", "1"], ["~ b", "2"]])],
        ),
    ],
)  # fmt: skip
def test_words_and_blocks(text: str, expected: list[object]) -> None:
    parsed = parse_text(text, "x.conf")
    assert (parsed.errors, shape(parsed.directives)) == ([], expected)


@pytest.mark.parametrize(
    ("text", "errors", "expected"),
    [
        ("server { root /a }", ['unexpected "}": "root" is not terminated by ";" in f:1'], [(["server"], [["root", "/a"]])]),
        ("a b;\n}\nc d;", ['unexpected "}": no block is open in f:2'], [["a", "b"], ["c", "d"]]),
        (
            "http {\n server {\n a b;\n",
            ['unexpected end of file, expecting "}": the block "server" opened in line 2 is not closed in f:4'],
            [(["http"], [(["server"], [["a", "b"]])])],
        ),
        ("a b;\nc d", ['unexpected end of file, expecting ";" or "}" after "c" in f:2'], [["a", "b"], ["c", "d"]]),
        (";", ['unexpected ";" in f:1'], []),
        ("{ a; }", ['unexpected "{" in f:1'], [([""], [["a"]])]),
        # A missing semicolon does not hide what follows.
        (
            "server {\n root /a\n location / {\n b c;\n }\n}",
            ['"root" is not terminated by ";" in f:2'],
            [(["server"], [["root", "/a"], (["location", "/"], [["b", "c"]])])],
        ),
        (
            "include fastcgi_params\n # why\n fastcgi_pass php;",
            ['"include" is not terminated by ";" in f:1'],
            [["include", "fastcgi_params"], ["fastcgi_pass", "php"]],
        ),
        ("root /a /b;", [], [["root", "/a", "/b"]]),
        # Quotes.
        ('a "b"c;', ['unexpected "c" after a closing quote in f:1'], [["a", "b", "c"]]),
        (
            'root "/a;\nlisten 80;\nadd_header X "y";\nindex z;',
            ['unexpected "y" after the quote opened in line 1 in f:3'],
            [["root", "/a"], ["listen", "80"], ["add_header", "X", "y"], ["index", "z"]],
        ),
        (
            "root '/a;\nlisten 80;\n",
            ["unexpected end of file: the quote ' is not closed in f:1"],
            [["root", "/a"], ["listen", "80"]],
        ),
        (
            'location ~ "x {\n a b;\n}\nc d;',
            ['unexpected end of file: the quote " is not closed in f:1'],
            [(["location", "~", "x"], [["a", "b"]]), ["c", "d"]],
        ),
        ("a b\\", ['unexpected end of file after "\\" in f:1'], [["a", "b"]]),
        # A bare brace in a regular expression opens a block, for nginx too.
        (
            "location ~ ^/[0-9]{2}$ { b; }",
            ['unexpected end of file, expecting "}": the block "location ~ ^/[0-9]" opened in line 1 is not closed in f:1'],
            [(["location", "~", "^/[0-9]"], [(["2}$"], [["b"]])])],
        ),
        ("a " + "b" * 4096 + ";", ["too long parameter (over 4095 bytes); is a quote missing? in f:1"], None),
        ("a " + "b" * 4095 + ";", [], None),
        (
            "\ufeffuser x;",
            [
                "the file starts with a byte order mark, which nginx takes for a part of the first directive's name;"
                " save it without one in f:1"
            ],
            [["user", "x"]],
        ),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_the_rest_is_read(
    text: str, errors: list[str], expected: list[object] | None
) -> None:
    parsed = parse_text(text, "f")
    assert [str(error) for error in parsed.errors] == errors
    assert expected is None or shape(parsed.directives) == expected


LUA = """location /lua {
    content_by_lua_block {
        local t = { a = "}", b = '{' } -- }
        local s = [[ } ]] .. [==[ ]] } ]==]
        --[[ } ]]
        local e = "\\"}"
    }
    set_by_lua_block $x { return 1 }
}
root /a;
"""


def test_lua_is_taken_as_one_argument_and_its_braces_do_not_count() -> None:
    parsed = parse_text(LUA, "x.conf")
    assert parsed.errors == []
    location, root = parsed.directives
    assert location.block is not None
    content, setter = location.block
    assert content.block is None
    assert content.args[0].startswith("\n        local t = {")
    assert content.args[0].endswith('"\\"}"\n    ')
    assert (setter.args, setter.line) == (["$x", " return 1 "], 8)
    assert (root.name, root.line) == ("root", 10)


def test_lua_without_its_end_is_an_error_at_its_start() -> None:
    parsed = parse_text("a b;\nserver {\n content_by_lua_block { if x then {\n}", "x.conf")
    assert [(error.line, error.message.split(",")[0]) for error in parsed.errors] == [
        (3, "unexpected end of file"),
        (4, "unexpected end of file"),
    ]
    assert shape(parsed.directives)[0] == ["a", "b"]


def test_lines_count_also_in_quotes_comments_and_lua() -> None:
    text = 'a\n  b;\n"c\nd" e;\n# x\n\n' + LUA + "z;\n"
    parsed = parse_text(text, "x.conf")
    lines = text.split("\n")
    assert [(item.name, item.line) for item in parsed.directives] == [
        ("a", 1), ("c\nd", 3), ("location", 7), ("root", lines.index("root /a;") + 1), ("z", lines.index("z;") + 1),
    ]  # fmt: skip


def test_hostile_nesting_is_refused_not_followed() -> None:
    parsed = parse_text("a {" * 5000 + "}" * 5000, "x.conf")
    assert any(f"more than {MAX_DEPTH}" in error.message for error in parsed.errors)
    depth = 0
    block = parsed.directives
    while block:
        depth += 1
        block = block[0].block or []
    assert depth <= MAX_DEPTH + 1


@pytest.mark.parametrize(
    "text", ['"' + "a" * 200_000, "'\\" * 100_000, "a " * 200_000, '"a\\\\' * 50_000, "#" * 200_000]
)
def test_hostile_texts_cost_linear_time(text: str) -> None:
    start = time.process_time()
    parse_text(text, "x.conf")
    assert time.process_time() - start < 2


# -- crossplane

PLAIN = st.text("abz019/._-=~^$*()|?[]:,%@+!<>é", min_size=1, max_size=8).filter(
    lambda word: not word.endswith("$")
)
QUOTED = st.tuples(st.sampled_from("\"'"), st.text("ab ;{}#$\\\n\t'\"é", max_size=8)).map(
    lambda pair: pair[0] + pair[1].replace("\\", "\\\\").replace(pair[0], "\\" + pair[0]) + pair[0]
)
WORD = st.one_of(PLAIN, QUOTED, st.sampled_from(["/x${a}y", r"\.php$", r"a\"b", r"\\"]))
# crossplane takes a quoted name for what it is quoted as, and comments only between directives.
NAME = st.text("abcdefgh_", min_size=1, max_size=8)
SPACE = st.sampled_from([" ", "\n", "\t ", "  \n "])
AFTER = st.sampled_from(["\n", " ", "\n# a comment; {\n", " # x }\n", "\n\n", "\r\n"])


@st.composite
def statements(draw: st.DrawFn, depth: int = 3) -> str:
    text = ""
    for _count in range(draw(st.integers(0, 4))):
        text += draw(NAME)
        for _word in range(draw(st.integers(0, 3))):
            text += draw(SPACE) + draw(WORD)
        if depth and draw(st.booleans()):
            text += draw(SPACE) + "{" + draw(AFTER) + draw(statements(depth=depth - 1)) + "}"
        else:
            text += draw(st.sampled_from(["", " "])) + ";"
        text += draw(AFTER)
    return text


@settings(max_examples=400, deadline=None)
@given(text=statements())
def test_crossplane_agrees_on_generated_files(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.conf"
    path.write_bytes(text.encode())
    parsed = parse_text(text, str(path))
    assert parsed.errors == []
    assert ours(parsed.directives) == theirs(path)


@settings(max_examples=300, deadline=None)
@given(text=st.text("a \n;{}\"'#$\\x", max_size=60))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    parsed = parse_text(text, "x.conf")
    assert all(error.line is not None and 1 <= error.line <= text.count("\n") + 1 for error in parsed.errors)


@given(word=st.text("ab\\\"'trn", max_size=12))
def test_escaping_what_nginx_unescapes_gives_the_word_back(word: str) -> None:
    escaped = "".join("\\" + char if char in "\\\"'" else char for char in word)
    assert unescape(escaped) == word


@pytest.mark.parametrize(
    ("text", "we_read"),
    [
        # nginx ends a block only where a word could start; crossplane at every brace.
        ("a b}c;", [["a", "b}c"]]),
        # crossplane joins the word after "${b}" to it.
        ("a ${b} c;", [["a", "${b}", "c"]]),
        # nginx knows four white-space characters; crossplane all of Unicode's.
        ("a b\u00a0c;", [["a", "b\u00a0c"]]),
        # A long bracket in Lua hides its braces.
        ("a_by_lua_block { x = [[}]] }", [["a_by_lua_block", " x = [[}]] "]]),
    ],
)
def test_where_we_differ_from_crossplane_we_read_as_nginx_does(
    text: str, we_read: list[object], tmp_path: Path
) -> None:
    path = tmp_path / "x.conf"
    path.write_text(text)
    parsed = parse_text(text, str(path))
    assert (parsed.errors, shape(parsed.directives)) == ([], we_read)
    assert theirs(path) != ours(parsed.directives)


def test_crossplane_stops_at_the_first_error_and_we_do_not(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("a b;\n}\nc d;\n")
    parsed = parse_text(path.read_text(), str(path))
    assert theirs(path) is None
    assert shape(parsed.directives) == [["a", "b"], ["c", "d"]]
