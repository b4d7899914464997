# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as text: for the terminal, the README and docs/faults.md. Pure; `results` is docs/faults.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BEGIN = "<!-- faults: made by make bench-faults -->"
END = "<!-- end of faults -->"
Results = dict[str, Any]


def lost(cell: Results | None) -> str:
    """'0 of 240', '12 of 300 (3 POST)', or why there is no figure."""
    if cell is None:
        return "not run"
    if "error" in cell:
        return "no figure"
    posts = f" ({cell['lost_post']} POST)" if cell["lost_post"] else ""
    return f"{cell['lost']} of {cell['requests']}{posts}"


def healthy(cell: Results) -> str:
    seconds = cell["healthy_after_seconds"]
    return "never" if seconds is None else f"{seconds:.1f} s"


def p99(cell: Results) -> str:
    seconds = cell["p99_seconds"]
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def cell_lines(cell: Results) -> list[str]:
    """What is said of one fault on one stack in the terminal: figures, then each kind of loss."""
    if "error" in cell:
        return [f"no figure: {cell['error']}"]
    head = (
        f"{lost(cell)} lost, p99 {p99(cell)}, slowest {cell['slowest_seconds']:.1f} s, healthy after {healthy(cell)}"
        + (f", its playbook failed: {cell['exit_code']}" if cell["exit_code"] else "")
    )
    return [
        head,
        *(
            f"  {kind['count']} × {kind['method']} {kind['answer']}: {kind['reason']}"
            for kind in cell["by_kind"]
        ),
    ]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def readme(results: Results) -> str:
    """The README's section, with its markers: what was lost, and nothing else."""
    stacks = results["stacks"]
    lines = [
        BEGIN,
        "",
        _row(["requests lost", *stacks.values()]),
        _row(["---", *("---:" for _name in stacks)]),
    ]
    for fault in results["faults"]:
        cells = [fault["cells"].get(key) for key in stacks]
        lines.append(
            _row(
                [
                    fault["title"],
                    *(f"**{lost(c)}**" if c and c.get("lost") == 0 else lost(c) for c in cells),
                ]
            )
        )
    lines += [
        _row(["**all of them**", *(f"**{_total(results, key)}**" for key in stacks)]),
        "",
        "![The share of requests lost, by fault and host](docs/faults.svg)",
        "",
        "A POST that dies with its worker is never sent twice, nor is a request whose answer has begun; and a socket that"
        " somebody takes away by hand is missing until it comes back by itself, within two seconds. No other request is lost."
        " *Usual recipe* is the distribution's default with"
        " `process_control_timeout = 10s`, `Restart=on-failure`, `RuntimeDirectoryPreserve=yes` and reloads through"
        " `flock --nonblock`.",
        "",
        f"`make bench-faults` made this table and repeats it ({results['seconds'] / 60:.0f} minutes here): three hosts of the"
        " same packages, the same load, one fault at a time. [docs/faults.md](docs/faults.md) has the load, the p99 and the time"
        " until healthy, and the reason of every lost request.",
        "",
        END,
    ]
    return "\n".join(lines)


def details(results: Results, left_out: Sequence[str] = ()) -> str:
    """The section of docs/faults.md, with its markers; `left_out` are the titles of faults that were not run."""
    stacks = results["stacks"]
    names = list(stacks.values())
    load = results["load"]
    total = {key: _total(results, key) for key in stacks}
    lines = [
        BEGIN,
        "",
        "Requests lost by three hosts made of the same packages, under the same load, one fault at a time.",
        "",
        _row(["fault", *names]),
        _row(["---", *("---:" for _name in names)]),
    ]
    for fault in results["faults"]:
        cells = fault["cells"]
        lines.append(_row([fault["title"], *(_details_cell(cells.get(key)) for key in stacks)]))
    lines.append(_row(["**all of them**", *(f"**{total[key]}**" for key in stacks)]))
    lines += [
        "",
        "![The share of requests lost, by fault and host](faults.svg)",
        "",
        "A cell is requests lost of requests sent, and how many of the lost were POSTs; the p99 of the 30 ms requests that were"
        " answered; and the time from the end of the fault until every request was answered, and within a second more than"
        " it takes (*never*: not before a person acted). Requests that are kept instead of lost wait, and show in the p99.",
        "",
    ]
    if left_out:
        lines += [f"Not in this run: {'; '.join(left_out)}.", ""]
    if results["steady"]:
        lines += [
            _row(["no fault", *names]),
            _row(["---", *("---:" for _name in names)]),
            _row(
                ["requests a second", *(f"{results['steady'][k]['requests_per_second']:.0f}" for k in stacks)]
            ),
            _row(["p99", *(f"{1000 * results['steady'][k]['p99_seconds']:.1f} ms" for k in stacks)]),
            "",
            "The page does nothing, so that this shows what a stack costs by itself. Ours catches what workers print"
            " (`catch_workers_output`), for which PHP-FPM's master wakes at the end of every request; `catch_workers_output: false`"
            " in a pool's description saves that.",
            "",
        ]
    lines += [*_losses_of_ours(results), ""]
    lines += [
        f"`make bench-faults` repeats it ({results['seconds'] / 60:.0f} minutes here) and writes this section,"
        " the picture and [docs/faults.json](faults.json), where every lost POST stands with its reason."
        f" The load: {load['rate']} requests a second of 30 ms, one in five a POST, three in a hundred 1 s long;"
        f" five workers; each answer checked whole. *Usual recipe* is {stacks['default']} with"
        " `process_control_timeout = 10s`, `Restart=on-failure`, `RuntimeDirectoryPreserve=yes` and deployments that reload"
        " through `flock --nonblock`; both are kept by a playbook of templates with a restart handler.",
        "",
        END,
    ]
    return "\n".join(lines)


def _details_cell(cell: Results | None) -> str:
    if cell is None or "error" in cell:
        return lost(cell)
    text = lost(cell)
    if cell["lost"] == 0:
        text = f"**{text}**"
    return f"{text}; {p99(cell)}; {healthy(cell)}"


def _total(results: Results, key: str) -> str:
    cells = [fault["cells"][key] for fault in results["faults"] if "lost" in fault["cells"].get(key, {})]
    posts = sum(cell["lost_post"] for cell in cells)
    asked = sum(cell["requests"] for cell in cells)
    return f"{sum(cell['lost'] for cell in cells)} of {asked}" + (f" ({posts} POST)" if posts else "")


def _losses_of_ours(results: Results) -> list[str]:
    """Every loss of the last stack by fault, method and reason."""
    key, name = list(results["stacks"].items())[-1]
    lines = [
        f"- {fault['title']}: {kind['count']} {kind['method']}, {kind['answer']}: {kind['reason']}"
        for fault in results["faults"]
        for kind in fault["cells"].get(key, {}).get("by_kind", [])
    ]
    if not lines:
        return [f"{name} lost nothing."]
    return [f"What {name} lost, and why:", "", *lines]


def insert(text: str, section: str, name: str) -> str:
    """The document of that name with its section replaced. ValueError where a marker is missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{name}: it needs one line {BEGIN!r} and, below it, one line {END!r}")
    return text[: text.index(BEGIN)] + section + text[text.index(END) + len(END) :]
