"""Pruning with the gate optimizer of METHOD 6, for as many steps as the peer.

python -m experiments.prune --config=experiments/configs/prune.py --model=... --tasks=... --output=...

A task takes minutes on 2 CPU cores for the quickstart's model; --config.steps=400 is enough for a first look.
In a wide model, short runs do better with gates that begin further apart, so that not all close at once:
--config.init_mean=0.3 --config.init_scale=0.1
"""

from ml_collections import ConfigDict

from experiments.configs.sections import pruning_section


def get_config() -> ConfigDict:
    """Every field of `PruneConfig` with its default."""
    return ConfigDict(pruning_section())
