# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults and what the collection says about them: injects on a lab host, asks, judges the answer."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
import lab

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = CHECKOUT / ".venv/bin"

# Two faults on one host at once: the second comes while the first one's logs, or the fault itself, are still there.
PAIRS = (
    ("worker_segv", "big_response_header"),
    ("terminate_timeout", "worker_segv"),
    ("php_exception", "restart"),
    ("worker_kill", "slow_page"),
    ("extension", "broken_pool_reload"),
)


class Control:
    """Ansible on this machine, with lab hosts as its inventory."""

    def __init__(self, inventory: Path, hosts: Sequence[str]) -> None:
        self.inventory = inventory
        inventory.parent.mkdir(parents=True, exist_ok=True)
        inventory.write_text(lab.inventory(list(hosts)))

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A program of .venv/bin with the inventory; its exit code is the caller's matter."""
        return subprocess.run(
            [str(BIN / argv[0]), "-i", str(self.inventory), *argv[1:]],
            check=False, capture_output=True, text=True, cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
                 "PYTHONUTF8": "1", **environment},
        )  # fmt: skip

    def module(self, name: str, host: str, **params: Any) -> dict[str, Any]:
        """What a module returns, also where it fails.

        :raises RuntimeError: it returned nothing.
        """
        done = self.run("ansible", host, "-m", f"webops.php_stack.{name}", "-a", json.dumps(params))
        return _result(done, done.stdout.find(" => {") + 4)

    def diagnose(self, host: str, since: str, *args: str) -> tuple[str, dict[str, Any]]:
        """playbooks/diagnose.yml: what it prints for a person, and what stack_audit returned to it.

        :raises RuntimeError: the playbook failed.
        """
        done = self.run(
            "ansible-playbook", "playbooks/diagnose.yml", "--limit", host, "-e", f"diagnose_since={since}", *args,
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        )  # fmt: skip
        begin = done.stdout.find("\n{\n") + 1
        data = _result(done, begin)
        if done.returncode != 0:
            raise RuntimeError(f"diagnose.yml on {host} failed: {done.stdout[-2000:]}{done.stderr}")
        result: dict[str, Any] = data["plays"][0]["tasks"][0]["hosts"][host]
        return done.stdout[:begin], result


def _result(done: subprocess.CompletedProcess[str], begin: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[begin:])[0]
    except ValueError as error:
        raise RuntimeError(f"no result ({error}): {done.stdout[-2000:]}{done.stderr[-2000:]}") from error
    return found


def inject(host: faults.Host, names: Sequence[str]) -> list[str]:
    """These faults on a restored host, one after the other, each provoked while all before it are in place.

    Returns the answers that clients got; the host's logs start with the first fault.
    """
    host.restore()
    host.clear_logs()
    answers = []
    for name in names:
        host.inject(faults.BY_NAME[name])
        answers += host.provoke(faults.BY_NAME[name])
    return answers


@dataclass(frozen=True)
class Trial:
    """One fault, or several at once, and what the diagnosis made of it.

    :ivar expected: the causes that it must name; top: the cause of its first verdict, None where it has none.
    :ivar named: the causes of all its verdicts, in their order.
    :ivar headline: its first verdict in words; screen: all that it printed.
    :ivar problem: why there was no diagnosis, '' where there was one.
    """

    faults: tuple[str, ...]
    expected: tuple[str, ...]
    top: str | None = None
    named: tuple[str, ...] = ()
    headline: str = ""
    screen: str = ""
    seconds: float = 0.0
    problem: str = ""

    @property
    def title(self) -> str:
        return " + ".join(self.faults)

    @property
    def wrong(self) -> str:
        """Why the diagnosis is wrong, '' where it is right.

        The first verdict must be a cause that was injected. Of several faults each must be named, and nothing else.
        """
        if self.problem:
            return self.problem
        if self.top not in self.expected:
            return f"the top verdict is {self.top or 'no cause'}"
        missing = [cause for cause in self.expected if cause not in self.named]
        if missing:
            return f"not named: {', '.join(missing)}"
        foreign = [cause for cause in self.named if cause not in self.expected]
        return f"named too: {', '.join(foreign)}" if len(self.faults) > 1 and foreign else ""


def attempt(control: Control, host: faults.Host, names: Sequence[str]) -> Trial:
    """Inject, then run the diagnosis as a person would."""
    expected = tuple(dict.fromkeys(faults.BY_NAME[name].verdict for name in names))
    begin = time.monotonic()
    try:
        answers = inject(host, names)
        for name in names:
            wanted = faults.BY_NAME[name].answer
            if not any(answer.startswith(f"{wanted} ") for answer in answers):
                raise RuntimeError(f"{name} did not come about: no client got {wanted}, they got {answers}")
        asked = time.monotonic()
        screen, result = control.diagnose(host.name, host.run("cat /run/lab/since").strip())
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Trial(tuple(names), expected, seconds=time.monotonic() - begin, problem=str(error))
    verdict = result["verdict"]
    return Trial(
        tuple(names),
        expected,
        verdict[0]["cause"] if verdict else None,
        tuple(dict.fromkeys(one["cause"] for one in verdict if one["cause"])),
        verdict[0]["headline"] if verdict else "",
        screen,
        time.monotonic() - asked,
    )
