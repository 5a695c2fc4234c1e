"""Tasks about loops: how their line goes on, and how the next line is indented."""

from sparse_jax.data.programs import loops
from sparse_jax.data.programs.assignments import bind_membership, step
from sparse_jax.data.programs.branches import if_only
from sparse_jax.data.programs.expressions import digit
from sparse_jax.tasks.setting import Setting


def for_while(draw: Setting) -> tuple[str, str]:
    """`for price` goes on with ` in`, `while price` with a colon."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, loops.for_each, loops.while_name)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {names.item}« in» {names.items}:\n{body}",
        f"{before}{pad}while {names.item}«:\n»{body}",
    )


def enumerate_range(draw: Setting) -> tuple[str, str]:
    """Two loop variables go over `enumerate`, one over `range`."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.place(names, loops.for_enumerate, loops.for_range)
    index = loops.loop_index(rng, names)
    item = draw.common(*names, index)
    body = f"{pad}    {step(rng, names)[0]}\n"
    return (
        f"{before}{pad}for {index}, {item} in« enumerate»({names.items}):\n{body}",
        f"{before}{pad}for {index} in« range»({digit(rng)}):\n{body}",
    )


def indent_for(draw: Setting) -> tuple[str, str]:
    """The line after a for line is indented one level more, the line after an assignment as before.

    The tokenizer joins the last space of an indentation to the word after it.
    """
    rng, names = draw.rng, draw.scope()
    flag = draw.common(*names)
    before, pad = draw.function(names, loops.for_each, bind_membership)
    return (
        f"{before}{pad}for {names.item} in {names.items}:\n«{pad}   » {step(rng, names)[0]}\n",
        f"{before}{pad}{flag} = {names.item} in {names.items}\n«{pad[1:]}» return {flag}\n",
    )


def while_return_true(draw: Setting) -> tuple[str, str]:
    """Inside a branch, the line after `while True:` is indented more, that after `return True` less."""
    rng, names = draw.rng, draw.scope()
    before, pad = draw.branch(names, loops.while_true, if_only)
    return (
        f"{before}{pad}while True:\n«{pad}   » {step(rng, names)[0]}\n",
        f"{before}{pad}return True\n«{pad[5:]}» return False\n",
    )
