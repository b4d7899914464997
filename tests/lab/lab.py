#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts: containers with systemd as PID 1.

    lab.py up [--name NAME] [--image stack|host|twin] [--suite bookworm|bullseye|trixie] [--memory 1g] [--fresh]
    lab.py down [--name NAME | --all]
    lab.py inventory NAME...          an Ansible inventory on standard output

`up` returns once systemd says that the host has booted, and is a no-op when
the host runs already; --fresh replaces it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

# A lab host boots in two or three seconds.
BOOT_SECONDS = 60
LABEL = "org.webops.php-stack.lab"
DEFAULT_NAME = "php-stack-lab"
DEFAULT_SUITE = "bookworm"
# What systemd needs in a container where --privileged is refused.
RUN_OPTIONS = [
    "--cap-add", "SYS_ADMIN",
    "--security-opt", "seccomp=unconfined",
    "--security-opt", "apparmor=unconfined",
    "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
    "-v", "/sys/fs/cgroup:/sys/fs/cgroup:ro",
]  # fmt: skip


def docker(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *args], check=False, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"php_stack: docker {args[0]} failed: {done.stderr.strip()}")
    return done


def running(name: str) -> bool:
    done = docker("inspect", "-f", "{{.State.Running}}", name, check=False)
    return done.returncode == 0 and done.stdout.strip() == "true"


def allow_many_hosts() -> None:
    """Each systemd takes several inotify instances, and the kernel's default of 128 a user ends at some twenty hosts."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    # Not root, or a sandbox that keeps its limits: a few hosts work all the same.
    with contextlib.suppress(OSError, ValueError):
        if int(limit.read_text()) < 1024:
            limit.write_text("1024")


def wait_booted(name: str) -> None:
    """Wait until systemd has finished booting; a failed unit is the caller's business."""
    begin = time.monotonic()
    said = ""
    while time.monotonic() - begin < BOOT_SECONDS:
        # exec fails, and --wait has nothing to wait for, until PID 1 listens on D-Bus.
        done = docker("exec", name, "sh", "-c",
                      "for i in $(seq 100); do [ -S /run/systemd/private ] && break; sleep 0.1; done;"
                      f" exec timeout {BOOT_SECONDS} systemctl is-system-running --wait", check=False)  # fmt: skip
        said = f"{done.stdout.strip()} {done.stderr.strip()}".strip()
        if done.stdout.strip() in ("running", "degraded"):
            return
    jobs = docker("exec", name, "systemctl", "list-jobs", "--no-legend", check=False).stdout
    sys.exit(f"php_stack: the lab host {name} did not boot within {BOOT_SECONDS} s: {said}\n{jobs}")


def enable_ipv6(name: str) -> None:
    """Give the host ::1, which the engine leaves out; a kernel without IPv6 has none to give."""
    docker("exec", name, "sh", "-c",
           "mount -o remount,bind,rw /proc/sys && echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6;"
           " mount -o remount,bind,ro /proc/sys", check=False)  # fmt: skip


def up(name: str, image: str, memory: str | None, fresh: bool, suite: str = DEFAULT_SUITE) -> None:
    if fresh:
        docker("rm", "-f", "-v", name, check=False)
    if not running(name):
        allow_many_hosts()
        docker("rm", "-f", "-v", name, check=False)
        # A host whose memory runs out reads the kernel's word about it, as any host of its own does.
        limit = ["--memory", memory, "--memory-swap", memory, "--cap-add", "SYSLOG"] if memory else []
        options = [*RUN_OPTIONS, *limit]
        docker("run", "-d", "--name", name, "--hostname", name, "--label", LABEL, *options,
               f"php-stack-{image}:{suite}")  # fmt: skip
    wait_booted(name)
    enable_ipv6(name)


def down(names: list[str]) -> None:
    for name in names:
        docker("rm", "-f", "-v", name, check=False)


def inventory(names: list[str]) -> str:
    hosts = {name: {"ansible_connection": "community.docker.docker",
                    "ansible_python_interpreter": "/usr/bin/python3"} for name in names}  # fmt: skip
    return json.dumps({"all": {"hosts": hosts}}, indent=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up")
    command.add_argument("--name", default=DEFAULT_NAME)
    command.add_argument("--image", default="stack")
    command.add_argument("--suite", default=DEFAULT_SUITE)
    command.add_argument("--memory")
    command.add_argument("--fresh", action="store_true")
    command = commands.add_parser("down")
    command.add_argument("--name", default=DEFAULT_NAME)
    command.add_argument("--all", action="store_true")
    command = commands.add_parser("inventory")
    command.add_argument("names", nargs="+")
    args = parser.parse_args()
    if args.command == "up":
        up(args.name, args.image, args.memory, args.fresh, args.suite)
    elif args.command == "down":
        names = docker("ps", "-aq", "--filter", f"label={LABEL}").stdout.split() if args.all else [args.name]
        down(names)
    else:
        print(inventory(args.names))


if __name__ == "__main__":
    main()
