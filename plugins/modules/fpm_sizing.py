#!/usr/bin/python
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fpm_sizing
short_description: Plan C(pm.max_children) and its relatives for all PHP-FPM pools of a host
version_added: 0.1.0
description:
  - Measures what a worker of each pool really costs, and deals out one memory budget to all pools of the host.
  - A worker is counted by its private memory at the peak. What the workers share (OPcache, libraries) is counted once
    for each FPM master. The usual average of RSS counts it in every worker, so that pools are sized too small; both
    answers are returned.
  - The limits of a container and of systemd units count, as do, where asked for, the CPUs and the demand. The limit
    that decides is named.
  - With too little evidence (few requests, idle workers) a pool keeps its current value, and the module says what to
    measure. A pool that does not exist yet is planned from its C(memory_limit) as the worst case; one that was full
    may grow as far as that allows.
  - The task fails, with the numbers, when not even the smallest number of workers fits.
  - The values returned are always valid for C(php-fpm -t). The module only reads; nothing is written to the host.
extends_documentation_fragment:
  - webops.php_stack.attributes
  - webops.php_stack.attributes.read_only
author:
  - The webops.php_stack maintainers (@webops)
notes:
  - Run it as root (C(become=true)), else the memory of other users' processes cannot be read.
  - Sizes take the suffixes K, M, G and T in powers of 1024, as C(php.ini) does; a bare number is bytes.
options:
  pools:
    description:
      - The pools to plan for; they need not exist yet.
      - Without it, all pools that are found on the host.
    type: list
    elements: dict
    suboptions:
      name:
        description: The pool's name.
        type: str
        required: true
      version:
        description: The PHP version, such as V(8.2). May be left out where only one pool has the name.
        type: str
      pm:
        description: The process manager to plan. By default what the pool has now, else V(dynamic).
        type: str
        choices: [static, dynamic, ondemand]
      weight:
        description: The pool's share of the memory for workers, against the weights of the other pools.
        type: float
        default: 1
      min_children:
        description: Never plan fewer workers.
        type: int
        default: 1
      max_children:
        description: Never plan more workers.
        type: int
      worker_memory:
        description: What one worker costs. Replaces measuring.
        type: str
      memory_limit:
        description:
          - PHP's C(memory_limit) of the pool, the worst case of a worker.
          - By default what the pool or C(php.ini) sets, else PHP's own default of 128M. V(-1) means no limit.
        type: str
      process_idle_timeout:
        description: Seconds after which an idle worker of O(pools[].pm=ondemand) ends. By default the current value, else 10.
        type: int
      demand:
        description: How much work there is, as a ceiling.
        type: dict
        suboptions:
          requests_per_second:
            description: Requests that reach PHP in a second, at the peak.
            type: float
          duration_seconds:
            description: The mean duration of a request. Also used for lines of an access log that have none.
            type: float
          access_log:
            description:
              - Path of an access log of nginx on the host. Its busiest minute is used, of the last 64 MiB.
              - Durations are read from C($upstream_response_time) (as C(urt=) or a JSON key of that name),
                else from C($request_time) (C(rt=)).
            type: path
          factor:
            description: The busy workers are multiplied by it, to have room for bursts.
            type: float
            default: 1.5
      current:
        description:
          - The values the pool has now, where they are not to be read from the host.
          - As in RV(plan[].current).
        type: dict
        suboptions:
          mode:
            description: The process manager.
            type: str
            required: true
            choices: [static, dynamic, ondemand]
          max_children:
            description: C(pm.max_children).
            type: int
            required: true
          start_servers:
            description: C(pm.start_servers).
            type: int
          min_spare_servers:
            description: C(pm.min_spare_servers).
            type: int
          max_spare_servers:
            description: C(pm.max_spare_servers).
            type: int
          process_idle_timeout:
            description: C(pm.process_idle_timeout) in seconds.
            type: int
  total_memory:
    description:
      - The memory of the host. V(auto) takes the RAM, or the limit of the container where that is smaller.
      - Swap is no budget.
    type: str
    default: auto
  reserved:
    description:
      - Memory that is not for workers.
      - V(auto) measures the usual services (databases, caches, web servers) and everything else that is in use now.
      - A size such as V(3072M) is taken as it is, and nothing else is reserved.
      - A list names services by process (V(mariadbd)) or unit (V(mysql.service)), each a name or a dictionary with
        C(name) and C(memory). What a service uses now is measured; C(memory) is kept for it if that is more. What
        else is in use is added.
    type: raw
    default: auto
  headroom:
    description: Percent of the memory left after O(reserved) that stay free.
    type: float
    default: 10
  shared_memory:
    description:
      - What the workers of one FPM master share. V(auto) measures it, or takes C(opcache.memory_consumption) where no
        worker runs; with O(measure=false) it is 0.
    type: str
    default: auto
  workers_per_core:
    description: Workers for each CPU, as a ceiling. Without it the CPUs are no limit.
    type: float
  cpus:
    description: The number of CPUs. By default what the host or its container may use; a quota gives a fraction.
    type: float
  demand_from_status:
    description:
      - Whether to take the greatest number of busy workers since the start, from the status page, as the demand of
        pools that have no O(pools[].demand).
      - A pool that was full at any time tells no demand.
    type: bool
    default: false
  tolerance:
    description: Percent. A current value this close to the plan stays, so that a second run changes nothing.
    type: float
    default: 20
  evidence_requests:
    description: How many requests the workers must have served before their memory is believed.
    type: int
    default: 500
  other_pools:
    description: Whether running pools that are not in O(pools) are counted with what they take when full.
    type: str
    choices: [count, ignore]
    default: count
  measure:
    description: V(false) reads nothing from the host, and plans only from what is given (O(total_memory) is needed).
    type: bool
    default: true
  fpm_pools:
    description: The fact C(fpm_pools) of M(webops.php_stack.fpm_pool_facts), where it was gathered already.
    type: list
    elements: dict
  fpm_masters:
    description: The fact C(fpm_masters), to go with O(fpm_pools).
    type: list
    elements: dict
seealso:
  - module: webops.php_stack.fpm_pool_facts
"""

EXAMPLES = r"""
- name: Size all pools of the host
  webops.php_stack.fpm_sizing:
  register: sizing

- name: Show how the numbers came about
  ansible.builtin.debug:
    var: sizing.summary

- name: Two pools of two PHP versions, with a database on the same host
  webops.php_stack.fpm_sizing:
    pools:
      - name: shop
        version: "8.2"
        weight: 3
        min_children: 5
      - name: blog
        version: "7.4"
        pm: ondemand
        max_children: 10
    reserved:
      - name: mariadbd
        memory: 2G
      - nginx
    headroom: 15
    workers_per_core: 10

- name: A ceiling from the demand that nginx has logged
  webops.php_stack.fpm_sizing:
    pools:
      - name: www
        demand:
          access_log: /var/log/nginx/shop.access.log
          factor: 2

- name: Calculate without looking at the host
  webops.php_stack.fpm_sizing:
    measure: false
    total_memory: 8192M
    reserved: 3072M
    headroom: 10
    pools:
      - name: www
        version: "8.2"
        worker_memory: 100M
"""

RETURN = r"""
plan:
  description: One entry for each pool.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The pool.
      type: str
    version:
      description: Its PHP version.
      type: str
    pm:
      description: The values for the pool file. Those that the mode does not use are V(none).
      type: dict
    current:
      description: The values it has now; V(none) for a pool that does not exist.
      type: dict
    changed_from:
      description: The current C(pm.max_children), where the plan differs from it.
      type: int
    kept:
      description: Why the current C(pm.max_children) stays against the plan, V(evidence) or V(tolerance).
      type: str
    confidence:
      description:
        - V(high) for a given cost and for workers seen at their peak over enough requests; V(medium) where a part of
          that is missing; V(low) where too little is known.
      type: str
    binding:
      description:
        - "What decided the number: V(memory), V(unit_limit), V(cpu), V(demand), V(cap) (the pool's max_children),
          V(minimum) (its min_children), or V(evidence) (kept, because too little is known)."
      type: str
    worker_bytes:
      description: What the plan counts for a worker.
      type: int
    worker_source:
      description: Where that comes from, V(given), V(measured), V(memory_limit) or V(default).
      type: str
    worst_bytes:
      description: What a worker may take at most, which is its C(memory_limit) unless more was measured.
      type: int
    private_bytes:
      description: The private memory of a worker at its peak (95 % of the workers stay below).
      type: int
    rss_bytes:
      description: The mean RSS of a worker at its peak.
      type: int
    charged_bytes:
      description: What the pool takes of the budget.
      type: int
    by_rss:
      description: The workers that memory alone would allow, counted by RSS.
      type: int
    by_private:
      description: The workers that memory alone would allow, counted by private memory.
      type: int
    reasoning:
      description: How the numbers came about, in sentences.
      type: list
      elements: str
    measure:
      description: What to measure to know better.
      type: list
      elements: str
  sample:
    [
      {
        "binding": "memory",
        "by_private": 41,
        "by_rss": 13,
        "changed_from": 10,
        "charged_bytes": 875282432,
        "confidence": "high",
        "current": {
          "max_children": 10,
          "max_spare_servers": null,
          "min_spare_servers": null,
          "mode": "static",
          "process_idle_timeout": null,
          "start_servers": null
        },
        "kept": null,
        "measure": [],
        "name": "www",
        "pm": {
          "max_children": 41,
          "max_spare_servers": null,
          "min_spare_servers": null,
          "mode": "static",
          "process_idle_timeout": null,
          "start_servers": null
        },
        "private_bytes": 21348352,
        "reasoning": [
          "One worker costs 20.4 MiB: 95 % of 10 workers stay below it (the private memory peaks).",
          "memory_limit would allow 128 MiB (/etc/php/8.2/fpm/php.ini).",
          "Its 10 workers served 601 requests.",
          "By RSS (65.5 MiB a worker, what is shared counted in each) memory would allow 13; by private memory (20.4 MiB, 47.6 MiB shared counted once) 41.",
          "844 MiB for workers / 20.4 MiB = 41 workers that memory allows.",
          "The host's memory is the limit.",
          "pm = static: all 41 workers always run."
        ],
        "rss_bytes": 68666572,
        "version": "8.2",
        "worker_bytes": 21348352,
        "worker_source": "measured",
        "worst_bytes": 134217728
      }
    ]
budget:
  description: The host's memory and what becomes of it. Also returned when nothing fits.
  returned: always
  type: dict
  sample:
    {
      "available_bytes": 884752998,
      "cpus": 2,
      "headroom_bytes": 103847322,
      "headroom_percent": 10.0,
      "masters": [
        {
          "cpus": null,
          "limit_bytes": null,
          "limit_source": null,
          "master": "php8.2-fpm.service",
          "shared_bytes": 49872896,
          "shared_source": "measured: OPcache, libraries and the master"
        }
      ],
      "reserved": [
        {
          "bytes": 2939904,
          "how": "measured: PSS of 3 processes",
          "name": "nginx"
        },
        {
          "bytes": 32328704,
          "how": "measured: in use now, less the above and PHP-FPM",
          "name": "everything else"
        }
      ],
      "reserved_bytes": 35268608,
      "shared_bytes": 49872896,
      "source": "memory limit of the container or slice (/sys/fs/cgroup/memory/docker/ffc5af7347c6)",
      "total_bytes": 1073741824,
      "used_bytes": 875282432
    }
feasible:
  description: Whether the plan fits. When it is V(false) the task has failed, and RV(problems) says why.
  returned: always
  type: bool
  sample: true
problems:
  description: Why nothing fits, with the numbers.
  returned: when nothing fits
  type: list
  elements: str
risks:
  description:
    - Where values that are kept for want of evidence would not fit if every worker took its C(memory_limit),
      with the numbers. The same sentences are in RV(summary).
  returned: success
  type: list
  elements: str
  sample:
    [
      "max_children is kept for want of evidence, but in the worst case (memory_limit) the workers need 5 × 128 MiB of
      www (PHP 7.4) + 5 × 128 MiB of www (PHP 8.2) = 1280 MiB, and the host has 812 MiB for workers. Measure under the
      usual load, or give a lower max_children until then."
    ]
notes:
  description: What the reader should know about the measurements.
  returned: success
  type: list
  elements: str
  sample: []
summary:
  description: The budget and the plan as lines of text.
  returned: always
  type: list
  elements: str
  sample:
    [
      "Memory: 1024 MiB (memory limit of the container or slice (/sys/fs/cgroup/memory/docker/ffc5af7347c6))",
      "  - 2.8 MiB nginx (measured: PSS of 3 processes)",
      "  - 30.8 MiB everything else (measured: in use now, less the above and PHP-FPM)",
      "  - 99 MiB headroom (10 %)",
      "  - 47.6 MiB shared by the workers of php8.2-fpm.service (measured: OPcache, libraries and the master)",
      "  = 844 MiB for workers, 835 MiB planned",
      "www (PHP 8.2): pm = static, max_children 10 -> 41 (limit: memory; confidence: high; by RSS 13, by private memory 41)"
    ]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import run_module
from ansible_collections.webops.php_stack.plugins.module_utils.host import Host
from ansible_collections.webops.php_stack.plugins.module_utils.sizing_run import size_host

MODES = ["static", "dynamic", "ondemand"]
ARGUMENTS: dict[str, Any] = {
    "pools": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "version": {"type": "str"},
            "pm": {"type": "str", "choices": MODES},
            "weight": {"type": "float", "default": 1},
            "min_children": {"type": "int", "default": 1},
            "max_children": {"type": "int"},
            "worker_memory": {"type": "str"},
            "memory_limit": {"type": "str"},
            "process_idle_timeout": {"type": "int"},
            "demand": {
                "type": "dict",
                "options": {
                    "requests_per_second": {"type": "float"},
                    "duration_seconds": {"type": "float"},
                    "access_log": {"type": "path"},
                    "factor": {"type": "float", "default": 1.5},
                },
            },
            "current": {
                "type": "dict",
                "options": {
                    "mode": {"type": "str", "choices": MODES, "required": True},
                    "max_children": {"type": "int", "required": True},
                    "start_servers": {"type": "int"},
                    "min_spare_servers": {"type": "int"},
                    "max_spare_servers": {"type": "int"},
                    "process_idle_timeout": {"type": "int"},
                },
            },
        },
    },
    "total_memory": {"type": "str", "default": "auto"},
    "reserved": {"type": "raw", "default": "auto"},
    "headroom": {"type": "float", "default": 10},
    "shared_memory": {"type": "str", "default": "auto"},
    "workers_per_core": {"type": "float"},
    "cpus": {"type": "float"},
    "demand_from_status": {"type": "bool", "default": False},
    "tolerance": {"type": "float", "default": 20},
    "evidence_requests": {"type": "int", "default": 500},
    "other_pools": {"type": "str", "choices": ["count", "ignore"], "default": "count"},
    "measure": {"type": "bool", "default": True},
    "fpm_pools": {"type": "list", "elements": "dict"},
    "fpm_masters": {"type": "list", "elements": "dict"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run_module(module, lambda module: size_host(Host(), module.params))


if __name__ == "__main__":
    main()
