"""A model to prune, with its ablation values and a store for its circuits."""

import dataclasses
import functools
import os
from collections.abc import Mapping

from sparse_jax.ablation.applied import values_hash
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.values import ablation_values, check_corpus
from sparse_jax.circuits.gates import Gates
from sparse_jax.data.corpus import Corpus
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.task_data import TaskData
from sparse_jax.tasks.encode import EncodedPairs


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, its ablation values by site, and a store."""

    model: Model
    values: Gates
    store: Store

    @functools.cached_property
    def origin(self) -> dict[str, str]:
        """Hashes of the weights and of the ablation values."""
        return {"weights": self.model.fingerprint, "values": values_hash(self.values)}

    def judge(self, pairs: EncodedPairs, prune: PruneConfig) -> Judge:
        """A judge of the model's circuits on the pairs of a split."""
        config, params = self.model.config, self.model.params
        return Judge(config, params, self.values, pairs, prune.judged_by, prune.frozen_norms)

    def loss(self, pairs: EncodedPairs, prune: PruneConfig, gates: Mapping | None = None) -> float:
        """The mean loss in nats on `pairs`, of a circuit or (without gates) of the full model."""
        return float(self.judge(pairs, prune).losses(gates or {}).mean())

    def full_loss(self, data: TaskData, prune: PruneConfig) -> float:
        """The full model's loss on the validation split."""
        return self.loss(data.validation, prune)


def prepare_subject(
    model: Model,
    prune: PruneConfig,
    directory: str | os.PathLike | None = None,
    corpus: Corpus | None = None,
) -> Subject:
    """Measures the ablation values of `model` on its training text, and saves them in `directory`.

    corpus: that text, if already loaded. Raises InputError if it is not the model's, or has changed since the
    model was trained.
    """
    if corpus is not None:
        check_corpus(model, corpus)
    values = ablation_values(model, prune.ablation_sites, prune.mean_windows, prune.ablation, corpus)
    store = Store(directory)
    store.keep_values(values, model.fingerprint)
    return Subject(model, values, store)
