"""Training batches: windows of every source by weight, shuffled, the same for any number of processes."""

import hashlib
from collections.abc import Iterable, Sequence

import grain
import numpy as np

from sparse_jax.data.corpus import Corpus
from sparse_jax.inputs import InputError, require, whole_seed


class Windows:
    """Window i of `tokens` [n] is tokens[i * context : i * context + context + 1].

    Neighbors share one token, the last target of one and the first input of the next, so that every
    token but the first is a target exactly once; what is left at the end is dropped.
    Raises InputError, naming `field`, if there is not one whole window.
    """

    def __init__(self, tokens: np.ndarray, context: int, field: str):
        require(context >= 1, "context", context, "at least 1")
        self._tokens, self._context = tokens, context
        if len(self) < 1:
            raise InputError(
                f"{field}: {len(tokens)} tokens are less than {context} + 1; valid: more text or less context"
            )

    def __len__(self) -> int:
        return max(0, len(self._tokens) - 1) // self._context

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self._context
        return self._tokens[start : start + self._context + 1]


class _Batches:
    """Batch number i as a random-access source, so that its position is the step alone."""

    def __init__(self, windows: grain.MapDataset, batch_size: int, rows: Sequence[int]):
        """Of each batch of `batch_size` windows only those in `rows` are read."""
        self._windows, self._batch_size, self._rows = windows, batch_size, rows

    def __len__(self) -> int:
        return len(self._windows) // self._batch_size

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        start = step * self._batch_size
        windows = [self._windows[start + row] for row in self._rows]
        return {"tokens": np.stack(windows).astype(np.int32)}


def train_loader(
    corpus: Corpus, batch_size: int, context: int, seed: int, rows: Iterable[int] | None = None
) -> grain.DatasetIterator:
    """An endless iterator of {"tokens": int32 [batch_size, context + 1]}, or of those `rows` of it alone.

    Batch n depends on corpus, batch_size, context and seed only: each process reads its own rows of the same
    batch. Each source is shuffled anew every epoch, in which every window comes once. `get_state()` is
    {"next_index": n}; `set_state` with it goes on there, in as many processes as there are then.

    Raises InputError for sizes that do not fit and for a source shorter than one window.
    """
    whole_seed("seed", seed)
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    rows = range(batch_size) if rows is None else [int(row) for row in rows]
    within = len(rows) > 0 and min(rows) >= 0 and max(rows) < batch_size
    require(within, "rows", rows, f"one or more of 0 to {batch_size - 1}")
    sources = {name: weight for name, weight in corpus.weights.items() if weight > 0}
    shuffled = [
        grain.MapDataset.source(Windows(corpus.sources[name].train, context, f"data.sources.{name}"))
        .shuffle(seed=_seed(seed, name))
        .repeat()
        for name in sources
    ]
    mixture = grain.MapDataset.mix(shuffled, list(sources.values()))
    batches = grain.MapDataset.source(_Batches(mixture, batch_size, rows))
    # One thread reads ahead while the device computes; more only fight over the interpreter.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return iter(batches.to_iter_dataset(options))


def validation_windows(source: np.ndarray, count: int, context: int) -> np.ndarray:
    """`count` windows of `source` [n], the same at every call, spread evenly: int32 [count, context + 1].

    Windows come again when there are fewer than `count`. Raises InputError if there is none.
    """
    require(count >= 1, "count", count, "at least 1")
    windows = Windows(source, context, "the validation split")
    return np.stack([windows[i * len(windows) // count] for i in range(count)]).astype(np.int32)


def _seed(seed: int, name: str) -> int:
    """A source's own seed: grain adds the epoch to it, so neighboring seeds would repeat each other."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=4).digest(), "big")
