"""Circuit sizes as a table by task, and as the comparisons of a study."""

from collections.abc import Sequence

from experiments.studies.circuit_size.sizes import LEARNED, MODELS, SizeComparison, SizeRow, compare_sizes

HEADER = (
    "| task | sparse: full model | circuit (test) | nodes | edges | before elimination "
    "| dense: full model | circuit (test) | nodes | edges | before elimination | dense / sparse |"
)


def size_table(rows: Sequence[SizeRow], method: str, target: float) -> str:
    """Markdown: losses in nats and sizes by task; "-" for missing values, "*" for a missed target."""
    found = {(row.model, row.task): row for row in rows if (row.method, row.target) == (method, target)}
    lines = [HEADER, "|---" * (HEADER.count("|") - 1) + "|"]
    for task in dict.fromkeys(task for _, task in found):
        sides = [found.get((model, task)) for model in MODELS]
        cells = [cell for row in sides for cell in _cells(row)]
        lines.append("| " + " | ".join([task, *cells, _ratio(sides)]) + " |")
    comparison = compare_sizes(rows, method, target)
    if comparison.ratio:
        edges = [f"{side.value:,.0f}" for side in (comparison.sparse, comparison.dense)]
        cells = ["", "", "", edges[0], "", "", "", "", edges[1], "", f"{comparison.ratio.value:.1f}"]
        lines.append(f"| **geometric mean ({len(comparison.tasks)})** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: SizeRow | None) -> list[str]:
    if row is None:
        return ["-"] * 5
    if row.nodes is None:
        return [f"{row.unpruned:.3f}", "-", "-", "-", "-"]
    star = "" if row.outcome == "reached" else "*"
    before = "-"
    if row.discretized_nodes is not None:
        before = f"{row.discretized_nodes:,} / {row.discretized_edges:,}"
    loss = f"{row.test:.3f} ± {row.test_error:.3f}"
    return [f"{row.unpruned:.3f}", loss, f"{row.nodes:,}", f"{row.edges:,}{star}", before]


def _ratio(sides: Sequence[SizeRow | None]) -> str:
    if any(row is None or row.outcome != "reached" for row in sides):
        return "-"
    sparse, dense = sides
    return f"{max(dense.edges, 1) / max(sparse.edges, 1):.1f}"


def comparisons(rows: Sequence[SizeRow], seed: int = 0) -> list[SizeComparison]:
    """Comparisons for all methods and targets in `rows`, methods in order of appearance."""
    methods = sorted({row.method for row in rows}, key=lambda name: (name not in LEARNED, name))
    pairs = [(m, t) for m in methods for t in sorted({row.target for row in rows if row.method == m})]
    return [compare_sizes(rows, method, target, seed) for method, target in pairs]
