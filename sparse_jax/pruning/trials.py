"""The trials of a search for one task: those made so far, on disk, and what to try next."""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from sparse_jax.files import read_arrays, user_path, write_whole
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.pruning.proposals import Range, Told, cost, propose
from sparse_jax.pruning.recipe import SearchConfig
from sparse_jax.runtime.writers import read_rows
from sparse_jax.trees import Arrays

JOURNAL = "trials.jsonl"
# What circuits keep of the search that found them, as `Trials.about` gives it.
SEARCHED = ("prunings", "searched", "optimized_gates", "optimized_loss")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The smallest circuit of a trial that reaches `target` on the validation split, or comes closest.

    loss: in nats; None if the pruning broke down, so that there is no circuit.
    """

    target: float
    nodes: int
    edges: int
    loss: float | None

    @property
    def cost(self) -> float:
        """What the search minimizes."""
        return cost(self.edges, math.nan if self.loss is None else self.loss, self.target)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One pruning: its number (from 0), its searched parameters and, in a search, one outcome per target.

    open_gates, loss: at the last step, on its batch; the loss is None if the pruning broke down.
    """

    number: int
    parameters: dict[str, float]
    outcomes: tuple[Outcome, ...]
    open_gates: int = 0
    loss: float | None = None

    @property
    def failed(self) -> bool:
        """Whether it broke down."""
        return self.loss is None

    def at(self, target: float) -> Outcome:
        """The outcome at one of the targets."""
        return next(one for one in self.outcomes if one.target == target)


class Trials:
    """The trials so far with their gate logits; in a directory, a journal and one npz file per trial.

    Rounds are written atomically, so a killed search repeats its last round. identity: a hash of what the
    search is of, which circuits that it found keep.
    """

    def __init__(self, directory: str | Path | None, identity: str = ""):
        self.identity = identity
        self._directory = None if directory is None else user_path(directory)
        self._logits: dict[int, dict[str, np.ndarray]] = {}
        self.trials: list[Trial] = []
        if self._directory is not None:
            path = self._directory / JOURNAL
            try:
                self.trials = [_trial(row) for row in read_rows(path)]
            except (InputError, KeyError, TypeError) as error:
                raise InputError(f"{path}: {error}; valid: the journal of a search") from None

    @property
    def about(self) -> dict[str, object]:
        """What a circuit's provenance says about the prunings that it was chosen from."""
        return {"prunings": len(self.trials), "searched": self.identity, **self.first}

    @property
    def first(self) -> dict[str, object]:
        """How the first pruning that did not break down ended; two searches do not have the same."""
        first = next((trial for trial in self.trials if not trial.failed), None)
        return {"optimized_gates": first.open_gates, "optimized_loss": first.loss} if first else {}

    def append_round(self, trials: Sequence[Trial], logits_R: Arrays) -> None:
        """Adds the trials of a round with their gate logits, stacked [R, ...] by name."""
        for i, trial in enumerate(trials):
            logits = {name: np.asarray(tau[i]) for name, tau in logits_R.items()}
            if self._directory is None:
                self._logits[trial.number] = logits
                continue
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **cast(Any, logits))  # its stub lacks names of arrays
            write_whole(_logits_path(self._directory, trial), buffer.getvalue())
        self.trials += trials
        if self._directory is not None:
            lines = [json.dumps(dataclasses.asdict(one), allow_nan=False) + "\n" for one in self.trials]
            write_whole(self._directory / JOURNAL, "".join(lines))

    def logits(self, trial: Trial) -> dict[str, np.ndarray]:
        """The gate logits of a trial. Raises InputError if their file is missing or damaged."""
        if self._directory is None:
            return self._logits[trial.number]
        path = _logits_path(self._directory, trial)
        try:
            return read_arrays(path)
        except (OSError, ValueError) as error:
            raise InputError(f"trials: {path} cannot be read ({error})") from None

    def best(self, target: float, count: int = 1) -> list[Trial]:
        """The `count` best trials at `target`, best first; misses come last, the closest first."""
        return sorted(self.trials, key=lambda trial: (trial.at(target).cost, trial.number))[:count]

    def finalists(self, search: SearchConfig, targets: Sequence[float]) -> list[dict[str, np.ndarray]]:
        """The gate logits of the trials to compare exactly; none if every pruning broke down."""
        chosen = {trial.number: trial for trial in self.trials}
        if search.rounds:
            best = [trial for target in targets for trial in self.best(target, search.finalists)]
            chosen = {trial.number: trial for trial in best}
        return [self.logits(trial) for trial in chosen.values() if not trial.failed]


def _logits_path(directory: Path, trial: Trial) -> Path:
    return directory / "logits" / f"{trial.number:04d}.npz"


def _trial(row: dict) -> Trial:
    outcomes = tuple(from_mapping(Outcome, one, "outcome") for one in row["outcomes"])
    return Trial(row["number"], dict(row["parameters"]), outcomes, row["open_gates"], row["loss"])


def next_round(
    space: Mapping[str, Range], trials: Sequence[Trial], search: SearchConfig, targets: Sequence[float]
) -> list[dict[str, float]]:
    """The parameters of the next `lanes` prunings; the same for the same trials.

    targets: what proposals aim at, in turn. The first round does not depend on the task or the model: all
    start with the same draws around the center. Without rounds, every lane is at the center.
    """
    if not search.rounds:
        return [{}] * search.lanes
    if not trials:
        return propose(space, [], search.lanes, search.seed)
    turns = np.arange(len(trials), len(trials) + search.lanes) % len(targets)
    proposals = []
    for turn, target in enumerate(targets):
        count = int((turns == turn).sum())
        told = [Told(trial.parameters, trial.at(target).cost) for trial in trials]
        seed = int(np.random.SeedSequence([search.seed, turn]).generate_state(1)[0])
        proposals += propose(space, told, count, seed) if count else []
    return proposals
