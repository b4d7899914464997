# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpm_sizing on a real host: a container of 1 GiB with PHP-FPM under load, and php-fpm -t as the judge of plans."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ansible/collections"))
from ansible_collections.webops.php_stack.plugins.module_utils.sizing import plan_host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_model import (
    Budget,
    Cost,
    PmSettings,
    Pool,
)

NAME = "php-stack-test-sizing"
MIB = 1024**2
POOL = """[www]
user = www-data
group = www-data
listen = /run/php/php8.2-fpm.sock
listen.owner = www-data
listen.group = www-data
pm.status_path = /status
"""
SITE = r"""server { listen 80 default_server; root /var/www/html;
  location ~ \.php$ { include snippets/fastcgi-php.conf; fastcgi_pass unix:/run/php/php8.2-fpm.sock; } }
"""
# 20 MB of its own a request, and a walk through 38 MB that lie in OPcache.
PAGE = """<?php
$sum = 0;
for ($i = 0; $i < 6; $i++) { $sum += array_sum(require "/srv/data/$i.php"); }
$own = str_repeat('a', 20 * 1024 * 1024);
usleep(20000);
echo $sum, ' ', strlen($own);
"""
DATA = "<?php for ($i = 0; $i < 6; $i++) file_put_contents(\"/srv/data/$i.php\", '<?php return [' . implode(',', range($i, $i + 399999)) . '];');"


WORKERS = "pgrep -P $(cat /run/php/php8.2-fpm.pid)"


def docker(*args: str, stdin: str = "") -> str:
    done = subprocess.run(["docker", *args], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {args}: {done.stdout}{done.stderr}"
    return done.stdout


def shell(script: str, stdin: str = "") -> str:
    return docker("exec", "-i", NAME, "sh", "-ec", script, stdin=stdin)


def write(path: str, text: str) -> None:
    shell(f"mkdir -p $(dirname {path}); cat >{path}", text)


def apply(pm: dict[str, Any]) -> None:
    """Write the pool with a plan's values, as the role does, and restart FPM."""
    lines = [f"pm = {pm['mode']}"]
    lines += [f"pm.{key} = {value}" for key, value in pm.items() if key != "mode" and value is not None]
    write("/etc/php/8.2/fpm/pool.d/www.conf", POOL + "\n".join(lines) + "\n")
    shell("php-fpm8.2 -t && systemctl reset-failed php8.2-fpm && systemctl restart php8.2-fpm")


def new_workers() -> None:
    """The master starts others at once; it keeps the OPcache."""
    shell(f"kill -QUIT $({WORKERS})")


def load(requests: int) -> None:
    answer = shell(f"hey -n {requests} -c 10 http://127.0.0.1/load.php")
    assert f"[200]\t{requests} responses" in answer, answer


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    lab = [sys.executable, str(ROOT / "tests/lab/lab.py")]
    subprocess.run([*lab, "up", "--name", NAME, "--memory", "1g", "--fresh"], check=True)
    try:
        path = tmp_path_factory.mktemp("lab") / "inventory.json"
        path.write_text(
            subprocess.run([*lab, "inventory", NAME], check=True, capture_output=True, text=True).stdout
        )
        yield path
    finally:
        subprocess.run([*lab, "down", "--name", NAME], check=True)


def module(inventory: Path, expect_failure: bool = False, **params: Any) -> dict[str, Any]:
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [
        str(Path(sys.executable).parent / "ansible"),
        "-i",
        str(inventory),
        "all",
        "--check",
        "-m",
        "fpm_sizing",
    ]
    command += ["-a", json.dumps(params)] if params else []
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == expect_failure, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.partition("=>")[2])
    return found


@pytest.fixture(scope="module")
def loaded(inventory: Path) -> dict[str, Any]:
    """The plan for ten workers that have each served heavy pages."""
    write("/etc/nginx/sites-enabled/default", SITE)
    write("/var/www/html/load.php", PAGE)
    write("/srv/make.php", DATA)
    write(
        "/etc/php/8.2/fpm/conf.d/99-test.ini",
        "opcache.memory_consumption=96\nopcache.file_update_protection=0\n",
    )
    shell("mkdir -p /srv/data && php8.2 -d memory_limit=1G /srv/make.php && systemctl restart nginx")
    apply({"mode": "static", "max_children": 10})
    shell("curl -sf http://127.0.0.1/load.php")
    # Compiling takes far more memory than serving: new workers, with the OPcache that the master keeps.
    new_workers()
    load(600)
    return module(inventory)


def test_the_containers_limit_is_the_hosts_memory(loaded: dict[str, Any]) -> None:
    budget = loaded["budget"]
    assert budget["total_bytes"] == 1024 * MIB
    assert budget["source"].startswith("memory limit of the container")
    assert {entry["name"] for entry in budget["reserved"]} == {"nginx", "everything else"}
    assert 0 < budget["reserved_bytes"] < 200 * MIB
    parts = (
        budget["reserved_bytes"]
        + budget["headroom_bytes"]
        + budget["shared_bytes"]
        + budget["available_bytes"]
    )
    assert parts == budget["total_bytes"]


def test_rss_and_private_memory_give_different_answers(loaded: dict[str, Any]) -> None:
    (www,) = loaded["plan"]
    assert www["confidence"] == "high", www
    # 20 MB of the page's own, and a little for PHP; the OPcache that each worker walked through is not in it.
    assert 20 * MIB < www["private_bytes"] < 26 * MIB
    assert www["rss_bytes"] > www["private_bytes"] + 35 * MIB
    assert 2 * www["by_rss"] < www["by_private"]
    assert www["pm"]["max_children"] == www["by_private"]
    assert (www["binding"], www["changed_from"]) == ("memory", 10)
    assert loaded["budget"]["shared_bytes"] > 38 * MIB
    assert loaded["budget"]["used_bytes"] <= loaded["budget"]["available_bytes"]


def test_between_requests_memory_looks_small_but_is_not_believed(loaded: dict[str, Any]) -> None:
    now = shell(f"for p in $({WORKERS}); do grep -h Private_Dirty /proc/$p/smaps_rollup; done")
    private = [int(line.split()[1]) * 1024 for line in now.splitlines()]
    assert len(private) == 10
    assert sum(private) / 10 < loaded["plan"][0]["private_bytes"] / 2


def test_the_plan_holds_under_load_and_a_second_run_changes_nothing(
    inventory: Path, loaded: dict[str, Any]
) -> None:
    (www,) = loaded["plan"]
    apply(www["pm"])
    fresh = module(inventory)["plan"][0]
    assert (fresh["confidence"], fresh["pm"]) == ("low", www["pm"])
    shell("curl -sf http://127.0.0.1/load.php")
    new_workers()
    shell(f"hey -n 600 -c {www['pm']['max_children']} http://127.0.0.1/load.php | grep -F '[200]'")
    again = module(inventory)["plan"][0]
    assert again["pm"] == www["pm"], again
    group = "/sys/fs/cgroup/memory$(grep :memory: /proc/1/cgroup | cut -d: -f3 | sed s,/init.scope,,)"
    events = shell(
        f"grep -hs '^oom_kill ' {group}/memory.oom_control {group}/memory.events /sys/fs/cgroup/memory.events || :"
    )
    assert events.splitlines()[0] == "oom_kill 0"


def test_a_units_limit_binds(inventory: Path, loaded: dict[str, Any]) -> None:
    drop_in = "/etc/systemd/system/php8.2-fpm.service.d/limit.conf"
    write(drop_in, "[Service]\nMemoryMax=300M\nCPUQuota=150%\n")
    try:
        shell("systemctl daemon-reload")
        wanted = [{"name": "www", "version": "8.2", "worker_memory": "20M"}]
        planned = module(inventory, pools=wanted, shared_memory="50M", tolerance=0)
        # 300 × 0.9 - 50 = 220 MiB.
        assert (planned["plan"][0]["pm"]["max_children"], planned["plan"][0]["binding"]) == (11, "unit_limit")
        planned = module(inventory, pools=wanted, shared_memory="50M", workers_per_core=2, tolerance=0)
        assert (planned["plan"][0]["pm"]["max_children"], planned["plan"][0]["binding"]) == (3, "cpu")
    finally:
        shell(f"rm {drop_in}; systemctl daemon-reload")


def test_demand_from_the_access_log_of_the_host(inventory: Path, loaded: dict[str, Any]) -> None:
    write("/var/log/nginx/shop.log", "[21/Nov/2026:03:41:07 +0000] urt=0.600\n" * 300)
    wanted = [{"name": "www", "version": "8.2", "worker_memory": "20M",
               "demand": {"access_log": "/var/log/nginx/shop.log"}}]  # fmt: skip
    (www,) = module(inventory, pools=wanted, tolerance=0)["plan"]
    assert (www["pm"]["max_children"], www["binding"]) == (5, "demand")


def test_what_cannot_fit_fails_with_the_numbers(inventory: Path) -> None:
    wanted = [{"name": "huge", "version": "8.2", "memory_limit": "2G"}]
    failed = module(inventory, expect_failure=True, pools=wanted)
    assert failed["feasible"] is False
    assert "The smallest number of workers does not fit: huge (PHP 8.2) 1 × 2048 MiB" in failed["msg"]
    assert failed["budget"]["total_bytes"] == 1024 * MIB


def test_a_service_that_runs_is_reserved_by_name(inventory: Path) -> None:
    planned = module(
        inventory, reserved=["nginx", {"name": "nginx.service"}, {"name": "mariadbd", "memory": "256M"}]
    )
    reserved = {entry["name"]: entry for entry in planned["budget"]["reserved"]}
    assert reserved["nginx"]["bytes"] == pytest.approx(reserved["nginx.service"]["bytes"], rel=0.2)
    assert (reserved["mariadbd"]["bytes"], reserved["mariadbd"]["how"]) == (256 * MIB, "given")


def test_php_fpm_accepts_every_plan(inventory: Path) -> None:
    """300 generated pools through the real check, in one configuration."""
    chance = random.Random(7)
    pools = ["[global]\nerror_log = /dev/null\n"]
    for number in range(300):
        mode = chance.choice(["static", "dynamic", "ondemand"])
        now = chance.choice(
            [None, PmSettings("dynamic", chance.randint(1, 9), 3, 2, 5), PmSettings("static", 4)]
        )
        one = Pool(f"p{number}", "8.2", mode, Cost(chance.randint(1, 400) * MIB, "given", "high", 400 * MIB),
                   min_children=chance.randint(1, 3), max_children=chance.choice([None, 3, 40]), current=now)  # fmt: skip
        plan = plan_host(
            Budget(chance.randint(1300, 9000) * MIB, "given", tolerance_percent=chance.choice([0, 20])), [one]
        )
        assert plan.feasible, plan.problems
        pm = plan.shares[0].pm
        pools.append(f"[p{number}]\nuser = www-data\nlisten = /tmp/p{number}.sock\npm = {pm.mode}\n")
        for key in (
            "max_children",
            "start_servers",
            "min_spare_servers",
            "max_spare_servers",
            "process_idle_timeout",
        ):
            if getattr(pm, key) is not None:
                pools.append(f"pm.{key} = {getattr(pm, key)}\n")
    write("/tmp/plans.conf", "".join(pools))
    assert "test is successful" in shell("php-fpm8.2 -t -y /tmp/plans.conf 2>&1")


def test_our_idea_of_valid_is_never_laxer_than_php_fpms(inventory: Path) -> None:
    """Every relation of the spare values of a small pool: what problems() passes, php-fpm -t passes."""
    cases = [
        PmSettings("dynamic", most, start, low, high)
        for most in (1, 2, 3) for start in (1, 2, 3, 4) for low in (1, 2, 3) for high in (1, 2, 3, 4)
    ]  # fmt: skip
    cases += [
        PmSettings("static", 1),
        PmSettings("static", 0),
        PmSettings("ondemand", 1, process_idle_timeout=1),
    ]
    script = []
    for case in cases:
        lines = [
            "[global]",
            "error_log=/dev/null",
            "[p]",
            "user=www-data",
            "listen=/tmp/p.sock",
            f"pm={case.mode}",
        ]
        for key in (
            "max_children",
            "start_servers",
            "min_spare_servers",
            "max_spare_servers",
            "process_idle_timeout",
        ):
            if getattr(case, key) is not None:
                lines.append(f"pm.{key}={getattr(case, key)}")
        body = "\\n".join(lines)
        script.append(
            f"printf '{body}\\n' >/tmp/case.conf; php-fpm8.2 -t -y /tmp/case.conf >/dev/null 2>&1 && echo ok || echo no"
        )
    accepted = [line == "ok" for line in shell("\n".join(script)).splitlines()]
    assert len(accepted) == len(cases)
    ours = [not case.problems() for case in cases]
    assert ours == accepted
