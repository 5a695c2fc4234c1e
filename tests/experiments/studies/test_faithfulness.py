"""The study's rows, table and figures, from circuits made up here."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.configs.faithfulness import get_config
from experiments.studies import edges_figure, faithfulness, faithfulness_report
from experiments.studies.faithfulness import Row
from experiments.studies.faithfulness_report import cells, common_tasks, format_rows, write_results
from sparse_jax.circuits.graph import Circuit, Node, load_circuit
from sparse_jax.faithfulness.scorecard import GROWTH, VERSION, Scorecard
from sparse_jax.files import json_lines
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model import sites
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.runtime.writers import read_rows
from sparse_jax.tasks.controls import ControlTask
from tests.planted import Planted

RECIPES = {"mean": PruneConfig(), "strict": PruneConfig(ablation="mean+resample", confidence=1.5)}


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
    table = format_rows(ROWS, RECIPES)
    assert "- strict: mean and resample, with 1.5 standard errors added" in table
    assert "| tasks that reach the target | 2 of 2 | 2 of 2 | 2 of 2 | 1 of 2 |" in table
    assert "| of these, within it on the test split | 2 of 2 | 1 of 2 | 2 of 2 | 1 of 1 |" in table
    assert "| resample | 0.500 | 0.200 | 0.200 | 0.200 |" in table
    assert "Dense over sparse, mean: 4.0 [4.0, 4.0] over 1 task; " in table
    assert "Dense over sparse, strict: 16.0 [16.0, 16.0] over 1 task; " in table
    assert "| b | 20 | 24 | 80 | missed (0.10 nats) |" in table


def test_ratios_are_over_the_same_tasks_and_count_no_edge_as_one_where_it_is_said():
    given = (("sparse", "mean", 0), ("sparse", "strict", 3), ("dense", "mean", 0), ("dense", "strict", 300))
    table = format_rows([*ROWS, *(row(side, "c", recipe, edges) for side, recipe, edges in given)], RECIPES)
    # of a 40 / 10 and 192 / 12; with c also 1 / 1 and 300 / 3
    assert "mean: 4.0 [4.0, 4.0] over 1 task; 2.0 [1.0, 4.0] over 2 tasks if no edge counts as one" in table
    assert "strict: 16.0 [16.0, 16.0] over 1 task; 40.0 [16.0, 100.0] over 2 tasks if" in table


def test_results_are_written_and_read_again(tmp_path):
    write_results(ROWS, RECIPES, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "table.md", "losses.png", "edges.png"}
    again = [Row(**one) for one in read_rows(tmp_path / "rows.jsonl")]
    assert again == [dataclasses.replace(one) for one in ROWS]
    write_results(ROWS[:1], RECIPES, tmp_path / "one")
    different = {**RECIPES, "other": PruneConfig(target_loss=0.3)}
    with pytest.raises(InputError, match=r"recipes: \[0\.15, 0\.3\] is not valid"):
        write_results(ROWS, different, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_control_stands_apart_beside_the_edges_of_its_task():
    control = dataclasses.replace(row("sparse", "a.hashed", "strict", 130), figures=[], control=True)
    missed = dataclasses.replace(row("dense", "b.hashed", "strict", 0, reached=False), control=True)
    table = format_rows([*ROWS, control, missed], RECIPES)
    assert "| a.hashed | sparse | 130 | 12 |" in table
    assert "| b.hashed | dense | missed (0.10 nats) | missed (0.10 nats) |" in table
    start = table.index("| control, strict |")
    assert table[:start].rstrip() + "\n" == format_rows(ROWS, RECIPES)


def test_controls_are_pruned_strictly_alone_and_get_no_scorecard(tmp_path, monkeypatch):
    asked = []

    def found(subject, task, prune, label):
        asked.append(label)
        losses, about = {"circuit": 0.1, "validation": 0.1}, {"identity": label, "reached": True}
        node = (Node(0, "q", 1),)
        return Circuit(node, (), sites.LAYER_SITES, {"nodes": 1, "edges": 0}, losses, {}, about)

    monkeypatch.setattr(faithfulness, "prepare_subject", lambda *given: None)
    monkeypatch.setattr(faithfulness, "_circuit", found)
    monkeypatch.setattr(faithfulness, "measure_circuit", lambda *given: pytest.fail("a scorecard"))
    models = {"sparse": SimpleNamespace(fingerprint="aa")}
    task = ControlTask.of(Planted("planted", "tests", "which digit"), "hashed")
    *_, rows = faithfulness.measured_rows(models, [task], RECIPES, tmp_path, 8, tmp_path / "circuits")
    assert asked == ["sparse planted.hashed strict"]
    (one,) = rows
    assert load_circuit(tmp_path / "circuits" / "sparse" / "strict" / "planted.hashed.json").nodes
    assert one.control and one.figures == [] and one.verdict == []
    other = {"sparse": SimpleNamespace(fingerprint="bb")}
    with pytest.raises(InputError, match=r"results of another sparse model \(aa there, bb here\)"):
        next(faithfulness.measured_rows(other, [task], RECIPES, tmp_path, 8, tmp_path / "circuits"))


RESULTS = Path(faithfulness.__file__).parents[1] / "results" / "faithfulness"


def test_the_published_circuits_are_those_of_the_published_rows():
    rows = read_rows(RESULTS / "rows.jsonl")
    paths = {RESULTS / "circuits" / r["model"] / r["recipe"] / f"{r['task']}.json": r for r in rows}
    assert set(RESULTS.glob("circuits/*/*/*.json")) == set(paths)
    for path, given in paths.items():
        circuit = load_circuit(path)
        assert circuit.provenance["identity"] == given["identity"], path
        assert (len(circuit.nodes), len(circuit.edges)) == (given["nodes"], given["edges"]), path


def test_every_figure_of_the_table_is_one_of_a_scorecard():
    """By the rows of the committed study, which are scorecards' figures."""
    rows = [from_mapping(Row, one, "row") for one in read_rows(RESULTS / "rows.jsonl")]
    others = [(heading, f"test: {name}", "mean") for heading, name in faithfulness_report.TESTS]
    others += [(heading, name, None) for heading, name in faithfulness_report.AGAIN]
    for _, name, ablation in (*faithfulness_report.FIGURES, *others):
        assert any(one.value(name, ablation) is not None for one in rows), name


def test_every_figure_of_a_scorecard_is_in_the_table():
    """Unfavorable ones too, but not those that differ in the number of parts, nor the worst draws, nor all
    quartiles of what backups gain."""
    rows = read_rows(RESULTS / "rows.jsonl")
    assert len({row["version"] for row in rows}) == 1
    there = {(figure["name"], figure["ablation"]) for one in rows for figure in one["figures"]}
    told = {(name, ablation) for _, name, ablation in faithfulness_report.FIGURES}
    told |= {(f"test: {name}", "mean") for _, name in faithfulness_report.TESTS}
    again = {name for _, name in faithfulness_report.AGAIN}
    left = {
        (name, ablation)
        for name, ablation in there - told
        if name not in again
        and GROWTH not in name
        and not name.startswith(("incompleteness, largest of", "loss of the circuit, worst of"))
    }
    assert not left


def test_a_table_is_made_of_the_committed_rows():
    """Of the study's settings, without a run."""
    for part, argument in ((".", ""), ("confirmed", "recipes=confirmed")):
        rows = [from_mapping(Row, one, "row") for one in read_rows(RESULTS / part / "rows.jsonl")]
        recipes = {
            name: from_mapping(PruneConfig, given, name)
            for name, given in get_config(argument).recipes.to_dict().items()
        }
        assert format_rows(rows, recipes) == (RESULTS / part / "table.md").read_text()


def test_the_table_tells_how_many_have_a_figure_and_how_many_tests_reject():
    name = "same answer where the full model errs"
    figure = {"name": name, "ablation": "mean", "value": 0.25}
    p_values = [
        {"name": "test: not equivalent to the model", "ablation": "mean", "value": p} for p in (0.04, 0.06)
    ]
    both = [row("sparse", task, "mean", 10) for task in "ab"]
    rows = [dataclasses.replace(one, figures=[*one.figures, p]) for one, p in zip(both, p_values)]
    rows[0] = dataclasses.replace(rows[0], figures=[*rows[0].figures, figure])
    table = format_rows(rows, RECIPES)
    assert "| same answer where the model errs | 0.250 (1 of 2) |" in table
    assert "| rejected: equivalent to the model | 1 of 2 |" in table
    assert "| mean | 0.100 |" in table
    assert "other seeds" not in table
    seeds = {"name": faithfulness_report.OTHER_SEEDS, "ablation": "mean+resample", "value": 0.75}
    rows[1] = dataclasses.replace(rows[1], figures=[*rows[1].figures, seeds])
    assert "| other seeds within the target | 0.750 (1 of 2) |" in format_rows(rows, RECIPES)


def test_what_was_pruned_again_stands_apart_by_circuit():
    named = zip((name for _, name in faithfulness_report.AGAIN), (0.75, 0.5, 31.25, 1.5))
    figures = [{"name": name, "ablation": "mean+resample", "value": value} for name, value in named]
    rows = [dataclasses.replace(ROWS[2], figures=figures, again=True), *ROWS[3:]]
    table = format_rows([dataclasses.replace(ROWS[6], again=True), *rows], RECIPES)
    headings = " | ".join(heading for heading, _ in faithfulness_report.AGAIN)
    assert f"| pruned again | edges | {headings} |\n" in table
    assert "| a, sparse, strict | 12 | 0.75 | 0.5 | 31.25 | 1.5 | - | - | - | - | - |\n" in table
    # those of the sparse model first
    assert table.index("| a, sparse, strict |") < table.index("| a, dense, strict | 192 | - |")
    assert "| b, sparse, strict |" not in table and "pruned again" not in format_rows(ROWS, RECIPES)


def test_rows_of_an_earlier_scorecard_are_made_again(tmp_path, monkeypatch):
    made = []

    def found(subject, task, prune, label):
        losses, about = {"circuit": 0.1, "validation": 0.1}, {"identity": label, "reached": True}
        return Circuit((Node(0, "q", 1),), (), sites.LAYER_SITES, {"nodes": 1, "edges": 0}, losses, {}, about)

    def measured(model, circuit, task, pairs, again):
        made.append(again)
        return Scorecard(task.name, "small", "aa", pairs, 0.15, (), (f"said {len(made)}",))

    monkeypatch.setattr(faithfulness, "prepare_subject", lambda *given: None)
    monkeypatch.setattr(faithfulness, "_circuit", found)
    monkeypatch.setattr(faithfulness, "measure_circuit", measured)
    task, recipes = Planted("planted", "tests", "which digit"), {"mean": PruneConfig()}
    given = {"sparse": SimpleNamespace(fingerprint="aa")}, [task], recipes, tmp_path, 8, tmp_path / "circuits"
    *_, rows = faithfulness.measured_rows(*given)
    assert [one.verdict for one in rows] == [("said 1",)] and rows[0].version == VERSION
    *_, rows = faithfulness.measured_rows(*given)  # they are there
    assert len(made) == 1
    without = [{k: v for k, v in one.items() if k != "version"} for one in read_rows(tmp_path / "rows.jsonl")]
    (tmp_path / "rows.jsonl").write_text(json_lines(without))
    *_, rows = faithfulness.measured_rows(*given)
    assert [one.verdict for one in rows] == [("said 2",)] and made == [False, False]
    # figures of pruning again are added where they are wanted, and kept where they are not
    *_, rows = faithfulness.measured_rows(*given, again=True)
    assert rows[0].again and made == [False, False, True]
    for again in (True, False):
        *_, rows = faithfulness.measured_rows(*given, again=again)
    assert rows[0].again and len(made) == 3


def test_the_picture_has_a_circle_for_every_circuit_that_reaches_the_target(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(edges_figure, "save_figure", lambda figure, path: drawn.append(figure.axes[0]))
    # the order of rows does not decide which recipe is drawn full
    write_results([*ROWS[::-1], row("sparse", "c", "strict", 7, reached=False)], RECIPES, tmp_path)
    axes = drawn.pop()
    tasks = [label.get_text() for label in axes.get_yticklabels()]
    assert tasks == ["c", "b", "a"]
    circles = {line.get_label(): line for line in axes.lines if line.get_marker() == "o"}
    assert list(circles) == [
        "sparse, mean ablation only",
        "sparse, strict",
        "dense, mean ablation only",
        "dense, strict",
    ]
    fills = [line.get_markerfacecolor() for line in circles.values()]
    assert fills == ["white", "C0", "white", "C1"]
    np.testing.assert_array_equal(circles["sparse, strict"].get_xdata(), [np.nan, 24, 12])
    np.testing.assert_array_equal(circles["dense, strict"].get_xdata(), [np.nan, np.nan, 192])
    # the first circuits of a study may all miss it
    write_results([row("sparse", "c", "strict", 7, reached=False)], RECIPES, tmp_path)
    assert [label.get_text() for label in drawn.pop().get_yticklabels()] == ["c"]
