#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two deployments at once: how often is old code served after "reload" has returned?

    bench_reload_race.py [--pairs 60] [--container NAME] [--json FILE]

Each pair is two deployments that overlap. Each one writes its own PHP file, asks for
a reload in one of the ways below, and then asks PHP what it serves, with
opcache.validate_timestamps=0 as on production hosts, and with visitors all the time. "stale" counts deployments that met
old code when their command had returned; "lost" those that still meet it after both
commands have returned and PHP-FPM has settled: nobody will ever reload for them.

The measuring half of this file runs inside the lab host.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

UNIT = "php8.2-fpm"
WEB = "/srv/race"
SOCKET = "/run/php/php8.2-fpm.sock"
LOCK = "/run/lock/php-reload.lock"
METHODS: dict[str, list[str]] = {
    "flock --nonblock, systemctl reload": ["flock", "--nonblock", LOCK, "systemctl", "reload", UNIT],
    "the same, lock held for 0.3 s": ["flock", "-n", LOCK, "sh", "-c", f"systemctl reload {UNIT}; sleep 0.3"],
    "php-fpm-reload": ["/usr/local/sbin/php-fpm-reload", UNIT],
}
OURS = "php-fpm-reload"
HELD = "the same, lock held for 0.3 s"
INI = """opcache.enable=1
opcache.validate_timestamps=0
opcache.file_update_protection=0
"""


# -- inside the lab host --------------------------------------------------------------------------


def deploy(name: str, version: int) -> None:
    """Put a new version in place as a deployment does: whole, and with a time stamp of the past."""
    fresh = f"{WEB}/{name}.new"
    with open(fresh, "w", encoding="ascii") as handle:
        handle.write(f"<?php echo {version};\n")
    os.utime(fresh, (1_000_000_000, 1_000_000_000))
    os.rename(fresh, f"{WEB}/{name}.php")


def served(name: str) -> int:
    """Which version PHP serves now. Waits through a reload that cuts requests, since that is not counted here."""
    import fastcgi

    path = f"{WEB}/{name}.php"
    address = fastcgi.Address.parse(SOCKET)
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = fastcgi.request(address, fastcgi.status_params(path, ""), 5, 10)
            if answer.status == 200 and answer.body:
                return int(answer.body)
        except fastcgi.FastcgiError:
            if time.monotonic() > deadline:
                raise


def visit(over: threading.Event) -> None:
    """A site's visitors: without them nobody asks for old code, so that no OPcache holds it."""
    import fastcgi

    address = fastcgi.Address.parse(SOCKET)
    while not over.is_set():
        for name in ("a", "b"):
            with contextlib.suppress(fastcgi.FastcgiError):
                fastcgi.request(address, fastcgi.status_params(f"{WEB}/{name}.php", ""), 5, 10)
        over.wait(0.005)


def settle() -> None:
    """Wait until the master has not started anew for half a second."""
    from fpm_reload import master, unit

    since = time.monotonic()
    before = master.generation(unit.show(UNIT).pid)
    while time.monotonic() - since < 0.5:
        now = master.generation(unit.show(UNIT).pid)
        if before is None or now is None or before.replaced_by(now):
            before, since = now, time.monotonic()
        time.sleep(0.02)


def measure(method: str, pairs: int) -> dict[str, Any]:
    """Run the pairs, the second deployment of each a little later than the first, by 0 to 285 ms."""
    counts = {"method": method, "deployments": 2 * pairs, "skipped": 0, "stale": 0, "lost": 0}
    started = time.monotonic()
    over = threading.Event()
    visitors = threading.Thread(target=visit, args=(over,))
    visitors.start()
    for pair in range(pairs):
        wanted = {"a": pair + 1, "b": pair + 1}

        def one(name: str, delay: float, version: int) -> None:
            time.sleep(delay)
            deploy(name, version)
            done = subprocess.run(METHODS[method], capture_output=True, check=False)
            counts["skipped"] += done.returncode != 0
            counts["stale"] += served(name) != version

        threads = [
            threading.Thread(target=one, args=("a", 0.0, pair + 1)),
            threading.Thread(target=one, args=("b", (pair % 20) * 0.015, pair + 1)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        settle()
        counts["lost"] += sum(served(name) != version for name, version in wanted.items())
    over.set()
    visitors.join()
    return {**counts, "seconds": round(time.monotonic() - started, 1)}


def inside(method: str, pairs: int) -> None:
    sys.path.insert(0, "/usr/local/lib/php_stack")
    os.makedirs(WEB, exist_ok=True)
    with open("/etc/php/8.2/fpm/conf.d/99-race.ini", "w", encoding="ascii") as handle:
        handle.write(INI)
    for name in ("a", "b"):
        deploy(name, 0)
    subprocess.run(["systemctl", "reset-failed", UNIT], check=False)
    subprocess.run(["systemctl", "restart", UNIT], check=True)
    # Without this the whole measurement would prove nothing.
    assert (served("a"), served("b")) == (0, 0)
    deploy("a", -1)
    assert served("a") == 0, "OPcache looks at time stamps: no code is ever stale here"
    print(json.dumps(measure(method, pairs)))
    os.unlink("/etc/php/8.2/fpm/conf.d/99-race.ini")


# -- outside --------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent.parent  # also from standard input, inside


def docker(*args: str, stdin: str | None = None) -> str:
    return subprocess.run(["docker", *args], input=stdin, capture_output=True, text=True, check=True).stdout


def run_in(container: str, method: str, pairs: int) -> dict[str, Any]:
    """Measure one method on a lab host that has php-fpm-reload installed."""
    source = Path(__file__).read_text(encoding="utf-8")
    out = docker(
        "exec", "-i", container, "python3", "-", "--inside", method, "--pairs", str(pairs), stdin=source
    )
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def install(container: str) -> None:
    """Bring php-fpm-reload to a lab host the way users get it: by the role."""
    inventory = ROOT / ".cache" / f"{container}.json"
    inventory.parent.mkdir(exist_ok=True)
    lab = [sys.executable, str(ROOT / "tests/lab/lab.py")]
    done = subprocess.run([*lab, "inventory", container], capture_output=True, text=True, check=True)
    inventory.write_text(done.stdout, encoding="utf-8")
    subprocess.run(
        [
            str(ROOT / ".venv/bin/ansible"), "all", "-i", str(inventory), "-m", "include_role",
            "-a", "name=webops.php_stack.fpm_reload", "-e", '{"fpm_reload_versions": ["8.2"]}',
        ],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    inventory.unlink()


def table(results: list[dict[str, Any]]) -> str:
    rows = [f"{'way to reload':<38}{'deployments':>12}{'skipped':>9}{'stale':>7}{'lost':>6}{'seconds':>9}"]
    for row in results:
        rows.append(
            f"{row['method']:<38}{row['deployments']:>12}{row['skipped']:>9}{row['stale']:>7}{row['lost']:>6}"
            f"{row['seconds']:>9}"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--container", default="bench-reload-race")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--inside", choices=list(METHODS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        inside(args.inside, args.pairs)
        return 0
    lab = [sys.executable, str(ROOT / "tests/lab/lab.py")]
    subprocess.run([*lab, "up", "--name", args.container], check=True)
    try:
        install(args.container)
        results = [run_in(args.container, method, args.pairs) for method in METHODS]
    finally:
        subprocess.run([*lab, "down", "--name", args.container], check=True)
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    ours = results[-1]
    return 0 if ours["stale"] == ours["lost"] == ours["skipped"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
