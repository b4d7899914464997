#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults cost: requests lost by three stacks under the same load, one fault at a time.

    bench_faults.py [--only FAULT]... [--stack STACK]... [--quick] [--json FILE] [--keep]
    bench_faults.py --draw        the picture and the sections of README.md and docs/faults.md again, from docs/faults.json
                                  (--json FILE: from another run's file, which becomes docs/faults.json)
    bench_faults.py --list

A full run writes docs/faults.json, docs/faults.svg and the sections of README.md and docs/faults.md. A part of it, or a
--quick one (fewer blows, shorter windows), writes to .cache/lab/ only. It ends with 1 where ours
lost a request, other than those that nobody can save: with a socket taken away by hand, for two seconds; with a
killed worker, a POST or a request whose answer had begun.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/lab"))

import lab
from faultlab import outcome, picture, tables
from faultlab.faults import BY_NAME, FAULTS, Fault, broken_promises
from faultlab.measure import RATE, measure
from faultlab.stacks import SITE, STACKS, Stack

STEADY_ROUNDS = 3
DOCS = CHECKOUT / "docs"
CACHE = CHECKOUT / ".cache/lab"


def cell(stack: Stack, fault: Fault, quick: bool) -> dict[str, Any]:
    """measure(), then the host as it was; what stops either of them is told, never hidden as a zero."""
    try:
        result = measure(stack, fault, quick)
        if result["exit_code"] and fault.playbook and not fault.should_fail:
            result = {"error": f"its playbook failed, see {stack.log.relative_to(CHECKOUT)}"}
        if result.get("exit_code") and fault.proves:
            result = {"error": "the fault did not come about"}
        stack.restore()
    # SystemExit is how lab.py says that Docker refused something.
    except (RuntimeError, OSError, SystemExit) as error:
        return {"error": str(error)}
    if fault.should_fail and not stack.rolls_back:
        # The next fault starts from a sound description.
        stack.apply(stack.wanted)
        stack.restore()
    return result


def run_fault(fault: Fault, stacks: list[Stack], quick: bool) -> dict[str, Any]:
    """The fault on all stacks at once, so that the machine is as busy for each of them."""
    begin = time.monotonic()
    with ThreadPoolExecutor(len(stacks)) as pool:
        cells = dict(zip((s.key for s in stacks), pool.map(lambda stack: cell(stack, fault, quick), stacks)))
    print(f"\n{fault.title}  [{time.monotonic() - begin:.0f} s]", flush=True)
    for stack in stacks:
        lines = tables.cell_lines(cells[stack.key])
        print(f"  {stack.title:<24}" + f"\n{'':<26}".join(lines), flush=True)
    return {"name": fault.name, "title": fault.title, "cells": cells}


def steady(stacks: list[Stack], quick: bool) -> dict[str, Any]:
    """Throughput and p99 without a fault: hey against a page that does nothing, the stacks in turn, medians."""
    rounds: dict[str, list[dict[str, Any]]] = {stack.key: [] for stack in stacks}
    for turn in range(1 if quick else STEADY_ROUNDS):
        # Another one first each time, so that none has the machine's best moment for itself.
        for stack in stacks[turn % len(stacks) :] + stacks[: turn % len(stacks)]:
            done = stack.sh(f"hey -z 3s -c 4 -host {SITE} 'http://127.0.0.1/load.php?ms=0'")
            figures = outcome.read_hey(done.stdout)
            if set(figures["answers"]) != {"200"}:
                raise RuntimeError(f"{stack.title}: without a fault it answered {figures['answers']}")
            rounds[stack.key].append(figures)
    found = {
        key: {name: statistics.median(r[name] for r in results) for name in ("requests_per_second", "p99_seconds")}
        for key, results in rounds.items()
    }  # fmt: skip
    print("\nno fault, as fast as it goes")
    for stack in stacks:
        figures = found[stack.key]
        print(
            f"  {stack.title:<24}{figures['requests_per_second']:.0f} requests a second,"
            f" p99 {1000 * figures['p99_seconds']:.1f} ms",
            flush=True,
        )
    return found


def set_up(stacks: list[Stack]) -> None:
    with ThreadPoolExecutor(len(stacks)) as pool:
        list(pool.map(lambda stack: stack.set_up(), stacks))
        fetched = list(pool.map(lambda stack: stack.fetch_package(), stacks))
    if not all(fetched):
        print("php_stack: no package source answers; reinstalling php8.2-fpm will fail", file=sys.stderr)


def machine(stack: Stack) -> dict[str, Any]:
    versions = stack.sh(
        "dpkg-query -W -f '${Package} ${Version}\\n' nginx php8.2-fpm php7.4-fpm systemd"
    ).stdout
    return {
        "cpus": os.cpu_count(),
        "kernel": os.uname().release,
        "packages": dict(line.split() for line in versions.splitlines()),
    }


def write(results: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    target.with_suffix(".svg").write_text(picture.draw(results), encoding="utf-8")


def write_documents(results: dict[str, Any]) -> None:
    measured = {fault["name"] for fault in results["faults"]}
    left_out = [fault.title for fault in FAULTS if fault.name not in measured]
    for name, section in (
        ("README.md", tables.readme(results)),
        ("docs/faults.md", tables.details(results, left_out)),
    ):
        path = CHECKOUT / name
        path.write_text(tables.insert(path.read_text(encoding="utf-8"), section, name), encoding="utf-8")
        print(f"Written: {name}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=BY_NAME, metavar="FAULT")
    parser.add_argument("--stack", action="append", choices=STACKS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="where to write the figures and, beside them, the picture")
    parser.add_argument("--keep", action="store_true", help="leave the lab hosts running")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.list:
        for fault in FAULTS:
            print(f"{fault.name:<18}{fault.title}")
        return 0
    if args.draw:
        results = json.loads((args.json or DOCS / "faults.json").read_text(encoding="utf-8"))
        write(results, DOCS / "faults.json")
        write_documents(results)
        return 0
    begin = time.monotonic()
    full = not (args.only or args.stack or args.quick)
    stacks = [kind() for key, kind in STACKS.items() if key in (args.stack or STACKS)]
    try:
        set_up(stacks)
        print(f"{len(stacks)} lab hosts in {time.monotonic() - begin:.0f} s", flush=True)
        results: dict[str, Any] = {
            "load": {"rate": RATE, "post_share": 0.2, "slow_share": 0.03},
            "machine": machine(stacks[0]),
            "stacks": {stack.key: stack.title for stack in stacks},
            "steady": steady(stacks, args.quick) if not args.only else {},
            "faults": [],
        }
        for fault in FAULTS:
            if fault.name in (args.only or BY_NAME):
                results["faults"].append(run_fault(fault, stacks, args.quick))
                results["seconds"] = round(time.monotonic() - begin)
                # What was measured is kept where the run is broken off.
                write(results, CACHE / "faults.json")
    finally:
        if not args.keep:
            lab.down([stack.name for stack in stacks])
    target = args.json or (DOCS if full else CACHE) / "faults.json"
    write(results, target)
    print(f"\nWritten: {target} and {target.with_suffix('.svg')}")
    if full and not args.json:
        write_documents(results)
    broken = False
    for fault in results["faults"]:
        figures = fault["cells"].get("ours")
        if figures:
            said = (
                [figures["error"]] if "error" in figures else broken_promises(BY_NAME[fault["name"]], figures)
            )
            broken = broken or bool(said)
            for words in said:
                print(f"php_stack: {fault['title']}: {words}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
