# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of FPM's configuration: what comes out of which lines, and what it says of broken ones."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_config import load
from ansible_collections.webops.php_stack.plugins.module_utils.fpm_model import Build, FpmConfig, Pool
from hypothesis import given
from hypothesis import strategies as st

MAIN = "/etc/php-fpm.conf"
SOUND = "listen = /run/x.sock\nuser = www-data\npm = static\npm.max_children = 2\n"


class Files(dict[str, str]):
    """Files by path, as load() reads them."""

    def read_text(self, path: str) -> str:
        if path not in self:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self[path]

    def glob(self, pattern: str) -> list[str]:
        return sorted(path for path in self if fnmatch.fnmatchcase(path, pattern))

    def is_dir(self, path: str) -> bool:
        return any(name.startswith(path.rstrip("/") + "/") for name in self)


def read(text: str, more: dict[str, str] | None = None, **build: Any) -> FpmConfig:
    build = {"version": (8, 2), "prefix": "/usr", "state_dir": "/var", **build}
    return load(MAIN, Files({MAIN: text, **(more or {})}), Build(**build))


def one_pool(lines: str, **build: Any) -> Pool:
    """The only pool of a file that FPM accepts."""
    config = read(f"[www]\n{SOUND}{lines}", **build)
    assert config.problems == []
    return config.pools[0]


def said(config: FpmConfig) -> list[str]:
    return [f"{item.file}:{item.line}: {item.message}" for item in config.problems]


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("request_terminate_timeout = 30", "request_terminate_timeout", 30),
        ("request_terminate_timeout = 30s", "request_terminate_timeout", 30),
        ("request_terminate_timeout = 5m", "request_terminate_timeout", 300),
        ("request_terminate_timeout = 2h", "request_terminate_timeout", 7200),
        ("request_terminate_timeout = '1d'", "request_terminate_timeout", 86400),
        ("request_terminate_timeout = 0", "request_terminate_timeout", 0),
        ("pm.max_requests = 500 ; a comment", "pm.max_requests", 500),
        ("  PM.MAX_REQUESTS=7  ", "pm.max_requests", 7),
        ("listen.backlog = -1", "listen.backlog", -1),
        ("rlimit_core = unlimited", "rlimit_core", -1),
        ("clear_env = no", "clear_env", False),
        ("clear_env = OFF", "clear_env", False),
        ("clear_env = none", "clear_env", False),
        ("catch_workers_output = yes", "catch_workers_output", True),
        ("catch_workers_output = True", "catch_workers_output", True),
        ("catch_workers_output = on", "catch_workers_output", True),
        ("catch_workers_output = 1", "catch_workers_output", True),
        ("pm.status_path = /$pool/status", "pm.status_path", "/www/status"),
        ('access.format = "%R ; %t # x"', "access.format", "%R ; %t # x"),
        ("access.format = %R ; %t", "access.format", "%R"),
        ("access.format = 'it''s'", "access.format", "its"),
        ("access.format = two words", "access.format", "two words"),
        ('access.format = "a \\"b\\" c"', "access.format", 'a "b" c'),
        ("access.format = a#b", "access.format", "a#b"),
        ("access.format = E_ALL & ~E_NOTICE", "access.format", "32759"),
        ("access.format = none", "access.format", ""),
        ("slowlog = log/$pool.slow", "slowlog", "/usr/log/www.slow"),
        ("php_admin_value[memory_limit] = 256M", "php_admin_value[memory_limit]", "256M"),
        ("php_admin_flag[log_errors] = on", "php_admin_value[log_errors]", "1"),
        ("php_flag[display_errors] = off", "php_value[display_errors]", "0"),
        ("php_value[error_log] = php.log", "php_value[error_log]", "/usr/php.log"),
        ("php_admin_value[error_log] = syslog", "php_admin_value[error_log]", "syslog"),
        ('env[TMP] = "/tmp/$pool"', "env[TMP]", "/tmp/www"),
        ("access.suppress_path[] = /ping", "access.suppress_path[0]", "/ping"),
        ("chroot = $prefix/jail\nprefix = /srv/www", "chroot", "/srv/www//jail"),
        ("chdir = data\nprefix = web", "chdir", "/usr/web/data"),
    ],
)
def test_a_line_gives_a_value(line: str, name: str, value: object) -> None:
    setting = one_pool(line).settings[name]
    assert (setting.value, type(setting.value)) == (value, type(value))
    assert (setting.file, setting.line, setting.default) == (MAIN, 6, False)


@pytest.mark.parametrize(
    ("name", "version", "value"),
    [
        ("pm.max_spawn_rate", (8, 2), 32),
        ("listen.backlog", (8, 2), -1),
        ("listen.backlog", (7, 4), 511),
        ("listen.backlog", None, None),
        ("pm.process_idle_timeout", (7, 4), 10),
        ("clear_env", (8, 4), True),
        ("pm.status_path", (8, 4), None),
        ("security.limit_extensions", (8, 4), ".php .phar"),
    ],
)
def test_a_default_has_no_place(name: str, version: tuple[int, int] | None, value: object) -> None:
    setting = one_pool("", version=version).settings[name]
    assert (setting.value, setting.file, setting.line, setting.default) == (value, None, None, True)


def test_a_directive_that_this_php_does_not_know_is_no_default() -> None:
    assert "pm.max_spawn_rate" not in one_pool("", version=(7, 4)).settings
    assert "pm.status_listen" not in one_pool("", version=(7, 4)).settings


def test_the_last_value_wins_but_the_first_of_an_array() -> None:
    pool = one_pool(
        "pm.max_requests = 1\npm.max_requests = 2\n"
        "php_value[memory_limit] = 1M\nphp_value[memory_limit] = 2M\nenv[A] = x\nenv[A] = y\n"
    )
    found = {
        name: (pool.settings[name].value, pool.settings[name].line)
        for name in ("pm.max_requests", "php_value[memory_limit]", "env[A]")
    }
    assert found == {"pm.max_requests": (2, 7), "php_value[memory_limit]": ("1M", 8), "env[A]": ("x", 10)}


def test_an_array_element_without_effect_is_a_warning() -> None:
    config = read(f"[www]\n{SOUND}php_value[a] = 1\nphp_value[a] = 2\n")
    assert [(item.line, item.message) for item in config.warnings] == [
        (7, f"php_value[a] has no effect: the first value, at {MAIN}:6, wins in FPM")
    ]


def test_dynamic_computes_what_start_servers_is_not_set_to() -> None:
    pool = one_pool("pm = dynamic\npm.max_children = 9\npm.min_spare_servers = 2\npm.max_spare_servers = 7\n")
    assert pool.value("pm.start_servers") == 4


def test_a_variable_of_the_master_that_is_not_known_is_not_guessed() -> None:
    setting = one_pool("slowlog = ${LOGS}/slow", variable=lambda name: None).settings["slowlog"]
    assert (setting.value, setting.unresolved, setting.line) == (None, "${LOGS}/slow", 6)
    known = one_pool("slowlog = ${LOGS}/slow", variable={"LOGS": "/l"}.get)
    assert known.value("slowlog") == "/l/slow"


# -- files ----------------------------------------------------------------------------------------

DOCKER = {
    MAIN: "[global]\nerror_log = /proc/self/fd/2\ninclude = etc/php-fpm.d/*.conf\n",
    "/usr/local/etc/php-fpm.d/docker.conf": "[global]\n\n[www]\nclear_env = no\n",
    "/usr/local/etc/php-fpm.d/www.conf": f"[www]\n{SOUND}clear_env = yes\n",
    "/usr/local/etc/php-fpm.d/zz-docker.conf": "[global]\ndaemonize = no\n\n[www]\nlisten = 9000\n",
}


def test_a_pool_is_merged_over_files_in_the_order_of_the_glob() -> None:
    config = load(MAIN, Files(DOCKER), Build((8, 2), "/usr/local", "/usr/local/var"))
    assert config.problems == []
    assert [file.rsplit("/", 1)[-1] for file in config.files] == [
        "php-fpm.conf", "docker.conf", "www.conf", "zz-docker.conf",
    ]  # fmt: skip
    (pool,) = config.pools
    assert (pool.file.rsplit("/", 1)[-1], pool.line) == ("docker.conf", 3)
    places = {
        name: (setting.value, (setting.file or "").rsplit("/", 1)[-1], setting.line)
        for name, setting in pool.settings.items()
        if name in ("listen", "clear_env", "user")
    }
    assert places == {
        "listen": ("9000", "zz-docker.conf", 5),
        "clear_env": (True, "www.conf", 6),
        "user": ("www-data", "www.conf", 3),
    }
    assert config.settings["daemonize"].value is False


def test_a_file_without_a_section_goes_on_in_the_pool_before() -> None:
    more = {
        "/p/1.conf": f"[One]\n{SOUND}",
        "/p/2.conf": "pm.max_requests = 3\n",
        "/p/3.conf": "[ONE]\nenv[A] = b\n",
    }
    config = read("include = /p/*.conf\n", more)
    assert config.problems == []
    assert [pool.name for pool in config.pools] == ["One"]
    assert config.pools[0].value("pm.max_requests") == 3
    assert config.pools[0].value("env[A]") == "b"


def test_what_follows_an_include_stands_in_the_last_section_of_that_file() -> None:
    config = read("include = /p/1.conf\nclear_env = no\n", {"/p/1.conf": f"[a]\n{SOUND}"})
    assert config.problems == []
    assert config.pools[0].settings["clear_env"].file == MAIN


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_ends_do_not_matter(end: str) -> None:
    text = f"[www]\n{SOUND}pm.max_requests = 5".replace("\n", end)
    config = read(text)
    assert config.problems == []
    assert config.pools[0].value("pm.max_requests") == 5


def test_no_newline_is_needed_and_bytes_survive() -> None:
    config = read(f"; \udce9\n[www]\n{SOUND}env[NAME] = caf\udce9")
    assert config.pools[0].value("env[NAME]") == "caf\udce9"


# -- broken files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("# a comment", "'#' does not start a comment: use ';'"),
        ("pm.max_childs = 4", "'pm.max_childs' is not a directive of PHP-FPM"),
        ("daemonize = no", "'daemonize' belongs into [global], but stands in the pool 'www'"),
        ("clear_env", "'clear_env' has no value ('=' is missing)"),
        ("pm.max_requests = 5k", "pm.max_requests: '5k' is not a whole number"),
        ("request_terminate_timeout = 5x", "request_terminate_timeout: '5x' has an unknown unit: use s, m, h or d"),
        ("request_terminate_timeout =", "request_terminate_timeout: a time is missing"),
        ("clear_env = maybe", "clear_env: 'maybe' is not a boolean: write yes or no, without quotes"),
        ("pm = fast", "pm: 'fast' is not a process manager: static, dynamic or ondemand"),
        ("[unclosed", "the section's name is not closed by ']'"),
        ('access.format = "open', 'a double quote (") is not closed on this line'),
        ("access.format = a(b", "'(' is not expected here in the value; put the value in double quotes"),
        ("env[] = x", "env[]: the key between the brackets is missing"),
        ("env[A] =", "env[A]: the value is empty"),
        ("nope[a] = x", "nope[a]: not a directive of PHP-FPM"),
        ("php_admin_flag[x] = perhaps",
         "php_admin_flag[x]: 'perhaps' is not a boolean: write yes or no, without quotes"),
        ("access.suppress_path[] = ping", "access.suppress_path[]: 'ping' does not start with '/'"),
        ("include = /missing/*.conf", "include = /missing/*.conf: the directory /missing does not exist"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_and_the_rest_comes_back(line: str, message: str) -> None:
    config = read(f"[www]\n{SOUND}{line}\n[www]\npm.max_requests = 9\n")
    assert said(config) == [f"{MAIN}:6: {message}"]
    assert config.pools[0].value("pm.max_requests") == 9
    assert config.pools[0].value("listen") == "/run/x.sock"


def test_all_mistakes_come_at_once_over_all_files() -> None:
    more = {
        "/p/a.conf": "[a]\nlisten = /a\nbroken\n",
        "/p/b.conf": f"[b]\n{SOUND}pm.max_children = 0\nx = 1\n",
    }
    assert said(read("clear_env = no\ninclude = /p/*.conf\n", more)) == [
        f"{MAIN}:1: 'clear_env' belongs into a pool, but stands in [global]",
        "/p/a.conf:3: 'broken' has no value ('=' is missing)",
        "/p/b.conf:7: 'x' is not a directive of PHP-FPM",
        "/p/a.conf:1: [a] user is not set",
        "/p/a.conf:1: [a] pm is not set: static, dynamic or ondemand",
        "/p/a.conf:1: [a] pm.max_children must be at least 1",
        "/p/b.conf:6: [b] pm.max_children must be at least 1",
    ]


def test_an_unknown_directive_is_kept_under_its_name() -> None:
    setting = read(f"[www]\n{SOUND}pm.Max_Childs = 4\n").pools[0].settings["pm.Max_Childs"]
    assert (setting.value, setting.file, setting.line) == ("4", MAIN, 6)


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ("pm = dynamic\n", 1, None),
        ("pm = dynamic\npm.min_spare_servers = 3\npm.max_spare_servers = 2\n", 8,
         "pm.max_spare_servers (2) is less than pm.min_spare_servers (3)"),
        ("pm = dynamic\npm.min_spare_servers = 1\npm.max_spare_servers = 2\npm.start_servers = 5\n", 9,
         "pm.start_servers (5) must lie between pm.min_spare_servers (1) and pm.max_spare_servers (2)"),
        ("pm.status_path = status\n", 6, "pm.status_path 'status' does not start with '/'"),
        ("ping.path = /a b\n", 6, "ping.path '/a b' may only hold letters, digits and / - _ . ~"),
        ("request_slowlog_timeout = 5\n", 6, "request_slowlog_timeout needs slowlog to be set"),
        ("slowlog = /l\nrequest_slowlog_timeout = 9\nrequest_terminate_timeout = 8\n", 7,
         "request_slowlog_timeout (9s) is greater than request_terminate_timeout (8s)"),
        ("process.priority = 30\n", 6, "process.priority must lie between -19 and 20"),
        ("[b]\nlisten = /run/x.sock\nuser = u\npm = static\npm.max_children = 1\n", 7,
         "listen /run/x.sock is used by the pool 'www' already"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(lines: str, line: int, message: str | None) -> None:
    config = read(f"[www]\n{SOUND}{lines}")
    assert config.problems
    if message:
        pool = "b" if "[b]" in lines else "www"
        assert f"{MAIN}:{line}: [{pool}] {message}" in said(config)
    else:
        assert {item.line for item in config.problems} == {line}


def test_a_php_too_old_for_a_directive_refuses_it() -> None:
    config = read(f"[www]\n{SOUND}pm.status_listen = 9001\n", version=(7, 4))
    assert said(config) == [f"{MAIN}:6: 'pm.status_listen' is not known to this PHP, only from 8.0 on"]
    assert read(f"[www]\n{SOUND}pm.status_listen = 9001\n", version=None).problems == []


@pytest.mark.parametrize(("version", "accepted"), [((7, 4), False), ((8, 1), False), ((8, 2), True)])
def test_a_quoted_boolean_depends_on_the_version(version: tuple[int, int], accepted: bool) -> None:
    config = read(f'[www]\n{SOUND}clear_env = "no"\n', version=version)
    assert (config.problems == []) is accepted
    assert config.pools[0].value("clear_env") is (False if accepted else None)


def test_a_missing_main_file_is_a_mistake() -> None:
    config = load(MAIN, Files({}), Build())
    assert said(config)[0] == f"{MAIN}:None: {MAIN} cannot be read: No such file or directory"


def test_an_include_that_matches_nothing_is_a_warning() -> None:
    config = read(f"[www]\n{SOUND}include = /p/*.conf\n", {"/p/x.txt": ""})
    assert config.problems == []
    assert [(item.line, item.message) for item in config.warnings] == [
        (6, "include = /p/*.conf: nothing matches")
    ]


def test_a_folder_that_includes_itself_ends_at_once() -> None:
    # Without a limit to the going round this would be 60 files, 5 deep: hours.
    more = {f"/p/{number:02}.conf": "include = /p/*.conf\n" for number in range(60)}
    config = read("include = /p/*.conf\n", {**more, "/q.conf": ""})
    assert "/p/00.conf:1: /p/00.conf includes itself" in said(config)


def test_a_file_may_be_included_twice() -> None:
    config = read("include = /a.conf\ninclude = /a.conf\n", {"/a.conf": f"[www]\n{SOUND}"})
    assert config.problems == []
    assert config.files == [MAIN, "/a.conf", "/a.conf"]


@given(st.text(alphabet=st.characters(blacklist_categories=()), max_size=200))
def test_nothing_in_a_file_makes_it_raise(text: str) -> None:
    config = read(f"[www]\n{SOUND}{text}\n[after]\n{SOUND}")
    assert config.pools[-1].name == "after" or config.problems


@given(st.text(alphabet="[]=\"'\\;#$ {}()abc\n\t\r&|^~!", max_size=60))
def test_no_line_spoils_the_pool_behind_it(text: str) -> None:
    config = read(f"[www]\n{SOUND}{text}\n[after]\npm.max_requests = 77\n")
    after = [pool for pool in config.pools if pool.name == "after"]
    assert [pool.value("pm.max_requests") for pool in after] == [77]
