"""The table of what circuits share says what the circuits say, and missing circuits are named."""

import dataclasses

import numpy as np
import pytest

from experiments.studies.sharing import Cell, format_sharing, load_cells
from sparse_jax.inputs import InputError
from tests.circuits.test_sharing import ONE, OTHER


class Small:
    """Just the parts of a model that the study reads."""

    def __init__(self, d_model, kernels):
        self.config = type("Config", (), {"d_model": d_model})()
        self.params = {"layers": kernels, "embed": {"kernel": np.ones((2, 4))}}


@pytest.fixture
def cell():
    kernel = {"kernel": np.ones((2, 8, 8))}
    names = {"attn": ("q", "k", "v", "out"), "mlp": ("up", "down")}
    kernels = {sublayer: dict.fromkeys(some, kernel) for sublayer, some in names.items()}
    return Cell("sparse", "mean", Small(8, kernels), {"one": ONE, "other": OTHER})


def test_rows_and_table_have_the_overlap_that_was_counted_by_hand(cell):
    nodes, edges = cell.pairs
    assert (nodes["common"], nodes["jaccard"]) == (3, round(3 / 7, 4))
    assert (edges["common"], edges["jaccard"]) == (2, 0.5)
    # attn_in 1 of 8 and 1 of 8, v 1 and 2, attn_out 1 and 1, the other sites are of one circuit only
    assert nodes["common_by_chance"] == (1 + 2 + 1) / 8
    assert [row["count"] for row in cell.uses] == [4, 3, 2, 2]
    table = format_sharing([cell])
    assert "| nodes that two share | 3.00 (0.50) |" in table
    assert "| sparse, mean | 2 | 2 | 1 | 8 |" in table


def test_missing_circuits_are_named(cell, tmp_path):
    with pytest.raises(InputError, match=r"circuits of sparse, mean: \[\] is not valid; valid: two or more"):
        load_cells({"sparse": cell.model}, tmp_path, ["mean"], ["for_while"])


def test_circuits_of_another_model_are_refused(cell, tmp_path):
    (tmp_path / "sparse" / "mean").mkdir(parents=True)
    about = {"reached": True, "weights": "bb"}
    for task in ("one", "other"):
        circuit = dataclasses.replace(ONE, provenance={**ONE.provenance, **about})
        circuit.save(tmp_path / "sparse" / "mean" / f"{task}.json")
    cell.model.fingerprint, cell.model.origin = "bb", "small"
    (loaded,) = load_cells({"sparse": cell.model}, tmp_path, ["mean"], ["one", "other"])
    assert set(loaded.circuits) == {"one", "other"}
    cell.model.fingerprint = "aa"
    with pytest.raises(InputError, match=r"^circuit: it belongs to model bb .*; valid: circuits of aa"):
        load_cells({"sparse": cell.model}, tmp_path, ["mean"], ["one", "other"])
