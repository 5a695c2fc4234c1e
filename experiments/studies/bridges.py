"""What bridges of a trained pair cost and do: errors by location, hybrid paths, steering; a dict a row."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sparse_jax.bridges.hybrid import channel_of, locations, run
from sparse_jax.bridges.maps import decode, encode
from sparse_jax.bridges.paths import measure_paths
from sparse_jax.bridges.steering import bridge_addition, control_additions, node_effects, steered, streams
from sparse_jax.bridges.terms import nmse
from sparse_jax.bridges.train import BridgedPair
from sparse_jax.circuits.graph import Circuit
from sparse_jax.tasks.task import Task

Row = dict[str, Any]


def error_rows(pair: BridgedPair, windows: np.ndarray) -> list[Row]:
    """The normalized error of encoder and decoder at every location."""

    @jax.jit
    def errors(bridges, sparse_params, dense_params, tokens):
        _, sparse = run(pair.sparse.config, sparse_params, tokens)
        _, dense = run(pair.dense.config, dense_params, tokens)
        return [
            (nmse(encode(bridges, i, x, pair.kept), y), nmse(decode(bridges, i, y), x))
            for i, (x, y) in enumerate(zip(dense, sparse))
        ]

    found = errors(pair.bridges, pair.sparse.params, pair.dense.params, windows[:, :-1])
    return [
        {"kind": "error", "location": place.name, "encoder": float(one), "decoder": float(other)}
        for place, (one, other) in zip(locations(pair.sparse.config), found)
    ]


def path_rows(pair: BridgedPair, windows: np.ndarray, batch_size: int) -> list[Row]:
    """The loss of every hybrid path."""
    return [{"kind": "path", **row._asdict()} for row in measure_paths(pair, windows, batch_size)]


def steering_rows(pair: BridgedPair, task: Task, circuit: Circuit, settings: Mapping[str, Any]) -> list[Row]:
    """The probability of the other answer against strength, for one node of the circuit and for controls.

    The node is the one whose counterfactual value moves the sparse model most, on training pairs; the dense
    model is steered on test pairs. An error is the standard error over pairs.
    """
    config, tokenizer = pair.sparse.config, pair.sparse.require_tokenizer()
    on, train = (
        streams(pair, task.encode(split, settings["pairs"], settings["seed"], tokenizer, config.context))
        for split in ("test", "train")
    )
    effects = node_effects(pair, [node.name for node in circuit.nodes], train)
    node = max(effects, key=lambda name: effects[name])
    added = {"bridge": [bridge_addition(pair, node, on)]} | control_additions(
        pair, node, on, train, settings["random_nodes"], settings["seed"]
    )
    about = {"kind": "steering", "task": task.name, "node": node, "sparse_effect": effects[node]}
    number, _ = channel_of(config, node)
    about["location"] = locations(config)[number].name
    strengths = np.linspace(0, 1, settings["strengths"])
    rows = []
    for name, additions in added.items():
        for count, addition in enumerate(additions):
            found = steered(pair, node, on, addition, strengths)
            given = {**about, "addition": name, "draw": count}
            rows += [{**given, "strength": float(s), **_figures(p)} for s, p in zip(strengths, found)]
    return rows


def _figures(probabilities_B: Sequence[float]) -> dict[str, float]:
    """Mean, and standard error over pairs, each with two prompts in a row."""
    of_pairs = np.asarray(probabilities_B, np.float64).reshape(-1, 2).mean(axis=1)
    error = of_pairs.std(ddof=1) / len(of_pairs) ** 0.5
    return {"probability": float(of_pairs.mean()), "error": float(error)}
