"""Tasks about if statements: what ends a condition, what follows else and elif."""

from sparse_jax.data.programs import branches
from sparse_jax.data.programs.assignments import bind_comparison, step
from sparse_jax.data.programs.expressions import comparison, condition, operand
from sparse_jax.tasks.setting import Setting


def if_ternary(draw: Setting) -> tuple[str, str]:
    """The condition of an if statement ends with a colon, that of a ternary with ` else`.

    Either the words before the ternary's if are missing in the other program, or they are a line of their
    own: so the ternary's prompt is not the longer one as a rule.
    """
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.ternary, branches.if_only)
    test = condition(rng, names)
    above = f"{pad}{names.text} = {names.number}\n" if rng.random() < 0.6 else ""
    return (
        f"{before}{above}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.text} = {names.number} if {test}« else» {operand(rng, names)}\n",
    )


def if_equals(draw: Setting) -> tuple[str, str]:
    """A name is compared after if and bound at the start of a line."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.if_equal, bind_comparison)
    value = operand(rng, names)
    return (
        f"{before}{pad}if {names.number}« ==» {value}:\n{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{names.number}« =» {value}\n",
    )


def var_if(draw: Setting) -> tuple[str, str]:
    """A comparison ends with a colon after if, and with its line when it is assigned."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, branches.if_only, bind_comparison)
    test = comparison(rng, names) if rng.random() < 0.8 else f"{names.item} in {names.items}"
    return (
        f"{before}{pad}if {test}«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{before}{pad}{draw.common(*names)} = {test}«\n»",
    )


def else_elif(draw: Setting) -> tuple[str, str]:
    """Else is followed by a colon, elif by the name that the if compared."""
    rng, number = draw.rng, draw.answers(1)[0]
    names = draw.scope(number)._replace(number=number)
    before, pad = draw.place(names, branches.if_only, branches.if_else)
    body = f"\n{pad}    {step(rng, names)[0]}\n"
    start = f"{before}{pad}if {comparison(rng, names)}:{body}{pad}"
    return (
        f"{start}else«:\n»{pad}    {step(rng, names)[0]}\n",
        f"{start}elif« {number}» == {operand(rng, names)}:{body}",
    )
