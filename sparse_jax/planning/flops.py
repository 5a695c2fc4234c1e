"""FLOPs of a program, counted from its jaxpr, not from the compiled program."""

import math
from collections import Counter
from collections.abc import Iterator

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def matmul_flops(jaxpr: Jaxpr) -> Counter[str]:
    """FLOPs of all matrix products, over all devices, by dtype.

    The body of a loop is counted as often as it runs (the compiler's `cost_analysis` counts it once), or once
    if that is unknown. Of several branches, the one with the most work is counted. Everything else is left
    out, as in quoted peak numbers.
    """
    total: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            kind, count = _of_product(equation)
            total[kind] += count
        elif name == "cond":
            branches: list[Counter[str]] = [matmul_flops(branch.jaxpr) for branch in params["branches"]]
            heaviest: Counter[str] = max(branches, key=lambda work: work.total())
            total += heaviest
        else:
            times = _times(name, params)
            for inner in _inside(params):
                total += Counter({kind: times * count for kind, count in matmul_flops(inner).items()})
    return total


def _of_product(equation) -> tuple[str, int]:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval
    inner = math.prod(left.shape[axis] for axis in contracted)
    return str(left.dtype), 2 * math.prod(equation.outvars[0].aval.shape) * inner


def _times(name: str, params: dict) -> int:
    """How often the body of a primitive runs; the body of a `shard_map` runs once per device of its mesh."""
    if name == "scan":
        return params["length"]
    return params["mesh"].size if name == "shard_map" else 1


def _inside(params: dict) -> Iterator[Jaxpr]:
    for value in jax.tree.leaves(
        list(params.values()), is_leaf=lambda x: isinstance(x, (ClosedJaxpr, Jaxpr))
    ):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
