"""Eight programs written as weights, whose circuits are known, with the tasks that they do.

A prompt has 8 symbols, one token each. Letters, marks and so on are residual channels that the embedding
writes; "." "," ";" write none unless it is said. q0, k0, v0 are the channels of the first head. The answer to
a prompt is worked out from how it was drawn, never by the model.

>>> program = make_program("copy")
>>> program.task.pairs("test", 1, 0)
[Pair(prompt=',,,.a,;?', counterfactual=',,,.b,;?', answer='a', wrong='b')]
>>> program.truth
Circuit(copy in copy: 7 nodes, 4 edges; nats: target 0.150)
>>> round(program.loss(), 3)
0.003
"""

from collections.abc import Callable
from random import Random

from sparse_jax.faithfulness import copying_programs as copying
from sparse_jax.faithfulness import deciding_programs as deciding
from sparse_jax.faithfulness.planted import Program, build
from sparse_jax.faithfulness.wiring import Source
from sparse_jax.inputs import require_choice
from sparse_jax.tasks.own import FileTask, pairs_task
from sparse_jax.tasks.pair import Pair

COUNT = 512  # pairs, no prompt in two of them
PROGRAMS = {
    "copy": Source(copying.copy, copying.draw_copy),
    "induction": Source(copying.induction, copying.draw_induction),
    "brackets": Source(deciding.brackets, deciding.draw_brackets),
    "quotes": Source(deciding.quotes, deciding.draw_quotes),
    "counting": Source(deciding.counting, deciding.draw_counting),
    "lookup": Source(deciding.lookup, deciding.draw_lookup),
    "composition": Source(copying.composition, copying.draw_composition),
    "distractor": Source(deciding.distractor, deciding.draw_distractor),
}


def make_program(name: str, seed: int = 0) -> Program:
    """A program of the table; `seed` is that of its pairs. Raises InputError for a name not in the table."""
    require_choice("program", name, PROGRAMS)
    source = PROGRAMS[name]
    return build(name, source.blueprint(), _task(name, source.draw, seed))


def _task(name: str, draw: Callable[[Random], Pair], seed: int) -> FileTask:
    """COUNT pairs of which no two share a prompt."""
    rng = Random(f"{name}/{seed}")
    seen: set[str] = set()
    pairs: list[Pair] = []
    while len(pairs) < COUNT:
        pair = draw(rng)
        if not seen & {pair.prompt, pair.counterfactual}:
            seen |= {pair.prompt, pair.counterfactual}
            pairs.append(pair)
    return pairs_task(pairs, name)
