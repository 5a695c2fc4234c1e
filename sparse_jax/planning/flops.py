"""Work of a program, counted from what it says, not from what a compiler made of it."""

import math
from collections import Counter
from collections.abc import Iterator

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def matmul_flops(jaxpr: Jaxpr) -> Counter[str]:
    """Multiplications and additions of all matrix products, over all devices, by the type multiplied.

    The body of a loop counts as often as it runs (the compiler's own `cost_analysis` counts it once), once
    where that is not known; of branches the one with most work counts. What is not a matrix product is left
    out, as in every quoted peak.
    """
    total = Counter()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total[str(equation.invars[0].aval.dtype)] += _of_product(equation)
        elif name == "cond":
            total += max((matmul_flops(branch.jaxpr) for branch in params["branches"]), key=Counter.total)
        else:
            times = {"scan": params.get("length"), "shard_map": _size(params.get("mesh"))}.get(name, 1)
            for inner in _inside(params):
                total += Counter({kind: times * count for kind, count in matmul_flops(inner).items()})
    return total


def _of_product(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _size(mesh) -> int:
    """Devices of a mesh: what is inside of a `shard_map` is the work of one of them."""
    return 1 if mesh is None else mesh.size


def _inside(params: dict) -> Iterator[Jaxpr]:
    for value in jax.tree.leaves(
        list(params.values()), is_leaf=lambda x: isinstance(x, (ClosedJaxpr, Jaxpr))
    ):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
