"""The pairs of a task as pruning needs them: encoded, split, padded."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.pruning.config import PruneConfig
from sparse_jax.tasks.controls import ControlTask
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.task import Task
from sparse_jax.trees import fingerprint

SPLITS = ("train", "validation", "test")


class TaskData(NamedTuple):
    """A task's encoded pairs: gates are trained on `train`, chosen on `validation`, judged on `test`."""

    name: str
    train: EncodedPairs
    validation: EncodedPairs
    test: EncodedPairs
    is_control: bool = False

    @property
    def splits(self) -> tuple[EncodedPairs, ...]:
        """The three splits."""
        return self.train, self.validation, self.test

    @property
    def fingerprint(self) -> str:
        """A hash of all pairs, independent of padding: it tells tasks of the same name apart."""
        length = 1 + max(int(pairs.last.max()) for pairs in self.splits)
        return fingerprint(*(pairs._replace(tokens=pairs.tokens[..., :length]) for pairs in self.splits))


def task_data(task: Task, tokenizer: Tokenizer, context: int, prune: PruneConfig) -> TaskData:
    """Encodes a task's splits, all padded to the same length.

    Raises InputError if a completion is not one token, a prompt does not fit the context, or the task has
    fewer pairs.
    """
    counts = (prune.train_pairs, prune.validation_pairs, prune.test_pairs)
    encoded = [
        task.encode(split, count, prune.seed, tokenizer, context) for split, count in zip(SPLITS, counts)
    ]
    length = max(pairs.tokens.shape[-1] for pairs in encoded)
    train, validation, test = (_pad(pairs, length) for pairs in encoded)
    return TaskData(task.name, train, validation, test, isinstance(task, ControlTask))


def same_length(data: Sequence[TaskData]) -> list[TaskData]:
    """Pads all tasks to the longest, so that one compiled program serves them all."""
    length = max(one.test.tokens.shape[-1] for one in data)
    padded = []
    for one in data:
        train, validation, test = (_pad(pairs, length) for pairs in one.splits)
        padded.append(one._replace(train=train, validation=validation, test=test))
    return padded


def _pad(pairs: EncodedPairs, length: int) -> EncodedPairs:
    missing = length - pairs.tokens.shape[-1]
    return pairs._replace(tokens=np.pad(pairs.tokens, ((0, 0), (0, 0), (0, missing))))
