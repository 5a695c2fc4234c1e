"""Times a training step of a plain dense GPT-2 in PyTorch, in the sizes of `bench.step`. One JSON line each.

pip install -e '.[torch]'
python -m experiments.bench.torch_step --sizes=S,M,L

The baseline for our dense step: untied embeddings, RMSNorm, exact GELU, fused causal attention, gradients
clipped to 1, fused AdamW, float32. Weights and tokens are random. Run it on an otherwise idle machine.
"""

import json

from absl import flags

from experiments import command
from experiments.bench.timing import interleaved
from experiments.bench.torch_gpt2 import gpt2
from experiments.bench.train_steps import SIZES, Size
from experiments.flag_types import names_flag
from sparse_jax.inputs import InputError, require_choice

NAMES = names_flag("sizes", ["S", "M", "L"], f"among {', '.join(SIZES)}")
REPEATS = flags.DEFINE_integer("repeats", 9, "timed steps")


def main() -> None:
    """Prints a line for each size."""
    for name in NAMES.value:
        require_choice("--sizes", name, SIZES)
    for name in NAMES.value:
        size = SIZES[name]
        seconds, load = interleaved({"torch": training_step(size)}, REPEATS.value)
        row = {"size": name, "variant": "torch_dense", "ms": 1e3 * seconds["torch"]}
        row["useful_gflops"] = 1e-9 * size.useful_flop / seconds["torch"]
        row["foreign_load"] = load
        print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}))


def training_step(size: Size):
    """A function that makes one update. Raises InputError if PyTorch is missing."""
    try:
        import torch
    except ImportError:
        raise InputError("bench.torch_step: needs PyTorch; valid: pip install -e '.[torch]'") from None
    torch.manual_seed(0)
    model = gpt2(size.vocab_size, size.context, size.n_layers, size.d_model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    tokens = torch.randint(size.vocab_size, (size.batch_size, size.context + 1))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens[:, :-1]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    command.run(main)
