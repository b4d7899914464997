# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Includes, the output of nginx -T, and finding nginx in a tree: on real files, no mocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_host import (
    HostReader,
    parse_arguments,
    parse_title,
)
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_info import gather
from ansible_collections.webops.php_stack.plugins.module_utils.nginx_tree import DumpReader, Tree, load
from crossplane_oracle import ours, theirs

SITE = "server { server_name %s; location / { fastcgi_pass unix:/run/%s.sock; } }\n"


def write(top: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = top / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def load_tree(top: Path, main: str = "/etc/nginx/nginx.conf") -> Tree:
    return load(main, HostReader(Host(str(top))))


def test_includes_are_relative_to_the_main_file_and_globs_are_sorted(tmp_path: Path) -> None:
    top = write(
        tmp_path,
        {
            "/etc/nginx/nginx.conf": "http {\n include conf.d/*.conf;\n include empty/*.conf;\n}\n",
            "/etc/nginx/conf.d/b.conf": "include snippets/x;\nb 1;\n",
            "/etc/nginx/conf.d/B.conf": "big 1;\n",
            "/etc/nginx/conf.d/a.conf": "a 1;\n",
            "/etc/nginx/conf.d/.hidden.conf": "hidden 1;\n",
            "/etc/nginx/conf.d/c.txt": "text 1;\n",
            "/etc/nginx/snippets/x": "x 1;\n",
            # The wrong place: beside the file that includes it.
            "/etc/nginx/conf.d/snippets/x": "wrong 1;\n",
        },
    )
    tree = load_tree(top)
    assert tree.errors == []
    assert [repr(item) for item in tree.directives[0].block or []] == [
        "<big 1; /etc/nginx/conf.d/B.conf:1>",
        "<a 1; /etc/nginx/conf.d/a.conf:1>",
        "<x 1; /etc/nginx/snippets/x:1>",
        "<b 1; /etc/nginx/conf.d/b.conf:2>",
    ]
    assert tree.files == [
        "/etc/nginx/nginx.conf", "/etc/nginx/conf.d/B.conf", "/etc/nginx/conf.d/a.conf", "/etc/nginx/conf.d/b.conf",
        "/etc/nginx/snippets/x",
    ]  # fmt: skip


def test_links_of_a_tree_stay_inside_it(tmp_path: Path) -> None:
    top = write(
        tmp_path / "tree",
        {"/etc/nginx/nginx.conf": "include sites-enabled/*;\n", "/etc/nginx/sites-available/a": "a 1;\n"},
    )
    (top / "etc/nginx/sites-enabled").mkdir()
    (top / "etc/nginx/sites-enabled/a").symlink_to("/etc/nginx/sites-available/a")
    (top / "etc/nginx/sites-enabled/gone").symlink_to("/etc/nginx/sites-available/gone")
    tree = load_tree(top)
    assert [repr(item) for item in tree.directives] == ["<a 1; /etc/nginx/sites-enabled/a:1>"]
    assert [str(error) for error in tree.errors] == [
        'open() "/etc/nginx/sites-enabled/gone" failed (2: No such file or directory) in /etc/nginx/nginx.conf:1'
    ]


@pytest.mark.parametrize(
    ("files", "errors", "names"),
    [
        (
            {"nginx.conf": "include missing.conf;\nb;\n"},
            [
                'open() "/etc/nginx/missing.conf" failed (2: No such file or directory) in /etc/nginx/nginx.conf:1'
            ],
            ["b"],
        ),
        (
            {"nginx.conf": "a;\ninclude x;\n", "x": "b;\ninclude y;\n", "y": "include x;\nc;\n"},
            [
                "the files include each other without end: /etc/nginx/x -> /etc/nginx/y -> /etc/nginx/x in /etc/nginx/y:1"
            ],
            ["a", "b", "c"],
        ),
        (
            {"nginx.conf": "include nginx.conf;\na;\n"},
            [
                "the files include each other without end: /etc/nginx/nginx.conf -> /etc/nginx/nginx.conf in"
                " /etc/nginx/nginx.conf:1"
            ],
            ["a"],
        ),
        (
            {"nginx.conf": "include d;\na;\n", "d/x": ""},
            ['open() "/etc/nginx/d" failed (21: Is a directory) in /etc/nginx/nginx.conf:1'],
            ["a"],
        ),
        (
            {"nginx.conf": "include a b;\nc;\n"},
            ['invalid number of arguments in "include" directive in /etc/nginx/nginx.conf:1'],
            ["c"],
        ),
        # A block cannot end in another file than it starts in.
        (
            {"nginx.conf": "http {\n include x;\n}\n", "x": "a;\n}\n"},
            ['unexpected "}": no block is open in /etc/nginx/x:2'],
            ["http"],
        ),
    ],
)
def test_what_goes_wrong_is_named_and_the_rest_is_there(
    tmp_path: Path, files: dict[str, str], errors: list[str], names: list[str]
) -> None:
    tree = load_tree(write(tmp_path, {f"/etc/nginx/{name}": text for name, text in files.items()}))
    assert [str(error) for error in tree.errors] == errors
    assert [item.name for item in tree.directives] == names


def test_crossplane_follows_the_same_includes(tmp_path: Path) -> None:
    etc = tmp_path / "etc/nginx"
    write(
        tmp_path,
        {
            "/etc/nginx/nginx.conf": f"http {{\n include {etc}/conf.d/*.conf;\n include sites/*;\n}}\n",
            "/etc/nginx/conf.d/a.conf": "map $a $b {\n include snippets/values;\n}\n",
            "/etc/nginx/snippets/values": "default 1;\n~^x 2; # two\n",
            "/etc/nginx/sites/one": "server {\n include snippets/php;\n}\n",
            "/etc/nginx/sites/two": "server {\n include snippets/php;\n}\n",
            "/etc/nginx/snippets/php": "location ~ \\.php$ {\n fastcgi_pass php;\n}\n",
        },
    )
    tree = load(str(etc / "nginx.conf"), HostReader(Host("/")))
    assert tree.errors == []
    assert ours(tree.directives) == theirs(etc / "nginx.conf", follow=True)


DUMP = """nginx: the configuration file /etc/nginx/nginx.conf syntax is ok
nginx: configuration file /etc/nginx/nginx.conf test is successful
# configuration file /etc/nginx/nginx.conf:
http {
    include conf.d/*.conf;
    include /etc/nginx/lost.conf;
}

# configuration file /etc/nginx/conf.d/b.conf:
server { server_name b; location / { fastcgi_pass 127.0.0.1:9000; } }

# configuration file /etc/nginx/conf.d/a.conf:
server { server_name a; location / { fastcgi_pass unix:/run/a.sock; } }
# configuration file names appear in comments, too:
"""


def test_a_dump_is_read_like_the_files_that_it_holds() -> None:
    result = gather(dump=DUMP)
    assert [
        (item["server_names"], item["targets"][0]["address"], item["file"], item["line"])
        for item in result["locations"]
    ] == [
        (["a"], "unix:/run/a.sock", "/etc/nginx/conf.d/a.conf", 1),
        (["b"], "127.0.0.1:9000", "/etc/nginx/conf.d/b.conf", 1),
    ]
    assert result["nginx"]["source"] == "dump"
    assert result["nginx"]["worker_user"]["name"] is None
    assert [(error["file"], error["line"]) for error in result["errors"]] == [("/etc/nginx/nginx.conf", 3)]


def test_a_dump_with_windows_line_ends_is_read() -> None:
    assert len(gather(dump=DUMP.replace("\n", "\r\n"))["locations"]) == 2


def test_what_is_no_dump_is_refused_with_the_command_to_run() -> None:
    with pytest.raises(ValueError, match="nginx -T > FILE"):
        DumpReader("http { }\n")
    with pytest.raises(StackError, match="no output of nginx -T"):
        gather(dump="")


@pytest.mark.parametrize(
    ("at", "main"),
    [
        ("/etc/nginx", "/etc/nginx/nginx.conf"),
        ("/nginx", "/etc/nginx/nginx.conf"),  # a checkout of /etc
        ("", "/etc/nginx/nginx.conf"),  # a copy of /etc/nginx
        ("/usr/local/nginx/conf", "/usr/local/nginx/conf/nginx.conf"),
        ("/www/server/nginx/conf", "/www/server/nginx/conf/nginx.conf"),
    ],
)
def test_a_tree_is_read_under_the_names_of_its_host(tmp_path: Path, at: str, main: str) -> None:
    folder = main.rpartition("/")[0]
    top = write(
        tmp_path,
        {
            f"{at}/nginx.conf": f"http {{ include {folder}/sites/*; include own/*; }}\n",
            f"{at}/sites/a": SITE % ("a", "a"),
            f"{at}/own/b": SITE % ("b", "b"),
        },
    )
    result = gather(root=str(top))
    assert result["errors"] == []
    assert result["nginx"]["config"] == main
    assert [(item["server_names"], item["file"]) for item in result["locations"]] == [
        (["a"], f"{folder}/sites/a"),
        (["b"], f"{folder}/own/b"),
    ]


def test_a_partial_tree_takes_its_main_file_under_the_hosts_name(tmp_path: Path) -> None:
    top = write(tmp_path, {"/nginx/nginx.conf": f"http {{ {SITE % ('a', 'a')} }}\n"})
    assert len(gather(root=str(top), config="/etc/nginx/nginx.conf")["locations"]) == 1


def test_a_tree_tells_its_build_from_the_program_file(tmp_path: Path) -> None:
    top = write(tmp_path, {"/opt/x.conf": "http { server { location / { fastcgi_pass a:1; } } }\n"})
    (top / "usr/sbin").mkdir(parents=True)
    (top / "usr/sbin/nginx").write_bytes(
        b"\x7fELF\0\0nginx version: nginx/1.26.3\nbuilt with\0configure arguments: --prefix=/opt --conf-path=/opt/x.conf"
        b" --user=web --with-cc-opt='-g -O2' --error-log-path=/var/log/e.log\n\0more\0"
    )
    result = gather(root=str(top))
    nginx = result["nginx"]
    assert (nginx["config"], nginx["prefix"], nginx["version"]) == ("/opt/x.conf", "/opt", "nginx/1.26.3")
    assert nginx["worker_user"] == {
        "name": "web",
        "group": "web",
        "file": None,
        "line": None,
        "default": True,
    }
    assert nginx["error_log"][0]["path"] == "/var/log/e.log"
    assert result["locations"][0]["root"]["path"] == "/opt/html"


def test_without_any_nginx_the_error_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"No nginx was found in .*config=PATH"):
        gather(root=str(tmp_path))
    with pytest.raises(StackError, match=r"/x.conf cannot be read in .*No such file"):
        gather(root=str(tmp_path), config="/x.conf")
    with pytest.raises(StackError, match="is no directory"):
        gather(root=str(tmp_path / "none"))
    with pytest.raises(StackError, match="dump_path=/d cannot be read"):
        gather(root=str(tmp_path), dump_path="/d")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "nginx: master process /usr/sbin/nginx -g daemon on; master_process on;",
            ("/usr/sbin/nginx", None, None),
        ),
        ("nginx: master process nginx -c /etc/x.conf -p /srv/", (None, "/etc/x.conf", "/srv/")),
        ("nginx: master process /opt/nginx -c/etc/x.conf", ("/opt/nginx", "/etc/x.conf", None)),
        ("nginx: master process ./nginx -g daemon off; -c x", (None, None, None)),
    ],
)
def test_the_title_of_a_master(line: str, expected: tuple[str | None, ...]) -> None:
    assert parse_title(line) == expected


def test_configure_arguments_with_quotes() -> None:
    text = "--with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --with-debug"
    assert parse_arguments(text) == {
        "with-cc-opt": "-g -O2 -fPIC",
        "prefix": "/usr/share/nginx",
        "with-debug": "",
    }
    assert parse_arguments("--prefix=/a '--broken")["prefix"] == "/a"
