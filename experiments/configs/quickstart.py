"""The main path for a laptop: two models, five tasks, one report.

python -m experiments.quickstart --config=experiments/configs/quickstart.py

About 8 minutes on 2 CPU cores. Expect sparse circuits with several times fewer edges than dense ones at
the same task loss, from two models that predict text equally well: the dense one is trained until it does.
size=tiny takes half a minute and checks that everything works; its circuits are meaningless.
"""

from ml_collections import ConfigDict

from experiments.configs import pretrain
from experiments.configs.arguments import parse
from experiments.configs.sections import pruning_section

# both models do them with losses far below the target, whatever the arithmetic
TASKS = ("single_double_quote", "fstring_brace", "bracket_brace", "for_while", "while_return_true")


def get_config(argument: str = "") -> ConfigDict:
    """Sections `sparse` and `dense` (each a RunConfig), `pruning`, and the names of the tasks."""
    size = parse(argument, {"size": ("quickstart", "tiny")})["size"]
    config = ConfigDict(
        {
            "workdir": "runs/quickstart",
            "tasks": TASKS,
            "sparse": pretrain.get_config(f"size={size},kind=sparse"),
            "dense": pretrain.get_config(f"size={size},kind=dense"),
            "pruning": pruning_section(
                steps=300,
                pairs_per_step=16,
                train_pairs=1024,
                validation_pairs=128,
                test_pairs=256,
                learning_rate=0.02,
                k_coef=3e-3,
                confidence=1.64,
                swaps=False,
            ),
        }
    )
    if size == "tiny":
        # the few pairs of these two are of equal lengths, so that programs serve both
        config.tasks = ("class_init", "for_while")
        config.pruning.update(target_loss=10.0, steps=10, pairs_per_step=4, train_pairs=16)
        config.pruning.update(validation_pairs=8, test_pairs=8, mean_windows=8)
    else:
        # ends sooner, once it predicts as well as the sparse model, whose loss varies with the machine
        config.dense.training.update(steps=1400, evaluate_every=10)
    return config
