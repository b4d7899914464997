#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the diagnosis is right: every fault of tests/lab/faults.py live, one at a time, and pairs at once.

    bench_diagnose.py [--only FAULT[+FAULT]]... [--hosts 2] [--keep]
    bench_diagnose.py --draw      docs/diagnose.md again, from .cache/lab/diagnose.json

On a lab host each fault is injected, provoked by requests, and then playbooks/diagnose.yml is run against it as a
person would. Its first verdict must be the injected cause; of a pair both must be named, one of them first, and
nothing else. A full run writes docs/diagnose.md; every run writes .cache/lab/diagnose.json. It ends with 1 where
one is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/lab"))
sys.path.insert(0, str(CHECKOUT / ".ansible/collections"))

import faults
import lab
from ansible_collections.webops.php_stack.plugins.module_utils.log_model import CAUSES
from diagnosis import PAIRS, Control, Trial, attempt

PREFIX = "php-stack-diagnose"
CACHE = CHECKOUT / ".cache/lab"
JSON = CACHE / "diagnose.json"
PAGE = CHECKOUT / "docs/diagnose.md"
COLUMNS = f"{'fault':<34}{'expected':<42}{'top verdict':<26}{'':<7}seconds"


class Bench:
    """Lab hosts that wait for work; one more with little memory where a fault needs it."""

    def __init__(self, hosts: int, work: list[tuple[str, ...]]) -> None:
        self.work = work
        self.limits = {memory: f"{PREFIX}-{memory}" for names in work if (memory := _memory(names))}
        self.names = [f"{PREFIX}-{number}" for number in range(1, hosts + 1)]
        self.control = Control(CACHE / "diagnose-inventory.json", [*self.names, *self.limits.values()])
        self._free: queue.Queue[str] = queue.Queue()

    def set_up(self) -> None:
        for name in self.names:
            lab.up(name, "stack", None, fresh=True)
            self._free.put(name)
        for memory, name in self.limits.items():
            lab.up(name, "stack", memory, fresh=True)

    def tear_down(self) -> None:
        lab.down([*self.names, *self.limits.values()])

    def run(self) -> list[Trial]:
        """All trials, in their order; each is printed as soon as it is done."""
        print(COLUMNS, flush=True)
        with ThreadPoolExecutor(len(self.names)) as pool:
            return list(pool.map(self._one, self.work))

    def _one(self, names: tuple[str, ...]) -> Trial:
        # Taken in any case, so that no more than so many faults are at work on this machine.
        free = self._free.get()
        try:
            trial = attempt(self.control, faults.Host(self.limits.get(_memory(names), free)), names)
        finally:
            self._free.put(free)
        print(_line(trial), flush=True)
        return trial


def _memory(names: tuple[str, ...]) -> str:
    return next((faults.BY_NAME[name].memory for name in names if faults.BY_NAME[name].memory), "")


def _line(trial: Trial) -> str:
    first = (
        f"{trial.title:<34}{' + '.join(trial.expected):<42}{trial.top or '-':<26}"
        f"{'wrong' if trial.wrong else 'right':<7}{trial.seconds:7.1f}"
    )
    return first + (f"\n    {trial.wrong}" if trial.wrong else "")


def plain(trials: list[Trial], seconds: float) -> dict[str, Any]:
    versions = lab.docker("run", "--rm", "php-stack-stack:bookworm", "dpkg-query", "-W", "-f",
                          "${Package} ${Version}\\n", "nginx", "php8.2-fpm", "systemd").stdout  # fmt: skip
    return {
        "seconds": round(seconds),
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": os.uname().release,
            "packages": versions.split("\n")[:-1],
        },
        "trials": [plain_trial(trial) for trial in trials],
    }


def plain_trial(trial: Trial) -> dict[str, Any]:
    return {
        "faults": list(trial.faults),
        "expected": list(trial.expected),
        "top": trial.top,
        "named": list(trial.named),
        "headline": trial.headline,
        "seconds": round(trial.seconds, 1),
        "wrong": trial.wrong,
    }


def page(results: dict[str, Any]) -> str:
    """docs/diagnose.md."""
    trials = results["trials"]
    singles = [one for one in trials if len(one["faults"]) == 1]
    pairs = [one for one in trials if len(one["faults"]) > 1]
    causes = {cause for one in trials for cause in one["expected"]}
    left_out = [cause for cause in CAUSES if cause not in causes | {"selinux_denied"}]
    right = [sum(not one["wrong"] for one in group) for group in (singles, pairs)]
    lines = [
        "# Is the diagnosis right?",
        "",
        "`make bench-diagnose` wrote this page. It breaks lab hosts (Debian 12 with systemd, "
        + ", ".join(f"{name} {version}" for name, version in map(str.split, results["machine"]["packages"]))
        + ") for real, one fault at a time and in pairs, sends requests, and runs `playbooks/diagnose.yml`, which"
        " knows nothing of the fault. *Top verdict* is the cause that it put first. A pair is right where both"
        " causes are named, one of them first, and no other.",
        "",
        f"Right: **{right[0]} of {len(singles)}** faults and **{right[1]} of {len(pairs)}** pairs,"
        f" in {results['seconds'] // 60} min {results['seconds'] % 60} s on {results['machine']['cpus']} cores."
        " *Seconds* is how long the playbook took.",
        "",
        "The cause `selinux_denied` is not among them: a container cannot enforce SELinux."
        + (f" Nor are {', '.join(f'`{cause}`' for cause in left_out)}." if left_out else ""),
    ]
    for title, group in (("One fault", singles), ("Two faults at once", pairs)):
        if group:
            lines += ["", f"## {title}", "", "| fault | expected | top verdict | | seconds | in its words |",
                      "| --- | --- | --- | --- | ---: | --- |"]  # fmt: skip
            lines += [_row(one) for one in group]
    return "\n".join(lines) + "\n"


def _row(one: dict[str, Any]) -> str:
    mark = f"**wrong**: {one['wrong']}" if one["wrong"] else "right"
    cells = (
        " + ".join(one["faults"]),
        " + ".join(f"`{cause}`" for cause in one["expected"]),
        f"`{one['top']}`" if one["top"] else "none",
        mark,
        f"{one['seconds']:.1f}",
        one["headline"],
    )
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="FAULT[+FAULT]")
    parser.add_argument("--hosts", type=int, default=2, help="how many lab hosts are at work at once")
    parser.add_argument("--keep", action="store_true", help="leave the lab hosts running")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    names = {name for one in args.only or [] for name in one.split("+")}
    unknown = sorted(names - set(faults.BY_NAME))
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)} (there: {', '.join(faults.BY_NAME)})")
    return args


def main() -> int:
    args = arguments()
    if args.draw:
        PAGE.write_text(page(json.loads(JSON.read_text(encoding="utf-8"))), encoding="utf-8")
        print(f"Written: {PAGE}")
        return 0
    begin = time.monotonic()
    work = [tuple(one.split("+")) for one in args.only or []]
    bench = Bench(args.hosts, work or [*((name,) for name in faults.BY_NAME), *PAIRS])
    try:
        bench.set_up()
        trials = bench.run()
    finally:
        if not args.keep:
            bench.tear_down()
    results = plain(trials, time.monotonic() - begin)
    JSON.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not work:
        PAGE.write_text(page(results), encoding="utf-8")
    wrong = [trial for trial in trials if trial.wrong]
    print(f"\n{len(trials) - len(wrong)} of {len(trials)} right, {results['seconds']} s. Written: {JSON}"
          f"{'' if work else f' and {PAGE}'}")  # fmt: skip
    for trial in wrong:
        print(f"\n{trial.title}: {trial.wrong}\n{trial.screen}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
