"""The table against hand-worked rows."""

import pytest

from sparse_jax.circuits.graph import Circuit
from sparse_jax.evaluation.comparison import compare, format_table


def circuit(nodes, edges, reached=True):
    return Circuit(
        nodes=(),
        edges=(),
        sites=(),
        counts={"nodes": nodes, "edges": edges},
        losses={"unpruned": 0.01, "circuit": 0.12, "calibrated": 0.1},
        calibration={},
        provenance={"reached": reached},
    )


def test_ratios_and_the_geometric_mean():
    sparse = {"a": circuit(3, 10), "b": circuit(12, 40), "c": circuit(1, 5)}
    dense = {"a": circuit(30, 400), "b": circuit(48, 640), "d": circuit(9, 9)}
    rows = compare(sparse, dense)
    assert [row.task for row in rows] == ["a", "b", "c", "d", "geometric mean (2)"]
    assert [row.ratio for row in rows[:4]] == [40, 16, None, None]
    mean = rows[-1]
    assert (mean.sparse.nodes, mean.sparse.edges) == (6, 20)  # sqrt(3 * 12), sqrt(10 * 40)
    assert (mean.dense.nodes, mean.dense.edges) == (38, 506)  # sqrt(1440), sqrt(256000)
    assert mean.ratio == pytest.approx(506 / 20)


def test_a_circuit_that_misses_the_target_is_marked_and_not_averaged():
    rows = compare({"a": circuit(3, 10, reached=False)}, {"a": circuit(30, 400)})
    assert len(rows) == 1 and rows[0].ratio is None
    lines = format_table(rows).splitlines()
    assert "10*" in lines[-1] and lines[-1].split()[-1] == "-"


def test_a_task_that_one_model_cannot_do_has_empty_cells():
    lines = format_table(compare({"a": circuit(3, 10)}, {})).splitlines()
    assert lines[-1].split() == ["a", "0.010", "0.120", "3", "10", "-", "-", "-", "-", "-"]
    assert len({len(line.rstrip()) for line in lines[1:]}) == 1
