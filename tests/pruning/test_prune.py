"""From a trained model and tasks to circuits on disk."""

import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models

import sparse_jax as sj
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.judged import circuit_judge
from sparse_jax.ablation.objective import pair_losses
from sparse_jax.circuits.applied import own_ablation, values_of
from sparse_jax.circuits.edges import count_edges
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.hooks import Hooks
from sparse_jax.models import means as text_means
from sparse_jax.models.means import (
    ablation_values,
    load_means,
    publish_means,
    save_means,
    training_windows,
)
from sparse_jax.pruning import search as searching
from sparse_jax.pruning.extract import circuit_of
from sparse_jax.pruning.prune import TaskBeyondModelError, prune_tasks
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.pruning.reduce import Reduced
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.subject import Subject
from sparse_jax.tasks.metrics import binary_loss
from sparse_jax.tasks.task_data import TaskData, task_data
from sparse_jax.trees import fingerprint
from tests import planted
from tests.compiled import forward
from tests.planted import CIRCUIT, CONFIG, Planted, planted_model

# equally many pairs in every split, so that one program serves all of them
PRUNE = dataclasses.replace(
    planted.PRUNE, steps=200, learning_rate=0.004, mean_windows=8, validation_pairs=8, test_pairs=8
)


@pytest.fixture(scope="module")
def model():
    return planted_model()


@pytest.fixture(scope="module")
def corpus(model):
    tokens = np.random.default_rng(0).integers(0, 8, 400).astype(np.uint16)
    sources = {"a": SourceTokens(tokens, tokens), "b": SourceTokens(tokens[:100] * 0, tokens)}
    return Corpus(model.tokenizer, sources, {"a": 0.75, "b": 0.25}, "", {})


@pytest.fixture(scope="module")
def data(model):
    return task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, PRUNE.counts)


def loss_of(model, pairs, gates, values):
    """The mean loss in nats of these gates on the pairs."""
    return Subject(model, values, Store(None)).loss(pairs, PRUNE, gates)


def circuit_logits(model, circuit, pairs, kind=None):
    """The circuit's logits [P, 2, V] under its own ablation or another kind."""
    judge = circuit_judge(model, circuit, pairs, kind or own_ablation(circuit))
    return judge.logits(circuit.gates(model.config))


def test_pairs_in_tokens_that_the_model_has_not_are_refused_before_any_work(model, corpus, data, tmp_path):
    other = data._replace(train=data.train._replace(tokens=data.train.tokens + 1))
    with pytest.raises(InputError, match="pairs: 'ids 1 to 8' is not valid; valid: token ids 0 to 7"):
        prune_tasks(model, corpus, [data, other], Recipe(PRUNE), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_windows_come_from_the_sources_by_weight(corpus):
    windows = training_windows(corpus, 8, 8)
    assert windows.shape == (8, 8)
    assert sorted(bool(row.any()) for row in windows) == [False] * 2 + [True] * 6


def test_the_planted_circuit_is_extracted_saved_and_kept(model, corpus, data, tmp_path, capsys):
    found = prune_tasks(model, corpus, [data], Recipe(PRUNE), tmp_path)[0]
    assert [(node.site, node.index) for node in found.nodes] == list(CIRCUIT)
    assert found.counts["edges"] == 2 and found.provenance["reached"] and found.provenance["kind"] == "sparse"
    before = found.provenance["discretized"]
    assert before["nodes"] >= 3 and before["edges"] >= 2 and not found.edge_gated
    losses = found.losses
    for name in ("unpruned", "validation", "circuit", "calibrated"):
        assert 0 <= losses[f"{name}_error"] < losses[name]
    assert losses["circuit"] <= 0.15 and losses["calibrated"] <= losses["circuit"] + 1e-3
    # the saved losses are what the saved gates and means give
    saved, means = load_circuit(tmp_path / "planted.json"), load_means(tmp_path / "means.npz")
    loss = loss_of(model, data.test, saved.gates(CONFIG), means)
    assert loss == pytest.approx(losses["circuit"], abs=1e-6)
    for node in found.nodes:
        assert node.mean == pytest.approx(means[node.site][node.layer, node.index])
    assert loss_of(model, data.test, {}, means) == pytest.approx(losses["unpruned"], abs=1e-6)
    assert load_circuit(tmp_path / "planted.json") == dataclasses.replace(
        found, provenance=load_circuit(tmp_path / "planted.json").provenance
    )
    # the same pairs under another name: the same circuit, under that name
    renamed = prune_tasks(model, corpus, [data._replace(name="renamed")], Recipe(PRUNE), tmp_path)[0]
    assert renamed.provenance["task"] == "renamed" and renamed.nodes == found.nodes
    assert load_circuit(tmp_path / "renamed.json").provenance["task"] == "renamed"
    assert load_circuit(tmp_path / "planted.json").provenance["task"] == "planted"

    # values that lie beside the file serve, without the text that they were measured on
    assert found.folder == saved.folder == str(tmp_path)
    for name, value in values_of(model, saved).items():
        np.testing.assert_array_equal(value, means[name])
    stamp = (tmp_path / "planted.json").stat().st_mtime_ns
    again = prune_tasks(model, corpus, [data], Recipe(PRUNE), tmp_path)[0]
    assert again.nodes == found.nodes and (tmp_path / "planted.json").stat().st_mtime_ns == stamp

    # another pruning, other weights and other pairs under the same name each have a file of their own
    prune_tasks(model, corpus, [data], Recipe(dataclasses.replace(PRUNE, learning_rate=0.005)), tmp_path)
    moved = dataclasses.replace(model, params=jax.tree.map(lambda x: x * 1.01, model.params))
    prune_tasks(moved, corpus, [data], Recipe(PRUNE), tmp_path)
    edited = data._replace(train=data.train._replace(tokens=data.train.tokens[:, :, ::-1].copy()))
    prune_tasks(model, corpus, [edited], Recipe(PRUNE), tmp_path)
    assert len(list(tmp_path.glob("planted*.json"))) == 4
    assert len(list(tmp_path.glob("means*.npz"))) == 2
    paths = sorted(tmp_path.glob("planted*.json"))
    assert len({load_circuit(path).provenance["identity"] for path in paths}) == 4
    with pytest.raises(InputError, match="it gives another tokenizer now"):
        foreign = dataclasses.replace(corpus, tokenizer=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
        prune_tasks(model, foreign, [data], Recipe(PRUNE), tmp_path)
    assert (tmp_path / "planted.json").stat().st_mtime_ns == stamp


def test_with_gates_on_the_embedding_its_one_channel_that_tells_is_kept(
    model, corpus, data, tmp_path, one_width
):
    """Only channel 0 carries which token ends the prompt; the others are ablated to their means."""
    prune = dataclasses.replace(PRUNE, sites=(*sites.LAYER_SITES, "embed"))
    found = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)[0]
    assert [(node.site, node.index) for node in found.nodes] == [("embed", 0), *CIRCUIT]
    assert found.provenance["reached"] and found.sites == prune.sites
    counts = {name: found.counts[name] for name in ("nodes", "edges", "embedding")}
    assert counts == {"nodes": 4, "edges": 2, "embedding": 2}
    saved, means = load_circuit(tmp_path / "planted.json"), load_means(tmp_path / "means.npz")
    assert (saved.nodes, saved.edges, saved.sites) == (found.nodes, found.edges, found.sites)
    gates = saved.gates(CONFIG)
    np.testing.assert_array_equal(gates["embed"], np.eye(8)[0])
    assert found.nodes[0].mean == pytest.approx(means["embed"][0])
    loss = loss_of(model, data.test, gates, means)
    assert loss == pytest.approx(found.losses["circuit"], abs=1e-6)
    # without that channel too the two members of a pair are the same
    none = loss_of(model, data.test, {**gates, "embed": np.zeros(8, np.float32)}, means)
    assert none > np.log(2) - 1e-6


def test_published_means_serve_unless_the_embedding_is_gated_and_they_lack_it(
    model, corpus, tmp_path, monkeypatch
):
    model = dataclasses.replace(model, origin=str(tmp_path))
    monkeypatch.setattr(text_means, "prepare", lambda *_: corpus)
    publish_means(model, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = load_means(path)
    old = {site: 0 * mean + 7 for site, mean in whole.items() if site != "embed"}
    save_means(old, path, model.fingerprint)
    made_again = ablation_values(model, sites.NODE_SITES)
    assert set(made_again) == set(sites.NODE_SITES)
    for site, mean in made_again.items():
        np.testing.assert_array_equal(mean, whole[site])

    def no_text(*_):
        raise InputError("data: the text is gone")

    monkeypatch.setattr(text_means, "prepare", no_text)
    with pytest.raises(InputError, match="the text is gone"):
        ablation_values(model, sites.NODE_SITES)
    for windows, names in ((128, "embed"), (4, "attn_in, .*, v")):
        with pytest.raises(
            InputError, match=f"or with the means of {names} in means_{windows}.npz in its dir"
        ):
            ablation_values(dataclasses.replace(model, run=None), sites.NODE_SITES, windows)
    found = ablation_values(model)
    assert set(found) == set(old) and all((mean == 7).all() for mean in found.values())
    save_means(whole, path, model.fingerprint)
    assert set(ablation_values(model, sites.NODE_SITES)) == set(whole)
    assert set(ablation_values(model)) == set(old)


def test_a_circuit_of_gated_edges_runs_from_its_file_as_it_was_measured(model, data, tmp_path):
    rng = np.random.default_rng(0)
    shapes = sites.node_shapes(CONFIG, PRUNE.ablation_sites)
    means = {site: rng.normal(size=shape).astype(np.float32) for site, shape in shapes.items()}
    gates = {site: np.ones(shapes[site], np.float32) for site in PRUNE.sites}
    for key, shape in sites.edge_shapes(CONFIG).items():
        gates[key] = (rng.random(shape) < 0.7).astype(np.float32)
    reduced = Reduced(0.15, gates, means, {"nodes": 99, "edges": 98}, 0.1, 0.01, True)
    subject = Subject(model, means, Store(None))
    circuit_of(subject, data, PRUNE, reduced, {}).save(tmp_path / "edges.json")
    found = load_circuit(tmp_path / "edges.json")
    assert found.edge_gated and found.counts["edges"] == count_edges(model.params, gates)
    assert found.losses["validation"] == 0.1 and found.losses["validation_error"] == 0.01
    assert found.provenance["discretized"] == {"nodes": 99, "edges": 98}
    judge = subject.judge(data.test, PRUNE)
    losses = judge.losses(found.gates(CONFIG))
    assert losses.mean() == pytest.approx(found.losses["circuit"], abs=1e-6)
    assert losses.std(ddof=1) / 8**0.5 == pytest.approx(found.losses["circuit_error"], abs=1e-6)
    open_edges = judge.losses({site: gates[site] for site in PRUNE.sites})
    assert abs(open_edges.mean() - losses.mean()) > 1e-3


def test_closed_nodes_are_ablated_to_zero_where_that_was_trained(model, corpus, data, tmp_path):
    prune = dataclasses.replace(PRUNE, ablation="zero", target_loss=0.6, swaps=False)
    (circuit,) = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)
    gates = circuit.gates(model.config)
    zeros = {site: np.zeros_like(gate) for site, gate in gates.items()}
    losses_of = jax.jit(functools.partial(pair_losses, model.config, model.params))
    by_hand = losses_of(gates, zeros, data.test)
    assert circuit.losses["circuit"] == pytest.approx(float(by_hand.mean()), abs=1e-5)
    assert all(node.mean == 0 for node in circuit.nodes)
    # what the means would give is something else, and so is what the file keeps beside it
    means = load_means(tmp_path / "means.npz")
    with_means = losses_of(gates, {site: means[site] for site in gates}, data.test)
    assert abs(float(with_means.mean()) - circuit.losses["circuit"]) > 1e-4
    again = circuit_logits(model, load_circuit(tmp_path / "planted.json"), data.test)
    np.testing.assert_allclose(binary_loss(again, data.test.candidates), by_hand, atol=1e-5)


def test_a_strict_circuit_is_within_the_target_under_every_kind(model, corpus, data, tmp_path):
    """Values of other prompts, of the training text too, and errors added: nothing of that is passed over."""
    kinds = ("mean", "resample", "resample_text")
    prune = dataclasses.replace(PRUNE, ablation="+".join(kinds), draws=2, confidence=2.0, target_loss=0.6)
    (circuit,) = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)
    losses, text = circuit.losses, training_windows(corpus, PRUNE.mean_windows, 8)
    values, gates = load_means(tmp_path / "means.npz"), circuit.gates(model.config)
    for split, figure in ((data.validation, "validation"), (data.test, "circuit")):
        found = {}
        for kind in kinds:
            judge = Judge(CONFIG, model.params, values, split, ablation=kind, draws=2, text=text)
            found[kind] = judge.by_kind(judge.losses(gates))[kind]
            assert losses[f"{figure}, {kind}"] == pytest.approx(found[kind].mean, abs=1e-5)
            error = losses[f"{figure}, {kind}_error"]
            assert error == pytest.approx(found[kind].standard_error, abs=1e-5)
        worst = max(found.values(), key=lambda one: one.mean + 2 * one.standard_error)
        assert losses[figure] == pytest.approx(worst.mean, abs=1e-5)
    assert circuit.provenance["reached"]
    assert losses["validation"] + 2 * losses["validation_error"] <= 0.6
    assert circuit.provenance["text"] == fingerprint(text)[:16]


def test_a_node_that_holds_a_constant_is_replaced_by_it_and_what_led_to_it_goes(
    model, corpus, data, tmp_path
):
    """Neuron 5 reads channel 7, in which only the last tokens of prompts, 1 and 2, are large: at the end of
    a prompt it always adds the same, which its mean over other text is far from."""
    params = jax.tree.map(np.array, model.params)
    mlp, kernel = params["layers"]["mlp"], "kernel"
    params["embed"][kernel][:, 7] = 0
    params["embed"][kernel][1:3, 7] = 3
    params["layers"]["attn"]["out"][kernel][..., 7] = 0
    mlp["up"][kernel][:, :, 5] = mlp["up"]["bias"][:, 5] = mlp["down"][kernel][:, 5] = 0
    mlp["up"][kernel][:, 7, 5] = mlp["down"][kernel][:, 5, 1] = 2
    # without what neuron 5 adds, the answer is 5 in both prompts
    tokens = np.array([[6, 7, 1], [6, 7, 2]])
    added = forward(CONFIG, params, tokens, Hooks(capture=("mlp_neuron",)))[1]["mlp_neuron"][0, :, 2, 5]
    assert np.ptp(np.asarray(added)) < 0.05 * added.mean() and added.mean() > 0.5
    mlp["down"]["bias"][:, 1] -= 2 * added.mean()
    held = dataclasses.replace(model, params=jax.device_put(params))
    plain, with_constants = (
        prune_tasks(held, corpus, [data], Recipe(prune), tmp_path)[0]
        for prune in (PRUNE, dataclasses.replace(PRUNE, constants=True))
    )
    # the gates are those of the first pruning: constants come after them
    assert len(list((tmp_path / "search").glob("planted-*"))) == 1
    beside = {"0.mlp_in.7", "0.mlp_neuron.5"}
    assert beside < {node.name for node in plain.nodes} and not plain.constants
    assert not beside & {node.name for node in with_constants.nodes}
    assert with_constants.counts["edges"] < plain.counts["edges"]
    (constant,) = with_constants.constants
    assert constant.name == "0.mlp_neuron.5" and with_constants.counts["constants"] == 1
    assert constant.mean == pytest.approx(float(added.mean()), rel=0.02)
    assert with_constants.provenance["reached"] and with_constants.losses["circuit"] <= 0.15
    # from its file it runs as it was measured, under every ablation with its constant
    saved = next(one for path in tmp_path.glob("planted*.json") if (one := load_circuit(path)).constants)
    assert saved.constants == with_constants.constants
    for kind in ("mean", "zero", "resample", "stochastic"):
        found = binary_loss(circuit_logits(held, saved, data.test, kind), data.test.candidates)
        assert float(np.mean(found)) <= 0.2, kind
    without = dataclasses.replace(saved, constants=())
    lost = binary_loss(circuit_logits(held, without, data.test, "mean"), data.test.candidates)
    assert float(np.mean(lost)) > 0.3
    logits = sj.run(held, tokens, circuit=saved)[0][np.arange(2), 2]
    assert logits[0, 4] > logits[0, 5] and logits[1, 5] > logits[1, 4]
    with pytest.raises(
        InputError, match=r"pruning\.constants: True is not valid; valid: False with gates on"
    ):
        Recipe(dataclasses.replace(PRUNE, constants=True), edge_prune=PRUNE)


def test_forbidden_nodes_are_in_no_circuit_and_wrong_names_are_refused_before_any_work(
    model, corpus, data, tmp_path
):
    for names in (("0.mlp_neuron.3",), ("0.q.1", "0.mlp_neuron.5")):
        prune = dataclasses.replace(PRUNE, forbidden=names)
        assert Recipe(prune, edge_prune=prune).edge_prune.forbidden == names
        found = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)[0]
        also = {name.replace("q", "k") for name in names}  # a channel of q and of k share a gate
        assert not {node.name for node in found.nodes} & {*names, *also}
        # without the only neuron that can do it there is no circuit; without any other nothing is missing
        assert found.provenance["reached"] == ("0.mlp_neuron.3" not in names)
    # a result without these nodes is not that of a pruning that may have them, nor the other way round
    free = prune_tasks(model, corpus, [data], Recipe(PRUNE), tmp_path)[0]
    assert "0.mlp_neuron.3" in {node.name for node in free.nodes}
    assert len({load_circuit(path).provenance["identity"] for path in tmp_path.glob("planted*.json")}) == 3
    for name, said in (("0.mlp_neurons.3", "did you mean 'mlp_neuron'"), ("0.q.99", "no channel 99")):
        recipe = Recipe(dataclasses.replace(PRUNE, forbidden=(name,)))
        with pytest.raises(InputError, match=said):
            prune_tasks(model, corpus, [data], recipe, tmp_path / "out")
    with pytest.raises(InputError, match=r"pruning\.forbidden: 'embed' is not valid"):
        prune_tasks(model, corpus, [data], Recipe(dataclasses.replace(PRUNE, forbidden=("0.embed.1",))), None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"compact: True is not valid; valid: False with pruning\.forbidden"):
        dataclasses.replace(PRUNE, forbidden=("0.q.1",), compact=True)
    with pytest.raises(InputError, match=r"pairs_per_step: 1 is not valid; valid: at least 2"):
        dataclasses.replace(PRUNE, pairs_per_step=1, ablation="mean+zero")


def test_a_task_beyond_the_model_is_said_so_and_left_out(model, corpus, data, tmp_path, capsys):
    broken = jax.tree.map(lambda leaf: leaf * 0, model.params)
    weak = dataclasses.replace(model, params=broken)
    with pytest.raises(TaskBeyondModelError, match="0.15 is below the loss 0.693 of the full model"):
        prune_tasks(weak, corpus, [data], Recipe(PRUNE), None, leave_out=False)
    assert prune_tasks(weak, corpus, [data], Recipe(PRUNE), tmp_path) == [None]
    assert "planted: left out" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))


def test_a_control_is_pruned_although_the_model_misses_it(model, corpus, data, tmp_path, capsys):
    wrong = [pairs._replace(candidates=pairs.candidates[..., ::-1].copy()) for pairs in data.splits]
    control = TaskData("planted.control", *wrong, is_control=True)
    assert prune_tasks(model, corpus, [control._replace(is_control=False)], Recipe(PRUNE), tmp_path) == [None]
    (circuit,) = prune_tasks(model, corpus, [control], Recipe(PRUNE), tmp_path)
    assert circuit is not None and circuit.losses["unpruned"] > 0.15
    assert "planted.control: a control; the full model is at" in capsys.readouterr().err


def test_a_single_test_pair_has_no_standard_error_and_its_file_is_json(model, corpus, tmp_path, one_width):
    prune = dataclasses.replace(PRUNE, test_pairs=1, validation_pairs=1, swaps=False)
    data = task_data(Planted("planted", "tests", "which digit is last"), model.tokenizer, 8, prune.counts)
    (circuit,) = prune_tasks(model, corpus, [data], Recipe(prune), tmp_path)
    assert circuit.losses["circuit_error"] is None and circuit.losses["validation_error"] is None
    text = (tmp_path / "planted.json").read_text()
    assert "NaN" not in text and json.loads(text)["losses"]["circuit_error"] is None
    assert load_circuit(tmp_path / "planted.json").losses == circuit.losses


def test_lanes_search_and_edges_are_one_road_and_go_on_where_they_were(
    model, corpus, data, tmp_path, monkeypatch
):
    recipe = Recipe(PRUNE, SearchConfig(lanes=2, rounds=2), edge_prune=PRUNE, edge_lanes=2)
    optimize, calls = searching.optimize_gates, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return optimize(*arguments)

    monkeypatch.setattr(searching, "optimize_gates", stopped)
    with pytest.raises(KeyboardInterrupt):
        prune_tasks(model, corpus, [data], recipe, tmp_path)
    (circuit,) = prune_tasks(model, corpus, [data], recipe, tmp_path)
    assert len(calls) == 3  # the first round was kept
    assert circuit.edge_gated and circuit.counts["edges"] == 2 and circuit.provenance["prunings"] == 6
    nodes = load_circuit(tmp_path / "planted-nodes.json")
    assert not nodes.edge_gated and nodes.provenance["prunings"] == 4
    for name in ("searched", "optimized_gates", "optimized_loss"):  # by which a search is known
        assert circuit.provenance[name] == nodes.provenance[name]
    (in_memory,) = prune_tasks(model, corpus, [data], recipe, None)
    assert (in_memory.nodes, in_memory.edges) == (circuit.nodes, circuit.edges) and len(calls) == 5
    assert prune_tasks(model, corpus, [data], recipe, tmp_path)[0].nodes == circuit.nodes and len(calls) == 5
    # circuits of nodes alone are found where edges were asked for
    (alone,) = prune_tasks(model, corpus, [data], dataclasses.replace(recipe, edge_prune=None), tmp_path)
    assert alone == nodes and len(calls) == 5


def test_a_foreign_file_of_the_tasks_name_stays_as_it_is(model, corpus, data, tmp_path):
    (tmp_path / "planted.json").write_text("{")
    (circuit,) = prune_tasks(model, corpus, [data], Recipe(PRUNE), tmp_path)
    assert (tmp_path / "planted.json").read_text() == "{"
    assert load_circuit(tmp_path / f"planted-{circuit.provenance['identity']}.json").nodes == circuit.nodes


def test_every_pruning_that_breaks_down_is_said(model, corpus, data, monkeypatch):
    optimize = searching.optimize_gates

    def broken(*arguments):
        found = optimize(*arguments)
        return found._replace(failed=found.failed | True)

    monkeypatch.setattr(searching, "optimize_gates", broken)
    with pytest.raises(InputError, match="all 1 lanes broke down"):
        prune_tasks(model, corpus, [data], Recipe(PRUNE), None)


def test_a_task_is_the_same_alone_and_beside_a_longer_one(model, corpus, data, tmp_path):
    longer = TaskData(
        "longer",
        *(
            pairs._replace(tokens=np.pad(pairs.tokens, ((0, 0), (0, 0), (0, 8 - pairs.tokens.shape[-1]))))
            for pairs in data.splits
        ),
    )
    shorter = TaskData("planted", *(pairs._replace(tokens=pairs.tokens[..., :3]) for pairs in data.splits))
    (alone,) = prune_tasks(model, corpus, [shorter], Recipe(PRUNE), tmp_path)
    stamp = (tmp_path / "planted.json").stat().st_mtime_ns
    beside, _ = prune_tasks(model, corpus, [shorter, longer], Recipe(PRUNE), tmp_path)
    assert beside.provenance["identity"] == alone.provenance["identity"]
    assert (tmp_path / "planted.json").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.glob("planted*.json")] == ["planted.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_means_that_are_not_finite_are_named_before_any_pruning(model, corpus, data, tmp_path, value):
    """By weights that are huge: the model is there and runs, its neurons overflow."""
    mlp = model.params["layers"]["mlp"]
    bad = {**mlp, "up": {**mlp["up"], "bias": mlp["up"]["bias"].at[0, 2].set(value)}}
    layers = {**model.params["layers"], "mlp": bad}
    broken = dataclasses.replace(model, params={**model.params, "layers": layers})
    with pytest.raises(InputError, match=r"^ablation values: \d+ of 8 at 'mlp_neuron' are not finite; "):
        prune_tasks(broken, corpus, [data], Recipe(PRUNE), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_target_that_is_not_finite_is_refused(model, value):
    task = Planted("planted", "tests", "which digit is last")
    with pytest.raises(InputError, match="pruning.target_loss: .* is not valid; valid: a finite number"):
        sj.prune(model, task, target_loss=value)
