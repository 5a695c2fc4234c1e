"""The pair of models that the studies prune, and the tasks that they are measured on.

python -m experiments.small --config=experiments/configs/small.py --output=runs/small/published

Under an hour on one CPU core. Expect two models of equal validation loss (within 0.01 nats a token on the
mixture), each with a loss below 0.15 nats on all 20 tasks. size=wide is the wider pair: two to three hours on
2 CPU cores, and the dense model misses one task.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse


def get_config(argument: str = "") -> ConfigDict:
    """Sections `sparse` and `dense` (each a RunConfig), and how many pairs of each task to measure on."""
    size = parse(argument, {"size": ("small", "wide", "tiny")})["size"]
    return ConfigDict(
        {
            "workdir": "runs/wide" if size == "wide" else "runs/small",
            "sparse": pretrain.get_config(f"size={size},kind=sparse"),
            "dense": pretrain.get_config(f"size={size},kind=dense"),
            "test_pairs": 8 if size == "tiny" else 256,
        }
    )
