"""Effects of width, density, active share and schedule of the sparse model on loss and circuits.

python -m experiments.model_size --config=experiments/configs/model_size.py

Sparse models are trained for 2,400 steps; two hours on 2 CPU cores in total, half of it for width 512.
At a fixed number of nonzero weights (width 64 at 1/4, 128 at 1/16, 256 at 1/64, 512 at 1/256) wider models
should be better and have smaller circuits (METHOD 7). size=tiny checks in a minute that everything works.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse
from experiments.configs.sections import pruning_section

# name: (width, fraction of the weights kept)
DENSITIES = {
    "d64_4th": (64, 1 / 4),
    "d64_8th": (64, 1 / 8),
    "d128_8th": (128, 1 / 8),
    "d128_16th": (128, 1 / 16),
    "d128_32nd": (128, 1 / 32),
    "d256_32nd": (256, 1 / 32),
    "d256_64th": (256, 1 / 64),
    "d512_256th": (512, 1 / 256),
}
# d128_16th with one thing changed, by its section and field
CHANGED = {
    "active_8th": ("model", "activation_fraction", 0.125),
    "active_half": ("model", "activation_fraction", 0.5),
    "anneal_half": ("sparsity", "anneal_end", 0.5),
}
TASKS = (
    "single_double_quote",
    "fstring_brace",
    "set_or_string_fixedvarname",
    "for_while",
    "while_return_true",
)


def get_config(argument: str = "") -> ConfigDict:
    """Sections `models` (each a RunConfig), `pruning`; what was `changed` in each model; the tasks."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    models = {name: _sparse(size, *density) for name, density in DENSITIES.items()}
    for name, (section, field, value) in CHANGED.items():
        models[name] = _sparse(size, *DENSITIES["d128_16th"])
        models[name][section][field] = value
    models["dense"] = pretrain.get_config(f"size={size},kind=dense").to_dict()
    if size != "tiny":
        for name, model in models.items():
            model["training"]["steps"] = 1250 if name == "dense" else 2400
    pruning = {"steps": 300, "pairs_per_step": 16, "train_pairs": 1024, "validation_pairs": 128}
    config = ConfigDict(
        {
            "workdir": "runs/model_size",
            "models": models,
            "changed": {name: field for name, (_, field, _) in CHANGED.items()} | {"dense": "dense"},
            "tasks": TASKS,
            "pruning": pruning_section(
                **pruning, test_pairs=256, learning_rate=0.02, k_coef=3e-3, swaps=False
            ),
        }
    )
    if size == "tiny":
        config.models = {name: models[name] for name in ("d64_4th", "dense")}
        config.tasks = TASKS[:2]
        config.pruning.update(target_loss=10.0, steps=10, pairs_per_step=4, train_pairs=16)
        config.pruning.update(validation_pairs=8, test_pairs=8, mean_windows=8)
    return config


def _sparse(size: str, width: int, fraction: float) -> dict:
    config = pretrain.get_config(f"size={size},kind=sparse").to_dict()
    config["model"]["d_model"] = width
    config["sparsity"]["fraction"] = fraction
    if width > 256:  # four weights for every neuron would be more than the fraction allows
        config["sparsity"]["min_per_channel"] = 2
    return config
