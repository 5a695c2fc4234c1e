"""From circuits back to what they were made of."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from sparse_jax.circuits.graph import load_circuit
from sparse_jax.models.formats import load_model
from sparse_jax.pruning.extract import reduced_of

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def test_a_circuit_comes_back_with_what_confirmed_it():
    config = load_model(RESULTS / "small" / "dense").config
    circuit = load_circuit(RESULTS / "faithfulness" / "confirmed" / "dense" / "while_return_true.json")
    losses, found = circuit.losses, reduced_of(circuit, config)
    assert found.confirmation == (losses["confirmation"], losses["confirmation_error"])
    assert (found.loss, found.standard_error) == (losses["validation"], losses["validation_error"])
    assert sum(int(np.sum(gate)) for gate in found.gates.values()) == len(circuit.nodes)
    # a single pair has no standard error
    of_one = {**losses, "validation_error": None}
    del of_one["confirmation"]
    found = reduced_of(dataclasses.replace(circuit, losses=of_one), config)
    assert math.isnan(found.standard_error) and found.confirmation is None
