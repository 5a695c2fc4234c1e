"""A corpus: tokenizer and tokens of a mixture, prepared once and reopened in no time."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.config import DataConfig
from sparse_jax.data.identity import corpus_key, dataset_key
from sparse_jax.data.storage import building, new_folder
from sparse_jax.data.token_file import read_tokens
from sparse_jax.data.tokenizer import check_vocab_size, load_tokenizer
from sparse_jax.files import local_path


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
    config makes another folder and the same one is only opened.
    Raises InputError, leaving no half-built folder: a source that cannot be used, no room to write.
    """
    check_vocab_size(vocab_size)
    directory = local_path(config.directory, "data.directory")
    keys = {
        name: dataset_key(name, source, config.validation_fraction) for name, source in config.sources.items()
    }
    folder = directory / "corpora" / corpus_key(config, vocab_size, keys)
    if not folder.exists():
        from sparse_jax.data.encoding import build_corpus

        datasets = {name: directory / "datasets" / key for name, key in keys.items()}
        with building(directory):
            if not folder.exists():  # another process may have built it while this one waited
                with new_folder(folder) as unfinished:
                    build_corpus(config, vocab_size, datasets, unfinished)
    return _open(folder)


def _open(folder: Path) -> Corpus:
    summary = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    sources = {
        name: SourceTokens(
            read_tokens(folder / f"{name}.train.npy"), read_tokens(folder / f"{name}.validation.npy")
        )
        for name in summary["reports"]
    }
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return Corpus(tokenizer, sources, summary["weights"], summary["fingerprint"], summary["reports"])
