# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture: for each fault and stack a bar as long as the share of requests lost. Pure.

Readable without colour (columns, lengths and numbers say all), with the colours of Okabe and Ito,
and on light and dark pages: the file asks the reader's preference itself.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

LABEL_WIDTH = 330
COLUMN_WIDTH = 220
BAR_WIDTH = 96
ROW_HEIGHT = 24
TOP = 78
COLOURS = ("#D55E00", "#E69F00", "#009E73")
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.head { font-weight: 600 }
.note { font-size: 12px; fill: #59636e }
.zero { font-weight: 600 }
.track { fill: #818b98; fill-opacity: .18 }
.line { stroke: #818b98; stroke-opacity: .35 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .note { fill: #9198a1 }
  .page { fill: #0d1117 }
}
"""


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(words)}</text>'


def _cell(x: float, y: float, cell: dict[str, Any] | None, colour: str) -> list[str]:
    if cell is None or "error" in cell:
        return [_text(x, y + 16, "not run" if cell is None else "no figure", "note")]
    share = cell["lost"] / cell["requests"] if cell["requests"] else 0.0
    # A single lost request must be seen.
    width = max(2.0, share * BAR_WIDTH) if cell["lost"] else 0.0
    never = ", down" if cell["healthy_after_seconds"] is None else ""
    parts = [
        f'<rect class="track" x="{x:g}" y="{y + 5:g}" width="{BAR_WIDTH}" height="14" rx="2"/>',
    ]
    if width:
        parts.append(
            f'<rect x="{x:g}" y="{y + 5:g}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>'
        )
    parts.append(
        _text(x + BAR_WIDTH + 6, y + 16, f"{cell['lost']}{never}", "" if cell["lost"] or never else "zero")
    )
    return parts


def draw(results: dict[str, Any]) -> str:
    """The SVG file's text."""
    stacks, faults = results["stacks"], results["faults"]
    width = LABEL_WIDTH + COLUMN_WIDTH * len(stacks)
    height = TOP + ROW_HEIGHT * len(faults) + 20
    words = "; ".join(
        f"{name}: {sum(f['cells'].get(key, {}).get('lost', 0) for f in faults)} lost"
        for key, name in stacks.items()
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title words">',
        '<title id="title">Requests lost, by fault and host</title>',
        f'<desc id="words">{escape(words)}.</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        _text(14, 26, "Requests lost, by fault", "title"),
        _text(14, 46, "bar: share of the requests sent during the fault; number: requests", "note"),
    ]
    for column, name in enumerate(stacks.values()):
        parts.append(_text(LABEL_WIDTH + COLUMN_WIDTH * column, TOP - 10, name, "head"))
    for row, fault in enumerate(faults):
        y = TOP + ROW_HEIGHT * row
        parts.append(f'<line class="line" x1="14" x2="{width - 14}" y1="{y}" y2="{y}"/>')
        parts.append(_text(14, y + 16, fault["title"]))
        for column, (key, colour) in enumerate(zip(stacks, COLOURS)):
            parts += _cell(LABEL_WIDTH + COLUMN_WIDTH * column, y, fault["cells"].get(key), colour)
    return "\n".join([*parts, "</svg>", ""])
