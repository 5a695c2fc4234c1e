"""Times the judging of a circuit's variants, with the nodes that all of them leave closed left out or not.

python -m experiments.bench.variants

Each variant closes another unit of a stored circuit, as elimination does. One JSON line per circuit; both
ways are run alternately, compiled before. Half a minute on one CPU core.
"""

from unittest import mock

import numpy as np
from absl import flags

from experiments import command
from experiments.bench.timing import interleaved, print_row
from experiments.flag_types import names_flag, path_flag
from sparse_jax.circuits import narrowing
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.circuits.ranking import number_units
from sparse_jax.models.formats import load_model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.subject import prepare_subject
from sparse_jax.tasks.find import find_task

MODELS = path_flag("models", "experiments/results/small", "a directory with one model for each side")
CIRCUITS = path_flag("circuits", "experiments/results/faithfulness/circuits", "SIDE/mean/TASK.json in it")
CHOSEN = names_flag(
    "chosen", ["sparse/single_double_quote", "sparse/for_while", "dense/for_while"], "which circuits"
)
REPEATS = flags.DEFINE_integer("repeats", 5, "calls of each; the median counts", lower_bound=1)
VARIANTS, PAIRS = 16, 32


def measured(name: str) -> dict[str, object]:
    """The row of one circuit."""
    side, task = name.split("/")
    model = load_model(f"{MODELS.value}/{side}")
    circuit = load_circuit(f"{CIRCUITS.value}/{side}/mean/{task}.json")
    pairs = find_task(task).encode("test", PAIRS, 0, model.require_tokenizer(), model.config.context)
    prune = PruneConfig()
    judge, gates = prepare_subject(model, prune).judge(pairs, prune), circuit.gates(model.config)
    units = number_units(gates, tied=True)
    ranks, each = units.ranks(np.arange(units.count)), np.arange(min(VARIANTS, units.count))
    closed = np.stack([each, each + 1], axis=1)

    def at_full_width() -> np.ndarray:
        with mock.patch.object(narrowing, "PARTS", (1,)):
            return judge.variants(gates, ranks, closed)

    calls = {"narrow": lambda: judge.variants(gates, ranks, closed), "full": at_full_width}
    difference = abs(calls["narrow"]() - calls["full"]()).max()
    seconds, _ = interleaved(calls, REPEATS.value)
    return {
        "circuit": name,
        "variants": len(closed),
        "pairs": PAIRS,
        **{f"ms_{key}": 1e3 * value for key, value in seconds.items()},
        "times_faster": seconds["full"] / seconds["narrow"],
        "largest_difference": float(difference),
    }


def main() -> None:
    """Prints a line for each circuit."""
    for name in CHOSEN.value:
        print_row(measured(name))


if __name__ == "__main__":
    command.run(main)
