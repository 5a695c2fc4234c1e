"""Pretraining one model.

python -m experiments.train --config=experiments/configs/pretrain.py:size=tiny,kind=sparse --workdir=runs/tiny

size=tiny        trains in seconds, to check that everything works
size=quickstart  minutes on 2 CPU cores; the models of `bash launch/quickstart.sh`
size=small       under an hour on one CPU core for both models; the models of `experiments/small.py`
size=wide        two to three hours on 2 CPU cores; the models of `experiments/small.py` with size=wide
size=paper       the 8-layer, 2048-wide model of the paper on 32 billion tokens, for a pod
kind=sparse|dense
"""

from ml_collections import ConfigDict

from experiments.configs.arguments import parse
from experiments.configs.sections import run_sections
from sparse_jax.training.presets import sections


def get_config(argument: str = "") -> ConfigDict:
    """A config with the sections of `RunConfig`."""
    sizes = ("quickstart", "tiny", "small", "wide", "paper")
    choice = parse(argument, {"size": sizes, "kind": ("sparse", "dense")})
    return ConfigDict(run_sections(sections(choice["size"], choice["kind"])))
