"""A corpus: tokenizer and tokens of a mixture, prepared once and reopened in no time."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.buckets import BucketPath
from sparse_jax.copies import cache_directory, download, upload
from sparse_jax.data.config import DataConfig
from sparse_jax.data.identity import corpus_key, dataset_key
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
    "skipped": reason -> names of what was left out}.
    """

    tokenizer: Tokenizer
    sources: dict[str, SourceTokens]
    weights: dict[str, float]
    fingerprint: str
    reports: dict[str, dict]


def prepare(config: DataConfig, vocab_size: int) -> Corpus:
    """The corpus of `config` with a tokenizer of at most `vocab_size` tokens; built if it is not there.

    Everything is kept in `config.directory`, in folders named by what they depend on, so another
    config makes another folder and the same one is only opened. From a bucket it is copied to this machine,
    where it is mapped into memory.
    Raises InputError, leaving no half-built folder: a source that cannot be used, no room to write.
    """
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
        if shared is None:
            _build(config, vocab_size, keys, directory, folder)
        elif not _fetched(shared, folder):
            with building(kept):
                if not _fetched(shared, folder):  # another process may have built it while this one waited
                    _build(config, vocab_size, keys, directory, folder)
                    upload(folder, shared, last=SUMMARY)
    return _open(folder)


def _build(config: DataConfig, vocab_size: int, keys: dict[str, str], directory: Path, folder: Path) -> None:
    """Builds `folder` if it is not there."""
    if not folder.exists():
        from sparse_jax.data.encoding import build_corpus

        datasets = {name: directory / "datasets" / key for name, key in keys.items()}
        with building(directory):
            if not folder.exists():  # another process may have built it while this one waited
                with new_folder(folder) as unfinished:
                    build_corpus(config, vocab_size, datasets, unfinished)


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
    return Corpus(tokenizer, sources, summary["weights"], summary["fingerprint"], summary["reports"])
