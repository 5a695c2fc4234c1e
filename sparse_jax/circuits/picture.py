"""A circuit as a small picture (SVG): layers from bottom to top, one dot per node, one line per edge."""

import html
from typing import TYPE_CHECKING

from sparse_jax.model import sites

if TYPE_CHECKING:
    from sparse_jax.circuits.graph import Circuit

WIDTH, ROW, MARGIN = 640, 34, 96
# the most nodes of a row that have room for numbers
NUMBERED = 12
# colors of edges by the sign of their weight
POSITIVE, NEGATIVE = "#0868ac", "#d95f0e"


def circuit_svg(circuit: "Circuit", background: str = "") -> str:
    """The picture as SVG text; positive weights are blue, negative ones orange, wider where larger.

    background: its color, for a file that is shown by itself; without one, colors are those of the page.
    Nodes have their numbers beside them in rows of at most NUMBERED.
    """
    rows = sorted({(n.layer, sites.NODE_SITES.index(n.site)) for n in circuit.nodes})
    height = ROW * max(1, len(rows)) + 20
    members: dict[tuple[int, int], list[int]] = {row: [] for row in rows}
    for number, node in enumerate(circuit.nodes):
        members[node.layer, sites.NODE_SITES.index(node.site)].append(number)
    at: dict[int, tuple[float, float]] = {}
    parts = []
    for place, row in enumerate(rows):
        y = height - 10 - ROW * (place + 0.5)
        label = html.escape(f"{row[0]}.{sites.NODE_SITES[row[1]]} ({len(members[row])})")
        parts.append(f'<text x="4" y="{y + 4:.0f}" font-size="11" fill="currentColor">{label}</text>')
        step = (WIDTH - MARGIN - 60) / (len(members[row]) + 1)
        for i, number in enumerate(members[row], start=1):
            at[number] = (MARGIN + 40 + step * i, y)
    largest = max((abs(edge.weight) for edge in circuit.edges), default=1.0) or 1.0
    for edge in circuit.edges:
        (x1, y1), (x2, y2) = at[edge.source], at[edge.target]
        color, width = POSITIVE if edge.weight > 0 else NEGATIVE, 0.5 + 2.5 * abs(edge.weight) / largest
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
            f'stroke-width="{width:.2f}" stroke-opacity="0.7"/>'
        )
    for number, (x, y) in at.items():
        title = html.escape(circuit.nodes[number].name)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="currentColor">')
        parts.append(f"<title>{title}</title></circle>")
        node = circuit.nodes[number]
        if len(members[node.layer, sites.NODE_SITES.index(node.site)]) <= NUMBERED:
            text = f'<text x="{x + 6:.1f}" y="{y + 3:.1f}" font-size="9" fill="currentColor">'
            parts.append(f"{text}{node.index}</text>")
    own = f' style="background:{background};color:#1a1a1a;font-family:sans-serif"' if background else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img"{own}>{"".join(parts)}</svg>'
    )
