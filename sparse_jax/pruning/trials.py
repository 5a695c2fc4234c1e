"""The trials of a search for one task: what was pruned so far, on disk, and what to prune next."""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError, from_mapping, require
from sparse_jax.pruning.propose import Range, Told, cost, propose
from sparse_jax.runtime.writers import read_rows

JOURNAL = "trials.jsonl"


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How much is searched for a task: `rounds` of `lanes` prunings side by side.

    targets: the losses that proposals are made for, in turns; every pruning is told to all of them.
    Raises InputError naming `search.<field>`.
    """

    lanes: int = 8
    rounds: int = 4
    targets: tuple[float, ...] = (0.05, 0.15, 0.3)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lanes", "rounds"):
            require(getattr(self, name) >= 1, f"search.{name}", getattr(self, name), "at least 1")
        require(self.seed >= 0, "search.seed", self.seed, "at least 0")
        require_targets("search.targets", self.targets)


def require_targets(field: str, targets: Sequence[float]) -> None:
    """Raises InputError unless `targets` are one or more losses above 0, none twice."""
    valid = len(targets) > 0 and min(targets) > 0 and len(set(targets)) == len(targets)
    require(valid, field, targets, "one or more losses above 0, none twice")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The smallest circuit of a trial that reaches `target` on the validation split, or comes closest.

    loss: in nats; None where the pruning broke down, and has no circuit.
    """

    target: float
    nodes: int
    edges: int
    loss: float | None

    @property
    def cost(self) -> float:
        """What the search makes small."""
        return cost(self.edges, math.nan if self.loss is None else self.loss, self.target)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One pruning: its number (from 0), its searched parameters, and an outcome a target."""

    number: int
    parameters: dict[str, float]
    outcomes: tuple[Outcome, ...]

    def at(self, target: float) -> Outcome:
        """The outcome at one of the targets."""
        return next(one for one in self.outcomes if one.target == target)


class Trials:
    """Trials under a directory: a journal of JSON lines, and the gate logits of each trial as npz.

    A round is there whole or not at all, so that a search that was killed makes its last round again.
    """

    def __init__(self, directory: str | Path):
        self._directory = Path(directory)
        path = self._directory / JOURNAL
        try:
            self.trials = [_trial(row) for row in read_rows(path)]
        except (InputError, KeyError, TypeError) as error:
            raise InputError(f"{path}: {error}; valid: the journal of a search") from None

    def append_round(self, trials: Sequence[Trial], logits_R: Mapping[str, np.ndarray]) -> None:
        """Adds the trials of a round with their gate logits, stacked [R, ...] by name."""
        for i, trial in enumerate(trials):
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **{name: np.asarray(tau[i]) for name, tau in logits_R.items()})
            write_whole(self._logits_path(trial), buffer.getvalue())
        self.trials += trials
        lines = [json.dumps(dataclasses.asdict(trial)) + "\n" for trial in self.trials]
        write_whole(self._directory / JOURNAL, "".join(lines))

    def logits(self, trial: Trial) -> dict[str, np.ndarray]:
        """The gate logits of a trial. Raises InputError if their file is missing or damaged."""
        path = self._logits_path(trial)
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (OSError, ValueError) as error:
            raise InputError(f"trials: {path} cannot be read ({error})") from None

    def best(self, target: float, count: int = 1) -> list[Trial]:
        """The `count` best trials at `target`, best first; misses come behind, the closest first."""
        return sorted(self.trials, key=lambda trial: (trial.at(target).cost, trial.number))[:count]

    def _logits_path(self, trial: Trial) -> Path:
        return self._directory / "logits" / f"{trial.number:04d}.npz"


def _trial(row: dict) -> Trial:
    outcomes = tuple(from_mapping(Outcome, one, "outcome") for one in row["outcomes"])
    return Trial(row["number"], dict(row["parameters"]), outcomes)


def next_round(
    space: Mapping[str, Range], trials: Sequence[Trial], search: SearchConfig
) -> list[dict[str, float]]:
    """The parameters of the next `lanes` prunings; the same for the same trials.

    The first round is that of no task and no model: all start with the same draws around the center.
    """
    if not trials:
        return propose(space, [], search.lanes, search.seed)
    turns = np.arange(len(trials), len(trials) + search.lanes) % len(search.targets)
    proposals = []
    for turn, target in enumerate(search.targets):
        count = int((turns == turn).sum())
        told = [Told(trial.parameters, trial.at(target).cost) for trial in trials]
        seed = int(np.random.SeedSequence([search.seed, turn]).generate_state(1)[0])
        proposals += propose(space, told, count, seed) if count else []
    return proposals
