"""The table of the study of known circuits."""

from collections.abc import Mapping, Sequence

import numpy as np

from sparse_jax.faithfulness.intervals import mean_interval

Row = Mapping[str, object]
FIGURES = ("precision", "recall", "f1", "auroc")
_LEGEND = (
    "Means over programs, with 95 % bootstrap intervals over programs (a program counts with its mean over "
    "seeds). AUROC of edges only where a model has edges beside those of the circuit. Loss: that of the "
    "circuit that the method settles on, in nats, test split."
)


def markdown(rows: Sequence[Row]) -> str:
    """Two tables: every method, alone and amid extras; and learned gates on every program."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    conditions = list(dict.fromkeys(row["extras"] for row in rows))
    names = list(dict.fromkeys(row["program"] for row in rows))
    lines = [f"{_LEGEND}\n", *_head("extras | method")]
    for extras in conditions:
        for method in methods:
            chosen = [row for row in rows if (row["extras"], row["method"]) == (extras, method)]
            cells = [_over_programs(chosen, names, key) for key in (*_keys(), "loss")]
            lines.append(f"| {'yes' if extras else 'no'} | {method} | {' | '.join(cells)} |")
    lines += [
        "\nLearned gates, by program (the lowest and the mean over seeds):\n",
        *_head("extras | program"),
    ]
    for extras in conditions:
        for name in names:
            wanted = (extras, "learned", name)
            chosen = [row for row in rows if (row["extras"], row["method"], row["program"]) == wanted]
            cells = [_over_seeds(chosen, key) for key in (*_keys(), "loss")]
            lines.append(f"| {'yes' if extras else 'no'} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _keys() -> tuple[str, ...]:
    return tuple(f"{kind}_{figure}" for kind in ("node", "edge") for figure in FIGURES)


def _head(first: str) -> list[str]:
    columns = [f"{kind}s: {figure}" for kind in ("node", "edge") for figure in FIGURES]
    named = [*first.split(" | "), *(column.replace("auroc", "AUROC") for column in columns), "loss"]
    return [f"| {' | '.join(named)} |", "|---|---|" + "---:|" * (len(named) - 2)]


def _values(rows: Sequence[Row], key: str) -> list[float]:
    return [float(str(row[key])) for row in rows if row[key] is not None]


def _over_programs(rows: Sequence[Row], names: Sequence[object], key: str) -> str:
    means = [
        np.mean(found) for name in names if (found := _values([r for r in rows if r["program"] == name], key))
    ]
    if not means:
        return "-"
    return mean_interval(np.array(means)).shown(".3f")


def _over_seeds(rows: Sequence[Row], key: str) -> str:
    found = _values(rows, key)
    if not found:
        return "-"
    return f"{np.mean(found):.3f}" if key == "loss" else f"{min(found):.3f}, {np.mean(found):.3f}"
