"""Random weights, neurons, heads and channels around a program whose circuit is known."""

import dataclasses

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.faithfulness.planted import PAIRS, TARGET, Program, tree_of, zero_leaves
from sparse_jax.inputs import InputError
from sparse_jax.tasks.metrics import METRICS
from sparse_jax.trees import named_leaves

# What `with_extras` adds: channels of the stream, neurons and heads of each layer.
EXTRA_CHANNELS, EXTRA_NEURONS, EXTRA_HEADS = 8, 8, 1
# The share of nonzero weights into extra nodes.
DENSITY = 0.25
# The standard deviation of extra weights into what the program uses.
FAINT = 0.01


def with_extras(program: Program, seed: int = 0, faint: float = FAINT) -> Program:
    """The program in a larger model, amid random weights, neurons, heads and channels; the same truth.

    Extra nodes read the program's channels and each other, with weights as large as the program's, a quarter
    of them nonzero. All other weights into nodes of the program are faint: normal with the standard deviation
    `faint`. The unembedding adds each extra channel to the logits of all symbols alike, but for faint
    differences, so these paths are active and yet never change the answer.

    Raises InputError, naming `faint`, if the extras change an answer or raise the loss to half of TARGET.
    """
    small = program.model.config
    large = dataclasses.replace(
        small,
        d_model=small.d_model + EXTRA_CHANNELS,
        d_mlp=small.d_mlp + EXTRA_NEURONS,
        n_heads=small.n_heads + EXTRA_HEADS,
    )
    own, rng = named_leaves(program.model.params), np.random.default_rng(seed)
    leaves = {
        name: _around(name, x, np.asarray(own[name]), rng, faint)
        for name, x in sorted(zero_leaves(large).items())
    }
    model = dataclasses.replace(
        program.model, config=large, params=tree_of(large, leaves), origin=f"{program.name}, extras {seed}"
    )
    grown = dataclasses.replace(program, model=model)
    for split in PAIRS:
        pairs = grown.pairs(split)
        logits = Judge(large, model.params, {}, pairs).logits({})
        loss, right = (float(METRICS[name](logits, pairs.candidates).mean()) for name in ("loss", "accuracy"))
        if right < 1 or loss > TARGET / 2:
            raise InputError(
                f"faint: {faint:g} changes the answers of {program.name!r} ({loss:.3f} nats); "
                f"valid: less, such as {FAINT}"
            )
    return grown


def _around(name: str, leaf: np.ndarray, own: np.ndarray, rng, faint: float) -> np.ndarray:
    """One leaf of the larger model: the program's in the corner that comes first, random values around it."""
    if name.endswith("norm/scale"):
        return leaf  # set for the larger width
    if name == "embed/kernel":
        leaf[:] = rng.normal(size=leaf.shape)
    elif name == "unembed/kernel":
        leaf[:] = rng.normal(size=(len(leaf), 1)) + faint * rng.normal(size=leaf.shape)
    elif name.startswith("layers/") and name.endswith("/kernel"):
        scale = (DENSITY * leaf.shape[1]) ** -0.5
        leaf[:] = scale * rng.normal(size=leaf.shape) * (rng.random(leaf.shape) < DENSITY)
        used = leaf[..., : own.shape[-1]]
        used[:] = faint * rng.normal(size=used.shape)
        own = np.where(own == 0, used[:, : own.shape[1]], own)
        if name.endswith(("out/kernel", "down/kernel")):
            own[..., 0] = leaf[..., 0] = 0  # nothing writes the level
        else:
            own[:, 0] = leaf[:, 0] = 0  # and nothing reads it
    leaf[tuple(slice(size) for size in own.shape)] = own
    return leaf
