"""Training with three gradients of AbsTopK where a row has fewer nonzero entries than are kept.

python -m experiments.ties --config=experiments/configs/ties.py

The quickstart's sparse model, for fewer steps and without positions, as in the paper: those that are added
are dense, so that no row of this repository's other models has a tie. Minutes a model on a busy core. It may
be stopped at any time; the same command continues. size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse
from experiments.studies.ties import RULES

STEPS = 400


def get_config(argument: str = "") -> ConfigDict:
    """`model`, a RunConfig; the `rules` and the `seeds` that it is trained with."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    model = pretrain.get_config(f"size={size},kind=sparse").to_dict()
    model["model"]["positions"] = "none"
    if size != "tiny":
        model["training"].update(steps=STEPS, checkpoint_every=200, evaluate_every=200)
    return ConfigDict(
        {
            "workdir": "runs/ties" if size == "quickstart" else "runs/ties_tiny",
            "model": model,
            "rules": tuple(RULES),
            "seeds": (0, 1) if size == "quickstart" else (0,),
        }
    )
