"""A model under study, with what its closed nodes are held at."""

import dataclasses
from pathlib import Path

from sparse_jax.data.corpus import prepare
from sparse_jax.evaluation.extraction import evaluator_on
from sparse_jax.evaluation.publish import METRICS, validation_loss
from sparse_jax.evaluation.suite import training_windows
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.evaluate import Evaluator
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.means import load_means, node_means, save_means
from sparse_jax.sparsity.statistics import total_nonzero
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.training.pretrained import Pretrained


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model by the name that it has in a study.

    weights: a hash of them. means: by site, of this model. directory: where its trials and circuits go.
    """

    name: str
    pretrained: Pretrained
    weights: str
    means: Gates
    directory: Path

    def judge(self, pairs: EncodedPairs, prune: PruneConfig) -> Evaluator:
        """What circuits of the model are judged by on the pairs of a split."""
        return evaluator_on(self.pretrained, pairs, self.means, prune)


def prepare_subject(
    name: str, pretrained: Pretrained, weights: str, prune: PruneConfig, workdir: Path
) -> Subject:
    """The subject under `workdir`; what closed nodes are held at is computed from its training text, once.

    Raises InputError if the text is not what the model was trained on any more.
    """
    directory = workdir / name
    path = directory / "means.npz"
    if not path.exists():
        corpus = prepare(pretrained.run.data, pretrained.config.vocab_size)
        if corpus.tokenizer.to_str() != pretrained.tokenizer.to_str():
            raise InputError(
                f"data: the text of {pretrained.origin} has changed since: its tokenizer is another now; "
                "valid: the data that the model was trained on"
            )
        windows = training_windows(corpus, prune.mean_windows, pretrained.config.context)
        means = node_means(pretrained.config, pretrained.params, windows)
        if prune.fill == "zero":
            means = {site: 0 * mean for site, mean in means.items()}
        save_means(means, path)
    return Subject(name, pretrained, weights, load_means(path), directory)


def describe_model(pretrained: Pretrained, weights: str, place: Path) -> dict[str, object]:
    """Where a model lies, the hash and the nonzero counts of its weights, its validation loss if known."""
    metrics = (place / METRICS).exists()
    return {
        "place": str(place),
        "weights": weights,
        "nonzero": {name: int(count) for name, count in total_nonzero(pretrained.params).items()},
        "validation_loss": validation_loss(place) if metrics else None,
    }
