"""Times the training of gates, compared with a large matrix product. One JSON line per number of lanes.

python -m experiments.bench.prune --lanes=1,2,4,8

The floor is the time of the forward and input-gradient products of all tokens at the speed of that product
(the best of before and after): gates need no other gradients. A compact model (`pruning.compact`) with 1/4 or
1/8 of all nodes comes close to it. The common beginning of a pair is computed once (--shared). Times are wall
times, and CPU times of all threads ("cpu"), which are less affected by other work on the machine. About 5
minutes on 2 quiet CPU cores.
"""

from absl import flags

from experiments import command
from experiments.bench.lane_steps import floor_flop, lanes_row, random_task
from experiments.bench.timing import print_row
from experiments.flag_types import names_flag
from sparse_jax.inputs import require
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig

LANES = names_flag("lanes", ["1", "2", "4", "8"], "numbers of lanes")
PARTS = names_flag("parts", ["4", "8"], "compact sizes, as divisors of the model's width")
WIDTH = flags.DEFINE_integer("d_model", 256, "width of the model")
LAYERS = flags.DEFINE_integer("n_layers", 4, "its layers")
VOCABULARY = flags.DEFINE_integer("vocab_size", 2048, "its tokens")
PAIRS = flags.DEFINE_integer("pairs", 64, "pairs per step, each two sequences")
TOKENS = flags.DEFINE_integer("tokens", 64, "tokens of a sequence")
SHARED = flags.DEFINE_integer("shared", 0, "number of first tokens that a pair's members share")
STEPS = flags.DEFINE_integer("steps", 10, "steps of a timed call, at most 50")
REPEATS = flags.DEFINE_integer("repeats", 3, "timed calls; the best one counts")


def main() -> None:
    """Prints a line for each number of lanes (for 1: the loop over single lanes).

    Then prints one for each compact size, with the last number of lanes.
    """
    for field, numbers in (("--lanes", LANES.value), ("--parts", PARTS.value)):
        for n in numbers:
            require(n.isdecimal() and int(n) > 0, field, n, "whole numbers such as 1,2,4")
    config = ModelConfig(VOCABULARY.value, n_layers=LAYERS.value, d_model=WIDTH.value)
    prune = PruneConfig(pairs_per_step=PAIRS.value)
    task = random_task(config, PAIRS.value, TOKENS.value, SHARED.value)
    floor = floor_flop(config, 2 * PAIRS.value * TOKENS.value)
    counts = [int(count) for count in LANES.value]
    for count, part in [(count, 1) for count in counts] + [(counts[-1], int(part)) for part in PARTS.value]:
        row = lanes_row(config, prune, task, floor, count, part, STEPS.value, REPEATS.value)
        print_row({**row, "shared_tokens": SHARED.value})


if __name__ == "__main__":
    command.run(main)
