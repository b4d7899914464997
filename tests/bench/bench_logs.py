# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast gateway_log_info reads: against grep, in memory, and with `since`.

    bench_logs.py [--megabytes 2000] [--json FILE]

Makes three error logs of nginx in a temporary directory and removes them: one
where every line is a failure, one of many kinds of lines, and one as a busy
host writes it at level info, with few failures. A second process reads each
log, so that its memory is its own; grep reads the same log right before it.
Both are measured in processor time, so that other work on the machine does not
count; `since` in time that passes. Ends with 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATTERN = (
    r"failed \([0-9]+:|timed out|prematurely closed|no live upstreams|too big header|FastCGI sent in stderr"
)
MAX_RATIO, MAX_MEMORY_MB, MAX_SINCE_SECONDS = 15.0, 60.0, 0.3

_READ = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.log_gather import Request, explain
from ansible_collections.webops.php_stack.plugins.module_utils.log_time import Clock
since = float(sys.argv[3]) if sys.argv[3] else None
start, cpu = time.perf_counter(), time.process_time()
result = explain(Host(), Request([sys.argv[2]], since=since), Clock(), time.time())
print(json.dumps({
    "seconds": time.process_time() - cpu,
    "wall_seconds": time.perf_counter() - start,
    "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "events": sum(cause["count"] for cause in result["causes"]),
}))
"""

_FAILURES = (
    "connect() to unix:/run/php/php8.2-fpm.sock failed (111: Connection refused) while connecting to upstream",
    "upstream timed out (110: Connection timed out) while reading response header from upstream",
    "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught Error: x in /srv/a.php:1" while reading'
    " response header from upstream",
)


def failure(rng: random.Random, stamp: str) -> str:
    number = rng.randrange(10**7)
    site = rng.choice(("shop.example.com", "www.example.org", "_"))
    return (
        f"{stamp} [error] 2034#2034: *{number} {rng.choice(_FAILURES)}, client: 192.0.2.{number % 256},"
        f' server: {site}, request: "GET /index.php?id={number} HTTP/1.1", upstream:'
        f' "fastcgi://unix:/run/php/php8.2-fpm.sock:", host: "{site}"\n'
    )


def other(rng: random.Random, stamp: str) -> str:
    number = rng.randrange(10**7)
    return rng.choice((
        f"{stamp} [info] 2034#2034: *{number} client 192.0.2.{number % 256} closed keepalive connection\n",
        f"{stamp} [warn] 2034#2034: *{number} an upstream response is buffered to a temporary file"
        f" /var/lib/nginx/fastcgi/1/{number} while reading upstream, client: 192.0.2.1, server: _, request:"
        ' "GET /export.php HTTP/1.1", upstream: "fastcgi://unix:/run/php/php8.2-fpm.sock:", host: "x"\n',
        f"{stamp} [notice] 2034#2034: signal 17 (SIGCHLD) received from {number}\n",
    ))  # fmt: skip


def noise(rng: random.Random, stamp: str) -> str:
    number = rng.randrange(10**7)
    return rng.choice((
        f'{stamp} [error] 2034#2034: *{number} open() "/srv/www/{number}.png" failed (2: No such file or directory),'
        f' client: 192.0.2.9, server: _, request: "GET /{number}.png HTTP/1.1", host: "x"\n',
        f"{stamp} [error] 2034#2034: *{number} access forbidden by rule, client: 192.0.2.9, server: _, request:"
        f' "GET /.env?{number} HTTP/1.1", host: "x"\n',
        failure(rng, stamp),
        other(rng, stamp),
    ))  # fmt: skip


def sparse(rng: random.Random, stamp: str) -> str:
    return failure(rng, stamp) if rng.random() < 0.02 else other(rng, stamp)


KINDS = {"only failures": failure, "all kinds": noise, "few failures": sparse}


def write_log(path: Path, kind: str, megabytes: int) -> float:
    """Writes a log that ends now, a block of lines again and again; returns the time of its end."""
    rng = random.Random(1)
    line = KINDS[kind]
    block = [line(rng, "TTTT/TT/TT TT:TT:TT") for _turn in range(20000)]
    size = sum(map(len, block))
    rounds = max(1, megabytes * 10**6 // size)
    end = time.time()
    # Half a second between lines: a log of 2 GB spans some weeks.
    now = end - rounds * len(block) * 0.5
    known = 0
    stamp = ""
    with path.open("w") as log:
        for _turn in range(rounds):
            for text in block:
                now += 0.5
                if int(now) != known:
                    known = int(now)
                    stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(known))
                log.write(stamp + text[19:])
    return end


def read(log: Path, since: str = "") -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(ROOT / ".ansible/collections"), str(log), since],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def grep(log: Path) -> float:
    """Seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        ["grep", "-cE", PATTERN, str(log)],
        check=False,
        stdout=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-logs-") as folder:
        log = Path(folder) / "error.log"
        for kind in KINDS:
            end = write_log(log, kind, args.megabytes)
            grep(log)  # warms the cache for both
            by_grep = min(grep(log) for _turn in range(3))
            whole = min((read(log) for _turn in range(2)), key=lambda run: run["seconds"])
            recent = read(log, since=str(end - 900))
            rows.append({
                "log": kind,
                "megabytes": log.stat().st_size / 1e6,
                "grep_seconds": by_grep,
                "seconds": whole["seconds"],
                "ratio": whole["seconds"] / by_grep,
                "memory_mb": whole["memory_mb"],
                "since_15m_seconds": recent["wall_seconds"],
                "events": whole["events"],
            })  # fmt: skip
            log.unlink()
    print(f"{'log':16}{'MB':>7}{'grep s':>9}{'ours s':>9}{'ratio':>8}{'memory MB':>11}{'since 15m s':>13}")
    for row in rows:
        print(
            f"{row['log']:16}{row['megabytes']:7.0f}{row['grep_seconds']:9.2f}{row['seconds']:9.2f}"
            f"{row['ratio']:8.1f}{row['memory_mb']:11.1f}{row['since_15m_seconds']:13.3f}"
        )
    print(f"limits: ratio {MAX_RATIO:g}, memory {MAX_MEMORY_MB:g} MB, since 15m {MAX_SINCE_SECONDS:g} s")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    missed = [
        row for row in rows
        if row["ratio"] > MAX_RATIO or row["memory_mb"] > MAX_MEMORY_MB or row["since_15m_seconds"] > MAX_SINCE_SECONDS
    ]  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
