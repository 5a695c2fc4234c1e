"""Sparse training by L0 regularization (hard-concrete gates) against keeping the largest weights.

python -m experiments.l0 --config=experiments/configs/l0.py

The quickstart's sparse model, half as wide, with other `sparsity`; all models see the same 500 batches of 8.
Minutes a model on a busy core. It may be stopped at any time; the same command continues. size=tiny checks in
a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse

STEPS, BATCH, WIDTH = 500, 8, 64
FRACTIONS = (0.2, 0.05, 0.02)
# nats for the share of open gates
PENALTIES = (1.0, 4.0, 15.0, 60.0)


def get_config(argument: str = "") -> ConfigDict:
    """`models` by name, each a RunConfig."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    models = {_name("topk", fraction): _model(size, fraction=fraction) for fraction in FRACTIONS}
    gates = {"method": "l0", "schedule": "constant", "min_per_channel": 0}
    for penalty in PENALTIES:
        models[_name("l0", penalty)] = _model(size, fraction=0.05, penalty=penalty, **gates)
    if size == "tiny":
        models = {name: models[name] for name in ("topk_0_2", "l0_15")}
    return ConfigDict({"workdir": "runs/l0" if size == "quickstart" else "runs/l0_tiny", "models": models})


def _name(method: str, setting: float) -> str:
    return f"{method}_{setting:g}".replace(".", "_")  # names of sections have no dots


def _model(size: str, **sparsity: object) -> dict:
    config = pretrain.get_config(f"size={size},kind=sparse").to_dict()
    # more of them do not fit into the smallest fraction
    config["sparsity"].update({"min_per_channel": 1, **sparsity})
    if size != "tiny":
        config["model"]["d_model"] = WIDTH
        config["training"].update(steps=STEPS, batch_size=BATCH, checkpoint_every=250, evaluate_every=250)
    return config
