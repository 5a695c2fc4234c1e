"""How much does a circuit lose if every node is a bit? Two trained levels each (METHOD 8, appendix C)."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sparse_jax.circuits.applied import check_task, circuit_hooks, has_frozen_norms, values_of
from sparse_jax.circuits.compact_circuit import AttentionPart, CompactCircuit, Levels, MlpPart
from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import json_text, write_whole
from sparse_jax.inputs import require, whole_seed
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.progress import Progress
from sparse_jax.runtime.settings import require_settings
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.find import Spec, as_task
from sparse_jax.tasks.metrics import LOSSES
from sparse_jax.tasks.task import Task

# Where thresholds start, as shares of a node's range; the best of them is kept.
STARTS = (0.25, 0.5, 0.75)
# Pairs of a training step, and the share of a node's range that its numbers move by in one, at first.
PAIRS, RATE = 32, 0.01
# The share of a node's range that gradients see a step from.
SOFTNESS = 1 / 8

# Where nodes are in a compact circuit: layer, sub-layer (0, 1), field.
Place = tuple[int, int, str]


@dataclasses.dataclass(frozen=True)
class Bits:
    """A circuit whose nodes have two levels each.

    circuit, bits: task losses in nats on the test split, of the circuit and of it with levels. start: the
    share of the ranges that its thresholds were started at. levels: (low, high, threshold) by node's name.
    compact: the circuit with its levels, as a model that runs.
    """

    circuit: float
    bits: float
    start: float
    levels: Mapping[str, tuple[float, float, float]]
    compact: CompactCircuit

    def save(self, path: str | os.PathLike) -> None:
        """Writes losses and levels as JSON, whole or not at all (`compact.save` writes the model)."""
        losses = {"circuit": self.circuit, "bits": self.bits, "start": self.start}
        about = {"format": "sparse_jax.bits", "version": 1, **losses, "levels": dict(self.levels)}
        write_whole(path, json_text(about, indent=1) + "\n")

    def __repr__(self) -> str:
        size = counted(len(self.levels), "node")
        return f"Bits({size}: {self.bits:.3f} nats, the circuit {self.circuit:.3f})"


def binarize(
    model: Model,
    circuit: Circuit,
    task: Spec,
    *,
    steps: int = 300,
    train_pairs: int = 512,
    validation_pairs: int = 128,
    test_pairs: int = 256,
    seed: int = 0,
) -> Bits:
    """The circuit with two levels for every node that it computes: what is its loss if each is a bit?

    Levels and thresholds are trained on the task for `steps` steps, while nodes go from their own value to
    their level; thresholds are started at 1/4, 1/2 and 3/4 of each node's range, and the best start on the
    validation split is kept (METHOD 8). Half a minute to a minute for circuits of the small pair.

    Raises InputError for a circuit of another model or task, and one with frozen norms.

    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/else_elif.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> few = {"train_pairs": 8, "validation_pairs": 8, "test_pairs": 8}
    >>> sj.binarize(model, circuit, "else_elif", steps=1, **few)
    Bits(2 nodes: ... nats, the circuit ...)
    """
    require_settings()
    require(steps >= 1, "steps", steps, "at least 1")
    whole_seed("seed", seed)
    chosen, tokenizer = as_task(task), model.require_tokenizer()
    check_binarizable(model, circuit, chosen)
    counts = {"train": train_pairs, "validation": validation_pairs, "test": test_pairs}
    splits = {
        split: chosen.encode(split, count, 0, tokenizer, model.config.context)
        for split, count in counts.items()
    }
    answers = sorted({int(token) for pairs in splits.values() for token in pairs.candidates.reshape(-1)})
    small = circuit.compact(model, answers)
    ranges = _ranges(model, circuit, small, splits["train"])
    progress = Progress("levels of nodes", len(STARTS) * steps, "steps")
    found = []
    for turn, start in enumerate(STARTS):
        before = _started(ranges, start)
        levels = _trained(small, before, splits["train"], steps, seed, progress, turn * steps)
        found.append((task_loss(with_levels(small, levels), splits["validation"]), start, levels))
    progress.close()
    _, start, levels = min(found, key=lambda one: one[0])
    with_bits = with_levels(small, levels)
    return Bits(
        task_loss(small, splits["test"]),
        task_loss(with_bits, splits["test"]),
        start,
        dict(_by_node(small, levels)),
        with_bits,
    )


def check_binarizable(model: Model, circuit: Circuit, task: Task) -> None:
    """Raises InputError for a circuit that `binarize` refuses."""
    check_task(model, circuit, task)
    frozen = has_frozen_norms(circuit)
    require(not frozen, "circuit", "frozen norms", "a circuit with norms of its own")


def task_loss(small: CompactCircuit, pairs: EncodedPairs) -> float:
    """The mean task loss in nats over the pairs."""
    return float(_loss(jax.tree.map(jnp.asarray, small), _batch(small, pairs)))


class _Batch(NamedTuple):
    """Prompts [B, T], their last tokens [B], and the columns of the right and the wrong answer [B, 2]."""

    tokens: Any
    last: Any
    columns: Any


def _batch(small: CompactCircuit, pairs: EncodedPairs) -> _Batch:
    tokens, last, candidates = pairs.flat()
    return _Batch(tokens, last, small.columns(candidates))


@jax.jit
def _loss(small: CompactCircuit, batch: _Batch) -> jax.Array:
    logits = small.forward(batch.tokens, batch.last)[None]
    return LOSSES["binary"](logits, jnp.asarray(batch.columns)[None]).mean()


def _places(small: CompactCircuit) -> Iterator[tuple[Place, str, tuple[int, ...]]]:
    """Where kept nodes are, with their site and channels."""
    for layer, parts in enumerate(small.layers):
        for number, part in enumerate(parts):
            fields: dict[str, str] = {}
            if isinstance(part, AttentionPart):
                fields = {"reads": "attn_in", "q": "q", "k": "k", "v": "v", "out": "attn_out"}
            elif isinstance(part, MlpPart):
                fields = {"reads": "mlp_in", "neurons": "mlp_neuron", "out": "mlp_out"}
            for field, site in fields.items():
                inner = getattr(part, field)
                nodes = inner.channels if field == "reads" else inner.nodes
                if nodes:
                    yield (layer, number, field), site, nodes


def with_levels(small: CompactCircuit, levels: Mapping[Place, Levels]) -> CompactCircuit:
    """The compact circuit with these levels."""
    layers = [list(parts) for parts in small.layers]
    for (layer, number, field), one in levels.items():
        part = layers[layer][number]
        inner = dataclasses.replace(getattr(part, field), levels=one)
        layers[layer][number] = dataclasses.replace(part, **{field: inner})
    return dataclasses.replace(small, layers=tuple(map(tuple, layers)))


def _ranges(
    model: Model, circuit: Circuit, small: CompactCircuit, pairs: EncodedPairs
) -> dict[Place, tuple[np.ndarray, np.ndarray]]:
    """The smallest and the largest value of every kept node over the prompts, [n] each."""
    tokens, last, _ = pairs.flat()
    params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), jnp.asarray(tokens))
    hooks = dataclasses.replace(hooks, capture=sites.LAYER_SITES)
    real = (np.arange(tokens.shape[1]) <= last[:, None])[None, ..., None]

    @jax.jit
    def extremes(params):
        found = forward(model.config, params, tokens, hooks)[1]
        low = {site: jnp.where(real, x, jnp.inf).min(axis=(1, 2)) for site, x in found.items()}
        return low, {site: jnp.where(real, x, -jnp.inf).max(axis=(1, 2)) for site, x in found.items()}

    low, high = jax.device_get(extremes(params))
    return {
        place: (low[site][place[0], list(nodes)], high[site][place[0], list(nodes)])
        for place, site, nodes in _places(small)
    }


def _started(ranges: Mapping[Place, tuple[np.ndarray, np.ndarray]], start: float) -> dict[Place, Levels]:
    """Thresholds at a share of each range, and levels in the middle of the two parts."""
    found = {}
    for place, (low, high) in ranges.items():
        threshold = low + start * (high - low)
        softness = np.maximum(SOFTNESS * (high - low), 1e-3)
        middles = (low + threshold) / 2, (high + threshold) / 2
        found[place] = Levels(*middles, threshold, softness, np.zeros((), np.float32))
    return found


def _trained(
    small: CompactCircuit,
    start: dict[Place, Levels],
    pairs: EncodedPairs,
    steps: int,
    seed: int,
    progress: Progress,
    done: int,
) -> dict[Place, Levels]:
    """Trains low, high and threshold of every node, in units of its range."""
    small = jax.tree.map(jnp.asarray, small)
    batch, optimizer = _batch(small, pairs), optax.adam(optax.linear_schedule(RATE, 0.0, steps))
    moved = {place: jnp.zeros((3, len(levels.low))) for place, levels in start.items()}
    state, rng = optimizer.init(moved), np.random.default_rng(seed)
    for step in range(steps):
        rows = rng.choice(len(batch.last), min(2 * PAIRS, len(batch.last)), replace=False)
        chosen = _Batch(*(np.asarray(array)[rows] for array in batch))
        own = jnp.float32((1 - (step + 1) / steps) ** 5)
        moved, state, loss = _step(optimizer, small, start, moved, state, own, chosen)
        progress.update(done + step + 1, loss=float(loss))
    return jax.device_get(_moved(start, moved, jnp.float32(0)))


def _moved(start: Mapping[Place, Levels], moved: Mapping[Place, Any], own) -> dict[Place, Levels]:
    found = {}
    for place, levels in start.items():
        low, high, threshold = moved[place] * (levels.softness / SOFTNESS)
        found[place] = Levels(
            levels.low + low, levels.high + high, levels.threshold + threshold, levels.softness, own
        )
    return found


@functools.partial(jax.jit, static_argnums=0)
def _step(optimizer, small, start, moved, state, own, batch: _Batch):
    def loss(moved):
        return _loss(with_levels(small, _moved(start, moved, own)), batch)

    value, gradient = jax.value_and_grad(loss)(moved)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(moved, updates), state, value


def _by_node(
    small: CompactCircuit, levels: Mapping[Place, Levels]
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    for place, site, nodes in _places(small):
        one = levels[place]
        for node, *numbers in zip(nodes, one.low.tolist(), one.high.tolist(), one.threshold.tolist()):
            yield f"{place[0]}.{site}.{node}", tuple(numbers)
