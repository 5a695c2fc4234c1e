"""Rows, tables and figures of circuit sizes against hand-worked numbers."""

import pytest

from experiments.studies.circuit_size.figures import draw_sizes
from experiments.studies.circuit_size.sizes import BEYOND, MISSED, REACHED, SizeRow, SizeRows, compare_sizes
from experiments.studies.circuit_size.tables import comparisons, size_table
from sparse_jax.inputs import InputError


def row(model, task, edges, outcome=REACHED, target=0.15, method="nodes", test=0.1):
    return SizeRow(
        model=model,
        task=task,
        target=target,
        method=method,
        outcome=outcome,
        unpruned=0.01,
        nodes=edges + 1,
        edges=edges,
        discretized_nodes=edges + 2,
        discretized_edges=edges + 3,
        validation=0.12 if outcome == REACHED else 0.21,
        validation_error=0.01,
        test=test,
        test_error=0.02,
        prunings=8,
    )


def beyond(model, task, target=0.15):
    return SizeRow(model, task, target, "nodes", BEYOND, unpruned=0.4)


ROWS = [
    row("sparse", "a", 4, test=0.2),
    row("dense", "a", 400),
    row("sparse", "b", 9),
    row("dense", "b", 225),
    row("sparse", "c", 5),
    beyond("dense", "c"),
    row("sparse", "d", 5, MISSED),
    row("dense", "d", 50),
    row("sparse", "e", 7),
]


def test_two_models_are_compared_over_the_tasks_that_both_have():
    found = compare_sizes(ROWS, "nodes", 0.15)
    assert found.tasks == ("a", "b")
    assert found.sparse.value == pytest.approx(6) and found.dense.value == pytest.approx(300)
    assert found.ratio.value == pytest.approx(50) and found.ratio[1:] == pytest.approx((25, 100))
    assert found.left_out == {
        "c": "dense: full model at 0.400",
        "d": "sparse: best circuit at 0.210",
        "e": "dense: not yet run",
    }
    assert found.within_target == {"sparse": 1, "dense": 2}
    assert found.plain()["ratio"]["value"] == pytest.approx(50)


def test_a_circuit_without_edges_counts_as_one_edge_and_both_ways_are_reported():
    rows = [*ROWS[:2], row("sparse", "b", 3), row("dense", "b", 0)]
    found = compare_sizes(rows, "nodes", 0.15)
    assert found.ratio.value == pytest.approx((100 / 3) ** 0.5)  # 400 / 4 and 1 / 3
    assert found.dense.value == pytest.approx(20)
    assert found.ratio_of_nonzero.value == pytest.approx(100)
    assert found.zero_edges == {"sparse": (), "dense": ("b",)}


def test_no_common_task_gives_no_number():
    found = compare_sizes([beyond("sparse", "a"), row("dense", "a", 3)], "nodes", 0.15)
    assert found.tasks == () and found.ratio is None and found.ratio_of_nonzero is None
    assert found.plain()["sparse"] is None


def test_other_methods_and_targets_are_never_mixed_in():
    rows = [*ROWS, row("sparse", "a", 1, target=0.5), row("sparse", "a", 2, method="edges")]
    assert compare_sizes(rows, "nodes", 0.15) == compare_sizes(ROWS, "nodes", 0.15)
    found = [(one.method, one.target) for one in comparisons([*rows, row("dense", "a", 1, method="random")])]
    assert found == [("edges", 0.15), ("nodes", 0.15), ("nodes", 0.5), ("random", 0.15)]


def test_rows_come_back_and_a_line_cut_off_by_a_kill_is_made_again(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    rows = SizeRows(path)
    rows.append(ROWS[0])
    rows.append(ROWS[5])
    assert ROWS[0].key in rows and ROWS[1].key not in rows
    with path.open("a") as file:
        file.write('{"model": "sparse", "ta')
    again = SizeRows(path)
    assert again.rows == [ROWS[0], ROWS[5]] and ROWS[5].key in again
    again.append(ROWS[1])
    assert SizeRows(path).rows == [ROWS[0], ROWS[5], ROWS[1]]
    with pytest.raises(ValueError, match="there already"):
        again.append(ROWS[1])


def test_a_foreign_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"modle": "sparse"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl: row.modle: unknown field; did you mean 'model'"):
        SizeRows(path)


def test_the_table_shows_every_task():
    lines = size_table(ROWS, "nodes", 0.15).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [*"abcde", "**geometric mean (2)**"]
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    sparse = ["0.010", "0.200 ± 0.020", "5", "4", "6 / 7"]
    assert cells == ["a", *sparse, "0.010", "0.100 ± 0.020", "401", "400", "402 / 403", "100.0"]
    assert "5*" in lines[5] and lines[5].endswith("| - |")
    assert [cell.strip() for cell in lines[-1].split("|") if cell.strip()][1:] == ["6", "300", "50.0"]
    assert len({line.count("|") for line in lines}) == 1


def test_figures_are_drawn_and_are_the_same_again(tmp_path):
    rows = [
        row(model, task, edges * scale, target=target, method=method)
        for model, scale in (("sparse", 1), ("dense", 20))
        for task, edges in (("a", 10), ("b", 30))
        for target in (0.05, 0.15)
        for method in ("nodes", "attribution")
    ]
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        draw_sizes(comparisons(rows), "edges", path)
    images = [path.read_bytes() for path in paths]
    assert images[0] == images[1] and images[0].startswith(b"\x89PNG")
    fewer = tmp_path / "fewer.png"
    draw_sizes([one for one in comparisons(rows) if one.method == "nodes"], "edges", fewer)
    assert fewer.read_bytes() != images[0]


def test_a_figure_of_nothing_is_drawn_without_a_warning(tmp_path):
    draw_sizes(comparisons([beyond("sparse", "a")]), "edges", tmp_path / "empty.png")
    draw_sizes([], "edges", tmp_path / "nothing.png")
    assert (tmp_path / "empty.png").exists()
