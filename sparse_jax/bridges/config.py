"""The configuration of bridges: their size, their loss, and the run that trains them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from sparse_jax.inputs import from_mapping, require
from sparse_jax.model.config import ModelConfig
from sparse_jax.training.config import RunConfig

# The terms of the loss, in METHOD 9's order; each has a weight of the same name.
TERMS = ("cross_entropy", "encoder_nmse", "decoder_nmse", "dense_to_sparse_kl", "sparse_to_dense_kl")


@dataclasses.dataclass(frozen=True)
class BridgeConfig:
    """What bridges are made of, and how they are trained (METHOD 9).

    encoder_fraction: share of the sparse model's channels that AbsTopK keeps of what an encoder gives; 1
    keeps all. The next five are the weights of the loss terms; a term of weight 0 is not computed.
    train_sparse: whether the sparse model is trained too, or only the bridges. learning_rate: of the bridges,
    at its peak; the sparse model has that of the section `optimizer`, whose other fields hold for both.
    sparse, dense: fingerprints of the model that the sparse one starts from ("" for a fresh one) and of the
    dense one, set by `train_bridges`.

    Raises InputError naming `bridges.<field>`.
    """

    encoder_fraction: float = 0.25
    cross_entropy: float = 1.0
    encoder_nmse: float = 1.0
    decoder_nmse: float = 1.0
    dense_to_sparse_kl: float = 1.0
    sparse_to_dense_kl: float = 1.0
    train_sparse: bool = True
    learning_rate: float = 1e-2
    sparse: str = ""
    dense: str = ""

    def __post_init__(self) -> None:
        fraction = self.encoder_fraction
        require(0 < fraction <= 1, "bridges.encoder_fraction", fraction, "above 0, at most 1")
        require(self.learning_rate > 0, "bridges.learning_rate", self.learning_rate, "above 0")
        for term in TERMS:
            require(getattr(self, term) >= 0, f"bridges.{term}", getattr(self, term), "0 or more")
        require(any(self.weights.values()), "bridges", self.weights, "at least one weight above 0")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss term, by its name."""
        return {term: getattr(self, term) for term in TERMS}

    def kept(self, sparse: ModelConfig) -> int:
        """How many channels an encoder keeps."""
        return max(1, int(self.encoder_fraction * sparse.d_model))


@dataclasses.dataclass(frozen=True)
class BridgeRun(RunConfig):
    """Everything that determines bridges: the run of the sparse model, and the section `bridges`."""

    SECTIONS: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **RunConfig.SECTIONS,
        "bridges": lambda values: from_mapping(BridgeConfig, values, "bridges"),
    }

    bridges: BridgeConfig
