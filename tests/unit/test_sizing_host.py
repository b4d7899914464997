# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ports of sizing read, from small trees of /proc, /sys and /etc as real hosts have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.host_memory import (
    HostMemory,
    ProcessMemory,
    ServiceMemory,
    read_host,
    read_process,
    read_services,
    read_units,
    unit_limits,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_gather import (
    read_all,
    read_log,
    read_php_ini,
)
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_inputs import parse_params

MIB = 1024**2
NO_LIMIT_V1 = "9223372036854771712\n"
MEMINFO = "MemTotal:        8388608 kB\nMemFree:          100000 kB\nMemAvailable:    6291456 kB\nSwapTotal:       1048576 kB\n"
STATUS = "Name:\tsystemd\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,6\n"
V2 = "25 1 0:22 / /proc rw - proc proc rw\n30 25 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "851 842 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "852 851 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "855 851 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "861 851 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V1_GROUPS = "9:name=systemd:{path}\n4:memory:{path}\n1:cpu,cpuacct:{path}\n0::{path}\n"


def tree(root: Path, files: dict[str, str]) -> Host:
    for name, text in {"proc/meminfo": MEMINFO, "proc/1/status": STATUS, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(str(root))


def test_a_host_without_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/1/cgroup": "0::/init.scope\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
    }
    expected = HostMemory(8192 * MIB, "MemTotal of /proc/meminfo", 2048 * MIB, 4.0)
    assert read_host(tree(tmp_path, files)) == expected


def test_version_2_in_a_container_with_a_namespace_of_its_own(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/1/cgroup": "0::/init.scope\n",
        "sys/fs/cgroup/memory.max": f"{1024 * MIB}\n",
        "sys/fs/cgroup/memory.high": "max\n",
        "sys/fs/cgroup/memory.current": f"{300 * MIB}\n",
        "sys/fs/cgroup/memory.stat": f"anon 5\nactive_file {80 * MIB}\ninactive_file {20 * MIB}\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    }
    source = "memory limit of the container or slice (/sys/fs/cgroup)"
    assert read_host(tree(tmp_path, files)) == HostMemory(1024 * MIB, source, 200 * MIB, 1.5)


@pytest.mark.parametrize(("root", "shown"), [("/", "docker/abc/"), ("/docker/abc", "")])
def test_version_1_with_and_without_the_whole_hierarchy(tmp_path: Path, root: str, shown: str) -> None:
    memory, cpu = f"sys/fs/cgroup/memory/{shown}", f"sys/fs/cgroup/cpu,cpuacct/{shown}"
    files = {
        "proc/self/mountinfo": V1.format(root=root),
        "proc/1/cgroup": V1_GROUPS.format(path="/docker/abc/init.scope"),
        f"{memory}memory.limit_in_bytes": f"{1024 * MIB}\n",
        f"{memory}memory.usage_in_bytes": f"{300 * MIB}\n",
        f"{memory}memory.stat": f"active_file 1\ntotal_active_file {60 * MIB}\ntotal_inactive_file {40 * MIB}\n",
        f"{memory}init.scope/memory.limit_in_bytes": NO_LIMIT_V1,
        f"{cpu}cpu.cfs_quota_us": "50000\n",
        f"{cpu}cpu.cfs_period_us": "100000\n",
    }
    source = f"memory limit of the container or slice (/sys/fs/cgroup/memory/{shown}".rstrip("/") + ")"
    assert read_host(tree(tmp_path, files)) == HostMemory(1024 * MIB, source, 200 * MIB, 0.5)


def test_a_limit_above_the_host_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V1.format(root="/"),
        "proc/1/cgroup": V1_GROUPS.format(path="/lxc/web"),
        "sys/fs/cgroup/memory/lxc/web/memory.limit_in_bytes": NO_LIMIT_V1,
        "sys/fs/cgroup/memory/lxc/memory.limit_in_bytes": f"{2048 * MIB}\n",
    }
    found = read_host(tree(tmp_path, files))
    assert found is not None
    assert (found.total_bytes, found.used_bytes) == (2048 * MIB, None)


def test_a_limit_above_the_ram_is_none(tmp_path: Path) -> None:
    files = {"proc/self/mountinfo": V2, "proc/1/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{1 << 44}\n"}
    found = read_host(tree(tmp_path, files))
    assert found is not None
    assert found.source == "MemTotal of /proc/meminfo"


def test_a_cgroup_outside_the_namespace_falls_back_to_the_mount(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/1/cgroup": "0::/../../other\n",
        "sys/fs/cgroup/memory.max": f"{512 * MIB}\n",
    }
    found = read_host(tree(tmp_path, files))
    assert found is not None
    assert found.total_bytes == 512 * MIB


def test_nothing_to_read(tmp_path: Path) -> None:
    assert read_host(Host(str(tmp_path))) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  1024 kB\n")
    assert read_host(Host(str(tmp_path))) == HostMemory(MIB, "MemTotal of /proc/meminfo", None, None)


@pytest.mark.parametrize(
    ("shown", "memory", "source", "cpus"),
    [
        ({"MemoryMax": "infinity", "MemoryHigh": "infinity", "CPUQuotaPerSecUSec": "infinity"}, None, "", None),
        ({"MemoryMax": str(700 * MIB), "CPUQuotaPerSecUSec": "1.500000s"}, 700 * MIB, "MemoryMax", 1.5),
        ({"MemoryMax": str(700 * MIB), "MemoryHigh": str(600 * MIB), "CPUQuotaPerSecUSec": "500ms"}, 600 * MIB,
         "MemoryHigh", 0.5),
        ({"MemoryMax": "18446744073709551615", "CPUQuotaPerSecUSec": "1min 4s"}, None, "", 64.0),
    ],
)  # fmt: skip
def test_limits_that_systemd_shows(
    tmp_path: Path, shown: dict[str, str], memory: int | None, source: str, cpus: float | None
) -> None:
    limits = unit_limits(Host(str(tmp_path)), shown)
    assert (limits.memory_bytes, limits.memory_source, limits.cpus) == (memory, source, cpus)


def test_limits_of_a_slice_count_for_the_unit_and_the_container_does_not(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V2,
        "proc/1/cgroup": "0::/init.scope\n",
        "sys/fs/cgroup/memory.max": f"{256 * MIB}\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/web.slice/memory.max": f"{900 * MIB}\n",
        "sys/fs/cgroup/web.slice/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/web.slice/php.service/memory.max": "max\n",
    }
    limits = unit_limits(
        tree(tmp_path, files), {"ControlGroup": "/web.slice/php.service", "MemoryMax": "infinity"}
    )
    assert (limits.memory_bytes, limits.cpus) == (900 * MIB, 3.0)
    assert limits.memory_source == "memory limit of /sys/fs/cgroup/web.slice"


ROLLUP = (
    "55f4ef2fa000-7ffc60a40000 ---p 00000000 00:00 0  [rollup]\n"
    "Rss:               9212 kB\nPss:                917 kB\nPss_Dirty:          736 kB\nPss_Anon:           713 kB\n"
    "Pss_File:           181 kB\nPss_Shmem:           22 kB\nShared_Clean:      4720 kB\nShared_Dirty:      4132 kB\n"
    "Private_Clean:        4 kB\nPrivate_Dirty:      356 kB\n"
)
STAT = "7 (php-fpm: (a) b) S 1 7 7 0 -1 4194624 9 0 0 0 {user} {system} 0 0 20 0 1 0 5 1 1\n"


def test_a_worker_between_two_requests_is_judged_by_its_peak(tmp_path: Path) -> None:
    # Read from a worker that had just served 200 requests of 20 MiB each.
    files = {
        "proc/7/smaps_rollup": ROLLUP,
        "proc/7/status": "Name:\tphp-fpm\nVmHWM:\t   29568 kB\nVmRSS:\t    9212 kB\n",
        "proc/7/stat": STAT.format(user=250, system=50),
    }
    process = read_process(tree(tmp_path, files), 7)
    assert process == ProcessMemory(
        7, 9212 * 1024, 917 * 1024, 360 * 1024, 8852 * 1024, 735 * 1024, 29568 * 1024, 3.0
    )
    assert process.private_peak_bytes == (29568 - 8852) * 1024


def test_old_kernels_and_closed_doors(tmp_path: Path) -> None:
    host = tree(tmp_path, {"proc/7/smaps_rollup": "x [rollup]\nRss: 10 kB\nPss: 8 kB\nPrivate_Dirty: 6 kB\n"})
    process = read_process(host, 7)
    assert process is not None
    assert (process.anon_bytes, process.peak_rss_bytes, process.cpu_seconds) == (None, None, None)
    assert process.private_peak_bytes == 6 * 1024
    assert read_process(host, 8) is None


def test_services_by_process_name(tmp_path: Path) -> None:
    files = {
        "proc/7/comm": "nginx\n", "proc/7/smaps_rollup": "x\nPss: 100 kB\n",
        "proc/8/comm": "nginx\n", "proc/8/smaps_rollup": "x\nPss: 50 kB\n",
        # The kernel cuts names at 15 bytes; this one may not be read.
        "proc/9/comm": "a-rather-long-n\n",
    }  # fmt: skip
    assert read_services(
        tree(tmp_path, files), ["nginx", "redis-server", "a-rather-long-name", "mysql.service"]
    ) == [
        ServiceMemory("nginx", (7, 8), 150 * 1024),
        ServiceMemory("redis-server", (), 0),
        ServiceMemory("a-rather-long-name", (9,), None),
        ServiceMemory("mysql.service", (), 0),
    ]


def test_a_tree_has_no_units(tmp_path: Path) -> None:
    assert read_units(Host(str(tmp_path)), ["php8.2-fpm.service"]) == {}


@pytest.mark.parametrize(
    ("files", "version", "expected"),
    [
        ({"etc/php/8.2/fpm/php.ini": "memory_limit = 128M\n;memory_limit = 1G\n",
          "etc/php/8.2/fpm/conf.d/10-opcache.ini": "zend_extension=opcache.so\nopcache.memory_consumption=64\n",
          "etc/php/8.2/fpm/conf.d/99-own.ini": 'memory_limit = "256M" ; more\n'}, "8.2",
         {"memory_limit": ("256M", "/etc/php/8.2/fpm/conf.d/99-own.ini"),
          "opcache.memory_consumption": ("64", "/etc/php/8.2/fpm/conf.d/10-opcache.ini")}),
        ({"etc/opt/remi/php84/php.ini": "memory_limit=64M\n", "etc/php.ini": "memory_limit=32M\n"}, "8.4",
         {"memory_limit": ("64M", "/etc/opt/remi/php84/php.ini")}),
        ({"etc/php.ini": "memory_limit=32M\n"}, "8.4", {"memory_limit": ("32M", "/etc/php.ini")}),
        ({}, "8.4", {}),
    ],
)  # fmt: skip
def test_php_ini(
    tmp_path: Path, files: dict[str, str], version: str, expected: dict[str, tuple[str, str]]
) -> None:
    assert read_php_ini(tree(tmp_path, files), version) == expected


def test_an_access_log_of_the_tree(tmp_path: Path) -> None:
    host = tree(tmp_path, {"var/log/a.log": "[21/Nov/2026:03:41:07 +0000] urt=0.500\n" * 240})
    found = read_log(host, "/var/log/a.log", None)
    assert found is not None
    assert (found.requests, found.concurrency) == (240, 2.0)
    with pytest.raises(
        StackError, match=r"The access log /var/log/b\.log cannot be read: No such file or directory"
    ):
        read_log(host, "/var/log/b.log", None)


def test_only_processes_of_fpm_are_looked_at(tmp_path: Path) -> None:
    files = {
        "proc/99/cmdline": "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)\0",
        "proc/99/smaps_rollup": ROLLUP,
        "proc/100/cmdline": "php-fpm: pool www\0", "proc/100/smaps_rollup": ROLLUP,
        # The number has gone to somebody else since the facts were gathered.
        "proc/101/cmdline": "sleep\0", "proc/101/smaps_rollup": ROLLUP,
        "proc/200/cmdline": "php-fpm: pool www\0", "proc/200/smaps_rollup": ROLLUP,
    }  # fmt: skip
    facts = {
        "fpm_pools": [
            {"pid": 99, "memory": {"workers": [{"pid": 100}, {"pid": 101}, {"pid": 102}]}},
            {"pid": 199, "memory": {"workers": [{"pid": 200}]}},
        ],
        "fpm_masters": [{"pid": 99, "version": "8.2"}, {"pid": 199, "version": "8.4", "in_container": True}],
    }
    readings = read_all(tree(tmp_path, files), parse_params({}), facts)
    assert sorted(readings.processes) == [99, 100]
    assert sorted(readings.php_ini) == ["8.2", "8.4"]
    nothing = read_all(
        tree(tmp_path, {}),
        parse_params({"measure": False, "total_memory": "1G", "pools": [{"name": "a"}]}),
        facts,
    )
    assert (nothing.host, nothing.processes) == (None, {})
