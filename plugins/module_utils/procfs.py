# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to /proc: PHP-FPM's masters and workers, and the memory of each worker.

A process may end while it is read; it is then left out.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# A master that was started with few variables has no room for its whole title and cuts it off.
_MASTER = re.compile(rb"\S*php-fpm\S*: master process \((.*?)(\)?)")
_WORKER = re.compile(rb"\S*php-fpm\S*: pool (.*)")
# The kernel adds up a process's pages while it is read; Python lets other threads run meanwhile.
_READERS = 4
_PEAK = re.compile(rb"\nVmHWM:\s*([0-9]+) kB")
_SOCKET = re.compile(r"socket:\[([0-9]+)\]\Z")


@dataclass(frozen=True)
class Memory:
    """Sizes in bytes; all but RSS are None where the kernel does not let us see them.

    :param private_peak_bytes: the most private memory in the life of the process. Between two requests
        a worker has little, because PHP gives it back; what is shared hardly shrinks, so that the peak
        of RSS less the shared part is the peak of the rest.
    """

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    private_bytes: int | None = None
    shared_bytes: int | None = None
    private_peak_bytes: int | None = None


@dataclass(frozen=True)
class Worker:
    """A worker: its pool's name as FPM wrote it into the process title (which may cut it off), its age in seconds."""

    pid: int
    parent: int
    pool: str
    age_seconds: float
    memory: Memory


@dataclass(frozen=True)
class Master:
    """A running master.

    :param config_file: as FPM was given it, made absolute. Where the title was cut off, the one file that it
        can mean, else what is left of the name.
    :param binary: the executable; None where not readable.
    :param unit: the systemd service that it runs in; None where there is none.
    :param root: the directory in which its files are, "/" unless it runs in a container of its own.
    :param uid: the user it runs as; None where not readable.
    """

    pid: int
    config_file: str
    binary: str | None
    unit: str | None
    root: str
    uid: int | None


@dataclass(frozen=True)
class Processes:
    masters: list[Master]
    workers: list[Worker]


def read(proc: str = "/proc") -> Processes:
    """Find every master and worker that this user can see."""
    masters: list[Master] = []
    seen: list[tuple[str, int, tuple[int, int, str, float]]] = []
    uptime = _uptime(proc)
    own_namespace = _link(f"{proc}/self/ns/mnt")
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        base = f"{proc}/{name}"
        try:
            with open(f"{base}/cmdline", "rb", buffering=0) as handle:
                title = handle.read(4096).rstrip(b"\0 ")
        except OSError:
            continue
        if b"php-fpm" not in title:
            continue
        found = _MASTER.fullmatch(title)
        if found:
            config_file, is_whole = os.fsdecode(found.group(1)), bool(found.group(2))
            masters.append(_master(int(name), base, config_file, is_whole, own_namespace))
            continue
        found = _WORKER.fullmatch(title)
        stat = _stat(base) if found else None
        if found and stat:
            parent, start, resident = stat
            age = round(max(0.0, uptime - start), 2)
            seen.append((base, resident, (int(name), parent, os.fsdecode(found.group(1)), age)))
    with ThreadPoolExecutor(_READERS) as threads:
        memories = threads.map(lambda one: _memory(one[0], one[1]), seen)
        workers = [Worker(*one[2], memory) for one, memory in zip(seen, memories)]
    masters.sort(key=lambda master: master.pid)
    workers.sort(key=lambda worker: worker.pid)
    return Processes(masters, workers)


def socket_inodes(pid: int, proc: str = "/proc") -> set[int]:
    """The inodes of the sockets a process has open; empty where not readable."""
    folder = f"{proc}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    links = (_link(f"{folder}/{name}") for name in names)
    matches = (_SOCKET.match(link) for link in links if link)
    return {int(match.group(1)) for match in matches if match}


def listening_inode(worker: int, proc: str = "/proc") -> int | None:
    """The inode of the socket a worker accepts on: FastCGI hands it over as descriptor 0."""
    match = _SOCKET.match(_link(f"{proc}/{worker}/fd/0") or "")
    return int(match.group(1)) if match else None


def same_network(pid: int, proc: str = "/proc") -> bool:
    """Whether a process is in our network namespace; one we may not look at is taken to be."""
    other = _link(f"{proc}/{pid}/ns/net")
    return other is None or other == _link(f"{proc}/self/ns/net")


def _master(pid: int, base: str, config_file: str, is_whole: bool, own_namespace: str | None) -> Master:
    namespace = _link(f"{base}/ns/mnt")
    elsewhere = namespace is not None and own_namespace is not None and namespace != own_namespace
    if not config_file.startswith("/"):
        # The title repeats what was typed; the master does not leave the folder it was typed in.
        config_file = os.path.normpath(os.path.join(_link(f"{base}/cwd") or "/", config_file))
    if not is_whole:
        config_file = _completed(f"{base}/root", config_file)
    try:
        uid: int | None = os.stat(base).st_uid
    except OSError:
        uid = None
    return Master(
        pid,
        config_file,
        _link(f"{base}/exe"),
        None if elsewhere else _unit(base),
        f"{base}/root" if elsewhere else "/",
        uid,
    )


def _completed(root: str, beginning: str) -> str:
    """The path that a cut one means: itself where such a file exists, else the one that begins so."""
    if os.path.isfile(root + beginning):
        return beginning
    folder, name = os.path.split(beginning)
    try:
        fits = [entry for entry in os.listdir(root + folder) if entry.startswith(name)]
    except OSError:
        return beginning
    files = [entry for entry in fits if os.path.isfile(os.path.join(root + folder, entry))]
    return os.path.join(folder, files[0]) if len(files) == 1 else beginning


def _unit(base: str) -> str | None:
    try:
        with open(f"{base}/cgroup", encoding="utf-8", errors="surrogateescape") as handle:
            lines = handle.read().splitlines()
    except OSError:
        return None
    for line in lines:
        hierarchy, _sep, path = line.partition(":")[2].partition(":")
        leaf = path.rsplit("/", 1)[-1]
        if hierarchy in ("", "name=systemd") and leaf.endswith(".service"):
            return leaf
    return None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _uptime(proc: str) -> float:
    with open(f"{proc}/uptime", encoding="ascii") as handle:
        return float(handle.read().split()[0])


def _stat(base: str) -> tuple[int, float, int] | None:
    """(parent, start in seconds after boot, resident bytes), from /proc/PID/stat."""
    try:
        with open(f"{base}/stat", "rb", buffering=0) as handle:
            # The name in parentheses may hold anything, so count from the last one.
            fields = handle.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return int(fields[1]), int(fields[19]) / ticks, int(fields[21]) * page


def _memory(base: str, resident: int) -> Memory:
    try:
        with open(f"{base}/smaps_rollup", "rb", buffering=0) as handle:
            lines = handle.read(8192).splitlines()[1:]
    except OSError:
        return Memory(resident)
    sizes = {}
    for line in lines:
        name, _sep, rest = line.partition(b":")
        sizes[name] = int(rest.split()[0]) * 1024
    if b"Pss" not in sizes:
        return Memory(resident)
    private = sizes[b"Private_Clean"] + sizes[b"Private_Dirty"]
    shared = sizes[b"Shared_Clean"] + sizes[b"Shared_Dirty"]
    peak = max(private, (_peak_rss(base) or 0) - shared)
    return Memory(sizes[b"Rss"], sizes[b"Pss"], private, shared, peak)


def _peak_rss(base: str) -> int | None:
    try:
        with open(f"{base}/status", "rb", buffering=0) as handle:
            found = _PEAK.search(handle.read(4096))
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
