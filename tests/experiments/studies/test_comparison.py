"""The table against hand-worked rows."""

import pytest

from experiments.studies.comparison import LEGEND, compare, format_table
from sparse_jax.circuits.graph import Circuit


def circuit(nodes, edges, reached=True):
    return Circuit(
        nodes=(),
        edges=(),
        sites=(),
        counts={"nodes": nodes, "edges": edges},
        losses={"unpruned": 0.01, "validation": 0.14, "circuit": 0.12, "calibrated": 0.1},
        calibration={},
        provenance={"reached": reached},
    )


def lines_of(comparison):
    """The lines of the table, without the legend below it."""
    table, legend = format_table(comparison).rsplit(LEGEND, 1)
    assert legend == ""
    return table.splitlines()


def test_ratios_and_the_geometric_mean():
    sparse = {"a": circuit(3, 10), "b": circuit(12, 40), "c": circuit(1, 5)}
    dense = {"a": circuit(30, 400), "b": circuit(48, 640), "d": circuit(9, 9)}
    found = compare("abcde", sparse, dense)
    assert [row.task for row in found.rows] == ["a", "b", "c", "d", "e"]
    assert [row.ratio for row in found.rows] == [40, 16, None, None, None]
    mean = found.mean
    assert mean.task == "geometric mean (2)"
    assert (mean.sparse.nodes, mean.sparse.edges) == pytest.approx((6, 20))  # sqrt(3 * 12), sqrt(10 * 40)
    assert (mean.dense.nodes, mean.dense.edges) == pytest.approx((1440**0.5, 256000**0.5))
    assert mean.ratio == pytest.approx(640**0.5)  # sqrt(40 * 16)
    assert found.rows[2].plain()["dense"] is None and found.rows[0].plain()["ratio"] == 40


def test_a_circuit_that_misses_the_target_is_marked_and_not_averaged():
    found = compare(["a"], {"a": circuit(3, 10, reached=False)}, {"a": circuit(30, 400)})
    assert found.mean is None and found.rows[0].ratio is None
    lines = lines_of(found)
    assert "10*" in lines[-2] and lines[-2].split()[-1] == "-"
    assert lines[-1].startswith("no mean: ")


def test_columns_stay_in_line_under_long_names():
    names = ["a", "set_or_string_fixedvarname", "set_or_string_fixedvarname.nonsense"]
    sizes = {name: circuit(3, 10) for name in names}
    lines = lines_of(compare(names, sizes, sizes))
    assert len({len(line) for line in lines}) == 1 and len(lines) == 6
    assert len({line.index("0.010") for line in lines[2:]}) == 1


def test_a_task_that_one_model_cannot_do_has_empty_cells():
    lines = lines_of(compare(["a"], {"a": circuit(3, 10)}, {}))
    assert lines[-2].split() == ["a", "0.010", "0.140", "0.120", "3", "10", *"------"]
    assert len({len(line.rstrip()) for line in lines[1:-1]}) == 1
