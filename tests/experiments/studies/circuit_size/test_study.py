"""The whole study on a model whose circuit is known, stopped and continued, and on models that cannot."""

import dataclasses
import json

import jax
import pytest
from tokenizers import Tokenizer, models

from experiments.studies.circuit_size.plan import Plan, StudyConfig, keep_plan, read_plan
from experiments.studies.circuit_size.sizes import BEYOND, MISSED, REACHED, SizeRows
from experiments.studies.circuit_size.study import run_study
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.config import data_config
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.models.model import Model
from sparse_jax.pruning import prune, search
from sparse_jax.pruning.recipe import SearchConfig
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.tasks.task_data import TaskData
from sparse_jax.training.config import RunConfig, TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig
from tests.planted import CIRCUIT, CONFIG, PRUNE, planted_pairs, planted_params

PLAN = Plan(
    StudyConfig(targets=(0.1, 0.4), headline=0.1, edge_targets=(0.1,), edge_lanes=2, rankings=("random",)),
    SearchConfig(lanes=2, rounds=2, targets=(0.1,)),
    PRUNE,
    dataclasses.replace(PRUNE, steps=20),
)
PAIRS = {"dense": {"a": "p"}}
DATA = [TaskData(name, *(planted_pairs(n, seed=i) for n in (8, 4, 4))) for i, name in enumerate("ab")]


def subject(name, directory, params=None):
    run = RunConfig(
        CONFIG,
        SparsityConfig(),
        OptimizerConfig(),
        data_config({"sources": {"s": {"kind": "simple_python"}}}),
        TrainConfig(),
    )
    params = planted_params() if params is None else params
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    values = {site: jax.numpy.zeros(shape) for site, shape in sites.node_shapes(CONFIG).items()}
    model = Model(CONFIG, params, tokenizer, "planted", json.loads(run.to_json()))
    return Subject(model, values, Store(directory / name))


def run(directory, plan=PLAN, names=("sparse", "dense"), params=None):
    subjects = {name: subject(name, directory, params) for name in names}
    rows = SizeRows(directory / "rows.jsonl")
    run_study(subjects, dict.fromkeys(names, DATA), plan, rows)
    return rows.rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("study")
    return directory, run(directory)


def test_every_row_is_there_and_the_planted_circuit_is_found(finished):
    _, rows = finished
    keys = {row.key for row in rows}
    pairs = [("nodes", 0.1), ("nodes", 0.4), ("edges", 0.1), ("random", 0.1), ("random", 0.4)]
    assert keys == {(m, t, x, how) for m in ("sparse", "dense") for t in "ab" for how, x in pairs}
    assert len(rows) == len(keys) == 20
    for row in rows:
        assert row.outcome == REACHED and row.validation <= row.target and row.unpruned < 0.1
        if row.method == "random":
            assert row.edges > 2 and row.prunings == 0 and row.discretized_nodes is None
        elif row.target == 0.1:
            assert (row.nodes, row.edges) == (len(CIRCUIT), 2)
            assert row.discretized_nodes >= row.nodes
            assert row.prunings == (4 if row.method == "nodes" else 6)
            assert row.test == pytest.approx(row.validation, abs=0.05)


def test_models_take_turns(finished):
    order = list(dict.fromkeys((row.task, row.model) for row in finished[1]))
    assert order == [("a", "sparse"), ("a", "dense"), ("b", "sparse"), ("b", "dense")]


def test_circuits_are_kept_and_give_the_loss_of_their_row_again(finished):
    directory, rows = finished
    one = subject("sparse", directory)
    for row in rows:
        name = f"{row.task}-{row.target:g}"
        path = directory / row.model / f"{name}-nodes.json"
        if row.method == "edges":
            path = directory / row.model / f"{name}.json"
        if row.method == "random" or row.model != "sparse":
            continue
        circuit = load_circuit(path)
        assert circuit.edge_gated == (row.method == "edges")
        assert (len(circuit.nodes), len(circuit.edges)) == (row.nodes, row.edges)
        data = DATA["ab".index(row.task)]
        loss = one.judge(data.test, PRUNE).losses(circuit.gates(CONFIG)).mean()
        assert loss == pytest.approx(row.test, abs=1e-6)


def test_a_study_stopped_anywhere_ends_with_the_same_rows(finished, tmp_path, monkeypatch):
    """Stopped after a round of the search, and after a row; a finished one is not touched."""
    optimize, calls = search.optimize_gates, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return optimize(*arguments)

    def again():
        return run(tmp_path, names=["sparse"])

    monkeypatch.setattr(search, "optimize_gates", stopped)
    with pytest.raises(KeyboardInterrupt):
        again()
    assert not (tmp_path / "rows.jsonl").exists()
    (journal,) = (tmp_path / "sparse/search").glob("a-*/trials.jsonl")
    assert len(journal.read_text().splitlines()) == 2

    append = SizeRows.append

    def stop_at_the_fourth(self, row):
        if len(self.rows) == 3:
            raise KeyboardInterrupt
        append(self, row)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SizeRows, "append", stop_at_the_fourth)
        again()
    assert len(SizeRows(tmp_path / "rows.jsonl").rows) == 3
    expected = [row for row in finished[1] if row.model == "sparse"]
    assert again() == expected
    assert len(calls) == 2 + 1 + 2  # the round that was stopped once more, then the two of the other task
    assert again() == expected and len(calls) == 5


def test_tasks_searched_together_give_the_same(finished, tmp_path):
    study = dataclasses.replace(PLAN.study, tasks_together=2, edge_targets=(), rankings=())
    rows = run(tmp_path, dataclasses.replace(PLAN, study=study), ["dense"])
    assert rows == [row for row in finished[1] if (row.model, row.method) == ("dense", "nodes")]


def test_what_a_model_cannot_do_is_said_first_and_never_searched(tmp_path, capsys):
    weak = jax.tree.map(lambda leaf: leaf * 0, planted_params())
    rows = run(tmp_path, names=["dense"], params=weak)
    assert {row.outcome for row in rows} == {BEYOND} and len(rows) == 10
    assert "dense, a: the full model is at 0.693 nats; left out: 0.1, 0.4" in capsys.readouterr().err
    assert not (tmp_path / "dense").exists()
    assert run(tmp_path, names=["dense"], params=weak) == rows


def test_prunings_that_all_break_down_are_reported_as_missed(tmp_path, monkeypatch):
    optimize = search.optimize_gates

    def broken(*arguments):
        found = optimize(*arguments)
        return found._replace(failed=found.failed | True)

    monkeypatch.setattr(search, "optimize_gates", broken)
    rows = run(tmp_path, names=["sparse"])
    learned = [row for row in rows if row.method != "random"]
    assert {row.outcome for row in learned} == {MISSED} and {row.nodes for row in learned} == {None}
    assert {row.outcome for row in rows if row.method == "random"} == {REACHED}


def test_edges_and_rankings_may_be_asked_for_later(finished, tmp_path, monkeypatch):
    """From the circuits of nodes that are kept, which are not looked for again."""
    later = dataclasses.replace(PLAN.study, edge_targets=(), rankings=())
    weights = {"sparse": "1", "dense": "2"}
    for study in (later, PLAN.study):
        keep_plan(dataclasses.replace(PLAN, study=study), weights, {}, tmp_path)
    run(tmp_path, dataclasses.replace(PLAN, study=later), ["dense"])
    monkeypatch.setattr(prune, "reduce_nodes", None)
    found = {row.key: row for row in run(tmp_path, names=["dense"])}
    assert found == {row.key: row for row in finished[1] if row.model == "dense"}
    assert not list((tmp_path / "dense/search").glob("*.npz"))


def test_another_plan_other_weights_and_other_pairs_are_refused(tmp_path):
    weights = {"sparse": "1", "dense": "2"}
    keep_plan(PLAN, weights, PAIRS, tmp_path)
    keep_plan(PLAN, weights, PAIRS, tmp_path)
    more = {"dense": {"a": "p", "b": "q"}}  # a task that was not there before
    faster = dataclasses.replace(PLAN, study=dataclasses.replace(PLAN.study, tasks_together=7))
    keep_plan(faster, weights, more, tmp_path)
    other = dataclasses.replace(PLAN, prune=dataclasses.replace(PRUNE, steps=7))
    with pytest.raises(InputError, match=r"another plan \(prune.steps 60 there, 7 here\)"):
        keep_plan(other, weights, PAIRS, tmp_path)
    with pytest.raises(InputError, match=r"weights.dense '2' there, '3' here"):
        keep_plan(PLAN, {**weights, "dense": "3"}, PAIRS, tmp_path)
    with pytest.raises(InputError, match="tasks: b had other pairs when"):
        keep_plan(PLAN, weights, {"dense": {"b": "r"}}, tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match="plan.json: cannot be read"):
        keep_plan(PLAN, weights, PAIRS, tmp_path)


@pytest.mark.parametrize(
    ("section", "given", "said"),
    [
        ("study", {"targets": (0.1, -0.2)}, "study.targets: .* above 0"),
        ("study", {"headline": 0.2}, "study.headline: 0.2 .* among the targets"),
        ("study", {"edge_targets": (0.7,)}, "study.edge_targets"),
        ("study", {"rankings": ("attributoin",)}, "study.rankings: .* did you mean 'attribution'"),
        ("search", {"finalists": 0}, "search.finalists: 0"),
        ("study", {"lanes": 3}, "study.lanes: unknown field"),
        ("search", {"targets": (0.01,)}, "search.targets: .* among the targets"),
        ("pruning", {"steps": 0}, "pruning.steps: 0"),
        ("edge_pruning", {"frozen_norms": True}, "edge_pruning.frozen_norms: True .* that of pruning, False"),
        ("edge_pruning", {"ablation": "zero"}, "edge_pruning.ablation: 'zero' .* 'mean'"),
        ("edge_pruning", {"gate": "hard_concrete"}, "edge_pruning.gate: 'hard_concrete' .* 'step'"),
        ("edge_pruning", {"constants": True}, "edge_pruning.constants: True .* that of pruning, False"),
        (
            "edge_pruning",
            {"forbidden": ("0.mlp_neuron.3",)},
            r"edge_pruning.forbidden: \('0.mlp_neuron.3',\) .* valid: \(\), or that of pruning, \(\)",
        ),
    ],
)
def test_a_wrong_plan_is_named(section, given, said):
    sections = {
        "study": dataclasses.asdict(PLAN.study),
        "search": dataclasses.asdict(PLAN.search),
        "pruning": dataclasses.asdict(PRUNE),
        "edge_pruning": dataclasses.asdict(PRUNE),
    }
    assert read_plan(json.loads(json.dumps(sections))).prune == PRUNE
    sections[section] = {**sections[section], **given}
    with pytest.raises(InputError, match=said):
        read_plan(sections)
