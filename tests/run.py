#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole test suite: run.py [STAGE...]

Stages that need no host and stages that do run side by side, one of each at a time.
The log of a stage is in .cache/test/STAGE.log, and is shown where the stage fails.
The last line counts the tests of all stages, each check without tests of its own as one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOGS = CHECKOUT / ".cache/test"
# Counts that pytest closes with, alone or inside molecule's output.
COUNTS = re.compile(r"^=*\s*(?=.*\b\d+ (?:passed|failed|error))(.*?) in [\d.]+s", re.MULTILINE)
CORE = "ansible_collections.webops.php_stack.plugins.module_utils"


@dataclass(frozen=True)
class Stage:
    name: str
    command: str
    needs_host: bool = False


STAGES = [
    Stage("ruff", "ruff check . && ruff format --check ."),
    Stage("mypy", f"mypy -p {CORE}"),
    Stage("yamllint", "yamllint --strict ."),
    Stage("ansible-lint", "ansible-lint --strict"),
    Stage("shellcheck", "shellcheck tests/*.sh tests/lab/*.sh tests/lab/demo/*.sh .ci/run"),
    Stage("changelog", "antsibull-changelog lint"),
    Stage("readme", "python tests/docs.py --check"),
    Stage("unit", "pytest -p no:cacheprovider tests/unit"),
    Stage("sanity", "tests/sanity.sh"),
    Stage("default", "molecule test -s default", needs_host=True),
    Stage("sockets", "molecule test -s sockets", needs_host=True),
    Stage("modules", "molecule test -s modules", needs_host=True),
    Stage("package", "tests/package.sh", needs_host=True),
    Stage("integration", "pytest -p no:cacheprovider tests/integration", needs_host=True),
]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "True",
    }


def counts(log: str, succeeded: bool) -> dict[str, int]:
    """passed, failed and skipped of a stage, from what its test runner said."""
    result = {"passed": 0, "failed": 0, "skipped": 0}
    for line in COUNTS.findall(log):
        for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", line):
            result["failed" if word.startswith("error") else word] += int(number)
    if not succeeded and not result["failed"]:
        result["failed"] = 1
    if succeeded and not result["passed"]:
        result["passed"] = 1
    return result


class Suite:
    """Runs stages in two lanes and adds up what they say."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        self.lock = threading.Lock()
        self.total = {"passed": 0, "failed": 0, "skipped": 0}
        self.broken: list[str] = []

    def lane(self, stages: list[Stage]) -> None:
        for stage in stages:
            self.run(stage)

    def run(self, stage: Stage) -> None:
        path = LOGS / f"{stage.name}.log"
        begin = time.monotonic()
        with path.open("wb") as log:
            done = subprocess.run(
                ["bash", "-c", stage.command], cwd=CHECKOUT, env=environment(), check=False,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        text = path.read_text(errors="replace")
        warned = re.findall(r"^\[(?:DEPRECATION )?WARNING\].*", text, re.MULTILINE)
        succeeded = done.returncode == 0 and not warned
        found = counts(text, succeeded)
        with self.lock:
            for key in self.total:
                self.total[key] += found[key]
            word = "ok" if succeeded else "FAILED"
            print(
                f"{stage.name:<14}{word:<8}{found['passed']:>6} passed  {time.monotonic() - begin:6.0f} s",
                flush=True,
            )
            if not succeeded:
                self.broken.append(stage.name)
                tail = warned or text.splitlines()[-80:]
                print("\n".join(f"    {line}" for line in tail), f"\n    (all of it: {path})", flush=True)

    def all(self) -> int:
        lanes = [[stage for stage in self.stages if stage.needs_host is needs] for needs in (False, True)]
        threads = [threading.Thread(target=self.lane, args=(lane,)) for lane in lanes if lane]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.broken:
            print(f"broken: {', '.join(sorted(self.broken))}")
        skipped = f", {self.total['skipped']} skipped" if self.total["skipped"] else ""
        print(f"{self.total['passed']} passed, {self.total['failed']} failed{skipped}")
        return 1 if self.broken else 0


def main() -> int:
    names = sys.argv[1:]
    unknown = sorted(set(names) - {stage.name for stage in STAGES})
    if unknown:
        sys.exit(
            f"php_stack: no stage is called {', '.join(unknown)} (there: {', '.join(s.name for s in STAGES)})"
        )
    LOGS.mkdir(parents=True, exist_ok=True)
    return Suite([stage for stage in STAGES if not names or stage.name in names]).all()


if __name__ == "__main__":
    sys.exit(main())
