# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of php-fpm-reload that need no host: what it reads, when a caller may skip, locks, kept files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/fpm_reload/files"
sys.path[:0] = [str(FILES), str(ROOT / "plugins/module_utils")]

from fpm_reload import config, due, lastgood, limits, lock, master, outcome, sockets, unit


def shown(argv: str) -> str:
    """One value of `systemctl show -p ExecStart`."""
    return (
        f"{{ path={argv.split()[0]} ; argv[]={argv} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ;"
        " pid=0 ; code=(null) ; status=0/0 }"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            "/usr/sbin/php-fpm8.2 --nodaemonize --fpm-config /etc/php/8.2/fpm/php-fpm.conf",
            ("/usr/sbin/php-fpm8.2", ("--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf")),
        ),
        ("/usr/sbin/php-fpm --nodaemonize", ("/usr/sbin/php-fpm", ())),
        (
            "/opt/remi/php82/root/usr/sbin/php-fpm --nodaemonize",
            ("/opt/remi/php82/root/usr/sbin/php-fpm", ()),
        ),
        (
            "/usr/sbin/php-fpm81 -F -y/etc/php81/php-fpm.conf",
            ("/usr/sbin/php-fpm81", ("-y", "/etc/php81/php-fpm.conf")),
        ),
        ("/usr/bin/php8.2-fpm -F", ("/usr/bin/php8.2-fpm", ())),
        (
            "/usr/sbin/php-fpm8.2 --fpm-config=/a.conf -c /php.ini -d memory_limit=1G -n -O -F -R",
            (
                "/usr/sbin/php-fpm8.2",
                ("--fpm-config", "/a.conf", "-c", "/php.ini", "-d", "memory_limit=1G", "-n", "-R"),
            ),
        ),
        # Wrappers are looked through.
        (
            "/bin/sh -c 'FPM_SOCKETS=/run/x=3 exec /usr/sbin/php-fpm8.2 -F -y /a.conf'",
            ("/usr/sbin/php-fpm8.2", ("-y", "/a.conf")),
        ),
        ("/usr/local/lib/php_stack/sockets /usr/sbin/php-fpm8.2 -F", ("/usr/sbin/php-fpm8.2", ())),
        ("/usr/sbin/nginx -g daemon on;", None),
        ("/usr/bin/php-cgi -b 9000", None),
        ("php-fpm8.2 -F", None),
    ],
)
def test_the_binary_and_its_configuration_come_from_exec_start(
    argv: str, expected: tuple[str, tuple[str, ...]] | None
) -> None:
    assert unit.parse_exec_start(shown(argv)) == expected


def test_an_option_that_only_a_variable_knows_is_refused_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"its option \$OPTIONS is filled in by a variable"):
        unit.parse_exec_start(shown("/usr/sbin/php-fpm -F $OPTIONS"))


@pytest.mark.parametrize(
    "name", ["php8.2-fpm", "php-fpm", "php82-php-fpm", "ea-php81-php-fpm", "fpm@shop", "php-fpm-82"]
)
def test_unit_names(name: str) -> None:
    assert unit.check_name(name) == unit.check_name(f"{name}.service") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-H",
        "--help",
        ".service",
        "a b",
        "a/b",
        "../x",
        "php8.2-fpm\n",
        "a;id",
        "a*",
        "a.socket",
        "ä",
        "@x",
    ],
)
def test_what_is_no_unit_name(name: str) -> None:
    with pytest.raises(outcome.Failure) as caught:
        unit.check_name(name)
    assert caught.value.code == outcome.USAGE


@given(st.text())
def test_a_name_that_passes_is_never_an_option_a_path_or_two_words(text: str) -> None:
    try:
        name = unit.check_name(text)
    except outcome.Failure:
        return
    assert name[0].isalnum()
    assert not set(name) & set("/ \t\n*?[]$`'\"\\;|&<>\0")


DUMP = """[21-Nov-2026 04:03:58] NOTICE: [global]
[21-Nov-2026 04:03:58] NOTICE: \tpid = /run/php/php8.2-fpm.pid
[21-Nov-2026 04:03:58] NOTICE: \tprocess_control_timeout = 10s
[21-Nov-2026 04:03:58] NOTICE: \u0020
[21-Nov-2026 04:03:58] NOTICE: [www]
[21-Nov-2026 04:03:58] NOTICE: \tlisten = /run/php/php8.2-fpm.sock
[21-Nov-2026 04:03:58] NOTICE: \tlisten.backlog = -1
[21-Nov-2026 04:03:58] NOTICE: \tlisten.acl_users = undefined
[21-Nov-2026 04:03:58] NOTICE: \tlisten.owner = www-data
[21-Nov-2026 04:03:58] NOTICE: \tlisten.group = undefined
[21-Nov-2026 04:03:58] NOTICE: \tlisten.mode = 0600
[21-Nov-2026 04:03:58] NOTICE: [tcp]
[21-Nov-2026 04:03:58] NOTICE: \tlisten = 127.0.0.1:9000
[21-Nov-2026 04:03:58] NOTICE: \tlisten.allowed_clients = 192.0.2.1
[21-Nov-2026 04:03:58] NOTICE: configuration file /etc/php/8.2/fpm/php-fpm.conf test is successful
"""


def test_the_dump_says_what_pools_ask_of_their_sockets() -> None:
    assert config.parse_dump(DUMP) == config.Settings(
        pools=(
            config.Pool("www", "/run/php/php8.2-fpm.sock", owner="www-data", mode="0600", backlog=-1),
            config.Pool("tcp", "127.0.0.1:9000", allowed_clients=True),
        ),
        control_timeout_seconds=10,
        known=True,
    )
    assert config.parse_dump("") == config.Settings()


def test_fpms_words_without_stamps_and_notices() -> None:
    said = (
        "[21-Nov-2026 04:00:00] ERROR: [/etc/php/8.2/fpm/pool.d/www.conf:435] value is NULL for a ZEND_INI_PARSER_ENTRY\n"
        "[21-Nov-2026 04:00:00.123456] NOTICE: hello\n\n"
        "[21-Nov-2026 04:00:00] ERROR: FPM initialization failed\n"
    )
    assert config.words(said) == [
        "ERROR: [/etc/php/8.2/fpm/pool.d/www.conf:435] value is NULL for a ZEND_INI_PARSER_ENTRY",
        "ERROR: FPM initialization failed",
    ]
    assert config.words("[21-Nov-2026 04:00:00] NOTICE: only this\n") == ["NOTICE: only this"]


# -- the kernel's tables --------------------------------------------------------------------------

UNIX = """Num       RefCount Protocol Flags    Type St Inode Path
00000000f2be46d9: 00000002 00000000 00010000 0001 01 39298 /run/systemd/private
00000000157b6da0: 00000003 00000000 00000000 0002 03 39307 /run/systemd/journal/dev-log
0000000003c9d3d4: 00000003 00000000 00000000 0001 03 39394
00000000d0699d0a: 00000002 00000000 00010000 0001 01 39457 /run/php/php8.2-fpm.sock
000000000b9da231: 00000003 00000000 00000000 0001 03 1049698 /run/php/php8.2-fpm.sock
000000000b9da232: 00000002 00000000 00000000 0001 02 0 /run/php/php8.2-fpm.sock
0000000000000001: 00000002 00000000 00010000 0001 01 77 /run/a b.sock
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2328 00000000:0000 0A 00000000:0000000B 00:00000000 00000000     0        0 500 1 0 100 0 0 10 0
   1: 0100007F:2328 0100007F:D431 01 00000000:00000000 00:00000000 00000000    33        0 501 1 0 20 4 30 10 -1
   2: 0100007F:2328 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   3: 0100007F:2328 0100007F:D433 06 00000000:00000000 03:000017AD 00000000     0        0 0 3 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000001000000:232E 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 600 1 0
"""


def test_unix_sockets_that_listen_and_those_that_a_worker_has_accepted() -> None:
    found = master.parse_unix(UNIX)
    assert [(entry.inode, entry.listening, entry.path) for entry in found] == [
        (39298, True, "/run/systemd/private"),
        (39457, True, "/run/php/php8.2-fpm.sock"),
        (1049698, False, "/run/php/php8.2-fpm.sock"),
        (0, False, "/run/php/php8.2-fpm.sock"),
        (77, True, "/run/a b.sock"),
    ]
    assert master.accepted(master.Listener(39457, 8, path="/run/php/php8.2-fpm.sock"), found) == 1
    assert master.accepted(master.Listener(77, 9, path="/run/a b.sock"), found) == 0
    assert master.queued([master.Listener(39457, 8, path="/run/php/php8.2-fpm.sock")], found) == 1
    assert master.queued([master.Listener(77, 9, path="/run/a b.sock")], found) == 0


def test_tcp_sockets_wait_in_the_queue_without_an_inode() -> None:
    found = master.parse_tcp(TCP) + master.parse_tcp("\n".join(TCP6.splitlines()))
    assert [(entry.inode, entry.listening, entry.host, entry.port) for entry in found] == [
        (500, True, "127.0.0.1", 9000),
        (501, False, "127.0.0.1", 9000),
        (600, True, "::1", 9006),
    ]
    assert master.accepted(master.Listener(500, 8, host="127.0.0.1", port=9000), found) == 1
    assert master.queued([master.Listener(500, 8, host="127.0.0.1", port=9000)], found) == 11
    assert master.queued([master.Listener(600, 9, host="::1", port=9006)], found) == 0
    assert str(master.Listener(600, 9, host="::1", port=9006)) == "[::1]:9006"


def test_a_stat_line_with_brackets_and_spaces_in_the_name() -> None:
    fields = master.parse_stat("45 (php) fpm (8 2)) S 1 45 45")
    assert (fields[1], fields[2], fields[3], fields[4]) == ("45", "php) fpm (8 2)", "S", "1")


def test_the_own_process_and_its_exec_tell_generations_apart() -> None:
    """A real exec: the same pid, another generation."""
    code = "import os, sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read(1);"
    again = f"{code} os.execv(sys.executable, [sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", again], stdin=-1, stdout=-1) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.read(1) == b"x"
        before = master.generation(child.pid)
        assert before
        assert not before.replaced_by(master.generation(child.pid) or before)
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.read(1) == b"x"
        after = master.generation(child.pid)
        assert after
        assert before.pid == after.pid
        assert before.replaced_by(after)
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert master.generation(child.pid) is None


def test_generations_without_random_addresses_differ_in_their_own_sockets() -> None:
    first = master.Generation(45, 100, (1, 2, 3), frozenset({7, 8}))
    assert not first.replaced_by(first)
    assert not first.replaced_by(replace(first, private=frozenset({7, 8, 9})))
    assert not first.replaced_by(replace(first, private=frozenset()))
    assert first.replaced_by(replace(first, private=frozenset({9, 10})))
    assert first.replaced_by(replace(first, pid=46))
    assert first.replaced_by(replace(first, started=101))


def test_backlogs_that_only_a_restart_applies() -> None:
    text = "u_str LISTEN 0      4096      /run/php/php8.2-fpm.sock 39457 * 0\nu_str LISTEN 1 8 @x 40 * 0\n"
    live = sockets.parse_backlogs(text)
    assert live == {39457: 4096, 40: 8}
    listener = master.Listener(39457, 8, path="/run/php/php8.2-fpm.sock")
    for backlog, somaxconn, reasons in (
        (-1, 4096, 0),
        (511, 4096, 1),
        (65535, 4096, 0),
        (-1, 128, 1),
        (None, 128, 0),
    ):
        pair = (config.Pool("www", listener.path, backlog=backlog), listener)
        assert len(sockets.backlog_reasons([pair], live, somaxconn)) == reasons, (backlog, somaxconn)


# -- who may skip ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "restart", "expected"),
    [
        (lock.State("boot", 101, "reload", ok=True), False, True),
        (lock.State("boot", 100, "reload", ok=True), False, False),  # at the very moment: not surely after
        (lock.State("boot", 99, "reload", ok=True), False, False),
        (lock.State("boot", 101, "reload", ok=False), False, False),
        (lock.State("other", 101, "reload", ok=True), False, False),
        (lock.State("boot", 101, "reload", ok=True), True, False),
        (lock.State("boot", 101, "restart", ok=True), True, True),
        (lock.State("boot", 101, "start", ok=True), False, True),
    ],
)
def test_only_a_good_reload_that_started_later_stands_for_another(
    state: lock.State, restart: bool, expected: bool
) -> None:
    assert state.satisfies(100, "boot", restart) is expected


@pytest.fixture
def folder(tmp_path: Path) -> lock.LockFolder:
    return lock.LockFolder(str(tmp_path / "locks"), owner=os.getuid())


def test_the_lock_blocks_and_ends_with_words_when_time_is_over(folder: lock.LockFolder) -> None:
    with (
        folder.hold("u.lock", exclusive=True, seconds=1),
        pytest.raises(outcome.Failure) as caught,
        folder.hold("u.lock", exclusive=True, seconds=0.05),
    ):
        pytest.fail("two holders")
    assert caught.value.code == outcome.LOCK_TIMEOUT
    assert "was held by another process for 0.05 s" in str(caught.value)
    with folder.hold("u.lock", exclusive=True, seconds=1):
        pass


def test_readers_share_and_a_writer_keeps_them_out(folder: lock.LockFolder) -> None:
    with folder.hold("config.lock", exclusive=False, seconds=1):
        with folder.hold("config.lock", exclusive=False, seconds=1):
            pass
        with pytest.raises(outcome.Failure), folder.hold("config.lock", exclusive=True, seconds=0.05):
            raise AssertionError("a writer beside a reader")


def test_a_lock_file_that_is_removed_while_somebody_waits_is_taken_anew(folder: lock.LockFolder) -> None:
    path = Path(folder.path) / "u.lock"
    with folder.hold("u.lock", exclusive=True, seconds=1):
        remover = threading.Timer(0.0, path.unlink)
        remover.start()
        remover.join()
        with folder.hold("u.lock", exclusive=True, seconds=1):
            assert path.exists()


@pytest.mark.parametrize("attack", ["link", "open", "file", "lock link", "lock directory", "hard link"])
def test_a_folder_or_file_that_others_could_have_made_is_refused(
    folder: lock.LockFolder, attack: str
) -> None:
    path = Path(folder.path)
    if attack == "link":
        path.symlink_to(path.parent)
    elif attack == "file":
        path.write_text("")
    else:
        path.mkdir(mode=0o755)
        if attack == "open":
            path.chmod(0o777)
        elif attack == "lock link":
            (path / "u.lock").symlink_to("/dev/null")
        elif attack == "lock directory":
            (path / "u.lock").mkdir()
        else:
            (path / "x").write_text("")
            os.link(path / "x", path / "u.lock")
    with pytest.raises(outcome.Failure) as caught, folder.hold("u.lock", exclusive=True, seconds=1):
        raise AssertionError("taken")
    assert caught.value.code == outcome.LOCK_UNSAFE


def test_a_folder_of_another_owner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(outcome.Failure, match="belongs to user id"):
        lock.LockFolder(str(tmp_path), owner=os.getuid() + 1).read_state("u")


def test_locks_and_notes_are_for_the_owner_alone(folder: lock.LockFolder) -> None:
    with folder.hold("u.lock", exclusive=True, seconds=1):
        folder.write_state("u", lock.State("boot", 5, "reload", True, ["x"]))
    assert folder.read_state("u") == lock.State("boot", 5, "reload", True, ["x"])
    for path in Path(folder.path).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"boot": "x"}', '{"other": 1}'])
def test_a_note_that_cannot_be_read_satisfies_nobody(folder: lock.LockFolder, content: str) -> None:
    folder.write_state("u", lock.State("boot", 5, "reload"))
    (Path(folder.path) / "u.state").write_text(content)
    assert folder.read_state("u") is None


# -- the last good configuration ------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pool.d").mkdir()
    (tmp_path / "fpm.conf").write_text(
        f'[global]\n;include=/no\n include = "{tmp_path}/pool.d/*.conf" ; all\n'
    )
    (tmp_path / "pool.d/www.conf").write_text("[www]\n")
    (tmp_path / "pool.d/old.conf").write_text("[old]\n")
    (tmp_path / "pool.d/www.conf").chmod(0o640)
    return tmp_path


def kept(tree: Path) -> lastgood.LastGood:
    return lastgood.LastGood("u", str(tree / "var/last-good"), str(tree / "var/rejected"))


def test_the_configuration_is_the_main_file_and_all_that_it_includes(tree: Path) -> None:
    found = lastgood.collect(str(tree / "fpm.conf"))
    assert sorted(Path(path).name for path in found) == ["fpm.conf", "old.conf", "www.conf"]
    assert found[str(tree / "pool.d/www.conf")].mode == 0o640


def test_what_failed_is_put_aside_and_what_was_good_comes_back(tree: Path) -> None:
    main = str(tree / "fpm.conf")
    good = lastgood.collect(main)
    kept(tree).save(good)
    (tree / "pool.d/www.conf").write_text("[bad]\n")
    (tree / "pool.d/new.conf").write_text("[new]\n")
    (tree / "pool.d/old.conf").unlink()
    failed = lastgood.collect(main)
    changed, aside = kept(tree).restore(failed, main)
    assert [Path(path).name for path in changed] == ["new.conf", "old.conf", "www.conf"]
    assert lastgood.collect(main) == good
    assert Path(f"{aside}{tree}/pool.d/www.conf").read_text() == "[bad]\n"
    assert Path(f"{aside}{tree}/pool.d/new.conf").read_text() == "[new]\n"
    assert stat.S_IMODE((tree / "var/last-good").stat().st_mode) == 0o700


def test_a_configuration_that_changed_meanwhile_is_left_alone(tree: Path) -> None:
    main = str(tree / "fpm.conf")
    kept(tree).save(lastgood.collect(main))
    (tree / "pool.d/www.conf").write_text("[bad]\n")
    failed = lastgood.collect(main)
    (tree / "pool.d/www.conf").write_text("[mended by hand]\n")
    assert kept(tree).restore(failed, main) == ([], "")
    assert (tree / "pool.d/www.conf").read_text() == "[mended by hand]\n"


def test_nothing_comes_back_where_nothing_or_only_the_same_is_kept(tree: Path) -> None:
    main = str(tree / "fpm.conf")
    now = lastgood.collect(main)
    assert kept(tree).restore(now, main) == ([], "")
    kept(tree).save(now)
    assert kept(tree).restore(now, main) == ([], "")


def test_a_damaged_copy_is_not_trusted(tree: Path) -> None:
    main = str(tree / "fpm.conf")
    kept(tree).save(lastgood.collect(main))
    copy = next(path for path in (tree / "var/last-good/u").iterdir() if path.name != "manifest.json")
    copy.write_text("[damaged]\n")
    assert kept(tree).load() is None


def test_the_readme_lists_every_exit_code_as_the_program_does() -> None:
    readme = (ROOT / "roles/fpm_reload/README.md").read_text(encoding="utf-8")
    rows = [f"| {code} | {text} |" for code, text in outcome.MEANINGS.items()]
    assert [row for row in rows if row not in readme] == []


def test_the_role_installs_every_file_of_the_program() -> None:
    listed = (ROOT / "roles/fpm_reload/vars/main.yml").read_text(encoding="utf-8")
    names = sorted(path.stem for path in (FILES / "fpm_reload").glob("*.py"))
    assert f"__fpm_reload_modules: [{', '.join(names)}]" in listed


# -- limits, streams, markers ---------------------------------------------------------------------

OFFENDED = f"""
import resource, sys
sys.path[:0] = [{str(FILES)!r}, {str(ROOT / "plugins/module_utils")!r}]
from fpm_reload import limits
for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
    hard = resource.getrlimit(number)[1]
    resource.setrlimit(number, (512 if number == resource.RLIMIT_NOFILE else 1 << 30, hard))
limits.lift_own()
for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
    soft, hard = resource.getrlimit(number)
    assert soft == hard or soft >= 65536, (number, soft, hard)
"""


def test_the_callers_low_limits_are_lifted() -> None:
    subprocess.run([sys.executable, "-c", OFFENDED], check=True)


def test_the_units_limits_reach_a_process_that_runs() -> None:
    wanted = limits.parse(
        {"LimitNOFILE": ["300"], "LimitNOFILESoft": ["200"], "LimitCORE": ["infinity"], "LimitAS": ["?"]}
    )
    assert wanted == {"LimitNOFILE": (200, 300)}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert limits.bring_up_to_date(child.pid, wanted) == ["LimitNOFILE"]
        assert limits.differing(child.pid, wanted) == []
        assert limits.bring_up_to_date(child.pid, wanted) == []
        child.communicate()
    assert limits.bring_up_to_date(child.pid, wanted) == [], "a process that is gone has no limits"


@pytest.mark.parametrize(
    ("script", "seconds", "says"),
    [
        ("kill -XFSZ $$", 5, "was killed by signal 25 (SIGXFSZ)"),
        ("kill -HUP $$", 5, "was killed by signal 1 (SIGHUP)"),
        ("sleep 60", 0.1, "did not end within 0 s"),
        ("exit 3", 5, ""),
    ],
)
def test_how_a_command_was_cut_off(script: str, seconds: float, says: str) -> None:
    assert unit.run(["sh", "-c", script], seconds).cut_off == says


def test_the_marker_of_a_reload_that_was_done_goes(tmp_path: Path) -> None:
    (tmp_path / "php8.2-fpm").touch()
    (tmp_path / "nginx").touch()
    due.forget("php8.2-fpm", str(tmp_path))
    due.forget("php8.4-fpm", str(tmp_path))
    due.forget("php8.2-fpm", str(tmp_path / "nowhere"))
    assert os.listdir(tmp_path) == ["nginx"]
