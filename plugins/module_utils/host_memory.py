# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port that reads how much memory and CPU a host really has, and who uses it.

Reads /proc, /sys/fs/cgroup (version 1, 2 and the hybrid of both) and, for
units, ``systemctl show``. It never judges: what cannot be read is None.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host

_KIB = 1024
# The kernel cuts the name in /proc/PID/comm after this many bytes.
_COMM_MAX = 15


@dataclass(frozen=True)
class HostMemory:
    """Sizes in bytes.

    :param total_bytes: what may be used here: the smaller of the RAM and the cgroup's limit.
    :param source: where total_bytes comes from, in words.
    :param used_bytes: memory in use inside that total that the kernel cannot simply drop
        (page cache is not counted), or None.
    :param cpus: CPUs that may be used, a cgroup's quota included; a fraction is possible.
    """

    total_bytes: int
    source: str
    used_bytes: int | None
    cpus: float | None


@dataclass(frozen=True)
class UnitLimits:
    """The limits that hold for one unit and its slices, below the host's own."""

    memory_bytes: int | None
    memory_source: str
    cpus: float | None


@dataclass(frozen=True)
class ProcessMemory:
    """One process; sizes in bytes.

    :param anon_bytes: the proportional share of what is not backed by a file (None on old kernels).
    :param peak_rss_bytes: the highest RSS in the life of the process.
    :param cpu_seconds: user and system time so far.
    """

    pid: int
    rss_bytes: int
    pss_bytes: int
    private_bytes: int
    shared_bytes: int
    anon_bytes: int | None
    peak_rss_bytes: int | None
    cpu_seconds: float | None

    @property
    def private_peak_bytes(self) -> int:
        """The most private memory the process has had.

        The allocator gives memory back after each request, so a look between
        two requests sees far too little. What other processes share with this
        one hardly shrinks: the peak of RSS less that share is the peak of the rest.
        """
        if self.peak_rss_bytes is None:
            return self.private_bytes
        return max(self.private_bytes, self.peak_rss_bytes - self.shared_bytes)


@dataclass(frozen=True)
class ServiceMemory:
    """What the processes of one named service use together (PSS); pids is empty when it does not run.

    :param pss_bytes: None when a process could not be read (another user's, without root).
    """

    name: str
    pids: tuple[int, ...]
    pss_bytes: int | None


@dataclass(frozen=True)
class _Mount:
    root: str
    point: str
    version: int


def _read(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except OSError:
        return None


def _fields(text: str) -> dict[str, int]:
    """``Name:   12 kB`` lines (as /proc has them) as bytes."""
    found = re.findall(r"^([\w()]+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(value) * _KIB for name, value in found}


def _mounts(host: Host) -> dict[str, _Mount]:
    """Where each version 1 controller ("memory", "cpu") and version 2 ("") is mounted."""
    mounts: dict[str, _Mount] = {}
    for line in (_read(host, "/proc/self/mountinfo") or "").splitlines():
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            mounts.setdefault("", _Mount(fields[3], fields[4], 2))
        elif kind[0] == "cgroup":
            for controller in kind[2].split(","):
                mounts.setdefault(controller, _Mount(fields[3], fields[4], 1))
    return mounts


def _directories(host: Host, controller: str, path: str | None = None) -> tuple[int, list[str]]:
    """The cgroup version, and the folders from the cgroup up to the top of its mount.

    :param path: a cgroup's path as /proc/PID/cgroup writes it; PID 1's by default.
    """
    mounts = _mounts(host)
    mount = mounts.get(controller) or mounts.get("")
    if mount is None:
        return 0, []
    if path is None:
        wanted = controller if mount.version == 1 else ""
        for line in (_read(host, "/proc/1/cgroup") or "").splitlines():
            _number, names, candidate = line.split(":", 2)
            if wanted in names.split(","):
                path = candidate
    path = (path or "/").rstrip("/")
    if path.endswith("/init.scope"):
        # systemd moves itself one level down; the host is the level above.
        path = path[: -len("/init.scope")]
    root = mount.root.rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        # The mount shows only a part of the hierarchy (a container's own).
        path = path[len(root) :]
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    folders = ["/".join([mount.point, *parts[:size]]) for size in range(len(parts), -1, -1)]
    return mount.version, folders


def _memory_limit(host: Host, version: int, folder: str) -> int | None:
    names = ["memory.limit_in_bytes"] if version == 1 else ["memory.max", "memory.high"]
    values = []
    for name in names:
        text = (_read(host, f"{folder}/{name}") or "").strip()
        # Version 1 writes "no limit" as the largest number of pages.
        if text.isdigit() and int(text) < 1 << 62:
            values.append(int(text))
    return min(values) if values else None


def _cpu_limit(host: Host, version: int, folder: str) -> float | None:
    if version == 1:
        quota = (_read(host, f"{folder}/cpu.cfs_quota_us") or "").strip()
        period = (_read(host, f"{folder}/cpu.cfs_period_us") or "").strip()
    else:
        quota, _space, period = (_read(host, f"{folder}/cpu.max") or "").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _cgroup_used(host: Host, version: int, folder: str) -> int | None:
    usage = (
        _read(host, f"{folder}/{'memory.usage_in_bytes' if version == 1 else 'memory.current'}") or ""
    ).strip()
    stat = _read(host, f"{folder}/memory.stat")
    if not usage.isdigit() or stat is None:
        return None
    values = {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", stat, re.MULTILINE)}
    # Version 1 has the sums over the groups below under a prefix.
    prefix = "total_" if version == 1 else ""
    cache = values.get(f"{prefix}active_file", 0) + values.get(f"{prefix}inactive_file", 0)
    return max(0, int(usage) - cache)


def _allowed_cpus(host: Host) -> int | None:
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)$", _read(host, "/proc/1/status") or "", re.MULTILINE)
    if not match:
        return None
    count = 0
    for part in match.group(1).split(","):
        first, _dash, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def read_host(host: Host) -> HostMemory | None:
    """The host's memory and CPUs; None where /proc/meminfo cannot be read."""
    info = _fields(_read(host, "/proc/meminfo") or "")
    if "MemTotal" not in info:
        return None
    total, source = info["MemTotal"], "MemTotal of /proc/meminfo"
    available = info.get("MemAvailable")
    used = total - available if available is not None else None
    version, folders = _directories(host, "memory")
    for folder in folders:
        limit = _memory_limit(host, version, folder)
        if limit is not None and limit < total:
            total, source = limit, f"memory limit of the container or slice ({folder})"
            used = _cgroup_used(host, version, folder)
    cpus: float | None = _allowed_cpus(host)
    version, folders = _directories(host, "cpu")
    for folder in folders:
        quota = _cpu_limit(host, version, folder)
        if quota is not None:
            cpus = quota if cpus is None else min(cpus, quota)
    return HostMemory(total, source, used, cpus)


def read_units(host: Host, units: list[str]) -> dict[str, UnitLimits]:
    """The limits of each unit that systemd knows, by name; empty without systemd."""
    names = sorted(set(units))
    if not names or not host.live:
        return {}
    done = host.run(
        ["systemctl", "show", "-p", "Id,ControlGroup,MemoryMax,MemoryHigh,CPUQuotaPerSecUSec", "--", *names]
    )
    if done.rc != 0:
        return {}
    found = {}
    for block in done.stdout.strip().split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if shown.get("Id"):
            found[shown["Id"]] = unit_limits(host, shown)
    return found


def unit_limits(host: Host, shown: dict[str, str]) -> UnitLimits:
    """From what `systemctl show` says, and from the cgroups of a running unit: its slices may have limits too."""
    limits = [(int(shown[key]), key) for key in ("MemoryMax", "MemoryHigh") if shown.get(key, "").isdigit()]
    limits = [(value, key) for value, key in limits if value < 1 << 62]
    quotas = []
    match = re.fullmatch(r"(?:(\d+)min ?)?(?:([\d.]+)(us|ms|s))?", shown.get("CPUQuotaPerSecUSec", ""))
    if match and (match.group(1) or match.group(2)):
        scale = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
        seconds = float(match.group(2) or 0) * scale.get(match.group(3) or "s", 1.0)
        quotas.append(60 * int(match.group(1) or 0) + seconds)
    group = shown.get("ControlGroup", "")
    if group:
        version, folders = _directories(host, "memory", group)
        above = set(_directories(host, "memory")[1])
        for folder in folders:
            limit = _memory_limit(host, version, folder) if folder not in above else None
            if limit is not None:
                limits.append((limit, f"memory limit of {folder}"))
        version, folders = _directories(host, "cpu", group)
        above = set(_directories(host, "cpu")[1])
        quotas += [
            quota
            for folder in folders
            if folder not in above and (quota := _cpu_limit(host, version, folder)) is not None
        ]
    memory, source = min(limits, default=(None, ""), key=lambda entry: entry[0] or 0)
    return UnitLimits(memory, source, min(quotas, default=None))


def read_process(host: Host, pid: int) -> ProcessMemory | None:
    """The memory of one process; None when it is gone or may not be read (not root)."""
    rollup = _fields(_read(host, f"/proc/{pid}/smaps_rollup") or "")
    if "Pss" not in rollup:
        return None
    anon = rollup["Pss_Anon"] + rollup.get("Pss_Shmem", 0) if "Pss_Anon" in rollup else None
    private = rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0)
    cpu = None
    # The name in parentheses may hold anything: count from the last one.
    stat = (_read(host, f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    if len(stat) > 12:
        cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return ProcessMemory(
        pid=pid,
        rss_bytes=rollup.get("Rss", 0),
        pss_bytes=rollup["Pss"],
        private_bytes=private,
        shared_bytes=rollup.get("Shared_Clean", 0) + rollup.get("Shared_Dirty", 0),
        anon_bytes=anon,
        peak_rss_bytes=_fields(_read(host, f"/proc/{pid}/status") or "").get("VmHWM"),
        cpu_seconds=cpu,
    )


def read_services(host: Host, names: list[str]) -> list[ServiceMemory]:
    """The memory of each named service, in the order asked.

    :param names: a process name ("mariadbd", "redis-server") or a unit ("mysql.service").
    """
    by_comm: dict[str, list[int]] = {}
    if names:
        for entry in host.listdir("/proc"):
            comm = (_read(host, f"/proc/{entry}/comm") or "").strip() if entry.isdigit() else ""
            if comm:
                by_comm.setdefault(comm, []).append(int(entry))
    services = []
    for name in names:
        pids = _unit_pids(host, name) if "." in name else by_comm.get(name[:_COMM_MAX], [])
        read = [read_process(host, pid) for pid in pids]
        known = [process.pss_bytes for process in read if process]
        # A process that ended meanwhile is no gap; one that may not be read is.
        gap = any(not process and host.exists(f"/proc/{pid}") for pid, process in zip(pids, read))
        services.append(ServiceMemory(name, tuple(pids), None if gap else sum(known)))
    return services


def _unit_pids(host: Host, unit: str) -> list[int]:
    if not host.live:
        return []
    done = host.run(["systemctl", "show", "-p", "ControlGroup", "--value", "--", unit])
    group = done.stdout.strip()
    if done.rc != 0 or not group:
        return []
    _version, folders = _directories(host, "memory", group)
    return [int(pid) for pid in (_read(host, f"{folders[0]}/cgroup.procs") or "").split()] if folders else []
