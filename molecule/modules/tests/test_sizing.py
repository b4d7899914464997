# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fpm_sizing plans the pools of all versions within one budget, and PHP-FPM takes the plan."""

from __future__ import annotations

MIB = 1024**2


def planned(sizing, name):
    return {entry["version"]: entry for entry in sizing["plan"] if entry["name"] == name}


def test_the_pools_of_all_versions_are_in_one_plan(sizing, versions):
    assert [(entry["name"], entry["version"]) for entry in sizing["plan"]] == [
        (name, version) for version in versions for name in ("shop", "www")
    ]
    budget = sizing["budget"]
    assert sizing["feasible"] is True
    assert [entry["master"] for entry in budget["masters"]] == [
        f"php{version}-fpm.service" for version in versions
    ]
    charged = sum(entry["charged_bytes"] for entry in sizing["plan"])
    assert charged == budget["used_bytes"] <= budget["available_bytes"]


def test_the_twin_hosts_budget_is_its_containers_limit(host, sizing):
    limited = host.backend.get_hostname() == "php-stack-modules-twin"
    assert (sizing["budget"]["total_bytes"] == 1024 * MIB) == limited


def test_worked_in_pools_are_measured_and_idle_ones_stay_as_they_are(sizing, versions):
    for version in versions:
        shop, www = planned(sizing, "shop")[version], planned(sizing, "www")[version]
        assert (shop["confidence"], shop["worker_source"]) == ("high", "measured"), shop["reasoning"]
        assert 12 * MIB < shop["worker_bytes"] < 20 * MIB
        assert shop["by_private"] > shop["by_rss"]
        assert (www["confidence"], www["kept"], www["pm"]) == ("low", "evidence", www["current"])
        assert www["measure"]


def test_idle_pools_that_are_kept_and_may_not_fit_are_named(host, sizing, versions):
    limited = host.backend.get_hostname() == "php-stack-modules-twin"
    assert len(sizing["risks"]) == limited
    for risk in sizing["risks"]:
        assert all(f"5 × 128 MiB of www (PHP {version})" in risk for version in versions), risk
        assert f"Warning: {risk}" in sizing["summary"]


def test_php_fpm_accepts_the_plan(host, sizing, versions):
    for version in versions:
        lines = ["[global]", "error_log = /dev/null"]
        for entry in sizing["plan"]:
            if entry["version"] != version:
                continue
            lines += [f"[{entry['name']}]", "user = www-data", f"listen = /tmp/{entry['name']}.sock"]
            lines += [f"pm = {entry['pm']['mode']}"]
            lines += [f"pm.{k} = {v}" for k, v in entry["pm"].items() if k != "mode" and v is not None]
        host.check_output("printf '%%s\\n' %s >/tmp/plan.conf", "\n".join(lines))
        tested = host.run(f"php-fpm{version} -t -y /tmp/plan.conf 2>&1")
        assert "test is successful" in tested.stdout
