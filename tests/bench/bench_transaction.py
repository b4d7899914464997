#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config_transaction against a loop of ansible.builtin.template, on the same lab host, in the same run.

    bench_transaction.py [--host NAME] [--sizes 1,50,200,1000] [--json FILE]

Each size writes that many pool files twice with each method: a first run, and
one that finds everything as it should be. The times are those of the task,
measured around ansible-playbook and less the time of an empty play.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = """[{{ pool.name }}]
user = www-data
group = www-data
listen = /run/php/{{ pool.name }}.sock
{% for key, value in pool.settings.items() %}
{{ key }} = {{ value }}
{% endfor %}
{% if pool.slow | default(false) %}
request_slowlog_timeout = 5s
{% endif %}
"""
HEAD = """
- hosts: all
  gather_facts: false
  vars:
    pools: "{{ range(size | int) | map('regex_replace', '^', 'pool') | list }}"
    settings:
      pm: ondemand
      pm.max_children: 5
      request_terminate_timeout: 60
      request_slowlog_timeout: 0
      catch_workers_output: 'yes'
"""
PLAYS = {
    "empty": "  tasks: []\n",
    "template": """  tasks:
    - ansible.builtin.file: {path: /etc/bench-template, state: directory, mode: "0755"}
    - ansible.builtin.template:
        src: bench.conf.j2
        dest: "/etc/bench-template/{{ item }}.conf"
        mode: "0644"
      vars:
        pool: {name: "{{ item }}", settings: "{{ settings }}"}
      loop: "{{ pools }}"
""",
    "transaction": """  tasks:
    - webops.php_stack.config_transaction:
        name: bench
        files: "{{ files }}"
        directories: [{path: /etc/bench-transaction}]
        manage: [{dir: /etc/bench-transaction}]
      vars:
        files: >-
          {% set found = [] %}{% for name in pools %}{{ found.append({
            'path': '/etc/bench-transaction/' ~ name ~ '.conf', 'template': 'bench.conf.j2',
            'vars': {'pool': {'name': name, 'settings': settings}}}) }}{% endfor %}{{ found }}
""",
}


def play(folder: Path, name: str, size: int) -> float:
    """Seconds that a playbook takes."""
    command = ["ansible-playbook", "-i", "inventory.json", f"{name}.yml", "-e", f"size={size}"]
    environment = {
        **os.environ,
        "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_STDOUT_CALLBACK": "minimal",
        "ANSIBLE_PIPELINING": "true",  # for both: the loop at its best
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - start


def lab(*args: str) -> str:
    command = [sys.executable, str(ROOT / "tests/lab/lab.py"), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure(folder: Path, host: str, size: int) -> dict[str, float]:
    row: dict[str, float] = {"files": size}
    for name in ("template", "transaction"):
        subprocess.run(["docker", "exec", host, "rm", "-rf", f"/etc/bench-{name}"], check=True)
        empty = play(folder, "empty", size)
        for run in ("first", "unchanged"):
            row[f"{name}_{run}_seconds"] = max(play(folder, name, size) - empty, 0.01)
    for run in ("first", "unchanged"):
        row[f"{run}_ratio"] = row[f"template_{run}_seconds"] / row[f"transaction_{run}_seconds"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="bench-transaction")
    parser.add_argument("--sizes", default="1,50,200,1000")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    lab("up", "--name", args.host)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "templates").mkdir()
            (folder / "templates/bench.conf.j2").write_text(TEMPLATE)
            (folder / "inventory.json").write_text(lab("inventory", args.host))
            for name, tasks in PLAYS.items():
                (folder / f"{name}.yml").write_text(HEAD + tasks)
            print("        |        first run (seconds)        |      unchanged run (seconds)")
            print("  files | template  transaction   ratio     | template  transaction   ratio")
            for size in [int(size) for size in args.sizes.split(",")]:
                row = measure(folder, args.host, size)
                rows.append(row)
                cells = " | ".join(
                    f"{row[f'template_{run}_seconds']:8.1f}  {row[f'transaction_{run}_seconds']:11.2f}"
                    f"  {row[f'{run}_ratio']:6.1f}    "
                    for run in ("first", "unchanged")
                )
                print(f"  {size:5d} | {cells}", flush=True)
    finally:
        lab("down", "--name", args.host)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
