"""Writes a comparison of two models to report.html and table.jsonl."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.studies.comparison import Comparison
from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.loader import validation_windows
from sparse_jax.files import json_lines, write_whole
from sparse_jax.models.means import training_corpus
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.runtime.provenance import provenance
from sparse_jax.runtime.writers import read_rows
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.exemplars import exemplars
from sparse_jax.viewer.page import write_report
from sparse_jax.viewer.payload import gather

EXEMPLAR_WINDOWS = 128


def write(
    workdir: Path,
    models: Mapping[str, Model],
    circuits: Mapping[str, Mapping[str, Circuit]],
    comparison: Comparison,
    prune: PruneConfig,
) -> str:
    """Writes the table as JSON lines and the report as a page to `workdir`; returns a text with the paths."""
    rows = [row.plain() for row in comparison.rows]
    mean = comparison.mean and comparison.mean.plain()
    lines = json_lines(row for row in (*rows, mean) if row)
    write_whole(workdir / "table.jsonl", lines)
    metrics = {side: read_rows(workdir / side / "metrics.jsonl") for side in models}
    losses = ", ".join(f"{side} {_last(found, 'validation/mixture'):.3f}" for side, found in metrics.items())
    payload = gather(
        "Sparse and dense circuits",
        {"validation loss (nats a token)": losses, **provenance()},
        prune.target_loss,
        {"rows": rows, "mean": mean, "tasks": [row.task for row in comparison.counted]},
        metrics,
        [one for side, model in models.items() for one in _drawn(side, model, circuits[side])],
    )
    write_report(workdir / "report.html", payload)
    return (
        f"validation loss of the models, nats a token: {losses}\n"
        f"circuits: {workdir}/*/circuits/*.json   report: {workdir / 'report.html'}"
    )


def _last(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return [row[name] for row in rows if name in row][-1]


def _drawn(side: str, model: Model, circuits: Mapping[str, Circuit]) -> list[TaskCircuit]:
    corpus = training_corpus(model)
    count = EXEMPLAR_WINDOWS // len(corpus.sources)
    text = [validation_windows(s.validation, count, model.config.context) for s in corpus.sources.values()]
    nodes = [node for circuit in circuits.values() for node in circuit.nodes]

    def decode(tokens: list[int]) -> str:
        return model.tokenizer.decode(tokens, skip_special_tokens=False)

    found = exemplars(model.config, model.params, nodes, np.concatenate(text)[:, :-1], decode)
    return [TaskCircuit(task, side, circuit, found) for task, circuit in circuits.items()]
