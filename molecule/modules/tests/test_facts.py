# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpm_pool_facts and nginx_fastcgi_info find every version, its sockets, its status and its memory."""

from __future__ import annotations

import json

MIB = 1024**2


def test_every_pool_of_every_version_is_found_with_its_socket(facts, versions):
    found = [(pool["name"], pool["version"], pool["listen"]["address"]) for pool in facts["fpm_pools"]]
    assert found == [
        entry
        for version in versions
        for entry in (
            ("shop", version, f"unix:/run/php/shop-{version}.sock"),
            ("www", version, f"unix:/run/php/php{version}-fpm.sock"),
        )
    ]


def test_a_value_says_which_line_set_it(host, shops):
    for version, pool in shops.items():
        limit = pool["directives"]["php_admin_value[memory_limit]"]
        path = f"/etc/php/{version}/fpm/pool.d/shop.conf"
        assert (limit["value"], limit["file"], limit["default"]) == ("64M", path, False)
        line = host.check_output("sed -n %sp %s", str(limit["line"]), path)
        assert line == "php_admin_value[memory_limit] = 64M"


def test_what_no_file_sets_comes_when_asked_for(ask, shops):
    asked = ask("fpm_pool_facts", status=False, defaults=True, pools=["shop"])["ansible_facts"]["fpm_pools"]
    for pool in asked:
        known, given = pool["directives"], shops[pool["version"]]["directives"]
        assert {name: one for name, one in known.items() if not one["default"]} == given
        assert known["pm.max_requests"] == {"value": 0, "default": True, "file": None, "line": None}
        assert ("pm.max_spawn_rate" in known) == (pool["version"] != "7.4")


def test_each_version_has_its_master_unit_and_program(host, facts, versions):
    found = [(m["version"], m["layout"], m["panel"], m["unit"], m["binary"]) for m in facts["fpm_masters"]]
    assert found == [(v, "debian", None, f"php{v}-fpm.service", f"/usr/sbin/php-fpm{v}") for v in versions]
    for master in facts["fpm_masters"]:
        assert (master["errors"], master["running"], master["unit_state"]["active"]) == ([], True, "active")
        unit = host.check_output("systemctl show -P MainPID %s", master["unit"])
        assert master["pid"] == int(unit)


def test_the_status_is_what_an_independent_client_reads(host, shops):
    for version, pool in shops.items():
        assert pool["status"]["state"] in ("ok", "saturated"), pool["status"]
        asked = host.check_output(
            "SCRIPT_NAME=/status SCRIPT_FILENAME=/status QUERY_STRING=json REQUEST_METHOD=GET"
            " cgi-fcgi -bind -connect %s",
            f"/run/php/shop-{version}.sock",
        )
        theirs = json.loads(asked.partition("\n\n")[2] or asked.partition("\r\n\r\n")[2])
        assert pool["status"]["accepted_conn"] >= 800
        assert theirs["accepted conn"] >= pool["status"]["accepted_conn"]
        assert pool["status"]["total_processes"] == theirs["total processes"] == 4


def test_the_queue_is_the_kernels(host, shops):
    for version, pool in shops.items():
        assert pool["queue"] == {"waiting": 0, "backlog": 64}
        shown = host.check_output("ss -xlH").splitlines()
        (line,) = [words for words in map(str.split, shown) if f"/run/php/shop-{version}.sock" in words]
        assert line[2:4] == ["0", "64"]


def test_the_memory_is_that_of_the_masters_children(host, shops):
    for version, pool in shops.items():
        memory = pool["memory"]
        children = {
            int(pid)
            for pid in host.check_output(
                f"pgrep -P $(cat /run/php/php{version}-fpm.pid) -f 'pool shop *$'"
            ).split()
        }
        assert {worker["pid"] for worker in memory["workers"]} == children
        assert len(children) == memory["worker_count"] == 4
        assert 0 < memory["private_bytes"] <= memory["pss_bytes"] <= memory["rss_bytes"]
        # The page needs 12 MiB; the workers are idle now and have given them back.
        assert 12 * MIB < memory["private_peak_bytes"] < 16 * MIB
        assert memory["private_bytes"] / 4 < 12 * MIB
        for worker in memory["workers"]:
            assert worker["private_bytes"] + worker["shared_bytes"] == worker["rss_bytes"]
            assert worker["age_seconds"] > 0


def test_a_copy_of_the_tree_reads_the_same(host, ask, shops, versions):
    host.check_output("rm -rf /srv/copy && mkdir -p /srv/copy && cp -a --parents /etc /srv/copy")
    copied = ask("fpm_pool_facts", root="/srv/copy")["ansible_facts"]["fpm_pools"]
    directives = {pool["version"]: pool["directives"] for pool in copied if pool["name"] == "shop"}
    assert directives == {version: shops[version]["directives"] for version in versions}


def test_a_broken_pool_is_reported_and_the_rest_comes_back(host, ask, versions):
    path = f"/etc/php/{versions[0]}/fpm/pool.d/zz-broken.conf"
    host.check_output(
        "printf '[zz]\\nlisten = /run/php/zz.sock\\npm = static\\npm.max_childrn = 3\\n' >%s", path
    )
    try:
        facts = ask("fpm_pool_facts", status=False)["ansible_facts"]
    finally:
        host.check_output("rm %s", path)
    (error, *_others) = facts["fpm_masters"][0]["errors"]
    assert (error["file"], error["line"]) == (path, 4), error
    assert "pm.max_childrn" in error["message"]
    assert len(facts["fpm_pools"]) == 2 * len(versions) + 1


def test_nginx_leads_to_the_pools(ask, versions, shops):
    result = ask("nginx_fastcgi_info")
    assert (result["errors"], result["nginx"]["worker_user"]["name"]) == ([], "www-data")
    places = {entry["server_names"][0]: entry for entry in result["locations"]}
    assert sorted(places) == [f"php{version}.example.com" for version in versions]
    for version, pool in shops.items():
        place = places[f"php{version}.example.com"]
        assert [target["address"] for target in place["targets"]] == [pool["listen"]["address"]]
        assert [target["via"] for target in place["targets"]] == [f"shop{version}"]
