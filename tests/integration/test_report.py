# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a real host, in a real browser: it loads nothing, runs nothing, and fits."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "tests/unit"), str(ROOT / ".ansible/collections")]

import lab
import report_samples as samples
from ansible_collections.webops.php_stack.plugins.filter.stack_report import stack_report
from browser import Browser, Page

NAME = "test-report"
# Beside the demo's faults: a visitor who tries to get markup into the log.
REQUESTS = """
bash /root/break.sh
curl -s -o /dev/null --path-as-is -g -H 'Host: shop.example.com' 'http://127.0.0.1/<script>alert(1)</script>'
curl -s -o /dev/null -g -H 'Host: shop.example.com' 'http://127.0.0.1/"onload="alert(1)'
hey -n 20 -c 2 -host shop.example.com http://127.0.0.1/ >/dev/null
hey -n 20 -c 2 -host blog.example.com http://127.0.0.1/ >/dev/null
systemctl reload php8.2-fpm
touch /root/stamp
"""
WIDE = """
[...document.querySelectorAll('body *')].filter(one => !one.closest('.definitions') && one.getClientRects().length
  && one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('svg svg') && getComputedStyle(one).position !== 'absolute')
  .map(one => one.tagName + '.' + one.getAttribute('class')).slice(0, 5)
"""

# [text, background] of the first element of each name.
COLOURS = """
NAMES.map(name => { const one = document.querySelector(name); let back = one;
  while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
  return [getComputedStyle(one).color, getComputedStyle(back).backgroundColor]; })
"""


def docker(script: str) -> str:
    return lab.docker("exec", NAME, "bash", "-c", script).stdout


def play(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    inventory = json.loads(lab.inventory([NAME, "test-report-gone"]))
    (folder / "inventory.json").write_text(json.dumps(inventory))
    return subprocess.run(
        [
            ROOT / ".venv/bin/ansible-playbook",
            "-i",
            folder / "inventory.json",
            ROOT / "playbooks/report.yml",
            *args,
        ],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PWD": str(folder)},
    )


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The report of a broken host and of one that is not there, made in check mode."""
    folder = tmp_path_factory.mktemp("report")
    lab.up(NAME, "stack", None, fresh=True)
    lab.docker("cp", str(ROOT / "tests/lab/demo/break.sh"), f"{NAME}:/root/break.sh")
    docker(REQUESTS)
    done = play(folder, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    yield folder / "php-stack-report.html"
    lab.down([NAME])


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fleet") / "fleet.html"
    file.write_text(stack_report(list(samples.fleet(50, 20)), "now", "1d"), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser, report: Path) -> Page:
    found = browser.page()
    found.open(report)
    return found


def test_it_names_what_is_broken(page: Page) -> None:
    text = page.script("document.body.innerText")
    assert "no pool listens there" in text
    assert "The host was not reached" in text
    assert page.script("document.querySelectorAll('.fleet tbody tr').length") == 2
    broken = page.script(
        "[...document.querySelectorAll('.fleet .lamp.broken span')].map(one => one.innerText)"
    )
    assert sorted(broken) == ["blog", "shop.example.com"]
    ways = page.script(
        "[...document.querySelectorAll('.chain.broken li.broken > span')].map(one => one.textContent)"
    )
    assert sorted(way for way in ways if way in ("pool", "socket")) == ["pool", "socket"]


def test_it_changes_nothing_on_the_host(report: Path) -> None:
    assert report.exists()
    assert docker("find /etc /usr /srv /opt /var/lib/php -xdev -newer /root/stamp -type f").split() == []


def test_it_can_be_read_and_moved_as_a_file(report: Path) -> None:
    assert report.stat().st_mode & 0o777 == 0o644
    report.read_text(encoding="utf-8")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("which", ["report", "fleet"])
def test_it_loads_nothing_says_nothing_and_fits(
    request: pytest.FixtureRequest, browser: Browser, which: str, width: int, dark: bool
) -> None:
    file: Path = request.getfixturevalue(which)
    found = browser.page()
    found.size(width, 800, dark)
    found.open(file)
    # A fleet is read with its hosts closed; one host is read with everything open.
    if which == "report":
        found.script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert found.script("document.documentElement.scrollWidth") <= width
    assert found.script(WIDE) == []
    assert found.messages == []
    assert found.requests == [file.resolve().as_uri()]


def test_light_and_dark_differ_and_both_can_be_read(page: Page) -> None:
    colours = {}
    for dark in (False, True):
        page.size(1280, 800, dark)
        names = ["body", ".muted", ".headline", ".lamp.broken", ".lamp.warn", "a"]
        colours[dark] = page.script(COLOURS.replace("NAMES", json.dumps(names)))
        assert [contrast(text, back) for text, back in colours[dark] if contrast(text, back) < 4.5] == []
    assert colours[False] != colours[True]


def contrast(one: str, two: str) -> float:
    """By WCAG 2; 4.5 is what text needs."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


def test_the_ladder_says_what_php_ini_sets_and_where(page: Page) -> None:
    rungs = page.script(
        "[...document.querySelectorAll('.ladder')].map(one => [one.querySelector('h4').textContent.trim(),"
        " one.querySelector('dt').innerText.replace(/\\s+/g, ' '), one.querySelector('.value').innerText.trim()])"
    )
    found = {title: (name, value) for title, name, value in rungs}
    name, value = found["api.example.com → pool api"]
    assert re.fullmatch(r"PHP max_execution_time /etc/php/8\.2/fpm/php\.ini:\d+", name)
    assert value == "30 s"
    name, value = found["report.example.com → pool report"]
    assert re.fullmatch(r"PHP max_execution_time /etc/php/8\.2/fpm/pool\.d/report\.conf:\d+", name)
    assert value == "300 s"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_paper_is_light_and_holds_the_whole_width(browser: Browser, report: Path, dark: bool) -> None:
    found = browser.page()
    found.size(794, 1123)  # A4 at 96 dots an inch
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    found.ask("Emulation.setEmulatedMedia", media="print", features=[scheme])
    found.open(report)
    names = json.dumps(["body", ".muted", ".headline", ".lamp.broken", ".lamp.warn", "pre", "a"])
    colours = found.script(COLOURS.replace("NAMES", names))
    assert [
        pair for pair in colours if contrast(*pair) < 4.5 or contrast(pair[1], "rgb(255, 255, 255)") > 1.6
    ] == []
    assert found.script(WIDE) == []
    sheets = base64.b64decode(
        found.ask("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)["data"]
    )
    assert sheets.startswith(b"%PDF-")
    # Each host starts a sheet of its own.
    assert len(re.findall(rb"/Type\s*/Page\b", sheets)) >= 3


def test_no_state_is_told_by_colour_alone(page: Page) -> None:
    shown = page.script(
        "[...document.querySelectorAll('svg.glyph')].map(one => [one.getAttribute('class').split(' ')[1],"
        " one.querySelector('use').getAttribute('href')])"
    )
    states = {tuple(pair) for pair in shown}
    assert {"broken", "warn", "good"} <= {state for state, _sign in states}
    assert len(states) == len({sign for _state, sign in states}) == len({state for state, _sign in states})
    # Lamps say their state to a screen reader, and the timeline's causes have a pattern each.
    assert (
        page.script(
            "[...document.querySelectorAll('.lamp .glyph')].filter(one => !one.getAttribute('aria-label')).length"
        )
        == 0
    )
    looks = page.script(
        "[...document.querySelectorAll('.timeline ~ .legend rect')].map(one => one.getAttribute('fill') || one.getAttribute('class'))"
    )
    assert len(looks) == len(set(looks)) >= 2


def test_markup_in_a_request_stays_text(page: Page) -> None:
    assert page.script("document.scripts.length") == 0
    assert (
        page.script(
            "[...document.querySelectorAll('*')].filter(one => [...one.attributes].some(item => item.name.startsWith('on'))).length"
        )
        == 0
    )
    assert page.script("document.documentElement.outerHTML.includes('&lt;script&gt;alert(1)')")


def test_a_script_would_not_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    """The second wall: even markup that got in is stopped by the page's policy."""
    file = tmp_path / "bad.html"
    attack = "<script>document.title = 'ran'</script><p id=evil style='color: red' onclick=1>x</p><img src=http://127.0.0.1:9/x>"
    file.write_text(report.read_text(encoding="utf-8").replace("<main>", "<main>" + attack), encoding="utf-8")
    found = browser.page()
    found.open(file)
    assert found.script("document.title") == "PHP stack report"
    assert found.script("getComputedStyle(document.getElementById('evil')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in message for message in found.messages)


def test_a_phone_gets_lists_and_a_desk_the_drawing(page: Page) -> None:
    shown = "[...document.querySelectorAll('.map, .chains')].map(one => getComputedStyle(one).display)"
    page.size(360, 800)
    assert page.script(shown) == ["none", "grid"]
    page.size(1280, 800)
    assert page.script(shown) == ["block", "none"]


def test_it_prints_with_everything_that_was_closed(page: Page) -> None:
    page.ask("Emulation.setEmulatedMedia", media="print")
    hidden = page.script(
        "[...document.querySelectorAll('details:not([open]) .case')].filter(one => !one.checkVisibility()).length"
    )
    assert hidden == 0


def test_a_link_to_a_closed_host_opens_it(browser: Browser, fleet: Path) -> None:
    found = browser.page()
    found.open(fleet)
    link = "document.querySelector('.fleet tr:last-child a')"
    host = f"document.querySelector({link}.getAttribute('href')).parentElement"
    assert found.script(f"{host}.open") is False
    found.script(f"{link}.click()")
    assert found.script(f"new Promise(done => setTimeout(() => done({host}.open), 200))") is True
