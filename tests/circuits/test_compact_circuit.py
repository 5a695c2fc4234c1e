"""Compact circuits against the gated model that they are folded from, for every kind of model and circuit."""

import dataclasses

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

import sparse_jax as sj
from sparse_jax.circuits import applied
from sparse_jax.circuits.applied import circuit_hooks, has_frozen_norms
from sparse_jax.circuits.compact_circuit import AttentionPart
from sparse_jax.circuits.compact_files import NUMBERS, STRUCTURE
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.folding import fold
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.circuits.outputs import output_tokens
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.models.model import Model
from sparse_jax.topk import chunks
from sparse_jax.trees import map_named, named_leaves
from tests.compiled import forward

SMALL = {"vocab_size": 11, "context": 7, "n_layers": 2, "d_model": 12, "d_mlp": 20, "d_head": 4}
USUAL = ModelConfig(**SMALL, positions="added")
ALL = (*sites.LAYER_SITES, sites.EMBED_SITE, sites.FINAL_SITE)
OUTPUTS = (3, 0, 7)
TOKENS = np.random.default_rng(5).integers(0, 11, (6, 7)).astype(np.int32)


def model_of(config: ModelConfig, seed: int = 0) -> Model:
    """Random weights, half of them zero as in a sparse model, of a size where every part matters."""
    rng = np.random.default_rng(seed)

    def leaf(name, shape):
        values = rng.normal(0, 0.6, shape.shape).astype(np.float32)
        if "norm" in name and name.endswith("scale"):
            return 1 + values / 4
        return np.where(rng.random(shape.shape) < 0.5, values, 0) if name.endswith("kernel") else values

    return Model(config, map_named(leaf, param_shapes(config)))


def circuit_of(model: Model, names=sites.LAYER_SITES, share=0.5, seed=1, edges=1.0, **fields) -> Circuit:
    """Random nodes of the given sites, and a share of the edges between them if that is below 1."""
    rng, config = np.random.default_rng(seed), model.config
    shapes = sites.node_shapes(config, names)
    gates = {site: (rng.random(shape) < share).astype(np.float32) for site, shape in shapes.items()}
    nodes = kept_nodes(gates, gates, gates, config.n_layers)
    found = find_edges(model.params, nodes, gates)
    kept = tuple(edge for edge in found if rng.random() < edges)
    about = {"pruning": fields.pop("pruning", {})}
    return Circuit(nodes, kept, names, {}, {}, {}, about, edge_gated=edges < 1, **fields)


def values_of(config: ModelConfig, seed: int = 2):
    rng = np.random.default_rng(seed)
    shapes = sites.node_shapes(config)
    return {site: rng.normal(0, 0.5, shape).astype(np.float32) for site, shape in shapes.items()}


def gated(model: Model, circuit: Circuit, values):
    """The logits [B, T, 3] of the gated model, and its norms where they are frozen."""

    def hooked(params):
        return circuit_hooks(dataclasses.replace(model, params=params), circuit, values, TOKENS)

    # frozen norms are taken from a run of the model, as one program
    params, hooks = (jax.jit(hooked) if has_frozen_norms(circuit) else hooked)(model.params)
    logits = forward(model.config, params, TOKENS, hooks)[0]
    return np.asarray(logits)[..., list(OUTPUTS)], hooks.norms or None


AT = np.array([6, 0, 3, 5, 1, 2])


@jax.jit
def run(small, norms=None):
    """The logits after all tokens, and those after the tokens AT."""
    return small.forward(TOKENS, norms=norms), small.forward(TOKENS, AT, norms)


@jax.jit
def run_all(small):
    """The logits after all tokens alone."""
    return small.forward(TOKENS)


MODELS = {
    "usual": USUAL,
    "dense activations": dataclasses.replace(USUAL, activation_fraction=None),
    "no positions, no sink": ModelConfig(**SMALL, attention_sink=False, bigram="none"),
    "concatenated": ModelConfig(**SMALL, positions="concatenated", d_position=3),
    "sinusoidal": ModelConfig(**SMALL, positions="sinusoidal", d_position=4, activation="relu"),
    "GPT-2": ModelConfig(
        **SMALL,
        positions="added",
        norm="layer",
        tied_embedding=True,
        attention_sink=False,
        activation="gelu_tanh",
        activation_fraction=None,
        bigram="none",
    ),
    "sparse stream, no biases": ModelConfig(
        **SMALL, bias=False, residual_activation="relu", topk_sites=("resid_mid", "resid_out", "q", "mlp_out")
    ),
    "product as bigram table": ModelConfig(**SMALL, bigram_table_rank=2, activation_fraction=0.6),
}
CIRCUITS = {
    "half": {},
    "few": {"share": 0.15},
    "none": {"share": 0.0},
    "all": {"share": 1.0},
    "embedding and last stream too": {"names": ALL},
    "neurons alone": {"names": ("mlp_neuron",), "share": 0.3},
    "few at zero ablation": {"share": 0.15, "pruning": {"ablation": "zero"}},
}


CASES = [
    *((name, "half") for name in MODELS),
    *(("concatenated" if kind == "few" else "usual", kind) for kind in CIRCUITS if kind != "half"),
    ("GPT-2", "none"),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_logits_are_those_of_the_gated_model(name, kind):
    model = model_of(MODELS[name])
    circuit, values = circuit_of(model, **CIRCUITS[kind]), values_of(model.config)
    expected, _ = gated(model, circuit, values)
    found, at_some = run(fold(model, circuit, values, OUTPUTS))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(at_some, expected[np.arange(6), AT], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", (0.2, 0.6))
def test_closed_edges_carry_their_constants(share):
    model = model_of(USUAL)
    circuit, values = circuit_of(model, edges=share), values_of(USUAL)
    expected, _ = gated(model, circuit, values)
    found = run_all(fold(model, circuit, values, OUTPUTS))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    of_nodes = fold(model, dataclasses.replace(circuit, edge_gated=False), values, OUTPUTS)
    assert not np.allclose(run_all(of_nodes), expected, atol=1e-2)


def test_constants_replace_the_mean():
    model, values = model_of(USUAL), values_of(USUAL)
    circuit = circuit_of(model, share=0.3)
    kept = {(node.layer, node.site, node.index) for node in circuit.nodes}
    places = [(0, "attn_out", i) for i in range(12)] + [(1, "mlp_neuron", i) for i in range(20)]
    constants = tuple(Node(*place, mean=1.5) for place in places if place not in kept)
    circuit = dataclasses.replace(circuit, constants=constants)
    expected, _ = gated(model, circuit, values)
    found = run_all(fold(model, circuit, values, OUTPUTS))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_frozen_norms_are_given():
    model, values = model_of(USUAL), values_of(USUAL)
    circuit = circuit_of(model, pruning={"frozen_norms": True})
    expected, norms = gated(model, circuit, values)
    small = fold(model, circuit, values, OUTPUTS)
    found, at_some = run(small, norms)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(at_some, expected[np.arange(6), AT], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"^norms: \[\]; valid: what sj.run\(model, text, capture="):
        small.forward(TOKENS)
    with pytest.raises(InputError, match=r"^norms: .*; valid: None"):
        fold(model, circuit_of(model), values, OUTPUTS).forward(TOKENS, norms=norms)


def test_heads_without_nodes_are_not_computed_but_add_what_their_sink_leaves():
    model, values = model_of(USUAL), values_of(USUAL)
    one_head = [Node(0, site, 5) for site in ("attn_in", "q", "k", "v", "attn_out")]
    circuit = dataclasses.replace(circuit_of(model, share=0.0), nodes=tuple(one_head))
    small = fold(model, circuit, values, OUTPUTS)
    part = small.layers[0][0]
    assert isinstance(part, AttentionPart) and part.heads == (1,) and part.out.bias.ndim == 2
    assert not isinstance(small.layers[1][0], AttentionPart)
    np.testing.assert_allclose(run_all(small), gated(model, circuit, values)[0], atol=1e-5, rtol=1e-5)


def test_it_is_pure_and_differentiable_by_its_numbers():
    smooth = MODELS["dense activations"]  # AbsTopK would make steps
    model, values = model_of(smooth), values_of(smooth)
    circuit = circuit_of(model)
    small = jax.device_put(fold(model, circuit, values, OUTPUTS))

    mean_and_gradient = jax.jit(jax.value_and_grad(lambda small: small.forward(TOKENS).mean()))
    _, gradient = jax.device_get(mean_and_gradient(small))
    weights = small.layers[1][1].neurons.weights
    row, column = np.unravel_index(np.argmax(np.abs(gradient.layers[1][1].neurons.weights)), weights.shape)

    def moved(by):
        other = np.array(weights)
        other[row, column] += by
        changed = dataclasses.replace(small.layers[1][1].neurons, weights=other)
        mlp = dataclasses.replace(small.layers[1][1], neurons=changed)
        moved = dataclasses.replace(small, layers=(small.layers[0], (small.layers[1][0], mlp)))
        return float(mean_and_gradient(moved)[0])

    expected = (moved(1e-2) - moved(-1e-2)) / 2e-2
    assert gradient.layers[1][1].neurons.weights[row, column] == pytest.approx(expected, rel=0.02)
    each = jax.jit(jax.vmap(lambda small, tokens: small.forward(tokens[None])[0], in_axes=(None, 0)))
    np.testing.assert_allclose(each(small, TOKENS), run(small)[0], atol=1e-5)


def test_many_sequences_are_run_in_chunks_with_the_same_result(monkeypatch):
    model, values = model_of(USUAL), values_of(USUAL)
    small = fold(model, circuit_of(model), values, OUTPUTS)
    # as on a machine with one device, whose cache takes two of these sequences
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 2 * 8 * 7 * 12)
    many = np.random.default_rng(0).integers(0, 11, (4 * len(TOKENS), 7)).astype(np.int32)
    many[::4] = TOKENS
    in_chunks = jax.jit(lambda small, tokens: small.forward(tokens))
    assert "f32[12,2,7,3]" in str(in_chunks.trace(small, many).jaxpr)  # logits of twelve chunks
    np.testing.assert_allclose(in_chunks(small, many)[::4], run(small)[0], atol=1e-5)


def test_a_saved_one_is_restored_exactly(tmp_path):
    model, values = model_of(MODELS["concatenated"]), values_of(MODELS["concatenated"])
    small = fold(model, circuit_of(model), values, OUTPUTS)
    small.save(tmp_path / "quotes")
    again = sj.load_compact(tmp_path / "quotes")
    assert jax.tree.structure(again) == jax.tree.structure(small)
    for name, leaf in named_leaves(small).items():
        np.testing.assert_array_equal(named_leaves(again)[name], leaf, err_msg=name)
    np.testing.assert_array_equal(run(again)[0], run(small)[0])


def test_an_export_of_another_circuit_is_stale(tmp_path):
    model, values = model_of(USUAL), values_of(USUAL)
    circuit = circuit_of(model)
    fold(model, circuit, values, OUTPUTS).save(tmp_path)
    assert sj.load_compact(tmp_path, of=circuit).circuit == circuit.fingerprint
    changed = dataclasses.replace(circuit, nodes=circuit.nodes[1:])
    with pytest.raises(InputError, match=f"stale, made from circuit {circuit.fingerprint}; valid: made from"):
        sj.load_compact(tmp_path, of=changed)


def test_files_of_two_circuits_are_not_one(tmp_path):
    model, values = model_of(USUAL), values_of(USUAL)
    for outputs in (OUTPUTS, OUTPUTS[::-1]):
        fold(model, circuit_of(model), values, outputs).save(tmp_path / str(outputs))
    first, second = (tmp_path / str(outputs) for outputs in (OUTPUTS, OUTPUTS[::-1]))
    (first / NUMBERS).write_bytes((second / NUMBERS).read_bytes())  # as a save leaves them that was killed
    with pytest.raises(InputError, match=f"{NUMBERS}: of another {STRUCTURE}; valid: both from one"):
        sj.load_compact(first)
    sj.load_compact(second)


def test_damaged_files_are_named(tmp_path):
    model, values = model_of(USUAL), values_of(USUAL)
    fold(model, circuit_of(model), values, OUTPUTS).save(tmp_path)
    text = (tmp_path / STRUCTURE).read_text()
    for wrong, message in (
        (text.replace("compact_circuit", "circuit", 1), "format 'sparse_jax.circuit', version 1; valid: "),
        (text.replace('"Reads"', '"Writes"', 1), "damaged"),
        (text.replace('"n_layers": 2', '"n_layers": "two"', 1), "model.n_layers"),
        ("{", "circuit.json"),
    ):
        (tmp_path / STRUCTURE).write_text(wrong)
        with pytest.raises(InputError, match=message):
            sj.load_compact(tmp_path)
    (tmp_path / STRUCTURE).write_text(text)
    (tmp_path / NUMBERS).write_bytes((tmp_path / NUMBERS).read_bytes()[:200])
    with pytest.raises(InputError, match=NUMBERS):
        sj.load_compact(tmp_path)


def test_wrong_outputs_are_named():
    model, values = model_of(USUAL), values_of(USUAL)
    small = fold(model, circuit_of(model), values, OUTPUTS)
    assert small.columns(np.array([[7, 3], [0, 0]])).tolist() == [[2, 0], [1, 1]]
    with pytest.raises(InputError, match=r"^tokens: \[5\] is not valid; valid: those whose logits it gives"):
        small.columns(np.array([3, 5]))
    with pytest.raises(InputError, match=r"^outputs: 11 is not valid; valid: token ids 0 to 10"):
        fold(model, circuit_of(model), values, (3, 11))
    with pytest.raises(InputError, match=r"^outputs: \[\] is not valid; valid: at least one"):
        fold(model, circuit_of(model), values, ())
    with pytest.raises(InputError, match=r"^tokens: 8 is not valid; valid: at most context 7"):
        fold(model, circuit_of(model), values, OUTPUTS).forward(np.zeros((1, 8), np.int32))


def test_outputs_are_texts_of_one_token_or_whole_numbers():
    model = dataclasses.replace(
        model_of(USUAL), tokenizer=Tokenizer(BPE(vocab={"f": 0, "o": 1, "fo": 2}, merges=[("f", "o")]))
    )
    circuit = circuit_of(model)
    assert output_tokens(model, circuit, "fo") == output_tokens(model, circuit, ["fo"]) == [2]
    assert output_tokens(model, circuit, np.array([7, 3])) == [7, 3]
    for wrong, named in (
        ([1.7], "1.7"),
        ([True], "True"),
        ([None], "None"),
        ("foo", "'foo'"),
        (["f", "foo"], "'foo'"),
    ):
        with pytest.raises(
            InputError, match=f"^outputs: {named} is not valid; valid: texts of one token each"
        ):
            output_tokens(model, circuit, wrong)


def test_wrong_tokens_and_positions_are_named():
    model, values = model_of(USUAL), values_of(USUAL)
    small = fold(model, circuit_of(model, share=0.0), values, OUTPUTS)
    np.testing.assert_array_equal(small.forward([[1, 2]]), small.forward(np.array([[1, 2]])))
    for tokens, at, said in (
        (np.array([1, 2]), None, r"tokens: \(2,\) is not valid; valid: at least one token each, \[B, T\]"),
        (np.zeros((1, 0), int), None, r"tokens: \(1, 0\) is not valid"),
        ([[1, 11]], None, "tokens: 'ids 1 to 11' is not valid; valid: token ids 0 to 10"),
        ([[1, 2], [3]], None, r"tokens: \[\[1, 2\], \[3\]\] is not valid; valid: rows of token ids"),
        ([[1.0, 2.0]], None, "tokens: 'float64' is not valid; valid: rows of token ids"),
        ([[1, 2]], [2], r"at: \[2\] is not valid; valid: a position for each of 1 sequence, 0 to 1"),
        ([[1, 2]], [0, 1], r"at: \[0, 1\] is not valid; valid: a position for each of 1 sequence"),
        ([[1, 2]], [0.5], "at: 'float64' is not valid; valid: a position"),
    ):
        with pytest.raises(InputError, match=f"^{said}"):
            small.forward(tokens, at)


def test_a_published_circuit_takes_a_hundredth_of_the_operations():
    model = sj.load("experiments/results/small/sparse")
    circuit = sj.load_circuit("experiments/results/faithfulness/circuits/sparse/mean/for_while.json")
    small = circuit.compact(model)
    texts = [model.tokenizer.decode([token]) for token in small.outputs]
    assert sorted(texts) == [" in", ":\n"]
    assert circuit.compact(model, texts[::-1]).outputs == small.outputs[::-1]
    tokens = sj.token_ids(model, "for item in items:\n    while item").repeat(2, axis=0)
    params, hooks = circuit_hooks(model, circuit, applied.values_of(model, circuit), tokens)
    whole = forward.lower(model.config, params, tokens, hooks).compile()
    alone = jax.jit(lambda small: small.forward(tokens)).lower(small).compile()
    expected = whole(params, tokens, hooks)[0][..., list(small.outputs)]
    np.testing.assert_allclose(alone(small), expected, atol=1e-5, rtol=1e-6)
    assert whole.cost_analysis()["flops"] > 100 * alone.cost_analysis()["flops"]
