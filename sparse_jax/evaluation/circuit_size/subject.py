"""A model under study, with what its closed nodes are held at."""

import dataclasses
from pathlib import Path

from sparse_jax.evaluation.ablation import held_values
from sparse_jax.evaluation.extraction import evaluator_on
from sparse_jax.evaluation.publish import METRICS, validation_loss
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.evaluate import Evaluator
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.means import load_means, save_means
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
    """The subject under `workdir`, where what its closed nodes are held at is kept.

    Raises InputError if that must be computed and the text is not what the model was trained on any more.
    """
    directory = workdir / name
    path = directory / "means.npz"
    if not path.exists():
        save_means(held_values(pretrained, prune), path)
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
