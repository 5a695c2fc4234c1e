"""The table of known circuits, and the results that are kept."""

import json
from pathlib import Path

from experiments.studies.recovery_table import markdown
from sparse_jax.faithfulness.known_programs import PROGRAMS
from sparse_jax.faithfulness.rankings import METHODS

KEPT = Path(__file__).parents[3] / "experiments" / "results" / "ground_truth"


def row(program, method, seed, value, edge_auroc=None):
    names = [
        f"{kind}_{figure}" for kind in ("node", "edge") for figure in ("precision", "recall", "f1", "auroc")
    ]
    figures = dict.fromkeys(names, value) | {"edge_auroc": edge_auroc, "loss": 0.5}
    return {"program": program, "extras": False, "method": method, "seed": seed, **figures}


def test_a_program_counts_once_however_many_seeds_it_has():
    rows = [row("a", "learned", 0, 0.2), row("a", "learned", 1, 0.4), row("b", "learned", 0, 0.9, 0.7)]
    lines = markdown(rows).split("\n")
    of_method, of_a, of_b = [line for line in lines if line.startswith("| no |")]
    assert of_method.startswith("| no | learned | 0.600 [0.300, 0.900] |")
    assert of_method.endswith("| 0.700 [0.700, 0.700] | 0.500 [0.500, 0.500] |")
    assert of_a.startswith("| no | a | 0.200, 0.300 |") and of_a.endswith("| - | 0.500 |")
    assert of_b.endswith("| 0.700, 0.700 | 0.500 |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_the_kept_results_are_complete_and_in_the_kept_table():
    rows = [json.loads(line) for line in (KEPT / "rows.jsonl").read_text().splitlines()]
    assert markdown(rows) == (KEPT / "table.md").read_text()
    seeds = {row["seed"] for row in rows}
    expected = {(p, e, m, s) for p in PROGRAMS for e in (False, True) for m in METHODS for s in seeds}
    assert {(row["program"], row["extras"], row["method"], row["seed"]) for row in rows} == expected
    assert len(rows) == len(expected) and len(seeds) >= 3
    learned = [row for row in rows if row["method"] == "learned"]
    for name in ("node_precision", "node_recall", "edge_precision", "edge_recall"):
        assert sum(row[name] for row in learned) / len(learned) >= 0.98
