#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a lab host with six faults, harden-php-stack.yml, and the same requests before and after.

Every figure is counted in this run, by the same commands on both sides.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import lab

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = "php-stack-demo"
INVENTORY = CHECKOUT / ".cache/lab/demo-inventory.json"


def on_host(script: str) -> str:
    return lab.docker("exec", NAME, "bash", "-c", script).stdout


def load(
    site: str, requests: int, clients: int, milliseconds: int, meanwhile: str = "true"
) -> tuple[int, int, str]:
    """(asked, answered with 200, what the others got) for requests of a given length, during a command."""
    report = on_host(
        f"hey -n {requests} -c {clients} -t 30 -host {site}.example.com 'http://127.0.0.1/?ms={milliseconds}' & load=$!;"
        f" {{ {meanwhile}; }} >/dev/null 2>&1; wait $load"
    )
    counts = {code: int(count) for code, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", report)}
    good = counts.pop("200", 0)
    silent = requests - good - sum(counts.values())
    if silent > 0:
        counts["no answer"] = silent
    others = ", ".join(
        f"{count} × {code}" for code, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return requests, good, others


def faults() -> Iterator[tuple[str, tuple[int, int, str]]]:
    yield "nginx points at another PHP version's socket", load("shop", 50, 5, 0)
    yield "the socket is closed to nginx's user", load("blog", 50, 5, 0)
    yield "five workers for forty clients", load("api", 400, 40, 100)
    yield "timeouts contradict each other (a 4 s report)", load("report", 10, 10, 4000)
    # The host's own reload: what a deployment or a package upgrade runs.
    reloads = "for i in $(seq 10); do systemctl reload php8.2-fpm; timeout 5 sh -c 'until systemctl is-active -q php8.2-fpm; do :; done'; done"
    yield "ten reloads during 200 ms requests", load("api", 200, 4, 200, reloads)
    kill = "kill -KILL $(systemctl show -P MainPID php8.2-fpm)"
    on_host(kill)
    heal = "timeout 3 sh -c 'until [ $(systemctl is-active php8.2-fpm) = active ]; do sleep 0.1; done'; true"
    on_host(heal)
    yield "the master was killed, 3 s later", load("api", 50, 5, 0)


def measure() -> list[tuple[str, tuple[int, int, str]]]:
    rows = []
    for name, result in faults():
        print(
            f"  {name}: {result[0] - result[1]} of {result[0]} lost{' (' + result[2] + ')' if result[2] else ''}",
            flush=True,
        )
        rows.append((name, result))
    return rows


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def main() -> int:
    begin = time.monotonic()
    heading("A stock Debian 12 host with nginx and PHP-FPM, broken in six ways")
    lab.up(NAME, "stack", None, fresh=True)
    INVENTORY.parent.mkdir(parents=True, exist_ok=True)
    INVENTORY.write_text(lab.inventory([NAME]))
    lab.docker("cp", str(CHECKOUT / "tests/lab/demo/break.sh"), f"{NAME}:/root/break.sh")
    on_host("bash /root/break.sh")
    before = measure()
    print("\n  nginx's own words:")
    print("    " + on_host(
        r"grep -ohE '\(([0-9]+: [A-Za-z ]+)\)' /var/log/nginx/error.log | sort | uniq -c | sort -rn | head -5"
    ).rstrip().replace("\n", "\n    "))  # fmt: skip

    heading("ansible-playbook playbooks/harden-php-stack.yml -e @tests/lab/demo/stack.yml")
    done = subprocess.run(
        ["ansible-playbook", "-i", INVENTORY, "playbooks/harden-php-stack.yml", "-e", "@tests/lab/demo/stack.yml"],
        check=False, cwd=CHECKOUT, env={**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"},
    )  # fmt: skip
    if done.returncode != 0:
        print("php_stack: the playbook failed; the host php-stack-demo is left as it is", file=sys.stderr)
        return 1

    heading("The same requests again")
    after = measure()
    heading("Requests lost, before and after")
    print(f"  {'fault':<48}{'before':>16}{'after':>16}")
    for (name, (asked, good, _unused)), (_unused, (_unused, good_after, _unused)) in zip(before, after):
        print(f"  {name:<48}{f'{asked - good} of {asked}':>16}{f'{asked - good_after} of {asked}':>16}")
    lost = sum(asked - good for _unused, (asked, good, _unused) in after)
    print(
        f"\n  Took {time.monotonic() - begin:.0f} s. The host stays: docker exec -it {NAME} bash; `make clean` removes it."
    )
    if lost:
        print(f"php_stack: the hardened host lost {lost} requests", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
