"""How sparse the weights become, and when."""

import re
from dataclasses import dataclass

from sparse_jax.inputs import InputError, require, require_choice

PRESETS = ("paper", "openai")
SCHEDULES = ("linear", "power", "constant")
METHODS = ("topk", "l0")


@dataclass(frozen=True)
class SparsityConfig:
    """Weight sparsity of one training run (METHOD section 3). Raises InputError naming the field.

    fraction: share of the weights kept in the end; 1 is a dense model.
    preset: 'paper' (kernels, biases and both embeddings at `fraction`) or 'openai' (kernels at `fraction`,
        embeddings at four times that, biases dense). Norms, sinks, the bigram table, position tables and
        logit_bias are dense under every preset and rule.
    rules: (regular expression for a full leaf name, fraction or None for dense); the first match counts, and
        rules come before the preset.
    schedule: 'linear' or 'power' ((1 - progress)**power of the surplus is left) between `anneal_start` and
        `anneal_end`, both shares of training; 'constant' starts at the target.
    min_per_channel: the fewest weights that a neuron or attention channel keeps; 0 protects nothing.
    method: 'topk' keeps the largest weights after every update; 'l0' gives every weight a random gate
        (`training/l0.py`) instead. Then `fraction` only says which leaves have gates, all that would be
        sparse, and `penalty`, in nats for the share of open gates, decides how many weights are left.
    """

    fraction: float = 1.0
    preset: str = "paper"
    rules: tuple[tuple[str, float | None], ...] = ()
    schedule: str = "linear"
    anneal_start: float = 0.01
    anneal_end: float = 0.5
    power: float = 3.0
    min_per_channel: int = 4
    method: str = "topk"
    penalty: float = 0.0

    def __post_init__(self):
        require(0 < self.fraction <= 1, "sparsity.fraction", self.fraction, "above 0, at most 1")
        require_choice("sparsity.preset", self.preset, PRESETS)
        require_choice("sparsity.schedule", self.schedule, SCHEDULES)
        require(0 <= self.anneal_start <= 1, "sparsity.anneal_start", self.anneal_start, "between 0 and 1")
        require(
            self.anneal_start < self.anneal_end <= 1,
            "sparsity.anneal_end",
            self.anneal_end,
            f"above anneal_start ({self.anneal_start}), at most 1",
        )
        require(self.power > 0, "sparsity.power", self.power, "above 0")
        require(self.min_per_channel >= 0, "sparsity.min_per_channel", self.min_per_channel, "0 or more")
        for rule in self.rules:
            _check_rule(rule)
        require_choice("sparsity.method", self.method, METHODS)
        require(self.penalty >= 0, "sparsity.penalty", self.penalty, "0 or more")
        if self.method == "topk":
            require(self.penalty == 0, "sparsity.penalty", self.penalty, "0 with sparsity.method 'topk'")
            return
        valid = "below 1 with sparsity.method 'l0', or rules that make a leaf sparse"
        require(not self.is_dense, "sparsity.fraction", self.fraction, valid)
        # gates have no budget that could be annealed, or that a channel could have a part of
        for name, needed in (("schedule", "constant"), ("min_per_channel", 0)):
            given = getattr(self, name)
            require(given == needed, f"sparsity.{name}", given, f"{needed!r} with sparsity.method 'l0'")

    @property
    def final_fraction(self) -> float:
        """The final share of weights kept: `fraction`, or the smallest of `rules` if they act alone.

        1 with gates, which no budget closes.
        """
        if self.method == "l0":
            return 1.0
        if self.fraction < 1:
            return self.fraction
        return min((fraction for _, fraction in self.rules if fraction is not None), default=1.0)

    @property
    def is_dense(self) -> bool:
        """Whether every leaf is dense, so that there is nothing to project."""
        return self.fraction == 1 and all(fraction in (None, 1) for _, fraction in self.rules)


def _check_rule(rule: tuple[str, float | None]) -> None:
    valid = "a pair (regular expression, fraction in (0, 1] or None), like ('embed/.*', 0.1)"
    is_pair = isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str)
    require(is_pair, "sparsity.rules", rule, valid)
    pattern, fraction = rule
    is_number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    require(fraction is None or (is_number and 0 < fraction <= 1), "sparsity.rules", rule, valid)
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"sparsity.rules: {rule!r} is not valid ({error}); valid: {valid}") from error
