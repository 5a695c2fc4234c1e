"""A released circuit: a recorded file, and files that do not fit the model."""

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.circuits.graph import from_json
from sparse_jax.circuits.viz_data import SITES, _gates, read_viz_data, released_circuit
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.models.released import read_released
from tests.models.conftest import DATA

FILE = DATA / "released" / "viz_data.pt"


@pytest.fixture(scope="module")
def model(released):
    return read_released(released / "sink_bigram_sparse")


def test_the_kept_nodes_losses_and_samples_are_those_of_the_file(model):
    found = read_viz_data(FILE, model.config)
    assert set(found.gates) == {*sites.LAYER_SITES, sites.FINAL_SITE}
    order = list(SITES.values())
    for site in order:
        for layer in range(2):
            wanted = np.arange(order.index(site) + layer, sites.width(model.config, site), 16)
            np.testing.assert_array_equal(np.flatnonzero(found.gates[site][layer]), wanted)
    assert np.flatnonzero(found.gates["final_resid"]).tolist() == [3, 60]
    assert found.k == 2 * (7 * 4 + 16) + 2
    assert found.losses == {"unpruned": 0.125, "circuit": 0.25}
    assert found.task_tokens.tolist() == [[5, 6, 7, 0], [1, 2, 3, 4]]


def test_it_becomes_a_circuit_with_the_edges_of_the_model(model):
    found = read_viz_data(FILE, model.config)
    circuit = released_circuit(found, model)
    assert sj.load_circuit(FILE, model) == circuit
    assert circuit.provenance["kind"] == "sparse"
    with pytest.raises(InputError, match=r"a released circuit; valid: load_circuit\(path, model\)"):
        sj.load_circuit(FILE)
    for site, gate in circuit.gates(model.config).items():
        np.testing.assert_array_equal(gate, found.gates[site])
    between = 0
    for source, target, part, matrix in sites.EDGE_MATRICES:
        kernel = model.params["layers"][part][matrix]["kernel"]
        kept = found.gates[source][:, :, None] * found.gates[target][:, None, :]
        between += np.count_nonzero(kernel * kept)
    assert circuit.counts["edges"] == len(circuit.edges) == between > 0
    assert from_json(circuit.to_json()) == circuit


def whole(config):
    kept = {f"{layer}.{site}": np.arange(2) for layer in range(config.n_layers) for site in SITES}
    return {**kept, "final_resid": np.arange(2)}


def test_masks_are_read_as_numbers_are(model):
    kept = whole(model.config)
    wanted = _gates(kept, model.config, FILE)
    kept["1.mlp.post_act"] = np.arange(256) < 2
    found = _gates(kept, model.config, FILE)
    np.testing.assert_array_equal(found["mlp_neuron"], wanted["mlp_neuron"])


@pytest.mark.parametrize(
    "name, nodes, said",
    [
        ("2.attn.q", [0], "no layer of this model; valid: 0 to 1"),
        ("0.attn.z", [0], "unknown"),
        ("q", [0], "unknown"),
        ("0.attn.q", [64], "0 to 63"),
        ("0.attn.q", [-1], "0 to 63"),
        ("0.attn.q", [0.5], "contains an invalid node"),
        ("0.attn.q", [True] * 3, "or a mask"),
    ],
)
def test_nodes_that_the_model_has_not_are_refused(model, name, nodes, said):
    with pytest.raises(InputError, match=said):
        _gates({**whole(model.config), name: np.array(nodes)}, model.config, FILE)


def test_a_site_must_be_there_in_every_layer(model):
    kept = whole(model.config)
    del kept["1.attn.v"]
    with pytest.raises(InputError, match="'v' of layer 1 is missing"):
        _gates(kept, model.config, FILE)


def test_another_file_of_torch_is_refused(model):
    with pytest.raises(InputError, match="circuit_data not found"):
        read_viz_data(DATA / "released" / "torch_save.pt", model.config)
