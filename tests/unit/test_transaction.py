# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a transaction does to a tree, and what it says."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.webops.php_stack.plugins.module_utils.boundary import StackError
from ansible_collections.webops.php_stack.plugins.module_utils.transaction import Validator
from ansible_collections.webops.php_stack.plugins.module_utils.transaction_plan import (
    DirectoryWish,
    FileWish,
    ManagedDir,
    Request,
)
from transaction_tools import FULL, NO, YES, Failing, Place, Recording, snapshot

MARKER = "# Managed by webops.php_stack (test): changes here are lost.\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def actions(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["action"], os.path.basename(item["path"])) for item in result["changes"]]


def failure(place: Place, request: Request, *args: Any, **more: Any) -> str:
    """The message of a run that must fail and change nothing."""
    before = snapshot(place.etc)
    with pytest.raises(StackError) as caught:
        place.run(request, *args, **more)
    assert snapshot(place.etc) == before
    assert place.debris == []
    return str(caught.value).replace(str(place.etc), "ETC")


# -- what changes ---------------------------------------------------------------------------------------------


def test_create_then_nothing(place: Place) -> None:
    request = place.request(place.file("a.conf", "a = 1\n"), place.file("b.conf", mode="0600"))
    first = place.run(request)
    assert actions(first) == [("created", "a.conf"), ("created", "b.conf")]
    assert first["changed_paths"] == [place.path("a.conf"), place.path("b.conf")]
    assert [item["name"] for item in first["validators"]] == ["yes"]
    assert (place.etc / "a.conf").read_text() == MARKER + "a = 1\n"
    assert (place.etc / "a.conf").stat().st_mode & 0o7777 == 0o644
    assert (place.etc / "b.conf").stat().st_mode & 0o7777 == 0o600
    second = place.run(request)
    assert (second["changed"], second["changes"], second["validators"]) == (False, [], [])
    assert second["validators_skipped"] == ["yes"]


@pytest.mark.parametrize(
    ("content", "comment", "written"),
    [
        ("x\n", "#", MARKER + "x\n"),
        ("x\n", ";", "; " + MARKER[2:] + "x\n"),
        ("x\n", "", "x\n"),
        ("", "#", MARKER),
        ("#!/bin/sh\nexit 0\n", "#", "#!/bin/sh\n" + MARKER + "exit 0\n"),
        ("#!/bin/sh", "#", "#!/bin/sh\n" + MARKER),
        (MARKER + "x\n", "#", MARKER + "x\n"),
        ("#!/bin/sh\n" + MARKER, "#", "#!/bin/sh\n" + MARKER),
        ("\udcff\n", "#", MARKER + "\udcff\n"),
    ],
)
def test_marker(place: Place, content: str, comment: str, written: str) -> None:
    data = content.encode("utf-8", "surrogateescape")
    place.run(place.request(FileWish(place.path("a"), content=data, comment=comment)))
    assert (place.etc / "a").read_bytes() == written.encode("utf-8", "surrogateescape")


def test_an_existing_file_keeps_owner_mode_and_acl_where_the_request_is_silent(place: Place) -> None:
    path = place.etc / "a.conf"
    path.write_text(MARKER)
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError as error:
        assert error.errno == errno.ENOTSUP  # tmpfs of an old kernel; the lab tests see ACLs
    before = (path.stat().st_mode, sorted(os.listxattr(path)))
    assert actions(place.run(place.request(place.file("a.conf", "new\n")))) == [("changed", "a.conf")]
    assert (path.stat().st_mode, sorted(os.listxattr(path))) == before
    assert actions(place.run(place.request(place.file("a.conf", "new\n", mode="0604")))) == [
        ("mode", "a.conf")
    ]
    assert path.stat().st_mode & 0o7777 == 0o604


def test_links_are_made_moved_and_removed_and_a_file_in_the_way_is_adopted(place: Place) -> None:
    (place.etc / "file").write_text("by hand\n")
    request = place.request(
        place.file("a.conf"),
        FileWish(place.path("link"), state="link", target="a.conf"),
        FileWish(place.path("file"), state="link", target="a.conf"),
    )
    result = place.run(request)
    assert actions(result) == [("created", "a.conf"), ("linked", "link"), ("linked", "file")]
    assert result["adopted"] == [place.path("file")]
    assert os.readlink(place.etc / "link") == os.readlink(place.etc / "file") == "a.conf"
    assert place.run(request)["changed"] is False
    moved = place.request(place.file("a.conf"), FileWish(place.path("link"), state="link", target="./a.conf"))
    assert actions(place.run(moved)) == [("linked", "link")]
    gone = place.request(place.file("a.conf"), FileWish(place.path("link"), state="absent"))
    assert actions(place.run(gone)) == [("removed", "link")]
    assert (place.etc / "a.conf").exists()


def test_a_file_is_written_through_its_link_and_the_link_stays(place: Place) -> None:
    (place.etc / "real").mkdir()
    (place.etc / "real/a.conf").write_text("old\n")
    (place.etc / "a.conf").symlink_to("real/a.conf")
    result = place.run(place.request(place.file("a.conf", "new\n")))
    assert result["changes"] == [
        {"path": place.path("a.conf"), "action": "changed", "real_path": place.path("real/a.conf")}
    ]
    assert result["changed_paths"] == [place.path("a.conf"), place.path("real/a.conf")]
    assert os.readlink(place.etc / "a.conf") == "real/a.conf"
    assert (place.etc / "real/a.conf").read_text() == MARKER + "new\n"


def test_stale_files_go_and_foreign_ones_stay(place: Place) -> None:
    for name in ("kept.conf", "gone.conf", "also.conf"):
        (place.etc / name).write_text(MARKER)
    (place.etc / "link.conf").symlink_to("gone.conf")
    (place.etc / "foreign.conf").write_text("by hand\n")
    (place.etc / "to-kept.conf").symlink_to("kept.conf")
    (place.etc / "dangling.conf").symlink_to("nowhere")
    (place.etc / "other.conf").write_text(MARKER.replace("test", "other"))
    (place.etc / "gone.txt").write_text(MARKER)
    (place.etc / ".hidden.conf").write_text(MARKER)
    (place.etc / "late.conf").write_text("1\n2\n" + MARKER)
    (place.etc / "folder.conf").mkdir()
    request = place.request(place.file("kept.conf", ""), manage=(ManagedDir(str(place.etc)),))
    result = place.run(request)
    assert sorted(actions(result)) == [
        ("removed", "also.conf"),
        ("removed", "gone.conf"),
        ("removed", "link.conf"),
    ]
    assert result["adopted"] == []
    assert sorted(os.listdir(place.etc)) == [
        ".hidden.conf", "dangling.conf", "folder.conf", "foreign.conf", "gone.txt", "kept.conf", "late.conf", "other.conf", "to-kept.conf",
    ]  # fmt: skip


def test_a_managed_directory_behind_a_link_loses_no_wanted_file(place: Place) -> None:
    (place.etc / "8.2").mkdir()
    (place.etc / "current").symlink_to("8.2")
    request = place.request(place.file("8.2/a.conf"), manage=(ManagedDir(place.path("current")),))
    assert actions(place.run(request)) == [("created", "a.conf")]
    assert place.run(request)["changed"] is False


def test_originals_are_kept_once_and_a_later_one_beside_it(place: Place) -> None:
    path, request = place.etc / "a.conf", place.request(place.file("a.conf", "ours\n"))
    kept = Path(f"{place.state}/originals{path}")
    path.write_text("first\n")
    path.chmod(0o640)
    assert place.run(request)["adopted"] == [str(path)]
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("first\n", 0o640)
    path.write_text("first\n")
    place.run(request)
    path.write_text("second\n")
    assert place.run(request)["adopted"] == [str(path)]
    assert kept.read_text() == "first\n"
    assert sorted(item.read_text() for item in kept.parent.iterdir()) == ["first\n", "second\n"]
    assert (place.state / "originals").stat().st_mode & 0o777 == 0o700


def test_adopt_false_names_every_foreign_file(place: Place) -> None:
    for name in ("a.conf", "b.conf"):
        (place.etc / name).write_text("by hand\n")
    request = place.request(place.file("a.conf"), place.file("b.conf"), place.file("c.conf"), adopt=False)
    text = failure(place, request)
    assert "without this collection's marker: ETC/a.conf, ETC/b.conf" in text


def test_directories_are_made_with_what_is_missing_above_them(place: Place) -> None:
    wish = DirectoryWish(place.path("x/y/z"), mode="0750")
    request = place.request(place.file("x/y/z/a.conf"), directories=(wish,))
    assert actions(place.run(request)) == [
        ("created", "x"),
        ("created", "y"),
        ("created", "z"),
        ("created", "a.conf"),
    ]
    modes = [(place.etc / name).stat().st_mode & 0o777 for name in ("x", "x/y", "x/y/z")]
    assert modes == [0o755, 0o755, 0o750]
    assert place.run(request)["changed"] is False
    (place.etc / "x/y/z").chmod(0o700)
    assert actions(place.run(request)) == [("mode", "z")]


# -- what is refused ------------------------------------------------------------------------------------------


def test_all_mistakes_of_the_request_at_once(place: Place) -> None:
    request = Request(
        "bad name",
        (
            FileWish("relative.conf", content=b""),
            place.file("a.conf"),
            place.file("a.conf"),
            place.file("b.conf", mode="420 (a number)"),
            FileWish(place.path("c.conf")),
            FileWish(place.path("l"), state="link"),
            FileWish(place.path("r"), state="absent", content=b"x"),
            place.file("a.conf/inside.conf"),
            place.file("../up.conf"),
        ),
        directories=(DirectoryWish(place.path("a.conf"), mode="rwx"),),
        manage=(ManagedDir("pool.d", "*/x"),),
    )
    text = failure(place, request, (Validator("empty", ()),))
    assert text.splitlines() == [
        "the request cannot be carried out; nothing was changed:",
        "- name: 'bad name' must be letters, digits, '_', '-' or '.', and begin with a letter or digit",
        "- files[0] (relative.conf): the path must be absolute",
        "- files[2] (ETC/a.conf): the same path as files[1]; each path may be named once",
        "- files[3] (ETC/b.conf): mode '420 (a number)' must be octal digits in quotes, such as \"0644\"",
        "- files[4] (ETC/c.conf): state is present, so content or template is needed",
        "- files[5] (ETC/l): state is link, so target is needed",
        "- files[6] (ETC/r): state is absent, so content, template and target make no sense",
        "- files[8] (ETC/../up.conf): the path must name the entry itself, without '..' and without a '/' at its end",
        "- files[7] (ETC/a.conf/inside.conf): ETC/a.conf is a file of this transaction, not a directory",
        "- directories[0] (ETC/a.conf): mode 'rwx' must be octal digits in quotes, such as \"0644\"",
        "- directories[0] (ETC/a.conf): files names this path too; it cannot be a file and a directory",
        "- manage[0] (pool.d): the path must be absolute",
        "- manage[0] (pool.d): pattern '*/x' must match names, so it cannot hold a '/'",
        "- validate[0] (empty): command is empty",
    ]


def test_all_mistakes_of_the_host_at_once(place: Place) -> None:
    (place.etc / "folder").mkdir()
    (place.etc / "real.conf").write_text("x\n")
    (place.etc / "twice.conf").symlink_to("real.conf")
    (place.etc / "to-kept.conf").symlink_to("kept.conf")
    (place.etc / "dangling.conf").symlink_to("nowhere")
    (place.etc / "circle.conf").symlink_to("circle.conf")
    os.mkfifo(place.etc / "fifo")
    request = place.request(
        place.file("folder"),
        place.file("fifo"),
        place.file("missing/a.conf"),
        place.file("real.conf"),
        place.file("twice.conf"),
        place.file("dangling.conf"),
        place.file("circle.conf"),
        place.file("real.conf.d/a.conf", owner="nobody-here", group="nor-here"),
        directories=(DirectoryWish(place.path("real.conf/sub")), DirectoryWish(place.path("real.conf.d"))),
    )
    text = failure(place, request)
    assert text.splitlines() == [
        "the request cannot be carried out; nothing was changed:",
        "- directories (ETC/real.conf): a file is in the way",
        "- files[0] (ETC/folder): ETC/folder is a directory; it is not replaced",
        "- files[1] (ETC/fifo): ETC/fifo is neither a file nor a link; it is not replaced",
        "- files[2] (ETC/missing/a.conf): the directory ETC/missing does not exist; list it under directories",
        "- files[4] (ETC/twice.conf): the same file as files[3], reached through a link",
        "- files[5] (ETC/dangling.conf): is a link to nowhere, which does not exist: remove the link first",
        "- files[6] (ETC/circle.conf): ETC/circle.conf: Too many levels of symbolic links",
        "- files[7] (ETC/real.conf.d/a.conf): there is no user 'nobody-here' on this host",
        "- files[7] (ETC/real.conf.d/a.conf): there is no group 'nor-here' on this host",
    ]


@pytest.mark.parametrize(
    "place_of_failure",
    ["temporary file", "journal", "original", "swap", "removal", "directory", "label"],
)
def test_a_failing_disk_changes_nothing(place: Place, place_of_failure: str) -> None:
    (place.etc / "b.conf").write_text("by hand\n")
    (place.etc / "gone.conf").write_text("by hand\n")
    request = place.request(
        place.file("a.conf"),
        place.file("b.conf"),
        place.file("d/c.conf"),
        FileWish(place.path("gone.conf"), state="absent"),
        directories=(DirectoryWish(place.path("d")),),
    )
    etc = str(place.etc)
    when = {
        "temporary file": lambda what, path: what == "write" and path.startswith(etc),
        "journal": lambda what, path: what == "write" and path.endswith("journal.json.new"),
        "original": lambda what, path: what == "write" and "/originals/" in path,
        "swap": lambda what, path: what == "rename" and path == etc + "/b.conf",
        "removal": lambda what, path: what == "unlink" and path == etc + "/gone.conf",
        "directory": lambda what, path: what == "mkdir" and path == etc + "/d",
        "label": lambda what, path: what == "fsync" and path == etc,
    }[place_of_failure]
    seen: list[str] = []

    def once(what: str, path: str) -> bool:
        hit = not seen and when(what, path)
        seen.extend([path] if hit else [])
        return hit

    text = failure(place, request, YES, Failing(FULL, once))
    assert text.endswith("No space left on device; nothing was changed")
    assert len(seen) == 1
    assert [path for path in snapshot(place.state / "originals") if path.endswith(".conf")] == []


def test_a_rollback_that_fails_says_so_and_the_next_run_finishes_it(place: Place) -> None:
    (place.etc / "a.conf").write_text("by hand\n")
    before = snapshot(place.etc)
    request = place.request(place.file("a.conf"), place.file("b.conf"))
    fs = Failing(errno.EROFS, lambda what, path: what == "unlink" and path.endswith("/b.conf"))
    with pytest.raises(
        StackError, match="a validator rejected the change; then the old state could not be put back"
    ):
        place.run(request, NO, fs)
    result = place.run(Request("other"))
    assert [item["outcome"] for item in result["recovered"]] == ["rolled_back"]
    assert snapshot(place.etc) == before


def test_a_journal_that_cannot_be_closed_is_closed_by_the_next_run_which_reports_the_change(
    place: Place,
) -> None:
    fs = Failing(errno.EIO, lambda what, path: what == "unlink" and path.endswith("committed.json"))
    with pytest.raises(StackError, match="the change is in place, but its journal"):
        place.run(place.request(place.file("a.conf")), YES, fs)
    result = place.run(place.request(place.file("a.conf")))
    assert (result["changed"], result["changes"], result["changed_paths"]) == (
        True,
        [],
        [place.path("a.conf")],
    )


# -- validators -----------------------------------------------------------------------------------------------


def test_a_rejected_change_fails_in_the_validators_words(place: Place) -> None:
    (place.etc / "a.conf").write_text("old\n")
    script = "echo out; echo 'line 3: unknown directive' >&2; ! grep -q broken a.conf || exit 78"
    validators = (
        Validator("fine", ("true",)),
        Validator("picky", ("sh", "-c", f"cd {place.etc}; {script}")),
        Validator("stern", ("false",)),
    )
    request = place.request(
        place.file("a.conf", "broken\n"), place.file("d/b", ""), directories=(DirectoryWish(place.path("d")),)
    )
    before = snapshot(place.etc)
    with pytest.raises(StackError) as caught:
        place.run(request, validators)
    assert snapshot(place.etc) == before
    assert str(caught.value).splitlines() == [
        "the change was rejected, and nothing was changed: every old file is back.",
        f"picky failed with rc 78 (sh -c cd {place.etc}; {script}):",
        "line 3: unknown directive",
        "out",
        "stern failed with rc 1 (false):",
        "(it said nothing)",
        "Note: stern rejects the old configuration too, so the host was broken before this change.",
    ]
    assert caught.value.details["invalid_before"] == ["stern"]
    assert [item["rc"] for item in caught.value.details["validators"]] == [0, 78, 1]


@pytest.mark.parametrize(
    ("validator", "words"),
    [
        (
            Validator("v", ("no-such-program-here", "-t")),
            "v: there is no program 'no-such-program-here' on this host",
        ),
        (Validator("v", ("sleep", "30"), timeout=0.2), "v: sleep did not end within 0.2 s (sleep 30)"),
        (Validator("v", ("true",), rc_ok=(3,)), "v failed with rc 0 (true)"),
        (Validator("v", ("sh", "-c", "kill -XFSZ $$")), "v was killed by signal 25 (SIGXFSZ) (sh -c kill"),
    ],
)
def test_validators_that_cannot_say_yes(place: Place, validator: Validator, words: str) -> None:
    assert words in failure(place, place.request(place.file("a.conf")), (validator,))


def test_validators_that_have_no_say(place: Place) -> None:
    validators = (
        Validator("missing", ("no-such-program-here",), optional=True),
        Validator("elsewhere", ("false",), when_changed=("/nowhere/*",)),
        Validator("here", ("sh", "-c", "exit 3"), when_changed=(f"{place.etc}/*",), rc_ok=(0, 3)),
    )
    result = place.run(
        place.request(place.file("d/a.conf"), directories=(DirectoryWish(place.path("d")),)), validators
    )
    assert [(item["name"], item["rc"]) for item in result["validators"]] == [("here", 3)]
    assert result["validators_skipped"] == ["missing", "elsewhere"]


def test_validate_always_judges_an_unchanged_tree(place: Place) -> None:
    request = place.request(place.file("a.conf"))
    place.run(request)
    assert place.run(request, YES, validate_always=True)["validators"][0]["name"] == "yes"
    assert "nothing had to change, but no failed with rc 1" in failure(
        place, request, NO, validate_always=True
    )


def test_a_directory_in_which_a_validator_left_something_stays_and_is_named(place: Place) -> None:
    validator = Validator("v", ("sh", "-c", f"touch {place.etc}/d/left; false"))
    request = place.request(place.file("d/a.conf"), directories=(DirectoryWish(place.path("d")),))
    with pytest.raises(StackError, match=r"d stays, since something else is in there"):
        place.run(request, (validator,))
    assert list(snapshot(place.etc)) == ["d", "d/left"]


# -- check mode, diff, labels, lock ---------------------------------------------------------------------------


def test_check_mode_predicts_on_a_fresh_host_and_touches_nothing(place: Place) -> None:
    request = place.request(
        place.file("a.conf"),
        place.file("not/there/b.conf", owner="not-yet"),
        place.file("listed/c.conf"),
        directories=(DirectoryWish(place.path("listed"), group="not-yet"),),
        manage=(ManagedDir(place.path("not/there")),),
    )
    fs = Recording()
    result = place.run(request, NO, fs, check_mode=True)
    assert actions(result) == [
        ("created", "listed"),
        ("created", "a.conf"),
        ("created", "b.conf"),
        ("created", "c.conf"),
    ]
    assert result["validators_skipped"] == ["no"]
    assert fs.steps == []
    assert not place.state.exists()
    assert not place.lock.exists()


def test_diff(place: Place) -> None:
    (place.etc / "a.conf").write_text("old\n")
    (place.etc / "m.conf").write_text(MARKER)
    (place.etc / "secret").write_text("old password\n")
    (place.etc / "l").symlink_to("a")
    request = place.request(
        place.file("a.conf", "new\n"),
        place.file("m.conf", "", mode="0600"),
        place.file("secret", "new password\n", sensitive=True),
        FileWish(place.path("bin"), content=b"\0\1", comment=""),
        FileWish(place.path("l"), state="absent"),
    )
    for check_mode in (True, False):
        result = place.run(request, check_mode=check_mode, diff=True)
        shown = {
            item["after_header"].replace(str(place.etc), ""): (item["before"], item["after"])
            for item in result["diff"]
        }
        uid, gid = os.geteuid(), os.getegid()
        assert shown == {
            "/a.conf": ("old\n", MARKER + "new\n"),
            "/m.conf (owner, group, mode)": (
                f"owner: {uid}\ngroup: {gid}\nmode: 0644\n",
                f"owner: {uid}\ngroup: {gid}\nmode: 0600\n",
            ),
            "/secret": ("(content hidden)\n", "(content hidden, it differs)\n"),
            "/bin": (
                "",
                "(binary: 2 bytes, sha256 b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2)\n",
            ),
            "/l": ("link to a\n", ""),
        }
        assert "password" not in str(result)
    assert "diff" not in place.run(request)


def test_only_new_paths_get_a_default_label(place: Place) -> None:
    labelled: list[str] = []
    (place.etc / "old.conf").write_text(MARKER)
    request = place.request(
        place.file("old.conf"), place.file("d/new.conf"), directories=(DirectoryWish(place.path("d")),)
    )
    place.run(request, relabel=labelled.append)
    assert labelled == [place.path("d"), place.path("d/new.conf")]


def test_a_lock_folder_that_others_can_write_is_refused(place: Place) -> None:
    place.lock.mkdir(parents=True)
    place.lock.chmod(0o777)
    assert "not a directory that only root can write; remove it" in failure(
        place, place.request(place.file("a.conf"))
    )
    place.lock.rmdir()
    place.lock.symlink_to(place.etc)
    assert "not a directory that only root can write; remove it" in failure(
        place, place.request(place.file("a.conf"))
    )


def test_the_lock_is_waited_for_and_the_wait_ends(place: Place) -> None:
    place.run(Request("first"))
    with open(place.lock / "config.lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StackError, match=r"config\.lock: still locked after 0\.2 s"):
            place.run(place.request(place.file("a.conf")), lock_timeout=0.2)
        release = threading.Timer(0.3, fcntl.flock, (other, fcntl.LOCK_UN))
        release.start()
        assert place.run(place.request(place.file("a.conf")))["changed"] is True
        release.join()


def test_validators_do_not_hold_the_lock(place: Place) -> None:
    code = "import os; assert not [f for f in os.listdir('/proc/self/fd') if 'config.lock' in os.readlink('/proc/self/fd/' + f)]"
    place.run(
        place.request(place.file("a.conf")),
        (Validator("fds", (sys.executable, "-c", f"try:\n {code}\nexcept FileNotFoundError: pass")),),
    )
    assert (place.etc / "a.conf").exists()
