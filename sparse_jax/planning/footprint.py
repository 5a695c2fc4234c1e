"""Memory that a compiled program needs on each device, and the largest size that fits."""

from collections.abc import Callable

import jax
from jax.stages import Compiled

from sparse_jax.planning.programs import Program
from sparse_jax.runtime.memory import held_bytes, needed_bytes


def memory_of(program: Program, compiled: Compiled) -> dict[str, int]:
    """Bytes per device: of persistent arrays, by name; of temporaries; of everything at the peak."""
    found = {name: held_bytes(tree) for name, tree in program.held.items()}
    analysis = compiled.memory_analysis()
    assert analysis is not None  # `needed_bytes` has read it before
    return {**found, "temporaries": analysis.temp_size_in_bytes, "peak": needed_bytes(compiled)}


def compile_if_it_fits(program: Program, limit: float) -> Compiled | None:
    """The compiled program; None if the compiler says that it does not fit, or it exceeds `limit` bytes."""
    try:
        compiled = program.function.lower(*program.arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return compiled if needed_bytes(compiled) <= limit else None


def largest_that_fits(
    build: Callable[[int], Program], below: int, limit: float
) -> tuple[int, Compiled] | None:
    """About the largest n < `below` whose program `build(n)` fits into `limit` bytes, compiled.

    Memory grows about linearly with n, so the size is predicted from n = 1 and 2, compiled, and reduced by an
    eighth while it does not fit. The result is known to fit; that more would not fit is only predicted. None
    if not even n = 1 fits.
    """
    one = compile_if_it_fits(build(1), limit)
    if one is None:
        return None
    two = compile_if_it_fits(build(2), limit) if below > 2 else None
    if two is None:
        return 1, one
    each = max(1, needed_bytes(two) - needed_bytes(one))
    size = min(below - 1, 1 + int((limit - needed_bytes(one)) / each))
    while size > 2:
        if (compiled := compile_if_it_fits(build(size), limit)) is not None:
            return size, compiled
        size = size * 7 // 8
    return 2, two
