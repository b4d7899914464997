# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For random modes and ACLs, what the kernel says and what the rules say. Prints the disagreements as JSON.

Runs as root in the lab host: oracle.py SEED COUNT, with the collection beside it.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import SEARCH, WRITE, Who, refusal
from ansible_collections.webops.php_stack.plugins.module_utils.socket_probe import walk

UIDS = [1, 2, 3]
GIDS = [11, 12, 13]


def random_acl(rng: random.Random) -> bytes:
    """Entries in the order that the kernel demands: sorted by tag, then id."""
    entries = [(1, rng.randrange(8), 0xFFFFFFFF)]
    entries += [(2, rng.randrange(8), uid) for uid in UIDS if rng.random() < 0.4]
    entries += [(4, rng.randrange(8), 0xFFFFFFFF)]
    entries += [(8, rng.randrange(8), gid) for gid in GIDS if rng.random() < 0.4]
    entries += [(16, rng.randrange(8), 0xFFFFFFFF), (32, rng.randrange(8), 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def kernel_allows(path: str, who: Who, need: int) -> bool:
    child = os.fork()
    if child == 0:
        os.setgroups(sorted(who.gids))
        gid = min(who.gids)
        os.setresgid(gid, gid, gid)
        os.setresuid(who.uid, who.uid, who.uid)
        os._exit(0 if os.access(path, need) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main(seed: int, count: int) -> None:
    rng = random.Random(seed)
    wrong, allowed = [], 0
    with tempfile.TemporaryDirectory(dir="/srv") as folder:
        os.chmod(folder, 0o755)
        for number in range(count):
            path = f"{folder}/{number}"
            os.mkdir(path)
            os.chown(path, rng.choice(UIDS), rng.choice(GIDS))
            os.chmod(path, rng.randrange(0o1000))
            if rng.random() < 0.7:
                os.setxattr(path, "system.posix_acl_access", random_acl(rng))
            who = Who("u", rng.choice(UIDS), frozenset(rng.sample([*GIDS, 14], rng.randrange(1, 4))))
            need = rng.choice([SEARCH, WRITE])
            node = walk(Host(), path)[-1]
            says = kernel_allows(path, who, need)
            allowed += says
            if says != (refusal(node, who, need) is None):
                wrong.append([repr(node), repr(who), need, says])
    print(json.dumps({"wrong": wrong, "allowed": allowed}))


main(int(sys.argv[1]), int(sys.argv[2]))
