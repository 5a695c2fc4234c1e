"""Tasks about functions, lambdas and classes."""

from random import Random

from sparse_jax.data.programs.names import class_name, distinct, function_name, scope, variable
from sparse_jax.data.programs.words import COMMON_NAMES
from sparse_jax.tasks.context import before_definition


def final_kwarg(rng: Random) -> tuple[str, str]:
    """After a parameter with a default the last one has one too; else the list closes."""
    names = scope(rng)
    start = f"{before_definition(rng, names)}def {function_name(rng)}({names.number}, {names.items}"
    body = f"    return {names.number}\n"
    return f"{start}=None, {names.other}«=None»):\n{body}", f"{start}, {names.other}«):\n»{body}"


def lambda_func(rng: Random) -> tuple[str, str]:
    """`def price` opens its parameters, `lambda price` goes on with a colon; at top level or in a class."""
    target, name = distinct(rng, 2)
    if rng.random() < 0.6:
        start, pad, opening = before_definition(rng, scope(rng)), "", "():\n"
    else:
        start, pad, opening = f"class {class_name(rng)}:\n", "    ", "(self"
    close = "):\n" if opening == "(self" else ""
    return (
        f"{start}{pad}def {name}«{opening}»{close}{pad}    return 1\n",
        f"{start}{pad}{target} = lambda {name}«:» {name} + 1\n",
    )


def class_init(rng: Random) -> tuple[str, str]:
    """`self.x =` is followed by the parameter ` x`; sometimes another field was stored before."""
    one, other = rng.sample(COMMON_NAMES, 2)
    parameters, stored = [one, other], ""
    if rng.random() < 0.5:
        extra = variable(rng)
        while extra in parameters:
            extra = variable(rng)
        parameters.append(extra)
        stored = f"        self.{extra} = {extra}\n"
    rng.shuffle(parameters)
    start = f"class {class_name(rng)}:\n    def __init__(self, {', '.join(parameters)}):\n{stored}"
    first, second = (f"{start}        self.{name} =« {name}»\n" for name in (one, other))
    return first, second
