"""The public face: what it gives is what the rooms below give, typed in as in a notebook."""

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import processors

import sparse_jax as sj
from sparse_jax import interactive
from sparse_jax.ablation.score import measure_tasks
from sparse_jax.circuits import narrowing
from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.data.tokenizer import load_tokenizer
from sparse_jax.faithfulness.intervals import Interval
from sparse_jax.faithfulness.scorecard import Figure
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.models import means as text_means
from sparse_jax.models.means import load_means, program_windows
from sparse_jax.trees import named_leaves
from tests.compiled import forward
from tests.planted import Planted, planted_model

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "experiments" / "results" / "small"
CIRCUITS = ROOT / "experiments" / "results" / "faithfulness" / "circuits"
SHORT = {"steps": 20, "pairs_per_step": 4, "train_pairs": 16, "validation_pairs": 8, "test_pairs": 8}
# equally many pairs in every split, so that one program serves all of them
EQUAL = {**SHORT, "train_pairs": 8}


@pytest.fixture(scope="module")
def model():
    return sj.load(SMALL / "sparse")


@pytest.fixture(scope="module")
def circuit():
    return sj.load_circuit(CIRCUITS / "sparse" / "mean" / "for_while.json")


@pytest.fixture(scope="module")
def pruned():
    """A tiny model whose circuit is planted, its task, and the circuit that pruning finds."""
    model, task = planted_model(), Planted("planted", "tests", "which digit is last")
    tokens = np.random.default_rng(0).integers(0, 8, 2000).astype(np.uint16)
    corpus = Corpus(model.tokenizer, {"s": SourceTokens(tokens, tokens)}, {"s": 1.0}, "", {})
    with pytest.MonkeyPatch.context() as patch:  # its text, which scores ask for too, would have to be made
        patch.setattr(text_means, "prepare", lambda *_: corpus)
        patch.setattr(narrowing, "PARTS", (1,))  # one width: there is less to compile
        circuit = sj.prune(model, task, target_loss=0.5, k_coef=3e-3, learning_rate=0.05, **EQUAL)
        yield model, task, circuit


def test_importing_is_cheap_and_names_are_what_they_say():
    code = "import sys, sparse_jax as sj; assert 'jax' not in sys.modules; print(sorted(dir(sj)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert eval(said.stdout) == sorted([*sj.__all__, "__version__"])
    for name in sj.__all__:
        assert getattr(sj, name) is not None
    with pytest.raises(AttributeError, match="public names: "):
        sj.nothing  # noqa: B018


def test_running_a_text_is_the_forward_function(model):
    tokens = np.array([model.tokenizer.encode("for x").ids])
    expected, captured = forward(model.config, model.params, tokens, Hooks(capture=("q",)))
    for given in ("for x", tokens, tokens[0]):
        logits, acts = sj.run(model, given, capture="q")
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(acts["q"], captured["q"], atol=1e-5)


def test_several_texts_are_padded_behind_their_ends(model):
    logits, _ = sj.run(model, ["for x", "for item in items"])
    alone, _ = sj.run(model, "for x")
    np.testing.assert_allclose(logits[0, : alone.shape[1]], alone[0], atol=1e-4)


def test_a_first_token_of_a_post_processor_is_not_added(model):
    tokenizer = load_tokenizer(SMALL / "sparse" / "tokenizer.json")
    tokenizer.post_processor = processors.TemplateProcessing(
        "<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    other = dataclasses.replace(model, tokenizer=tokenizer)
    plain = interactive.token_ids(model, ["for x", "for item in"])
    assert tokenizer.encode("for x").ids == [0, *plain[0, :2]]
    np.testing.assert_array_equal(interactive.token_ids(other, ["for x", "for item in"]), plain)
    windows = [program_windows(one.tokenizer, 1, 128) for one in (model, other)]
    np.testing.assert_array_equal(*windows)


def test_ablating_by_name_is_a_gate_with_the_published_mean(model):
    means = load_means(SMALL / "sparse" / "means_128.npz", model.fingerprint)
    tokens = np.array([model.tokenizer.encode("for x").ids])
    gate = np.ones_like(means["mlp_neuron"])
    gate[1, 17] = 0
    hooks = Hooks({"mlp_neuron": gate}, {"mlp_neuron": means["mlp_neuron"]})
    expected = forward(model.config, model.params, tokens, hooks)[0]
    for names in ({"1.mlp_neuron.17": "mean"}, ["1.mlp_neuron.17"], "1.mlp_neuron.17"):
        np.testing.assert_allclose(sj.run(model, "for x", ablate=names)[0], expected, atol=1e-4)


def test_names_and_patches_may_be_in_other_containers(model):
    for one, other in (
        ({"ablate": ["q", "k"]}, {"ablate": np.array(["q", "k"])}),
        ({"patch": {"q": Patch(np.ones(1, bool), np.zeros(1))}}, {"patch": {"q": Patch([True], [0.0])}}),
    ):
        np.testing.assert_array_equal(*(sj.run(model, "for x", **given)[0] for given in (one, other)))


def test_adding_in_one_layer_adds_nothing_in_the_others(model):
    vector = np.linspace(-1, 1, 256).astype(np.float32)
    added = np.zeros((2, 1, 1, 256), np.float32)
    added[0] = vector
    tokens = np.array([model.tokenizer.encode("for x").ids])
    expected = forward(model.config, model.params, tokens, Hooks(additions={"resid_mid": added}))[0]
    np.testing.assert_allclose(sj.run(model, "for x", add={"0.resid_mid": vector})[0], expected, atol=1e-4)


def test_sites_outside_the_layers_may_be_named_with_their_layer(model):
    vector = np.linspace(-1, 1, 256).astype(np.float32)
    for name, numbered in (("embed", "0.embed"), ("final_resid", "2.final_resid")):
        plain, _ = sj.run(model, "for x", add={name: vector})
        np.testing.assert_array_equal(sj.run(model, "for x", add={numbered: vector})[0], plain)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda m: sj.run(m, [1, 5000]), "text: 'ids 1 to 5000' is not valid; valid: token ids 0 to 1023"),
        (lambda m: sj.run(m, [-1]), "ids -1 to -1"),
        (lambda m: sj.run(m, ""), "a text of at least one token"),
        (lambda m: sj.run(m, np.zeros((0, 3), int)), r"text: \(0, 3\) is not valid; valid: a text of at"),
        (lambda m: sj.run(m, [[1, 2], [3]]), "text: .* valid: texts, or rows of token ids of one length"),
        (lambda m: sj.run(m, ["a", 3]), "text: 3 is not valid; valid: texts only"),
        (lambda m: sj.run(m, "x", circuit="a.json"), "circuit: 'a.json' is not valid; valid: what sj.load"),
        (lambda m: sj.run(m, "x", ablate=3), "ablate: 3 is not valid; valid: names"),
        (lambda m: sj.run(m, "x", ablate={"q": np.ones(2)}), r"ablate\['q'\]: array\(.* is unknown"),
        (lambda m: sj.run(m, "x", ablate={"q": jnp.ones(2)}), r"ablate\['q'\]: Array\(.* is unknown"),
        (lambda m: sj.run(m, "x", add=np.ones(256)), "add: array.* valid: a mapping, by site"),
        (lambda m: sj.run(m, "x", add={"0.resid_mid": "much"}), r"add\['0.resid_mid'\]: 'much' .* numb"),
        (lambda m: sj.run(m, "x", patch={"q": (1, 2)}), r"patch\['q'\]: \(1, 2\) .* valid: a Patch"),
        (lambda m: sj.run(m, "x", patch={"q": Patch("all", 1.0)}), r"patch\['q'\].where: 'all' .* numb"),
        (lambda m: sj.run(m, "x", ablate="2.q"), "no layer 2"),
        (lambda m: sj.run(m, "x", add={"7.q": 1.0}), "add.*no layer 7; valid: 0 to 1"),
        (lambda m: sj.run(m, "x", add={"banana.embed": 1.0}), "add.*'banana' is not valid"),
        (lambda m: sj.run(m, "x", add={"1.embed": 1.0}), "add.*embed lies outside.*; valid: 0.embed"),
        (lambda m: sj.run(m, "x", add={"7.final_resid": 1.0}), "add.*; valid: 2.final_resid"),
        (
            lambda m: sj.run(m, "x", patch={"7.final_resid": sj.Patch(True, 1.0)}),
            "did you mean 'final_resid'",
        ),
        (lambda m: sj.run(m, "x", capture="qq"), "hooks.capture: 'qq' is unknown"),
        (lambda m: sj.task("for_whil"), "did you mean 'for_while'"),
        (lambda m: sj.task([("a", "b", "c")]), "pairs.0.: .*; valid: a Pair, or prompt"),
        (lambda m: sj.prune(m, "for_while", lanes=0), "lanes: 0 is not valid"),
        (lambda m: sj.prune(m, "for_while", lanes=1.5), "lanes: 1.5 is not valid; valid: a whole number"),
        (lambda m: sj.score(m, "for_while", pairs=32.0), "count: 32.0 is not valid; valid: a whole number"),
        (lambda m: sj.score(m, "for_while", seed=True), "seed: True is not valid; valid: a whole number"),
        (lambda m: sj.presets.tiny(**{"training.stps": 3}), "did you mean 'training.steps'"),
        (lambda m: sj.presets.tiny(data="mine"), "data: 'mine' is not valid; valid: a list of folders"),
        (lambda m: sj.generate(m, "x", 5000), "tokens: 5000 is not valid"),
        (
            lambda m: sj.generate(m, ["for x", "while y"], 3),
            "prompt: .*'while y'.* is not valid; valid: one text",
        ),
        (lambda m: sj.run(m, "x", capture=3), "capture: 3 is not valid; valid: names of sites"),
        (lambda m: sj.generate(m, "x", 3.0), "tokens: 3.0 is not valid; valid: a whole number"),
        (lambda m: sj.generate(m, "x", 3, seed=1.5), "seed: 1.5 is not valid; valid: a whole number"),
        (lambda m: sj.generate(m, "x", 3, seed=2**70), "seed: 1180591620717411303424 .* valid: 0 to 2"),
        (lambda m: sj.score(m, "for_while", seed=-1), "seed: -1 is not valid; valid: 0 to 2"),
        (lambda m: sj.prune(m, "for_while", seed=2**32), "pruning.seed: 4294967296 is not valid"),
        (lambda m: sj.presets.tiny(**{"training.seed": -1}), "training.seed: -1 is not valid; valid: 0"),
        (lambda m: sj.generate(m, "x", 3, temperature="hot"), "temperature: 'hot' is not valid; valid: 0"),
        (lambda m: sj.run(m, "x", add={3: 1.0}), "add: 3 is not valid; valid: names of sites"),
        (lambda m: sj.train({"model": {}}, "x"), "config: .* valid: a RunConfig, such as sj.presets.tiny"),
        (lambda m: sj.report({"a": 1}, "x.html"), "circuits: {'a': 1} is not valid; valid: circuits"),
        (lambda m: sj.score(m, "for_while", circuit="a.json", pairs=2), "circuit: 'a.json' is not valid"),
    ],
)
def test_wrong_input_is_named(model, call, said):
    with pytest.raises(sj.InputError, match=said):
        call(model)


def test_a_preset_trains_on_other_text(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    data = sj.presets.small("dense", data=[str(tmp_path), str(tmp_path / "notes.txt")]).data
    assert {name: (source.kind, source.paths) for name, source in data.sources.items()} == {
        "code": ("python_source", (str(tmp_path),)),
        "text": ("text", (str(tmp_path / "notes.txt"),)),
    }
    assert data.directory == sj.presets.small().data.directory


def test_without_a_prompt_a_new_text_begins(model):
    end = model.tokenizer.id_to_token(0)
    text = sj.generate(model, tokens=3, temperature=0)
    assert text.startswith(end) and len(text) > len(end)
    logits, _ = sj.run(model, np.array([0]))
    first = int(np.argmax(logits[0, -1]))
    assert model.tokenizer.encode(text[len(end) :]).ids[0] == first


def test_a_score_is_a_row_of_the_table_of_tasks(pruned):
    model, task, _ = pruned
    pairs = task.encode("test", 16, 0, model.tokenizer, model.config.context)
    (row,) = measure_tasks(model, {task.name: pairs}, "test")
    found = sj.score(model, task, pairs=16)
    assert found.loss == row["loss"] and found.values["loss"][1] == row["loss_error"]
    assert "loss" in repr(found) and "<table>" in found._repr_html_()


def test_a_patch_changes_what_is_generated():
    model = planted_model()
    silent = {"mlp_neuron": Patch(np.arange(8) == 3, 0.0)}
    written = [sj.generate(model, "61", 1, temperature=0, patch=patch) for patch in (None, silent)]
    assert written == ["614", "615"]
    at_last = {"mlp_neuron": Patch(np.arange(2)[:, None] == 1, 0.0)}
    with pytest.raises(sj.InputError, match=r"patches\['mlp_neuron'\].where: shape \(2, 1\) while sampling"):
        sj.generate(model, "61", 1, patch=at_last)


@pytest.mark.slow
def test_a_circuit_of_a_real_model_comes_back_from_its_file_with_its_loss(model, tmp_path):
    found = sj.prune(model, "for_while", target_loss=0.5, k_coef=3e-3, learning_rate=0.05, **SHORT)
    _comes_back(model, "for_while", found, tmp_path / "c.json")


def test_a_pruned_circuit_comes_back_from_its_file_with_its_loss(pruned, tmp_path):
    _comes_back(*pruned, tmp_path / "c.json")


def _comes_back(model, task, circuit, path):
    assert circuit.nodes and circuit.provenance["reached"] and circuit.losses["validation"] <= 0.5
    circuit.save(path)
    found = sj.score(model, task, circuit=sj.load_circuit(path), pairs=SHORT["test_pairs"])
    assert found.loss == pytest.approx(circuit.losses["circuit"], abs=1e-5)


def test_a_circuit_runs_with_its_gates_means_and_calibration(model, circuit, tmp_path):
    circuit.save(tmp_path / "c.json")
    again = sj.load_circuit(tmp_path / "c.json")
    logits, _ = sj.run(model, "for x", circuit=again)
    gates = again.gates(model.config)
    means = load_means(SMALL / "sparse" / "means_128.npz")
    tokens = np.array([model.tokenizer.encode("for x").ids])
    plain = forward(model.config, model.params, tokens, Hooks(gates, {s: means[s] for s in gates}))[0]
    shift = np.zeros(1024)
    for token, value in again.calibration["shift"].items():
        shift[int(token)] = value
    np.testing.assert_allclose(logits, again.calibration["scale"] * plain + shift, atol=1e-3)


@pytest.mark.slow
def test_a_circuit_is_scored_under_other_ablations(model, circuit):
    """Resampled: closed nodes carry their values in another pair's prompt, aligned at the last tokens."""
    pairs = sj.task("for_while").encode("test", 4, 0, model.tokenizer, 128)
    gates, config, params = circuit.gates(model.config), model.config, model.params
    tokens, last = pairs.tokens.reshape(8, -1), pairs.last.reshape(8)

    def losses_of(ablated):
        logits = np.asarray(forward(config, params, tokens, Hooks(gates, ablated))[0])
        right, wrong = logits[np.arange(8), last][np.arange(8)[:, None], pairs.candidates.reshape(8, 2)].T
        return np.log1p(np.exp(wrong - right)).reshape(4, 2).mean(axis=1)

    values = {
        site: np.asarray(v)
        for site, v in forward(config, params, tokens, Hooks(capture=tuple(gates)))[1].items()
    }
    possible = []
    for shift, flip in itertools.product((1, 2, 3), (0, 1)):
        donors = (np.arange(8) // 2 + shift) % 4 * 2 + flip  # one prompt for both members
        places = np.arange(tokens.shape[1]) - last[:, None] + last[donors][:, None]
        places = np.clip(places, 0, tokens.shape[1] - 1)
        possible.append(losses_of({s: v[..., donors[:, None], places, :] for s, v in values.items()}))
    sums = [sum(chosen) for chosen in itertools.product(*np.array(possible).T)]
    found = sj.score(model, "for_while", circuit=circuit, ablation="resample", pairs=4).loss
    assert np.abs(np.array(sums) / 4 - found).min() < 1e-4 and np.ptp(sums) > 1e-2
    zero = sj.score(model, "for_while", circuit=circuit, ablation="zero", pairs=4).loss
    assert zero == pytest.approx(losses_of({s: 0 * v for s, v in values.items()}).mean(), abs=1e-4)


def test_an_ablation_is_named_and_needs_a_circuit(pruned):
    model, task, circuit = pruned
    mean = sj.score(model, task, circuit=circuit, ablation="mean", pairs=4)
    assert mean.loss == sj.score(model, task, circuit=circuit, pairs=4).loss
    assert mean.loss != sj.score(model, task, circuit=circuit, ablation="zero", pairs=4).loss
    assert "mean ablation" in repr(mean)
    with pytest.raises(sj.InputError, match="ablation: 'maen' .* did you mean 'mean'"):
        sj.score(model, task, circuit=circuit, ablation="maen")
    with pytest.raises(sj.InputError, match="ablation: 'mean' is not valid; valid: None without a circuit"):
        sj.score(model, task, ablation="mean")


def test_a_circuit_without_counts_is_scored(pruned):
    model, task, circuit = pruned
    found = sj.score(model, task, circuit=dataclasses.replace(circuit, counts={}), pairs=4)
    assert found.of == f"circuit of {len(circuit.edges)} edges"


def test_a_circuit_of_another_model_is_refused(model, circuit):
    other = dataclasses.replace(model, params=jax.tree.map(lambda x: x * 1.01, model.params))
    for call in (
        lambda: sj.run(other, "x", circuit=circuit),
        lambda: sj.score(other, "for_while", circuit=circuit),
    ):
        with pytest.raises(sj.InputError, match=f"it belongs to model {model.fingerprint}"):
            call()


def test_things_show_themselves(model, circuit, tmp_path):
    assert "2 layers, 256 wide" in repr(model) and model.fingerprint in model._repr_html_()
    assert "for_while" in repr(circuit) and "\n" not in repr(circuit)
    assert circuit._repr_html_().count("<circle") == len(circuit.nodes)
    assert "<iframe" in sj.view(circuit)._repr_html_()
    sj.report([circuit], tmp_path / "report.html")
    assert "for_while" in (tmp_path / "report.html").read_text()
    figure = Figure("loss of the circuit", Interval(0.1, 0.05, math.nan), "nats", "mean")
    card = sj.Scorecard("for_while", "small", circuit.fingerprint, 8, 0.15, (figure,), ("Decisive: <b>.",))
    sj.report(circuit, tmp_path / "report.html", card)
    written = (tmp_path / "report.html").read_text()
    assert '"verdict":["Decisive: \\u003cb\\u003e."]' in written
    assert '["loss of the circuit","mean",0.1,0.05,null,"nats"]' in written
    assert "Decisive" in sj.view(circuit, card).text
    with pytest.raises(sj.InputError, match=r"scorecards: Circuit\(.* valid: what sj.find"):
        sj.view(circuit, scorecard=circuit)
    other = dataclasses.replace(card, task="quotes")
    with pytest.raises(sj.InputError, match=r"scorecards\[0\]: 'quotes' is not valid; valid: that of 'for_w"):
        sj.report(circuit, tmp_path / "report.html", other)
    with pytest.raises(sj.InputError, match="scorecards: 2 is not valid; valid: none, or one for each of 1"):
        sj.report(circuit, tmp_path / "report.html", [card, card])
    with pytest.raises(sj.InputError, match="^circuits: 'a path' is not valid; valid: circuits"):
        sj.view("a path")
    assert (tmp_path / "report.html").read_text() == written
    unknown = dataclasses.replace(circuit, losses={**circuit.losses, "target": None})
    sj.report([circuit, unknown], tmp_path / "report.html")
    with pytest.raises(sj.InputError, match="^outputs: 5 is not valid; valid: texts of one token each"):
        circuit.compact(model, outputs=5)


def test_pairs_in_memory_are_a_task():
    pairs = [{"prompt": f"a{i}", "counterfactual": f"b{i}", "answer": "x", "wrong": "y"} for i in range(9)]
    task = sj.task(pairs)
    assert sum(len(task.pairs(split, 1, 0)) for split in ("train",)) == 1
    with pytest.raises(sj.InputError, match=r"pairs\[1\]: 'a0' is in pairs\[0\] too"):
        sj.task([pairs[0], pairs[0]])


@pytest.mark.slow
def test_training_gives_the_bits_of_the_loop(tmp_path, config):
    from sparse_jax.training.loop import train

    ours, theirs = sj.train(config, tmp_path / "a"), train(config, tmp_path / "b")
    for name, leaf in named_leaves(ours.params).items():
        np.testing.assert_array_equal(leaf, named_leaves(theirs.params)[name])
    assert json.loads(config.to_json()) == ours.run


def test_the_names_of_tasks_are_there_whatever_was_imported_before():
    firsts = ["sparse_jax", "sparse_jax.tasks.built_in", "sparse_jax.interactive"]
    code = f"""
import importlib, sys
for first in {firsts}:
    for name in [name for name in sys.modules if name.split(".")[0] == "sparse_jax"]:
        del sys.modules[name]  # as in a new process, but JAX is imported once
    importlib.import_module(first)
    import sparse_jax as sj
    print(len(sj.task_names()), sj.task("for_while").name)
"""
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == 3 * "20 for_while\n", said.stderr
