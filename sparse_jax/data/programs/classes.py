"""Classes that store what they are given."""

from random import Random

from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.functions import docstring, lambda_line
from sparse_jax.data.programs.layout import indented
from sparse_jax.data.programs.names import class_name, distinct, function_name, scope, variable


def storing_class(rng: Random) -> list[str]:
    """`self.x = x` for every parameter, in any order, then one or two methods."""
    fields = distinct(rng, rng.randrange(2, 4))
    body = class_opening(rng)
    body.append(f"def __init__(self, {', '.join(fields)}):")
    if rng.random() < 0.5:
        rng.shuffle(fields)
    body += [f"    self.{field} = {field}" for field in fields]
    for _ in range(rng.randrange(1, 3)):
        body += ["", *method(rng, fields)]
    return [f"class {class_name(rng)}:", *indented(body)]


def stateless_class(rng: Random) -> list[str]:
    """A class of one method that returns a number."""
    body = [f"def {variable(rng)}(self):", f"    return {digit(rng)}"]
    return [f"class {class_name(rng)}:", *indented(class_opening(rng) + body)]


def class_opening(rng: Random) -> list[str]:
    return docstring(rng) + (lambda_line(rng, scope(rng)) if rng.random() < 0.3 else [])


def method(rng: Random, fields: list[str]) -> list[str]:
    """A method named by a noun that computes with a field, or a setter."""
    field = rng.choice(fields)
    if rng.random() < 0.6:
        result = f"self.{field} {rng.choice('+-*')} self.{rng.choice(fields)}"
        return [f"def {variable(rng)}(self):", f"    return {result}"]
    argument = variable(rng)
    return [
        f"def {function_name(rng)}(self, {argument}):",
        f"    self.{field} = {argument}",
        f"    return self.{field}",
    ]
