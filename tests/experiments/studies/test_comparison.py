"""The table against hand-worked rows."""

import pytest

from experiments.studies.comparison import (
    LEGEND,
    compare,
    format_circuits,
    format_ratios,
    format_table,
    read_circuits,
)
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError


def circuit(nodes, edges, reached=True, test=0.12, **provenance):
    return Circuit(
        nodes=(),
        edges=(),
        sites=(),
        counts={"nodes": nodes, "edges": edges},
        losses={"unpruned": 0.01, "validation": 0.14, "circuit": test, "calibrated": 0.1},
        calibration={},
        provenance={"reached": reached, **provenance},
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


def test_circuits_of_one_model_stand_alone():
    lines = format_circuits(["long_name", "b"], {"long_name": circuit(3, 1234, reached=False)}).splitlines()
    assert lines == [
        "task         full   valid.    test  nodes   edges",
        "long_name   0.010    0.140   0.120      3   1,234*",
        "b               -        -       -      -       -",
        *LEGEND.splitlines(),
    ]


def test_ratios_of_tasks_that_both_reach_and_of_those_where_both_need_an_edge():
    sparse = {"a": circuit(3, 10), "b": circuit(12, 40, test=0.16), "c": circuit(2, 8)}
    sparse["d"] = circuit(2, 3, reached=False)
    dense = {"a": circuit(30, 400, test=0.2), "b": circuit(48, 640), "c": circuit(1, 0)}
    text = format_ratios(compare("abcd", sparse, dense), 0.15)
    within, also, every, needing = text.splitlines()
    assert within == "sparse: 2 of 3 circuits within the target are so on test pairs too"
    assert also == "dense: 2 of 3 circuits within the target are so on test pairs too"
    # (40 * 16 * 1 / 8)^(1/3) = 80^(1/3), and (40 * 16)^(1/2)
    assert every.startswith("3 tasks that both reach, no edge counts as one: edges sparse 15 [8, 40], dense")
    assert "dense / sparse 4.3 [0.1, 40.0]" in every
    assert needing.startswith("2 tasks where both need an edge: edges sparse 20 [10, 40], dense 506 [400, ")
    assert needing.endswith("dense / sparse 25.3 [16.0, 40.0]")
    assert format_ratios(compare("a", sparse, {}), 0.15).count("\n") == 1


def saved(place, name, **provenance):
    place.mkdir(exist_ok=True)
    judged = {"target_loss": 0.15, "objective": "binary", "ablation": "mean", "confidence": 0.0}
    judged |= {key: provenance.pop(key) for key in list(provenance) if key in judged}
    given = {"task": "a", "weights": "w", "pruning": judged, **provenance}
    circuit(3, 10, **given).save(place / name)


def test_circuits_are_found_by_what_they_are_of(tmp_path):
    places = {side: str(tmp_path / side) for side in ("sparse", "dense")}
    for side in places:
        saved(tmp_path / side, "first.json", weights=side)
    assert [list(found) for found in read_circuits(places)] == [["a"], ["a"]]
    saved(tmp_path / "dense", "second.json", task="b", weights="dense", ablation="zero")
    with pytest.raises(InputError, match="ablation=mean.*ablation=zero.*valid: one target, obj"):
        read_circuits(places)
    saved(tmp_path / "dense", "second.json", task="b", weights="another")
    with pytest.raises(InputError, match="--dense: 'circuits of 2 models'.*valid: circuits of one model"):
        read_circuits(places)
    saved(tmp_path / "dense", "second.json", weights="dense")
    with pytest.raises(InputError, match="--dense: .*second.json is a second circuit for a; valid: one"):
        read_circuits(places)
    circuit(3, 10).save(tmp_path / "dense" / "second.json")
    with pytest.raises(InputError, match="--dense: .*second.json.*valid: circuits with task, weights"):
        read_circuits(places)
    with pytest.raises(InputError, match="--sparse: .*none.*valid: a directory with circuits as JSON"):
        read_circuits({"sparse": str(tmp_path / "none"), "dense": places["dense"]})
