# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No text of a host becomes markup in the report, whatever it holds."""

from __future__ import annotations

import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest
import report_samples as samples
from ansible_collections.webops.php_stack.plugins.filter.stack_report import stack_report
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ATTACKS = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onload='alert(1)",
    "</title></svg></style><img src=x onerror=alert(1)>",
    "<!-- --><![CDATA[ ]]>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &#60;i>",
    "javascript:alert(1)",
    "url(#x);}*{display:none",
    "\x00\ud800\u202e<b>",
]
# Attributes that hold text of a host. The values of all others are made by the template.
WITH_TEXT = {"title", "aria-label", "content"}
HARMLESS = re.compile(r"[\w\s.,:;%#()/=+'-]*")


class Skeleton(HTMLParser):
    """Tags with the names of their attributes, in order; and every attribute's value."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _value in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.strange.append(data)

    def unknown_decl(self, data: str) -> None:
        self.strange.append(data)

    def handle_pi(self, data: str) -> None:
        self.strange.append(data)


def read(page: str) -> Skeleton:
    found = Skeleton()
    found.feed(page)
    found.close()
    return found


def texts(raw: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(container, key) of each text of the sample that is only shown: it decides nothing."""
    audit, pools = raw["audit"], raw["fpm"]["ansible_facts"]["fpm_pools"]
    places: list[tuple[Any, Any]] = []
    for finding in audit["findings"]:
        places += [(finding, key) for key in ("title", "expected", "reason", "fix") if finding[key]]
        if finding["id"] not in ("S01", "S03"):
            places.append((finding, "found"))
            places += [(item, "text") for item in finding["evidence"]]
        places += [(item, "file") for item in finding["evidence"] if item["file"]]
        places.append((finding["can_cause"], 0))
    for entry in audit["verdict"]:
        places += [(entry, key) for key in ("headline", "fix", "last")] + [(entry["evidence"], 0)]
    places += [(cause, "summary") for cause in audit["causes"]]
    places += [(mark, "text") for mark in audit["timeline"]["marks"]]
    for pool in pools:
        places += [(pool, key) for key in ("unit", "user")]
        places += [(pool["listen"], key) for key in ("owner", "group", "mode")]
        places.append((pool["pm"], "mode"))
    for location in raw["nginx"]["locations"]:
        places += [
            (location, "title"),
            (location["listen"], 0),
            (location["fastcgi_pass"], "value"),
        ]
    budget = raw["sizing"]["budget"]
    places += [(budget, "source"), (budget["reserved"][0], "name"), (budget["reserved"][0], "how")]
    places += [(entry["reasoning"], 0) for entry in raw["sizing"]["plan"]]
    return [*places, (raw["nginx"]["nginx"], "version"), (raw, "name")]


PLAIN = read(stack_report([samples.broken()], "now", "1d"))


def fill(words: list[str]) -> dict[str, Any]:
    raw = deepcopy(samples.broken())
    for number, (container, key) in enumerate(texts(raw)):
        container[key] = words[number % len(words)]
    return raw


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_in_every_text_stays_text(attack: str) -> None:
    page = stack_report([fill([attack])], attack, attack)
    found = read(page)
    assert found.tags == PLAIN.tags
    assert found.strange == []
    assert "<script" not in page


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=5))
@example(ATTACKS)
def test_no_text_adds_a_tag_or_an_attribute(words: list[str]) -> None:
    page = stack_report([fill(words)], words[0], words[-1])
    found = read(page)
    assert found.tags == PLAIN.tags
    assert found.strange == []
    page.encode("utf-8")
    for tag, name, value in found.values:
        if name not in WITH_TEXT:
            assert HARMLESS.fullmatch(value), (tag, name, value)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1), st.text(min_size=1))
@example("<script>alert(1)</script>", '" onclick="x')
def test_names_that_decide_something_add_nothing_new_either(one: str, two: str) -> None:
    """Names of pools, sites, rules, causes and kinds of events change what is drawn, but only with known parts."""
    raw = samples.broken()
    raw["fpm"]["ansible_facts"]["fpm_pools"][0]["name"] = one
    raw["fpm"]["ansible_facts"]["fpm_pools"][1]["listen"]["address"] = two
    raw["nginx"]["locations"][0]["server_names"] = [one, two]
    raw["nginx"]["locations"][1]["targets"][0] |= {"kind": "variable", "address": one, "via": two}
    raw["audit"]["findings"][2] |= {"subject": one, "id": two, "severity": "critical"}
    raw["audit"]["findings"][4] |= {"severity": "low", "id": one}
    raw["audit"]["causes"][0]["id"] = two
    raw["audit"]["timeline"]["marks"][0]["kind"] = one
    raw["sizing"]["plan"][0] |= {"binding": one, "worker_source": two, "confidence": one}
    found = read(stack_report([raw, samples.healthy(two)], one, two))
    allowed = {tag for tag, _names in PLAIN.tags}
    names = {name for _tag, names in PLAIN.tags for name in names}
    assert {tag for tag, _names in found.tags} <= allowed
    assert {name for _tag, attributes in found.tags for name in attributes} <= names
    assert found.strange == []


def test_the_attack_is_readable_as_text() -> None:
    attack = "<script>alert(1)</script>"
    found = read(stack_report([fill([attack])], "now", "1d"))
    assert attack in "".join(found.text)


def test_the_page_loads_nothing_and_allows_no_script() -> None:
    page = stack_report([samples.broken(), samples.healthy()], "now", "1d")
    found = read(page)
    assert {tag for tag, _names in found.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "img",
        "form",
        "base",
    } == set()
    links = [value for _tag, name, value in found.values if name in ("href", "src", "xlink:href", "action")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert [
        name for _tag, names in found.tags for name in names if name == "style" or name.startswith("on")
    ] == []
    policy = next(value for _tag, name, value in found.values if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_every_link_leads_somewhere() -> None:
    page = stack_report([*samples.fleet(4, 3), samples.broken()], "now", "1d")
    found = read(page)
    ids = [value for _tag, name, value in found.values if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for _tag, name, value in found.values if name == "href" and value.startswith("#")}
    wanted |= set(re.findall(r"url\(#([\w-]+)\)", page))
    assert wanted <= set(ids)
