# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the configuration of PHP-FPM itself (pure)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from ansible_collections.webops.php_stack.plugins.module_utils.audit_findings import (
    Evidence,
    Outcome,
    RuleBook,
    bad,
    good,
    unknown,
)
from ansible_collections.webops.php_stack.plugins.module_utils.audit_snapshot import Snapshot
from ansible_collections.webops.php_stack.plugins.module_utils.audit_view import (
    edit,
    log_cause,
    log_evidence,
    marks,
    php_value,
    place_of_setting,
    pool_title,
    raw,
    setting,
)

_BOOK = RuleBook()
RULES = _BOOK.rules
# The last day of security fixes from php.net, by version.
END_OF_LIFE = {
    "5.6": "2018-12-31",
    "7.0": "2019-01-10",
    "7.1": "2019-12-01",
    "7.2": "2020-11-30",
    "7.3": "2021-12-06",
    "7.4": "2022-11-28",
    "8.0": "2023-11-26",
    "8.1": "2025-12-31",
    "8.2": "2026-12-31",
    "8.3": "2027-12-31",
    "8.4": "2028-12-31",
    "8.5": "2029-12-31",
}
# What other rules say about the same mistake: FPM's own words about it are then left out.
_ELSEWHERE = ("slowlog", "_servers", "same address", "already")


@_BOOK.rule("F01", "critical", "The slow log's settings make PHP-FPM refuse to start", "config_invalid")
def slowlog(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        slow, terminate = pool["request_slowlog_timeout"], pool["request_terminate_timeout"]
        place = place_of_setting(pool, "request_slowlog_timeout")
        if slow is None:
            yield unknown(pool_title(pool), "request_slowlog_timeout has no known value", place)
        elif slow and not raw(setting(pool, "slowlog")):
            yield bad(
                pool_title(pool),
                f"request_slowlog_timeout is {slow} s, and slowlog is not set",
                "both, or neither",
                place,
                fix=edit(pool, "slowlog", f"/var/log/php-fpm-{pool['name']}.slow.log"),
            )
        elif slow and terminate and slow > terminate:
            yield bad(
                pool_title(pool),
                f"request_slowlog_timeout ({slow} s) is above request_terminate_timeout ({terminate} s)",
                "a slow log that starts before the request is ended",
                place,
                place_of_setting(pool, "request_terminate_timeout"),
                fix=edit(pool, "request_slowlog_timeout", f"{max(1, terminate // 2)}s"),
            )
        else:
            yield good(pool_title(pool), f"slow log after {slow} s" if slow else "no slow log", place)


@_BOOK.rule("F02", "high", "A log of PHP-FPM cannot be written", "config_invalid")
def log_paths(snapshot: Snapshot) -> Iterator[Outcome]:
    owners = [(f"PHP-FPM {master['version'] or '?'}", master, "error_log") for master in snapshot.masters]
    for pool in snapshot.pools:
        owners += [
            (pool_title(pool), pool, name) for name in ("slowlog", "access.log", "php_admin_value[error_log]")
        ]
    for subject, owner, name in owners:
        found = setting(owner, name)
        path = raw(found)
        if (
            found["default"]
            or not path
            or path in ("syslog", "stderr")
            or path.startswith(("/proc/", "/dev/"))
        ):
            continue
        place, folder = place_of_setting(owner, name), os.path.dirname(path)
        if "$" in path:
            yield unknown(subject, f"{name} depends on the environment", place)
        elif not path.startswith("/"):
            yield bad(
                subject,
                f"{name} = {path} is relative: it lands below PHP-FPM's own prefix, or nowhere",
                "an absolute path",
                place,
                fix=edit(owner, name, f"/var/log/{os.path.basename(path)}"),
            )
        elif folder not in snapshot.folders:
            yield unknown(subject, f"whether {folder} exists is not known", place)
        elif not snapshot.folders[folder] and not snapshot.folders.get(os.path.dirname(folder)):
            yield unknown(
                subject, f"neither {folder} nor the folder above it is there: a part of a host?", place
            )
        elif not snapshot.folders[folder]:
            yield bad(
                subject,
                f"{name} = {path}: the folder {folder} does not exist",
                "a folder that is there when PHP-FPM starts",
                place,
                fix=f"install -d -m 0755 {folder}",
                confidence="high" if snapshot.live else "medium",
            )
        else:
            yield good(subject, f"{path} has a folder", place)


@_BOOK.rule("F03", "low", "What workers print, and PHP's errors, are kept nowhere of their own", "php_fatal")
def errors_vanish(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        catches = setting(pool, "catch_workers_output")["value"]
        value, place = php_value(snapshot, pool, "error_log")
        shown = (place_of_setting(pool, "catch_workers_output"), place)
        if catches or value:
            yield good(pool_title(pool), f"errors go to {value or 'the log of PHP-FPM'}", *shown)
        elif catches is None:
            yield unknown(pool_title(pool), "catch_workers_output has no known value", *shown)
        else:
            yield bad(
                pool_title(pool),
                "catch_workers_output is off and PHP has no error_log: only nginx's error log may hold an error",
                "one of the two",
                *shown,
                fix=edit(pool, "catch_workers_output", "yes"),
                confidence="medium",
            )


@_BOOK.rule(
    "F04", "medium", "A pool is left over from another PHP version", "path_mismatch", "address_in_use"
)
def several_versions(snapshot: Snapshot) -> Iterator[Outcome]:
    by_name: dict[str, list[dict[str, object]]] = {}
    for pool in snapshot.pools:
        by_name.setdefault(pool["name"], []).append(pool)
    for name, pools in sorted(by_name.items()):
        versions = sorted({str(pool["version"]) for pool in pools})
        places = [Evidence(f"[{name}]", str(pool["file"]), int(str(pool["line"]))) for pool in pools]
        if len(versions) > 1:
            yield bad(
                f"pool {name}",
                f"the versions {' and '.join(versions)} both have a pool {name}",
                "one, or names that tell them apart",
                *places,
                fix=f"mv {pools[0]['file']} {pools[0]['file']}.off\n# then reload {pools[0]['unit']}",
            )
        else:
            yield good(f"pool {name}", f"only PHP {versions[0]} has it", *places[:1])
    for master in snapshot.masters:
        if master["layout"] and master["binary"] is None and snapshot.live and not master["in_container"]:
            yield bad(
                f"PHP-FPM {master['version']}",
                f"{master['config_file']} is there, but the program of this version is not",
                "files of installed versions only",
                Evidence(f"pools: {', '.join(master['pools']) or 'none'}", master["config_file"]),
                fix=f"apt-get purge php{master['version']}-fpm",
            )


@_BOOK.rule("F05", "medium", "A PHP version past its end of life", "worker_crashed")
def end_of_life(snapshot: Snapshot) -> Iterator[Outcome]:
    today = time.strftime("%Y-%m-%d", time.gmtime(snapshot.now))
    for version in sorted({str(master["version"]) for master in snapshot.masters if master["version"]}):
        last = END_OF_LIFE.get(version)
        if last is None:
            yield unknown(f"PHP {version}", "when its fixes end is not known to this collection")
        elif last < today:
            yield bad(
                f"PHP {version}",
                f"php.net has fixed nothing in it since {last}",
                "a version with security fixes, or those of the distribution",
                Evidence(f"PHP {version}, end of life {last}"),
                fix=f"# install a newer version beside {version}, then move the pools one by one",
                confidence="medium",
            )
        else:
            yield good(f"PHP {version}", f"it gets fixes until {last}")


@_BOOK.rule("F06", "high", "OPcache is full, or serves old code after a deployment", "php_fatal")
def opcache(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        enabled, place = php_value(snapshot, pool, "opcache.enable")
        if enabled is not None and enabled.lower() in ("0", "off", "no", "false", ""):
            yield good(pool_title(pool), "OPcache is off: it holds no code that could be old", place)
            continue
        checks, place = php_value(snapshot, pool, "opcache.validate_timestamps")
        if checks is None or checks.lower() not in ("0", "off", "no", "false", ""):
            # How full the cache is only code inside the worker can tell, and none is run.
            yield unknown(pool_title(pool), "how full OPcache is cannot be seen from outside", place)
            continue
        reloads = marks(snapshot, "reload")
        allowed = [
            rule for rule in snapshot.sudoers or [] if "reload" in rule.command or "restart" in rule.command
        ]
        if reloads or allowed:
            why = f"{len(reloads)} reloads in the logs" if reloads else f"{allowed[0].user} may reload it"
            yield unknown(
                pool_title(pool), f"old code needs a reload, and {why}; how full it is cannot be seen", place
            )
        else:
            yield bad(
                pool_title(pool),
                "opcache.validate_timestamps is off, and nothing shows that a deployment reloads PHP-FPM",
                "a reload at the end of each deployment",
                place,
                fix="php-fpm-reload " + (pool["unit"] or "php-fpm").removesuffix(".service"),
                confidence="low",
            )


@_BOOK.rule("F07", "high", "A control panel's pool file was edited by another tool", "path_mismatch")
def panel_files(snapshot: Snapshot) -> Iterator[Outcome]:
    for pool in snapshot.pools:
        place = Evidence(f"[{pool['name']}]", pool["file"], pool["line"])
        if not pool["panel"]:
            yield good(pool_title(pool), "no control panel owns its file", place)
            continue
        head = snapshot.pool_heads.get(pool["file"], "")
        master = next((one for one in snapshot.masters if one["config_file"] == pool["master"]), {})
        if head:
            yield bad(
                pool_title(pool),
                f'{pool["panel"]} owns this file, and another tool marked it: "{head}". The panel will overwrite it',
                "the panel's own way to change a pool",
                place,
                fix=f"# {master.get('panel_override') or 'see the documentation of the panel'}",
                confidence="medium",
            )
        else:
            yield unknown(
                pool_title(pool), f"whether a person edited the file of {pool['panel']} cannot be seen", place
            )


@_BOOK.rule("F08", "critical", "PHP-FPM would refuse its configuration", "config_invalid")
def refused(snapshot: Snapshot) -> Iterator[Outcome]:
    seen = log_cause(snapshot, "config_invalid")
    for master in snapshot.masters:
        subject = f"PHP-FPM {master['version'] or '?'}"
        errors = [one for one in master["errors"] if not any(word in one["message"] for word in _ELSEWHERE)]
        if errors:
            places = [Evidence(one["message"], one["file"], one["line"]) for one in errors[:5]]
            first = places[0]
            yield bad(
                subject,
                first.text + (f", and {len(errors) - 1} more" if len(errors) > 1 else ""),
                "a configuration that passes php-fpm --test",
                *places,
                *([log_evidence(seen)] if seen else []),
                fix=f"{master['binary'] or 'php-fpm'} --test --fpm-config {master['config_file']}",
                confidence="medium",
            )
        elif not master["errors"]:
            yield good(
                subject, "its files hold no mistake that the text shows", Evidence("", master["config_file"])
            )
