"""A model under study, with what its closed nodes are ablated to."""

import dataclasses
from pathlib import Path

from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.values import ablation_values, load_means, save_means
from sparse_jax.circuits.gates import Gates
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import judge_on
from sparse_jax.tasks.encode import EncodedPairs


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model by the name that it has in a study.

    weights: a hash of them. means: by site, of this model. directory: where its trials and circuits go.
    """

    name: str
    model: Model
    weights: str
    means: Gates
    directory: Path

    def judge(self, pairs: EncodedPairs, prune: PruneConfig) -> Judge:
        """What circuits of the model are judged by on the pairs of a split."""
        return judge_on(self.model, pairs, self.means, prune)


def prepare_subject(name: str, model: Model, weights: str, prune: PruneConfig, workdir: Path) -> Subject:
    """The subject under `workdir`, where its ablation values are kept.

    Raises InputError if that must be computed and the text is not what the model was trained on any more.
    """
    directory = workdir / name
    path = directory / "means.npz"
    if not path.exists():
        save_means(
            ablation_values(model, prune.ablation_sites, prune.mean_windows, prune.ablation), path, weights
        )
    return Subject(name, model, weights, load_means(path, weights), directory)
