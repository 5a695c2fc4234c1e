"""Tasks about functions, lambdas and classes."""

from random import Random

from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.functions import lambda_line
from sparse_jax.data.programs.names import Scope
from sparse_jax.tasks.setting import Setting


def final_kwarg(draw: Setting) -> tuple[str, str]:
    """After a parameter with a default the last one has one too; else the list closes."""
    names = draw.scope()
    start, pad, first = draw.above(_with_default, _without_default), "", ""
    if draw.rng.random() < 0.2:
        start, pad, first = f"{start}class {draw.class_name()}:\n", "    ", "self, "
    start += f"{pad}def {draw.function_name()}({first}{names.number}, {names.items}"
    body = f"{pad}    return {names.number}\n"
    return f"{start}=None, {names.other}«=None»):\n{body}", f"{start}, {names.other}«):\n»{body}"


def _with_default(rng: Random, names: Scope) -> list[str]:
    return [f"def {names.text}({names.number}, {names.items}=None):", f"    return {names.items}"]


def _without_default(rng: Random, names: Scope) -> list[str]:
    return [f"def {names.text}({names.number}, {names.items}):", f"    return {names.items}"]


def lambda_func(draw: Setting) -> tuple[str, str]:
    """`def price` opens its parameters, `lambda price` goes on with a colon; at top level or in a class.

    At top level the two programs may have the start of the lambda's line in common, `cost = `, which the
    other then ends with a number: so the lambda's prompt is not the longer one as a rule.
    """
    rng = draw.rng
    target, name = draw.distinct(2)
    start, pad, opening, close = draw.above(lambda_line, _with_default), "", "():\n", ""
    above = f"{target} = {digit(rng)}\n\n" if rng.random() < 0.5 else ""
    if rng.random() < 0.4:
        start, pad, opening, close = f"{start}class {draw.class_name()}:\n", "    ", "(self", "):\n"
        above = ""
    return (
        f"{start}{above}{pad}def {name}«{opening}»{close}{pad}    return 1\n",
        f"{start}{pad}{target} = lambda {name}«:» {name} + 1\n",
    )


def class_init(draw: Setting) -> tuple[str, str]:
    """`self.x =` is followed by the parameter ` x`; sometimes other fields were stored before."""
    rng = draw.rng
    one, other = draw.answers(2)
    extra = draw.distinct(rng.randrange(0, draw.fields_most - 1), one, other)
    parameters = [one, other, *extra]
    rng.shuffle(parameters)
    stored = "".join(f"        self.{field} = {field}\n" for field in extra)
    start = f"{draw.above(_other_class)}class {draw.class_name()}:\n"
    start += f"    def __init__(self, {', '.join(parameters)}):\n{stored}"
    first, second = (f"{start}        self.{name} =« {name}»\n" for name in (one, other))
    return first, second


def _other_class(rng: Random, names: Scope) -> list[str]:
    fields = (names.number, names.other)
    lines = [f"class {names.text.title().replace('_', '')}:", f"    def __init__(self, {', '.join(fields)}):"]
    return lines + [f"        self.{field} = {field}" for field in fields]
