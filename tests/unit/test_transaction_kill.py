# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any instant, a transaction leaves a tree that the next run makes whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction import Validator
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_fs import FileSystem
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    DirectoryWish,
    FileWish,
    ManagedDir,
    Request,
)
from transaction_tools import NO, YES, Place, Recording, Stopping, bare, in_child, snapshot

MARKED = "# Managed by webops.php_stack (test): changes here are lost.\n"


def furnish(place: Place) -> None:
    """A tree in which the request below does one of each: create, change, adopt, chmod, link, relink, remove."""
    (place.etc / "sites").mkdir(mode=0o755)
    (place.etc / "sites/a.conf").write_text(MARKED + "old a\n")
    (place.etc / "sites/a.conf").chmod(0o640)
    (place.etc / "sites/foreign.conf").write_text("by hand\n")
    (place.etc / "sites/mode.conf").write_text(MARKED + "mode\n")
    (place.etc / "sites/stale.conf").write_text(MARKED + "stale\n")
    (place.etc / "sites/untouched.conf").write_text("not ours\n")
    (place.etc / "sites/relinked").symlink_to("a.conf")
    (place.etc / "sites/through").symlink_to("../through.conf")
    (place.etc / "through.conf").write_text(MARKED + "old through\n")
    (place.etc / "sites/default").write_text("default site\n")
    for path in (place.etc / "sites").iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))


def request(place: Place) -> Request:
    return Request(
        "test",
        (
            *(place.file(f"sites/more-{number}.conf") for number in range(14)),
            place.file("sites/a.conf", "new a\n"),
            place.file("sites/foreign.conf", "adopted\n"),
            place.file("sites/mode.conf", "mode\n", mode="0600"),
            place.file("sites/through", "new through\n"),
            place.file("sites/new.conf", "new\n"),
            place.file("made/deep/x.conf", "x\n", mode="0600"),
            FileWish(place.path("sites/link"), state="link", target="new.conf"),
            FileWish(place.path("sites/relinked"), state="link", target="new.conf"),
            FileWish(place.path("sites/default"), state="absent"),
        ),
        directories=(
            DirectoryWish(place.path("made/deep"), mode="0750"),
            DirectoryWish(place.path("sites"), mode="0711"),
        ),
        manage=(ManagedDir(place.path("sites")),),
    )


def settled(place: Place) -> dict[str, Any]:
    """The tree as an undisturbed run makes it."""
    place.run(request(place))
    return bare(snapshot(place.etc))


def steps_of(base: Path, validators: tuple[Validator, ...]) -> int:
    place = Place(base)
    furnish(place)
    fs = Recording()
    try:
        place.run(request(place), validators, fs)
    except StackError:
        assert validators is NO
    return len(fs.steps)


@pytest.mark.parametrize("validators", [YES, NO], ids=["accepted", "rejected"])
def test_killed_at_every_step(tmp_path: Path, validators: tuple[Validator, ...]) -> None:
    goal = Place(tmp_path / "goal")
    furnish(goal)
    want = settled(goal)
    total = steps_of(tmp_path / "count", validators)
    assert total >= 200
    for number in range(1, total + 1):
        place = Place(tmp_path / str(number))
        furnish(place)
        before = snapshot(place.etc)
        code = in_child(lambda place=place, at=number: place.run(request(place), validators, Stopping(at)))
        assert code == -signal.SIGKILL, number
        committed = (place.journal / "committed.json").exists()
        interrupted = committed or (place.journal / "journal.json").exists()
        # The next run, even one for something else, makes the tree whole.
        result = place.run(Request("other"))
        assert place.debris == [], number
        assert result["changed"] is interrupted
        assert [item["outcome"] for item in result["recovered"]] == (
            [] if not interrupted else ["committed"] if committed else ["rolled_back"]
        )
        if committed:
            assert bare(snapshot(place.etc)) == want, number
            # The killed run told nobody what to reload, so this one does.
            assert place.path("sites/a.conf") in result["changed_paths"]
        elif bare(snapshot(place.etc)) != want:
            assert snapshot(place.etc) == before, number
        else:  # killed after everything, before the caller heard of it
            assert validators is YES
            assert number == total
        place.run(request(place))
        assert bare(snapshot(place.etc)) == want, number


def test_killed_twice_at_every_step_of_the_recovery(tmp_path: Path) -> None:
    last_swap = _number_of_last_swap(tmp_path / "swap")
    number = 0
    while True:
        number += 1
        place = Place(tmp_path / f"again-{number}")
        furnish(place)
        before = snapshot(place.etc)
        assert (
            in_child(lambda place=place: place.run(request(place), YES, Stopping(last_swap)))
            == -signal.SIGKILL
        )
        code = in_child(lambda place=place, at=number: place.run(Request("other"), YES, Stopping(at)))
        place.run(Request("third"))
        assert snapshot(place.etc) == before, number
        assert place.debris == []
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert number > 40


def _trace(place: Place) -> list[tuple[str, str]]:
    fs = Recording()
    place.run(request(place), YES, fs)
    return fs.steps


def _number_of_last_swap(base: Path) -> int:
    place = Place(base)
    furnish(place)
    steps = _trace(place)
    return max(
        number
        for number, (what, path) in enumerate(steps, 1)
        if what in ("rename", "unlink") and path.startswith(str(place.etc))
    )


def test_the_journal_is_on_the_disk_before_the_tree_changes(tmp_path: Path) -> None:
    place = Place(tmp_path)
    furnish(place)
    steps = _trace(place)
    renamed = steps.index(("rename", str(place.journal / "journal.json")))
    flushed = steps.index(("fsync", str(place.journal)), renamed)
    first = next(number for number, (_what, path) in enumerate(steps) if path.startswith(str(place.etc)))
    assert flushed < first
    for part in ("old", "journal.json.new"):
        assert steps.index(("fsync", str(place.journal / part))) < renamed


def test_every_file_is_on_the_disk_before_it_is_swapped_in_and_every_name_before_the_commit(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    furnish(place)
    steps = _trace(place)
    commit = steps.index(("rename", str(place.journal / "committed.json")))
    first_swap = next(
        n for n, (what, path) in enumerate(steps) if what == "rename" and path.startswith(str(place.etc))
    )
    writes = [
        n for n, (what, path) in enumerate(steps) if what == "write" and path.startswith(str(place.etc))
    ]
    syncs = [n for n, (what, path) in enumerate(steps) if what == "fsync" and ".webops" in path]
    assert max(writes) < max(syncs) < first_swap
    last_swap = max(n for n, (what, path) in enumerate(steps[:commit]) if what == "rename")
    synced = {path for what, path in steps[last_swap:commit] if what == "fsync"}
    assert {str(place.etc), str(place.etc / "sites"), str(place.etc / "made/deep")} <= synced


def test_what_a_person_changed_after_the_kill_stays(tmp_path: Path) -> None:
    place = Place(tmp_path / "one")
    furnish(place)
    at = _number_of_last_swap(tmp_path / "swap")
    in_child(lambda: place.run(request(place), YES, Stopping(at)))
    (place.etc / "sites/a.conf").write_text("mended by hand at night\n")
    result = place.run(Request("other"))
    assert result["recovered"][0]["kept"] == [place.path("sites/a.conf")]
    assert (place.etc / "sites/a.conf").read_text() == "mended by hand at night\n"
    assert (place.etc / "sites/foreign.conf").read_text() == "by hand\n"


def test_check_mode_only_reports_an_interrupted_run(tmp_path: Path) -> None:
    place = Place(tmp_path / "one")
    furnish(place)
    at = _number_of_last_swap(tmp_path / "swap")
    in_child(lambda: place.run(request(place), YES, Stopping(at)))
    before = snapshot(tmp_path / "one")
    result = place.run(Request("other"), check_mode=True)
    assert [(item["name"], item["outcome"]) for item in result["recovered"]] == [("test", "pending")]
    assert result["changed"] is True
    assert snapshot(tmp_path / "one") == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_polite_signal_undoes_at_once(tmp_path: Path, number: signal.Signals) -> None:
    place = Place(tmp_path)
    furnish(place)
    before = snapshot(place.etc)

    class Signalled(FileSystem):
        def step(self, what: str, path: str) -> None:
            if what == "rename" and path == str(place.etc / "sites/a.conf"):
                os.kill(os.getpid(), number)

    with pytest.raises(StackError, match=f"stopped by {number.name}"):
        place.run(request(place), YES, Signalled())
    assert snapshot(place.etc) == before
    assert place.debris == []


def test_a_journal_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.journal.mkdir(parents=True)
    (place.journal / "journal.json").write_text("{")
    with pytest.raises(
        StackError, match=r"transaction test could not be undone: .*journal\.json is not a journal"
    ):
        place.run(place.request(place.file("a.conf")))
    assert snapshot(place.etc) == {}
