"""Rows, table and figure of searches that choose in different ways."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.studies.figure import new_figure, save_figure
from experiments.studies.search_samplers import FIRST, BestRow, TrialRow
from sparse_jax.faithfulness.intervals import geometric_mean
from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import require

INCUMBENT = "tpe"


def write_searches(rows: Sequence[TrialRow], best: Sequence[BestRow], directory: Path) -> str:
    """Writes rows.jsonl, best.jsonl, table.md and search_samplers.png to `directory`; returns the table.

    Raises InputError without rows.
    """
    require(len(rows) > 0, "rows", [], "at least one pruning")
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    write_whole(directory / "best.jsonl", json_lines(map(dataclasses.asdict, best)))
    table = format_searches(rows, best)
    write_whole(directory / "table.md", table)
    draw_searches(rows, directory / "search_samplers.png")
    return table


def best_after(rows: Sequence[TrialRow], task: str, sampler: str, rounds: int) -> int | None:
    """The fewest edges that a search reached the target with in its first rounds; no edge counts as one."""
    own = [row for row in rows if row.task == task and row.sampler in (FIRST, sampler) and row.reached]
    return min((max(1, row.edges) for row in own if row.round <= rounds), default=None)


def format_searches(rows: Sequence[TrialRow], best: Sequence[BestRow]) -> str:
    """Markdown: ratios to the library's search, after each round and after elimination; then every task."""
    samplers, tasks = _samplers(rows), list(dict.fromkeys(row.task for row in rows))
    lanes, last = 1 + max(row.number for row in rows if row.round == 1), max(row.round for row in rows)
    text = [
        "# Searches on equal prunings\n",
        f"Edges of the best pruning as a share of those of the library's search ({INCUMBENT}): geometric",
        "mean over the tasks that both reach the target for, with its 95 % interval by a bootstrap over",
        "tasks. No edge counts as one.\n",
        "| search | prunings | tasks | edges, share |",
        "|---" * 4 + "|",
    ]
    for sampler in samplers:
        for rounds in range(2, last + 1):
            done = [t for t in tasks if min(_rounds(rows, t, one) for one in (sampler, INCUMBENT)) >= rounds]
            edges = ({t: best_after(rows, t, one, rounds) for t in done} for one in (sampler, INCUMBENT))
            text.append(_line(sampler, rounds * lanes, *edges))
        ends = ({b.task: max(1, b.edges) for b in best if b.sampler == one} for one in (sampler, INCUMBENT))
        text.append(_line(sampler, f"{last * lanes}, then elimination", *ends))
    columns = [FIRST, *samplers]
    text += ["", f"Edges of the best of {lanes} prunings ({FIRST}) and of {last * lanes} (the others):\n"]
    text += ["| task | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    after = {(one.task, one.sampler): one.edges for one in best}
    for task in tasks:
        ranked = (best_after(rows, task, name, last) for name in columns)
        cells = ["missed" if edges is None else str(edges) for edges in ranked]
        text.append(f"| {task} | " + " | ".join(cells) + " |")
        ends = (str(after.get((task, name), "-")) for name in columns)
        text.append("| ... after elimination | " + " | ".join(ends) + " |")
    return "\n".join(text) + "\n"


def _samplers(rows: Sequence[TrialRow]) -> list[str]:
    return [name for name in dict.fromkeys(row.sampler for row in rows) if name != FIRST]


def _rounds(rows: Sequence[TrialRow], task: str, sampler: str) -> int:
    """How many rounds of a search there are so far."""
    return max((row.round for row in rows if row.task == task and row.sampler in (FIRST, sampler)), default=0)


def _line(
    sampler: str, prunings: object, own: Mapping[str, int | None], other: Mapping[str, int | None]
) -> str:
    """A line of the table of ratios."""
    ratios = [own[task] / other[task] for task in own if own[task] and other.get(task)]
    if sampler == INCUMBENT or not ratios:
        return f"| {sampler} | {prunings} | {len(ratios)} | {'1' if ratios else '-'} |"
    return f"| {sampler} | {prunings} | {len(ratios)} | {geometric_mean(ratios).shown('.2f')} |"


def draw_searches(rows: Sequence[TrialRow], path: Path) -> None:
    """The best edges of every task against the number of prunings, as a share of the first round's best."""
    figure = new_figure()
    axes = figure.add_subplot()
    tasks = list(dict.fromkeys(row.task for row in rows))
    samplers = _samplers(rows)
    for color, sampler in enumerate(samplers):
        shares: dict[int, list[float]] = {}
        for task in tasks:
            first = best_after(rows, task, FIRST, 1)
            rounds = range(1, 1 + _rounds(rows, task, sampler)) if first is not None else ()
            own = [(n, best_after(rows, task, sampler, n) / first) for n in rounds]
            axes.plot(*zip(*own), color=f"C{color}", alpha=0.25, lw=0.8) if own else None
            for n, share in own:
                shares.setdefault(n, []).append(share)
        whole = [(n, geometric_mean(some).value) for n, some in shares.items() if len(some) == len(shares[1])]
        axes.plot(*zip(*whole), "o-", color=f"C{color}", label=sampler) if whole else None
    axes.set(xlabel="rounds", ylabel="edges of the best pruning / of the first round")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    if samplers:
        axes.legend(frameon=False)
    save_figure(figure, path)
