"""Attribution graphs: links against finite differences in the gated model, and the published schema."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.applied import circuit_hooks, values_of
from sparse_jax.circuits.attribution_graph import LOGIT, TOKEN, _Run, attribution_graph
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.hooks import Patch
from tests.circuits.test_compact_circuit import MODELS, circuit_of, model_of
from tests.circuits.test_compact_circuit import values_of as random_values

TOKENS = np.array([4, 9, 1, 1, 6])
OUTPUTS = [3, 7]
# what the schema of the viewers requires of every node, with the types that it allows
NODE = {
    "node_id": str,
    "feature": (int, type(None)),
    "layer": (str, int),
    "ctx_idx": int,
    "feature_type": str,
    "jsNodeId": str,
    "clerp": str,
}


@pytest.fixture(scope="module", params=(1.0, 0.6), ids=("nodes", "edges"))
def run(request):
    """A random circuit with norms as in the full model, since links hold them, and no AbsTopK."""
    model = model_of(dataclasses.replace(MODELS["dense activations"], bigram="none"))
    circuit = circuit_of(model, share=0.7, edges=request.param, pruning={"frozen_norms": True})
    values = random_values(model.config)
    return _Run(model, circuit, values, TOKENS, OUTPUTS), circuit, values


def derivative(run, circuit, values, source, target) -> float:
    """Of the target by the source in the gated model, by central differences; other nodes stay the same."""
    batch = jnp.asarray(TOKENS)[None]
    params, hooks = circuit_hooks(run.model, circuit, values, batch)
    names = sites.LAYER_SITES
    order = {site: i for i, site in enumerate(names)}

    def between(site, layer):
        beside = {site, source[0]} <= {"q", "k", "v"}
        if beside or (layer, site) == (target[1], target[0]):
            return False
        start = (source[1], order[source[0]])
        end = (len(run.values["q"]), 0) if target[0] == LOGIT else (target[1], order[target[0]])
        return start < (layer, order[site]) < end

    # all sites are patched, most of them nowhere, so that one program serves every source and target
    patches, nothing = {}, {}
    for site in names:
        value = np.asarray(run.values[site][:, None], np.float32)
        chosen = [between(site, layer) for layer in range(len(value))]
        patches[site] = Patch(np.array(chosen)[:, None, None, None], value)
        nothing[site] = np.zeros(value.shape, np.float32)

    def at(step):
        added = nothing[source[0]].copy()
        added[source[1], 0, source[3], source[2]] = step
        changed = {"additions": {**nothing, source[0]: added}, "patches": patches}
        logits, found = changed_run(run.config, params, batch, hooks, changed)
        if target[0] == LOGIT:
            return float(logits[0, target[3], OUTPUTS[target[2]]])
        return float(found[target[0]][target[1], 0, target[3], target[2]])

    return (at(0.05) - at(-0.05)) / 0.1


@functools.partial(jax.jit, static_argnums=0)
def changed_run(config, params, batch, hooks, changed):
    return forward(config, params, batch, dataclasses.replace(hooks, capture=sites.LAYER_SITES, **changed))


@pytest.mark.parametrize("site", ("q", "attn_out", "mlp_in", "mlp_neuron", "mlp_out", LOGIT))
def test_links_are_values_times_derivatives(run, site):
    run, circuit, values = run
    layer = 0 if site == LOGIT else 1
    chosen = range(2) if site == LOGIT else np.flatnonzero(run.open[site][layer])[:2]
    checked = set()
    for index in chosen:
        target = site, layer, int(index), run.last
        found = run.sources(target)
        for source in sorted(found, key=lambda place: -abs(found[place])):
            if source[0] != TOKEN and (source[0], index) not in checked:
                checked.add((source[0], index))
                expected = run.value(source) * derivative(run, circuit, values, source, target)
                assert found[source] == pytest.approx(expected, rel=0.03, abs=2e-3), (source, target)
    wanted = {"attn_out": {"q", "k", "v"}, LOGIT: {"attn_out", "mlp_out"}}.get(site, set())
    assert {source for source, _ in checked} >= wanted and checked


def test_shares_of_a_linear_target_add_up_to_its_value(run):
    run, _, _ = run
    model = run.model
    for index in np.flatnonzero(run.open["mlp_in"][1])[:3]:
        found = run.sources(("mlp_in", 1, int(index), 2))
        assert all(place[3] == 2 for place in found)
        written = sum(weight for place, weight in found.items())
        gain = model.params["layers"]["mlp"]["norm"]["scale"][1, index] / run.sizes["mlp_norm"][1, 0, 2]
        closed = [
            run.values[site][layer, 2, index] * gain
            for site in ("attn_out", "mlp_out")
            for layer in range(2)
            if not run.open[site][layer, index] and (layer, site) != (1, "mlp_out")
        ]
        place = np.asarray(model.params["position"]["kernel"])[2, index] * gain
        found = run.value(("mlp_in", 1, int(index), 2))
        assert written + sum(closed) + place == pytest.approx(found, abs=1e-4)


def test_the_graph_of_a_published_circuit_is_what_the_viewers_open(tmp_path):
    model = sj.load("experiments/results/small/sparse")
    path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    circuit = sj.load_circuit(path)
    prompt = "print('shared degree"
    tokens = sj.token_ids(model, prompt)[0].tolist()
    graph = attribution_graph(model, circuit, values_of(model, circuit), tokens, [339, 363])
    assert set(graph) == {"metadata", "qParams", "nodes", "links"}
    assert graph["metadata"]["prompt"] == prompt == "".join(graph["metadata"]["prompt_tokens"])
    assert all(isinstance(graph["metadata"][name], str) for name in ("slug", "scan"))
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids) and len({node["jsNodeId"] for node in graph["nodes"]}) == len(ids)
    for node in graph["nodes"]:
        for name, kind in NODE.items():
            assert isinstance(node[name], kind), (name, node)
        assert 0 <= node["ctx_idx"] < len(tokens)
    for link in graph["links"]:
        assert {link["source"], link["target"]} <= set(ids) and isinstance(link["weight"], float)
    json.dumps(graph, allow_nan=False)
    assert set(graph["qParams"]["pinnedIds"]) <= set(ids)
    # the quote is what the answer hangs on
    quote = graph["metadata"]["prompt_tokens"].index("('")
    sources = {link["source"] for link in graph["links"] if link["target"].startswith("0_attn_in.83")}
    assert sources == {f"E_{tokens[quote]}_{quote}"}
    fewer = attribution_graph(model, circuit, values_of(model, circuit), tokens, [339, 363], least=0.2)
    assert 0 < len(fewer["links"]) < len(graph["links"])


def test_closed_channels_of_the_embedding_and_factors_of_a_bigram_table_count():
    model = model_of(MODELS["product as bigram table"])
    names = (*sites.LAYER_SITES, sites.EMBED_SITE)
    circuit, values = circuit_of(model, names, share=0.5), random_values(model.config)
    run = _Run(model, circuit, values, TOKENS, OUTPUTS)
    closed = np.flatnonzero(~run.embed_open)
    for index in range(12):
        found = run.sources(("attn_in", 0, index, 1))
        assert not (index in closed and any(place[0] == TOKEN for place in found))
    # without nodes, the logit is the embedding's part, the constants' and that of the table
    bare = _Run(model, dataclasses.replace(circuit, nodes=()), values, TOKENS, OUTPUTS)
    factors = model.params["bigram"]
    table = factors["current"]["kernel"] @ factors["next"]["kernel"]
    (weight,) = bare.sources((LOGIT, 0, 1, bare.last)).values()
    assert weight == pytest.approx(table[TOKENS[-1], OUTPUTS[1]], rel=1e-5)


def test_wrong_input_is_named():
    model = model_of(MODELS["GPT-2"])
    values = random_values(model.config)
    with pytest.raises(InputError, match="^model.norm: 'layer'"):
        attribution_graph(model, circuit_of(model), values, TOKENS, OUTPUTS)
    in_stream = model_of(MODELS["sparse stream, no biases"])
    with pytest.raises(InputError, match="^model.residual_activation: 'relu'"):
        attribution_graph(in_stream, circuit_of(in_stream), values, TOKENS, OUTPUTS)
    usual = model_of(MODELS["usual"])
    with pytest.raises(InputError, match="^least: 1"):
        attribution_graph(usual, circuit_of(usual), values, TOKENS, OUTPUTS, least=1)
    with pytest.raises(InputError, match="^prompt: "):
        attribution_graph(usual, circuit_of(usual), values, [], OUTPUTS)
