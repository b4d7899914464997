# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to /proc: PHP-FPM's masters and workers, and the memory of each worker.

A process may end while it is read; it is then left out.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

# A master that was started with few variables has no room for its whole title and cuts it off.
_MASTER = re.compile(rb"\S*php-fpm\S*: master process \((.*?)(\)?)")
_WORKER = re.compile(rb"\S*php-fpm\S*: pool (.*)")
# Adding up the pages of one worker keeps a CPU busy for a tenth of a millisecond, or for ten where it is
# large. From this many workers on, processes of their own do it while we read the configuration.
_MANY = 64
_READERS = 2
_SIZES = re.compile(
    rb"^(Rss|Pss|Shared_Clean|Shared_Dirty|Private_Clean|Private_Dirty): *([0-9]+) kB$", re.MULTILINE
)
_PEAK = re.compile(rb"\nVmHWM:\s*([0-9]+) kB")
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
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
    rss_bytes: int


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
    """:param memory: what the workers take; it is being measured from the moment of reading on."""

    masters: list[Master]
    workers: list[Worker]
    memory: Measurement


class Measurement:
    """Measures the memory of many workers beside the work of its caller."""

    def __init__(self, workers: list[Worker], proc: str = "/proc") -> None:
        self._proc = proc
        self._workers = workers
        self._found: dict[int, Memory] | None = None
        # Each reader: its pid, the pipe it writes to, and its share of the workers.
        self._readers: list[tuple[int, int, list[Worker]]] = []
        if len(workers) >= _MANY:
            for number in range(_READERS):
                self._start(workers[number::_READERS])

    def result(self) -> dict[int, Memory]:
        """The memory of each worker by its pid."""
        if self._found is None:
            if not self._readers:
                self._found = _memories(self._workers, self._proc)
            else:
                self._found = {}
                for reader in self._readers:
                    self._found.update(self._end(*reader))
        return self._found

    def _start(self, share: list[Worker]) -> None:
        out, into = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            # No process is to be had: this share is read when it is asked for.
            os.close(out)
            pid, out = 0, -1
        else:
            if pid == 0:
                _write_and_exit(into, share, self._proc)
        os.close(into)
        self._readers.append((pid, out, share))

    def _end(self, pid: int, out: int, share: list[Worker]) -> dict[int, Memory]:
        found: dict[int, Memory] = {}
        if pid:
            with open(out, "rb") as pipe:
                lines = pipe.read().split(b"\n")
            os.waitpid(pid, 0)
            for line in lines[:-1]:
                worker, *sizes = (None if word == b"-" else int(word) for word in line.split())
                found[worker or 0] = Memory(*sizes)
        # A reader that was killed leaves workers out.
        return {**found, **_memories([worker for worker in share if worker.pid not in found], self._proc)}


def _write_and_exit(pipe: int, workers: list[Worker], proc: str) -> None:
    """The whole life of a reader: a line for each worker. It never returns into the code of its parent."""
    try:
        for worker in workers:
            memory = _memory(f"{proc}/{worker.pid}", worker.rss_bytes)
            sizes = (worker.pid, *(getattr(memory, name) for name in Memory.__dataclass_fields__))
            line = " ".join(["-" if size is None else str(size) for size in sizes])
            os.write(pipe, line.encode() + b"\n")
    finally:
        os._exit(0)


def read(proc: str = "/proc") -> Processes:
    """Find every master and worker that this user can see."""
    masters: list[Master] = []
    workers: list[Worker] = []
    uptime = float(_content(f"{proc}/uptime").split()[0])
    own_namespace = _link(f"{proc}/self/ns/mnt")
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        base = f"{proc}/{name}"
        try:
            title = _content(f"{base}/cmdline").rstrip(b"\0 ")
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
            workers.append(Worker(int(name), parent, os.fsdecode(found.group(1)), age, resident))
    masters.sort(key=lambda master: master.pid)
    workers.sort(key=lambda worker: worker.pid)
    return Processes(masters, workers, Measurement(workers, proc))


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


def _content(path: str) -> bytes:
    """The beginning of a small file, without what open() adds: thousands of them are read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 8192)
    finally:
        os.close(descriptor)


def _stat(base: str) -> tuple[int, float, int] | None:
    """(parent, start in seconds after boot, resident bytes), from /proc/PID/stat."""
    try:
        # The name in parentheses may hold anything, so count from the last one.
        fields = _content(f"{base}/stat").rpartition(b")")[2].split(None, 22)
    except OSError:
        return None
    return int(fields[1]), int(fields[19]) / _TICKS, int(fields[21]) * _PAGE


def _memories(workers: list[Worker], proc: str) -> dict[int, Memory]:
    return {worker.pid: _memory(f"{proc}/{worker.pid}", worker.rss_bytes) for worker in workers}


def _memory(base: str, resident: int) -> Memory:
    try:
        sizes = {name: int(size) * 1024 for name, size in _SIZES.findall(_content(f"{base}/smaps_rollup"))}
        peak = _PEAK.search(_content(f"{base}/status"))
    except OSError:
        return Memory(resident)
    if b"Pss" not in sizes:
        return Memory(resident)
    private = sizes[b"Private_Clean"] + sizes[b"Private_Dirty"]
    shared = sizes[b"Shared_Clean"] + sizes[b"Shared_Dirty"]
    most = int(peak.group(1)) * 1024 if peak else 0
    return Memory(sizes[b"Rss"], sizes[b"Pss"], private, shared, max(private, most - shared))
