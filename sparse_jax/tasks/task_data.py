"""The pairs of a task as pruning needs them: encoded, split, padded, and known by their hash."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.inputs import InputError, require_choice
from sparse_jax.tasks.controls import ControlTask
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.task import Task, shift_split
from sparse_jax.trees import fingerprint

SPLITS = ("train", "validation", "test")


class Counts(NamedTuple):
    """How many pairs there are, of which kinds of shift, drawn from which seed; as in `PruneConfig`."""

    train_pairs: int
    validation_pairs: int
    test_pairs: int
    confirmation_pairs: int = 0
    shifts: tuple[str, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Counts":
        """Those among the settings of a pruning. Raises InputError if there are none."""
        try:
            found = cls(**{name: settings[name] for name in cls._fields if name in settings})
        except TypeError:
            raise InputError("pruning: without numbers of pairs; valid: settings of a pruning") from None
        return found._replace(shifts=tuple(found.shifts))


class TaskData(NamedTuple):
    """A task's encoded pairs: gates are trained on `train`, chosen on `validation`, judged on `test`.

    confirmation: more of the validation split, to confirm what was chosen; None if nothing is confirmed.
    """

    name: str
    train: EncodedPairs
    validation: EncodedPairs
    test: EncodedPairs
    is_control: bool = False
    confirmation: EncodedPairs | None = None

    @property
    def splits(self) -> tuple[EncodedPairs, ...]:
        """The pairs of all splits."""
        found = self.train, self.validation, self.test
        return found if self.confirmation is None else (*found, self.confirmation)

    def padded(self, length: int) -> "TaskData":
        """The same, with every prompt padded to `length` tokens."""
        train, validation, test, *rest = (_pad(pairs, length) for pairs in self.splits)
        return TaskData(self.name, train, validation, test, self.is_control, *rest)

    @property
    def fingerprint(self) -> str:
        """A hash of all pairs, independent of padding: it tells tasks of the same name apart."""
        length = 1 + max(int(pairs.last.max()) for pairs in self.splits)
        return fingerprint(*(pairs._replace(tokens=pairs.tokens[..., :length]) for pairs in self.splits))


def task_data(task: Task, tokenizer: Tokenizer, context: int, counts: Counts) -> TaskData:
    """Encodes a task's splits, all padded to the same length.

    With `counts.shifts`, equal parts of the training and of the validation pairs, in random order, are of
    these kinds of shift; the main split has the rest. Raises InputError if the task has no such kind, a
    completion is not one token, a prompt does not fit the context, or the task has fewer pairs.
    """
    for kind in counts.shifts:
        if not task.shifts:
            raise InputError(
                f"pruning.shifts: {kind!r}: task {task.name!r} has no kinds of shift; valid: () for it"
            )
        require_choice(f"pruning.shifts: task {task.name!r}", kind, task.shifts)
    numbers = (counts.train_pairs, counts.validation_pairs + counts.confirmation_pairs, counts.test_pairs)
    encoded = []
    for split, count in zip(SPLITS, numbers):
        parts = {split: count} if split == "test" else _parts(split, count, counts.shifts)
        found = [task.encode(name, number, counts.seed, tokenizer, context) for name, number in parts.items()]
        encoded.append(found[0] if len(found) == 1 else _mixed(found, counts.seed))
    train, validation, test = encoded
    confirmation = None
    if counts.confirmation_pairs:
        first = counts.validation_pairs
        confirmation = EncodedPairs(*(rows[first:] for rows in validation))
        validation = EncodedPairs(*(rows[:first] for rows in validation))
    data = TaskData(task.name, train, validation, test, isinstance(task, ControlTask), confirmation)
    return data.padded(max(pairs.tokens.shape[-1] for pairs in encoded))


def same_length(data: Sequence[TaskData]) -> list[TaskData]:
    """Pads all tasks to the longest, so that one compiled program serves them all."""
    length = max(one.test.tokens.shape[-1] for one in data)
    return [one.padded(length) for one in data]


def _parts(split: str, count: int, shifts: Sequence[str]) -> dict[str, int]:
    """How many pairs of which splits make up `count`."""
    each = count // (1 + len(shifts))
    return {split: count - each * len(shifts), **{shift_split(kind, split): each for kind in shifts}}


def _mixed(parts: Sequence[EncodedPairs], seed: int) -> EncodedPairs:
    """All pairs in random order, so that those that are judged together are of all parts."""
    length = max(pairs.tokens.shape[-1] for pairs in parts)
    arrays = [np.concatenate(rows) for rows in zip(*(_pad(pairs, length) for pairs in parts))]
    order = np.random.default_rng(seed).permutation(len(arrays[0]))
    return EncodedPairs(*(rows[order] for rows in arrays))


def _pad(pairs: EncodedPairs, length: int) -> EncodedPairs:
    missing = length - pairs.tokens.shape[-1]
    return pairs._replace(tokens=np.pad(pairs.tokens, ((0, 0), (0, 0), (0, missing))))
