"""Sparse training by L0 regularization (hard-concrete gates) against keeping the largest weights.

python -m experiments.l0 --config=experiments/configs/l0.py

The quickstart's sparse model with other `sparsity`, for a quarter of its steps, every model for as many. It
may be stopped at any time; the same command continues. size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse

STEPS = 600
FRACTIONS = (0.2, 0.05, 0.02)
# nats for the share of open gates
PENALTIES = (1.0, 5.0, 20.0, 100.0)


def get_config(argument: str = "") -> ConfigDict:
    """`models` by name, each a RunConfig."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    models = {_name("topk", fraction): _model(size, fraction=fraction) for fraction in FRACTIONS}
    gates = {"method": "l0", "schedule": "constant", "min_per_channel": 0}
    for penalty in PENALTIES:
        models[_name("l0", penalty)] = _model(size, fraction=0.05, penalty=penalty, **gates)
    if size == "tiny":
        models = {name: models[name] for name in ("topk_0_2", "l0_20")}
    return ConfigDict({"workdir": "runs/l0" if size == "quickstart" else "runs/l0_tiny", "models": models})


def _name(method: str, setting: float) -> str:
    return f"{method}_{setting:g}".replace(".", "_")  # names of sections have no dots


def _model(size: str, **sparsity: object) -> dict:
    config = pretrain.get_config(f"size={size},kind=sparse").to_dict()
    # more of them do not fit into the smallest fraction
    config["sparsity"].update({"min_per_channel": 1, **sparsity})
    if size != "tiny":
        config["training"].update(steps=STEPS, checkpoint_every=200, evaluate_every=200)
    return config
