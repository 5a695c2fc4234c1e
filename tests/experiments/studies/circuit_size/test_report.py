"""What a study leaves behind, from planted rows."""

import json

import pytest

from experiments.studies.circuit_size.report import write_report
from tests.experiments.studies.circuit_size.test_sizes import ROWS, row


@pytest.fixture
def written(tmp_path):
    rows = [*ROWS, row("sparse", "a", 0, method="edges"), row("dense", "a", 90, method="edges")]
    rows += [row(model, "a", 800, method="attribution") for model in ("sparse", "dense")]
    rows += [row(model, "a", 3, target=0.3) for model in ("sparse", "dense")]
    said = write_report(rows, {"seed": 3, "command": "python -m x"}, 0.15, tmp_path)
    return tmp_path, said


def test_the_summary_holds_every_comparison(written):
    summary = json.loads((written[0] / "summary.json").read_text())
    assert summary["seed"] == 3 and summary["command"] == "python -m x"
    assert summary["headline"]["nodes"]["ratio"]["value"] == pytest.approx(50)
    assert summary["headline"]["edges"]["ratio"]["value"] == 90
    assert summary["headline"]["edges"]["ratio_of_nonzero"] is None
    methods = [(one["method"], one["target"]) for one in summary["comparisons"]]
    assert methods == [("edges", 0.15), ("nodes", 0.15), ("nodes", 0.3), ("attribution", 0.15)]


def test_the_lines_say_what_counts_and_what_is_left_out(written):
    edges, nodes = written[1].splitlines()
    assert nodes.startswith("nodes at 0.15 nats: dense / sparse 50.0 [25.0, 100.0] over 2 tasks")
    assert "within the target on the test split: sparse 1, dense 2 of 2" in nodes
    assert "left out: c (dense: full model at 0.400), d (sparse: best circuit at 0.210)" in nodes
    assert "no edge at all: sparse a (ratio without them: none)" in edges


def test_nodes_and_edges_stand_apart(written):
    directory, _ = written
    text = (directory / "table.md").read_text()
    nodes, edges = text.split("## Gates on nodes, then on edges")
    assert "| 400 |" in nodes and "| 400 |" not in edges and "| 90 |" in edges
    # edges have but one target, which makes no curve
    assert {path.name for path in directory.glob("*.png")} == {"circuit_size.png", "methods.png"}


def test_an_unfinished_study_is_reported_as_it_is(tmp_path):
    said = write_report(ROWS[:1], {}, 0.15, tmp_path)
    assert said == (
        "nodes at 0.15 nats: no task has a circuit of both models; left out: a (dense: not yet run)"
    )
    assert json.loads((tmp_path / "summary.json").read_text())["headline"]["nodes"]["ratio"] is None
    assert (tmp_path / "table.md").exists()
