"""A sparse model of twice the published width and its dense partner, trained and pruned in a folder."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.bench.cases import Case
from experiments.configs import circuit_size
from experiments.studies.comparison import SIDES, side
from experiments.studies.pair import METRICS, validation_loss
from sparse_jax.files import write_whole
from sparse_jax.inputs import from_mapping
from sparse_jax.models.compact import write_compact
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import publish_means, publish_text
from sparse_jax.models.model import Model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.prune import prune_tasks
from sparse_jax.pruning.recipe import Recipe, SearchConfig
from sparse_jax.runtime.writers import read_rows
from sparse_jax.sparsity.statistics import total_nonzero
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.task_data import task_data
from sparse_jax.training import presets
from sparse_jax.training.config import RunConfig
from sparse_jax.training.loop import train

# Which dense model has the sparse one's loss is known once they are trained: width, width of a head, steps.
DENSE = ((32, 8, 3090), (40, 10, 3950), (40, 10, 9000), (48, 12, 9000))


@dataclasses.dataclass(frozen=True)
class Pair:
    """Configs by name, the first of the sparse model, the others of dense ones; tasks and their recipe."""

    folder: Path
    runs: Mapping[str, RunConfig]
    tasks: Sequence[str]
    recipe: Recipe

    def cases(self, part: str) -> Iterator[Case]:
        """Trains all models, then prunes the sparse one and its partner for one task after the other."""
        for name in self.runs:
            yield Case(part, {"trained": name}, functools.partial(self._train, name), resumes=True)
        for task in self.tasks:
            for model in SIDES:
                about = {"side": model, "task": task}
                yield Case(part, about, functools.partial(self._prune, model, task))

    @property
    def partner(self) -> str:
        """The dense model whose validation loss is closest to the sparse one's."""
        sparse, *dense = ((name, validation_loss(self.folder / "runs" / name)) for name in self.runs)
        return min(dense, key=lambda one: abs(one[1] - sparse[1]))[0]

    def _train(self, name: str) -> list[dict[str, object]]:
        """Also writes the model to models/NAME, with what `experiments.small` writes beside it."""
        run, workdir, output = self.runs[name], self.folder / "runs" / name, self.folder / "models" / name
        model = train(run, workdir, f"train {name}")
        write_compact(model, output)
        publish_means(model, output)
        publish_text(model, output)
        write_whole(output / METRICS, (workdir / METRICS).read_text())
        speeds = [row["tokens_per_second"] for row in read_rows(workdir / METRICS) if "loss" in row]
        return [
            {
                "d_model": run.model.d_model,
                "steps": run.training.steps,
                "nonzero": int(total_nonzero(model.params)["layers"]),
                "validation": validation_loss(workdir),
                "tokens_per_second": sorted(speeds)[len(speeds) // 2],
            }
        ]

    def _prune(self, model: str, task: str) -> list[dict[str, object]]:
        name = next(iter(self.runs)) if model == "sparse" else self.partner
        place, prune = self.folder / "models" / name, self.recipe.prune
        loaded = _loaded(place)
        data = task_data(find_task(task), loaded.require_tokenizer(), loaded.config.context, prune.counts)
        where = self.folder / "circuits" / name
        (circuit,) = prune_tasks(loaded, None, [data], self.recipe, where, f"prune {name}")
        found = {"left_out": "beyond the model"} if circuit is None else dataclasses.asdict(side(circuit))
        return [{"model": name, **found}]


@functools.lru_cache(maxsize=2)
def _loaded(place: Path) -> Model:
    return load_model(place)


def wide_pair(folder: Path, size: str) -> Pair:
    """The pair in `folder`; size "full" or "tiny"."""
    changes = {"data.directory": str(folder / "data")}
    config = circuit_size.get_config(f"size={size}").to_dict()
    if size == "full":
        runs = {"sparse": presets.wide("sparse", **changes)}
        for width, head, steps in DENSE:
            about = {"d_model": width, "d_head": head, "training.steps": steps}
            runs[f"dense_{width}_{steps}"] = presets.wide("dense", **about, **changes)
    else:
        changes |= {"training.steps": 2, "training.evaluate_every": 0}
        runs = {kind: presets.tiny(kind, **changes) for kind in SIDES}
        config["tasks"] = config["tasks"][:1]
        config["search"]["rounds"] = 1
        config["pruning"]["target_loss"] = 2.0
    recipe = Recipe(
        from_mapping(PruneConfig, config["pruning"], "pruning"),
        from_mapping(SearchConfig, config["search"], "search"),
    )
    return Pair(folder, runs, config["tasks"], recipe)
