"""A model to prune, with its ablation values and a store for its circuits."""

import dataclasses
import functools
import os
from collections.abc import Mapping

import numpy as np

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.applied import values_hash
from sparse_jax.circuits.gates import Gates
from sparse_jax.data.corpus import Corpus
from sparse_jax.model.sites import node_shapes
from sparse_jax.models.means import ablation_values, check_corpus, text_windows
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.store import Store
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.task_data import TaskData
from sparse_jax.trees import fingerprint


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, the means of its nodes by site, a store and, for resampling from it, windows of its text."""

    model: Model
    values: Gates
    store: Store
    text: np.ndarray | None = None

    @functools.cached_property
    def origin(self) -> dict[str, str]:
        """Hashes of the weights, of the ablation values and of the text, if there is one."""
        found = {"weights": self.model.fingerprint, "values": values_hash(self.values)}
        return found if self.text is None else {**found, "text": fingerprint(self.text)[:16]}

    def about(self, data: TaskData, prune: PruneConfig) -> dict[str, str]:
        """What a result is of, beside the settings in `repr(prune)`: hashes, and later settings if given."""
        later = {
            name: repr(getattr(prune, name)) for name in ("constants", "forbidden") if getattr(prune, name)
        }
        if prune.gate != "step":
            later["gate"] = prune.gate
        return {**self.origin, "pairs": data.fingerprint, **later}

    def judge(self, pairs: EncodedPairs, prune: PruneConfig) -> Judge:
        """A judge of the model's circuits on the pairs of a split."""
        config, params = self.model.config, self.model.params
        return Judge(
            config,
            params,
            self.values,
            pairs,
            prune.judged_by,
            prune.frozen_norms,
            ablation=prune.ablation,
            draws=prune.draws,
            text=self.text,
            seed=prune.seed,
            confidence=prune.confidence,
            removal=prune.is_removal,
        )

    def fresh_judge(self, data: TaskData, prune: PruneConfig) -> Judge | None:
        """The judge that confirms circuits; None if nothing is confirmed."""
        return None if data.confirmation is None else self.judge(data.confirmation, prune)

    def loss(self, pairs: EncodedPairs, prune: PruneConfig, gates: Mapping | None = None) -> float:
        """The mean loss in nats on `pairs`, of a circuit or (without gates) of the full model."""
        judge = self.judge(pairs, prune)
        losses_M = judge.losses(gates) if gates else judge.full_losses(self.open_gates(prune))
        return judge.summary(losses_M).mean

    def open_gates(self, prune: PruneConfig) -> dict[str, np.ndarray]:
        """Open gates on all nodes that are pruned: the full model."""
        shapes = node_shapes(self.model.config, prune.sites)
        return {site: np.ones(shape, np.float32) for site, shape in shapes.items()}

    def full_loss(self, data: TaskData, prune: PruneConfig) -> float:
        """The full model's loss on the validation split."""
        return self.loss(data.validation, prune)


def prepare_subject(
    model: Model,
    prune: PruneConfig,
    directory: str | os.PathLike | None = None,
    corpus: Corpus | None = None,
) -> Subject:
    """Measures the means of the nodes of `model` on its training text, and saves them in `directory`.

    corpus: that text, if already loaded. Raises InputError if it is not the model's, or has changed since the
    model was trained.
    """
    if corpus is not None:
        check_corpus(model, corpus)
    values = ablation_values(model, prune.ablation_sites, prune.mean_windows, corpus)
    text = text_windows(model, prune.mean_windows, corpus) if "resample_text" in prune.kinds else None
    store = Store(directory)
    store.keep_values(values, model.fingerprint)
    return Subject(model, values, store, text)
