# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that a change leaves to be done is told until somebody has done it, whatever happens between."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import DueWork, Request
from transaction_tools import NO, YES, Place, Recording, Stopping, in_child, snapshot

FPM = DueWork("php8.2-fpm", ("*/fpm/*",))
NGINX = DueWork("nginx", ("*/nginx/*",))
ANY = DueWork("daemon-reload")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make(tmp_path)


def make(base: Path) -> Place:
    place = Place(base)
    (place.etc / "fpm").mkdir()
    (place.etc / "nginx").mkdir()
    return place


def request(place: Place, content: str = "x = 1\n", **more: Any) -> Request:
    return place.request(place.file("fpm/a.conf", content), due=(FPM, NGINX, ANY), **more)


def markers(place: Place) -> list[str]:
    folder = place.state / "due"
    return sorted(os.listdir(folder)) if folder.exists() else []


def told(result: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(item["name"], item["earlier"]) for item in result["due"]]


def done(result: dict[str, Any]) -> Request:
    return Request("other", done=tuple((item["name"], item["id"]) for item in result["due"]))


def test_work_is_due_until_it_is_done(place: Place) -> None:
    first = place.run(request(place))
    assert told(first) == [("php8.2-fpm", False), ("daemon-reload", False)]
    assert markers(place) == ["daemon-reload", "php8.2-fpm"]
    again = place.run(request(place))
    assert (again["changed"], again["changes"], again["changed_paths"]) == (True, [], [])
    assert told(again) == [("php8.2-fpm", True), ("daemon-reload", True)]
    assert [item["id"] for item in again["due"]] == [item["id"] for item in first["due"]]
    noted = place.run(done(again))
    assert noted["changed"] is False
    assert markers(place) == []
    last = place.run(request(place))
    assert (last["changed"], last["due"]) == (False, [])


def test_who_does_not_name_the_work_is_not_told_of_it(place: Place) -> None:
    place.run(request(place))
    assert place.run(Request("other", due=(NGINX,)))["changed"] is False
    assert told(place.run(Request("other", due=(FPM,)))) == [("php8.2-fpm", True)]


def test_work_done_for_an_older_change_leaves_the_newer_one_due(place: Place) -> None:
    first = place.run(request(place))
    second = place.run(request(place, "x = 2\n"))
    assert told(second) == [("php8.2-fpm", True), ("daemon-reload", True)]
    place.run(done(first))
    assert markers(place) == ["daemon-reload", "php8.2-fpm"]
    place.run(done(second))
    assert markers(place) == []


def test_a_rejected_change_leaves_the_markers_as_they_were(place: Place) -> None:
    with pytest.raises(StackError, match="was rejected"):
        place.run(request(place), NO)
    assert markers(place) == []
    place.run(place.request(place.file("fpm/a.conf"), due=(FPM,)))
    before = snapshot(place.state / "due")["php8.2-fpm"][5]
    with pytest.raises(StackError, match="was rejected"):
        place.run(request(place, "x = 2\n"), NO)
    assert markers(place) == ["php8.2-fpm"]
    assert snapshot(place.state / "due")["php8.2-fpm"][5] == before


def test_check_mode_tells_and_touches_nothing(place: Place) -> None:
    predicted = place.run(request(place), check_mode=True)
    assert told(predicted) == [("php8.2-fpm", False), ("daemon-reload", False)]
    assert not place.state.exists()
    result = place.run(request(place))
    checked = place.run(request(place), check_mode=True)
    assert (checked["changed"], told(checked)) == (
        True,
        [("php8.2-fpm", True), ("daemon-reload", True)],
    )
    place.run(done(result), check_mode=True)
    assert markers(place) == ["daemon-reload", "php8.2-fpm"]


def test_the_marker_is_on_the_disk_before_the_change_can_be_seen(place: Place) -> None:
    fs = Recording()
    place.run(request(place), YES, fs)
    marker = str(place.state / "due/php8.2-fpm")
    seen = fs.steps.index(("rename", place.path("fpm/a.conf")))
    assert fs.steps.index(("rename", marker)) < seen
    assert ("fsync", str(place.state / "due/.php8.2-fpm.new")) in fs.steps[:seen]
    assert ("fsync", str(place.state / "due")) in fs.steps[fs.steps.index(("rename", marker)) : seen]


def test_killed_at_every_step_no_visible_change_is_without_its_marker(tmp_path: Path) -> None:
    fs = Recording()
    make_and_run(make(tmp_path / "count"), fs)
    for number in range(1, len(fs.steps) + 1):
        place = make(tmp_path / str(number))
        before = snapshot(place.etc)
        assert in_child(lambda p=place, at=number: make_and_run(p, Stopping(at))) == -signal.SIGKILL
        changed = {name: item for name, item in snapshot(place.etc).items() if ".webops" not in name}
        if {k: v for k, v in changed.items() if v[0] == "file"} != {
            k: v for k, v in before.items() if v[0] == "file"
        }:
            assert {"daemon-reload", "php8.2-fpm"} <= set(markers(place)), number
        place.run(Request("other"))
        result = place.run(request(place))
        assert told(result)[0][0] == "php8.2-fpm", number
        place.run(done(result))
        assert [name for name in markers(place) if not name.startswith(".")] == []
        assert place.run(request(place))["changed"] is False


def make_and_run(place: Place, fs: FileSystem) -> None:
    place.run(request(place), YES, fs)


def test_a_marker_that_nobody_can_read_is_due_and_can_be_done(place: Place) -> None:
    result = place.run(request(place))
    (place.state / "due/php8.2-fpm").write_bytes(b"\xff{")
    again = place.run(request(place))
    assert [item["id"] for item in again["due"]] == ["", result["due"][1]["id"]]
    place.run(done(again))
    assert markers(place) == []


def test_markers_can_be_read_by_a_person(place: Place) -> None:
    place.run(request(place))
    assert json.loads((place.state / "due/php8.2-fpm").read_text())["transaction"] == "test"


def test_names_that_would_leave_the_folder_are_refused(place: Place) -> None:
    with pytest.raises(StackError) as caught:
        place.run(Request("test", due=(DueWork("../x"), DueWork("")), done=(("a/b", "1"),)))
    text = str(caught.value)
    assert "due[0]: name '../x' must be letters" in text
    assert "due[1]: name '' must be" in text
    assert "done[0]: name 'a/b' must be" in text
