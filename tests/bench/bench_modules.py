# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules' reading costs, against what people run anyway.

    python3 tests/bench/bench_modules.py        (needs the lab: make bench-modules)

fpm_pool_facts with 200 pools and 1,000 workers against ansible.builtin.setup:
the very files that Ansible has sent to the lab host, run there in turns, 20 times
each; the middle run counts. How long the two take as tasks is printed too; there the
controller's work on the answer counts, which grows with the number of pools.
Then nginx_fastcgi_info against crossplane (bench_nginx.py). A ratio below 1
means that ours takes less time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import bench_nginx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lab"))
import lab

NAME = "php-stack-bench-modules"
POOLS, WORKERS_EACH = 200, 5
RUNS = 5
OURS, THEIRS = "webops.php_stack.fpm_pool_facts", "ansible.builtin.setup"
POOL = """[p{number}]
user = www-data
listen = /run/php/p{number}.sock
pm = static
pm.max_children = {workers}
pm.status_path = /status
"""


# Runs on the host: the seconds of several runs of each file, in turns.
TIMER = """
import glob, json, subprocess, sys, time
found = {name: sorted(glob.glob("/root/.ansible/tmp/*/AnsiballZ_%s.py" % name))[0] for name in sys.argv[2:]}
times = {name: [] for name in found}
for _run in range(int(sys.argv[1])):
    for name, path in found.items():
        start = time.perf_counter()
        subprocess.run([sys.executable, path], stdout=subprocess.DEVNULL, check=True)
        times[name].append(time.perf_counter() - start)
print(json.dumps(times))
"""


def start_pools() -> None:
    """200 pools with their workers on the lab host; it returns once FPM says that it is ready."""
    text = "".join(POOL.format(number=number, workers=WORKERS_EACH) for number in range(POOLS))
    script = (
        'rm /etc/php/8.2/fpm/pool.d/*; awk \'/^\\[/{n++} {print >"/etc/php/8.2/fpm/pool.d/" n ".conf"}\';'
        " systemctl restart php8.2-fpm && pgrep -cf '^php-fpm: pool p'"
    )
    done = subprocess.run(["docker", "exec", "-i", NAME, "sh", "-c", script], input=text,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.stdout.strip() != str(POOLS * WORKERS_EACH):
        raise RuntimeError(f"not all workers started: {done.stdout}{done.stderr}")


def play(folder: Path) -> list[dict[str, Any]]:
    """Run both modules in turns, RUNS times each; -> the tasks as Ansible's JSON callback gives them."""
    tasks = [{"name": module, module: {}} for _run in range(RUNS) for module in (OURS, THEIRS)]
    (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (folder / "inventory.json").write_text(lab.inventory([NAME]))
    done = subprocess.run(
        [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(folder / "inventory.json"), str(folder / "play.json")],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
             "ANSIBLE_KEEP_REMOTE_FILES": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]
    return found


def on_the_host() -> tuple[list[float], list[float]]:
    """Seconds that each run of fpm_pool_facts and of setup took on the host."""
    names = [module.rpartition(".")[2] for module in (OURS, THEIRS)]
    done = subprocess.run(["docker", "exec", "-i", NAME, "python3", "-", str(4 * RUNS), *names], input=TIMER,
                          capture_output=True, text=True, check=True)  # fmt: skip
    times = json.loads(done.stdout)
    return times[names[0]], times[names[1]]


def seconds(task: dict[str, Any]) -> float:
    start, end = (
        datetime.fromisoformat(task["task"]["duration"][key].rstrip("Z")) for key in ("start", "end")
    )
    return (end - start).total_seconds()


def facts_ratio() -> float:
    """Print the times of both modules; -> ours divided by setup's, the middle run of each."""
    lab.up(NAME, "stack", None, fresh=True)
    try:
        start_pools()
        with tempfile.TemporaryDirectory() as folder:
            tasks = play(Path(folder))
        ours, theirs = on_the_host()
    finally:
        lab.down([NAME])
    as_task = {
        module: median(seconds(task) for task in tasks if task["task"]["name"] == module)
        for module in (OURS, THEIRS)
    }
    pools = tasks[0]["hosts"][NAME]["ansible_facts"]["fpm_pools"]
    workers = sum(pool["memory"]["worker_count"] for pool in pools)
    answered = sum(pool["status"]["state"] == "ok" for pool in pools)
    if (len(pools), workers, answered) != (POOLS, POOLS * WORKERS_EACH, POOLS):
        raise RuntimeError(f"{len(pools)} pools, {workers} workers, {answered} answered")
    ratio = median(ours) / median(theirs)
    print(
        f"fpm_pool_facts: {POOLS} pools, {workers} workers: {median(ours):.2f} s (best {min(ours):.2f});"
        f" ansible.builtin.setup: {median(theirs):.2f} s (best {min(theirs):.2f}); ratio {ratio:.2f}\n"
        f"  as tasks, with the answer of {len(json.dumps(pools)) >> 10} KiB brought back and taken in:"
        f" {as_task[OURS]:.2f} s and {as_task[THEIRS]:.2f} s; ratio {as_task[OURS] / as_task[THEIRS]:.2f}"
    )
    return ratio


def main() -> int:
    """Print both ratios; 1 if ours is the slower one in any of them."""
    slower = facts_ratio() >= 1
    return int(bench_nginx.main() != 0 or slower)


if __name__ == "__main__":
    sys.exit(main())
