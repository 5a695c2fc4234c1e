"""A corpus: tokenizer and tokens of a mixture, prepared once and reopened in no time."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.buckets import BucketPath
from sparse_jax.copies import cache_directory, download, upload
from sparse_jax.data.config import DataConfig
from sparse_jax.data.identity import corpus_key, dataset_key
from sparse_jax.data.shuffled import shuffle_corpus
from sparse_jax.data.storage import building, naming, new_folder
from sparse_jax.data.token_file import read_tokens
from sparse_jax.data.tokenizer import check_vocab_size, load_tokenizer
from sparse_jax.files import user_path

# What is written last.
SUMMARY = "corpus.json"


@dataclasses.dataclass(frozen=True)
class SourceTokens:
    """Token ids [tokens] of a source's two splits; every document is followed by END_OF_TEXT."""

    train: np.ndarray
    validation: np.ndarray


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What `prepare` gives.

    sources: name -> tokens, memory-mapped, in order of name. weights: name -> share of the training
    windows. fingerprint: a hash of tokenizer and tokens, the same on every machine with the same text.
    reports: name -> {"documents", "tokens": counts a split, "duplicates": how many were dropped,
    "skipped": reason -> names of what was left out}. shuffled: whether the tokens of every document are in
    random order.
    """

    tokenizer: Tokenizer
    sources: dict[str, SourceTokens]
    weights: dict[str, float]
    fingerprint: str
    reports: dict[str, dict]
    shuffled: bool = False


def prepare(config: DataConfig, vocab_size: int) -> Corpus:
    """The corpus of `config` with a tokenizer of at most `vocab_size` tokens; built if it is not there.

    Everything is kept in `config.directory`, in folders named by what they depend on, so another
    config makes another folder and the same one is only opened. From a bucket it is copied to this machine,
    where it is mapped into memory. A shuffled corpus is made from the plain one, which is kept as well.
    Raises InputError, leaving no half-built folder: a source that cannot be used, no room to write.
    """
    return _open(_prepared(config, vocab_size))


def _prepared(config: DataConfig, vocab_size: int) -> Path:
    """The corpus's folder on this machine, filled."""
    check_vocab_size(vocab_size)
    kept = user_path(config.directory, "data.directory")
    # a bucket gets the corpora; data sets, of which they are made, stay on the machine that makes them
    directory = cache_directory() / "data" if isinstance(kept, BucketPath) else kept
    keys = {
        name: dataset_key(name, source, config.validation_fraction) for name, source in config.sources.items()
    }
    key = corpus_key(config, vocab_size, keys)
    folder = directory / "corpora" / key
    shared = kept / "corpora" / key if isinstance(kept, BucketPath) else None
    with naming(kept):
        if folder.exists() if shared is None else _fetched(shared, folder):
            return folder
        fill = _filler(config, vocab_size, {name: directory / "datasets" / keys[name] for name in keys})
        if shared is None:
            _build(directory, folder, fill)
            return folder
        with building(kept):
            if not _fetched(shared, folder):  # another process may have built it while this one waited
                _build(directory, folder, fill)
                upload(folder, shared, last=SUMMARY)
    return folder


def _filler(config: DataConfig, vocab_size: int, datasets: dict[str, Path]) -> Callable[[Path], None]:
    """What fills the corpus's folder. A shuffled one is made from the plain one, which is prepared here."""
    if config.shuffled:
        plain = _prepared(dataclasses.replace(config, shuffled=False), vocab_size)
        return lambda folder: shuffle_corpus(plain, folder, vocab_size)
    from sparse_jax.data.encoding import build_corpus

    return lambda folder: build_corpus(config, vocab_size, datasets, folder)


def _build(directory: Path, folder: Path, fill: Callable[[Path], None]) -> None:
    """Builds `folder` if it is not there."""
    if not folder.exists():
        with building(directory):
            if not folder.exists():  # another process may have built it while this one waited
                with new_folder(folder) as unfinished:
                    fill(unfinished)


def _fetched(shared: BucketPath, folder: Path) -> bool:
    """Whether the corpus is in the bucket; if so, it is in `folder` afterwards."""
    if not (shared / SUMMARY).is_file():
        return False
    if not folder.exists():
        with new_folder(folder) as unfinished:
            download(shared.objects(recursive=False), unfinished, f"{shared}")
    return True


def _open(folder: Path) -> Corpus:
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    sources = {
        name: SourceTokens(
            read_tokens(folder / f"{name}.train.npy"), read_tokens(folder / f"{name}.validation.npy")
        )
        for name in summary["reports"]
    }
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return Corpus(
        tokenizer,
        sources,
        summary["weights"],
        summary["fingerprint"],
        summary["reports"],
        summary.get("shuffled", False),
    )
