"""Times compact circuits beside the gated models that they are folded from. One JSON line per circuit.

python -m experiments.bench.compact

Both give the logits after the last token of every test prompt, under mean ablation, and are run alternately.
FLOPs are what XLA counts in the program of four prompts, where nothing is run in a loop. Half a minute on one
CPU core.
"""

import jax
import jax.numpy as jnp
from absl import flags

from experiments import command
from experiments.bench.timing import interleaved, print_row
from experiments.flag_types import names_flag, path_flag
from sparse_jax.circuits.applied import circuit_hooks, values_of
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.model.forward import forward
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.find import find_task

MODELS = path_flag("models", "experiments/results/small", "a directory with one model for each side")
CIRCUITS = path_flag("circuits", "experiments/results/faithfulness/circuits", "SIDE/RECIPE/TASK.json in it")
CHOSEN = names_flag(
    "chosen",
    ["sparse/mean/single_double_quote", "sparse/mean/for_while", "sparse/strict/bracket_brace"]
    + ["sparse/strict/var_swap", "dense/mean/single_double_quote"],
    "which circuits",
)
PAIRS = flags.DEFINE_integer("pairs", 128, "test pairs, two prompts each", lower_bound=2)
REPEATS = flags.DEFINE_integer("repeats", 9, "calls of each; the median counts", lower_bound=1)


def measured(name: str) -> dict[str, object]:
    """The row of one circuit."""
    side, _, task = name.split("/")
    model, circuit = load_model(f"{MODELS.value}/{side}"), load_circuit(f"{CIRCUITS.value}/{name}.json")
    pairs = find_task(task).encode("test", PAIRS.value, 0, model.require_tokenizer(), model.config.context)
    tokens, last = jnp.asarray(pairs.tokens), jnp.asarray(pairs.last).ravel()
    tokens = tokens.reshape(-1, tokens.shape[-1])
    params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), tokens)
    small, params = jax.tree.map(jnp.asarray, (circuit.compact(model), params))
    gated = jax.jit(lambda params, *given: forward(model.config, params, given[0], hooks, given[1])[0])
    alone = jax.jit(lambda small, *given: small.forward(*given))
    runs = {"gated": (gated, params), "compact": (alone, small)}
    difference = gated(params, tokens, last)[:, list(small.outputs)] - alone(small, tokens, last)
    calls = {
        key: lambda run=run, of=of: jax.block_until_ready(run(of, tokens, last))
        for key, (run, of) in runs.items()
    }
    seconds, _ = interleaved(calls, REPEATS.value)
    flops = {
        key: run.lower(of, tokens[:4], last[:4]).compile().cost_analysis()["flops"]
        for key, (run, of) in runs.items()
    }
    return {
        "circuit": name,
        "edges": len(circuit.edges),
        "prompts": list(tokens.shape),
        **{f"ms_{key}": 1e3 * value for key, value in seconds.items()},
        "times_faster": seconds["gated"] / seconds["compact"],
        **{f"flops_{key}": value for key, value in flops.items()},
        "times_fewer_flops": flops["gated"] / flops["compact"],
        "largest_difference": float(abs(difference).max()),
    }


def main() -> None:
    """Prints a line for each circuit."""
    for name in CHOSEN.value:
        print_row(measured(name))


if __name__ == "__main__":
    command.run(main)
