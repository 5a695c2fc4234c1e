"""Config sections with all fields of their dataclasses, so that flags can override any of them."""

import dataclasses

from ml_collections import config_dict

from sparse_jax.data.config import KINDS, DataConfig
from sparse_jax.model.config import ModelConfig
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.config import TrainConfig
from sparse_jax.training.optimizer import OptimizerConfig


def run_sections(sections: dict[str, dict]) -> dict[str, dict]:
    """The five sections of a `RunConfig`, completed by the defaults."""
    data = {**_defaults(DataConfig), **sections["data"]}
    data["sources"] = {name: source(**given) for name, given in data["sources"].items()}
    return {
        "model": {**_defaults(ModelConfig), **sections["model"]},
        "sparsity": {**_defaults(SparsityConfig), **sections["sparsity"]},
        "optimizer": {**_defaults(OptimizerConfig), **sections["optimizer"]},
        "data": data,
        "training": {**_defaults(TrainConfig), **sections["training"]},
    }


def pruning_section(**given: object) -> dict[str, object]:
    """The fields of a `PruneConfig`."""
    return {**_defaults(PruneConfig), **given}


def small_pair_pruning(**given: object) -> dict[str, object]:
    """The settings of the studies of the small pair, where `given` does not say otherwise."""
    pruning = {
        "steps": 300,
        "pairs_per_step": 16,
        "train_pairs": 1024,
        "validation_pairs": 128,
        "test_pairs": 256,
        # centers for a model this small; METHOD 6 has 1e-4 and 3e-3 for models a hundred times larger
        "k_coef": 3e-3,
        "learning_rate": 7e-3,
        # the published circuits were found without
        "swaps": False,
    }
    return pruning_section(**{**pruning, **given})


def source(kind: str, weight: float = 1.0, **given: object) -> dict[str, object]:
    """A source of text, with the fields that its kind uses."""
    return {"kind": kind, "weight": weight, **_typed({**KINDS[kind], **given})}


def _defaults(cls: type) -> dict[str, object]:
    return _typed(
        {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    )


def _typed(fields: dict[str, object]) -> dict[str, object]:
    """None has no type that a flag could be read as; all that may be None are whole numbers."""
    return {name: config_dict.placeholder(int) if v is None else v for name, v in fields.items()}
