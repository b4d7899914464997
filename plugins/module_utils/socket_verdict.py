# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed connection to a pool means, in one cause and in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.webops.php_stack.plugins.module_utils.socket_path import (
    Denial,
    Node,
    Who,
    find_denial,
    links_in_words,
)

# Causes, by the kind of a FastcgiError: on a unix socket, over TCP.
CAUSES = {
    "missing": ("socket_missing", "socket_missing"),
    "not_a_socket": ("not_a_socket", "not_a_socket"),
    "path_too_long": ("path_too_long", "path_too_long"),
    "refused": ("socket_refused", "tcp_refused"),
    "denied": ("socket_denied", "tcp_denied"),
    "full": ("backlog_full", "backlog_full"),
    "unresolvable": ("upstream_host_not_found", "upstream_host_not_found"),
    "unreachable": ("host_unreachable", "host_unreachable"),
    "connect_timeout": ("connect_timeout", "connect_timeout"),
    "silent": ("read_timeout", "read_timeout"),
    "closed": ("premature_close", "premature_close"),
    "not_fastcgi": ("fastcgi_protocol_error", "fastcgi_protocol_error"),
    "too_large": ("fastcgi_protocol_error", "fastcgi_protocol_error"),
}
_ADVICE = {
    "not_a_socket": "Something else took the path: remove it and restart PHP-FPM, or correct the path.",
    "path_too_long": "Choose a shorter path for listen, and the same for nginx.",
    "tcp_refused": "Start PHP-FPM, or compare this address and port with the pool's listen.",
    "tcp_denied": "A firewall rule of this host or SELinux (httpd_can_network_connect) forbids it.",
    "backlog_full": "More requests wait than listen.backlog holds, since no worker is free: look at"
    " pm.max_children and at slow scripts.",
    "upstream_host_not_found": "Correct the name, or the resolver of this host.",
    "host_unreachable": "Check the address, the route and the other host's firewall.",
    "connect_timeout": "The host is down, a firewall drops the packets, or the queue of the port is full.",
    "read_timeout": "All workers are busy (look at pm.max_children, at slow scripts, at the slow log), or the"
    " listener is stuck.",
    "fastcgi_protocol_error": "Another program listens there: correct the address, or pass it with proxy_pass.",
}


@dataclass(frozen=True)
class Evidence:
    """What the ports saw beside the failure itself.

    ``nodes`` is the walk to a unix socket; ``listens`` says whether the kernel has a listener bound to
    that path (None: unknown); ``neighbours`` are the sockets beside a missing one; ``selinux`` says whether
    SELinux enforces.
    """

    nodes: list[Node]
    listens: bool | None = None
    neighbours: list[str] | None = None
    selinux: bool = False


@dataclass(frozen=True)
class Verdict:
    """``denied_by`` has the keys path, kind (mode, acl or selinux), owner, group, mode and needs."""

    cause: str
    message: str
    denied_by: dict[str, Any] | None = None


def judge(kind: str, message: str, is_unix: bool, who: Who, evidence: Evidence) -> Verdict:
    """The cause of a failure.

    :param kind: the FastcgiError's kind; ``message`` its text.
    """
    cause = CAUSES[kind][0 if is_unix else 1]
    if cause == "socket_missing":
        return Verdict(cause, _missing(message, evidence))
    if cause == "socket_refused":
        return Verdict(cause, _refused(message, evidence))
    if cause == "socket_denied":
        return _denied(message, who, evidence)
    if cause == "premature_close":
        advice = "The worker crashed: see the log of PHP-FPM."
        if not is_unix:
            advice = "Either listen.allowed_clients does not name this host, or the worker crashed: see PHP-FPM's log."
        return Verdict(cause, f"{_sentence(message)} {advice}")
    return Verdict(cause, f"{_sentence(message)} {_ADVICE[cause]}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _missing(message: str, evidence: Evidence) -> str:
    nodes = evidence.nodes
    words = _sentence(message)
    links = links_in_words(nodes)
    if links:
        words += f" On the way, {links}."
    if nodes and nodes[-1].kind == "missing" and f" {nodes[-1].path} (" not in message:
        words += f" The first thing that is missing is {nodes[-1].path}."
    elif nodes and nodes[-1].kind == "other":
        words += f" {nodes[-1].path} is no directory."
    if evidence.listens:
        return (
            f"{words} A process still listens on a socket of this path, so the file was removed under it:"
            " restart the service (or the socket unit) that made it."
        )
    words += " Start PHP-FPM, or compare this path with the pool's listen."
    if evidence.neighbours:
        words += f" Sockets in the same folder: {', '.join(evidence.neighbours)}."
    return words


def _refused(message: str, evidence: Evidence) -> str:
    if evidence.listens:
        return (
            f"{_sentence(message)} Yet a process listens on a socket of this path: the file was made anew by"
            " another one. Restart the service that is to own it."
        )
    return f"{_sentence(message)} PHP-FPM was killed, or failed to start: start it, it makes the socket anew."


def _denied(message: str, who: Who, evidence: Evidence) -> Verdict:
    denial = find_denial(evidence.nodes, who)
    if denial:
        node = denial.node
        return Verdict(
            "socket_denied",
            f"{who.name} may not connect: {_why(denial, who)} {_remedy(denial, who)}",
            {
                "path": node.path,
                "kind": denial.kind,
                "owner": node.owner,
                "group": node.group,
                "mode": f"{node.mode:04o}",
                "needs": denial.needs,
            },
        )
    if not evidence.selinux or any(node.kind == "unknown" for node in evidence.nodes):
        return Verdict(
            "socket_denied",
            f"{_sentence(message)} The modes and ACLs that could be read do not forbid it to {who.name}:"
            " a security module (AppArmor, SELinux), or a folder that could not be read, does.",
        )
    end = evidence.nodes[-1]
    return Verdict(
        "selinux_denied",
        f"{_sentence(message)} Modes and ACLs allow it to {who.name}, and SELinux enforces: see ausearch -m avc -ts"
        " recent. Label the folder of the sockets with semanage fcontext (httpd_var_run_t) and run restorecon.",
        {
            "path": end.path,
            "kind": "selinux",
            "owner": end.owner,
            "group": end.group,
            "mode": f"{end.mode:04o}",
            "needs": "w",
        },
    )


_DECIDED_BY = {
    "owner": "its owner is {who}, and the owner's bits do not hold {needs}",
    "group": "{who} is in its group {group}, whose bits do not hold {needs}",
    "other": "{who} is neither its owner nor in its group {group}, and the bits for others do not hold {needs}",
    "named_user": "its ACL names {who} without {needs}",
    "named_group": "its ACL names a group of {who} without {needs}",
    "mask": "its ACL allows {needs} to {who}, but the ACL's mask takes it away",
}


def _why(denial: Denial, who: Who) -> str:
    node = denial.node
    what = "the folder" if node.kind == "directory" else "the socket"
    reason = _DECIDED_BY[denial.decided_by].format(who=who.name, group=node.group, needs=denial.needs)
    return f"{what} {node} stops it; {reason}."


def _remedy(denial: Denial, who: Who) -> str:
    node = denial.node
    if denial.decided_by == "mask":
        return f"Set the mask: setfacl -m m::{'rx' if denial.needs == 'x' else 'rw'} {node.path}."
    joining = ""
    if denial.missing_group:
        joining = f", or add {who.name} to the group {denial.missing_group} and restart its service"
    if node.kind == "socket":
        return (
            f"Set listen.owner, listen.group and listen.mode of the pool (SocketUser, SocketGroup, SocketMode of a"
            f" socket unit) so that {who.name} may write, and restart (a reload does not apply them){joining}."
        )
    return (
        f"Better keep sockets in a folder of mode 0755 under /run; or allow the way in with setfacl -m u:{who.name}:x"
        f" {node.path}{joining}."
    )
