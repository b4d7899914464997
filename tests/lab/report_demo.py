#!/usr/bin/env python3
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of three lab hosts (broken, as installed, hardened), and its picture.

report_demo.py [PICTURE]     default docs/report.png; the page is .cache/lab/php-stack-report.html
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lab
from browser import Browser

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache/lab"
PAGE = CACHE / "php-stack-report.html"
INVENTORY = CACHE / "report-demo-inventory.json"
HOSTS = {name: f"php-stack-report-{name}" for name in ("web1", "web2", "web3")}
BROKEN, STOCK, HARDENED = HOSTS.values()
WIDTH, SCALE = 1180, 0.68
SITES = "for site in shop blog api report; do mkdir -p /srv/$site; echo '<?php echo \"ok\";' >/srv/$site/index.php; done"
# What a bad quarter of an hour leaves in the logs: too many visitors, a slow report, reloads, a deployment.
BAD_DAY = """
ask() { hey -t 30 "$@" >/dev/null; }
ask -n 60 -c 5 -host shop.example.com http://127.0.0.1/
ask -n 30 -c 5 -host blog.example.com http://127.0.0.1/
ask -n 300 -c 40 -host api.example.com 'http://127.0.0.1/?ms=100'
mv /srv/api /srv/api-2; ln -s api-2 /srv/api
ask -n 10 -c 10 -host report.example.com 'http://127.0.0.1/?ms=4000'
ask -n 200 -c 4 -host api.example.com 'http://127.0.0.1/?ms=200' & load=$!
for turn in 1 2 3; do systemctl reload php8.2-fpm; done
wait $load
"""


def on_host(name: str, script: str) -> None:
    lab.docker("exec", name, "bash", "-c", script)


def play(*args: str) -> None:
    done = subprocess.run(
        ["ansible-playbook", "-i", str(INVENTORY), *args],
        check=False,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(
            f"php_stack: ansible-playbook {' '.join(args)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        )


def picture(page: Path, file: Path) -> None:
    """The page from its top to the end of the first host's path map."""
    with Browser() as browser:
        sheet = browser.page()
        sheet.size(WIDTH, 900)
        sheet.open(page)
        height = int(sheet.script("document.querySelector('.paths').getBoundingClientRect().bottom + 20"))
        sheet.size(WIDTH, height)
        sheet.picture(file, SCALE)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "docs/report.png"
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in HOSTS.values():
        lab.up(name, "stack", None, fresh=True)
    hosts = {
        f"{name}.example.com": {
            "ansible_connection": "community.docker.docker",
            "ansible_host": container,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        for name, container in HOSTS.items()
    }
    INVENTORY.write_text(json.dumps({"all": {"hosts": hosts}}))
    try:
        lab.docker("cp", str(CHECKOUT / "tests/lab/demo/break.sh"), f"{BROKEN}:/root/break.sh")
        on_host(BROKEN, f"bash /root/break.sh; {BAD_DAY}")
        on_host(HARDENED, SITES)
        play(
            "playbooks/harden-php-stack.yml", "--limit", "web3.example.com", "-e", "@tests/lab/demo/stack.yml"
        )
        on_host(HARDENED, "hey -n 200 -c 5 -host shop.example.com http://127.0.0.1/ >/dev/null")
        play("playbooks/report.yml", "-e", f"php_stack_report_path={PAGE}")
    finally:
        lab.down(list(HOSTS.values()))
    picture(PAGE, file)
    print(f"The page is {PAGE}, its picture {file}.")


if __name__ == "__main__":
    main()
