# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reload itself, from the locks to the answer of the new generation."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fpm_reload import config, due, held, lastgood, limits, master, sockets, unit
from fpm_reload.lock import CONFIG_LOCK, LockFolder, State, boot_id, now_ns
from fpm_reload.outcome import RELOAD_FAILED, RESTORED, SOCKETS_SILENT, SWITCHED_OFF, Failure
from fpm_reload.probe import Round
from fpm_reload.unit import Unit

_POLL_SECONDS = 0.02
# A restart that somebody else asked for may get in the way; once or twice, not for ever.
_ATTEMPTS = 3
# A reload stops the world until the slowest request has ended. What queued meanwhile is served before
# the next reload stops it again: for so many times the length of the last one, and for so long, at most.
_BREATHING_FACTOR = 4
_BREATHING_SECONDS = 10.0
_MEND_TURNS = 3
_DONE_WORDS = {"reload": "reloaded", "restart": "restarted", "start": "started"}


@dataclass(frozen=True)
class Request:
    """What the caller wants. ``asked_ns`` is the moment of the call, on the clock of lock.now_ns()."""

    unit: str
    asked_ns: int
    seconds: float
    restart: bool = False


@dataclass(frozen=True)
class Decision:
    """``action``: reload, restart or start; ``reasons``: why no reload will do."""

    action: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.action + (f" ({'; '.join(self.reasons)})" if self.reasons else "")


def refuse_switched_off(found: Unit, forced: bool) -> None:
    """:raises Failure: SWITCHED_OFF."""
    if found.active == "inactive" and found.file_state == "disabled" and not forced:
        raise Failure(SWITCHED_OFF, "the unit is stopped and disabled, so it stays off (--restart starts it)")


def decide(found: Unit, settings: config.Settings, forced: bool, unresolved: list[str]) -> Decision:
    """What has to be done to make the configuration live.

    A dead service is started, also a failed one that systemd has given up on. One that an
    administrator has stopped *and* disabled stays off, unless a restart is asked for.

    :raises Failure: SWITCHED_OFF.
    """
    refuse_switched_off(found, forced)
    if not found.running:
        return Decision("start", (f"the unit was {found.active}",))
    if forced:
        return Decision("restart", ("asked for",))
    reasons = held.restart_reasons(found)
    reasons += [f"{name} does not listen yet" for name in unit.idle_sockets(found)]
    reasons += sockets.restart_reasons(settings, master.listeners(found.pid), held.backlogs(found))
    # What a restart did not mend before, it will not mend now: never cut requests twice for one reason.
    fresh = tuple(reason for reason in reasons if reason not in unresolved)
    return Decision("restart", fresh) if fresh else Decision("reload")


def plan(request: Request) -> str:
    """--dry-run: what would happen, in words. Takes no lock and changes nothing."""
    found = unit.show(request.unit)
    settings = config.check(found)
    decision = decide(found, settings, request.restart, [])
    names = ", ".join(str(listener) for listener in master.listeners(found.pid)) if found.running else ""
    return f"{found.name}: the configuration is valid; would {decision}" + (
        f", then wait for {names}" if names else ""
    )


def perform(request: Request, folder: LockFolder) -> str:
    """Reload, restart or start the unit, or let a reload that started since the request stand for it.

    :returns: what happened, in words.
    :raises Failure: with the exit code.
    """
    found = unit.show(request.unit)
    with folder.hold(f"{found.name}.lock", exclusive=True, seconds=request.seconds):
        state = folder.read_state(found.name)
        if state and state.satisfies(request.asked_ns, boot_id(), request.restart):
            later = (state.started_ns - request.asked_ns) / 1e9
            return (
                f"{found.name}: {_DONE_WORDS[state.action]} already, by a call that started"
                f" {later:.2f} s after this request"
            )
        if state and state.boot == boot_id():
            _let_breathe(found, state)
        try:
            with folder.hold(CONFIG_LOCK, exclusive=False, seconds=request.seconds):
                found = unit.show(request.unit)
                tried = lastgood.collect(found.config_file, held.table_file(found.name))
                return _act(request, found, folder, state or State(boot_id(), 0, ""), tried)
        except Failure as failure:
            if not failure.config_suspect:
                raise
            # config.lock is let go of first: two holders who both want more would wait for ever.
            with folder.hold(CONFIG_LOCK, exclusive=True, seconds=request.seconds):
                _restore(request, tried, failure)
            raise


def mend(request: Request, folder: LockFolder) -> str:
    """Bring back held sockets that somebody removed, moved or closed.

    :returns: what was done, in words; empty where all is well.
    :raises Failure: with the exit code.
    """
    found = unit.show(request.unit)
    done: list[str] = []
    with folder.hold(f"{found.name}.lock", exclusive=True, seconds=request.seconds):
        # systemd does not see what happens while this runs: look again after each change.
        for _turn in range(_MEND_TURNS):
            found = unit.show(request.unit)
            opened = held.reopen(found)
            live = {listener.path for listener in master.listeners(found.pid)} if found.running else set()
            mended = held.mend(found, live)
            if opened and found.running:
                _bring_about(
                    found, config.Settings(), Decision("restart", ("sockets were removed",)), request.seconds
                )
                done.append(f"{_DONE_WORDS['restart']}, systemd made {', '.join(opened)} anew")
            if mended:
                done.append(f"mended {', '.join(mended)}")
            if not (opened or mended):
                break
    return f"{found.name}: {'; '.join(done)}" if done else ""


def keep(request: Request, folder: LockFolder) -> str:
    """Keep the configuration that is live as the last good one, where none is kept yet.

    A first change would have nothing to go back to. What was written after PHP-FPM read its
    configuration, or is broken, was never live and is not kept.

    :returns: always empty: there is nothing to say.
    """
    found = unit.show(request.unit)
    kept = lastgood.LastGood(found.name)
    if kept.load() is None and found.running:
        with folder.hold(CONFIG_LOCK, exclusive=False, seconds=request.seconds):
            files = lastgood.collect(found.config_file)
            if lastgood.changed_since(files, unit.settled_at(found)):
                return ""
            try:
                settings = config.check(found)
            except Failure:
                return ""
            # The table may have been written already; it belongs to a configuration that uses it.
            names = held.wanted_names(found.name)
            if any(pool.listen in names for pool in settings.pools):
                files = lastgood.collect(found.config_file, held.table_file(found.name))
            kept.save(files)
    return ""


def _let_breathe(found: Unit, last: State) -> None:
    """Wait until the requests are served that the last reload, just ended, has kept waiting.

    Reloads without a pause would let the queue grow from one to the next, and visitors would
    wait for many of them instead of one. A queue that a reload did not make (too few workers) has
    no end, so the wait has one. Only the unit's lock is held: who asks now is satisfied by the
    reload to come, and the configuration may still change.
    """
    took_ns = max(last.ended_ns - last.started_ns, 0)
    until = last.ended_ns + min(_BREATHING_FACTOR * took_ns, int(_BREATHING_SECONDS * 1e9))
    while found.running and now_ns() < until:
        try:
            if not master.queued(master.listeners(found.pid), master.kernel_sockets(found.pid)):
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(_POLL_SECONDS)


def _act(request: Request, found: Unit, folder: LockFolder, before: State, tried: lastgood.Files) -> str:
    begun = time.monotonic()
    settings = config.check(found)
    # An open socket would start it with the next request.
    refuse_switched_off(found, request.restart)
    opened = held.open_sockets(found)
    plain = {pool.listen for pool in settings.pools}
    own = held.own_listeners(found, plain) if found.running else []
    decision = decide(found, settings, request.restart, before.unresolved)
    state = State(
        boot_id(), now_ns(), decision.action, unresolved=list(before.unresolved), links=before.links
    )
    folder.write_state(found.name, state)
    old_limits = limits.bring_up_to_date(found.pid, found.limits) if decision.action == "reload" else []
    mended = held.mend(found, plain)
    if own:
        held.take_over(found, own, begun + request.seconds)
    done, answered = _bring_about(found, settings, decision, request.seconds)
    now = unit.show(found.name)
    # Again: FPM unlinks the path of a socket that it made itself, when it ends.
    mended += [path for path in held.mend(now, plain) if path not in mended]
    state.links = held.clean(now, before.links, plain)
    righted = sockets.mend(now.pid, settings, master.listeners(now.pid))
    if decision.action != "reload":
        state.unresolved = held.restart_reasons(now)
        state.unresolved += sockets.restart_reasons(settings, master.listeners(now.pid), held.backlogs(now))
    lastgood.LastGood(found.name).save(tried)
    state.ok, state.action, state.ended_ns = True, done.action, now_ns()
    folder.write_state(found.name, state)
    # Under config.lock: what made the reload due was read, and nothing newer can have come since.
    due.forget(found.name)
    still_old = limits.differing(now.pid, found.limits)
    notes = [
        f"{what} {', '.join(things)}"
        for what, things in (
            ("systemd opened", opened),
            ("mended", mended),
            ("set owner, group and mode of", righted),
            ("applied the unit's", [name for name in old_limits if name not in still_old]),
        )
        if things
    ]
    return _in_words(found.name, done, answered, notes, time.monotonic() - begun)


def _in_words(name: str, done: Decision, answered: Round, notes: list[str], seconds: float) -> str:
    parts = [f"{name}: {_DONE_WORDS[done.action]} in {seconds:.2f} s"]
    if done.reasons:
        parts.append(f"because {'; '.join(done.reasons)}")
    live = answered.count - len(answered.busy)
    parts.append(f"{live} of {answered.count} socket{'s' if answered.count != 1 else ''} answered")
    if answered.busy:
        parts.append(f"busy with other requests: {', '.join(answered.busy)}")
    return ", ".join(parts + notes)


def _bring_about(
    found: Unit, settings: config.Settings, decision: Decision, seconds: float
) -> tuple[Decision, Round]:
    """Run the action, and wait for the generation that it makes.

    :returns: what was done in the end, and the sockets' verdicts.
    """
    deadline = time.monotonic() + seconds
    for attempt in range(_ATTEMPTS):
        # The journal's clock is coarser than ours: look a little further back.
        since = time.time() - 0.1
        before = master.generation(found.pid) if found.running else None
        if decision.action != "reload":
            held.make_way(found, settings)
            unit.run(["systemctl", "reset-failed", "--", found.service], 30)
        ran = unit.run(["systemctl", decision.action, "--", found.service], deadline - time.monotonic())
        if ran.rc == 0:
            return decision, _wait(found, settings, before, deadline, since)
        after = unit.show(found.name)
        if decision.action != "reload" or after.running or attempt == _ATTEMPTS - 1:
            suspect = not after.running
            fate = "and the service does not run" if suspect else "the former generation goes on"
            said = ran.words + unit.journal_since(found, since)
            raise Failure(RELOAD_FAILED, f"systemctl {decision.action} failed, {fate}", said, suspect)
        # It stopped between our look and the reload. A start now has read everything.
        found, decision = after, Decision("start", ("it stopped meanwhile",))
    raise AssertionError("the last attempt returns or raises")


def _wait(
    found: Unit, settings: config.Settings, before: master.Generation | None, deadline: float, since: float
) -> Round:
    """Until a new generation runs and each of its sockets answers.

    :raises Failure: RELOAD_FAILED where it does not come, SOCKETS_SILENT where it does not answer.
    """
    pid = before.pid if before else 0
    answers: Round | None = None
    choosy = frozenset(
        int(pool.listen.rpartition(":")[2])
        for pool in settings.pools
        if pool.allowed_clients and pool.listen.rpartition(":")[2].isdigit()
    )
    try:
        while time.monotonic() < deadline:
            now = master.generation(pid) if pid else None
            if now is None:
                pid = _new_master(found, since)
            elif before is None or before.replaced_by(now):
                open_now = master.listeners(pid)
                answers = answers or Round(pid, choosy)
                # Once a worker answers, the master has opened all of its sockets: the list is final.
                if answers.step(open_now) and {one.inode for one in master.listeners(pid)} == {
                    one.inode for one in open_now
                }:
                    return answers
            time.sleep(_POLL_SECONDS)
    finally:
        if answers:
            answers.close()
    if answers is None:
        raise _unfinished(settings, pid)
    faults = answers.faults or ["the master listens on no socket"]
    said = faults + unit.journal_since(found, since)
    raise Failure(SOCKETS_SILENT, "the new generation runs but does not answer", said, config_suspect=True)


def _new_master(found: Unit, since: float) -> int:
    """The unit's main process after the one that was watched is gone; 0 while systemd makes a new one."""
    now = unit.show(found.name)
    if now.active in ("failed", "inactive") or now.sub == "auto-restart":
        said = unit.journal_since(found, since)
        raise Failure(
            RELOAD_FAILED, f"PHP-FPM ended: the unit is {now.active} ({now.sub})", said, config_suspect=True
        )
    return now.pid


def _unfinished(settings: config.Settings, pid: int) -> Failure:
    left = len(master.children(pid)) if pid else 0
    limit = settings.control_timeout_seconds
    hint = (
        f"; process_control_timeout lets them have {limit} s, so give --timeout more than that"
        if limit
        else ""
    )
    return Failure(
        RELOAD_FAILED,
        f"no new generation in time: the old one still waits for {left} worker{'s' if left != 1 else ''} to end"
        f" and goes on to reload by itself{hint}",
    )


def _restore(request: Request, tried: lastgood.Files, failure: Failure) -> None:
    """Bring the last good configuration back to life; raises RESTORED when that served."""
    found = unit.show(request.unit)
    kept = lastgood.LastGood(found.name)
    paths, aside = kept.restore(tried, found.config_file, held.table_file(found.name))
    if not paths:
        return
    settings = config.check(found)
    found = unit.show(request.unit)
    decision = decide(found, settings, False, [])
    _bring_about(found, settings, decision, request.seconds)
    raise Failure(
        RESTORED,
        f"{failure}. The last good configuration is back and answers; what failed is in {aside}"
        f" (changed: {', '.join(paths)})",
        failure.words,
    )
