"""Simple, repetitive, varied Python programs, generated: the first component of the training text.

The productions live in `data/programs/`, one module a topic. A program is two or three blocks (classes,
functions, plain statements); every statement works on the names of its block. The programs parse but
are meant to be read, not run: a name may be used that nothing has bound.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random

from sparse_jax.data.programs import assignments, branches, containers, functions, loops, strings
from sparse_jax.data.programs import opening as files
from sparse_jax.data.programs.classes import stateless_class, storing_class
from sparse_jax.data.programs.expressions import digit
from sparse_jax.data.programs.holdout import held_out
from sparse_jax.data.programs.names import Scope, phrase, scope

# Relative rates: every idiom that a task asks about should occur in several percent of the programs.
STATEMENTS = {
    strings.say: 6,
    strings.report: 6,
    strings.label: 2,
    strings.change_case: 1,
    containers.flat_list: 3,
    containers.nested_list: 5,
    containers.two_lists: 2,
    containers.word_list: 3,
    containers.dictionary: 6,
    containers.lookup: 1,
    containers.append: 1,
    containers.comprehension: 1,
    containers.filled: 11,
    assignments.compute: 3,
    assignments.bind_comparison: 4,
    assignments.bind_membership: 4,
    assignments.step: 1,
    assignments.swap: 16,
    branches.if_only: 3,
    branches.if_equal: 3,
    branches.if_else: 4,
    branches.if_elif: 5,
    branches.ternary: 5,
    loops.for_each: 4,
    loops.for_range: 6,
    loops.for_enumerate: 6,
    loops.while_name: 5,
    loops.while_comparison: 1,
    loops.while_true: 2,
    loops.guarded_while_true: 3,
    files.with_file: 7,
    files.open_file: 5,
    functions.lambda_line: 4,
}
_STATEMENTS = tuple(STATEMENTS)
_STATEMENT_WEIGHTS = tuple(accumulate(STATEMENTS.values()))


def statement(rng: Random, names: Scope) -> list[str]:
    """The lines of one statement."""
    return rng.choices(_STATEMENTS, cum_weights=_STATEMENT_WEIGHTS)[0](rng, names)


def statements(rng: Random, names: Scope) -> list[str]:
    """One to three statements."""
    return [line for _ in range(rng.randrange(1, 4)) for line in statement(rng, names)]


def script(rng: Random) -> list[str]:
    """Statements outside of any function, after the names that they need."""
    names = scope(rng)
    lines = [f"# {phrase(rng)}"] if rng.random() < 0.2 else []
    lines += [f"{names.number} = {digit(rng)}", *containers.flat_list(rng, names)]
    return lines + statements(rng, names) + statement(rng, names)


def block(rng: Random) -> list[str]:
    """A class or a function of some kind."""
    kind = rng.random()
    if kind < 0.45:
        return functions.function(rng, statements)
    if kind < 0.6:
        return functions.plain_function(rng, statements)
    if kind < 0.75:
        return functions.predicate(rng)
    return storing_class(rng) if kind < 0.94 else stateless_class(rng)


def program(rng: Random) -> str:
    """One complete program, 150 to 800 characters as a rule; `ast.parse` takes it.

    It holds no line that prompts of a test split may begin with.
    """
    blocks = [_allowed(rng, block) for _ in range(rng.randrange(1, 3))]
    blocks.insert(rng.randrange(len(blocks) + 1), _allowed(rng, script))
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _allowed(rng: Random, draw: Callable[[Random], list[str]]) -> list[str]:
    while any(map(held_out, lines := draw(rng))):
        pass
    return lines


def programs(seed: int, count: int, start: int = 0) -> Iterator[str]:
    """Programs `start` to `start + count`; the one numbered i depends on `seed` and i only."""
    for index in range(start, start + count):
        yield program(Random(f"{seed}/{index}"))
