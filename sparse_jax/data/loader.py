"""Training batches: windows of every source by weight, shuffled, the same for any number of processes."""

import hashlib

import grain
import numpy as np

from sparse_jax.data.corpus import Corpus
from sparse_jax.data.packing import Windows
from sparse_jax.inputs import require


class _Batches:
    """Batch number i as a random-access source, so that its position is the step alone."""

    def __init__(self, rows: grain.MapDataset, batch_size: int, first: int, count: int):
        """Of each batch of `batch_size` rows only the `count` rows from `first` on are read."""
        self._rows, self._batch_size, self._first, self._count = rows, batch_size, first, count

    def __len__(self) -> int:
        return len(self._rows) // self._batch_size

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        start = step * self._batch_size + self._first
        rows = [self._rows[i] for i in range(start, start + self._count)]
        return {"tokens": np.stack(rows).astype(np.int32)}


def train_loader(
    corpus: Corpus,
    batch_size: int,
    context: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """An endless iterator of {"tokens": int32 [batch_size / process_count, context + 1]}.

    Batch n depends on corpus, batch_size, context and seed only: each process gets its own run of
    the rows of the same batch. Each source is shuffled anew every epoch, in which every window comes
    once. `get_state()` is {"next_index": n}; `set_state` with it goes on there, in as many processes as
    there are then.

    Raises InputError for sizes that do not fit and for a source shorter than one window.
    """
    require(0 <= seed < 2**32, "seed", seed, "0 to 2**32 - 1")
    require(process_count >= 1, "process_count", process_count, "at least 1")
    require(0 <= process_index < process_count, "process_index", process_index, f"0 to {process_count - 1}")
    require(
        batch_size >= 1 and batch_size % process_count == 0,
        "batch_size",
        batch_size,
        f"a multiple of the {process_count} processes",
    )
    sources = {name: weight for name, weight in corpus.weights.items() if weight > 0}
    shuffled = [
        grain.MapDataset.source(Windows(corpus.sources[name].train, context, f"data.sources.{name}"))
        .shuffle(seed=_seed(seed, name))
        .repeat()
        for name in sources
    ]
    mixture = grain.MapDataset.mix(shuffled, list(sources.values()))
    count = batch_size // process_count
    batches = grain.MapDataset.source(_Batches(mixture, batch_size, process_index * count, count))
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
