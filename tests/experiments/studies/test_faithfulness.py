"""The study's rows, table and figures, from circuits made up here."""

import dataclasses

from experiments.studies.faithfulness import Row, cells, common_tasks, format_rows, write_results
from sparse_jax.runtime.writers import read_rows


def row(model, task, recipe, edges, reached=True, loss=0.1, resampled=0.2):
    figures = [
        {"name": "loss of the circuit", "ablation": "mean", "value": loss},
        {"name": "loss of the circuit", "ablation": "resample", "value": resampled},
    ]
    losses = {"circuit": loss, "validation": loss}
    return Row(model, task, recipe, f"{model}{task}{recipe}", 8, reached, 9, edges, losses, figures, ["said"])


ROWS = [
    row("sparse", "a", "mean", 10, resampled=0.5),
    row("sparse", "b", "mean", 20, resampled=0.7),
    row("sparse", "a", "strict", 12),
    row("sparse", "b", "strict", 24, loss=0.2),
    row("dense", "a", "mean", 40),
    row("dense", "b", "mean", 80),
    row("dense", "a", "strict", 192),
    row("dense", "b", "strict", 90, reached=False),
]


def test_the_table_compares_what_all_have():
    assert cells(ROWS[::-1]) == [
        ("sparse", "mean"),
        ("sparse", "strict"),
        ("dense", "mean"),
        ("dense", "strict"),
    ]
    assert common_tasks(ROWS, cells(ROWS)) == ["a"]
    assert common_tasks(ROWS, [("sparse", "mean"), ("dense", "mean")]) == ["a", "b"]
    table = format_rows(ROWS, 0.15)
    assert "| tasks that reach the target | 2 of 2 | 2 of 2 | 2 of 2 | 1 of 2 |" in table
    assert "| of these, within it on the test split | 2 of 2 | 1 of 2 | 2 of 2 | 1 of 1 |" in table
    assert "| resample | 0.500 | 0.200 | 0.200 | 0.200 |" in table
    assert "Dense over sparse, mean: 4.0 [4.0, 4.0] over 2 tasks." in table
    assert "Dense over sparse, strict: 16.0 [16.0, 16.0] over 1 tasks." in table
    assert "| b | 20 | 24 | 80 | missed (0.10 nats) |" in table


def test_results_are_written_and_read_again(tmp_path):
    write_results(ROWS, 0.15, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "table.md", "losses.png", "edges.png"}
    again = [Row(**one) for one in read_rows(tmp_path / "rows.jsonl")]
    assert again == [dataclasses.replace(one) for one in ROWS]
    write_results(ROWS[:1], 0.15, tmp_path / "one")
