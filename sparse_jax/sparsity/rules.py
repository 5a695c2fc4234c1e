"""Which leaves become sparse, and how many weights each of their matrices keeps."""

import math
import re
from dataclasses import dataclass

from sparse_jax.inputs import InputError
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.trees import first_match, named_leaves

_ALWAYS_DENSE = r".*norm/.*|.*/sink|bigram/.*|position/.*|logit_bias"

# (leaf name, multiple of the model's fraction or None for dense)
_PRESET_RULES = {
    "paper": (("embed/kernel|unembed/kernel", 1.0), ("layers/.*/(kernel|bias)", 1.0)),
    "openai": (
        ("embed/kernel|unembed/kernel", 4.0),
        ("layers/.*/kernel", 1.0),
        ("layers/.*/bias", None),
    ),
}

# The axis along which the weights of a hidden neuron or attention channel extend (METHOD section 3).
_CHANNEL_AXIS = (
    ("layers/mlp/up/kernel|layers/attn/[qkv]/kernel", -2),
    ("layers/mlp/down/kernel|layers/attn/out/kernel", -1),
    (".*", None),
)


@dataclass(frozen=True)
class SparseLeaf:
    """The budget of one leaf, the same for each of its matrices.

    stack_shape: the leaf as a stack of matrices [L, ...]; L = 1 outside layers/. target: the final number of
    weights that each matrix keeps. channel_axis: the axis along which every channel keeps `protected`
    weights; None if nothing is protected.
    """

    stack_shape: tuple[int, ...]
    target: int
    channel_axis: int | None
    protected: int

    @property
    def size(self) -> int:
        """The number of weights in one matrix."""
        return math.prod(self.stack_shape[1:])


def leaf_fractions(config: SparsityConfig, params: object) -> dict[str, float]:
    """The final fraction kept of every leaf that becomes sparse, by its name, in tree order.

    Raises InputError for a rule that matches no leaf, and for a leaf that no rule covers.
    """
    names = [name for name in named_leaves(params) if not re.fullmatch(_ALWAYS_DENSE, name)]
    for pattern, _ in config.rules:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise InputError(f"sparsity.rules: {pattern!r} matches no leaf; valid: {', '.join(names)}")
    scaled = [
        (pattern, None if multiple is None else min(1.0, multiple * config.fraction))
        for pattern, multiple in _PRESET_RULES[config.preset]
    ]
    rules = [*config.rules, *scaled]
    fractions = {name: first_match(rules, name) for name in names}
    return {name: fraction for name, fraction in fractions.items() if fraction not in (None, 1)}


def sparse_leaves(config: SparsityConfig, params: object) -> dict[str, SparseLeaf]:
    """Every leaf that becomes sparse, by its name, in tree order; reads only names and shapes of `params`.

    Raises InputError if a matrix would keep no weight, or fewer than its channels need.
    """
    leaves = named_leaves(params)
    sparse = {}
    for name, fraction in leaf_fractions(config, params).items():
        shape = leaves[name].shape if name.startswith("layers/") else (1, *leaves[name].shape)
        target = int(fraction * math.prod(shape[1:]))
        axis = first_match(_CHANNEL_AXIS, name) if config.min_per_channel else None
        protected = 0 if axis is None else min(config.min_per_channel, shape[axis])
        sparse[name] = SparseLeaf(shape, target, axis, protected)
        _check_budget(name, sparse[name], fraction)
    return sparse


def _check_budget(name: str, leaf: SparseLeaf, fraction: float) -> None:
    needed, why = 1, "at least 1 has to stay"
    if leaf.channel_axis is not None:
        channels = leaf.size // leaf.stack_shape[leaf.channel_axis]
        needed = channels * leaf.protected
        why = f"its {channels} channels need {leaf.protected} each, {needed} in all"
    if leaf.target >= needed:
        return
    smallest = math.ceil(needed / leaf.size * 1e6) / 1e6
    raise InputError(
        f"sparsity.fraction: {name} at fraction {fraction:g} keeps {leaf.target} of {leaf.size} weights, but "
        f"{why}; valid: a fraction of at least {smallest:g} for this leaf (or a rule in sparsity.rules)"
    )
