"""How much of a known circuit is found: programs written as weights, four methods, alone and amid extras.

python -m experiments.ground_truth --extras --seed=10 --output=experiments/results/ground_truth

Ten minutes on 2 busy CPU cores, some seconds a program and seed. Learned gates should find all nodes and
edges and no others, and rank them with an AUROC of 1.0, at least 0.98 amid extras.
"""

import itertools

from absl import flags

from experiments import command
from experiments.flag_types import names_flag, path_flag
from experiments.studies.recovery_table import markdown
from sparse_jax.faithfulness.extras import with_extras
from sparse_jax.faithfulness.known_programs import PROGRAMS, make_program
from sparse_jax.faithfulness.rankings import METHODS, measure_recovery
from sparse_jax.files import json_lines, require_writable, user_path, write_whole
from sparse_jax.inputs import require, require_choice

NAMES = names_flag("programs", ["all"], f"names, or all: {', '.join(PROGRAMS)}")
EXTRAS = flags.DEFINE_bool("extras", False, "also amid random weights, neurons, heads and channels")
SEED = flags.DEFINE_integer("seed", 0, "the first seed, of pairs, extras and methods", 0)
SEEDS = flags.DEFINE_integer("seeds", 3, "how many seeds", 1)
OUTPUT = path_flag("output", None, "the folder of rows.jsonl and table.md", required=True)


def main() -> None:
    """Measures every method on every program and writes a row each, then the table."""
    names = list(PROGRAMS) if NAMES.value == ["all"] else NAMES.value
    require(len(names) > 0, "--programs", names, "one or more names, or all")
    for name in names:
        require_choice("--programs", name, PROGRAMS)
    path = user_path(OUTPUT.value) / "rows.jsonl"
    require_writable(path)
    rows = []
    seeds = range(SEED.value, SEED.value + SEEDS.value)
    for name, extras, seed in itertools.product(names, (False, True) if EXTRAS.value else (False,), seeds):
        alone = make_program(name, seed)
        program = with_extras(alone, seed) if extras else alone
        for method in METHODS:
            figures = measure_recovery(program, method, seed)
            rows.append({"program": name, "extras": extras, "method": method, "seed": seed, **figures})
    write_whole(path, json_lines(rows))
    write_whole(path.with_name("table.md"), markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    command.run(main)
