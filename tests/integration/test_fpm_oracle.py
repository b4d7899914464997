# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser of FPM's configuration against ``php-fpm -tt`` of 7.4, 8.2 and 8.4."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / ".ansible/collections")]
import fpm_oracle
import lab

VERSIONS = {(7, 4): "bullseye", (8, 2): "bookworm", (8, 4): "trixie"}
CASES = 400
CORPUS = ROOT / "tests/fixtures/fpm"


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[tuple[int, int], str]]:
    names = {version: f"php-stack-test-fpm-seeds-{suite}" for version, suite in VERSIONS.items()}
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda item: lab.up(names[item[0]], "stack", None, True, item[1]), VERSIONS.items()))
    yield names
    lab.down(list(names.values()))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_generated_configurations_agree(
    hosts: dict[tuple[int, int], str], version: tuple[int, int], tmp_path: Path
) -> None:
    generator = fpm_oracle.Generator(20261121, version)
    cases = [generator.case(number) for number in range(CASES)]
    verdicts = fpm_oracle.ask(hosts[version], version, cases)
    wrong = []
    for number, (case, verdict) in enumerate(zip(cases, verdicts)):
        wrong += disagreements(number, case, verdict, tmp_path, version)
    assert wrong == []
    accepted = sum(verdict.rc == 0 for verdict in verdicts)
    # Both kinds must be there in numbers, else the test says little.
    assert CASES * 0.3 < accepted < CASES * 0.8, f"{accepted} of {CASES} accepted"
    assert sum(bool(verdict.places) for verdict in verdicts) > CASES * 0.1


def corpus(version: tuple[int, int]) -> dict[str, fpm_oracle.Case]:
    """Configurations as people, packages, images and panels write them, by name."""
    cases = {}
    for folder in sorted(CORPUS.iterdir()):
        if folder.name.startswith("since-") and version < (8, 2):
            continue
        top = f"{fpm_oracle.FOLDER}/{len(cases)}"
        cases[folder.name] = {
            str(path.relative_to(folder)): path.read_text().replace("@TOP@", top)
            for path in folder.rglob("*")
            if path.is_file()
        }
    return cases


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_the_corpus_agrees(
    hosts: dict[tuple[int, int], str], version: tuple[int, int], tmp_path: Path
) -> None:
    cases = corpus(version)
    verdicts = fpm_oracle.ask(hosts[version], version, list(cases.values()))
    refused = {name: one.stderr for name, one in zip(cases, verdicts) if one.rc != 0}
    assert refused == {}
    wrong = []
    for number, (case, verdict) in enumerate(zip(cases.values(), verdicts)):
        assert len(verdict.dump) > 1
        wrong += disagreements(number, case, verdict, tmp_path, version)
    assert wrong == []


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_the_packages_own_files_agree(
    hosts: dict[tuple[int, int], str], version: tuple[int, int], tmp_path: Path
) -> None:
    folder = f"/etc/php/{version[0]}.{version[1]}/fpm"
    top = f"{fpm_oracle.FOLDER}/0"
    case = {}
    for name, file in (("main.conf", "php-fpm.conf"), ("pool.d/www.conf", "pool.d/www.conf")):
        shown = subprocess.run(
            ["docker", "exec", hosts[version], "cat", f"{folder}/{file}"],
            capture_output=True,
            text=True,
            check=True,
        )
        case[name] = shown.stdout.replace(f"{folder}/pool.d", f"{top}/pool.d")
    (verdict,) = fpm_oracle.ask(hosts[version], version, [case])
    assert (verdict.rc, sorted(verdict.dump)) == (0, ["global", "www"])
    assert disagreements(0, case, verdict, tmp_path, version) == []


def disagreements(
    number: int, case: fpm_oracle.Case, verdict: fpm_oracle.Verdict, top: Path, version: tuple[int, int]
) -> list[str]:
    config = fpm_oracle.read(number, case, top, version)
    problems = [f"{item.file}:{item.line}: {item.message}" for item in config.problems]
    where = f"case {number}"
    if verdict.rc != 0:
        if not problems:
            return [f"{where}: FPM refuses what we accept: {verdict.stderr[-600:]}"]
        wrong = [f"{where}: no file for {item.message}" for item in config.problems if item.file is None]
        ours = {(item.file, item.line) for item in config.problems}
        wrong += [
            f"{where}: FPM names {place}, we {problems}"
            for place in verdict.places[:1]
            if place not in ours and fpm_oracle.counts_lines(case, place[0])
        ]
        return wrong
    if problems:
        return [f"{where}: we refuse what FPM accepts: {problems}"]
    ours_shown, theirs_shown = fpm_oracle.rendered(config), fpm_oracle.theirs(verdict.dump)
    return [
        f"{where}: [{section}] {key}: we {ours_shown.get(section, {}).get(key)!r},"
        f" FPM {theirs_shown.get(section, {}).get(key)!r}"
        for section in sorted({*ours_shown, *theirs_shown})
        for key in sorted({*ours_shown.get(section, {}), *theirs_shown.get(section, {})})
        if ours_shown.get(section, {}).get(key) != theirs_shown.get(section, {}).get(key)
    ]
