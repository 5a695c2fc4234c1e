"""The table, the curves and what is refused."""

import json

import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.viewer import payload
from sparse_jax.viewer.drawing import TaskCircuit
from sparse_jax.viewer.payload import comparison, curves, gather


def row(task, sparse_edges, dense_edges, ratio=None):
    sparse = {"edges": sparse_edges, "nodes": 10, "reached": True}
    dense = {"edges": dense_edges, "nodes": 40, "reached": True}
    return {"task": task, "sparse": sparse, "dense": dense, "ratio": ratio}


def test_rows_and_mean_are_shown_as_they_were_computed():
    table = comparison([row("a", 2, 32, 16.0), row("no edge", 0, 7)], row("mean", 4.5, 16.5, 3.7), ["a"])
    assert [entry["ratio"] for entry in table["rows"]] == [16.0, None]
    assert table["rows"][1]["sparse"]["edges"] == 0
    assert table["mean"]["tasks"] == ["a"] and table["mean"]["ratio"] == 3.7
    assert table["mean"]["sparse"]["edges"] == 4.5


def test_missing_is_missing_and_not_zero():
    rows = [{"task": "a", "sparse": {"circuit": float("nan"), "edges": 3}, "dense": None}]
    table = comparison(rows, None, [])
    (only,) = table["rows"]
    assert only["sparse"] == {
        "unpruned": None, "validation": None, "circuit": None,
        "calibrated": None, "nodes": None, "edges": 3, "reached": None,
    }  # fmt: skip
    assert set(only["dense"].values()) == {None} and only["ratio"] is None
    assert table["mean"]["tasks"] == [] and table["mean"]["ratio"] is None
    assert set(table["mean"]["sparse"].values()) == {None}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"task": "a", "sparse": {"edge": 3}}], "table['a'].sparse.edge: unknown; did you mean 'edges'?"),
        ([{"task": "a", "spars": {}}], "table['a']: 'spars' is unknown; did you mean 'sparse'?"),
        ([{"sparse": {}}], "table.task: missing"),
        ([row("a", 1, 1), row("a", 1, 1)], "table.task: 'a' appears twice"),
    ],
)
def test_table_names_what_it_refuses(rows, said):
    with pytest.raises(InputError) as error:
        comparison(rows, None, [])
    assert said in str(error.value)


def test_curves_take_the_drawn_fields_only():
    rows = [
        {"step": 0, "loss": 7.5, "fraction_kept": 1.0, "learning_rate": 1e-3, "validation/web": 7.0},
        {"step": 10, "loss": float("inf"), "fraction_kept": 0.5},
        {"step": 20, "loss": np.float32(2.5), "fraction_kept": 0.25, "validation/web": None},
    ]
    assert curves("run", rows) == [
        {"kind": "train", "source": "", "points": [[0, 7.5], [10, None], [20, 2.5]]},
        {"kind": "fraction", "source": "", "points": [[0, 1.0], [10, 0.5], [20, 0.25]]},
        {"kind": "validation", "source": "web", "points": [[0, 7.0], [20, None]]},
    ]


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000, 54321])
def test_long_curves_are_thinned_but_keep_their_ends(count):
    (curve,) = curves("run", [{"step": step, "loss": 1.0 + step} for step in range(count)])
    steps = [step for step, _ in curve["points"]]
    assert steps[0] == 0 and steps[-1] == count - 1
    assert steps == sorted(set(steps))
    assert len(steps) == count if count <= payload.POINT_LIMIT else 500 <= len(steps) <= 1001


def test_curves_name_what_they_refuse():
    with pytest.raises(InputError, match=r"runs\['run'\]: a metric row has no 'step'"):
        curves("run", [{"loss": 1.0}])
    with pytest.raises(InputError, match="fields step, los; valid: at least one of loss, fraction_kept"):
        curves("run", [{"step": 0, "los": 1.0}])


def test_payload_is_json_and_whole(circuit):
    told = {"0.mlp_neuron.7": [{"before": "a", "token": "b", "after": "c", "value": 1.0}]}
    gathered = gather(
        "Title",
        {"seed": 0, "versions": {"jax": "0.10", "flax": {"linen": None}}},
        0.15,
        {"rows": [row("quotes", 2, 32)], "mean": None, "tasks": []},
        {"sparse": [{"step": 0, "loss": 3.0}]},
        [TaskCircuit("quotes", "sparse", circuit, told)],
    )
    assert json.loads(json.dumps(gathered, allow_nan=False)) == gathered
    assert gathered["provenance"] == [
        ["seed", "0"], ["versions.jax", "0.10"], ["versions.flax.linen", "None"],
    ]  # fmt: skip
    assert gathered["target"] == 0.15 and gathered["chance"] == pytest.approx(0.6931, abs=1e-4)
    assert [run["name"] for run in gathered["runs"]] == ["sparse"]
    assert [entry["task"] for entry in gathered["circuits"]] == ["quotes"]
