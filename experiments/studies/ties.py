"""Training with other gradients of AbsTopK where a row has fewer nonzero entries than are kept."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp

from sparse_jax.files import json_lines, write_whole
from sparse_jax.inputs import require_choice
from sparse_jax.model import layers
from sparse_jax.topk.rows import abs_top_k


def _no_zeros(x: jax.Array, k: int) -> jax.Array:
    return x != 0


def _first_zeros(x: jax.Array, k: int) -> jax.Array:
    is_zero = x == 0
    missing = k - jnp.sum(~is_zero, axis=-1, keepdims=True)
    return ~is_zero | (jnp.cumsum(is_zero, axis=-1) <= missing)


# Where the gradient passes in such a row, by rule; None is the library's: everywhere.
RULES: dict[str, Callable[[jax.Array, int], jax.Array] | None] = {
    "all": None,
    "first": _first_zeros,
    "none": _no_zeros,
}


def with_rule(rule: str, x: jax.Array, k: int, reused: bool = True) -> jax.Array:
    """`abs_top_k` with the gradient of a rule in rows [..., N] of `x` that have fewer than `k` nonzeros.

    "all" passes it to every zero of the row, "first" to as many of its first zeros as make up k entries,
    "none" to no zero. Values are the same. Raises InputError for an unknown rule.
    """
    require_choice("rule", rule, RULES)
    passes = RULES[rule]
    if passes is not None and k < x.shape[-1]:
        # in other rows AbsTopK has decided which gradients pass, and none of these entries is 0
        x = jnp.where(passes(x, k), x, jax.lax.stop_gradient(x))
    return abs_top_k(x, k, reused)


@contextlib.contextmanager
def ties(rule: str) -> Iterator[None]:
    """Programs use the rule in every layer inside, and are traced anew there and afterwards."""
    with mock.patch.object(layers, "abs_top_k", functools.partial(with_rule, rule)):
        jax.clear_caches()
        yield
    jax.clear_caches()


@dataclasses.dataclass(frozen=True)
class TiesRow:
    """A model trained with a rule; its validation loss is in nats a token."""

    rule: str
    seed: int
    steps: int
    validation: float


def write_ties(rows: Sequence[TiesRow], directory: Path) -> str:
    """Writes rows.jsonl and table.md to `directory`; returns the table."""
    write_whole(directory / "rows.jsonl", json_lines(map(dataclasses.asdict, rows)))
    table = format_ties(rows)
    write_whole(directory / "table.md", table)
    return table


def format_ties(rows: Sequence[TiesRow]) -> str:
    """Markdown: a line per rule, a column per seed, and the mean difference from "all"."""
    seeds = sorted({row.seed for row in rows})
    found = {(row.rule, row.seed): row.validation for row in rows}
    text = [
        "# Where the gradient of AbsTopK passes in rows with too few nonzeros\n",
        "Validation loss in nats a token.\n",
        "| rule |" + "".join(f" seed {seed} |" for seed in seeds) + " mean difference from all |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for rule in RULES:
        own = [found.get((rule, seed)) for seed in seeds]
        cells = ["-" if loss is None else f"{loss:.4f}" for loss in own]
        shared = [seed for seed in seeds if (rule, seed) in found and ("all", seed) in found]
        both = [found[rule, seed] - found["all", seed] for seed in shared]
        cells.append(f"{sum(both) / len(both):+.4f}" if both else "-")
        text.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"
