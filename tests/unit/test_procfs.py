# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masters and workers as /proc shows them: captured files in a folder of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils import procfs
from ansible_collections.webops.php_stack.plugins.module_utils.procfs import Memory

# Captured from PHP 8.2 on Debian 12, with the worker's start 6,047.42 s after boot.
STAT = (
    "{pid} (php-fpm8.2) S {parent} 45 45 0 -1 4194624 67 0 0 0 0 0 0 0 20 0 1 0 604742 206483456 1530"
    " 18446744073709551615 1 1 0 0 0 0 0 4096 4 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
ROLLUP = """41de9000-7fff6e066000 ---p 00000000 00:00 0                              [rollup]
Rss:                6228 kB
Pss:                1481 kB
Pss_Dirty:          1479 kB
Shared_Clean:       2072 kB
Shared_Dirty:       4016 kB
Private_Clean:         0 kB
Private_Dirty:       140 kB
Referenced:         5708 kB
Swap:                  0 kB
"""
STATUS = "Name:\tphp-fpm8.2\nVmPeak:\t  201644 kB\nVmHWM:\t    {hwm} kB\nVmRSS:\t    6228 kB\n"
CGROUP_V1 = "9:name=systemd:/system.slice/php8.2-fpm.service\n8:pids:/system.slice/php8.2-fpm.service\n0::/\n"
CGROUP_V2 = "0::/system.slice/php8.2-fpm.service\n"
TITLE = "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"


class Proc:
    """A folder that looks like /proc."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.add("self", "python3")
        (top / "uptime").write_text("6924.23 7649.62\n")
        (top / "version").write_text("Linux")

    def add(self, pid: int | str, title: str, namespace: str = "mnt:[1]", **files: str) -> Path:
        base = self.top / str(pid)
        (base / "ns").mkdir(parents=True)
        (base / "fd").mkdir()
        # The kernel pads the title with the room of the old arguments.
        (base / "cmdline").write_bytes(os.fsencode(title) + b"\0" * 7)
        (base / "ns/mnt").symlink_to(namespace)
        (base / "ns/net").symlink_to("net:[1]")
        (base / "root").symlink_to("/")
        for name, text in files.items():
            (base / name).write_text(text)
        return base

    def worker(self, pid: int, parent: int, pool: str = "www", hwm: int = 6228, rollup: str = ROLLUP) -> Path:
        return self.add(
            pid,
            f"php-fpm: pool {pool}",
            stat=STAT.format(pid=pid, parent=parent),
            status=STATUS.format(hwm=hwm),
            smaps_rollup=rollup,
        )

    def read(self) -> procfs.Processes:
        return procfs.read(str(self.top))

    def memory(self) -> dict[int, Memory]:
        return self.read().memory.result()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_master_and_its_workers(proc: Proc) -> None:
    base = proc.add(45, TITLE, cgroup=CGROUP_V1)
    (base / "exe").symlink_to("/usr/sbin/php-fpm8.2")
    proc.worker(53, 45)
    proc.worker(52, 45, "a b [c]")
    proc.add(60, "nginx: master process /usr/sbin/nginx")
    proc.add(61, "vi /etc/php/8.2/fpm/php-fpm.conf")
    found = proc.read()
    (master,) = found.masters
    assert (master.pid, master.config_file, master.binary) == (
        45,
        "/etc/php/8.2/fpm/php-fpm.conf",
        "/usr/sbin/php-fpm8.2",
    )
    assert (master.unit, master.root, master.uid) == ("php8.2-fpm.service", "/", os.getuid())
    assert [(worker.pid, worker.parent, worker.pool) for worker in found.workers] == [
        (52, 45, "a b [c]"),
        (53, 45, "www"),
    ]
    assert [worker.age_seconds for worker in found.workers] == [876.81, 876.81]


def test_the_memory_of_a_worker(proc: Proc) -> None:
    proc.worker(52, 45, hwm=26708)
    shared = (2072 + 4016) * 1024
    assert proc.memory()[52] == Memory(6228 * 1024, 1481 * 1024, 140 * 1024, shared, 26708 * 1024 - shared)


def test_the_peak_is_at_least_what_is_private_now(proc: Proc) -> None:
    proc.worker(52, 45, hwm=1)
    assert proc.memory()[52].private_peak_bytes == 140 * 1024


@pytest.mark.parametrize("rollup", ["", "41de9000-7fff6e066000 ---p 00000000 00:00 0 [rollup]\n"])
def test_memory_that_the_kernel_hides_is_unknown(proc: Proc, rollup: str) -> None:
    proc.worker(52, 45, rollup=rollup)
    assert proc.memory()[52] == Memory(1530 * os.sysconf("SC_PAGE_SIZE"))


def test_a_worker_whose_files_are_gone_is_left_out(proc: Proc) -> None:
    (proc.worker(52, 45) / "stat").unlink()
    (proc.worker(53, 45) / "smaps_rollup").unlink()
    proc.add(54, "php-fpm: pool www")
    (proc.top / "54/cmdline").unlink()
    assert {pid: memory.pss_bytes for pid, memory in proc.memory().items()} == {53: None}


def many(proc: Proc) -> list[int]:
    """As many workers as are measured by processes of their own, each of another size; -> their sizes."""
    for number in range(200):
        rollup = ROLLUP.replace("1481", str(1000 + number))
        proc.worker(1000 + number, 45, rollup="" if number == 7 else rollup)
    return [1000 + number for number in range(200)]


def test_many_workers_are_measured_beside_us(proc: Proc) -> None:
    sizes = many(proc)
    measured = proc.memory()
    assert sorted(measured) == sizes
    assert measured.pop(1007) == Memory(1530 * os.sysconf("SC_PAGE_SIZE"))
    assert all(memory.pss_bytes == pid * 1024 for pid, memory in measured.items())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_killed_reader_did_not_write_is_measured_by_us(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = many(proc)
    ours = os.getpid()
    measure = procfs._memory

    def die_on_the_way(base: str, resident: int) -> Memory:
        if base.endswith("1100") and os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return measure(base, resident)

    monkeypatch.setattr(procfs, "_memory", die_on_the_way)
    measured = proc.memory()
    assert sorted(measured) == sizes
    assert measured[1198].pss_bytes == 1198 * 1024


def test_where_no_process_is_to_be_had_we_measure_alone(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    sizes = many(proc)
    monkeypatch.setattr(os, "fork", refuse)
    assert sorted(proc.memory()) == sizes


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (CGROUP_V1, "php8.2-fpm.service"),
        (CGROUP_V2, "php8.2-fpm.service"),
        ("0::/system.slice/docker-0a.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/my.service\n", "my.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("8:pids:/system.slice/other.service\n0::/\n", None),
        ("", None),
    ],
)
def test_the_unit_of_a_master(proc: Proc, cgroup: str, unit: str | None) -> None:
    proc.add(45, TITLE, cgroup=cgroup)
    assert proc.read().masters[0].unit == unit


def test_a_master_in_a_container_has_its_files_there(proc: Proc) -> None:
    proc.add(45, TITLE, namespace="mnt:[2]", cgroup=CGROUP_V2)
    (master,) = proc.read().masters
    assert (master.root, master.unit) == (f"{proc.top}/45/root", None)


@pytest.mark.parametrize(
    ("given", "path"), [("./fpm.conf", "/srv/app/fpm.conf"), ("../x.conf", "/srv/x.conf")]
)
def test_a_relative_path_starts_in_the_folder_of_the_master(proc: Proc, given: str, path: str) -> None:
    base = proc.add(45, f"php-fpm: master process ({given})")
    (base / "cwd").symlink_to("/srv/app")
    assert proc.read().masters[0].config_file == path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["fpm.conf"], "fpm.conf"),
        (["fpm.conf", "other.conf"], "fpm.conf"),
        (["fp", "fpm.conf"], "fp"),
        # Two may be meant: what is left of the name is not guessed to be either.
        (["fpm.conf", "fpm.old"], "fp"),
        ([], "fp"),
    ],
)
def test_a_title_that_was_cut_off(proc: Proc, files: list[str], expected: str) -> None:
    folder = proc.top / "etc"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("")
    proc.add(45, f"php-fpm: master process ({folder}/fp")
    assert proc.read().masters[0].config_file == f"{folder}/{expected}"


def test_the_sockets_of_a_process(proc: Proc) -> None:
    base = proc.add(45, TITLE)
    for number, target in enumerate(["/dev/null", "socket:[2925971]", "pipe:[7]", "socket:[12]"]):
        (base / "fd" / str(number)).symlink_to(target)
    worker = proc.worker(52, 45)
    (worker / "fd/0").symlink_to("socket:[12]")
    top = str(proc.top)
    assert procfs.socket_inodes(45, top) == {2925971, 12}
    assert procfs.listening_inode(52, top) == 12
    assert (procfs.listening_inode(45, top), procfs.listening_inode(99, top)) == (None, None)
    assert procfs.socket_inodes(99, top) == set()


def test_a_network_of_its_own(proc: Proc) -> None:
    other = proc.add(45, TITLE)
    assert procfs.same_network(45, str(proc.top))
    (other / "ns/net").unlink()
    assert procfs.same_network(45, str(proc.top))
    (other / "ns/net").symlink_to("net:[2]")
    assert not procfs.same_network(45, str(proc.top))


def test_the_real_proc_can_be_read() -> None:
    found = procfs.read()
    assert found.masters == sorted(found.masters, key=lambda master: master.pid)
